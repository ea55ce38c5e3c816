"""The table `orders`."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core.orders import CHARGED, PAID_OUT, REFUNDS, UNSUCCESSFUL, Order
from wallet_worker.store.errors import InvariantBrokenError
from wallet_worker.store.sql import literals

_COLUMNS = """
    order_id, serial_no, order_type, account_id, amount, currency, status, code, channel,
    late, expires_at, transacted_at, created_at, updated_at,
    counter_account_id, about_serial_no, remaining, due_at, asked, metadata, reversal_ref
"""
_ALL = f"{_COLUMNS}, gateway_ref, failure_code, failure_reason, cancelling, received"

_FIND = f"""
SELECT {_ALL}
FROM orders
WHERE serial_no = ANY ($1::text[])
ORDER BY serial_no
"""  # noqa: S608 -- static text
_LOCK = _FIND + "FOR NO KEY UPDATE"


async def find(connection: asyncpg.Connection, serial_nos: Iterable[str], *, lock: bool) -> dict[str, Order]:
    """Return the orders of these serial numbers; with `lock`, locked in their order, before any account is."""
    rows = await connection.fetch(_LOCK if lock else _FIND, list(serial_nos))
    return {row["serial_no"]: _order(row) for row in rows}


_TAKE_DUE = """
SELECT serial_no
FROM orders
WHERE due_at <= (SELECT clock_timestamp())  -- asked once, so that the index can answer
ORDER BY due_at
LIMIT $1
FOR NO KEY UPDATE SKIP LOCKED  -- another worker has those in hand
"""


async def take_due(connection: asyncpg.Connection, limit: int) -> list[str]:
    """Lock up to `limit` orders that are due, the longest overdue first; return their serial numbers."""
    return [row[0] for row in await connection.fetch(_TAKE_DUE, limit)]


_OVERDUE_STATS = f"""
SELECT count(*) FILTER (WHERE due_at < clock_timestamp() - interval '1 minute'),
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)
           FILTER (WHERE order_type IN ({literals(PAID_OUT)}))), 0)::float8
FROM orders
WHERE due_at IS NOT NULL
"""  # noqa: S608 -- static text


async def overdue_stats(connection: asyncpg.Connection) -> tuple[int, float]:
    """Return how many orders are overdue, and the age in seconds of the oldest payout that waits, 0 if none does."""
    row = await connection.fetchrow(_OVERDUE_STATS)
    return (0, 0.0) if row is None else (row[0], max(0.0, row[1]))


_RESCHEDULE = """
UPDATE orders
SET due_at = clock_timestamp() + $2::interval
WHERE serial_no = $1 AND due_at IS NOT NULL
"""


async def reschedule(connection: asyncpg.Connection, serial_no: str, by: timedelta) -> None:
    """Set an order due again `by` later, unless it has ended meanwhile."""
    await connection.execute(_RESCHEDULE, serial_no, by)


_GIVEN_BACK = f"""
SELECT o.serial_no,
       coalesce((
           SELECT sum(r.amount - coalesce((
               SELECT sum(CASE x.order_type WHEN 'payout_return' THEN x.amount ELSE -x.amount END)
               FROM orders x
               WHERE x.about_serial_no = r.serial_no AND x.order_type IN ('payout_return', 'payout_return_reversal')
           ), 0))
           FROM orders r
           WHERE r.about_serial_no = o.serial_no AND r.order_type IN ({literals(REFUNDS)}) AND r.status <> 'failed'
       ), 0)::bigint,
       coalesce((SELECT sum(v.moved) FROM reversals v WHERE v.order_id = o.order_id), 0)::bigint
FROM orders o
WHERE o.serial_no = ANY ($1::text[])
"""  # noqa: S608 -- static text


async def given_back(
    connection: asyncpg.Connection, serial_nos: Iterable[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return, by serial number and in minor units, what was given back of orders.

    That is the sum of an order's refunds that have not failed, less what of them was returned; and what of its
    reversals stands.
    """
    rows = await connection.fetch(_GIVEN_BACK, list(serial_nos))
    return {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows}


