"""Sessions with the broker: what ends one, what begins the next, and how the last one drains."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiormq
import pytest
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.channel import Channel
from typing_extensions import override

from wallet_schemas.names import WALLET_COMMANDS, WALLET_DEAD_LETTERS, WALLET_EVENTS, WALLET_UNROUTED
from wallet_worker.broker import connection as connection_module
from wallet_worker.broker import consumer, queue_depths, topology
from wallet_worker.broker.amqp.deliveries import RawDelivery
from wallet_worker.broker.connection import BrokerUnavailableError
from wallet_worker.broker.consumer import Consumer
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics

SOON_SECONDS = 30.0


@dataclass(slots=True)
class Watched:
    """A consumer with everything that it told the worker around it."""

    url: str
    health: Health = field(default_factory=Health)
    metrics: Metrics = field(default_factory=Metrics)
    received: list[RawDelivery] = field(default_factory=list)
    lost: list[Channel] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self.health.expect("consumer")
        self.consumer = Consumer(
            component="consumer",
            url=self.url,
            takers={WALLET_COMMANDS: self._put},
            prefetch=10,
            on_lost=self._forget,
            health=self.health,
            metrics=self.metrics,
        )

    def _put(self, taken: RawDelivery) -> None:
        self.received.append(taken)
        self.changed.set()

    def _forget(self, channel: Channel) -> None:
        self.lost.append(channel)
        self.changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(SOON_SECONDS):
            while not true():
                self.changed.clear()
                # Readiness changes without a word: it is looked at now and then.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.05)

    async def until_ready(self) -> None:
        """Wait until it consumes."""
        await self.until(lambda: self.health.is_ready)


@asynccontextmanager
async def running(watched: Watched) -> AsyncIterator[asyncio.Task[None]]:
    """Have a consumer run, and end it in order."""
    task = asyncio.create_task(watched.consumer.run())
    try:
        yield task
    finally:
        stop = asyncio.create_task(watched.consumer.stop())
        watched.consumer.release()
        await asyncio.wait({task}, timeout=SOON_SECONDS)
        stop.cancel()


@pytest.fixture
def watched(amqp_url: str) -> Watched:
    """Give a consumer on a vhost with the wallet's topology, not running yet."""
    return Watched(amqp_url)


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """Give a channel of somebody else's."""
    async with aiormq.connect(amqp_url) as connection:
        yield await connection.channel()


async def publish(channel: AbstractChannel, body: bytes) -> None:
    await channel.basic_publish(body, exchange=WALLET_COMMANDS, routing_key="k")


async def test_a_consumer_hands_over_what_arrives_and_is_ready(
    watched: Watched, channel: AbstractChannel
) -> None:
    async with running(watched):
        await watched.until_ready()
        await publish(channel, b"one")
        await watched.until(lambda: len(watched.received) == 1)

    assert [item.body for item in watched.received] == [b"one"]
    assert not watched.health.is_ready


async def test_a_consumer_takes_no_more_than_its_prefetch(watched: Watched, channel: AbstractChannel) -> None:
    async with running(watched):
        await watched.until_ready()
        for number in range(12):
            await publish(channel, b"%d" % number)
        await watched.until(lambda: len(watched.received) == 10)
        left = await channel.queue_declare(WALLET_COMMANDS, passive=True)

    assert (len(watched.received), left.message_count) == (10, 2)


async def test_a_consumer_that_is_stopped_can_still_acknowledge_until_it_is_released(
    watched: Watched, channel: AbstractChannel
) -> None:
    async with running(watched) as task:
        await watched.until_ready()
        await publish(channel, b"taken")
        await watched.until(lambda: len(watched.received) == 1)
        await watched.consumer.stop()
        await publish(channel, b"too late")
        (taken,) = watched.received
        await taken.channel.basic_ack(taken.delivery_tag)
        watched.consumer.release()
        await task

    left = [await channel.basic_get(WALLET_COMMANDS, no_ack=True) for _ in range(2)]
    assert [item.body for item in left] == [b"too late", b""]
    assert not left[0].redelivered
    assert watched.lost == [taken.channel]


async def test_a_channel_that_is_lost_is_told_and_another_consumes(
    watched: Watched, channel: AbstractChannel
) -> None:
    async with running(watched):
        await watched.until_ready()
        await publish(channel, b"one")
        await watched.until(lambda: len(watched.received) == 1)
        first = watched.received[0].channel
        await first.basic_ack(99)  # an unknown tag: the broker closes the channel
        await watched.until(lambda: len(watched.received) == 2)

    assert watched.lost[0] is first
    assert watched.received[1].channel is not first
    assert (watched.received[1].body, watched.received[1].redelivered) == (b"one", True)


async def test_a_consumer_that_the_broker_cancels_is_made_anew(
    watched: Watched, channel: AbstractChannel
) -> None:
    async with running(watched):
        await watched.until_ready()
        await channel.queue_delete(WALLET_COMMANDS)
        await watched.until(lambda: not watched.health.is_ready)
        reason = watched.health.reasons["consumer"]
        await topology.apply(watched.url)
        await watched.until_ready()
        await publish(channel, b"one")
        await watched.until(lambda: len(watched.received) == 1)

    assert "the broker cancelled the consumer" in reason


