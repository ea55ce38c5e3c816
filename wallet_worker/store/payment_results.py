"""The table `payment_results`: each different result of the gateway once, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from wallet_worker.core.changes import StoredResult

_INSERT = """
INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, reason,
                             reason_code, occurred_at, received_at, processing, code)
SELECT n.payment_order_no, n.fingerprint, n.status, n.amount, n.currency, n.gateway_ref, n.reason,
       n.reason_code, n.occurred_at, n.received_at, n.processing, n.code
FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[])
     AS n (payment_order_no, fingerprint, status, amount, currency, gateway_ref, reason, reason_code, occurred_at,
           received_at, processing, code)
ON CONFLICT ON CONSTRAINT payment_results_pkey DO NOTHING  -- the first time is the one that is kept
"""


async def insert(connection: asyncpg.Connection, receipts: Sequence[StoredResult]) -> None:
    """Write the results that are not stored yet."""
    results = [receipt.result for receipt in receipts]
    await connection.execute(
        _INSERT,
        [r.payment_order_no for r in results],
        [receipt.fingerprint for receipt in receipts],
        [r.status.value for r in results],
        [r.amount for r in results],
        [r.currency for r in results],
        [r.gateway_ref for r in results],
        [r.reason for r in results],
        [r.reason_code for r in results],
        [r.occurred_at for r in results],
        [receipt.received_at for receipt in receipts],
        [receipt.processing.value for receipt in receipts],
        [receipt.code.value for receipt in receipts],
    )


@dataclass(frozen=True, slots=True)
class GatewayResult:
    """One result that the gateway reported of an order, and what came of it."""

    status: str
    amount: str
    """In major units, as on the wire."""
    currency: str
    gateway_ref: str
    reason: str | None
    reason_code: str | None
    occurred_at: datetime
    received_at: datetime
    processing: str
    """Whether it was applied, repeated, rejected …"""
    code: str


_OF_ORDER = """
SELECT status, amount, currency, gateway_ref, reason, reason_code, occurred_at, received_at, processing, code
FROM payment_results
WHERE payment_order_no = $1
ORDER BY received_at, gateway_ref
LIMIT $2
"""


async def of_order(
    connection: asyncpg.Connection, payment_order_no: str, *, limit: int | None = None
) -> list[GatewayResult]:
    """Return the different results of an order, in the order in which they were received: all, or `limit`."""
    return [GatewayResult(**row) for row in await connection.fetch(_OF_ORDER, payment_order_no, limit)]
