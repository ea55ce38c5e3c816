"""RabbitMQ spoken as barely as it can be, from a thread: so that whoever measures is never what is measured.

Messages are framed before the clock starts, sent in large writes and counted by their confirms; deliveries are cut
out of the stream without looking at more than their bodies. It is a benchmark's client and no more: whatever is not
expected ends it.
"""

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar
from urllib.parse import unquote, urlsplit

import pamqp.frame
from pamqp.base import Frame
from pamqp.commands import Basic, Channel, Confirm, Connection, Queue
from pamqp.common import FieldTable
from pamqp.header import ContentHeader, ProtocolHeader

from wallet_schemas.names import CONTENT_TYPE

UNCONFIRMED_MAX: Final = 4_000
_CHUNK: Final = 250  # messages in one write
_ANSWER_SECONDS: Final = 60.0
_READ_BYTES: Final = 1 << 18
_CHANNEL: Final = 1
_BODY_MAX: Final = 100_000  # one frame: no body of the benchmark comes near it

_METHOD, _HEADER, _BODY = 1, 2, 3
_ACK, _NACK, _DELIVER = (60, 80), (60, 120), (60, 60)


Answer = TypeVar("Answer", bound=Frame)


class BrokerFailed(Exception):  # noqa: N818 -- named as what happened
    """The broker said something that the benchmark did not expect."""


class Parcel(NamedTuple):
    """One message to be published."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    headers: dict[str, str] | None = None
    reply_to: str | None = None


class Delivered(NamedTuple):
    """One message as it came."""

    tag: int
    correlation_id: str
    body: bytes


def framed(parcel: Parcel, *, sender: str | None = None) -> bytes:
    """Return the frames of one persistent message; `sender` is the login that the broker will check it against."""
    properties = Basic.Properties(
        content_type=CONTENT_TYPE,
        delivery_mode=2,
        message_id=parcel.message_id,
        correlation_id=parcel.message_id if parcel.reply_to else None,
        reply_to=parcel.reply_to,
        headers=dict(parcel.headers) if parcel.headers else None,
        user_id=sender,
    )
    if len(parcel.body) > _BODY_MAX:
        msg = f"a body of {len(parcel.body)} bytes needs more than one frame"
        raise ValueError(msg)
    method = Basic.Publish(exchange=parcel.exchange, routing_key=parcel.routing_key)
    header = ContentHeader(properties=properties, body_size=len(parcel.body))
    body = struct.pack(">BHI", _BODY, _CHANNEL, len(parcel.body)) + parcel.body + b"\xce"
    return pamqp.frame.marshal(method, _CHANNEL) + pamqp.frame.marshal(header, _CHANNEL) + body


def login(url: str) -> str:
    """Return the broker's user of an AMQP URL."""
    return unquote(urlsplit(url).username or "guest")


