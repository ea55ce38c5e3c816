"""A small ledger in which everything is right, written as the owner."""

import asyncpg

ALICE, BOB, EVE = 101, 102, 103
"""The users' account ids. Eve was never paid anything."""

_ROWS = (
    """
    INSERT INTO accounts (kind, system_name, lane, currency, status, balance, reserved, line_no, created_at, updated_at)
    SELECT 'system', 'clearing', lane, currency, 'active', 0, 0, 0, now(), now()
    FROM unnest(ARRAY['TWD', 'JPY']) currency, generate_series(0, 1) lane
    """,
    """
    INSERT INTO accounts (account_id, kind, account_no, user_id, account_type, currency, status,
                          balance, reserved, line_no, created_at, updated_at)
    SELECT id, 'user', lpad(id::text, 19, '7'), name, 'basic', currency, 'active', 0, 0, 0, now(), now()
    FROM (VALUES (101, 'alice', 'TWD'), (102, 'bob', 'JPY'), (103, 'eve', 'TWD')) AS users (id, name, currency)
    """,
    """
    INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
    SELECT serial_no, command_type, sha256(serial_no::bytea), '{}'::json, status,
           CASE status WHEN 'applied' THEN 'OK' ELSE 'ACCOUNT_EXISTS' END, '{}'::json, now()
    FROM (VALUES
        ('O-alice', 'account.open.v1', 'applied'), ('O-again', 'account.open.v1', 'refused'),
        ('R-refused', 'order.recharge.v1', 'refused')
    ) AS other (serial_no, command_type, status)
    UNION ALL
    SELECT 'R-' || n, 'order.recharge.v1', sha256(('R-' || n)::bytea), '{}', 'applied', 'OK', '{}', now()
    FROM generate_series(1, 8) n
    """,
    # are alice's, R-4 and R-5 bob's, all paid; R-6 waits, R-7 failed, R-8 expired and is eve's.
    """
    INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel, late,
                        transacted_at, due_at, created_at, updated_at)
    SELECT lpad(n::text, 32, '0')::uuid, 'R-' || n, 'recharge', a.account_id, 100 * n, a.currency, asked.status, 'OK',
           'card', false, CASE asked.status WHEN 'succeeded' THEN now() END,
           CASE asked.status WHEN 'pending' THEN now() END, now(), now()
    FROM (VALUES
        (1, 101, 'succeeded'), (2, 101, 'succeeded'), (3, 101, 'succeeded'), (4, 102, 'succeeded'),
        (5, 102, 'succeeded'), (6, 101, 'pending'), (7, 101, 'failed'), (8, 103, 'expired')
    ) AS asked (n, account_id, status)
    JOIN accounts a USING (account_id)
    """,
    """
    INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
    SELECT account_id, row_number() OVER lines, order_id, 'credit', amount,
           sum(amount) OVER lines - amount, sum(amount) OVER lines, now()
    FROM orders
    WHERE status = 'succeeded'
    WINDOW lines AS (PARTITION BY account_id ORDER BY serial_no)
    """,
    # The contra entries, alternately on both lanes.
    """
    INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
    SELECT lane.account_id, row_number() OVER lines, o.order_id, 'debit', o.amount,
           o.amount - sum(o.amount) OVER lines, -sum(o.amount) OVER lines, now()
    FROM orders o
    JOIN accounts lane ON lane.system_name = 'clearing' AND lane.currency = o.currency
        AND lane.lane = substr(o.serial_no, 3)::int % 2
    WHERE o.status = 'succeeded'
    WINDOW lines AS (PARTITION BY lane.account_id ORDER BY o.serial_no)
    """,
    """
    INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, occurred_at,
                                 received_at, processing, code)
    SELECT serial_no, sha256(serial_no::bytea), 'succeeded',
           CASE currency WHEN 'TWD' THEN round(amount / 100.0, 2) ELSE amount END::text, currency,
           'gw-' || serial_no, now(), now(),
           'processed', 'OK'
    FROM orders
    WHERE status = 'succeeded'
    """,
    """
    UPDATE accounts a
    SET balance = last.balance_after, line_no = last.line_no
    FROM (
        SELECT DISTINCT ON (account_id) account_id, line_no, balance_after
        FROM entries
        ORDER BY account_id, line_no DESC
    ) last
    WHERE a.account_id = last.account_id
    """,
    # What a wallet adds to this later has none of the numbers that are given here.
    "ALTER TABLE accounts ALTER account_id RESTART WITH 1001",
)