_WRITTEN_OFF = """
SELECT account_id, sum(CASE order_type WHEN 'write_off' THEN amount ELSE -amount END)::bigint
FROM orders
WHERE account_id = ANY ($1::bigint[]) AND order_type IN ('write_off', 'write_off_recovery')
GROUP BY account_id
"""


async def written_off(connection: asyncpg.Connection, account_ids: Iterable[int]) -> dict[int, int]:
    """Return what of each account's debts was written off and is not recovered, in minor units."""
    return {row[0]: row[1] for row in await connection.fetch(_WRITTEN_OFF, list(account_ids))}


_WAITING = """
SELECT a.account_id, count(o.order_id)
FROM unnest($1::bigint[]) AS a (account_id)
LEFT JOIN orders o ON o.account_id = a.account_id AND o.due_at IS NOT NULL AND o.status = 'pending'
GROUP BY a.account_id
"""


async def waiting(connection: asyncpg.Connection, account_ids: Iterable[int]) -> dict[int, int]:
    """Return how many orders of each account wait for a result, 0 included."""
    rows = await connection.fetch(_WAITING, list(account_ids))
    return {row[0]: row[1] for row in rows}


_SPENT = f"""
SELECT n.account_id, o.order_type, sum(o.amount)
FROM accounts n
JOIN accounts a
  ON a.kind = 'user' AND a.user_id = n.user_id AND a.account_type = n.account_type AND a.currency = n.currency
JOIN orders o ON o.account_id = a.account_id
WHERE n.account_id = ANY ($1::bigint[]) AND o.order_type = ANY ($2::text[]) AND o.created_at >= $3
  AND o.status NOT IN ({literals(UNSUCCESSFUL)})
GROUP BY n.account_id, o.order_type
"""  # noqa: S608 -- static text

_EXPECTED = f"""
SELECT account_id, sum(amount)
FROM orders
WHERE account_id = ANY ($1::bigint[]) AND due_at IS NOT NULL AND order_type IN ({literals(CHARGED)})
  AND status = 'pending'
GROUP BY account_id
"""  # noqa: S608 -- static text


async def expected(connection: asyncpg.Connection, account_ids: Iterable[int]) -> dict[int, int]:
    """Return the sum of each account's recharges, in minor units, that wait for the gateway."""
    rows = await connection.fetch(_EXPECTED, list(account_ids))
    return {row[0]: int(row[1]) for row in rows}


async def spent(
    connection: asyncpg.Connection,
    account_ids: Iterable[int],
    order_types: Iterable[OrderType],
    since: datetime,
) -> dict[tuple[int, OrderType], int]:
    """Return the sum of each account's orders of each type since a time that have not come to nothing.

    Those of closed accounts of the same user, type and currency count too: closing and opening again renews no limit.
    """
    rows = await connection.fetch(
        _SPENT, list(account_ids), [order_type.value for order_type in order_types], since
    )
    return {(row[0], OrderType(row[1])): int(row[2]) for row in rows}


# Each account's newest by the index (account_id, created_at), and of these the newest.
_NEWEST = f"""
SELECT {_ALL}
FROM unnest($1::bigint[]) AS n (id)
CROSS JOIN LATERAL (
    SELECT {_ALL}
    FROM orders
    WHERE account_id = n.id AND created_at >= $2 AND created_at <= $3 AND (created_at, order_id) < ($3, $4::uuid)
    ORDER BY created_at DESC, order_id DESC
    LIMIT $5
) o
ORDER BY created_at DESC, order_id DESC
LIMIT $5
"""  # noqa: S608 -- static text


async def newest(
    connection: asyncpg.Connection,
    account_ids: Iterable[int],
    *,
    since: datetime,
    before: tuple[datetime, UUID],
    limit: int,
) -> list[Order]:
    """Return the newest orders of these accounts, made at `since` or later, and before a time and an order id."""
    rows = await connection.fetch(_NEWEST, list(account_ids), since, *before, limit)
    return [_order(row) for row in rows]


_BY_ID = f"SELECT {_ALL} FROM orders WHERE order_id = ANY ($1::uuid[])"  # noqa: S608 -- static text


async def by_id(connection: asyncpg.Connection, order_ids: Iterable[UUID]) -> dict[UUID, Order]:
    """Return the orders of these ids."""
    rows = await connection.fetch(_BY_ID, list(order_ids))
    return {row["order_id"]: _order(row) for row in rows}


