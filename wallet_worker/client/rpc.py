"""Calls to the wallet over the broker: one message sent, and the reply to it.

Thousands of calls may be under way at once. Replies come by RabbitMQ's direct reply-to, which needs no queue
and no permission to declare one, and are matched by correlation id alone. When the connection is lost, the
calls under way fail with what is known about them, and the next call connects anew.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

import aiormq
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_schemas.encode import encode
from wallet_schemas.message import Message
from wallet_schemas.names import CONTENT_TYPE, WALLET_COMMANDS, WALLET_QUERIES, routing_key
from wallet_worker.backoff import Backoff
from wallet_worker.broker.addresses import login_of
from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    close,
    connect,
    describe,
    open_channel,
)

UNCONFIRMED_MAX: Final = 500  # more buys no speed, and is what is unknown after a lost connection
REOPEN_SECONDS: Final = 2.0  # a queue that is full refuses as well, and another channel changes nothing
_SLOT_PATIENCE: Final = (
    10  # a broker that is only slow confirms others meanwhile, one that is away does not answer
)
_DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
_PERSISTENT: Final = 2

# The library speaks as libraries do, so that it asks no logging set-up of the service around it.
log = logging.getLogger(__name__)

Answer = TypeVar("Answer", bound=Message)


class PublishFailed(Exception):  # noqa: N818 -- named after what is known
    """The broker does not have the message, for sure."""


class _Refused(PublishFailed):
    """The broker has refused the message with a nack, and perhaps all that comes by this channel."""


class ReplyTimeout(Exception):  # noqa: N818 -- see PublishFailed
    """The broker may have the message, and no reply came. `confirmed`: it has the message, on disk."""

    def __init__(self, message: str, *, confirmed: bool = False) -> None:
        super().__init__(message)
        self.confirmed = confirmed


class OutgoingMessage(NamedTuple):
    """A message as it is published: its bytes, its routing key, and the headers beside it."""

    body: bytes
    routing_key: str
    headers: Mapping[str, str] | None = None


class Depth(NamedTuple):
    """What waits in a queue, and how many read it."""

    messages: int
    consumers: int


@dataclass(slots=True, eq=False)
class _Call(Generic[Answer]):
    """One message that was sent, and the reply to it: absent when the connection was lost before it came.

    `read` raises ValueError for what is no reply to this message.
    """

    read: Callable[[bytes], Answer]
    reply: asyncio.Future[Answer | None]

    @property
    def answer(self) -> Answer | None:
        """The reply, as far as it has come."""
        return self.reply.result() if self.reply.done() and not self.reply.cancelled() else None

    def accept(self, body: bytes) -> None:
        """Parse the reply. Raises ValueError if it is not a reply."""
        answer = self.read(body)
        if not self.reply.done():
            self.reply.set_result(answer)

    def lose(self) -> None:
        """Wait no longer."""
        if not self.reply.done():
            self.reply.set_result(None)


@dataclass(slots=True, eq=False)
class _Session:
    """One connection and its channel, and the calls that wait for a reply on it."""

    connection: AbstractConnection
    channel: Channel
    looking: Channel | None = None  # for what closes its channel when it fails
    waiting: dict[str, _Call[Any]] = field(default_factory=dict)
    publishing: int = 0  # messages that are sent, and neither confirmed nor refused
    is_refused: bool = False  # nothing more is sent on it

    @property
    def takes(self) -> bool:
        """Whether messages may be sent on it, as far as it is known."""
        return not self.channel.is_closed and not self.is_refused

    async def ready(self) -> None:
        """Wait while the broker takes nothing, for want of memory or disk: what is not sent is not unknown."""
        transport = self.connection.transport
        if transport is not None:
            await transport.connection.ready()

    async def on_reply(self, delivery: DeliveredMessage) -> None:
        """Hand the reply to the call that it answers; what answers none is noted and forgotten."""
        correlation_id = delivery.header.properties.correlation_id
        call = self.waiting.get(correlation_id or "")
        if call is None:
            # Ordinary after a time-out: the outcome came when nobody waited any more.
            log.info("a reply that nobody waits for was ignored, its correlation_id is %.80r", correlation_id)
            return
        try:
            call.accept(delivery.body)
        except ValueError as exc:
            log.warning("a reply that is none was ignored: %.300r", str(exc))

    def on_lost(self, _: object) -> None:
        """Fail every waiting call: no reply can come any more."""
        for call in self.waiting.values():
            call.lose()


class Rpc:
    """Calls on one connection at a time. `name` is what operators see in the broker's list.

    It connects only where all `exchanges` are there.
    """

    def __init__(
        self,
        amqp_url: str,
        *,
        name: str,
        exchanges: Sequence[str] = (WALLET_COMMANDS, WALLET_QUERIES),
    ) -> None:
        self._url = amqp_url
        self._name = name
        self._exchanges = tuple(exchanges)
        self._session: _Session | None = None
        self._left: set[_Session] = set()  # no longer sent on, and calls wait on them
        self._refused_at = -REOPEN_SECONDS
        self._connecting = asyncio.Lock()
        self._unconfirmed = asyncio.Semaphore(UNCONFIRMED_MAX)
        self._closing = asyncio.Event()
        self._failure: str | None = None  # why there is no connection, where there is none
        self._prefix = secrets.token_hex(8)
        self._calls = 0

    async def open(self) -> None:
        """Connect; raises BrokerUnavailableError, or WrongUrlError for a text that is not the address of a broker."""
        self._closing.clear()
        await self._connect()

    async def close(self) -> None:
        """Calls that are still under way fail with what is known about them."""
        self._closing.set()
        session, self._session = self._session, None
        if session is not None:
            session.on_lost(None)
            await close(session.connection)
        for left in list(self._left):
            left.on_lost(None)
            await close(left.connection)

    def stop_waiting(self) -> None:
        """Calls that wait for a reply fail with what is known about them, at once if the broker has their message."""
        for session in (self._session, *self._left):
            if session is not None:
                session.on_lost(None)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as it is known."""
        return self._session is not None and not self._session.channel.is_closed

    @property
    def failure(self) -> str | None:
        """Why the last try to connect failed; None while connected."""
        return self._failure

    async def reconnect(self, seconds: float) -> None:
        """Be connected, within so many seconds; raises PublishFailed."""
        try:
            async with asyncio.timeout(seconds):
                await self._open_session()
        except TimeoutError:
            raise PublishFailed(self._failure or f"the broker did not answer within {seconds:g} s") from None

    async def depth(self, queue: str, seconds: float = RPC_SECONDS) -> Depth:
        """Return what waits in a queue; raises BrokerUnavailableError. It needs no permission for the queue."""
        session = self._session
        if session is None or session.channel.is_closed:
            raise BrokerUnavailableError(self._failure or "there is no connection to the broker")
        try:
            async with asyncio.timeout(seconds):
                if session.looking is None or session.looking.is_closed:
                    session.looking = await open_channel(session.connection, confirms=False)
                found = await session.looking.queue_declare(queue, passive=True)
        except CONNECTION_ERRORS as exc:
            raise BrokerUnavailableError(f"the queue {queue} cannot be looked at: {describe(exc)}") from exc
        return Depth(found.message_count or 0, found.consumer_count or 0)

    async def call(
        self,
        exchange: str,
        message: Message | OutgoingMessage,
        read: Callable[[bytes], Answer],
        seconds: float,
        *,
        take_seconds: float | None = None,
    ) -> Answer:
        """Publish, and return the reply that `read` accepts, in time; raises PublishFailed or ReplyTimeout.

        What the broker cannot take within `take_seconds`, where that is given, is not sent.
        """
        correlation_id = self._next_id()
        call = _Call(read, asyncio.get_running_loop().create_future())
        publication = _publication(message)
        session: _Session | None = None
        confirmed = False
        try:
            async with asyncio.timeout(seconds):
                async with self._slot(take_seconds) as found:
                    session = found
                    session.waiting[correlation_id] = call
                    await _publish(
                        session.channel,
                        exchange,
                        publication,
                        correlation_id,
                        _DIRECT_REPLY_TO,
                        login=login_of(self._url),
                    )
                    confirmed = True
                await call.reply
        except TimeoutError:
            if session is None:
                raise PublishFailed(
                    self._failure or f"the broker took nothing within {seconds:g} s"
                ) from None
            if call.answer is None:
                raise ReplyTimeout(f"no answer came within {seconds:g} s", confirmed=confirmed) from None
        except ReplyTimeout:
            if call.answer is None:  # else the reply was quicker than the confirm that was lost
                raise
        finally:
            if session is not None:
                del session.waiting[correlation_id]
                if session in self._left:
                    await self._let_go(session)
        answer: Answer | None = call.answer
        if answer is None:
            raise ReplyTimeout("the connection to the broker was lost", confirmed=confirmed)
        return answer

    async def send(
        self,
        exchange: str,
        message: Message | OutgoingMessage,
        seconds: float,
        *,
        take_seconds: float | None = None,
    ) -> None:
        """Publish, and return once the broker has it; raises PublishFailed or ReplyTimeout.

        For `take_seconds` see `call`.
        """
        sent = False
        publication = _publication(message)
        try:
            async with asyncio.timeout(seconds), self._slot(take_seconds) as session:
                sent = True
                await _publish(
                    session.channel, exchange, publication, self._next_id(), None, login=login_of(self._url)
                )
        except TimeoutError:
            if sent:
                raise ReplyTimeout(f"the broker did not confirm within {seconds:g} s") from None
            raise PublishFailed(self._failure or f"the broker took nothing within {seconds:g} s") from None

    @asynccontextmanager
    async def _slot(self, seconds: float | None) -> AsyncIterator[_Session]:
        """Give a session that takes a message now, until it is confirmed; raises PublishFailed after so long."""
        patience = None if seconds is None else seconds * _SLOT_PATIENCE
        try:
            async with asyncio.timeout(patience):
                await self._unconfirmed.acquire()
        except TimeoutError:
            raise PublishFailed(f"the broker confirmed nothing within {patience:g} s") from None
        try:
            session = await self._session_that_takes(seconds)
            session.publishing += 1
            try:
                yield session
            except _Refused:
                self._note_refusal(session)
                raise
            finally:
                session.publishing -= 1
                if session in self._left:
                    await self._let_go(session)
        finally:
            self._unconfirmed.release()

    async def _session_that_takes(self, seconds: float | None) -> _Session:
        """Return a session that takes a message now; raises PublishFailed after so long."""
        try:
            async with asyncio.timeout(seconds):
                session = await self._open_session()
                await session.ready()
                return session
        except TimeoutError:
            raise PublishFailed(self._failure or f"the broker took nothing within {seconds:g} s") from None

    def _note_refusal(self, session: _Session) -> None:
        """Send nothing more on the session, unless another was opened for that just now.

        A channel that first publishes while a cluster chooses a leader anew is refused everything for as long as the
        node that led before is away, and another channel is not (seen on RabbitMQ 3.10).
        """
        now = asyncio.get_running_loop().time()
        if now - self._refused_at >= REOPEN_SECONDS:
            self._refused_at = now
            session.is_refused = True

    async def _let_go(self, session: _Session) -> None:
        """Close a session. Where calls still wait on it, the last of them closes it."""
        if session.waiting or session.publishing:
            self._left.add(session)
            return
        self._left.discard(session)
        await close(session.connection)

    def _next_id(self) -> str:
        self._calls += 1
        return f"{self._prefix}-{self._calls}"

    # The connection

    async def _open_session(self) -> _Session:
        """Return the session, a new one if the last was lost; tries until the caller's time is over."""
        session = self._session
        if session is not None and session.takes:
            return session
        async with self._connecting:
            pause = Backoff()
            while not self._closing.is_set():
                if self._session is not None and self._session.takes:
                    return self._session  # another call was waiting for it too
                try:
                    return await self._connect()
                except BrokerUnavailableError as exc:
                    self._failure = str(exc)
                    await pause.wait(self._closing)
        raise PublishFailed("the client is closed")

    async def _connect(self) -> _Session:
        """Return a new session, ready for replies; raises WrongUrlError or BrokerUnavailableError."""
        last, self._session = self._session, None
        if last is not None:
            await self._let_go(last)
        connection = await connect(self._url, self._name)
        try:
            channel = await open_channel(connection, confirms=True)
            session = _Session(connection, channel)
            # SentCommand for now, because the broker would close the channel with the calls of others on it.
            async with asyncio.timeout(RPC_SECONDS):
                for exchange in self._exchanges:
                    await channel.exchange_declare(exchange, passive=True)
                channel.closing.add_done_callback(session.on_lost)
                await channel.basic_consume(_DIRECT_REPLY_TO, session.on_reply, no_ack=True)
        except BaseException as exc:
            await close(connection)
            if isinstance(exc, aiormq.exceptions.ChannelNotFoundEntity):
                msg = f"the broker has no wallet (`wallet topology apply`?): {exc}"
                raise BrokerUnavailableError(msg) from exc
            if isinstance(exc, CONNECTION_ERRORS):
                msg = f"the connection to the broker was lost: {describe(exc)}"
                raise BrokerUnavailableError(msg) from exc
            raise
        self._session, self._failure = session, None
        return session


