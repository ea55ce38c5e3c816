"""What is only read: by the audit, accountants and the console, under the role that can only read."""
