"""The shell: opens the memory and the link to the broker, owns every task by name, reconnects, drains, ends.

Three tasks work on one link: `intake` takes requests in batches and commits what follows, `sender` publishes
the answers whose time has come, `watch` ends both when the link is lost. All that is to be done stands in the
memory, so nothing needs to be handed from an old link to a new one.
"""

import asyncio
import random
import signal
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult

import structlog
from yarl import URL

from payment_simulator import broker, health
from payment_simulator.decide import RequestEnding
from payment_simulator.intake import Receipt, take
from payment_simulator.scenario import Scenario
from payment_simulator.state import DueAnswer, State, StateUnusable
from payment_simulator.webhook import Webhook
from wallet_schemas.signature import Keys

BATCH_MAX: Final = 500  # more than arrives during one commit; see broker.PREFETCH
SENDING_MAX: Final = 500  # as many unconfirmed messages as aiormq carries well
RECONNECT_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)  # the last one for ever
REFUSED_PAUSE_SECONDS: Final = (
    1.0  # results that the broker refuses (no route, no room) are tried again after this
)
DRAIN_TIMEOUT_SECONDS: Final = 7.0  # Docker kills ten seconds after it asked; what is left is sent next time

T = TypeVar("T")
log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What one run of the gateway needs. `keys`: key id to secret; the first one signs.

    `results_to` is the address that results are posted to; absent: they go to the exchange payment.results.
    `wallet_keys` are those that the wallet signs its requests with; absent, unsigned ones are taken too.
    """

    urls: tuple[URL, ...]
    keys: Mapping[str, str] = field(repr=False)
    wallet_keys: Keys | None = field(repr=False, kw_only=True, default=None)
    state_path: Path
    scenario: Scenario
    http_address: tuple[str, int] | None = None
    results_to: SplitResult | None = None


def run(settings: GatewaySettings) -> None:
    """The gateway has run until SIGTERM or SIGINT, and has drained.

    Raises broker.Unavailable if the broker cannot be used at the start (later it is waited for),
    StateUnusable if the memory cannot be used, then or later, health.AddressUnusable if it cannot listen.
    """
    import uvloop

    uvloop.run(_run(settings))


async def _run(settings: GatewaySettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        state = State.open(settings.state_path)
        stack.callback(state.close)
        gateway = Gateway(settings, state)
        stack.callback(gateway.close)
        if settings.http_address is not None:
            await stack.enter_async_context(health.serve(settings.http_address, gateway.report))
        await gateway.run(stop)


class Gateway:
    """One run: its memory, its counters, and the loop that keeps a link to the broker."""

    def __init__(self, settings: GatewaySettings, state: State) -> None:
        self._settings = settings
        self._state = state
        # Where results go: to the broker, or posted to the wallet's API.
        self._webhook = Webhook(settings.results_to) if settings.results_to is not None else None
        # One thread: it waits for the disk while the event loop goes on, and the memory has no other user.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._consuming = False
        self._endings: Counter[RequestEnding] = Counter()
        self._answers_sent = 0
        self._earlier = asyncio.Event()  # answers were added, which may be due before all others
        self._draining = asyncio.Event()  # no more requests: what is due is sent, and then the sender ends

    def close(self) -> None:
        """The thread has done what it was given, and ended."""
        self._thread.shutdown()
        if self._webhook is not None:
            self._webhook.close()

    def report(self) -> health.GatewayReport:
        """Return how the gateway is."""
        return health.GatewayReport(
            consuming=self._consuming,
            requests={ending.value: self._endings[ending] for ending in RequestEnding},
            answers_sent=self._answers_sent,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """The gateway has worked until `stop`, over as many links as it took."""
        attempt, first = 0, True
        nodes = deque(random.sample(self._settings.urls, len(self._settings.urls)))
        while not stop.is_set():
            try:
                async with broker.connect(nodes) as link:
                    if first:
                        log.info(
                            "simulator.started",
                            seed=self._settings.scenario.seed,
                            state=str(self._settings.state_path),
                            broker=broker.shown(self._settings.urls),
                        )
                    attempt, first = 0, False
                    await self._work(link, stop)
            except broker.Unavailable as loss:
                if first:
                    raise
                nodes.rotate(-1)  # whatever was lost with this node, another may have
                pause = RECONNECT_SECONDS[min(attempt, len(RECONNECT_SECONDS) - 1)]
                attempt += 1
                log.warning("broker.lost", reason=str(loss), retry_in_seconds=pause)
                await _wait(stop, pause)
        log.info("simulator.stopped", answers_sent=self._answers_sent, **self.report().requests)

    async def _work(self, link: broker.BrokerLink, stop: asyncio.Event) -> None:
        """Requests were taken and answers sent over this link until `stop`.

        Raises Unavailable or StateUnusable.
        """
        self._draining.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(link.watch(), name="watch")
                intake = tasks.create_task(self._intake(link), name="intake")
                sender = tasks.create_task(self._sender(link), name="sender")
                self._consuming = True
                log.info("broker.connected")
                await stop.wait()
                self._consuming = False
                await self._drain(link, intake, sender)
                for task in (watch, intake, sender):
                    task.cancel()
        except BaseExceptionGroup as group:
            raise _first_serious(group) from group
        finally:
            self._consuming = False

    async def _drain(
        self, link: broker.BrokerLink, intake: asyncio.Task[None], sender: asyncio.Task[None]
    ) -> None:
        """What had arrived is committed, and what was due is sent, or time was up."""
        log.info("simulator.draining")
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_SECONDS):
                await link.stop_consuming()
                await asyncio.wait({intake})
                self._draining.set()
                self._earlier.set()
                await asyncio.wait({sender})
        except TimeoutError:
            log.warning("simulator.drain_cut_short", after_seconds=DRAIN_TIMEOUT_SECONDS)

    async def _intake(self, link: broker.BrokerLink) -> None:
        """All requests were taken, batch by batch, until consuming was stopped."""
        while batch := await link.batch(BATCH_MAX):
            arrivals = [delivery.arrival for delivery in batch]
            receipts = await self._in_thread(
                partial(
                    take, self._state, self._settings.scenario, arrivals, _now(), self._settings.wallet_keys
                )
            )
            accepted: list[broker.ReceivedMessage] = []
            rejected: list[broker.ReceivedMessage] = []
            for delivery, receipt in zip(batch, receipts, strict=True):
                (accepted if receipt.ending.accepted else rejected).append(delivery)
            await link.settle(accepted, rejected)
            self._earlier.set()
            self._count(receipts)

    async def _sender(self, link: broker.BrokerLink) -> None:
        """All answers were sent when they were due, until `_draining` is set and none is due any more."""
        while True:
            self._earlier.clear()
            draining = self._draining.is_set()
            due, next_due_at = await self._in_thread(self._look)
            if due:
                await self._send(link, due)
            elif draining:
                return
            else:
                await _wait(
                    self._earlier, None if next_due_at is None else (next_due_at - _now()).total_seconds()
                )

    def _look(self) -> tuple[list[DueAnswer], datetime | None]:
        """Return the answers that are due, and when the first of all that are not sent is due."""
        return self._state.due(_now(), SENDING_MAX), self._state.next_due_at()

    async def _send(self, link: broker.BrokerLink, due: list[DueAnswer]) -> None:
        """The answers were published, and those that the broker confirmed are marked as sent."""
        published = await (self._webhook or link).publish(due, self._settings.keys)
        if published.confirmed:
            await self._in_thread(lambda: self._state.mark_sent(published.confirmed, _now()))
            self._answers_sent += len(published.confirmed)
        log.debug("answers.sent", answers=len(published.confirmed))
        if published.lost:
            raise broker.Unavailable(f"{published.lost} results have no confirm")
        if published.refusals:
            log.error("answers.refused", answers=len(published.refusals), reason=published.refusals[0])
            await asyncio.sleep(REFUSED_PAUSE_SECONDS)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Return what the work on the memory returns; raises StateUnusable if SQLite cannot do it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as exc:
            raise StateUnusable(f"the state file {self._settings.state_path} cannot be used: {exc}") from exc

    def _count(self, receipts: list[Receipt]) -> None:
        self._endings.update(receipt.ending for receipt in receipts)
        log.debug("requests.committed", requests=len(receipts))
        for receipt in receipts:
            if not receipt.ending.accepted:
                log.warning(
                    "request.rejected",
                    ending=receipt.ending,
                    payment_order_no=receipt.payment_order_no,
                    detail=receipt.detail,
                )


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    """The event is set, or the seconds have passed; None waits for the event alone."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _first_serious(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one exception for a group: any other before Unavailable, which only means to try again."""
    _, others = group.split(broker.Unavailable)
    found: BaseException = others or group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _now() -> datetime:
    return datetime.now(UTC)
