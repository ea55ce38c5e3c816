"""The table `outbox`: what is committed and still to be published. A row goes when the broker confirmed it."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from wallet_worker.core.changes import OutboxMessage

RELAY_AFTER = timedelta(seconds=10)
"""How long a row is left to the worker that wrote it: longer than a publish may take (`PUBLISH_SECONDS`).

It counts from the writing of the row, which is a little before the commit. A worker that has several batches waiting to
be published may be overtaken, and an event comes twice.
"""

CLAIMED_FOR = timedelta(seconds=30)
"""How long a relay has what it has claimed: longer than it publishes, unless replies fail one by one."""

RELAY_BYTES_MAX = 32 * 2**20

RELAY_BACKOFF_MAX = timedelta(minutes=1)


_INSERT = """
INSERT INTO outbox (message_id, exchange, routing_key, correlation_id, traceparent, properties, body,
                    created_at, publish_after, seal)
SELECT n.message_id, n.exchange, n.routing_key, n.correlation_id, n.traceparent, n.properties, n.body,
       $8::timestamptz, clock_timestamp() + $9::interval, n.seal
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::bytea[], $10::bytea[])
     AS n (message_id, exchange, routing_key, correlation_id, traceparent, properties, body, seal)
"""


async def insert(connection: asyncpg.Connection, rows: Sequence[OutboxMessage], now: datetime) -> None:
    """Promise these messages; after RELAY_AFTER, any worker may publish what is still there."""
    await connection.execute(
        _INSERT,
        [r.message_id for r in rows],
        [r.exchange for r in rows],
        [r.routing_key for r in rows],
        [_bytes(r.correlation_id) for r in rows],
        [r.traceparent for r in rows],
        [r.properties for r in rows],
        [r.body for r in rows],
        now,
        RELAY_AFTER,
        [r.seal for r in rows],
    )


_DELETE = """
DELETE FROM outbox
WHERE message_id IN (
    SELECT message_id
    FROM outbox
    WHERE message_id = ANY ($1::uuid[])
    FOR UPDATE SKIP LOCKED  -- a relay has it in hand, and deletes it itself
)
"""


async def delete(connection: asyncpg.Connection, ids: Iterable[UUID]) -> None:
    """Forget messages that the broker has confirmed; waits for nobody, and some may be gone already."""
    await connection.execute(_DELETE, list(ids))


# Not "after the last id": a row may commit later than one with a higher id.
_LOCK_DUE = """
SELECT message_id, octet_length(body) AS size
FROM outbox
WHERE publish_after <= clock_timestamp()
ORDER BY publish_after
LIMIT $1
FOR UPDATE SKIP LOCKED
"""

_TAKE = """
SELECT message_id, exchange, routing_key, body, correlation_id, traceparent, properties, attempts, seal
FROM outbox
WHERE message_id = ANY ($1::uuid[])
ORDER BY publish_after
"""


_CLAIM = """
UPDATE outbox
SET publish_after = clock_timestamp() + $2::interval
WHERE message_id = ANY ($1::uuid[])
"""


async def claim_due(connection: asyncpg.Connection, limit: int) -> list[OutboxMessage]:
    """Return messages that nobody has published in time, the longest overdue first.

    No other relay has them for CLAIMED_FOR; what is still there then is due again.

    At most `limit`, and no more after RELAY_BYTES_MAX of bodies: a dead letter may be as large as the broker allows.
    """
    chosen: list[UUID] = []
    total_bytes = 0
    for row in await connection.fetch(_LOCK_DUE, limit):
        total_bytes += row["size"]
        if chosen and total_bytes > RELAY_BYTES_MAX:
            break
        chosen.append(row["message_id"])
    if not chosen:
        return []
    rows = [
        OutboxMessage(**{**row, "correlation_id": _text(row["correlation_id"])})
        for row in await connection.fetch(_TAKE, chosen)
    ]
    await connection.execute(_CLAIM, chosen, CLAIMED_FOR)
    return rows


def _bytes(correlation_id: str | None) -> bytes | None:
    """Return a correlation_id as it came: it may be any bytes, and PostgreSQL has no text with NUL or without UTF-8."""
    return None if correlation_id is None else correlation_id.encode(errors="surrogateescape")


def _text(correlation_id: bytes | None) -> str | None:
    return None if correlation_id is None else correlation_id.decode(errors="surrogateescape")


# Twice as long each time, up to a minute: what cannot be published does not stand before what can.
_PUT_OFF = """
UPDATE outbox
SET attempts = attempts + 1,
    publish_after = clock_timestamp() + least($2::interval, interval '1 second' * 2 ^ least(attempts, 10))
WHERE message_id = ANY ($1::uuid[])
"""


async def put_off(connection: asyncpg.Connection, ids: Iterable[UUID]) -> None:
    """Put off messages that could not be published: they are tried again later."""
    await connection.execute(_PUT_OFF, list(ids), RELAY_BACKOFF_MAX)


_DEPTH = """
SELECT count(*) AS waiting,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_seconds
FROM outbox
WHERE publish_after <= clock_timestamp() OR attempts > 0
"""


async def overdue(connection: asyncpg.Connection) -> tuple[int, float]:
    """Return how many messages are overdue, and the age of the oldest in seconds, 0 if there is none."""
    row = await connection.fetchrow(_DEPTH)
    return (row["waiting"], row["oldest_seconds"]) if row else (0, 0.0)
