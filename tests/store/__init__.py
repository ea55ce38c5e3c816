"""What the database keeps, refuses and locks."""
