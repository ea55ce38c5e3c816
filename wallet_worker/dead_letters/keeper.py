"""The keeper: takes letters from their queues into the database, acknowledges then, and carries out what is ordered.

It runs inside each worker, or alone; as many as there are share the work. While the database is away the queues keep
the letters; while the broker is away what is ordered waits in the database.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from aiormq.channel import Channel

from wallet_schemas.names import WALLET_DEAD_LETTERS, WALLET_UNROUTED
from wallet_worker.backoff import Backoff, sleep_unless
from wallet_worker.broker.amqp.deliveries import DeliveryHandler, RawDelivery
from wallet_worker.broker.connection import CONNECTION_ERRORS, BrokerUnavailableError, translate_errors
from wallet_worker.broker.consumer import Consumer
from wallet_worker.broker.inbox import ACKNOWLEDGE_SECONDS
from wallet_worker.broker.queue_depths import QueueDepths
from wallet_worker.broker.topology import QUEUES
from wallet_worker.dead_letters.intake.classify import arrival
from wallet_worker.dead_letters.intake.record import bare, take_in
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.replay.lineage import Lineage
from wallet_worker.dead_letters.replay.outcomes import resolve_outcomes
from wallet_worker.dead_letters.replay.predict import Predictor
from wallet_worker.dead_letters.replay.replayer import Replayer
from wallet_worker.failpoints import Failpoint, failpoint
from wallet_worker.settings.settings import Settings
from wallet_worker.store import orders
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters import keepers
from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE, Arrival
from wallet_worker.store.errors import (
    ConflictError,
    InvariantBrokenError,
    StatementRejectedError,
    UnavailableError,
)
from wallet_worker.store.requirements import ready_to_start
from wallet_worker.store.schema_version import current_revision, newest_revision
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import ProcessMetrics

PREFETCH = 400  # two batches: one in the database, one waiting
BATCH_MAX = 200
BATCH_BYTES_MAX = 16 * 2**20
RACES_MAX = 20
REPLAY_SECONDS = 0.3
FOLLOW_SECONDS = 0.7
BEAT_SECONDS = 5.0
LOOK_SHARE = 0.02  # of the time, at most, goes into counting letters for the metrics: there may be millions
DRAIN_SECONDS = 10.0

_DATABASE = "keeper database"

log = structlog.get_logger(__name__)


class _Delivery(NamedTuple):
    """A letter that this channel, and no other, can acknowledge, and the queue that it came from."""

    queue: str
    taken: RawDelivery


class _Waiting:
    """Deliveries that wait to be taken in, in order. The broker's prefetch is their bound."""

    def __init__(self) -> None:
        self._waiting: deque[_Delivery] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def from_queue(self, queue: str) -> DeliveryHandler:
        """Return what puts a queue's deliveries here."""

        def put(taken: RawDelivery) -> None:
            self._waiting.append(_Delivery(queue, taken))
            self._changed.set()

        return put

    def close(self) -> None:
        """Have `take` return nothing once what is there has been taken."""
        self._closed = True
        self._changed.set()

    def forget(self, channel: Channel) -> None:
        """Drop what a closed channel left: the broker sends it again."""
        self._waiting = deque(one for one in self._waiting if one.taken.channel is not channel)

    async def take(self) -> list[_Delivery]:
        """Return what is there, all of one channel; nothing once closed and empty."""
        while not self._waiting:
            if self._closed:
                return []
            self._changed.clear()
            await self._changed.wait()
        batch: list[_Delivery] = []
        size = 0
        while self._waiting and len(batch) < BATCH_MAX:
            following = self._waiting[0]
            size += len(following.taken.body)
            if batch and (size > BATCH_BYTES_MAX or following.taken.channel is not batch[0].taken.channel):
                break
            batch.append(self._waiting.popleft())
        return batch


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
        self._health = health
        self._health.expect(_DATABASE, "keeper")
        self._metrics = DeadLetterMetrics(metrics.registry)
        self._process_metrics = metrics
        self._database = Database(
            self._dsn,
            role=OPERATOR_ROLE,
            application="wallet keeper",
            size_max=4,
        )
        self._replayer = Replayer(
            self._database, amqp, self._metrics, Lineage(Predictor(self._rules, self._keys))
        )
        self._depths = QueueDepths(amqp, "wallet keeper: depths")
        self._look_at = 0.0
        self._waiting = _Waiting()
        self._consumer = Consumer(
            part="keeper",
            url=amqp,
            takers={
                queue: self._waiting.from_queue(queue) for queue in (WALLET_DEAD_LETTERS, WALLET_UNROUTED)
            },
            prefetch=PREFETCH,
            on_lost=self._waiting.forget,
            health=health,
            metrics=metrics,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep letters until `stopping` is set; what was taken by then is finished.

        Raises TopologyError, WrongUrlError, or InvariantBrokenError if the database is not as this program needs it.
        """
        if not await self._open(stopping):
            return
        try:
            async with asyncio.TaskGroup() as group:
                consuming = group.create_task(self._consumer.run(), name="keeper consumer")
                taking = group.create_task(self._take_all(stopping), name="keeper take in")
                background = [
                    group.create_task(self._run_periodically(part, step, seconds, stopping), name=part)
                    for part, step, seconds in (
                        ("keeper replay", self._replay, REPLAY_SECONDS),
                        ("keeper follow", self._follow, FOLLOW_SECONDS),
                        ("keeper beat", self._heartbeat, BEAT_SECONDS),
                    )
                ]
                await stopping.wait()
                await self._consumer.stop()
                self._waiting.close()
                _, late = await asyncio.wait({taking, *background}, timeout=DRAIN_SECONDS)
                for task in late:
                    task.cancel()
                self._consumer.release()
                await consuming
        finally:
            await self._replayer.close()
            await self._depths.close()
            await self._database.close()

    async def _open(self, stopping: asyncio.Event) -> bool:
        """Open the database, waiting for it if it is away; return False if stopping came first."""
        pause = Backoff()
        while not stopping.is_set():
            try:
                if unmet := await ready_to_start(self._dsn, "keeper"):
                    raise InvariantBrokenError(unmet)
                await self._database.open()
                async with self._database.connection() as connection:
                    found, wanted = await current_revision(connection), newest_revision()
            except (UnavailableError, ConflictError, StatementRejectedError) as exc:
                self._lost(_DATABASE, exc)
                await self._database.forget_connections()
                await pause.wait(stopping)
                continue
            if found != wanted:
                msg = f"the database is at revision {found or 'none'}, this keeper needs {wanted}: run `wallet migrate`"
                raise InvariantBrokenError(msg)
            self._found(_DATABASE)
            return True
        return False

    # Taking in

    async def _take_all(self, stopping: asyncio.Event) -> None:
        """Take letters in, and acknowledge each batch when it is committed, until there are no more."""
        while batch := await self._waiting.take():
            arrivals = [_arrival(one) for one in batch]
            if not await self._while_away(arrivals, stopping):
                return  # not acknowledged: they come again
            failpoint(Failpoint.AFTER_TAKING_IN)
            await _acknowledge(batch[-1].taken)

    async def _while_away(self, arrivals: Sequence[Arrival], stopping: asyncio.Event) -> bool:
        """Take letters in, again and again while that fails; return False if stopping came first."""
        pause = Backoff()
        while True:
            try:
                await self._take(arrivals)
            except Exception as exc:  # noqa: BLE001 -- a task's outermost frame: unacknowledged, they are not lost
                self._lost(_DATABASE, exc)
                await self._database.forget_connections()
                if stopping.is_set():
                    return False
                await pause.wait(stopping)
            else:
                self._found(_DATABASE)
                return True

    async def _take(self, arrivals: Sequence[Arrival]) -> None:
        """Take letters in, one by one where the database will not have them together."""
        for race in range(RACES_MAX):
            try:
                async with self._database.transaction() as connection:
                    now = await connection.fetchval("SELECT clock_timestamp()")
                    taken = await take_in(connection, arrivals, now)
            except ConflictError:
                await asyncio.sleep(0.01 * race)
            except StatementRejectedError:
                if len(arrivals) > 1:
                    middle = len(arrivals) // 2
                    await self._take(arrivals[:middle])
                    await self._take(arrivals[middle:])
                elif arrivals[0] != bare(arrivals[0]):
                    log.exception("dead_letter.stored_raw", digest=arrivals[0].body_digest.hex())
                    await self._take([bare(arrivals[0])])
                else:
                    raise
                return
            else:
                self._metrics.count(taken, now)
                log.info(
                    "letters.taken_in", new=len(taken.new), came_back=len(taken.came_back), known=taken.known
                )
                return
        msg = f"letters lost {RACES_MAX} races in a row"
        raise UnavailableError(msg)

    # What is ordered

    async def _replay(self) -> bool:
        return await self._replayer.step()

    async def _follow(self) -> bool:
        return (await resolve_outcomes(self._database, self._rules, self._keys, self._metrics)).ended > 0

    async def _heartbeat(self) -> bool:
        """Say that this keeper is at work, and have the metrics show what there is."""
        depths: dict[str, int] = {}
        try:
            for depth in await self._depths.read(queue.name for queue in QUEUES):
                if depth.messages is not None:
                    depths[depth.name] = depth.messages
                    self._process_metrics.saw_queue(depth.name, depth.messages)
            said = self._health.reasons.get("keeper", "")
        except BrokerUnavailableError as exc:
            said = str(exc)
            self._process_metrics.queues_unknown(queue.name for queue in QUEUES)
        async with self._database.transaction() as connection:
            await keepers.say(connection, self._name, said or "at work", depths)
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

    async def _run_periodically(
        self, part: str, step: Callable[[], Awaitable[bool]], seconds: float, stopping: asyncio.Event
    ) -> None:
        """Do a step, at once again while it moves something, until `stopping`; what goes wrong is tried again."""
        pause = Backoff()
        while not stopping.is_set():
            try:
                moved = await step()
            except ConflictError:
                moved = False
            except Exception as exc:  # noqa: BLE001 -- a task's outermost frame: no letter may end a worker
                self._metrics.keeper_working.set(0)
                self._process_metrics.orders_unknown()
                self._lost(part, exc)
                await self._database.forget_connections()
                await pause.wait(stopping)
                continue
            self._found(part)
            pause.reset()
            if not moved:
                await sleep_unless(seconds, stopping)

    def _lost(self, part: str, exc: BaseException) -> None:
        """Note that a part of the work fails; say so once."""
        if self._health.unready(part, str(exc)):
            if isinstance(exc, UnavailableError):
                log.error("keeper.database_lost", part=part, reason=str(exc))
            else:
                log.error("keeper.failed", part=part, reason=f"{type(exc).__name__}: {exc}", exc_info=exc)

    def _found(self, part: str) -> None:
        if self._health.ready(part):
            log.info("keeper.recovered", part=part)


def _arrival(one: _Delivery) -> Arrival:
    taken = one.taken
    return arrival(
        one.queue,
        taken.body,
        taken.properties,
        exchange=taken.exchange,
        routing_key=taken.routing_key,
        redelivered=taken.redelivered,
        now=datetime.now(UTC),
    )


async def _acknowledge(last: RawDelivery) -> None:
    """Tell the broker to forget a batch; a channel that is gone is no loss, because what is known is known."""
    try:
        with translate_errors():
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                await last.channel.basic_ack(last.delivery_tag, multiple=True, wait=False)
    except (BrokerUnavailableError, *CONNECTION_ERRORS):
        return
