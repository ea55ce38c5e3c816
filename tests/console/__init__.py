"""The operators' console, from its rules of sign-in to a person at a browser."""
