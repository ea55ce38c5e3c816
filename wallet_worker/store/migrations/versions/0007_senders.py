"""Who sent each command, what the seal of each dead letter says, and the digits that each currency's amounts have."""

from alembic import op
from sqlalchemy import text

from wallet_schemas.money import minor_digits

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE commands ADD COLUMN sent_by text",
    "ALTER TABLE commands ADD CONSTRAINT commands_sent_by_length CHECK (length(sent_by) BETWEEN 1 AND 512)",
    "ALTER TABLE dead_letters ADD COLUMN seal text NOT NULL DEFAULT 'unchecked'",
    """
    ALTER TABLE dead_letters ADD CONSTRAINT dead_letters_seal
        CHECK (seal IN ('sealed', 'unsealed', 'unchecked', 'not by a worker'))
    """,
    """
    CREATE TABLE currencies (
        currency text NOT NULL,
        digits smallint NOT NULL,
        CONSTRAINT currencies_pkey PRIMARY KEY (currency),
        CONSTRAINT currencies_currency_form CHECK (currency ~ '^[A-Z]{3}$'),
        CONSTRAINT currencies_digits_range CHECK (digits BETWEEN 0 AND 6)
    )
    """,
    "GRANT SELECT ON currencies TO wallet_worker, wallet_operator, wallet_readonly",
    "GRANT INSERT ON currencies TO wallet_worker",
)


def upgrade() -> None:
    """Leave the columns and the table there; amounts that are stored already are in the digits of today's package."""
    for statement in STATEMENTS:
        op.execute(statement)
    connection = op.get_bind()
    for (currency,) in connection.execute(text("SELECT DISTINCT currency FROM accounts")).all():
        connection.execute(
            text("INSERT INTO currencies (currency, digits) VALUES (:currency, :digits)"),
            {"currency": currency, "digits": minor_digits(currency)},
        )
