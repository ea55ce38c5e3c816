"""Deliveries, cut out of the stream before the client library reads it: a third of the effort for each.

aiormq reads a frame in three pieces, under a lock and through a buffer, has pamqp ask for the type of every field,
hands it from the connection's task to the channel's, and starts a task for each delivery. A worker gets thousands a
second, and only puts them somewhere. So their frames are taken out of the bytes as they arrive, whole, and every
other frame goes on to aiormq as it came: what opens, declares, cancels, closes, blocks and keeps alive is its
business alone. It is all done through doors that aiormq and asyncio have for it: a transport of one's own, and the
protocol under a stream.
"""

import asyncio
import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from aiormq import SSLContextProvider, TransportFactory
from aiormq.channel import Channel
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import constants
from pamqp.commands import Basic
from typing_extensions import override
from yarl import URL

from wallet_schemas.names import BODY_BYTES_KEPT, BODY_BYTES_MAX
from wallet_worker.broker.amqp import codec
from wallet_worker.broker.amqp.properties import DroppedBody, unmarshal

_FRAME: Final = struct.Struct(">BHI")  # kind, channel, size of what follows before the end
_DELIVER: Final = struct.pack(">I", Basic.Deliver.index)
_TAG: Final = struct.Struct(">QB")  # and whether it was delivered before
_HEADER: Final = struct.Struct(">HHQ")  # class, weight, size of the body; the properties follow
_AROUND: Final = _FRAME.size + 1  # the end is one byte
_HEARTBEAT: Final = struct.pack(">BHIB", constants.FRAME_HEARTBEAT, 0, 0, constants.FRAME_END)


class RawDelivery(NamedTuple):
    """One delivery, as it came. Of a body that was dropped while it arrived, `body` is the first BODY_BYTES_KEPT."""

    channel: Channel
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: Basic.Properties
    body: bytes
    dropped: DroppedBody | None = None


DeliveryHandler = Callable[[RawDelivery], None]


class InterceptingTransport(TransportFactory):
    """The deliveries of one connection, whose transport this is: taken for some consumers, left alone for others."""

    def __init__(self) -> None:
        self._channels: dict[int, _Assembler] = {}

    @override
    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        provider: SSLContextProvider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        stream = _Stream(reader, loop, self._channels)
        try:
            transport, _ = await loop.create_connection(
                lambda: stream, url.host or "", url.port or 0, ssl=context, **kwargs
            )
        except OSError as exc:
            raise AMQPConnectionError(*exc.args) from exc
        return reader, asyncio.StreamWriter(transport, stream, reader, loop)

    def intercept(self, channel: Channel, takers: Mapping[str, DeliveryHandler]) -> None:
        """Hand over the deliveries of a channel's consumers, by tag, as they arrive from now on.

        A taker only puts them somewhere: nothing is read from the connection until it returns. If it raises, the
        connection is lost.
        """
        self._channels[channel.number] = _Assembler(channel, takers)

    def stop(self) -> None:
        """Hand nothing over any more: what still arrives for those consumers is dropped."""
        for content in self._channels.values():
            content.drop()


