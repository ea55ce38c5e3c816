"""Waiting between attempts: longer each time, never in step with others, over at once when stopping."""

import asyncio
import random

FIRST_SECONDS = 0.1
MAX_SECONDS = 5.0


class Pause:
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
        try:
            await asyncio.wait_for(stopping.wait(), bound * random.uniform(0.5, 1))
        except TimeoutError:
            return