def _publication(message: Message | OutgoingMessage) -> OutgoingMessage:
    return (
        message
        if isinstance(message, OutgoingMessage)
        else OutgoingMessage(encode(message), routing_key(message.type))
    )


async def _publish(
    channel: Channel,
    exchange: str,
    message: OutgoingMessage,
    correlation_id: str,
    reply_to: str | None,
    *,
    login: str,
) -> None:
    """Return once the broker has the message; raises PublishFailed or ReplyTimeout."""
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        await channel.basic_publish(
            message.body,
            exchange=exchange,
            routing_key=message.routing_key,
            properties=Basic.Properties(
                content_type=CONTENT_TYPE,
                delivery_mode=_PERSISTENT,
                # Each call publishes once, so what is unique for the call is unique for the publish.
                message_id=correlation_id,
                correlation_id=correlation_id,
                reply_to=reply_to,
                user_id=login,
                headers=dict(message.headers) if message.headers else None,
            ),
            mandatory=True,
            wait=False,
        )
    except aiormq.exceptions.PublishError as exc:
        raise PublishFailed(f"the broker has no queue for it: {describe(exc)}") from exc
    except aiormq.exceptions.DeliveryError as exc:
        raise _Refused(f"the broker did not take it: {describe(exc)}") from exc
    except aiormq.exceptions.ChannelInvalidStateError as exc:
        raise PublishFailed("the connection to the broker was lost") from exc
    except asyncio.CancelledError as exc:
        if task is None or task.cancelling() > cancellations:
            raise
        # aiormq ends what waits on a lost connection with CancelledError: nobody has cancelled this task.
        raise ReplyTimeout("the connection to the broker was lost") from exc
    except CONNECTION_ERRORS as exc:
        if _is_forbidden(exc, exchange, message.routing_key):
            raise PublishFailed(f"this user of the broker may not send it: {describe(exc)}") from exc
        raise ReplyTimeout(f"the connection to the broker was lost: {describe(exc)}") from exc


def _is_forbidden(exc: BaseException, exchange: str, routing_key: str) -> bool:
    """Return whether the broker refused this very message, and did not only close the channel over another one.

    Its text names the routing key where topics are bounded, else the exchange: what went before with the same names
    was refused too.
    """
    if not isinstance(exc, aiormq.exceptions.ChannelAccessRefused):
        return False
    text = str(exc)
    return f"topic '{routing_key}'" in text if "topic '" in text else f"exchange '{exchange}'" in text
