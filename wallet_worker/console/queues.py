"""The queues as the pages show them: read at most every few seconds, however many browsers ask."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from wallet_schemas.names import WALLET_COMMANDS
from wallet_worker.broker.addresses import WrongUrlError
from wallet_worker.broker.connection import BrokerUnavailableError
from wallet_worker.broker.entities import QUEUES
from wallet_worker.broker.queue_depths import QueueDepth, QueueDepths

KEPT_SECONDS = 2.0  # ten browsers that refresh by themselves ask the broker once


@dataclass(frozen=True, slots=True)
class Depths:
    """All queues of the wallet, or the sentence that says why they cannot be shown."""

    queues: tuple[QueueDepth, ...]
    fault: str | None = None

    @property
    def workers(self) -> int:
        """How many workers take commands."""
        return next((queue.consumers or 0 for queue in self.queues if queue.name == WALLET_COMMANDS), 0)


class Queues:
    """Reads the queues, at most every KEPT_SECONDS. `clock` returns seconds."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._reading = asyncio.Lock()
        self._read_at: float | None = None
        self._depths = Depths(())

    async def depths(self) -> Depths:
        """Return the depths, at most KEPT_SECONDS old. Never raises for a broker that is unavailable."""
        async with self._reading:
            if self._read_at is None or self._clock() - self._read_at >= KEPT_SECONDS:
                self._depths = await self._read()
                self._read_at = self._clock()
            return self._depths

    async def _read(self) -> Depths:
        reader = QueueDepths(self._url, "wallet console")
        try:
            return Depths(await reader.read(queue.name for queue in QUEUES))
        except (BrokerUnavailableError, WrongUrlError) as exc:
            return Depths((), f"The broker cannot be reached: {exc}.")
        finally:
            await reader.close()
