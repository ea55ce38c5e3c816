"""A client for services that use the wallet: call a method, get the outcome.

    async with WalletClient("amqp://user:password@host/") as wallet:
        outcome = await wallet.recharge("alice", "100.00", "TWD", "card", serial_no="R-1")

Every command can be called again with the same serial number, after whatever went wrong: it has one effect,
and every call gets the same outcome. Choose the number, and store it, before the first call.

Thousands of calls may be under way on one client. Replies come by RabbitMQ's direct reply-to, which needs no
queue and no permission to declare one, and are matched by correlation id alone. When the connection is lost,
the calls under way fail with what is known about them, and the next call connects anew.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Annotated, Any, Final, Generic, Self, TypeVar

import aiormq
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic
from pydantic import Field, TypeAdapter

from schemas.codes import Code
from schemas.commands import Command, OpenAccount, Outcome, Recharge
from schemas.encode import encode
from schemas.message import Message
from schemas.names import (
    CONTENT_TYPE,
    DEFAULT_ACCOUNT_TYPE,
    WALLET_COMMANDS,
    WALLET_QUERIES,
    routing_key,
)
from schemas.queries import (
    AccountList,
    GetAccount,
    GetOrder,
    GetStatement,
    OrderDetail,
    QueryRefused,
    Statement,
)
from schemas.values import STATEMENT_LINES_DEFAULT, STATEMENT_LINES_MAX, OrderStatus
from wallet_worker.broker.connection import (
    FAILURES,
    RPC_SECONDS,
    BrokerUnavailableError,
    close,
    connect,
    open_channel,
    said,
)
from wallet_worker.pause import Pause

__all__ = [
    "NotAcceptedError",
    "NotSettledError",
    "OutcomeUnknownError",
    "QueryRefusedError",
    "UnansweredError",
    "WalletClient",
    "WalletError",
    "new_serial_no",
]

TIMEOUT_SECONDS: Final = 10.0
UNCONFIRMED_MAX: Final = 500  # more buys no speed, and is what is unknown after a lost connection
SETTLED_POLL_SECONDS: Final = (
    0.05  # a card takes about a second; doubled each time, so that hours cost little
)
SETTLED_POLL_SECONDS_MAX: Final = 2.0
_DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
_PERSISTENT: Final = 2

# The library speaks as libraries do, so that it asks no logging set-up of the service around it.
log = logging.getLogger(__name__)


class WalletError(Exception):
    """The wallet was asked and there is no answer to return; the text is for a person."""


class NotAcceptedError(WalletError):
    """It never reached the wallet, so nothing was done: the broker is away, or did not take it.

    `serial_no` is that of the command, and absent for a query.
    """

    def __init__(self, message: str, serial_no: str | None = None) -> None:
        super().__init__(message)
        self.serial_no = serial_no


class OutcomeUnknownError(WalletError):
    """The command was sent and no outcome came: it may have been applied, may be later, or never.

    Call again with the same `serial_no`, as often as you like, until there is an outcome.
    """

    def __init__(self, message: str, serial_no: str) -> None:
        super().__init__(f"{message}; send it again with the same serial number {serial_no}")
        self.serial_no = serial_no


class UnansweredError(WalletError):
    """A query was sent and no answer came. It changes nothing: ask again."""


class QueryRefusedError(WalletError):
    """The wallet cannot answer the query; `code` says why."""

    def __init__(self, refusal: QueryRefused) -> None:
        super().__init__(f"{refusal.code}: {refusal.message}")
        self.code: Code = refusal.code


class NotSettledError(WalletError):
    """The order still waited for the payment gateway when the time was over; `order` is how it stood."""

    def __init__(self, order: OrderDetail) -> None:
        super().__init__(f"the order {order.outcome.serial_no} still waits for its payment")
        self.order = order


def new_serial_no() -> str:
    """Return a serial number that nobody else has; later ones sort after earlier ones."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}"


Answer = TypeVar("Answer", bound=Message)

_OUTCOME: Final = TypeAdapter(Outcome)
_ACCOUNTS: Final[TypeAdapter[AccountList | QueryRefused]] = TypeAdapter(
    Annotated[AccountList | QueryRefused, Field(discriminator="type")]
)
_ORDER: Final[TypeAdapter[OrderDetail | QueryRefused]] = TypeAdapter(
    Annotated[OrderDetail | QueryRefused, Field(discriminator="type")]
)
_STATEMENT: Final[TypeAdapter[Statement | QueryRefused]] = TypeAdapter(
    Annotated[Statement | QueryRefused, Field(discriminator="type")]
)


