"""The table `payment_instructions`: how the payer of a recharge pays, by what the gateway has said last."""

from collections.abc import Iterable, Sequence

import asyncpg

from wallet_worker.core.changes import StoredInstructions
from wallet_worker.core.orders import Order
from wallet_worker.store.errors import InvariantBrokenError

_OF_ORDERS = """
SELECT order_id, revision, fingerprint, body, received_at
FROM payment_instructions
WHERE order_id = ANY ($1::uuid[])
"""


async def of_orders(connection: asyncpg.Connection, orders: Iterable[Order]) -> dict[str, StoredInstructions]:
    """Return what is kept of these orders, by serial number."""
    numbers = {order.order_id: order.serial_no for order in orders}
    return {
        numbers[row["order_id"]]: StoredInstructions(numbers[row["order_id"]], *row)
        for row in await connection.fetch(_OF_ORDERS, list(numbers))
    }


# The order is locked, so nobody else writes here. What has a lower revision would have been decided as a repeat.
_PUT = """
INSERT INTO payment_instructions AS i (order_id, revision, fingerprint, body, received_at)
SELECT n.order_id, n.revision, n.fingerprint, n.body, n.received_at
FROM unnest($1::uuid[], $2::int[], $3::bytea[], $4::json[], $5::timestamptz[])
     AS n (order_id, revision, fingerprint, body, received_at)
ON CONFLICT ON CONSTRAINT payment_instructions_pkey DO UPDATE
SET revision = excluded.revision, fingerprint = excluded.fingerprint, body = excluded.body,
    received_at = excluded.received_at
WHERE i.revision < excluded.revision
"""


async def put(connection: asyncpg.Connection, kept: Sequence[StoredInstructions]) -> None:
    """Write the latest revision of each order; the orders are locked, and written before.

    Raises InvariantBrokenError where a later one is there.
    """
    status = await connection.execute(
        _PUT,
        [each.order_id for each in kept],
        [each.revision for each in kept],
        [each.fingerprint for each in kept],
        [each.body for each in kept],
        [each.received_at for each in kept],
    )
    if status != f"INSERT 0 {len(kept)}":
        msg = f"instructions of {len(kept)} orders were to be written, the database says {status}"
        raise InvariantBrokenError(msg)
