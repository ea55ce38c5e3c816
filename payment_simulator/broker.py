"""The two connections to RabbitMQ: requests come in on one, results go out on the other.

Two, because a broker that is short of memory or disk stops reading from connections that publish, and
acknowledgements would wait there too. Plain aiormq: a lost link is not mended but replaced as a whole, so no
delivery of an old channel is ever acknowledged on a new one.
"""

import asyncio
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage, FieldTable
from aiormq.exceptions import InvalidFrameError
from pamqp.commands import Basic
from yarl import URL

from payment_simulator.intake import IncomingRequest
from payment_simulator.state import DueAnswer
from wallet_schemas import names, signature

HEARTBEAT_SECONDS: Final = (
    10  # a dead peer is found after about 33 s; aiormq's own default makes it three minutes
)
CONNECT_TIMEOUT_SECONDS: Final = 5
CONNECT_TIMEOUT_SECONDS_EACH: Final = 3  # where there are other nodes to try
_BETWEEN: Final = re.compile(r"[\s,]+(?=amqps?://)")  # a password may have a comma in it
CALL_TIMEOUT_SECONDS: Final = 10
CONFIRM_TIMEOUT_SECONDS: Final = 30  # what is not confirmed by then may be stored or not, and is sent again
PREFETCH: Final = 1_500  # three batches: one being committed, one waiting, one on its way
PERSISTENT: Final = 2  # AMQP's delivery mode
_TRACEPARENT_LENGTH_MAX: Final = 128  # version 00 has 55 characters, and later ones may append


T = TypeVar("T")


class UrlUnusable(ValueError):  # noqa: N818 - named after what is wrong
    """The text is not an AMQP URL; the message is for people."""


class Unavailable(Exception):  # noqa: N818 - named after what is wrong
    """The broker cannot be reached, or was lost; the message is for people."""


