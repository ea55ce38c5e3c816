"""What is only read: statements for the audit, each from one snapshot under the role that can only read."""
