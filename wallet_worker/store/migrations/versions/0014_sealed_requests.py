"""The seal of a payment request in the outbox: a worker's proof that it, and no login of the database, asked for it."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

OUTBOX = ("ALTER TABLE outbox ADD COLUMN seal bytea",)


def upgrade() -> None:
    """Add the column, empty for what is there and for what an older release writes."""
    for statement in OUTBOX:
        op.execute(statement)
