"""Orders of every type: out of an account, between accounts, held, given back; and when each is looked at again."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = (
    # `counter_account_id` is the payee of a transfer or a capture; `parent_serial_no` the recharge that a refund
    # gives back, or the hold that is captured or released; `remaining` what a hold still reserves.
    # `due_at` is when the wallet looks at the order by itself, and absent when it never has to;
    # `asked` how often the gateway was asked about it.
    """
    ALTER TABLE orders
        ADD COLUMN counter_account_id bigint,
        ADD COLUMN about_serial_no    text,
        ADD COLUMN remaining          bigint,
        ADD COLUMN due_at             timestamptz,
        ADD COLUMN asked              integer NOT NULL DEFAULT 0
    """,
    # What was pending before the wallet knew how to ask is asked about from now on.
    "UPDATE orders SET due_at = now() + interval '1 minute' WHERE status = 'pending'",
)

CONSTRAINTS = (
    """
    ALTER TABLE orders
        DROP CONSTRAINT orders_type_known,
        DROP CONSTRAINT orders_recharge_status_known,
        DROP CONSTRAINT orders_succeeded_has_moved
    """,
    """
    ALTER TABLE orders
        ADD CONSTRAINT orders_counter_account_id_fkey FOREIGN KEY (counter_account_id) REFERENCES accounts,
        ADD CONSTRAINT orders_about_serial_no_fkey FOREIGN KEY (about_serial_no) REFERENCES orders (serial_no),
        ADD CONSTRAINT orders_type_known CHECK (
            order_type IN ('recharge', 'withdraw', 'transfer', 'refund', 'hold', 'capture', 'release')
        ),
        ADD CONSTRAINT orders_status_known CHECK (
            CASE order_type
                WHEN 'recharge' THEN status IN ('pending', 'succeeded', 'failed', 'expired')
                WHEN 'withdraw' THEN status IN ('pending', 'succeeded', 'failed')
                WHEN 'refund'   THEN status IN ('pending', 'succeeded', 'failed')
                WHEN 'hold'     THEN status IN ('active', 'captured', 'released', 'expired')
                ELSE status = 'succeeded'
            END
        ),
        -- Releasing a hold succeeds, and moves nothing.
        ADD CONSTRAINT orders_succeeded_has_moved CHECK (
            (status = 'succeeded' AND order_type <> 'release') = (transacted_at IS NOT NULL)
        ),
        ADD CONSTRAINT orders_payee_where_paid CHECK (
            (order_type IN ('transfer', 'capture')) = (counter_account_id IS NOT NULL)
        ),
        ADD CONSTRAINT orders_payee_is_another CHECK (counter_account_id <> account_id),
        ADD CONSTRAINT orders_about_another CHECK (
            (order_type IN ('refund', 'capture', 'release')) = (about_serial_no IS NOT NULL)
            AND about_serial_no <> serial_no
        ),
        ADD CONSTRAINT orders_remaining_of_hold CHECK (
            (order_type = 'hold') = (remaining IS NOT NULL)
            AND remaining BETWEEN 0 AND amount
            AND (status = 'active') = (remaining > 0)
        ),
        ADD CONSTRAINT orders_waiting_is_due CHECK (
            (status IN ('pending', 'active')) = (due_at IS NOT NULL)
        ),
        ADD CONSTRAINT orders_asked_counts CHECK (asked >= 0)
    """,
)

INDEXES = (
    "CREATE INDEX orders_due ON orders (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX orders_waiting ON orders (account_id) WHERE due_at IS NOT NULL",
    "CREATE INDEX orders_account ON orders (account_id, created_at)",
    "CREATE INDEX orders_about ON orders (about_serial_no) WHERE about_serial_no IS NOT NULL",
)

GRANTS = ("GRANT UPDATE (remaining, due_at, asked) ON orders TO wallet_worker",)


def upgrade() -> None:
    """Leave a ledger that holds every type of order, and the orders that it has unchanged."""
    for statement in COLUMNS + CONSTRAINTS + INDEXES + GRANTS:
        op.execute(statement)
