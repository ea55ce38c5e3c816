"""The table `suspects`: messages that may have killed a worker, counted before they are touched."""

from collections.abc import Collection

import asyncpg

_SEEN = "SELECT fingerprint FROM suspects WHERE fingerprint = ANY ($1::bytea[])"


async def seen(connection: asyncpg.Connection, fingerprints: Collection[bytes]) -> set[bytes]:
    """Return those that were counted before and have not ended since."""
    return {row["fingerprint"] for row in await connection.fetch(_SEEN, list(fingerprints))}


# Sorted: two workers with the same messages in hand wait for each other in one order.
_COUNT = """
INSERT INTO suspects AS s (fingerprint, attempts, updated_at)
SELECT DISTINCT n.fingerprint, 1, clock_timestamp()
FROM unnest($1::bytea[]) AS n (fingerprint)
ORDER BY n.fingerprint
ON CONFLICT ON CONSTRAINT suspects_pkey
    DO UPDATE SET attempts = s.attempts + 1, updated_at = clock_timestamp()
RETURNING s.fingerprint, s.attempts
"""


async def count_attempt(connection: asyncpg.Connection, fingerprints: Collection[bytes]) -> dict[bytes, int]:
    """Count an attempt at each message, before it is touched; return its attempts, this one included."""
    rows = await connection.fetch(_COUNT, list(fingerprints))
    return {row["fingerprint"]: row["attempts"] for row in rows}


_CLEAR = """
DELETE FROM suspects
WHERE fingerprint IN (
    SELECT fingerprint
    FROM suspects
    WHERE fingerprint = ANY ($1::bytea[])
    ORDER BY fingerprint
    FOR UPDATE
)
"""


async def clear(connection: asyncpg.Connection, fingerprints: Collection[bytes]) -> None:
    """Delete the counts of messages that have ended."""
    await connection.execute(_CLEAR, list(fingerprints))