class _NotSent(Exception):  # noqa: N818 -- both become public errors, with what they are about
    """The broker does not have the message, for sure."""


class _NoReply(Exception):  # noqa: N818
    """The broker may have the message, and no reply came."""


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
        """Have the reply; raises ValueError if it is none."""
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
    waiting: dict[str, _Call[Any]] = field(default_factory=dict)

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
        """Let every waiting call know that no reply can come any more."""
        for call in self.waiting.values():
            call.lose()


class WalletClient:
    """Sends commands and queries, and waits for what the wallet says.

    Each call ends within `timeout_seconds`, or within its own. `name` is what operators see in the broker's list.
    """

    def __init__(
        self, amqp_url: str, *, timeout_seconds: float = TIMEOUT_SECONDS, name: str = "wallet client"
    ) -> None:
        self._url = amqp_url
        self._timeout_seconds = timeout_seconds
        self._name = name
        self._session: _Session | None = None
        self._connecting = asyncio.Lock()
        self._unconfirmed = asyncio.Semaphore(UNCONFIRMED_MAX)
        self._closing = asyncio.Event()
        self._failure: str | None = None  # why there is no connection, where there is none
        self._prefix = secrets.token_hex(8)
        self._calls = 0

    async def __aenter__(self) -> Self:
        """Be connected; raises NotAcceptedError, or WrongUrlError for what is no address of a broker."""
        self._closing.clear()
        try:
            await self._connect()
        except BrokerUnavailableError as exc:
            raise NotAcceptedError(str(exc)) from exc
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Calls that are still under way fail with what is known about them."""
        self._closing.set()
        session, self._session = self._session, None
        if session is not None:
            session.on_lost(None)
            await close(session.connection)

    # Commands

    async def open_account(
        self,
        user_id: str,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        serial_no: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Outcome:
        """Open an account and return the outcome; see `apply` for what is raised."""
        command = OpenAccount(
            serial_no=serial_no or new_serial_no(),
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            metadata=None if metadata is None else dict(metadata),
        )
        return await self.apply(command, timeout_seconds=timeout_seconds)

    async def recharge(
        self,
        user_id: str,
        amount: str,
        currency: str,
        recharge_type: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        serial_no: str | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Outcome:
        """Order a recharge and return the outcome, which says that the order is pending; see `apply`.

        The money comes later: `settled` waits for it, and events tell of it.
        """
        command = Recharge(
            serial_no=serial_no or new_serial_no(),
            user_id=user_id,
            account_type=account_type,
            amount=amount,
            currency=currency,
            recharge_type=recharge_type,
            metadata=None if metadata is None else dict(metadata),
        )
        return await self.apply(command, timeout_seconds=timeout_seconds)

    async def apply(self, command: Command, *, timeout_seconds: float | None = None) -> Outcome:
        """Send a command and return its outcome, also where that is a refusal: look at `outcome.status`.

        Raises NotAcceptedError if nothing was done, and OutcomeUnknownError if that is not known. Both have the
        serial number, with which it is safe to call again. A command that is malformed raises pydantic's
        ValidationError, a ValueError, when it is made.
        """

        def read(body: bytes) -> Outcome:
            outcome = _OUTCOME.validate_json(body)
            if outcome.serial_no != command.serial_no:
                raise ValueError("it speaks of another serial number")
            return outcome

        try:
            return await self._call(WALLET_COMMANDS, command, read, timeout_seconds)
        except _NotSent as exc:
            raise NotAcceptedError(str(exc), command.serial_no) from exc
        except _NoReply as exc:
            raise OutcomeUnknownError(str(exc), command.serial_no) from exc

    async def submit(self, command: Command, *, timeout_seconds: float | None = None) -> None:
        """Send a command and return when the broker has it, without waiting for the outcome.

        Raises NotAcceptedError and OutcomeUnknownError, as `apply` does.
        """
        try:
            await self._send(WALLET_COMMANDS, command, timeout_seconds)
        except _NotSent as exc:
            raise NotAcceptedError(str(exc), command.serial_no) from exc
        except _NoReply as exc:
            raise OutcomeUnknownError(str(exc), command.serial_no) from exc

    # Queries: each raises QueryRefusedError, NotAcceptedError or UnansweredError.

    async def account(
        self,
        user_id: str,
        account_type: str | None = None,
        currency: str | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> AccountList:
        """Return the accounts of a user, all or those of one type or currency; perhaps none."""
        query = GetAccount(user_id=user_id, account_type=account_type, currency=currency)
        return await self._ask(query, _ACCOUNTS, timeout_seconds)

    async def order(self, serial_no: str, *, timeout_seconds: float | None = None) -> OrderDetail:
        """Return the outcome of a serial number, and its order as it stands now."""
        return await self._ask(GetOrder(serial_no=serial_no), _ORDER, timeout_seconds)

    async def statement(
        self,
        user_id: str,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        from_time: datetime | None = None,
        to_time: datetime | None = None,
        after_line_no: int | None = None,
        limit: int = STATEMENT_LINES_DEFAULT,
        timeout_seconds: float | None = None,
    ) -> Statement:
        """Return a page of an account's entries, oldest first, and the balances before and after them."""
        query = GetStatement(
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            from_time=from_time,
            to_time=to_time,
            after_line_no=after_line_no,
            limit=limit,
        )
        return await self._ask(query, _STATEMENT, timeout_seconds)

    async def statement_pages(
        self,
        user_id: str,
        currency: str,
        account_type: str = DEFAULT_ACCOUNT_TYPE,
        *,
        from_time: datetime | None = None,
        to_time: datetime | None = None,
        after_line_no: int | None = None,
        limit: int = STATEMENT_LINES_MAX,
        timeout_seconds: float | None = None,
    ) -> AsyncIterator[Statement]:
        """Yield the pages of a statement, at least one, until the last line that there was."""
        while True:
            page = await self.statement(
                user_id,
                currency,
                account_type,
                from_time=from_time,
                to_time=to_time,
                after_line_no=after_line_no,
                limit=limit,
                timeout_seconds=timeout_seconds,
            )
            yield page
            if page.next_after_line_no is None:
                return
            after_line_no = page.next_after_line_no

    async def settled(self, serial_no: str, *, timeout_seconds: float | None = None) -> OrderDetail:
        """Return the order when it no longer waits for the gateway; one that was refused has `order` None.

        It asks again and again, a little less often each time. Events would be quicker by some milliseconds, but
        one that was published before the subscription is missed, every client would receive everybody's, and
        it would need a queue of its own; the query tells the truth whenever it is asked.
        Raises NotSettledError when the time is over (and the query that was under way then is answered), and what
        `order` raises.
        """
        loop = asyncio.get_running_loop()
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline, pause = loop.time() + seconds, SETTLED_POLL_SECONDS
        while True:
            found = await self.order(serial_no)
            if found.order is None or found.order.status is not OrderStatus.PENDING:
                return found
            left = deadline - loop.time()
            if left <= 0:
                raise NotSettledError(found)
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, SETTLED_POLL_SECONDS_MAX)

    # One call

    async def _ask(
        self, query: Message, answers: "TypeAdapter[Answer | QueryRefused]", timeout_seconds: float | None
    ) -> Answer:
        try:
            answer = await self._call(WALLET_QUERIES, query, answers.validate_json, timeout_seconds)
        except _NotSent as exc:
            raise NotAcceptedError(str(exc)) from exc
        except _NoReply as exc:
            raise UnansweredError(str(exc)) from exc
        if isinstance(answer, QueryRefused):
            raise QueryRefusedError(answer)
        return answer

    async def _call(
        self,
        exchange: str,
        message: Message,
        read: Callable[[bytes], Answer],
        timeout_seconds: float | None,
    ) -> Answer:
        """Publish, and return the reply that `read` accepts; raises _NotSent or _NoReply."""
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        correlation_id = self._next_id()
        call = _Call(read, asyncio.get_running_loop().create_future())
        session: _Session | None = None
        try:
            async with asyncio.timeout(seconds):
                async with self._unconfirmed:
                    found = await self._open_session()
                    await found.ready()
                    session = found
                    session.waiting[correlation_id] = call
                    await _publish(session.channel, exchange, message, correlation_id, _DIRECT_REPLY_TO)
                await call.reply
        except TimeoutError:
            if session is None:
                raise _NotSent(self._failure or f"the broker took nothing within {seconds:g} s") from None
            if call.answer is None:
                raise _NoReply(f"no answer came within {seconds:g} s") from None
        except _NoReply:
            if call.answer is None:  # else the reply was quicker than the confirm that was lost
                raise
        finally:
            if session is not None:
                del session.waiting[correlation_id]
        answer: Answer | None = call.answer
        if answer is None:
            raise _NoReply("the connection to the broker was lost")
        return answer

    async def _send(self, exchange: str, message: Message, timeout_seconds: float | None) -> None:
        """Publish, and return once the broker has it; raises _NotSent or _NoReply."""
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        sent = False
        try:
            async with asyncio.timeout(seconds), self._unconfirmed:
                session = await self._open_session()
                await session.ready()
                sent = True
                await _publish(session.channel, exchange, message, self._next_id(), None)
        except TimeoutError:
            if sent:
                raise _NoReply(f"the broker did not confirm within {seconds:g} s") from None
            raise _NotSent(self._failure or f"the broker took nothing within {seconds:g} s") from None

    def _next_id(self) -> str:
        self._calls += 1
        return f"{self._prefix}-{self._calls}"

    # The connection

    async def _open_session(self) -> _Session:
        """Return the session, a new one if the last was lost; tries until the caller's time is over."""
        session = self._session
        if session is not None and not session.channel.is_closed:
            return session
        async with self._connecting:
            pause = Pause()
            while not self._closing.is_set():
                if self._session is not None and not self._session.channel.is_closed:
                    return self._session  # another call was waiting for it too
                try:
                    return await self._connect()
                except BrokerUnavailableError as exc:
                    self._failure = str(exc)
                    await pause.wait(self._closing)
        raise _NotSent("the client is closed")

    async def _connect(self) -> _Session:
        """Return a new session, ready for replies; raises WrongUrlError or BrokerUnavailableError."""
        last, self._session = self._session, None
        if last is not None:
            await close(last.connection)
        connection = await connect(self._url, self._name)
        try:
            channel = await open_channel(connection, confirms=True)
            session = _Session(connection, channel)
            # Asked for now, because the broker would close the channel with the calls of others on it.
            for exchange in (WALLET_COMMANDS, WALLET_QUERIES):
                await channel.exchange_declare(exchange, passive=True, timeout=RPC_SECONDS)
            channel.closing.add_done_callback(session.on_lost)
            await channel.basic_consume(_DIRECT_REPLY_TO, session.on_reply, no_ack=True, timeout=RPC_SECONDS)
        except BaseException as exc:
            await close(connection)
            if isinstance(exc, aiormq.exceptions.ChannelNotFoundEntity):
                msg = f"the broker has no wallet (`wallet topology apply`?): {exc}"
                raise BrokerUnavailableError(msg) from exc
            if isinstance(exc, FAILURES):
                msg = f"the connection to the broker was lost: {said(exc)}"
                raise BrokerUnavailableError(msg) from exc
            raise
        self._session, self._failure = session, None
        return session


