"""The keeper: takes letters from their queues into the database, acknowledges then, and carries out what is ordered.

It runs inside each worker, or alone; as many as there are share the work. While the database is away the queues keep
the letters; while the broker is away what is ordered waits in the database.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from wallet_schemas.names import WALLET_DEAD_LETTERS, WALLET_UNROUTED
from wallet_worker.backoff import Backoff, sleep_unless
from wallet_worker.broker.amqp.deliveries import DeliveryHandler, RawDelivery
from wallet_worker.broker.amqp.seal import SealKey
from wallet_worker.broker.cluster_watch import ClusterWatch
from wallet_worker.broker.connection import BrokerUnavailableError
from wallet_worker.broker.consumer import Consumer
from wallet_worker.broker.entities import QUEUES
from wallet_worker.broker.inbox import Delivery, Inbox, acknowledge
from wallet_worker.broker.queue_depths import QueueDepths
from wallet_worker.dead_letters.intake.classify import arrival
from wallet_worker.dead_letters.intake.record import TakenIn, take_in, without_parsed_fields
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.replay.authority import Authority
from wallet_worker.dead_letters.replay.lineage import Lineage
from wallet_worker.dead_letters.replay.outcomes import resolve_outcomes
from wallet_worker.dead_letters.replay.predict import Predictor
from wallet_worker.dead_letters.replay.replayer import Replayer
from wallet_worker.failpoints import Failpoint, failpoint
from wallet_worker.settings.settings import Settings
from wallet_worker.store import orders, replication
from wallet_worker.store.bisect import apply_or_bisect
from wallet_worker.store.clock import database_time
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters import keepers
from wallet_worker.store.dead_letters.arrivals import Arrival
from wallet_worker.store.dead_letters.letters import KEEPER_ROLE
from wallet_worker.store.errors import (
    ConflictError,
    InvariantBrokenError,
    StatementRejectedError,
    StoreError,
    UnavailableError,
)
from wallet_worker.store.races import Races
from wallet_worker.store.requirements import ready_to_start
from wallet_worker.store.schema_version import DatabaseNotReadyError, ensure_current
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import ProcessMetrics

PREFETCH = 400  # two batches: one in the database, one waiting
BATCH_MAX = 200
BATCH_BYTES_MAX = 16 * 2**20
RACES_MAX = 20
RACES_SECONDS = 9.0  # two locks that were not given in time: one is held for long, and that is to be reported
CONFLICTS_MAX = 3  # in a row: an operator may be at it, but a lock that is held for longer is reported
REPLAY_SECONDS = 0.3
FOLLOW_SECONDS = 0.7
BEAT_SECONDS = 5.0
CLUSTER_SECONDS = 10.0
LOOK_SHARE = 0.02  # of the time, at most, goes into counting letters for the metrics: there may be millions
DRAIN_SECONDS = 10.0

_DATABASE = "keeper database"

log = structlog.get_logger(__name__)


class QueuedMessage(NamedTuple):
    """A message as it came from a queue."""

    queue: str
    raw: RawDelivery

    @property
    def size(self) -> int:
        """The bytes of its body."""
        return len(self.raw.body)

    @property
    def is_isolated(self) -> bool:
        """Return False: a keeper reads no message so deeply that it could die of it."""
        return False


class Arrivals(NamedTuple):
    """Dead letters that are recorded together."""

    arrivals: Sequence[Arrival]

    def halves(self, taken: Sequence[Arrival]) -> "tuple[Arrivals, Arrivals]":
        """Return the first and the second half."""
        return Arrivals(taken[: len(taken) // 2]), Arrivals(taken[len(taken) // 2 :])


class Keeper:
    """One keeper: its parts, and the order in which they start and stop.

    Parts of the work that fail are in `health`. Nothing that happens here ends a worker around it, but a broker or a
    database that is not set up as the wallet needs it.
    """

    def __init__(self, settings: Settings, *, name: str, health: Health, metrics: ProcessMetrics) -> None:
        amqp = settings.amqp_url.get_secret_value()
        self._name = name
        self._dsn = settings.database_url.get_secret_value()
        self._rules, self._keys = settings.rules, settings.keys
        self._seal_key = settings.seal_key
        self._health = health
        self._health.expect(_DATABASE, "keeper")
        self._metrics = DeadLetterMetrics(metrics.registry)
        self._process_metrics = metrics
        self._database = Database(
            self._dsn,
            role=KEEPER_ROLE,
            application="wallet keeper",
            size_max=4,
        )
        # A fault of the keeper's own code is waited for, too: what is not acknowledged comes again.
        self._recording = Waiting(_DATABASE, self._database, health, outlives_faults=True)
        self._replayer = Replayer(
            self._database,
            amqp,
            self._metrics,
            Lineage(Predictor(self._rules, self._keys)),
            Authority(settings.dead_letter_limits, settings.environment),
            settings.request_key.sign,
            settings.request_key.has_signed,
        )
        self._depths = QueueDepths(amqp, "wallet keeper: depths")
        api = settings.management_url
        self._cluster = ClusterWatch(amqp, api.get_secret_value(), metrics.registry) if api else None
        self._look_at = 0.0
        self._inbox: Inbox[QueuedMessage] = Inbox(BATCH_BYTES_MAX)
        self._consumer = Consumer(
            component="keeper",
            url=amqp,
            takers={queue: self._into_inbox(queue) for queue in (WALLET_DEAD_LETTERS, WALLET_UNROUTED)},
            prefetch=PREFETCH,
            on_lost=self._inbox.forget,
            health=health,
            metrics=metrics,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep letters until `stopping` is set; what was taken by then is finished.

        Raises TopologyError, WrongUrlError, DatabaseNotReadyError, or InvariantBrokenError.
        """
        if not await Waiting(_DATABASE, self._database, self._health).done(self._prepare, stopping):
            return
        try:
            async with asyncio.TaskGroup() as group:
                consuming = group.create_task(self._consumer.run(), name="keeper consumer")
                taking = group.create_task(self._record_all(stopping), name="keeper take in")
                background = [
                    group.create_task(
                        self._run_periodically(component, step, seconds, stopping), name=component
                    )
                    for component, step, seconds in (
                        ("keeper replay", self._replay, REPLAY_SECONDS),
                        ("keeper follow", self._follow, FOLLOW_SECONDS),
                        ("keeper beat", self._heartbeat, BEAT_SECONDS),
                        *self._watches(),
                    )
                ]
                await stopping.wait()
                await self._consumer.stop()
                self._inbox.close()
                _, late = await asyncio.wait({taking, *background}, timeout=DRAIN_SECONDS)
                for task in late:
                    task.cancel()
                self._consumer.release()
                await consuming
        finally:
            await self._replayer.close()
            await self._depths.close()
            await self._database.close()

    def _into_inbox(self, queue: str) -> DeliveryHandler:
        """Return what puts a queue's deliveries into the inbox."""

        def put(raw: RawDelivery) -> None:
            self._inbox.put(Delivery(QueuedMessage(queue, raw), raw.delivery_tag, raw.channel))

        return put

    async def _prepare(self) -> None:
        """Open the database; raises DatabaseNotReadyError."""
        if unmet := await ready_to_start(self._dsn, "keeper"):
            raise DatabaseNotReadyError(unmet)
        await self._database.open()
        async with self._database.connection() as connection:
            await ensure_current(connection, "keeper")

    # Recording

    async def _record_all(self, stopping: asyncio.Event) -> None:
        """Record dead letters, and acknowledge each batch when it is committed, until the inbox is closed and empty."""
        while deliveries := await self._inbox.take(BATCH_MAX):
            arrivals = Arrivals([_arrival(delivery.content, self._seal_key) for delivery in deliveries])
            if not await self._retry_until(arrivals, stopping):
                return  # not acknowledged: they come again
            failpoint(Failpoint.AFTER_TAKING_IN)
            await acknowledge(deliveries)

    async def _retry_until(self, batch: Arrivals, stopping: asyncio.Event) -> bool:
        """Record a batch, again after each failure; return False if stopping came first."""

        async def record() -> None:
            await apply_or_bisect(batch, self._record, self._record_raw, (StatementRejectedError,))

        return await self._recording.done(record, stopping)

    async def _record(self, batch: Arrivals, taken: list[Arrival]) -> list[TakenIn]:
        """Record dead letters in one transaction, begun again after a lost race; return what became of them."""
        taken[:] = batch.arrivals
        races = Races(RACES_SECONDS)
        while True:
            try:
                async with self._database.transaction() as connection:
                    now = await database_time(connection)
                    recorded = await take_in(connection, batch.arrivals, now)
                    if recorded.known:
                        # It is acknowledged for what was read, which the standby may not have yet.
                        await replication.write_record(connection)
            except ConflictError as exc:
                await races.wait(exc, RACES_MAX)
            else:
                self._metrics.count(recorded, now)
                log.info(
                    "letters.taken_in",
                    new=len(recorded.new),
                    came_back=len(recorded.came_back),
                    known=recorded.known,
                )
                return [recorded]

    async def _record_raw(self, letter: Arrival, exc: Exception) -> list[TakenIn]:
        """Record the bytes of a letter whose parsed fields the database rejects; raises if it rejects the bytes too."""
        raw = without_parsed_fields(letter)
        if letter == raw:
            raise exc
        log.error("dead_letter.stored_raw", digest=letter.body_digest.hex(), exc_info=exc)
        return await self._record(Arrivals([raw]), [])

    # What is ordered

    async def _replay(self) -> bool:
        return await self._replayer.step()

    async def _follow(self) -> bool:
        return (await resolve_outcomes(self._database, self._rules, self._keys, self._metrics)).ended > 0

    async def _heartbeat(self) -> bool:
        """Store that this keeper is at work, and update the gauges."""
        depths: dict[str, int] = {}
        try:
            for depth in await self._depths.read(queue.name for queue in QUEUES):
                if depth.messages is not None:
                    depths[depth.name] = depth.messages
                    self._process_metrics.saw_queue(depth.name, depth.messages)
            reason = self._health.reasons.get("keeper", "")
        except BrokerUnavailableError as exc:
            reason = str(exc)
            self._process_metrics.queues_unknown(queue.name for queue in QUEUES)
        async with self._database.transaction() as connection:
            await keepers.report(connection, self._name, reason or "at work", depths)
            await keepers.forget(connection)
        begun = time.monotonic()
        if begun >= self._look_at:
            async with self._database.connection() as connection:
                await self._metrics.look(connection)
                # Also when no worker is there to measure them: then it matters most.
                self._process_metrics.saw_orders(*await orders.overdue_stats(connection))
            self._look_at = begun + (time.monotonic() - begun) / LOOK_SHARE
        self._metrics.keeper_working.set(int(self._health.is_ready))
        return False

    def _watches(self) -> Iterator[tuple[str, Callable[[], Awaitable[bool]], float]]:
        """Yield what is done periodically only where an address of the management API is set."""
        if self._cluster is not None:
            yield "keeper cluster", self._cluster.look, CLUSTER_SECONDS

    async def _run_periodically(
        self, component: str, step: Callable[[], Awaitable[bool]], seconds: float, stopping: asyncio.Event
    ) -> None:
        """Do a step, at once again while it moves something, until `stopping`; what goes wrong is tried again."""
        pause = Backoff()
        conflicts = 0
        while not stopping.is_set():
            try:
                moved = await step()
            except InvariantBrokenError:
                raise
            except Exception as exc:  # noqa: BLE001 -- a task's outermost frame: no letter may end a worker
                conflicts = conflicts + 1 if isinstance(exc, ConflictError) else 0
                if 0 < conflicts < CONFLICTS_MAX:
                    await sleep_unless(seconds, stopping)
                    continue
                self._metrics.keeper_working.set(0)
                self._process_metrics.orders_unknown()
                self._lost(component, exc)
                await self._database.forget_connections()
                await pause.wait(stopping)
                continue
            conflicts = 0
            self._recovered(component)
            pause.reset()
            if not moved:
                await sleep_unless(seconds, stopping)

    def _lost(self, component: str, exc: BaseException) -> None:
        """Note that a component fails; say so once."""
        if self._health.unready(component, str(exc)):
            if isinstance(exc, UnavailableError):
                log.error("keeper.database_lost", component=component, reason=str(exc))
            else:
                reason = str(exc) if isinstance(exc, StoreError) else "the keeper's own code has a fault"
                log.error("keeper.failed", component=component, reason=reason, exc_info=exc)

    def _recovered(self, component: str) -> None:
        if self._health.ready(component):
            log.info("keeper.recovered", component=component)


def _arrival(message: QueuedMessage, seal_key: SealKey | None) -> Arrival:
    raw = message.raw
    return arrival(
        message.queue,
        raw.body,
        raw.properties,
        exchange=raw.exchange,
        routing_key=raw.routing_key,
        redelivered=raw.redelivered,
        now=datetime.now(UTC),
        seal_key=seal_key,
        dropped=raw.dropped,
    )
