"""The table `orders`."""

from collections.abc import Iterable, Sequence

import asyncpg

from schemas.codes import Code
from schemas.values import OrderStatus, OrderType
from wallet_worker.core.orders import Order
from wallet_worker.store.errors import InvariantBrokenError

_COLUMNS = """
    order_id, serial_no, order_type, account_id, amount, currency, status, code, channel,
    late, expires_at, transacted_at, created_at, updated_at
"""

_LOCK = f"""
SELECT {_COLUMNS}
FROM orders
WHERE serial_no = ANY ($1::text[])
ORDER BY serial_no
FOR NO KEY UPDATE
"""  # noqa: S608 -- static text


async def lock(connection: asyncpg.Connection, serial_nos: Iterable[str]) -> dict[str, Order]:
    """Return the orders of these serial numbers, locked in their order, before any account is."""
    rows = await connection.fetch(_LOCK, list(serial_nos))
    return {row["serial_no"]: _order(row) for row in rows}


_BY_SERIAL_NO = f"SELECT {_COLUMNS} FROM orders WHERE serial_no = $1"  # noqa: S608 -- static text


async def by_serial_no(connection: asyncpg.Connection, serial_no: str) -> Order | None:
    """Return an order as it stands, or nothing if the serial number made none."""
    row = await connection.fetchrow(_BY_SERIAL_NO, serial_no)
    return None if row is None else _order(row)


_INSERT = f"""
INSERT INTO orders ({_COLUMNS})
SELECT *
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::boolean[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[])
"""  # noqa: S608 -- static text


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
    )


_ADVANCE = """
UPDATE orders o
SET status = n.status, code = n.code, late = n.late, transacted_at = n.transacted_at, updated_at = n.updated_at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[], $7::timestamptz[])
     AS n (order_id, status_before, status, code, late, transacted_at, updated_at)
WHERE o.order_id = n.order_id AND o.status = n.status_before
"""


async def advance(connection: asyncpg.Connection, changes: Sequence[tuple[OrderStatus, Order]]) -> None:
    """Move locked orders on from the status that was read; raises InvariantBrokenError if one had another."""
    status = await connection.execute(
        _ADVANCE,
        [order.order_id for _, order in changes],
        [before.value for before, _ in changes],
        [order.status.value for _, order in changes],
        [order.code.value for _, order in changes],
        [order.late for _, order in changes],
        [order.transacted_at for _, order in changes],
        [order.updated_at for _, order in changes],
    )
    if status != f"UPDATE {len(changes)}":
        msg = f"{len(changes)} locked orders were to advance, the database says {status}"
        raise InvariantBrokenError(msg)


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
    )
