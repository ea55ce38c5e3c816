"""What accountants' exports and the reconciliation read."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.store.accounts import NEWEST_FIRST
from wallet_worker.store.snapshot import chunks

# The newest account of the key, or the account of the key that has this number.
_ACCOUNT = f"""
SELECT a.account_id, a.account_no
FROM accounts a
WHERE a.kind = 'user' AND a.user_id = $1 AND a.account_type = $2 AND a.currency = $3
  AND ($4::text IS NULL OR a.account_no = $4)
ORDER BY {NEWEST_FIRST}
LIMIT 1
"""  # noqa: S608 -- static text


class AccountNumber(NamedTuple):
    """An account by its id and its number."""

    account_id: int
    account_no: str


async def account(
    connection: asyncpg.Connection, user_id: str, account_type: str, currency: str, account_no: str | None
) -> AccountNumber | None:
    """Return the newest account of a key, or that of this number; None if there is none."""
    row = await connection.fetchrow(_ACCOUNT, user_id, account_type, currency, account_no)
    return None if row is None else AccountNumber(*row)


_LINES_COUNT = """
SELECT count(*)
FROM entries
WHERE account_id = $1
  AND ($2::timestamptz IS NULL OR created_at >= $2)
  AND ($3::timestamptz IS NULL OR created_at < $3)
"""


async def count_lines(
    connection: asyncpg.Connection, account_id: int, since: datetime | None, before: datetime | None
) -> int:
    """Return how many lines an account has in a span of time."""
    return int(await connection.fetchval(_LINES_COUNT, account_id, since, before))


_LINES = """
SELECT e.line_no, e.created_at, o.serial_no, o.order_type, e.direction, e.amount, e.balance_before, e.balance_after
FROM entries e
JOIN orders o USING (order_id)
WHERE e.account_id = $1
  AND ($2::timestamptz IS NULL OR e.created_at >= $2)
  AND ($3::timestamptz IS NULL OR e.created_at < $3)
ORDER BY e.line_no
"""


def lines(
    connection: asyncpg.Connection, account_id: int, since: datetime | None, before: datetime | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (line_no, created_at, serial_no, order_type, direction, amount, both balances)."""
    return chunks(connection, _LINES, account_id, since, before)


class OrderSelection(NamedTuple):
    """Which orders: made in a span, of these types and statuses, paid or received by a user. None excludes nothing."""

    since: datetime | None
    before: datetime | None
    types: Sequence[str] | None
    statuses: Sequence[str] | None
    user_id: str | None


_SELECTED = """
FROM orders o
JOIN accounts a ON a.account_id = o.account_id
JOIN commands c ON c.serial_no = o.serial_no
LEFT JOIN accounts payee ON payee.account_id = o.counter_account_id
WHERE ($1::timestamptz IS NULL OR o.created_at >= $1)
  AND ($2::timestamptz IS NULL OR o.created_at < $2)
  AND ($3::text[] IS NULL OR o.order_type = ANY ($3))
  AND ($4::text[] IS NULL OR o.status = ANY ($4))
  AND ($5::text IS NULL OR a.user_id = $5 OR payee.user_id = $5)
"""

_ORDERS_COUNT = f"SELECT count(*) {_SELECTED}"

# An order_id begins with the time when it was made, and there is an index on it: no sort of all orders.
_ORDERS = f"""
SELECT o.order_id, o.serial_no, o.created_at, a.user_id, a.account_no, a.account_type, o.order_type, o.amount,
       o.currency, o.status, o.code, o.channel, o.late, o.transacted_at, o.updated_at, o.expires_at,
       o.about_serial_no, o.remaining, payee.user_id, payee.account_no, o.gateway_ref, o.failure_code, o.failure_reason,
       o.cancelling, o.reversal_ref,
       (SELECT sum(r.moved)::bigint FROM reversals r WHERE r.order_id = o.order_id AND r.moved > 0) AS reversed,
       coalesce(o.metadata::text, (c.content -> 'metadata')::text) AS metadata
{_SELECTED}
ORDER BY o.order_id
"""  # noqa: S608 -- static text


async def count_orders(connection: asyncpg.Connection, selection: OrderSelection) -> int:
    """Return how many orders are selected."""
    return int(await connection.fetchval(_ORDERS_COUNT, *selection))