# Carol was paid 900, gave dave 200, withdrew 100, and of 300 that were held for him dave has had 100. 50 of her
# recharge are on their way back; another hold of 40 was released.
_EVERY_ORDER = (
    """
    INSERT INTO accounts (account_id, kind, account_no, user_id, account_type, currency, status,
                          balance, reserved, line_no, created_at, updated_at)
    VALUES (104, 'user', lpad('104', 19, '7'), 'carol', 'basic', 'TWD', 'active', 500, 250, 4, now(), now()),
           (105, 'user', lpad('105', 19, '7'), 'dave', 'basic', 'TWD', 'active', 300, 0, 2, now(), now())
    """,
    """
    CREATE TEMPORARY TABLE made (n, serial_no, order_type, amount, status, payee, about, remaining) AS VALUES
        (21, 'A-1', 'recharge', 900, 'succeeded', NULL::bigint, NULL, NULL::bigint),
        (22, 'T-1', 'transfer', 200, 'succeeded', 105, NULL, NULL),
        (23, 'W-1', 'withdraw', 100, 'succeeded', NULL, NULL, NULL),
        (24, 'F-1', 'refund', 50, 'pending', NULL, 'A-1', NULL),
        (25, 'H-1', 'hold', 300, 'active', NULL, NULL, 200),
        (26, 'C-1', 'capture', 100, 'succeeded', 105, 'H-1', NULL),
        (27, 'H-2', 'hold', 40, 'released', NULL, NULL, 0),
        (28, 'L-1', 'release', 40, 'succeeded', NULL, 'H-2', NULL),
        (29, 'H-3', 'hold', 70, 'expired', NULL, NULL, 0)
    """,
    """
    INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
    SELECT serial_no, 'order.' || order_type || '.v1', sha256(serial_no::bytea), '{}', 'applied', 'OK', '{}', now()
    FROM made
    """,
    """
    INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel, late,
                        counter_account_id, about_serial_no, remaining, due_at, transacted_at, created_at, updated_at)
    SELECT lpad(n::text, 32, '0')::uuid, serial_no, order_type, 104, amount, 'TWD', status, 'OK', '', false,
           payee, about, remaining, CASE WHEN status IN ('pending', 'active') THEN now() END,
           CASE WHEN status = 'succeeded' AND order_type <> 'release' THEN now() END, now(), now()
    FROM made
    """,
    # Two new lanes, so that the lines which are there keep their numbers.
    """
    INSERT INTO accounts (account_id, kind, system_name, lane, currency, status, balance, reserved, line_no,
                          created_at, updated_at)
    VALUES (201, 'system', 'clearing', 2, 'TWD', 'active', -900, 0, 1, now(), now()),
           (202, 'system', 'clearing', 3, 'TWD', 'active', 100, 0, 1, now(), now())
    """,
    """
    INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
    SELECT l.account_id, l.line_no, lpad(l.n::text, 32, '0')::uuid,
           CASE WHEN l.moved > 0 THEN 'credit' ELSE 'debit' END, abs(l.moved), l.before, l.before + l.moved, now()
    FROM (VALUES
        (104, 1, 21, 900, 0), (201, 1, 21, -900, 0),
        (104, 2, 22, -200, 900), (105, 1, 22, 200, 0),
        (104, 3, 23, -100, 700), (202, 1, 23, 100, 0),
        (104, 4, 26, -100, 600), (105, 2, 26, 100, 200)
    ) AS l (account_id, line_no, n, moved, before)
    """,
    """
    INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, occurred_at,
                                 received_at, processing, code)
    SELECT serial_no, sha256(serial_no::bytea), 'succeeded', round(amount / 100.0, 2)::text, 'TWD',
           'gw-' || serial_no, now(), now(),
           'processed', 'OK'
    FROM made
    WHERE order_type IN ('recharge', 'withdraw')
    """,
    "DROP TABLE made",
)


def account_no(account_id: int) -> str:
    """Return the number of a user's account."""
    return str(account_id).rjust(19, "7")


async def write(owner: asyncpg.Connection) -> None:
    """The ledger has three users, two lanes a currency, eight orders, and ten lines."""
    for statement in _ROWS:
        await owner.execute(statement)


async def write_every_order(owner: asyncpg.Connection) -> None:
    """The ledger has two users, two lanes, nine orders and eight lines more: every type of order is there."""
    for statement in _EVERY_ORDER:
        await owner.execute(statement)


async def corrupt(owner: asyncpg.Connection, statements: str) -> None:
    """Write what the database would refuse: without its triggers, foreign keys and checks. `;` ends a statement."""
    async with owner.transaction():
        await owner.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
        await owner.execute("ALTER TABLE accounts DISABLE TRIGGER ALL")
        await owner.execute("ALTER TABLE orders DISABLE TRIGGER ALL")
        await owner.execute("ALTER TABLE commands DISABLE TRIGGER ALL")
        for constraint in await owner.fetch(
            """
            SELECT conrelid::regclass::text AS on_table, conname AS name
            FROM pg_constraint
            WHERE contype = 'c' AND conrelid IN ('entries'::regclass, 'accounts'::regclass, 'orders'::regclass)
            """
        ):
            await owner.execute(
                f'ALTER TABLE {constraint["on_table"]} DROP CONSTRAINT "{constraint["name"]}"'
            )
        for statement in statements.split(";"):
            assert not (await owner.execute(statement)).endswith(" 0"), f"it changed nothing: {statement}"
