"""The table `parked_results`: payment results that came before their order, whole, until they are due."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from wallet_worker.store.errors import InvariantBrokenError


@dataclass(frozen=True, slots=True)
class ParkedResult:
    """A result that waits. `properties` are its AMQP properties, marshalled; `attempts` is at least 1."""

    payment_order_no: str
    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    attempts: int
    first_seen: datetime
    due_at: datetime
    parked_id: int = 0


_INSERT = """
INSERT INTO parked_results (payment_order_no, exchange, routing_key, properties, body, attempts, first_seen, due_at)
SELECT n.payment_order_no, n.exchange, n.routing_key, n.properties, n.body, n.attempts, n.first_seen,
       n.due_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::int[], $7::timestamptz[],
            $8::timestamptz[])
     AS n (payment_order_no, exchange, routing_key, properties, body, attempts, first_seen, due_at)
"""


async def insert(connection: asyncpg.Connection, results: Sequence[ParkedResult]) -> None:
    """Write results that are to wait."""
    await connection.execute(
        _INSERT,
        [p.payment_order_no for p in results],
        [p.exchange for p in results],
        [p.routing_key for p in results],
        [p.properties for p in results],
        [p.body for p in results],
        [p.attempts for p in results],
        [p.first_seen for p in results],
        [p.due_at for p in results],
    )


_TAKE_DUE = """
SELECT parked_id, payment_order_no, exchange, routing_key, properties, body, attempts, first_seen, due_at
FROM parked_results
WHERE due_at <= (SELECT clock_timestamp())  -- asked once, so that the index can answer
ORDER BY due_at, parked_id
LIMIT $1
FOR UPDATE SKIP LOCKED  -- another worker has those in hand
"""


async def take_due(connection: asyncpg.Connection, limit: int) -> list[ParkedResult]:
    """Lock and return up to `limit` results that are due: the longest overdue first, then the first to come."""
    return [
        ParkedResult(
            payment_order_no=row["payment_order_no"],
            exchange=row["exchange"],
            routing_key=row["routing_key"],
            properties=row["properties"],
            body=row["body"],
            attempts=row["attempts"],
            first_seen=row["first_seen"],
            due_at=row["due_at"],
            parked_id=row["parked_id"],
        )
        for row in await connection.fetch(_TAKE_DUE, limit)
    ]


_RESCHEDULE = """
UPDATE parked_results p
SET attempts = n.attempts, due_at = n.due_at
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[]) AS n (parked_id, attempts, due_at)
WHERE p.parked_id = n.parked_id
"""


async def reschedule(connection: asyncpg.Connection, results: Sequence[ParkedResult]) -> None:
    """Write when locked results are due next."""
    status = await connection.execute(
        _RESCHEDULE,
        [p.parked_id for p in results],
        [p.attempts for p in results],
        [p.due_at for p in results],
    )
    _assert_count(status, f"UPDATE {len(results)}")


_LOCK = "SELECT true FROM parked_results WHERE parked_id = $1 FOR UPDATE SKIP LOCKED"


async def lock(connection: asyncpg.Connection, parked_id: int) -> bool:
    """Lock a result; return False if another worker has locked it, or has ended it."""
    return bool(await connection.fetchval(_LOCK, parked_id))


_DELETE = "DELETE FROM parked_results WHERE parked_id = ANY ($1::bigint[])"


async def delete(connection: asyncpg.Connection, ids: Sequence[int]) -> None:
    """Delete locked results that have ended."""
    _assert_count(await connection.execute(_DELETE, ids), f"DELETE {len(ids)}")


# Those that are due already too: they may be in the hands of a worker that is just putting them off.
_WAKE = """
UPDATE parked_results
SET due_at = now()  -- the same for all of them, so that they are looked at in the order in which they came
WHERE payment_order_no = ANY ($1::text[]) AND body <> ALL ($2::bytea[])
"""


async def wake(
    connection: asyncpg.Connection, payment_order_nos: Iterable[str], besides: Iterable[bytes]
) -> None:
    """Mark what waits for these orders as due at once, but for the bodies `besides`.

    Called after their commit, in no transaction: it waits for a worker that has a result in hand, and that may
    have looked for the order just before.
    """
    await connection.execute(_WAKE, list(payment_order_nos), list(besides))


def _assert_count(status: str, wanted: str) -> None:
    if status != wanted:
        msg = f"locked rows were to change: {wanted}, the database says {status}"
        raise InvariantBrokenError(msg)