def orders(connection: asyncpg.Connection, selection: OrderSelection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of the selected orders, by the time when they were made, with both parties' accounts."""
    return chunks(connection, _ORDERS, *selection)


class PaidOrder(NamedTuple):
    """An order as the gateway's settlement is compared with it.

    `gateway_ref` and `occurred_at` are those of the result that moved the money; None where no money moved, and
    `occurred_at` also where it was not asked for.
    """

    serial_no: str
    order_type: OrderType
    amount_minor: int
    currency: str
    status: OrderStatus
    gateway_ref: str | None
    occurred_at: datetime | None = None


# The result that moved the money: one that repeats or contradicts it is noted with another `processing`.
_PAID_ORDERS = """
SELECT o.serial_no, o.order_type, coalesce(o.received, o.amount) AS amount, o.currency, o.status,
       (SELECT r.gateway_ref
        FROM payment_results r
        WHERE r.payment_order_no = o.serial_no AND r.status = 'succeeded' AND r.processing = 'processed'
        LIMIT 1) AS gateway_ref
FROM orders o
WHERE o.serial_no = ANY ($1::text[])
"""


async def paid_orders(connection: asyncpg.Connection, serial_nos: Sequence[str]) -> dict[str, PaidOrder]:
    """Return the orders of these serial numbers."""
    return {row["serial_no"]: _paid_order(row) for row in await connection.fetch(_PAID_ORDERS, serial_nos)}


_MOVED = """
SELECT o.serial_no, o.order_type, coalesce(o.received, o.amount) AS amount, o.currency, o.status, r.gateway_ref,
       r.occurred_at
FROM payment_results r
JOIN orders o ON o.serial_no = r.payment_order_no
WHERE r.status = 'succeeded' AND r.processing = 'processed'
  AND ($1::timestamptz IS NULL OR r.occurred_at >= $1)
  AND ($2::timestamptz IS NULL OR r.occurred_at < $2)
ORDER BY o.serial_no
"""


async def moved(
    connection: asyncpg.Connection, since: datetime | None, before: datetime | None
) -> AsyncIterator[list[PaidOrder]]:
    """Yield chunks of the orders whose money moved in a span of the gateway's own time."""
    async for rows in chunks(connection, _MOVED, since, before):
        yield [_paid_order(row)._replace(occurred_at=row["occurred_at"]) for row in rows]


def _paid_order(row: asyncpg.Record) -> PaidOrder:
    return PaidOrder(
        serial_no=row["serial_no"],
        order_type=OrderType(row["order_type"]),
        amount_minor=row["amount"],
        currency=row["currency"],
        status=OrderStatus(row["status"]),
        gateway_ref=row["gateway_ref"],
    )


class BookedReversal(NamedTuple):
    """What stands of an order's dispute, recall or return, as the gateway's settlement is compared with it."""

    serial_no: str
    reversal_ref: str
    status: str
    moved_minor: int
    currency: str


_REVERSALS_OF = """
SELECT o.serial_no, v.reversal_ref, v.status, v.moved, o.currency
FROM orders o
JOIN reversals v USING (order_id)
WHERE o.serial_no = ANY ($1::text[])
"""


async def reversals_of(
    connection: asyncpg.Connection, serial_nos: Sequence[str]
) -> dict[tuple[str, str], BookedReversal]:
    """Return the reversals of these orders, by serial number and the gateway's reference."""
    if not serial_nos:
        return {}
    found = [BookedReversal(*row) for row in await connection.fetch(_REVERSALS_OF, serial_nos)]
    return {(each.serial_no, each.reversal_ref): each for each in found}


_REVERSED_IN = """
SELECT o.serial_no, v.reversal_ref, v.status, v.moved, o.currency
FROM reversals v
JOIN orders o USING (order_id)
JOIN reversal_messages m ON m.payment_order_no = o.serial_no AND m.fingerprint = v.fingerprint
WHERE v.moved > 0
  AND ($1::timestamptz IS NULL OR m.occurred_at >= $1)
  AND ($2::timestamptz IS NULL OR m.occurred_at < $2)
ORDER BY o.serial_no, v.reversal_ref
"""


async def reversed_in(
    connection: asyncpg.Connection, since: datetime | None, before: datetime | None
) -> AsyncIterator[list[BookedReversal]]:
    """Yield chunks of the reversals that stand since a span of the gateway's own time."""
    async for rows in chunks(connection, _REVERSED_IN, since, before):
        yield [BookedReversal(*row) for row in rows]
