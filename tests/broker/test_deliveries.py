"""Deliveries are taken out of the stream whole, however it arrives, and everything else goes on as it came."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import cast

import aiormq
import pamqp.frame
import pytest
import uvloop
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import AMQPConnectionError
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic, Connection
from pamqp.commands import Channel as ChannelMethods
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from wallet_schemas.names import BODY_BYTES_KEPT, BODY_BYTES_MAX
from wallet_worker.broker.amqp.deliveries import InterceptingTransport, RawDelivery, _Stream
from wallet_worker.broker.amqp.properties import DroppedBody, marshal
from wallet_worker.broker.connection import open_channel, open_connection

OURS, THEIRS = "ours", "theirs"
QUEUE = "somewhere"
SOON_SECONDS = 20.0
Run = Callable[[Coroutine[None, None, BaseException | None]], BaseException | None]
ALIVE = pamqp.frame.marshal(Heartbeat(), 0)


class Numbered:
    """As much of a channel as its deliveries need."""

    number = 1


def content(body: bytes, *, most: int = 4) -> list[FrameTypes]:
    """Return a header and a body in frames of `most` bytes."""
    properties = Basic.Properties(message_id=f"m-{len(body)}", headers={"x": "y"})
    parts = [body[at : at + most] for at in range(0, len(body), most)]
    return [ContentHeader(body_size=len(body), properties=properties), *map(ContentBody, parts)]


def delivery(body: bytes, tag: str = OURS, number: int = 1) -> list[FrameTypes]:
    redelivered = bool(number % 2)
    return [Basic.Deliver(tag, number, redelivered, "wallet.commands", f"k-{number}"), *content(body)]


class Wire:
    """A stream whose deliveries to `ours` on channel 1 are taken; bytes go in as a transport hands them over."""

    def __init__(self) -> None:
        self.taken: list[RawDelivery] = []
        self.deliveries = InterceptingTransport()
        self.deliveries.intercept(cast("Channel", Numbered()), {OURS: self.taken.append})
        self.reader = asyncio.StreamReader()
        self.stream = _Stream(self.reader, asyncio.get_running_loop(), self.deliveries._channels)

    async def rest(self) -> bytes:
        """Return what is left to aiormq."""
        self.reader.feed_eof()
        return await self.reader.read()


def framed(channel: int, frames: list[FrameTypes]) -> bytes:
    return b"".join(pamqp.frame.marshal(frame, channel) for frame in frames)


OTHERS: list[tuple[int, list[FrameTypes]]] = [
    (0, [Connection.Blocked("memory")]),
    (0, [Heartbeat()]),
    (1, [Basic.ConsumeOk(OURS)]),
    (1, delivery(b"not ours", THEIRS)),
    (2, delivery(b"another channel")),
    (1, [Basic.Return(312, "NO_ROUTE", "", "k"), *content(b"returned")]),
    (1, [Basic.GetOk(7, False, "", "k", 0), *content(b"got")]),  # noqa: FBT003 -- as the broker has it
    (1, [Basic.Ack(4, True)]),  # noqa: FBT003
    (1, [Basic.Cancel(OURS)]),
    (1, [ChannelMethods.Close(406, "PRECONDITION_FAILED", 0, 0)]),
]

mixtures = st.lists(st.one_of(st.binary(max_size=11), st.sampled_from(OTHERS)), max_size=8)


@pytest.mark.parametrize("more", [0, 1, 200_000])
async def test_of_a_body_that_is_too_large_the_beginning_is_kept_and_what_it_was(more: int) -> None:
    wire = Wire()
    body = bytes(range(256)) * (BODY_BYTES_MAX // 256) + b"x" * more
    first, last = delivery(b"before"), delivery(b"after")

    data = framed(1, [*first, *_large(body), *last])
    for at in range(0, len(data), 50_000):
        wire.stream.data_received(data[at : at + 50_000])

    assert [item.body for item in wire.taken] == [
        b"before",
        body[: BODY_BYTES_KEPT if more else None],
        b"after",
    ]
    assert [item.dropped for item in wire.taken] == [
        None,
        DroppedBody(len(body), hashlib.sha256(body).digest()) if more else None,
        None,
    ]


def _large(body: bytes) -> list[FrameTypes]:
    return [Basic.Deliver(OURS, 2, False, "wallet.commands", "k"), *content(body, most=4_096)]  # noqa: FBT003


@given(mixtures, st.lists(st.integers(1, 60), max_size=40))
async def test_only_deliveries_that_are_to_be_taken_are_taken_however_the_bytes_come(
    mixture: list[bytes | tuple[int, list[FrameTypes]]], sizes: list[int]
) -> None:
    wire, data, rest = Wire(), b"", b""
    bodies = [item for item in mixture if isinstance(item, bytes)]
    for item in mixture:
        if isinstance(item, bytes):
            data += framed(1, delivery(item, number=len(item)))
        else:
            data += framed(*item)
            rest += framed(*item)

    for size in sizes:
        wire.stream.data_received(data[:size])
        data = data[size:]
    wire.stream.data_received(data)

    assert [(item.body, item.delivery_tag, item.redelivered, item.routing_key) for item in wire.taken] == [
        (body, len(body), bool(len(body) % 2), f"k-{len(body)}") for body in bodies
    ]
    assert [item.properties.message_id for item in wire.taken] == [f"m-{len(body)}" for body in bodies]
    assert (await wire.rest()).replace(ALIVE, b"") == rest.replace(ALIVE, b"")


async def test_a_connection_that_brings_deliveries_alone_is_known_to_live() -> None:
    wire = Wire()

    for number in range(1, 4):
        wire.stream.data_received(framed(1, delivery(b"{}", number=number)))

    assert await wire.rest() == 3 * ALIVE


async def test_nothing_is_handed_over_once_it_is_stopped_in_the_middle_of_a_delivery_too() -> None:
    wire, data = Wire(), framed(1, delivery(b"{}"))
    wire.stream.data_received(data[:-3])

    wire.deliveries.stop()
    wire.stream.data_received(data[-3:] + data)

    assert wire.taken == []
    assert (await wire.rest()).replace(ALIVE, b"") == b""


async def test_a_delivery_that_is_broken_off_is_not_passed_over() -> None:
    wire = Wire()
    wire.stream.data_received(framed(1, delivery(b"12345678")[:-1]))

    with pytest.raises(AMQPConnectionError, match="cannot be read as a delivery"):
        wire.stream.data_received(framed(1, delivery(b"{}")))


@pytest.mark.parametrize(
    "data",
    [ProtocolHeader().marshal(), framed(1, delivery(b"{}"))[:-1] + b"\0" + framed(1, delivery(b"{}"))],
    ids=["another protocol", "a frame that ends wrongly"],
)
async def test_what_is_no_frame_is_left_to_aiormq(data: bytes) -> None:
    wire = Wire()

    for byte in data:
        wire.stream.data_received(bytes((byte,)))
    wire.stream.data_received(framed(1, delivery(b"{}")))

    assert (await wire.rest()).replace(ALIVE, b"").endswith(data[-8:] + framed(1, delivery(b"{}")))


@pytest.fixture
async def publishing(bare_url: str) -> AsyncIterator[AbstractChannel]:
    """Give a channel of somebody else's, on a vhost with one queue."""
    async with aiormq.connect(bare_url) as connection:
        channel = await connection.channel()
        await channel.queue_declare(QUEUE)
        yield channel


