"""How much of the time a contestant's sessions wait for each other's locks, looked at from outside."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

SAMPLE_SECONDS: Final = 0.05

_WAITING: Final = """
SELECT count(*)
FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


class Waiting:
    """How many sessions of a database waited for a lock, each time that somebody looked."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def note(self, at: float, sessions: int) -> None:
        """Keep what was seen at a time of the monotonic clock."""
        self._seen.append((at, sessions))

    def share(self, begin: float, end: float) -> float | None:
        """Return in which share of the looks between two times somebody waited; absent if nobody looked."""
        looks = [sessions > 0 for at, sessions in self._seen if begin <= at <= end]
        return sum(looks) / len(looks) if looks else None


@asynccontextmanager
async def watched(database_url: str) -> AsyncIterator[Waiting]:
    """Give what is seen of a database while the block runs; costs PostgreSQL some 8 ms a second."""
    waiting = Waiting()
    connection = await asyncpg.connect(database_url, command_timeout=60)
    looking = asyncio.create_task(_look(connection, waiting), name="watch locks")
    try:
        yield waiting
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        await connection.close()


async def _look(connection: asyncpg.Connection, waiting: Waiting) -> None:
    while True:
        waiting.note(time.monotonic(), await connection.fetchval(_WAITING))
        await asyncio.sleep(SAMPLE_SECONDS)
