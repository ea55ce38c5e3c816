"""What the console reads of the ledger beside the answers to queries, from the caller's snapshot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from wallet_schemas.money import to_text
from wallet_worker.store import orders, outbox

CHILDREN_MAX = 200
OUTBOX_LOOKED_AT_MAX = 2_000
"""Rows live for milliseconds: with more of them there, the page has other things to tell than one order's."""


@dataclass(frozen=True, slots=True)
class SentCommand:
    """The command as it was sent."""

    type: str
    content: Mapping[str, Any]
    status: str
    code: str
    at: datetime


_SENT_COMMAND = """
SELECT command_type, content, status, code, created_at
FROM commands
WHERE serial_no = $1
"""


async def sent_command(connection: asyncpg.Connection, serial_no: str) -> SentCommand | None:
    """Return the command of a serial number; None if it has no outcome."""
    row = await connection.fetchrow(_SENT_COMMAND, serial_no)
    if row is None:
        return None
    return SentCommand(
        row["command_type"], json.loads(row["content"]), row["status"], row["code"], row["created_at"]
    )


class ParkedDelivery(NamedTuple):
    """A result that waits for its order."""

    attempts: int
    first_seen: datetime
    due_at: datetime


_PARKED = """
SELECT attempts, first_seen, due_at
FROM parked_results
WHERE payment_order_no = $1
ORDER BY first_seen
"""


async def parked(connection: asyncpg.Connection, serial_no: str) -> list[ParkedDelivery]:
    """Return the results that came before their order and still wait."""
    return [ParkedDelivery(**row) for row in await connection.fetch(_PARKED, serial_no)]


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One line of the ledger, on a user's account or on the wallet's own books."""

    is_users: bool
    account_no: str | None
    user_id: str | None
    system_name: str | None
    line_no: int
    direction: str
    amount: str
    currency: str
    balance_before: str
    balance_after: str
    created_at: datetime


_LINES = """
SELECT a.kind = 'user' AS is_users, a.account_no, a.user_id, a.system_name, a.currency,
       e.line_no, e.direction, e.amount, e.balance_before, e.balance_after, e.created_at
FROM orders o
JOIN entries e USING (order_id)
JOIN accounts a ON a.account_id = e.account_id
WHERE o.serial_no = $1
ORDER BY e.created_at, a.kind DESC, e.account_id, e.line_no
"""


async def lines(connection: asyncpg.Connection, serial_no: str) -> list[LedgerLine]:
    """Return the lines that an order made, each with its contra line."""
    return [
        LedgerLine(
            **{
                **row,
                **{
                    name: to_text(row[name], row["currency"])
                    for name in ("amount", "balance_before", "balance_after")
                },
            }
        )
        for row in await connection.fetch(_LINES, serial_no)
    ]


class OverdueMessage(NamedTuple):
    """A message of an order that should have been published by now."""

    exchange: str
    routing_key: str
    attempts: int
    created_at: datetime


# The bodies are the wallet's own JSON in these two exchanges, so that they can be read here.
_OVERDUE_MESSAGES = """
SELECT exchange, routing_key, attempts, created_at
FROM (
    SELECT exchange, routing_key, attempts, created_at, body
    FROM outbox
    WHERE exchange IN ('wallet.events', 'payment.requests')
      AND (publish_after <= clock_timestamp() OR attempts > 0)  -- the others are on their way, or have arrived
    ORDER BY created_at
    LIMIT $2
) recent
WHERE $1 IN (convert_from(body, 'UTF8')::json ->> 'serial_no', convert_from(body, 'UTF8')::json ->> 'payment_order_no')
ORDER BY created_at
"""


async def overdue_messages(connection: asyncpg.Connection, serial_no: str) -> list[OverdueMessage]:
    """Return the messages of an order that should have been published by now, among the oldest rows of the outbox."""
    return [
        OverdueMessage(**row)
        for row in await connection.fetch(_OVERDUE_MESSAGES, serial_no, OUTBOX_LOOKED_AT_MAX)
    ]


_SERIAL_NOS = """
SELECT e.line_no, o.serial_no
FROM accounts a
JOIN entries e ON e.account_id = a.account_id
JOIN orders o ON o.order_id = e.order_id
WHERE a.account_no = $1 AND e.line_no BETWEEN $2 AND $3
"""


async def serial_nos(
    connection: asyncpg.Connection, account_no: str, first_line_no: int, last_line_no: int
) -> dict[int, str]:
    """Return the serial number of the order behind each line of a statement."""
    rows = await connection.fetch(_SERIAL_NOS, account_no, first_line_no, last_line_no)
    return {row["line_no"]: row["serial_no"] for row in rows}


_OWNER = """
SELECT user_id
FROM accounts
WHERE kind = 'user' AND account_no = $1
"""


async def owner(connection: asyncpg.Connection, account_no: str) -> str | None:
    """Return the user of an account number."""
    user_id = await connection.fetchval(_OWNER, account_no)
    return None if user_id is None else str(user_id)


_IS_USER = "SELECT EXISTS (SELECT FROM accounts WHERE kind = 'user' AND user_id = $1)"


async def is_user(connection: asyncpg.Connection, user_id: str) -> bool:
    """Return whether a user has, or had, an account."""
    return bool(await connection.fetchval(_IS_USER, user_id))


@dataclass(frozen=True, slots=True)
class Child:
    """An order about another: a capture or a release of a hold, a refund of a recharge."""

    serial_no: str
    order_type: str
    amount: str
    currency: str
    status: str
    to_user_id: str | None
    created_at: datetime


_CHILDREN = """
SELECT o.serial_no, o.order_type, o.amount, o.currency, o.status, p.user_id AS to_user_id, o.created_at
FROM orders o
LEFT JOIN accounts p ON p.account_id = o.counter_account_id
WHERE o.about_serial_no = $1
ORDER BY o.created_at, o.serial_no
LIMIT $2
"""


async def children(connection: asyncpg.Connection, serial_no: str) -> list[Child]:
    """Return the orders about an order, oldest first, at most CHILDREN_MAX."""
    rows = await connection.fetch(_CHILDREN, serial_no, CHILDREN_MAX)
    return [Child(**{**row, "amount": to_text(row["amount"], row["currency"])}) for row in rows]


_LAST_LINE = "SELECT line_no FROM accounts WHERE kind = 'user' AND account_no = $1"


async def last_line(connection: asyncpg.Connection, account_no: str) -> int:
    """Return the number of an account's newest line, 0 if it has none."""
    return int(await connection.fetchval(_LAST_LINE, account_no) or 0)


