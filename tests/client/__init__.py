"""The Python client, with a real broker and real workers."""