async def test_a_consumer_that_vanished_without_a_word_is_noticed(
    watched: Watched, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "WATCH_SECONDS", 0.05)
    async with running(watched):
        await watched.until_ready()
        await publish(channel, b"one")
        await watched.until(lambda: len(watched.received) == 1)
        first = watched.received[0].channel
        first.consumers.clear()
        await watched.until(lambda: len(watched.received) == 2)

    assert watched.lost[0] is first
    assert watched.received[1].body == b"one"


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_dead_letters_are_counted_although_nobody_takes_them(
    watched: Watched, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    monkeypatch.setattr(consumer, "WATCH_SECONDS", 0.05)

    async with running(watched) as task:
        await watched.until_ready()
        await channel.basic_publish(b"letter", exchange="", routing_key=WALLET_DEAD_LETTERS)
        if not is_there:
            await channel.queue_delete(WALLET_UNROUTED)
        await until_depth(watched, WALLET_DEAD_LETTERS, 1)
        await publish(channel, b"one")
        await watched.until(lambda: len(watched.received) == 1)
        assert not task.done()

    assert watched.lost == [watched.received[0].channel]  # as it was stopped, and not before


async def test_a_queue_beside_that_the_broker_does_not_show_ends_no_consumer(
    watched: Watched, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "WATCH_SECONDS", 0.05)

    async with running(watched):
        await watched.until_ready()
        await channel.queue_delete(WALLET_UNROUTED)
        await channel.queue_declare(WALLET_UNROUTED, exclusive=True)  # nobody else may look at it
        for count in range(1, 4):  # a look that comes after one that failed
            await channel.basic_publish(b"letter", exchange="", routing_key=WALLET_DEAD_LETTERS)
            await until_depth(watched, WALLET_DEAD_LETTERS, count)
        await publish(channel, b"one")
        await watched.until(lambda: len(watched.received) == 1)

    assert watched.lost == [watched.received[0].channel]


@pytest.mark.parametrize("is_opened", [True, False])
async def test_a_look_beside_that_is_not_answered_ends_no_consumer_and_leaves_no_channel(
    watched: Watched, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch, *, is_opened: bool
) -> None:
    opened: list[Channel] = []

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    async def open_channel(connection: AbstractConnection) -> Channel:
        if len(opened) < 2 or is_opened:
            opened.append(await connection_module.open_channel(connection))
        else:
            opened.append(opened[0])
            msg = "no channel could be opened"
            raise BrokerUnavailableError(msg)
        if len(opened) > 2:  # the consumer's, that of its watchdog, and then those of each look beside
            monkeypatch.setattr(opened[-1], "queue_declare", never)
        return opened[-1]

    monkeypatch.setattr(consumer, "WATCH_SECONDS", 0.05)
    for module in (consumer, queue_depths):
        monkeypatch.setattr(module, "RPC_SECONDS", 0.5)
        monkeypatch.setattr(module, "open_channel", open_channel)

    async with running(watched):
        await watched.until_ready()
        await watched.until(lambda: len(opened) > 4)
        await publish(channel, b"one")
        await watched.until(lambda: len(watched.received) == 1)
        closed = [item.is_closed for item in opened[:4]]

    assert closed == [False, False, is_opened, is_opened]
    assert watched.lost == [watched.received[0].channel]


async def until_depth(watched: Watched, queue: str, count: int) -> None:
    """Wait until the metrics say that so many messages are in a queue."""
    fields = {"queue": queue}
    await watched.until(
        lambda: watched.metrics.registry.get_sample_value("wallet_queue_messages", fields) == count
    )


async def test_a_topology_that_is_wrong_from_the_start_ends_it(
    watched: Watched, channel: AbstractChannel
) -> None:
    await channel.exchange_delete(WALLET_EVENTS)

    with pytest.raises(topology.TopologyError) as raised:
        await watched.consumer.run()

    assert raised.value.faults == ("The exchange wallet.events does not exist.",)
    assert watched.lost == []


async def test_a_topology_that_was_right_may_be_wrong_for_a_while_and_no_longer(
    watched: Watched, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(watched) as task:
        await watched.until_ready()
        await channel.exchange_delete(WALLET_EVENTS)
        await channel.queue_delete(WALLET_COMMANDS)
        await watched.until(lambda: "does not exist" in watched.health.reasons.get("consumer", ""))
        still_running = not task.done()
        monkeypatch.setattr(consumer, "TOPOLOGY_GRACE_SECONDS", 0.0)
        await asyncio.wait({task}, timeout=SOON_SECONDS)
        error = task.exception()

    assert still_running
    assert isinstance(error, topology.TopologyError)


async def test_a_topology_that_was_mended_may_be_wrong_as_long_as_the_first_time(
    watched: Watched, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = asyncio.get_running_loop().time
    grace = Grace()
    monkeypatch.setattr(consumer, "TOPOLOGY_GRACE_SECONDS", grace)
    broken: list[float] = []
    seen: list[float] = []
    async with running(watched):
        await watched.until_ready()
        for _ in range(2):
            grace.asked.clear()
            broken.append(clock())
            await channel.queue_delete(WALLET_COMMANDS)
            await watched.until(lambda: "does not exist" in watched.health.reasons.get("consumer", ""))
            seen.append(clock())
            await topology.apply(watched.url)
            await watched.until_ready()

    assert grace.asked[0] < broken[1] - seen[0]  # as it would be, and more, since the first time


class Grace(float):
    """A grace that is never over, and knows for how long it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    @override
    def __lt__(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return False


async def test_a_broker_that_is_not_there_is_tried_again_until_it_is_to_stop() -> None:
    parts = urlsplit("amqp://wallet:guess-me@127.0.0.1:1/")
    watched = Watched(parts.geturl())

    async with running(watched) as task:
        await watched.until(lambda: "cannot be reached" in watched.health.reasons["consumer"])
        still_running = not task.done()

    assert still_running
    assert "guess-me" not in watched.health.reasons["consumer"]
    assert task.exception() is None
