"""The log of events on a real stream: read from any offset, as often as wanted, until it is gone."""

from collections.abc import AsyncIterator

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from tests.servers import Servers
from wallet_schemas.names import EVENT_LOG, WALLET_EVENTS
from wallet_worker.broker import topology
from wallet_worker.broker.connection import BrokerUnavailableError, open_connection
from wallet_worker.broker.event_log import LAST, EventLog, LoggedEvent


@pytest.fixture
async def event_log(bare_url: str) -> AsyncIterator[EventLog]:
    """Give a log of events without events."""
    await topology.apply(bare_url, events=True)
    log = EventLog(bare_url, name="tests")
    yield log
    await log.close()


@pytest.fixture
async def channel(bare_url: str) -> AsyncIterator[AbstractChannel]:
    """Give a channel to publish events on."""
    async with aiormq.connect(bare_url) as connection:
        yield await connection.channel()


async def publish(channel: AbstractChannel, first: int, last: int) -> None:
    for number in range(first, last):
        await channel.basic_publish(b"%d" % number, exchange=WALLET_EVENTS, routing_key="order.pending")


async def read(log: EventLog, offset: int | str, count: int, *, prefetch: int = 100) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    async with log.reader(offset, prefetch=prefetch) as reader:
        while len(found) < count and (events := await reader.next(10)):
            found += events
    return found


async def test_the_log_is_read_from_any_offset_and_read_again(
    event_log: EventLog, channel: AbstractChannel
) -> None:
    await publish(channel, 0, 50)

    whole, again = [await read(event_log, 0, 50, prefetch=7) for _ in range(2)]
    later = await read(event_log, 33, 17)
    newest = await read(event_log, LAST, 1)

    assert whole == again == [LoggedEvent(i, "order.pending", b"%d" % i) for i in range(50)]
    assert [event.offset for event in later] == list(range(33, 50))
    assert newest[-1].offset == 49


async def test_a_reader_gets_what_is_published_while_it_reads(
    event_log: EventLog, channel: AbstractChannel
) -> None:
    async with event_log.reader(LAST) as reader:
        assert await reader.next(0.1) == []  # the time over is the subject

        await publish(channel, 0, 1)

        assert await reader.next(10) == [LoggedEvent(0, "order.pending", b"0")]


async def test_a_reader_is_told_when_the_log_is_deleted_or_was_never_there(
    event_log: EventLog, channel: AbstractChannel
) -> None:
    async with event_log.reader(LAST) as reader:
        await channel.queue_delete(EVENT_LOG)
        with pytest.raises(BrokerUnavailableError):
            await reader.next(20)

    with pytest.raises(BrokerUnavailableError, match="wallet topology apply"):
        async with event_log.reader(LAST):
            raise AssertionError


async def test_the_log_is_made_only_where_it_is_wanted_and_checked_where_it_is(
    servers: Servers, bare_url: str
) -> None:
    await topology.apply(bare_url)
    async with open_connection(bare_url, "tests") as connection:
        without = await topology.check(connection, bare_url, servers.management_url)

    await topology.apply(bare_url, events=True)
    async with open_connection(bare_url, "tests") as connection:
        complete = await topology.check(connection, bare_url, servers.management_url)
        channel = await connection.channel()
        await (await channel.get_queue(EVENT_LOG)).unbind(WALLET_EVENTS, "#")
        unbound = await topology.check(connection, bare_url, servers.management_url)

    assert without.faults == complete.faults == ()
    assert any("There is no log of events" in sentence for sentence in without.unverified)
    assert not any("log of events" in sentence for sentence in complete.unverified)
    assert unbound.faults == (
        f"The queue {EVENT_LOG} is not bound to the exchange {WALLET_EVENTS}: what is published there does not arrive.",
    )