_PENDING = f"""
SELECT {_ALL}
FROM orders
WHERE account_id = $1 AND due_at IS NOT NULL AND status = 'pending'
ORDER BY created_at DESC, order_id DESC
LIMIT $2
"""  # noqa: S608 -- static text


async def pending(connection: asyncpg.Connection, account_id: int, limit: int) -> list[Order]:
    """Return the account's orders that wait for a payment, the newest first."""
    return [_order(row) for row in await connection.fetch(_PENDING, account_id, limit)]


_NOT_PENDING = "SELECT serial_no FROM orders WHERE serial_no = ANY ($1::text[]) AND status <> 'pending'"
_NOT_PENDING_OR_PAYABLE = """
SELECT serial_no
FROM orders o
WHERE serial_no = ANY ($1::text[])
  AND (status <> 'pending' OR EXISTS (SELECT FROM payment_instructions i WHERE i.order_id = o.order_id))
"""


async def not_pending(
    connection: asyncpg.Connection, serial_nos: Iterable[str], *, or_payable: bool = False
) -> set[str]:
    """Return those of the serial numbers whose order waits for no payment, or whose payer is told how to pay."""
    query = _NOT_PENDING_OR_PAYABLE if or_payable else _NOT_PENDING
    return {row[0] for row in await connection.fetch(query, list(serial_nos))}


_BY_SERIAL_NO = f"SELECT {_ALL} FROM orders WHERE serial_no = $1"  # noqa: S608 -- static text


async def by_serial_no(connection: asyncpg.Connection, serial_no: str) -> Order | None:
    """Return an order as it stands, or nothing if the serial number made none."""
    row = await connection.fetchrow(_BY_SERIAL_NO, serial_no)
    return None if row is None else _order(row)


_INSERT = f"""
INSERT INTO orders ({_COLUMNS})
SELECT n.order_id, n.serial_no, n.order_type, n.account_id, n.amount, n.currency, n.status, n.code,
       n.channel, n.late, n.expires_at, n.transacted_at, n.created_at, n.updated_at, n.counter_account_id,
       n.about_serial_no, n.remaining, n.due_at, n.asked, n.metadata, n.reversal_ref
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::boolean[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[],
            $15::bigint[], $16::text[], $17::bigint[], $18::timestamptz[], $19::int[],
            $20::jsonb[], $21::text[])
     AS n (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel, late,
           expires_at, transacted_at, created_at, updated_at, counter_account_id, about_serial_no,
           remaining, due_at, asked, metadata, reversal_ref)
"""  # noqa: S608 -- static text


# What an order knows once its payment has ended, or the gateway has said how to pay: of those that are made and paid in
# one part of a batch.
_COMPLETE = """
UPDATE orders o
SET gateway_ref = n.gateway_ref, failure_code = n.failure_code, failure_reason = n.failure_reason,
    received = n.received, cancelling = n.cancelling
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::boolean[])
     AS n (order_id, gateway_ref, failure_code, failure_reason, received, cancelling)
WHERE o.order_id = n.order_id
"""


async def insert(connection: asyncpg.Connection, orders: Sequence[Order]) -> None:
    """Write new orders; their commands are written before."""
    await connection.execute(
        _INSERT,
        [o.order_id for o in orders],
        [o.serial_no for o in orders],
        [o.order_type.value for o in orders],
        [o.account_id for o in orders],
        [o.amount_minor for o in orders],
        [o.currency for o in orders],
        [o.status.value for o in orders],
        [o.code.value for o in orders],
        [o.channel for o in orders],
        [o.late for o in orders],
        [o.expires_at for o in orders],
        [o.transacted_at for o in orders],
        [o.created_at for o in orders],
        [o.updated_at for o in orders],
        [o.counter_account_id for o in orders],
        [o.parent_serial_no for o in orders],
        [o.remaining_minor for o in orders],
        [o.due_at for o in orders],
        [o.inquiries for o in orders],
        [None if o.metadata is None else json.dumps(o.metadata) for o in orders],
        [o.reversal_ref for o in orders],
    )
    if paid := [order for order in orders if order.gateway_ref is not None or order.cancelling]:
        await connection.execute(
            _COMPLETE,
            [o.order_id for o in paid],
            [o.gateway_ref for o in paid],
            [o.failure_code for o in paid],
            [o.failure_reason for o in paid],
            [o.received_minor for o in paid],
            [o.cancelling for o in paid],
        )