class RawChannel:
    """One connection with one channel; everything blocks."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "localhost", parts.port or 5672))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(_ANSWER_SECONDS)
        self._buffer = bytearray()
        self._at = 0
        self._sent = 0
        self._confirmed = 0
        self._confirmed_out_of_turn: set[int] = set()
        self.server_version = ""
        self.user = login(url)
        self._shake_hands(self.user, unquote(parts.password or "guest"), parts.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go, and have whoever reads from it in another thread know."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue, those in a consumer's hands not counted."""
        return self.ask(Queue.Declare(queue=queue, passive=True), Queue.DeclareOk).message_count or 0

    def declare_reply_queue(self) -> str:
        """Return the name of a new queue that goes with this connection."""
        return self.ask(Queue.Declare(exclusive=True, auto_delete=True), Queue.DeclareOk).queue or ""

    def declare_queue(self, name: str, exchange: str, arguments: dict[str, str | int]) -> None:
        """Leave a durable queue that takes everything of an exchange."""
        self.ask(Queue.Declare(queue=name, durable=True, arguments=dict(arguments)), Queue.DeclareOk)
        self.ask(Queue.Bind(queue=name, exchange=exchange, routing_key="#"), Queue.BindOk)

    def publish(self, messages: Iterable[bytes]) -> int:
        """Send framed messages and return their number once the broker has confirmed every one of them."""
        count = 0
        chunk: list[bytes] = []
        for message in messages:
            chunk.append(message)
            if len(chunk) == _CHUNK:
                self.send(chunk)
                count += len(chunk)
                chunk = []
                self.await_confirms(at_most=UNCONFIRMED_MAX)
        self.send(chunk)
        self.await_confirms(at_most=0)
        return count + len(chunk)

    def send(self, messages: Sequence[bytes]) -> None:
        """Write framed messages, and wait for nothing."""
        if messages:
            self._socket.sendall(b"".join(messages))
            self._sent += len(messages)

    def await_confirms(self, *, at_most: int) -> None:
        """Return once no more than so many messages are unconfirmed."""
        while self._sent - self._confirmed - len(self._confirmed_out_of_turn) > at_most:
            kind, payload = self._frame()
            method = _method(payload) if kind == _METHOD else None
            if method != _ACK:
                msg = f"a confirm was expected and came {method}"
                raise BrokerFailed(msg)
            tag, multiple = struct.unpack_from(">QB", payload, 4)
            self._note_confirm(tag, multiple=bool(multiple))

    def consume(self, queue: str, *, prefetch: int = 0, no_ack: bool = False) -> Iterator[Delivered]:
        """Give the messages of a queue as they come, for ever."""
        self.ask(Basic.Qos(prefetch_count=prefetch), Basic.QosOk)
        self.ask(Basic.Consume(queue=queue, no_ack=no_ack), Basic.ConsumeOk)
        while True:
            _, method = self._frame()
            if _method(method) != _DELIVER:
                msg = f"a delivery was expected and came {_method(method)}"
                raise BrokerFailed(msg)
            (tag,) = struct.unpack_from(">Q", method, 5 + method[4])
            _, header = self._frame()
            (size,) = struct.unpack_from(">Q", header, 4)
            body = b""
            while len(body) < size:
                body += self._frame()[1]
            yield Delivered(tag, _correlation_id(header), body)

    def acknowledge(self, tag: int) -> None:
        """Acknowledge everything up to a delivery."""
        self._socket.sendall(pamqp.frame.marshal(Basic.Ack(delivery_tag=tag, multiple=True), _CHANNEL))

    def ask(self, request: Frame, wanted: type[Answer], channel: int = _CHANNEL) -> Answer:
        """Return the broker's answer to a method; whatever comes instead is raised."""
        self._socket.sendall(pamqp.frame.marshal(request, channel))
        return self._await(wanted)

    def _await(self, wanted: type[Answer]) -> Answer:
        kind, payload = self._frame()
        raw = struct.pack(">BHI", kind, _CHANNEL, len(payload)) + payload + b"\xce"
        _, _, answer = pamqp.frame.unmarshal(raw)
        if not isinstance(answer, wanted):
            msg = f"{wanted.name} was expected and came {answer!r}: {getattr(answer, 'reply_text', '')}"
            raise BrokerFailed(msg)
        return answer

    def _shake_hands(self, user: str, password: str, path: str) -> None:
        self._socket.sendall(pamqp.frame.marshal(ProtocolHeader(0, 9, 1), 0))
        start = self._await(Connection.Start)
        properties = start.server_properties
        self.server_version = str(properties.get("version", ""))
        client: FieldTable = {
            "connection_name": "benchmark",
            "capabilities": {"consumer_cancel_notify": True},
        }
        response = f"\0{user}\0{password}"
        self.ask(
            Connection.StartOk(client_properties=client, mechanism="PLAIN", response=response),
            Connection.Tune,
            channel=0,
        )
        tune = Connection.TuneOk(channel_max=8, frame_max=131_072, heartbeat=0)
        self._socket.sendall(pamqp.frame.marshal(tune, 0))
        vhost = unquote(path.removeprefix("/")) or "/"
        self.ask(Connection.Open(virtual_host=vhost), Connection.OpenOk, channel=0)
        self.ask(Channel.Open(), Channel.OpenOk)
        self.ask(Confirm.Select(), Confirm.SelectOk)

    def _note_confirm(self, tag: int, *, multiple: bool) -> None:
        if multiple:
            self._confirmed = max(self._confirmed, tag)
            self._confirmed_out_of_turn = {item for item in self._confirmed_out_of_turn if item > tag}
        else:
            self._confirmed_out_of_turn.add(tag)
        while self._confirmed + 1 in self._confirmed_out_of_turn:
            self._confirmed += 1
            self._confirmed_out_of_turn.remove(self._confirmed)

    def _frame(self) -> tuple[int, bytes]:
        """Return kind and payload of the next frame that is no heartbeat."""
        while True:
            if len(self._buffer) - self._at >= 7:
                kind, _, size = struct.unpack_from(">BHI", self._buffer, self._at)
                end = self._at + 7 + size
                if len(self._buffer) > end:
                    payload = bytes(self._buffer[self._at + 7 : end])
                    self._at = end + 1
                    if kind in {_METHOD, _HEADER, _BODY}:
                        return kind, payload
                    continue
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            data = self._socket.recv(_READ_BYTES)
            if not data:
                msg = "the broker closed the connection"
                raise BrokerFailed(msg)
            self._buffer += data


def _method(payload: bytes) -> tuple[int, int]:
    first, second = struct.unpack_from(">HH", payload)
    return first, second


def _correlation_id(header: bytes) -> str:
    """Return the correlation_id that stands in a content header, or nothing."""
    properties = Basic.Properties()
    flags = int.from_bytes(header[12:14], "big")
    properties.unmarshal(flags, header[14:])
    return properties.correlation_id or ""
