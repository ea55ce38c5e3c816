"""What dead letters, plans and filters are: values, and no I/O."""
