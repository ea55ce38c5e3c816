"""Reading the log of events: a stream of the broker, from any offset on, a batch at a time.

An offset is the place of an event in the log, from 0 on. Reading takes nothing away, so that any number may read. The
log keeps events for some days; who comes later reads on from the oldest that there is, and sees a gap in the offsets.
Streams may filter on the broker from RabbitMQ 3.13 on, by one value that the publisher has set: the wallet runs on
3.10 too, and whoever reads asks for more than one value, so readers filter.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity

from wallet_schemas.names import EVENT_LOG
from wallet_worker.broker.amqp.deliveries import InterceptingTransport, RawDelivery
from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    close,
    connect,
    describe,
    open_channel,
    translate_errors,
)

PREFETCH: Final = 500  # unacknowledged at most; a batch is acknowledged when the next is asked for
LAST: Final = "last"
_OFFSET: Final = "x-stream-offset"

log = structlog.get_logger(__name__)


class LoggedEvent(NamedTuple):
    """One event as the log has it."""

    offset: int
    routing_key: str
    body: bytes


class Reader:
    """Events as they come, in the order of the log."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._events: list[LoggedEvent] = []
        self._tag = 0
        self._has_more = asyncio.Event()
        self._lost: str | None = None

    async def next(self, seconds: float | None = None) -> list[LoggedEvent]:
        """Return what has come, at least one event; none when the time is over. The events before it are done with.

        Raises BrokerUnavailableError when the connection or the log is gone.
        """
        if self._tag:
            tag, self._tag = self._tag, 0
            with _lost_connection():
                await self._channel.basic_ack(tag, multiple=True, wait=False)
        try:
            async with asyncio.timeout(seconds):
                await self._has_more.wait()
        except TimeoutError:
            return []
        if not self._events and self._lost is not None:
            raise BrokerUnavailableError(self._lost)
        events, self._events = self._events, []
        if self._lost is None:
            self._has_more.clear()
        return events

    def take(self, delivery: RawDelivery) -> None:
        """Keep a delivery for whoever reads."""
        offset = (delivery.properties.headers or {}).get(_OFFSET)
        self._tag = delivery.delivery_tag
        if isinstance(offset, int):
            self._events.append(LoggedEvent(offset, delivery.routing_key, delivery.body))
            self._has_more.set()

    def lose(self, reason: str) -> None:
        """Tell whoever reads that nothing more comes."""
        self._lost = self._lost or reason
        self._has_more.set()


class EventLog:
    """The log on one connection, which is made when it is first read and anew when it was lost."""

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: AbstractConnection | None = None
        self._deliveries = InterceptingTransport()
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)

    @asynccontextmanager
    async def reader(self, offset: int | str, *, prefetch: int = PREFETCH) -> AsyncIterator[Reader]:
        """Give a reader from an offset on, or from the last events that were written, if it is `LAST`.

        Raises BrokerUnavailableError. An offset that is no longer kept means the oldest that is.
        """
        channel = await self._channel()
        reader = Reader(channel)
        channel.closing.add_done_callback(
            lambda _: reader.lose("the channel to the log of events was closed")
        )
        channel.on_consumer_cancel_callbacks.add(lambda _: reader.lose("the log of events was deleted"))
        tag = f"{EVENT_LOG}-{channel.number}"
        try:
            self._deliveries.intercept(channel, {tag: reader.take})
            try:
                with _lost_connection():
                    async with asyncio.timeout(RPC_SECONDS):
                        await channel.basic_qos(prefetch_count=prefetch)
                        await channel.basic_consume(
                            EVENT_LOG, _never_called, consumer_tag=tag, arguments={_OFFSET: offset}
                        )
            except ChannelNotFoundEntity as exc:
                raise BrokerUnavailableError(_no_log()) from exc
            yield reader
        finally:
            await _close_channel(channel)

    async def _channel(self) -> Channel:
        async with self._connecting:
            connection = self._connection
            if connection is None or connection.is_closed:
                self._deliveries = InterceptingTransport()
                connection = self._connection = await connect(self._url, self._name, self._deliveries)
        return await open_channel(connection)


def _no_log() -> str:
    return f"the broker has no log of events ({EVENT_LOG}): `wallet topology apply` makes it"


@contextmanager
def _lost_connection() -> Iterator[None]:
    """Raise BrokerUnavailableError where the connection was lost; a log that is not there goes through."""
    try:
        with translate_errors():
            yield
    except ChannelNotFoundEntity:
        raise
    except CONNECTION_ERRORS as exc:
        raise BrokerUnavailableError(f"the log of events cannot be read: {describe(exc)}") from exc


async def _close_channel(channel: Channel) -> None:
    try:
        with translate_errors():
            async with asyncio.timeout(RPC_SECONDS):
                await channel.close()
    except (BrokerUnavailableError, *CONNECTION_ERRORS) as exc:
        log.debug("event_log.channel_lost", reason=describe(exc))


async def _never_called(message: DeliveredMessage) -> None:
    """What aiormq is told to call for a consumer whose deliveries it never sees."""
    msg = f"a delivery was not taken out of the stream: {message.delivery!r}"
    raise AssertionError(msg)