class _Stream(asyncio.StreamReaderProtocol):
    """Feeds a stream all that arrives but what is taken."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
        channels: Mapping[int, "_Assembler"],
    ) -> None:
        super().__init__(reader, loop=loop)
        self._channels = channels
        self._partial = b""
        self._is_amqp = True

    @override
    def data_received(self, data: bytes) -> None:
        try:
            rest = self._without_deliveries(data) if self._is_amqp else data
        except Exception as exc:
            # Passed over, it would be acknowledged with its neighbours. With the connection it comes again.
            msg = "the broker sent what cannot be read as a delivery"
            raise AMQPConnectionError(msg) from exc
        if rest:
            super().data_received(rest)

    def _without_deliveries(self, data: bytes) -> bytes:
        """Return the whole frames that are not taken; a frame that is not whole yet waits for its end.

        Where anything was taken, a heartbeat stands for it, so that the connection is known to live.
        """
        data = self._partial + data
        kept: list[bytes] = []
        at = kept_from = 0
        while len(data) - at >= _AROUND:
            kind, number, size = _FRAME.unpack_from(data, at)
            following = at + _AROUND + size
            is_whole = following <= len(data)
            # A server that wants another protocol says so with a letter where a frame has its kind.
            if kind > constants.FRAME_HEARTBEAT or (is_whole and data[following - 1] != constants.FRAME_END):
                self._is_amqp = False
                at = len(data)  # aiormq says what is wrong with it
                break
            if not is_whole:
                break
            content = self._channels.get(number)
            if content is not None and content.consume_frame(kind, data[at + _FRAME.size : following - 1]):
                kept.append(data[kept_from:at])
                kept_from = following
            at = following
        self._partial = data[at:]
        if kept:
            kept.append(_HEARTBEAT)
        kept.append(data[kept_from:at])
        return b"".join(kept)


class _Assembler:
    """The delivery that is arriving on a channel: a method, a header, and a body in some frames."""

    def __init__(self, channel: Channel, takers: Mapping[str, DeliveryHandler]) -> None:
        self._channel = channel
        self._takers = dict(takers)
        self._taker: DeliveryHandler | None = None
        self._method = b""
        self._properties = b""
        self._size = self._missing = 0
        self._body: list[bytes] = []
        self._digest = hashlib.sha256()
        """Of a body that is too large, of which the rest is not kept."""

    def consume_frame(self, kind: int, payload: bytes) -> bool:
        """Return whether a frame belongs to a delivery that is taken; with its last one it is handed over."""
        if kind == constants.FRAME_METHOD:
            if self._taker is not None:
                msg = f"channel {self._channel.number} had {self._missing} bytes of a delivery to come"
                raise InvalidFrameError(msg)
            if not payload.startswith(_DELIVER):
                return False
            _, tag = codec.read_text(payload[len(_DELIVER) :])
            self._taker, self._method = self._takers.get(tag), payload
            return self._taker is not None
        if self._taker is None:
            return False
        if kind == constants.FRAME_HEADER:
            _, _, self._size = _HEADER.unpack_from(payload)
            self._missing = self._size
            self._properties, self._body = payload[_HEADER.size :], []
            if self._size > BODY_BYTES_MAX:
                self._digest = hashlib.sha256()
        else:
            self._keep(payload)
            self._missing -= len(payload)
        if not self._missing:
            taker, self._taker = self._taker, None
            taker(self._taken())
        return True

    def _keep(self, payload: bytes) -> None:
        """Keep a part of the body. A thousand bodies that are too large may come at once: theirs is digested only."""
        if self._size <= BODY_BYTES_MAX:
            self._body.append(payload)
            return
        self._digest.update(payload)
        if not self._body:
            self._body.append(payload[:BODY_BYTES_KEPT])

    def drop(self) -> None:
        """Hand nothing over any more."""
        self._takers = dict.fromkeys(self._takers, _drop)
        if self._taker:
            self._taker = _drop

    def _taken(self) -> RawDelivery:
        at = len(_DELIVER)
        at += 1 + self._method[at]  # the consumer's tag
        delivery_tag, redelivered = _TAG.unpack_from(self._method, at)
        at += _TAG.size
        size, exchange = codec.read_text(self._method[at:])
        _, routing_key = codec.read_text(self._method[at + size :])
        return RawDelivery(
            self._channel,
            delivery_tag,
            bool(redelivered),
            exchange,
            routing_key,
            unmarshal(self._properties),
            b"".join(self._body),
            DroppedBody(self._size, self._digest.digest()) if self._size > BODY_BYTES_MAX else None,
        )


def _drop(_: RawDelivery) -> None:
    """The broker gives it to somebody else."""
