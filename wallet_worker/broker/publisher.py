"""Publishing with confirms, on a connection of its own: a broker's alarm stops reading from it, and it alone."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TypeAlias
from uuid import UUID

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel

from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_DEAD_LETTERS
from wallet_worker.backoff import Backoff
from wallet_worker.broker.amqp.confirms import Publication, fresh_message_id, publish_all
from wallet_worker.broker.amqp.properties import marshal, outgoing, unmarshal
from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    BrokerUnavailableError,
    close,
    connect,
    describe,
    open_channel,
    translate_errors,
)
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics

PUBLISH_SECONDS = (
    8.0  # below outbox.RELAY_AFTER: when another worker may publish a row, this one no longer tries
)
REOPEN_SECONDS = 2.0  # a queue that is full refuses as well, and another channel changes nothing
UNCONFIRMED_MAX = 500  # more buys no speed, and is what is unknown after a lost connection

_MANDATORY = frozenset({PAYMENT_REQUESTS, WALLET_DEAD_LETTERS})
"""Where nobody listening is an error. Events may have no subscriber, and whoever asked may be gone."""

Sign: TypeAlias = Callable[[bytes], str | None]
"""Returns the header that proves a payment request to a gateway, if the wallet has a key."""

log = structlog.get_logger(__name__)


def _unsigned(_: bytes) -> None:
    return None


class Publisher:
    """A connection that is kept up while `run` runs, with one channel for each exchange.

    An exchange that is missing closes the channel that published to it, and no other.
    """

    def __init__(self, url: str, health: Health, metrics: Metrics, sign: Sign = _unsigned) -> None:
        self._url = url
        self._sign = sign
        self._health = health
        self._metrics = metrics
        self._connection: AbstractConnection | None = None
        self._channels: dict[str, Channel] = {}
        self._reopened: dict[str, float] = {}
        self._last_reason = ""
        self._opening = asyncio.Lock()
        self._alone = asyncio.Lock()  # dead letters: see _chunks

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep the connection up until `stopping` is set; then it is left open for `close`."""
        pause = Backoff()
        while not stopping.is_set():
            try:
                connection = await connect(self._url, "wallet worker: publisher")
            except BrokerUnavailableError as exc:
                self._lost(str(exc))
                await pause.wait(stopping)
                continue
            self._connection, self._channels = connection, {}
            self._health.ready("publisher")
            pause.reset()
            stop = asyncio.create_task(stopping.wait(), name="publisher stop")
            closed = asyncio.ensure_future(connection.closed())
            transport = connection.transport
            lost = transport.connection.closing if transport else closed
            await asyncio.wait({stop, closed, lost}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not stopping.is_set():
                self._connection = None
                self._lost("the connection was closed")
                await close(connection)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await close(self._connection)

    async def publish(self, rows: Sequence[OutboxMessage]) -> set[UUID]:
        """Return the ids of those that the broker has confirmed; of the others nothing is known.

        Takes at most about PUBLISH_SECONDS. Never raises: what is not confirmed stays in the outbox.
        """
        by_exchange: defaultdict[str, list[OutboxMessage]] = defaultdict(list)
        for row in rows:
            by_exchange[row.exchange].append(row)
        published = await asyncio.gather(
            *(self._publish_to(exchange, group) for exchange, group in by_exchange.items())
        )
        return set().union(*published)

    async def _publish_to(self, exchange: str, rows: Sequence[OutboxMessage]) -> set[UUID]:
        confirmed: set[UUID] = set()
        failure: str | None = None
        alone = self._alone if rows[0].properties is not None else nullcontext()
        try:
            with translate_errors():
                async with asyncio.timeout(PUBLISH_SECONDS), alone:
                    for chunk in _chunks(rows):
                        failure = await self._publish_chunk(exchange, chunk, confirmed) or failure
        except (BrokerUnavailableError, *CONNECTION_ERRORS) as exc:
            failure = describe(exc)
        self._metrics.published.labels(exchange=exchange).inc(len(confirmed))
        if failure is not None:
            missing = len(rows) - len(confirmed)
            self._metrics.publish_failures.labels(exchange=exchange).inc(missing)
            log.error("publish.unconfirmed", exchange=exchange, messages=missing, reason=failure)
        return confirmed

    async def _publish_chunk(
        self, exchange: str, rows: Sequence[OutboxMessage], confirmed: set[UUID]
    ) -> str | None:
        """Publish, adding to `confirmed` also when it is cut off; return why some were not, if so."""
        channel = await self._channel(exchange)
        sending = await publish_all(channel, [_publication(row, self._sign) for row in rows])
        failure: str | None = None
        try:
            await sending.wait()
        finally:
            for row, why_not in zip(rows, sending.failures(), strict=True):
                if why_not is None:
                    confirmed.add(row.message_id)
                else:
                    failure = why_not
        if sending.is_refused:
            await self._reopen(exchange, channel)
        return failure

    async def _reopen(self, exchange: str, channel: Channel) -> None:
        """Close the channel, so that the next messages go over another, unless that was done just now.

        A channel that first publishes while a cluster chooses a leader anew is refused everything for as long as the
        node that led before is away, and another channel of the same connection is not (seen on RabbitMQ 3.10).
        """
        now = asyncio.get_running_loop().time()
        if now - self._reopened.get(exchange, -REOPEN_SECONDS) < REOPEN_SECONDS:
            return
        self._reopened[exchange] = now
        if self._channels.get(exchange) is channel:
            del self._channels[exchange]
        log.warning("publisher.refused", exchange=exchange)
        with suppress(BrokerUnavailableError, *CONNECTION_ERRORS), translate_errors():
            await channel.close()

    async def _channel(self, exchange: str) -> Channel:
        async with self._opening:
            channel = self._channels.get(exchange)
            if channel is not None and not channel.is_closed:
                return channel
            if self._connection is None:
                msg = "there is no connection to the broker"
                raise BrokerUnavailableError(msg)
            self._channels[exchange] = channel = await open_channel(self._connection, confirms=True)
            return channel

    def _lost(self, reason: str) -> None:
        if self._health.unready("publisher", reason):
            log.error("publisher.lost", reason=reason)
        elif reason != self._last_reason:
            log.warning("publisher.waiting", reason=reason)
        self._last_reason = reason


def _chunks(rows: Sequence[OutboxMessage]) -> list[Sequence[OutboxMessage]]:
    """Return the rows in parts that may be unconfirmed at the same time.

    A dead letter keeps the message_id that a stranger gave it, and a returned message is matched by its
    message_id alone: each goes by itself, or one could be taken for another.
    """
    if rows[0].properties is not None:
        return [rows[number : number + 1] for number in range(len(rows))]
    return [rows[start : start + UNCONFIRMED_MAX] for start in range(0, len(rows), UNCONFIRMED_MAX)]


def _publication(row: OutboxMessage, sign: Sign) -> Publication:
    """Return one attempt to publish a row; ours have a fresh message_id, because returns are matched by it."""
    if row.properties is None:
        message_id = fresh_message_id()
        # When it is published, so that its time is the moment when it is said: published again, it is signed again.
        signature = sign(row.body) if row.exchange == PAYMENT_REQUESTS else None
        properties = outgoing(message_id, row.correlation_id, row.traceparent, signature)
    else:
        parsed = unmarshal(row.properties)
        message_id = parsed.message_id = parsed.message_id or fresh_message_id()
        properties = marshal(parsed)
    mandatory = row.exchange in _MANDATORY
    return Publication(row.exchange, row.routing_key, mandatory, message_id, properties, row.body)