class TopologyMissing(Unavailable):
    """The broker has no queue of requests or no exchange for results."""


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A request from the queue, and the tag that settles it on the channel it came by."""

    tag: int
    arrival: IncomingRequest


@dataclass(frozen=True, slots=True)
class Published:
    """What became of the answers that were published.

    Those neither confirmed nor lost were refused: returned as unroutable, or not taken by a queue.
    `lost`: how many have no answer from the broker. They may be stored or not.
    """

    confirmed: list[int]
    lost: int
    refusals: list[str]


class BrokerLink:
    """Both connections, while both are up. Made by `connect`."""

    def __init__(self, consuming: AbstractConnection, publishing: AbstractConnection) -> None:
        self._consuming = consuming
        self._publishing = publishing
        self._requests: AbstractChannel
        self._results: aiormq.Channel
        self._consumer_tag = ""
        self._consumer_gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # None is the end: consuming was stopped. The prefetch limit keeps the queue within its bound.
        self._deliveries: asyncio.Queue[ReceivedMessage | None] = asyncio.Queue(PREFETCH + 1)

    async def start(self) -> None:
        """Requests are being delivered; raises TopologyMissing."""
        await _require_topology(self._publishing)
        results = await self._publishing.channel()
        if not isinstance(results, aiormq.Channel):
            raise TypeError("aiormq opened a channel that is none of its own")
        self._results = results
        # No confirms here: this channel never publishes.
        self._requests = await self._consuming.channel(publisher_confirms=False)
        self._requests.on_consumer_cancel_callbacks.add(self._on_cancelled_by_the_broker)
        await self._requests.basic_qos(prefetch_count=PREFETCH)
        consumer = await self._requests.basic_consume(names.PAYMENT_REQUESTS, self._on_delivery)
        self._consumer_tag = str(consumer.consumer_tag)

    async def watch(self) -> None:
        """Never returns; raises Unavailable when a connection, a channel or the consumer is gone."""
        losses: dict[str, asyncio.Future[None]] = {
            "the connection for requests": self._consuming.closing,
            "the connection for results": self._publishing.closing,
            "the channel for requests": self._requests.closing,
            "the channel for results": self._results.closing,
            "the consumer": self._consumer_gone,
        }
        await asyncio.wait(losses.values(), return_when=asyncio.FIRST_COMPLETED)
        raise Unavailable(
            "; ".join(f"{name} was lost{_why(loss)}" for name, loss in losses.items() if loss.done())
        )

    async def batch(self, size_max: int) -> list[ReceivedMessage]:
        """Return what has arrived, at least one; none when consuming has stopped and all is taken."""
        first = await self._deliveries.get()
        if first is None:
            return []
        found = [first]
        while len(found) < size_max and not self._deliveries.empty():
            delivery = self._deliveries.get_nowait()
            if delivery is None:
                self._deliveries.put_nowait(None)  # the end stays the end
                break
            found.append(delivery)
        return found

    async def settle(self, accepted: Sequence[ReceivedMessage], rejected: Sequence[ReceivedMessage]) -> None:
        """The broker is told: accepted requests are done, rejected ones become dead letters.

        Together they must be all deliveries up to the last of them: they are acknowledged as one prefix.
        """
        for delivery in rejected:
            await call(self._requests.basic_reject(delivery.tag, requeue=False, wait=False))
        if accepted:
            await call(self._requests.basic_ack(accepted[-1].tag, multiple=True, wait=False))

    async def publish(self, answers: Sequence[DueAnswer], keys: Mapping[str, str]) -> Published:
        """Return what became of the answers, signed now, when the broker has spoken on each or was lost."""
        # While the broker has an alarm nothing more is put into its socket.
        await call(self._publishing.ready(), seconds=None)
        at_unix = int(time.time())
        sending = asyncio.gather(
            *(self._send(answer, keys, at_unix) for answer in answers), return_exceptions=True
        )
        try:
            done, _ = await asyncio.wait({sending}, timeout=CONFIRM_TIMEOUT_SECONDS)
            if not done:
                await call(self._publishing.ready(), seconds=None)
                done, _ = await asyncio.wait({sending}, timeout=CONFIRM_TIMEOUT_SECONDS)
            if not done:
                raise Unavailable(f"results were not confirmed within {CONFIRM_TIMEOUT_SECONDS} s")
        finally:
            sending.cancel()
        return _published(answers, sending.result())

    async def stop_consuming(self) -> None:
        """No more requests are delivered; `batch` returns what has arrived, then nothing."""
        await call(self._requests.basic_cancel(self._consumer_tag))
        self._deliveries.put_nowait(None)

    async def _send(self, answer: DueAnswer, keys: Mapping[str, str], at_unix: int) -> object:
        headers: FieldTable = {names.SIGNATURE_HEADER: sign(answer, keys, at_unix)}
        if answer.traceparent is not None:
            headers[names.TRACEPARENT_HEADER] = answer.traceparent
        return await self._results.basic_publish(
            answer.body,
            exchange=names.PAYMENT_RESULTS,
            routing_key=names.routing_key(answer.type),
            properties=Basic.Properties(
                content_type=names.CONTENT_TYPE,
                delivery_mode=PERSISTENT,
                message_id=uuid.uuid4().hex,
                headers=headers,
            ),
            mandatory=True,
            wait=False,
        )

    async def _on_delivery(self, message: DeliveredMessage) -> None:
        """Only puts the request on the queue: aiormq cancels this callback when the channel closes."""
        headers = message.header.properties.headers or {}
        traceparent = headers.get(names.TRACEPARENT_HEADER)
        if not isinstance(traceparent, str) or len(traceparent) > _TRACEPARENT_LENGTH_MAX:
            traceparent = None
        tag = message.delivery_tag
        if tag is not None:
            self._deliveries.put_nowait(
                ReceivedMessage(
                    tag, IncomingRequest(message.body, traceparent, headers.get(names.SIGNATURE_HEADER))
                )
            )

    def _on_cancelled_by_the_broker(self, _: object) -> None:
        if not self._consumer_gone.done():
            self._consumer_gone.set_result(None)


def sign(answer: DueAnswer, keys: Mapping[str, str], at_unix: int) -> str:
    """Return the signature of an answer, which is a wrong one where the answer is forged."""
    # The right key's name and a secret that is nobody's: the signature is well-formed, and wrong.
    signing = {next(iter(keys)): secrets.token_hex()} if answer.forged else keys
    return signature.sign(answer.body, signing, at_unix)


def parse_urls(text: str) -> tuple[URL, ...]:
    """Return the AMQP URLs of a cluster's nodes, which are separated by commas or blanks; raises UrlUnusable.

    Each has a heartbeat, its own or ours.
    """
    urls = tuple(_parse_url(each) for each in _BETWEEN.split(text.strip().rstrip(",").rstrip()))
    if len({(url.scheme, url.user, url.path) for url in urls}) > 1:
        raise UrlUnusable("the URLs of a cluster's nodes must have the same scheme, user and vhost")
    return urls


def _parse_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        raise UrlUnusable("it must look like amqp://user:password@host:5672/vhost") from None
    if url.scheme not in {"amqp", "amqps"} or not url.host:
        raise UrlUnusable("it must look like amqp://user:password@host:5672/vhost")
    return url if "heartbeat" in url.query else url.update_query(heartbeat=HEARTBEAT_SECONDS)


def shown(urls: Iterable[URL]) -> str:
    """Return URLs without passwords and options, for people and logs."""
    return ", ".join(str(url.with_password(None).with_query(None)) for url in urls)


@asynccontextmanager
async def connect(urls: Sequence[URL]) -> AsyncIterator[BrokerLink]:
    """Inside, both connections are up and requests are delivered, on the first node that can be reached.

    Raises Unavailable or TopologyMissing.
    """
    async with AsyncExitStack() as stack:
        consuming, publishing = await _open_both(urls, stack)
        link = BrokerLink(consuming, publishing)
        await call(link.start())
        yield link


async def call(reply: Awaitable[T], *, seconds: float | None = CALL_TIMEOUT_SECONDS) -> T:
    """Return what aiormq answers; raises Unavailable for each of the ways in which it says that it cannot."""
    try:
        async with asyncio.timeout(seconds):
            return await reply
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiormq rejects the calls of a lost connection with CancelledError: nobody has cancelled this task.
        raise Unavailable("the connection was lost") from None
    except TimeoutError as exc:
        raise Unavailable(f"no answer within {seconds} s") from exc
    except (aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError) as exc:
        raise Unavailable(_text(exc)) from exc


async def _open_both(
    urls: Sequence[URL], stack: AsyncExitStack
) -> tuple[AbstractConnection, AbstractConnection]:
    seconds = CONNECT_TIMEOUT_SECONDS if len(urls) == 1 else CONNECT_TIMEOUT_SECONDS_EACH
    failures: list[Unavailable] = []
    for url in urls:
        try:
            return (
                await _open(url, "payment-simulator requests", stack, seconds),
                await _open(url, "payment-simulator results", stack, seconds),
            )
        except Unavailable as exc:
            failures.append(exc)
    if len(failures) == 1:
        raise failures[0]
    raise Unavailable("no node can be reached: " + "; ".join(sorted({str(exc) for exc in failures})))


async def _open(url: URL, name: str, stack: AsyncExitStack, seconds: float) -> AbstractConnection:
    """Return an open connection that the stack closes."""
    connection = aiormq.Connection(url, client_properties={"connection_name": name})
    await call(connection.connect(), seconds=seconds)
    stack.push_async_callback(_close, connection)
    return connection


async def _close(connection: AbstractConnection) -> None:
    with suppress(Unavailable):
        await call(connection.close())


async def _require_topology(connection: AbstractConnection) -> None:
    """The queue of requests and the exchange for results exist, or TopologyMissing is raised."""
    # On a channel of its own, because the broker closes the channel that asks for what does not exist.
    channel = await connection.channel()
    what = ""
    try:
        what = f"the queue {names.PAYMENT_REQUESTS}"
        await channel.queue_declare(names.PAYMENT_REQUESTS, passive=True)
        what = f"the exchange {names.PAYMENT_RESULTS}"
        await channel.exchange_declare(names.PAYMENT_RESULTS, exchange_type="topic", passive=True)
    except aiormq.ChannelNotFoundEntity as exc:
        raise TopologyMissing(
            f"{what} does not exist: apply the topology first (`wallet topology apply`)"
        ) from exc
    await channel.close()


def _published(answers: Sequence[DueAnswer], outcomes: Sequence[object]) -> Published:
    published = Published(confirmed=[], lost=0, refusals=[])
    lost = 0
    for answer, outcome in zip(answers, outcomes, strict=True):
        match outcome:
            case Basic.Ack():
                published.confirmed.append(answer.answer_id)
            case aiormq.DeliveryError():  # a PublishError, for what was returned, is one too
                published.refusals.append(_text(outcome))
            case _:
                lost += 1
    return replace(published, lost=lost)


def _why(loss: asyncio.Future[None]) -> str:
    exc = None if loss.cancelled() else loss.exception()
    return "" if exc is None or isinstance(exc, asyncio.CancelledError) else f" ({_text(exc)})"


def _text(exc: BaseException) -> str:
    """Return what an error of aiormq or the operating system says, in one line."""
    match exc:
        case aiormq.ProbableAuthenticationError():
            return "the broker refused the user name or the password"
        # aiormq takes the broker's refusal, which is the only answer here but OpenOk, for a frame out of place.
        case InvalidFrameError() if "Connection.OpenOk" in str(exc):
            return "the broker refused the vhost: it is not there, or this user may not use it"
        case aiormq.PublishError():
            return f"returned: {exc.args[0]}"
        case _:
            return " ".join((str(exc) or type(exc).__name__).split())
