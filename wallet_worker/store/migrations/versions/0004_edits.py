"""The edits among the replays are found by their numbers: each replay's prediction looks for them."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leave an index of the edits alone: they are few among the replays."""
    op.execute(
        "CREATE INDEX dead_letter_replays_edits ON dead_letter_replays (serial_no) WHERE serial_no IS NOT NULL"
    )