async def _publish(
    channel: Channel, exchange: str, message: Message, correlation_id: str, reply_to: str | None
) -> None:
    """Return once the broker has the message; raises _NotSent or _NoReply."""
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    try:
        await channel.basic_publish(
            encode(message),
            exchange=exchange,
            routing_key=routing_key(message.type),
            properties=Basic.Properties(
                content_type=CONTENT_TYPE,
                delivery_mode=_PERSISTENT,
                # Each call publishes once, so what is unique for the call is unique for the publish.
                message_id=correlation_id,
                correlation_id=correlation_id,
                reply_to=reply_to,
            ),
            mandatory=True,
            wait=False,
        )
    except aiormq.exceptions.PublishError as exc:
        raise _NotSent(f"the broker has no queue for it: {said(exc)}") from exc
    except aiormq.exceptions.DeliveryError as exc:
        raise _NotSent(f"the broker did not take it: {said(exc)}") from exc
    except aiormq.exceptions.ChannelInvalidStateError as exc:
        raise _NotSent("the connection to the broker was lost") from exc
    except asyncio.CancelledError as exc:
        if task is None or task.cancelling() > cancellations:
            raise
        # aiormq ends what waits on a lost connection with CancelledError: nobody has cancelled this task.
        raise _NoReply("the connection to the broker was lost") from exc
    except FAILURES as exc:
        raise _NoReply(f"the connection to the broker was lost: {said(exc)}") from exc