_BY_ORDER_ID = "SELECT serial_no FROM orders WHERE order_id = $1"

_BY_GATEWAY_REF = """
SELECT payment_order_no
FROM payment_results
WHERE gateway_ref = $1
ORDER BY received_at DESC
LIMIT 1
"""


async def order_of(connection: asyncpg.Connection, word: str) -> str | None:
    """Return the serial number of the order that an order_id or a gateway_ref belongs to, the newest of several."""
    try:
        found = await connection.fetchval(_BY_ORDER_ID, UUID(word))
    except ValueError:
        found = None
    found = found or await connection.fetchval(_BY_GATEWAY_REF, word)
    return None if found is None else str(found)


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """How the database is doing, in numbers."""

    revision: str
    server: str
    database_bytes: int
    overdue: int
    """Messages that should have been published by now."""
    overdue_oldest_seconds: float
    parked: int
    parked_due: datetime | None
    suspects: int
    connections: int
    longest_transaction_seconds: float | None
    orders_overdue: int = 0
    """Orders that should have been asked about, or expired, a minute ago."""
    payouts_oldest_seconds: float = 0.0
    """Age of the oldest withdrawal or refund that waits for the gateway, 0 if none does."""


_HEALTH = """
SELECT (SELECT version_num FROM alembic_version) AS revision,
       current_setting('server_version') AS server,
       pg_database_size(current_database()) AS database_bytes,
       (SELECT count(*) FROM parked_results) AS parked,
       (SELECT min(due_at) FROM parked_results) AS parked_due,
       (SELECT count(*) FROM suspects) AS suspects,
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
       (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8
        FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()) AS longest_transaction_seconds
"""


async def database_health(connection: asyncpg.Connection) -> DatabaseHealth:
    """Return how the database is doing."""
    row = await connection.fetchrow(_HEALTH)
    if row is None:
        msg = "a SELECT without FROM has one row"
        raise AssertionError(msg)
    overdue, oldest_seconds = await outbox.overdue(connection)
    orders_overdue, payouts_oldest_seconds = await orders.overdue_stats(connection)
    return DatabaseHealth(
        **row,
        overdue=overdue,
        overdue_oldest_seconds=oldest_seconds,
        orders_overdue=orders_overdue,
        payouts_oldest_seconds=payouts_oldest_seconds,
    )
