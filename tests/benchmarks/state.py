"""What a run finds in the database: users, orders that wait for their money, and years of history.

Everything is made by SQL from numbers alone, in bulk, and is as the worker would have written it: the same
serial numbers always give the same rows, and the audit finds nothing in them.
"""

from collections.abc import Sequence
from math import gcd
from typing import Final

import asyncpg

AMOUNT: Final = "100.00"
AMOUNT_MINOR: Final = 10_000
CURRENCY: Final = "TWD"
_FIRST_ACCOUNT_ID: Final = 1_000  # the system accounts stand before it
_STRIDE: Final = 618_033  # orders of neighbouring times belong to users far apart, as they do in life


def user_id(number: int) -> str:
    """Return the id of a user, counted from 1."""
    return f"u-{number}"


def past_order(number: int) -> str:
    """Return the serial number of an order that has long been paid, counted from 1."""
    return f"G-{number:010}"


_USERS = """
INSERT INTO accounts (account_id, kind, account_no, user_id, account_type, currency, status,
                      balance, reserved, line_no, created_at, updated_at)
SELECT $2::bigint + n, 'user', '20250101' || lpad(n::text, 11, '0'), 'u-' || n, 'basic', $3, 'active',
       $4::bigint * $5::bigint, 0, $4::bigint, now() - interval '400 days', now() - interval '400 days'
FROM generate_series(1, $1::bigint) AS n
"""

# Version 7 of a UUID, as PostgreSQL 15 can make it: the milliseconds, then chance, then the version.
_ORDER_ID = """
encode(set_bit(set_bit(
    overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM at) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
    52, 1), 53, 1), 'hex')::uuid
"""

_PAST = f"""
CREATE TEMPORARY TABLE asked ON COMMIT DROP AS
SELECT i, 'G-' || lpad(i::text, 10, '0') AS serial_no, user_no, {_ORDER_ID} AS order_id, at
FROM (
    SELECT i, 1 + (i * $2::bigint) % $3::bigint AS user_no,
           now() - interval '390 days' + i * (interval '380 days' / $1::bigint) AS at
    FROM generate_series(1, $1::bigint) AS i
) AS numbered
"""  # noqa: S608 -- static text

_WAITING = f"""
CREATE TEMPORARY TABLE asked ON COMMIT DROP AS
SELECT i, $1::text || lpad(i::text, 8, '0') AS serial_no, user_no, {_ORDER_ID} AS order_id, at
FROM (
    SELECT i, user_no, now() - interval '1 hour' + i * interval '1 millisecond' AS at
    FROM unnest($2::bigint[]) WITH ORDINALITY AS u (user_no, i)
) AS numbered
"""  # noqa: S608 -- static text

# The content in canonical JSON, which is what the fingerprint is of.
_COMMANDS = """
INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
SELECT serial_no, 'order.recharge.v1', sha256(convert_to(content, 'UTF8')), content::json, 'applied', 'OK',
       format('{"user_id":"u-%s","account_type":"basic","amount":"%s","currency":"%s","recharge_type":"card",'
              '"serial_no":"%s","order_status":"pending"}', user_no, $1::text, $2::text, serial_no)::json,
       at
FROM (
    SELECT *, format('{"account_type":"basic","amount":"%s","currency":"%s","recharge_type":"card",'
                     '"serial_no":"%s","type":"order.recharge.v1","user_id":"u-%s"}',
                     $1::text, $2::text, serial_no, user_no) AS content
    FROM asked
) AS said
ORDER BY i
"""

_ORDERS = """
INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel,
                    late, expires_at, due_at, transacted_at, created_at, updated_at)
SELECT order_id, serial_no, 'recharge', $1::bigint + user_no, $2::bigint, $3::text,
       CASE WHEN $4::boolean THEN 'succeeded' ELSE 'pending' END, 'OK', 'card', false, at + interval '24 hours',
       CASE WHEN NOT $4::boolean THEN at + interval '24 hours' END,
       CASE WHEN $4::boolean THEN at + interval '2 seconds' END,
       at, CASE WHEN $4::boolean THEN at + interval '2 seconds' ELSE at END
FROM asked
ORDER BY i
"""

_RESULTS = """
INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, reason,
                             occurred_at, received_at, processing, code)
SELECT serial_no, sha256(convert_to(serial_no, 'UTF8')), 'succeeded', $1::text, $2::text, 'gw-' || serial_no, NULL,
       at + interval '1 second', at + interval '2 seconds', 'processed', 'OK'
FROM asked
ORDER BY i
"""

