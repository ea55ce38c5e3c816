"""Lost races: a transaction that met another one is begun again, but not for ever."""

import asyncio
import random
import time

from wallet_worker.store.errors import ConflictError, UnavailableError

_JITTER_SECONDS = 0.005


class Races:
    """Counts the races that one transaction has lost since it was first begun."""

    def __init__(self, seconds: float) -> None:
        """Give up after so many seconds: a lock that is held for long is to be reported."""
        self._seconds = seconds
        self._begun = time.monotonic()
        self.lost = 0

    async def wait(self, exc: ConflictError, races_max: int) -> None:
        """Count a lost race and wait a moment before the next one.

        Raises `exc` if it was race number `races_max`, and UnavailableError if the seconds are over.
        """
        self.lost += 1
        if time.monotonic() - self._begun > self._seconds:
            msg = f"{self.lost} races were lost in a row: {exc}"
            raise UnavailableError(msg) from exc
        if self.lost >= races_max:
            raise exc
        await asyncio.sleep(random.uniform(0, _JITTER_SECONDS) * self.lost)
