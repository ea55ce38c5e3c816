"""Many messages with one write: each gets its own answer, and arrives as it was."""

from collections.abc import AsyncIterator

import pytest
from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_schemas.names import CONTENT_TYPE, TRACEPARENT_HEADER
from wallet_worker.broker.amqp.confirms import Publication, fresh_message_id, publish_all
from wallet_worker.broker.amqp.properties import marshal, outgoing
from wallet_worker.broker.connection import open_channel, open_connection

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
QUEUE = "somewhere"


@pytest.fixture
async def channel(bare_url: str) -> AsyncIterator[Channel]:
    """Give a channel that confirms, on a vhost with one queue."""
    async with open_connection(bare_url, "tests") as connection:
        channel = await open_channel(connection, confirms=True)
        await channel.queue_declare(QUEUE)
        yield channel


def message(body: bytes, *, exchange: str = "", to: str = QUEUE, mandatory: bool = False) -> Publication:
    message_id = fresh_message_id()
    return Publication(exchange, to, mandatory, message_id, outgoing(message_id, "c-1", TRACEPARENT), body)


@pytest.mark.parametrize("traceparent", [None, TRACEPARENT])
@pytest.mark.parametrize("correlation_id", [None, "", "c-1", "\u00fc", "\udcff", "x" * 255])
def test_properties_are_those_that_the_library_writes(
    correlation_id: str | None, traceparent: str | None
) -> None:
    written = outgoing("m-1", correlation_id, traceparent)

    assert written == marshal(
        Basic.Properties(
            content_type=CONTENT_TYPE,
            headers={TRACEPARENT_HEADER: traceparent} if traceparent else None,
            delivery_mode=2,
            correlation_id=correlation_id,
            message_id="m-1",
        )
    )


async def test_each_message_arrives_as_it_was(channel: Channel) -> None:
    bodies = [b"", b"one", b"x" * channel.max_content_size, b"y" * (3 * channel.max_content_size + 1)]

    sending = await publish_all(channel, [message(body) for body in bodies])
    await sending.wait()

    assert sending.failures() == [None] * len(bodies)
    for body in bodies:
        arrived = await channel.basic_get(QUEUE)
        assert arrived.body == body
        assert arrived.header.properties.correlation_id == "c-1"
        assert arrived.header.properties.headers == {TRACEPARENT_HEADER: TRACEPARENT}


async def test_message_that_goes_nowhere_is_the_only_one_that_is_not_confirmed(channel: Channel) -> None:
    messages = [message(b"1"), message(b"2", to="nowhere", mandatory=True), message(b"3", mandatory=True)]

    sending = await publish_all(channel, [*messages, message(b"4", to="nowhere")])
    await sending.wait()

    first, second, third, fourth = sending.failures()
    assert (first, third, fourth) == (None, None, None)
    assert second is not None
    assert "NO_ROUTE" in second
    assert not channel.message_id_delivery_tag


async def test_channel_that_is_lost_leaves_nobody_waiting(channel: Channel) -> None:
    sending = await publish_all(channel, [message(b"1", exchange="there is none")])
    await sending.wait()

    (why_not,) = sending.failures()
    assert why_not is not None
    assert "no exchange" in why_not


async def test_answer_that_comes_after_it_was_given_up_is_ignored(channel: Channel) -> None:
    given_up = await publish_all(channel, [message(b"1"), message(b"2", to="nowhere", mandatory=True)])
    assert given_up.failures() == ["no confirm in time"] * 2

    sending = await publish_all(channel, [message(b"3")])
    await sending.wait()

    assert sending.failures() == [None]
    assert not channel.confirmations
