"""What is only read: statements for the audit and the console, from a snapshot under the role that can only read."""
