"""Who may use the console: users, sessions, the guard of each request, and the throttle of sign-ins."""
