"""How much waits already: the process's own requests, the queue of commands, and whether the broker takes messages."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from wallet_schemas.http import ApiCode
from wallet_schemas.names import WALLET_COMMANDS
from wallet_worker.api.problems import RequestRefused, retry_after
from wallet_worker.broker.addresses import WrongUrlError
from wallet_worker.broker.connection import BrokerUnavailableError
from wallet_worker.client.rpc import PublishFailed, Rpc

LOOK_SECONDS: Final = 1.0
RECONNECT_SECONDS: Final = 10.0
DRAINED_A_SECOND: Final = 5_000  # what one worker does, about
_ABSENT_TWICE: Final = 2

log = structlog.get_logger(__name__)


class Load:
    """What waits. `in_flight_max` is for requests that wait for an outcome, `queue_max` for the queue of commands."""

    def __init__(self, rpc: Rpc, *, in_flight_max: int, queue_max: int) -> None:
        self._rpc = rpc
        self._in_flight_max = in_flight_max
        self._queue_max = queue_max
        self._depth = 0
        self._without_consumer = 0
        self.waiting = 0
        self.failure: str | None = "starting"  # why the broker cannot be used, where it cannot

    @property
    def is_read(self) -> bool:
        """Whether somebody reads the queue of commands, as far as it was looked at twice."""
        return self._without_consumer < _ABSENT_TWICE

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a request that waits for an outcome; raises Refused where too much waits already."""
        if self._depth >= self._queue_max:
            raise RequestRefused(
                ApiCode.OVERLOADED,
                "too many commands wait for a worker",
                headers=retry_after(self._depth / DRAINED_A_SECOND),
            )
        if self.waiting >= self._in_flight_max:
            raise RequestRefused(
                ApiCode.OVERLOADED, "too many requests wait for an outcome", headers=retry_after(3)
            )
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def patience(self, seconds: float) -> float:
        """Return how long a request may wait that would like to wait so long: less and less above half of the limit."""
        if not self.is_read:
            return 0.0
        free = (self._in_flight_max - self.waiting) / max(1, self._in_flight_max - self._in_flight_max // 2)
        return seconds * min(1.0, max(0.0, free))

    async def watch(self) -> None:
        """Look at the queue once a second, and connect again where the connection was lost, for ever."""
        while True:
            try:
                await self._rpc.reconnect(RECONNECT_SECONDS)
                depth = await self._rpc.depth(WALLET_COMMANDS)
            except (PublishFailed, BrokerUnavailableError, WrongUrlError) as exc:
                self._away(str(exc))
            else:
                if self.failure is not None:
                    log.info("broker.connected")
                self.failure = None
                self._depth = depth.messages
                self._without_consumer = 0 if depth.consumers else self._without_consumer + 1
            await asyncio.sleep(LOOK_SECONDS)

    def notice(self) -> None:
        """Note why there is no connection while the client tries to connect again."""
        if not self._rpc.is_connected and self._rpc.failure is not None:
            self._away(self._rpc.failure)

    def _away(self, reason: str) -> None:
        if self.failure is None or self.failure == "starting":
            log.warning("broker.waiting", reason=reason)
        self.failure = reason
        self._depth, self._without_consumer = 0, 0