_ADVANCE = """
UPDATE orders o
SET status = n.status, code = n.code, late = n.late, transacted_at = n.transacted_at, updated_at = n.updated_at,
    remaining = n.remaining, due_at = n.due_at, asked = n.asked, gateway_ref = n.gateway_ref,
    failure_code = n.failure_code, failure_reason = n.failure_reason, cancelling = n.cancelling
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[], $7::timestamptz[],
            $8::bigint[], $9::timestamptz[], $10::int[], $11::bigint[], $12::text[], $13::text[], $14::text[],
            $15::boolean[])
     AS n (order_id, status_before, status, code, late, transacted_at, updated_at, remaining, due_at, asked,
           remaining_before, gateway_ref, failure_code, failure_reason, cancelling)
WHERE o.order_id = n.order_id
  AND o.status = n.status_before AND o.remaining IS NOT DISTINCT FROM n.remaining_before
"""


async def advance(connection: asyncpg.Connection, changes: Sequence[tuple[Order, Order]]) -> None:
    """Move locked orders on from the status that was read; raises InvariantBrokenError if one had another."""
    status = await connection.execute(
        _ADVANCE,
        [order.order_id for _, order in changes],
        [before.status.value for before, _ in changes],
        [order.status.value for _, order in changes],
        [order.code.value for _, order in changes],
        [order.late for _, order in changes],
        [order.transacted_at for _, order in changes],
        [order.updated_at for _, order in changes],
        [order.remaining_minor for _, order in changes],
        [order.due_at for _, order in changes],
        [order.inquiries for _, order in changes],
        [before.remaining_minor for before, _ in changes],
        [order.gateway_ref for _, order in changes],
        [order.failure_code for _, order in changes],
        [order.failure_reason for _, order in changes],
        [order.cancelling for _, order in changes],
    )
    if status != f"UPDATE {len(changes)}":
        msg = f"{len(changes)} locked orders were to advance, the database says {status}"
        raise InvariantBrokenError(msg)
    await _advance_rarely(connection, changes)


# Written apart, because few orders ever change these.
_ADVANCE_RARELY = """
UPDATE orders o
SET expires_at = n.expires_at, received = n.received
FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS n (order_id, expires_at, received)
WHERE o.order_id = n.order_id
"""


async def _advance_rarely(connection: asyncpg.Connection, changes: Sequence[tuple[Order, Order]]) -> None:
    """Write what few orders ever change: until when a recharge is waited for, and another sum that came."""
    moved = [
        order
        for before, order in changes
        if order.expires_at is not before.expires_at or order.received_minor is not None
    ]
    if moved:
        await connection.execute(
            _ADVANCE_RARELY,
            [order.order_id for order in moved],
            [order.expires_at for order in moved],
            [order.received_minor for order in moved],
        )


def _order(row: asyncpg.Record) -> Order:
    return Order(
        order_id=row["order_id"],
        serial_no=row["serial_no"],
        order_type=OrderType(row["order_type"]),
        account_id=row["account_id"],
        amount_minor=row["amount"],
        currency=row["currency"],
        status=OrderStatus(row["status"]),
        code=Code[row["code"]],
        channel=row["channel"],
        late=row["late"],
        expires_at=row["expires_at"],
        transacted_at=row["transacted_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        counter_account_id=row["counter_account_id"],
        parent_serial_no=row["about_serial_no"],
        remaining_minor=row["remaining"],
        due_at=row["due_at"],
        inquiries=row["asked"],
        metadata=None if row["metadata"] is None else json.loads(row["metadata"]),
        gateway_ref=row["gateway_ref"],
        failure_code=row["failure_code"],
        failure_reason=row["failure_reason"],
        reversal_ref=row["reversal_ref"],
        cancelling=row["cancelling"],
        received_minor=row["received"],
    )
