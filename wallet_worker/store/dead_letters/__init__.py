"""The tables of dead letters, one module a table."""
