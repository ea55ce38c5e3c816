"""PostgreSQL: one module a table, one function a statement, the SQL above its function."""
