"""What waits in the broker's queues, and who reads them: asked by passive declarations, which any user may do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiormq
from aio_pika.abc import AbstractConnection

from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    WrongUrlError,
    describe,
    open_channel,
    open_connection,
    translate_errors,
)
from wallet_worker.broker.topology import QUEUES

KEPT_SECONDS = 2.0  # ten browsers that refresh by themselves ask the broker once


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue: its ready messages and its consumers; both absent where it does not exist."""

    name: str
    messages: int | None
    consumers: int | None


@dataclass(frozen=True, slots=True)
class Depths:
    """All queues of the wallet, or the sentence that says why they cannot be seen."""

    queues: tuple[Depth, ...]
    fault: str | None = None

    @property
    def workers(self) -> int:
        """How many workers take commands."""
        return next((queue.consumers or 0 for queue in self.queues if queue.name == "wallet.commands"), 0)


class Queues:
    """Looks at the queues, at most every KEPT_SECONDS."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._asking = asyncio.Lock()
        self._seen_at: float | None = None
        self._seen = Depths(())

    async def depths(self) -> Depths:
        """Return what waits now, or did a moment ago. Never raises for a broker that is away."""
        async with self._asking:
            if self._seen_at is None or self._clock() - self._seen_at >= KEPT_SECONDS:
                self._seen = await self._look()
                self._seen_at = self._clock()
            return self._seen

    async def _look(self) -> Depths:
        try:
            async with open_connection(self._url, "wallet console") as connection:
                return Depths(tuple([await _depth(connection, queue.name) for queue in QUEUES]))
        except (BrokerUnavailableError, WrongUrlError) as exc:
            return Depths((), f"The broker cannot be reached: {exc}.")
        except CONNECTION_ERRORS as exc:
            return Depths((), f"The broker cannot be reached: {describe(exc)}.")


async def _depth(connection: AbstractConnection, name: str) -> Depth:
    """Return what waits in one queue. A channel of its own: where there is none, the refusal closes it."""
    channel = await open_channel(connection)
    try:
        with translate_errors():
            async with asyncio.timeout(RPC_SECONDS):
                declared = await channel.queue_declare(name, passive=True)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return Depth(name, None, None)
    await channel.close()
    return Depth(name, declared.message_count, declared.consumer_count)
