"""Look-ups that many requests need at once, asked of the database together: one query is under way at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, TypeVar

import structlog

from wallet_worker.store.errors import StoreError

POLL_SECONDS: Final = 0.1

T = TypeVar("T")

log = structlog.get_logger(__name__)


class AwayError(Exception):
    """The database does not answer, or not in time."""


class _Batch(Generic[T]):
    """The keys of one query, and those who wait for its answer: each with a future of its own, to be given up alone."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.waiting: list[asyncio.Future[Mapping[str, T] | None]] = []

    def end(self, answer: Mapping[str, T] | None) -> None:
        """Give all who still wait the answer; absent where the database gave none."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(answer)


class BatchedLookups(Generic[T]):
    """Finds values by key. Keys that are asked for while a query is under way go into the next one.

    `ask` asks the database; what it does not answer within `seconds` is given up. `queries` counts what was asked.
    """

    def __init__(self, ask: Callable[[list[str]], Awaitable[Mapping[str, T]]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._next: _Batch[T] | None = None
        self._running: asyncio.Task[None] | None = None
        self.queries = 0

    async def find(self, key: str) -> T | None:
        """Return what there is under a key, or nothing; raises AwayError.

        That is after twice `seconds` at most: for the query under way, and for its own.
        """
        batch = self._next
        if batch is None:
            batch = self._next = _Batch()
        batch.keys.add(key)
        answer: asyncio.Future[Mapping[str, T] | None] = asyncio.get_running_loop().create_future()
        batch.waiting.append(answer)
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="lookups")
        found = await answer
        if found is None:
            raise AwayError
        return found.get(key)

    async def _run(self) -> None:
        batch: _Batch[T] | None = None
        try:
            while (batch := self._next) is not None:
                self._next = None
                self.queries += 1
                batch.end(await self._reply(batch.keys))
        finally:
            self._running = None
            for left in (batch, self._next):  # only where this task is cancelled
                if left is not None:
                    left.end(None)

    async def _reply(self, keys: set[str]) -> Mapping[str, T] | None:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._ask(list(keys))
        except TimeoutError:
            log.debug("lookup.slow", keys=len(keys), seconds=self._seconds)
        except StoreError as exc:
            log.debug("lookup.failed", keys=len(keys), reason=str(exc))
        return None


class Waiters:
    """Requests that wait until something is said of a serial number: one query each tenth of a second for all of them.

    `ask` returns those of the serial numbers of which it is said.
    """

    def __init__(self, ask: Callable[[list[str]], Awaitable[set[str]]]) -> None:
        self._ask = ask
        self._waiting: dict[str, asyncio.Event] = {}
        self._counts: dict[str, int] = {}
        self._polling: asyncio.Task[None] | None = None
        self._stopping = False

    def stop(self) -> None:
        """End every wait now, and those to come at once."""
        self._stopping = True
        for event in self._waiting.values():
            event.set()

    async def wait(self, serial_no: str, seconds: float) -> None:
        """Return when it is said, or when the time is over, or the process stops."""
        if self._stopping or seconds <= 0:
            return
        event = self._waiting.setdefault(serial_no, asyncio.Event())
        self._counts[serial_no] = self._counts.get(serial_no, 0) + 1
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll(), name="waiters")
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._counts[serial_no] -= 1
            if not self._counts[serial_no]:
                del self._counts[serial_no]
                self._waiting.pop(serial_no, None)

    async def _poll(self) -> None:
        try:
            while self._waiting:
                try:
                    for number in await self._ask([*self._waiting]):
                        if number in self._waiting:
                            self._waiting[number].set()
                except StoreError as exc:
                    log.debug("waiters.unasked", reason=str(exc))
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self._polling = None
