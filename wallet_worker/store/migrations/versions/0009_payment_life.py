"""What an order knows of its payment: metadata, the gateway's id and reasons, instructions, and being cancelled."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

STATEMENTS = (
    # `metadata` is that of the command; `received` is what came where that is not `amount`; `cancelling` says that the
    # gateway was asked to stop a payout.
    """
    ALTER TABLE orders
        ADD COLUMN metadata       jsonb,
        ADD COLUMN gateway_ref    text,
        ADD COLUMN failure_code   text,
        ADD COLUMN failure_reason text,
        ADD COLUMN received       bigint,
        ADD COLUMN cancelling     boolean NOT NULL DEFAULT false
    """,
    """
    ALTER TABLE orders
        DROP CONSTRAINT orders_status_known,
        ADD CONSTRAINT orders_status_known CHECK (
            CASE order_type
                WHEN 'recharge' THEN status IN ('pending', 'succeeded', 'failed', 'expired', 'cancelled')
                WHEN 'withdraw' THEN status IN ('pending', 'succeeded', 'failed')
                WHEN 'refund'   THEN status IN ('pending', 'succeeded', 'failed')
                WHEN 'hold'     THEN status IN ('active', 'captured', 'released', 'expired')
                ELSE status = 'succeeded'
            END
        ),
        ADD CONSTRAINT orders_metadata_form CHECK (jsonb_typeof(metadata) = 'object'),
        ADD CONSTRAINT orders_failure_of_failed CHECK (
            status = 'failed' OR (failure_code IS NULL AND failure_reason IS NULL)
        ),
        ADD CONSTRAINT orders_received_known CHECK (
            received IS NULL
            OR (order_type = 'recharge' AND status = 'succeeded' AND received > 0 AND received <> amount)
        ),
        ADD CONSTRAINT orders_cancelling_known CHECK (NOT cancelling OR order_type IN ('withdraw', 'refund'))
    """,
    "ALTER TABLE payment_results ADD COLUMN reason_code text",
    # The latest revision of how a payer pays, of an order that waits for that.
    """
    CREATE TABLE payment_instructions (
        order_id    uuid        NOT NULL,
        revision    integer     NOT NULL,
        fingerprint bytea       NOT NULL,
        body        json        NOT NULL,
        received_at timestamptz NOT NULL,
        CONSTRAINT payment_instructions_pkey PRIMARY KEY (order_id),
        CONSTRAINT payment_instructions_order_id_fkey FOREIGN KEY (order_id) REFERENCES orders,
        CONSTRAINT payment_instructions_revision_counts CHECK (revision > 0),
        CONSTRAINT payment_instructions_fingerprint_form CHECK (octet_length(fingerprint) = 32)
    )
    """,
    # Of channels on which the gateway's id is one payment: which payment it is.
    """
    CREATE TABLE gateway_refs (
        channel     text NOT NULL,
        gateway_ref text NOT NULL,
        order_id    uuid NOT NULL,
        CONSTRAINT gateway_refs_pkey PRIMARY KEY (channel, gateway_ref),
        CONSTRAINT gateway_refs_order_id_fkey FOREIGN KEY (order_id) REFERENCES orders
    )
    """,
    """
    GRANT UPDATE (gateway_ref, failure_code, failure_reason, received, cancelling, expires_at) ON orders
        TO wallet_worker
    """,
    "GRANT SELECT ON payment_instructions, gateway_refs TO wallet_worker, wallet_readonly",
    "GRANT SELECT ON payment_instructions TO wallet_api",
    "GRANT INSERT ON payment_instructions, gateway_refs TO wallet_worker",
    "GRANT UPDATE (revision, fingerprint, body, received_at) ON payment_instructions TO wallet_worker",
)


def upgrade() -> None:
    """Leave the orders as they are: what was not kept of them stays absent."""
    for statement in STATEMENTS:
        op.execute(statement)
