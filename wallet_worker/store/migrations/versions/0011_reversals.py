"""Money that comes back: debts, the orders that the wallet makes itself, and what became of each reversal."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Columns are metadata only. CHECKs are NOT VALID at first, so that nobody waits while old rows are looked at.
ACCOUNTS = (
    "ALTER TABLE accounts ADD COLUMN debt bigint NOT NULL DEFAULT 0",
    # Whoever owes has nothing available: no command has to know of debts.
    """
    ALTER TABLE accounts ADD CONSTRAINT accounts_debt_known
        CHECK (debt >= 0 AND (debt = 0 OR (kind = 'user' AND balance = reserved))) NOT VALID
    """,
    "ALTER TABLE accounts VALIDATE CONSTRAINT accounts_debt_known",
    "GRANT UPDATE (debt) ON accounts TO wallet_worker",
)

ORDERS = (
    "ALTER TABLE orders ADD COLUMN reversal_ref text",
    """
    ALTER TABLE orders
        DROP CONSTRAINT orders_type_known,
        DROP CONSTRAINT orders_about_another
    """,
    """
    ALTER TABLE orders
        ADD CONSTRAINT orders_type_known CHECK (
            order_type IN ('recharge', 'withdraw', 'transfer', 'refund', 'hold', 'capture', 'release',
                           'chargeback', 'chargeback_reversal', 'payout_return', 'payout_return_reversal',
                           'advance', 'repayment', 'write_off', 'write_off_recovery', 'loss',
                           'adjustment_credit', 'adjustment_debit')
        ) NOT VALID,
        ADD CONSTRAINT orders_about_another CHECK (
            (order_type IN ('refund', 'capture', 'release',
                            'chargeback', 'chargeback_reversal', 'payout_return', 'payout_return_reversal',
                            'advance', 'repayment', 'write_off_recovery', 'loss')) = (about_serial_no IS NOT NULL)
            AND about_serial_no <> serial_no
        ) NOT VALID,
        ADD CONSTRAINT orders_reversal_ref_known CHECK (
            reversal_ref IS NULL OR (
                length(reversal_ref) BETWEEN 1 AND 64
                AND order_type IN ('chargeback', 'chargeback_reversal', 'payout_return', 'payout_return_reversal',
                                   'advance', 'repayment', 'write_off_recovery', 'loss')
            )
        ) NOT VALID
    """,
    "ALTER TABLE orders VALIDATE CONSTRAINT orders_type_known",
    "ALTER TABLE orders VALIDATE CONSTRAINT orders_about_another",
    "ALTER TABLE orders VALIDATE CONSTRAINT orders_reversal_ref_known",
    """
    CREATE INDEX orders_written_off ON orders (account_id)
        WHERE order_type IN ('write_off', 'write_off_recovery')
    """,
)

REVERSALS = (
    # What the gateway said last of each dispute, recall or return. `moved` is what of it stands in the ledger.
    """
    CREATE TABLE reversals (
        order_id     uuid        NOT NULL,
        reversal_ref text        NOT NULL,
        reversal_id  uuid        NOT NULL,
        kind         text        NOT NULL,
        status       text        NOT NULL,
        sequence     integer     NOT NULL,
        amount       bigint      NOT NULL,
        moved        bigint      NOT NULL,
        fingerprint  bytea       NOT NULL,
        reason_code  text,
        reason       text,
        respond_by   timestamptz,
        created_at   timestamptz NOT NULL,
        updated_at   timestamptz NOT NULL,
        CONSTRAINT reversals_pkey PRIMARY KEY (order_id, reversal_ref),
        CONSTRAINT reversals_reversal_id_key UNIQUE (reversal_id),
        CONSTRAINT reversals_order_id_fkey FOREIGN KEY (order_id) REFERENCES orders,
        CONSTRAINT reversals_kind_known CHECK (kind IN ('dispute', 'recall', 'return')),
        CONSTRAINT reversals_status_known CHECK (status IN ('opened', 'moved', 'dropped', 'settled')),
        CONSTRAINT reversals_moved_as_status CHECK (
            moved = CASE WHEN status IN ('moved', 'settled') THEN amount ELSE 0 END
        ),
        CONSTRAINT reversals_amount_positive CHECK (amount > 0),
        CONSTRAINT reversals_sequence_counts CHECK (sequence > 0),
        CONSTRAINT reversals_fingerprint_form CHECK (octet_length(fingerprint) = 32)
    )
    """,
    "CREATE INDEX reversals_open ON reversals (updated_at) WHERE status IN ('opened', 'moved')",
    # Each different message of a reversal, the first time that it was received, and what came of it.
    """
    CREATE TABLE reversal_messages (
        payment_order_no text        NOT NULL,
        fingerprint      bytea       NOT NULL,
        reversal_ref     text        NOT NULL,
        kind             text        NOT NULL,
        sequence         integer     NOT NULL,
        status           text        NOT NULL,
        amount           text        NOT NULL,
        currency         text        NOT NULL,
        reason_code      text,
        reason           text,
        respond_by       timestamptz,
        occurred_at      timestamptz NOT NULL,
        received_at      timestamptz NOT NULL,
        processing       text        NOT NULL,
        code             text        NOT NULL,
        CONSTRAINT reversal_messages_pkey PRIMARY KEY (payment_order_no, fingerprint),
        CONSTRAINT reversal_messages_fingerprint_form CHECK (octet_length(fingerprint) = 32),
        CONSTRAINT reversal_messages_status_known CHECK (status IN ('opened', 'moved', 'dropped', 'settled')),
        CONSTRAINT reversal_messages_processing_known CHECK (processing IN ('processed', 'duplicate', 'refused'))
    )
    """,
    """
    GRANT SELECT ON reversals, reversal_messages
        TO wallet_worker, wallet_readonly, wallet_operator, wallet_keeper, wallet_api
    """,
    "GRANT INSERT ON reversals, reversal_messages TO wallet_worker",
    """
    GRANT UPDATE (status, sequence, amount, moved, fingerprint, reason_code, reason, respond_by, updated_at)
        ON reversals TO wallet_worker
    """,
)


def upgrade() -> None:
    """Leave a ledger that can hold what comes back, and no row of before changed."""
    for statement in ACCOUNTS + ORDERS + REVERSALS:
        op.execute(statement)
