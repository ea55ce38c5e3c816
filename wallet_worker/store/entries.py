"""The table `entries`: the ledger. Lines are added and never changed; the database sees to that."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from wallet_schemas.values import INTEGER_MAX, Direction, OrderType
from wallet_worker.core.ledger import Entry

_INSERT = """
INSERT INTO entries (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
SELECT n.account_id, n.line_no, n.order_id, n.direction, n.amount, n.balance_before, n.balance_after,
       n.created_at
FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::timestamptz[])
     AS n (account_id, line_no, order_id, direction, amount, balance_before, balance_after, created_at)
"""


async def insert(connection: asyncpg.Connection, entries: Sequence[Entry]) -> None:
    """Write new lines; their orders and accounts are written before."""
    await connection.execute(
        _INSERT,
        [e.account_id for e in entries],
        [e.line_no for e in entries],
        [e.order_id for e in entries],
        [e.direction.value for e in entries],
        [e.amount_minor for e in entries],
        [e.balance_before_minor for e in entries],
        [e.balance_after_minor for e in entries],
        [e.created_at for e in entries],
    )


_COLUMNS = """
    e.account_id, e.line_no, e.order_id, e.direction, e.amount, e.balance_before, e.balance_after, e.created_at,
    o.order_type, o.serial_no
"""

_OF_ORDER = f"""
SELECT {_COLUMNS}
FROM entries e
JOIN orders o USING (order_id)
JOIN accounts a ON a.account_id = e.account_id
WHERE e.order_id = $1 AND a.kind = 'user'
ORDER BY e.account_id <> o.account_id, e.line_no
"""  # noqa: S608 -- static text

_PAGE = f"""
SELECT {_COLUMNS}
FROM entries e
JOIN orders o USING (order_id)
WHERE e.account_id = $1 AND e.line_no > $2 AND e.line_no <= $3
ORDER BY e.line_no
LIMIT $4
"""  # noqa: S608 -- static text

_PAGE_BEFORE = f"""
SELECT {_COLUMNS}
FROM entries e
JOIN orders o USING (order_id)
WHERE e.account_id = $1 AND e.line_no < $2
ORDER BY e.line_no DESC
LIMIT $3
"""  # noqa: S608 -- static text

# Times never run backwards along a statement, so the last line before a time is found in the middle, and in the
# middle again: no index by time is needed, and a span at the end of a million lines is as near as one at the beginning.
_LAST_BEFORE = """
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, coalesce(max(line_no), 0)
    FROM entries
    WHERE account_id = $1
    UNION ALL
    SELECT CASE WHEN e.created_at < $2 THEN e.line_no ELSE s.low END,
           CASE WHEN e.created_at < $2 THEN s.high ELSE e.line_no - 1 END
    FROM search s
    JOIN entries e ON e.account_id = $1 AND e.line_no = (s.low + s.high + 1) / 2
    WHERE s.low < s.high
)
SELECT low
FROM search
ORDER BY high - low
LIMIT 1
"""

_BALANCE_AFTER = """
SELECT balance_after
FROM entries
WHERE account_id = $1 AND line_no <= $2
ORDER BY line_no DESC
LIMIT 1
"""


class EntryLine(NamedTuple):
    """A line with the type and the serial number of the order that made it."""

    entry: Entry
    order_type: OrderType
    serial_no: str


async def of_order(connection: asyncpg.Connection, order_id: UUID) -> list[EntryLine]:
    """Return the lines that an order made on users' accounts, that of the account which it is about first."""
    return [_line(row) for row in await connection.fetch(_OF_ORDER, order_id)]


async def page(
    connection: asyncpg.Connection,
    account_id: int,
    *,
    after_line_no: int,
    since: datetime | None,
    before: datetime | None,
    limit: int,
) -> list[EntryLine]:
    """Return at most `limit` lines after a line, made at `since` or later and before `before`, oldest first."""
    after = (
        after_line_no
        if since is None
        else max(after_line_no, await last_before(connection, account_id, since))
    )
    until = INTEGER_MAX if before is None else await last_before(connection, account_id, before)
    rows = await connection.fetch(_PAGE, account_id, after, until, limit)
    return [_line(row) for row in rows]


async def page_before(
    connection: asyncpg.Connection, account_id: int, *, before_line_no: int, limit: int
) -> list[EntryLine]:
    """Return at most `limit` lines before a line, the newest first."""
    rows = await connection.fetch(_PAGE_BEFORE, account_id, before_line_no, limit)
    return [_line(row) for row in rows]


async def last_before(connection: asyncpg.Connection, account_id: int, time: datetime) -> int:
    """Return the number of the last line that was made before a time, 0 if there is none."""
    return int(await connection.fetchval(_LAST_BEFORE, account_id, time))


async def balance_before(
    connection: asyncpg.Connection, account_id: int, *, line_no: int, since: datetime | None
) -> int:
    """Return the balance, in minor units, before the first line after `line_no` made at `since` or later."""
    after = line_no if since is None else max(line_no, await last_before(connection, account_id, since))
    balance = await connection.fetchval(_BALANCE_AFTER, account_id, after)
    return 0 if balance is None else int(balance)


def _line(row: asyncpg.Record) -> EntryLine:
    entry = Entry(
        account_id=row["account_id"],
        line_no=row["line_no"],
        order_id=row["order_id"],
        direction=Direction(row["direction"]),
        amount_minor=row["amount"],
        balance_before_minor=row["balance_before"],
        balance_after_minor=row["balance_after"],
        created_at=row["created_at"],
    )
    return EntryLine(entry, OrderType(row["order_type"]), row["serial_no"])
