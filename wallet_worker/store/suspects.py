"""The table `suspects`: messages that a worker took alone and may have died of."""

import asyncpg

_ACCUSE = """
INSERT INTO suspects AS s (fingerprint, attempts, updated_at)
VALUES ($1, 1, clock_timestamp())
ON CONFLICT ON CONSTRAINT suspects_pkey
    DO UPDATE SET attempts = s.attempts + 1, updated_at = clock_timestamp()
RETURNING attempts
"""


async def accuse(connection: asyncpg.Connection, fingerprint: bytes) -> int:
    """Note, before it is tried, that this message is taken alone; return how often that was, this time included."""
    return int(await connection.fetchval(_ACCUSE, fingerprint))


_ACQUIT = "DELETE FROM suspects WHERE fingerprint = $1"


async def acquit(connection: asyncpg.Connection, fingerprint: bytes) -> None:
    """Forget the count of a message that has ended."""
    await connection.execute(_ACQUIT, fingerprint)
