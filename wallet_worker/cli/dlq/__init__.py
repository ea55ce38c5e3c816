"""`wallet dlq`: dead letters at a terminal."""
