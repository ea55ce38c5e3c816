"""The history of the schema, kept by alembic; each revision is plain SQL and only goes forward.

A ledger is not migrated backwards: what a newer revision wrote, an older one could not explain.
"""
