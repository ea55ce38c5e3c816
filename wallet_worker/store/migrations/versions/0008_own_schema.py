"""The triggers that keep the ledger and the audit append-only fire for everybody, whatever a session is set to."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATEMENTS = (
    # An ordinary trigger sleeps where a session says `session_replication_role = replica`.
    "ALTER TABLE entries ENABLE ALWAYS TRIGGER entries_append_only",
    "ALTER TABLE dead_letter_audit ENABLE ALWAYS TRIGGER dead_letter_audit_append_only",
    "ALTER FUNCTION entries_are_final() SET search_path = pg_catalog, pg_temp",
    "ALTER FUNCTION dead_letter_audit_is_final() SET search_path = pg_catalog, pg_temp",
)


def upgrade() -> None:
    """Leave both triggers enabled always. The tables are in a schema of the wallet's own already: `store.migrate`."""
    for statement in STATEMENTS:
        op.execute(statement)
