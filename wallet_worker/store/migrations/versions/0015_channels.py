"""Channels: whoever predicts what a message would do reads what the gateway has said of a payment, too."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATEMENTS = ("GRANT SELECT ON payment_instructions, gateway_refs TO wallet_operator, wallet_keeper",)


def upgrade() -> None:
    """Leave every row as it is."""
    for statement in STATEMENTS:
        op.execute(statement)
