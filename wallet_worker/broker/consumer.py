"""Sessions with the broker: connect, check the topology, consume, watch, and begin again when it is lost."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from wallet_schemas.names import WALLET_DEAD_LETTERS, WALLET_UNROUTED
from wallet_worker.backoff import Backoff
from wallet_worker.broker import topology
from wallet_worker.broker.addresses import move_on, place_of
from wallet_worker.broker.amqp.deliveries import DeliveryHandler, InterceptingTransport
from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    describe,
    open_channel,
    open_connection,
    translate_errors,
)
from wallet_worker.broker.queue_depths import measure
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import ProcessMetrics

WATCH_SECONDS = 10.0
DEAD_LETTER_QUEUES = (WALLET_DEAD_LETTERS, WALLET_UNROUTED)
"""Queues that every consumer tells the depth of: where no keeper runs, nobody else would."""

TOPOLOGY_GRACE_SECONDS = 30.0
"""How long a topology that was right before may be wrong: a broker that starts has its queues a little later."""

Handler = Callable[[DeliveredMessage], Coroutine[Any, Any, None]]

log = structlog.get_logger(__name__)


class ConsumerLostError(Exception):
    """The broker took a consumer away while the connection went on."""


class Consumer:
    """Keeps one channel consuming from some queues, for as long as `run` runs.

    `takers` are called with each delivery as its bytes arrive, and only put it somewhere. `handlers` are for queues
    with less in them: each delivery has a task of aiormq's, which is cancelled when the channel closes. `on_lost` is
    told each channel that is gone. `url` may be several addresses: the next is tried when one takes
    connections and cannot be consumed from. What is not `vital` waits for its queues for as long as they are missing,
    and is not ready.
    """

    def __init__(
        self,
        *,
        component: str,
        url: str,
        takers: Mapping[str, DeliveryHandler] | None = None,
        handlers: Mapping[str, Handler] | None = None,
        prefetch: int,
        on_lost: Callable[[Channel], None],
        health: Health,
        metrics: ProcessMetrics,
        vital: bool = True,
    ) -> None:
        self._component = component
        self._url = url
        self._takers = takers or {}
        self._handlers = handlers or {}
        self._prefetch = prefetch
        self._on_lost = on_lost
        self._health = health
        self._metrics = metrics
        self._vital = vital
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._released = asyncio.Event()
        self._was_right = False
        self._consumed = False  # in the session of now
        self._last_reason = ""
        self._wrong_since: float | None = None

    async def run(self) -> None:
        """Consume until `release`; raises topology.TopologyError when a broker lacks what is vital."""
        pause = Backoff()
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            try:
                with translate_errors():
                    await self._session(pause)
            except topology.TopologyError as exc:
                self._wrong_since = self._wrong_since or clock()
                overdue = clock() - self._wrong_since > TOPOLOGY_GRACE_SECONDS
                if self._vital and (overdue or not self._was_right):
                    raise
                self._lost(str(exc))
            except (BrokerUnavailableError, ConsumerLostError, *CONNECTION_ERRORS) as exc:
                self._lost(describe(exc) if not isinstance(exc, BrokerUnavailableError) else str(exc))
            await pause.wait(self._stopping)
        self._stopped.set()

    async def stop(self) -> None:
        """Take no more deliveries; those that were taken can still be acknowledged until `release`."""
        self._stopping.set()
        await self._stopped.wait()

    def release(self) -> None:
        """Close the connection."""
        self._released.set()

    async def _session(self, pause: Backoff) -> None:
        deliveries = InterceptingTransport()
        self._consumed = False
        async with open_connection(self._url, f"wallet worker: {self._component}", deliveries) as connection:
            place = place_of(self._url)
            try:
                if faults := await topology.missing(connection, {*self._handlers, *self._takers}):
                    raise topology.TopologyError(faults)
                channel = await open_channel(connection)
                try:
                    deliveries.intercept(channel, self._takers)
                    await self._consume(connection, channel, pause)
                finally:
                    deliveries.stop()
                    self._on_lost(channel)
            finally:
                if not self._consumed:
                    move_on(self._url, place)

    async def _consume(self, connection: AbstractConnection, channel: Channel, pause: Backoff) -> None:
        cancelled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def on_cancel(frame: object) -> None:
            if not cancelled.done():
                cancelled.set_result(str(getattr(frame, "consumer_tag", "")))

        channel.on_consumer_cancel_callbacks.add(on_cancel)
        queues = {**self._handlers, **dict.fromkeys(self._takers, _never_called)}
        async with asyncio.timeout(RPC_SECONDS):
            await channel.basic_qos(prefetch_count=self._prefetch)
            for queue, handler in queues.items():
                await channel.basic_consume(queue, handler, consumer_tag=queue)
        self._was_right, self._wrong_since, self._consumed = True, None, True
        if self._health.ready(self._component):
            log.info("consumer.started", component=self._component, queues=list(queues))
        pause.reset()
        watch = asyncio.create_task(
            self._watch(connection, channel, list(queues)), name=f"{self._component} watchdog"
        )
        stopping = asyncio.create_task(self._stopping.wait(), name=f"{self._component} stop")
        try:
            ends: set[asyncio.Future[Any]] = {watch, stopping, cancelled, channel.closing}
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done:
                await self._drain(channel, list(queues))
            elif cancelled in done:
                msg = f"the broker cancelled the consumer {cancelled.result()}"
                raise ConsumerLostError(msg)
            elif watch in done:
                await watch
            else:
                msg = f"the channel was closed: {_why(channel)}"
                raise BrokerUnavailableError(msg)
        finally:
            for task in (watch, stopping):
                task.cancel()
            await asyncio.gather(watch, stopping, return_exceptions=True)

    async def _drain(self, channel: Channel, queues: Sequence[str]) -> None:
        """Stop the deliveries and keep the channel for the acknowledgements of those that were made."""
        self._health.unready(self._component, "stopping")
        with suppress(BrokerUnavailableError, *CONNECTION_ERRORS), translate_errors():
            async with asyncio.timeout(RPC_SECONDS):
                for queue in queues:
                    await channel.basic_cancel(queue)
        self._stopped.set()
        await self._released.wait()

    async def _watch(self, connection: AbstractConnection, channel: Channel, queues: Sequence[str]) -> None:
        """End with an exception when a queue has no consumer any more; note the queues' depths."""
        looking = await open_channel(connection)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for queue in queues:
                async with asyncio.timeout(RPC_SECONDS):
                    answer = await looking.queue_declare(queue, passive=True)
                self._metrics.saw_queue(queue, answer.message_count or 0)
                if not answer.consumer_count or queue not in channel.consumers:
                    msg = f"the queue {queue} has no consumer any more"
                    raise ConsumerLostError(msg)
            await self._measure_other_queues(
                connection, [queue for queue in DEAD_LETTER_QUEUES if queue not in queues]
            )

    async def _measure_other_queues(self, connection: AbstractConnection, queues: Sequence[str]) -> None:
        """Update the depths of queues that somebody else consumes, or nobody.

        A queue that does not exist is left out. An error here ends nothing: the next look at the consumer's own queues
        finds a lost connection.
        """
        with suppress(BrokerUnavailableError, *CONNECTION_ERRORS), translate_errors():
            for queue in queues:
                depth = await measure(connection, queue)
                if depth.messages is not None:
                    self._metrics.saw_queue(queue, depth.messages)

    def _lost(self, reason: str) -> None:
        self._metrics.queues_unknown([*self._handlers, *self._takers])
        if self._health.unready(self._component, reason):
            log.error("consumer.lost", component=self._component, reason=reason)
        elif reason != self._last_reason:
            log.warning("consumer.waiting", component=self._component, reason=reason)
        self._last_reason = reason


def _why(channel: Channel) -> str:
    closing = channel.closing
    if closing.cancelled():
        return "it was cancelled"
    exc = closing.exception()
    return describe(exc) if exc else "no reason was given"


async def _never_called(message: DeliveredMessage) -> None:
    """What aiormq is told to call for a consumer whose deliveries it never sees."""
    msg = f"a delivery of {len(message.body)} bytes was not taken out of the stream"
    raise AssertionError(msg)
