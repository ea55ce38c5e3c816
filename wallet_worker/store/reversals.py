"""The tables `reversals`, what stands of each dispute, recall or return, and `reversal_messages`, what was said."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import asyncpg

from wallet_schemas.values import ReversalKind, ReversalStatus
from wallet_worker.core.changes import StoredReversal
from wallet_worker.core.orders import Order
from wallet_worker.core.reversals import Reversal
from wallet_worker.store.errors import InvariantBrokenError

_COLUMNS = """
    reversal_id, order_id, reversal_ref, kind, status, sequence, amount, moved, fingerprint, created_at, updated_at,
    reason_code, reason, respond_by
"""

_OF_ORDERS = f"""
SELECT {_COLUMNS}
FROM reversals
WHERE order_id = ANY ($1::uuid[])
ORDER BY created_at, reversal_id
"""  # noqa: S608 -- static text


async def of_orders(
    connection: asyncpg.Connection, orders: Iterable[Order]
) -> dict[str, dict[str, Reversal]]:
    """Return the reversals of these orders, by serial number and by the gateway's reference, the first one first."""
    numbers = {order.order_id: order.serial_no for order in orders}
    found: dict[str, dict[str, Reversal]] = {}
    for row in await connection.fetch(_OF_ORDERS, list(numbers)):
        reversal = _reversal(row)
        found.setdefault(numbers[reversal.order_id], {})[reversal.reversal_ref] = reversal
    return found


_STANDING = """
SELECT order_id, sum(moved)::bigint
FROM reversals
WHERE order_id = ANY ($1::uuid[]) AND moved > 0
GROUP BY order_id
"""


async def standing(connection: asyncpg.Connection, order_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Return what stands moved back of each order of which something does, in minor units."""
    return {row[0]: row[1] for row in await connection.fetch(_STANDING, list(order_ids))}


# The order is locked, so nobody else writes here. What has a lower number would have been decided as a repeat.
_PUT = f"""
INSERT INTO reversals AS r ({_COLUMNS})
SELECT n.reversal_id, n.order_id, n.reversal_ref, n.kind, n.status, n.sequence, n.amount, n.moved, n.fingerprint,
       n.created_at, n.updated_at, n.reason_code, n.reason, n.respond_by
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::bigint[],
            $9::bytea[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::timestamptz[])
     AS n (reversal_id, order_id, reversal_ref, kind, status, sequence, amount, moved, fingerprint, created_at,
           updated_at, reason_code, reason, respond_by)
ON CONFLICT ON CONSTRAINT reversals_pkey DO UPDATE
SET status = excluded.status, sequence = excluded.sequence, amount = excluded.amount, moved = excluded.moved,
    fingerprint = excluded.fingerprint, updated_at = excluded.updated_at, reason_code = excluded.reason_code,
    reason = excluded.reason, respond_by = excluded.respond_by
WHERE r.sequence < excluded.sequence
"""  # noqa: S608 -- static text


async def put(connection: asyncpg.Connection, reversals: Sequence[Reversal]) -> None:
    """Write what was said last of each reversal; their orders are locked, and written before.

    Raises InvariantBrokenError where something later is there.
    """
    status = await connection.execute(
        _PUT,
        [r.reversal_id for r in reversals],
        [r.order_id for r in reversals],
        [r.reversal_ref for r in reversals],
        [r.kind.value for r in reversals],
        [r.status.value for r in reversals],
        [r.sequence for r in reversals],
        [r.amount_minor for r in reversals],
        [r.moved_minor for r in reversals],
        [r.fingerprint for r in reversals],
        [r.created_at for r in reversals],
        [r.updated_at for r in reversals],
        [r.reason_code for r in reversals],
        [r.reason for r in reversals],
        [r.respond_by for r in reversals],
    )
    if status != f"INSERT 0 {len(reversals)}":
        msg = f"{len(reversals)} reversals were to be written, the database says {status}"
        raise InvariantBrokenError(msg)


_INSERT_MESSAGES = """
INSERT INTO reversal_messages (payment_order_no, fingerprint, reversal_ref, kind, sequence, status, amount, currency,
                               reason_code, reason, respond_by, occurred_at, received_at, processing, code)
SELECT n.payment_order_no, n.fingerprint, n.reversal_ref, n.kind, n.sequence, n.status, n.amount, n.currency,
       n.reason_code, n.reason, n.respond_by, n.occurred_at, n.received_at, n.processing, n.code
FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::text[], $15::text[])
     AS n (payment_order_no, fingerprint, reversal_ref, kind, sequence, status, amount, currency, reason_code, reason,
           respond_by, occurred_at, received_at, processing, code)
ON CONFLICT ON CONSTRAINT reversal_messages_pkey DO NOTHING  -- the first time is the one that is kept
"""


async def insert_messages(connection: asyncpg.Connection, receipts: Sequence[StoredReversal]) -> None:
    """Write the messages that are not stored yet."""
    messages = [receipt.reversal for receipt in receipts]
    await connection.execute(
        _INSERT_MESSAGES,
        [s.payment_order_no for s in messages],
        [receipt.fingerprint for receipt in receipts],
        [s.reversal_ref for s in messages],
        [s.kind.value for s in messages],
        [s.sequence for s in messages],
        [s.status.value for s in messages],
        [s.amount for s in messages],
        [s.currency for s in messages],
        [s.reason_code for s in messages],
        [s.reason for s in messages],
        [s.respond_by for s in messages],
        [s.occurred_at for s in messages],
        [receipt.received_at for receipt in receipts],
        [receipt.processing.value for receipt in receipts],
        [receipt.code.value for receipt in receipts],
    )


def _reversal(row: asyncpg.Record) -> Reversal:
    return Reversal(
        reversal_id=row["reversal_id"],
        order_id=row["order_id"],
        reversal_ref=row["reversal_ref"],
        kind=ReversalKind(row["kind"]),
        status=ReversalStatus(row["status"]),
        sequence=row["sequence"],
        amount_minor=row["amount"],
        moved_minor=row["moved"],
        fingerprint=row["fingerprint"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        reason_code=row["reason_code"],
        reason=row["reason"],
        respond_by=row["respond_by"],
    )
