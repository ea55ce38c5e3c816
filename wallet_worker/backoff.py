"""Waiting: for a while, or between attempts, longer each time; over at once when stopping."""

import asyncio
import random
from contextlib import suppress

FIRST_SECONDS = 0.1
MAX_SECONDS = 5.0


async def sleep_unless(seconds: float, stopping: asyncio.Event) -> None:
    """Wait so long, or until `stopping` is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


class Backoff:
    """Exponential waits with full jitter, up to five seconds, so that a server that returns is not stormed."""

    def __init__(self) -> None:
        self._attempt = 0

    def reset(self) -> None:
        """Begin with short waits again, after a success."""
        self._attempt = 0

    async def wait(self, stopping: asyncio.Event) -> None:
        """Wait for the next attempt, or until `stopping` is set."""
        bound = min(MAX_SECONDS, FIRST_SECONDS * 2**self._attempt)
        self._attempt += 1
        await sleep_unless(bound * random.uniform(0.5, 1), stopping)
