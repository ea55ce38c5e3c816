"""What each dead letter names: users, orders and gateway references, so that letters about money are found by user."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = """
    CREATE TABLE dead_letter_names (
        letter_id bigint NOT NULL,
        kind      text   NOT NULL,
        name      text   NOT NULL,
        CONSTRAINT dead_letter_names_pkey PRIMARY KEY (letter_id, kind, name),
        CONSTRAINT dead_letter_names_letter_id_fkey FOREIGN KEY (letter_id) REFERENCES dead_letters,
        CONSTRAINT dead_letter_names_kind_known CHECK (kind IN ('user', 'order', 'gateway_ref'))
    )
    """

# The letters that are there already, as far as their messages can be read. What cannot be read names nothing.
FILL = """
    DO $$
    DECLARE
        letter record;
        said   jsonb;
    BEGIN
        FOR letter IN SELECT letter_id, body FROM dead_letters WHERE octet_length(body) <= 65536
        LOOP
            BEGIN
                said := convert_from(letter.body, 'UTF8')::jsonb;
            EXCEPTION WHEN OTHERS THEN
                CONTINUE;
            END;
            CONTINUE WHEN jsonb_typeof(said) <> 'object';
            INSERT INTO dead_letter_names (letter_id, kind, name)
            SELECT letter.letter_id, member.kind, said ->> member.field
            FROM (VALUES ('user', 'user_id'), ('user', 'to_user_id'), ('order', 'serial_no'),
                         ('order', 'payment_order_no'), ('order', 'original_serial_no'), ('order', 'hold_serial_no'),
                         ('order', 'original_payment_order_no'), ('gateway_ref', 'gateway_ref'),
                         ('gateway_ref', 'original_gateway_ref')) AS member (kind, field)
            WHERE jsonb_typeof(said -> member.field) = 'string'
              AND length(said ->> member.field) BETWEEN 1 AND 64
            ON CONFLICT DO NOTHING;
        END LOOP;
    END
    $$
    """

OWNERS = """
    INSERT INTO dead_letter_names (letter_id, kind, name)
    SELECT n.letter_id, 'user', a.user_id
    FROM dead_letter_names n
    JOIN orders o ON o.serial_no = n.name
    JOIN accounts a ON a.account_id IN (o.account_id, o.counter_account_id)
    WHERE n.kind = 'order'
    ON CONFLICT DO NOTHING
    """

INDEXES = (
    "CREATE INDEX dead_letter_names_name ON dead_letter_names (kind, name, letter_id)",
    # The gateway's support speaks in its own references.
    "CREATE INDEX payment_results_gateway_ref ON payment_results (gateway_ref)",
)

GRANTS = ("GRANT SELECT, INSERT ON dead_letter_names TO wallet_operator",)


def upgrade() -> None:
    """Leave a table of what letters name, filled from the letters that are there."""
    for statement in (TABLE, FILL, OWNERS, *INDEXES, *GRANTS):
        op.execute(statement)