# Each pass over all users is one line for every one of them; the lanes take the orders in turns.
_ENTRIES = """
INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
SELECT account_id, line_no, order_id, direction, $1::bigint,
       sign * (line_no - 1) * $1::bigint, sign * line_no * $1::bigint, at + interval '2 seconds'
FROM asked
CROSS JOIN LATERAL (
    VALUES ($3::bigint + user_no, 1 + (i - 1) / $2::bigint, 'credit', 1),
           (($4::bigint[])[1 + i % cardinality($4::bigint[])], 1 + (i - 1) / cardinality($4::bigint[]), 'debit', -1)
) AS line (account_id, line_no, direction, sign)
ORDER BY i
"""

_LANES = """
SELECT account_id FROM accounts WHERE system_name = 'clearing' AND currency = $1 ORDER BY lane
"""

_BALANCE_LANES = """
UPDATE accounts a
SET balance = newest.balance_after, line_no = newest.line_no, updated_at = newest.created_at
FROM (SELECT DISTINCT ON (account_id) * FROM entries WHERE account_id = ANY ($1::bigint[])
      ORDER BY account_id, line_no DESC) AS newest
WHERE a.account_id = newest.account_id
"""

_PUT_OFF_KEY = "ALTER TABLE entries DROP CONSTRAINT entries_pkey"
_PUT_BACK_KEY = "ALTER TABLE entries ADD CONSTRAINT entries_pkey PRIMARY KEY (account_id, line_no)"


async def add_users(connection: asyncpg.Connection, count: int, *, orders_each: int = 0) -> None:
    """Leave a migrated database with its lanes and `count` users, each recharged `orders_each` times."""
    if gcd(_STRIDE, count) != 1:
        msg = f"{count} users share a factor with {_STRIDE}: some would be passed over"
        raise ValueError(msg)
    async with connection.transaction():
        # What the foreign keys say is true by construction; looking it up would take most of the time.
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
        await connection.execute(_USERS, count, _FIRST_ACCOUNT_ID, CURRENCY, orders_each, AMOUNT_MINOR)
        await connection.execute(
            "SELECT setval('accounts_account_id_seq', $1::bigint)", _FIRST_ACCOUNT_ID + count
        )
        if orders_each:
            await _add_history(connection, count, orders_each)


async def _add_history(connection: asyncpg.Connection, count: int, orders_each: int) -> None:
    await connection.execute(_PAST, count * orders_each, _STRIDE, count, timeout=None)
    await connection.execute(_COMMANDS, AMOUNT, CURRENCY, timeout=None)
    await connection.execute(_ORDERS, _FIRST_ACCOUNT_ID, AMOUNT_MINOR, CURRENCY, True, timeout=None)  # noqa: FBT003
    await connection.execute(_RESULTS, AMOUNT, CURRENCY, timeout=None)
    lanes = [row["account_id"] for row in await connection.fetch(_LANES, CURRENCY)]
    await connection.execute(_PUT_OFF_KEY)
    await connection.execute(_ENTRIES, AMOUNT_MINOR, count, _FIRST_ACCOUNT_ID, lanes, timeout=None)
    await connection.execute(_PUT_BACK_KEY, timeout=None)
    await connection.execute(_BALANCE_LANES, lanes, timeout=None)


async def add_waiting(connection: asyncpg.Connection, prefix: str, users: Sequence[int]) -> None:
    """Leave an order that waits for its money for each of these users: `prefix` and a number of 8 digits, from 1."""
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(_WAITING, prefix, list(users), timeout=None)
        await connection.execute(_COMMANDS, AMOUNT, CURRENCY, timeout=None)
        await connection.execute(_ORDERS, _FIRST_ACCOUNT_ID, AMOUNT_MINOR, CURRENCY, False, timeout=None)  # noqa: FBT003


async def settle_down(connection: asyncpg.Connection) -> None:
    """Have nothing of the preparation left to do once the clock runs: statistics, dirty pages.

    Tables that nothing was put into are left alone: their first rows are to come as they do in life.
    """
    for table in ("accounts", "commands", "orders", "entries", "payment_results"):
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):  # noqa: S608 -- one of the above
            await connection.execute(f"VACUUM (ANALYZE) {table}", timeout=None)
    await connection.execute("CHECKPOINT", timeout=None)