async def _left_alone(message: DeliveredMessage) -> None:
    raise AssertionError(message)


async def test_it_is_what_aiormq_makes_of_it(bare_url: str, publishing: AbstractChannel) -> None:
    """Both are told the same messages, by a broker that cuts their bodies into frames."""
    taken: asyncio.Queue[RawDelivery] = asyncio.Queue()
    given_: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    deliveries = InterceptingTransport()
    async with open_connection(bare_url, "tests", deliveries) as connection, asyncio.timeout(SOON_SECONDS):
        channel = await open_channel(connection)
        most = channel.max_content_size
        bodies = [b"", b"{}", *(b"x" * size for size in (most - 1, most, most + 1, 3 * most)), b"last"]
        for body in bodies:
            properties = Basic.Properties(message_id=str(len(body)), headers={"a": "b"}, reply_to="r")
            await publishing.basic_publish(body, routing_key=QUEUE, properties=properties)
        deliveries.intercept(channel, {OURS: taken.put_nowait})
        await channel.basic_consume(QUEUE, _left_alone, consumer_tag=OURS)
        ours = [await taken.get() for _ in bodies]
        await channel.basic_cancel(OURS)
        await channel.basic_nack(0, multiple=True)
        await channel.basic_consume(QUEUE, given_.put, consumer_tag=THEIRS)
        theirs = [await given_.get() for _ in bodies]

    assert [item.body for item in ours] == [
        body if len(body) <= BODY_BYTES_MAX else body[:BODY_BYTES_KEPT] for body in bodies
    ]
    assert [item.delivery_tag for item in ours] == list(range(1, len(bodies) + 1))
    assert [(item.exchange, item.routing_key, marshal(item.properties)) for item in ours] == [
        (item.exchange, item.routing_key, marshal(item.header.properties)) for item in theirs
    ]
    assert [item.dropped for item in ours] == [
        DroppedBody(len(item.body), hashlib.sha256(item.body).digest())
        if len(item.body) > BODY_BYTES_MAX
        else None
        for item in theirs
    ]
    assert ({item.redelivered for item in ours}, {item.redelivered for item in theirs}) == ({False}, {True})


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
async def test_a_delivery_that_cannot_be_taken_ends_the_connection(
    bare_url: str, publishing: AbstractChannel, run: Run
) -> None:
    def refuse(item: RawDelivery) -> None:
        raise LookupError(item.body)

    async def lose() -> BaseException | None:
        deliveries = InterceptingTransport()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # asyncio would print it
        async with (
            open_connection(bare_url, "tests", deliveries) as connection,
            asyncio.timeout(SOON_SECONDS),
        ):
            channel = await open_channel(connection)
            deliveries.intercept(channel, {OURS: refuse})
            await channel.basic_consume(QUEUE, _left_alone, consumer_tag=OURS)
            async with aiormq.connect(bare_url) as another:
                await (await another.channel()).basic_publish(b"{}", routing_key=QUEUE)
            await asyncio.wait({channel.closing})
            return channel.closing.exception()

    why = await asyncio.to_thread(run, lose())

    assert isinstance(why, AMQPConnectionError)
    assert "cannot be read as a delivery" in str(why)
    assert (await publishing.basic_get(QUEUE)).redelivered
