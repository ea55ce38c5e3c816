"""What the table `payment_results` holds of one order, for whoever looks at a letter about it."""

import asyncpg

_OF_ORDER = """
SELECT status, amount, currency, gateway_ref, reason, occurred_at, received_at, processing, code
FROM payment_results
WHERE payment_order_no = $1
ORDER BY received_at
LIMIT 100
"""


async def results(connection: asyncpg.Connection, payment_order_no: str) -> list[asyncpg.Record]:
    """Return what the gateway has said of an order, each different thing once, oldest first."""
    return await connection.fetch(_OF_ORDER, payment_order_no)
