"""Publishing with confirms: what the broker did not take is known, and stops nothing else."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from tests.journeys import wire
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_DEAD_LETTERS, WALLET_EVENTS, WALLET_UNROUTED
from wallet_worker.broker.publisher import Publisher
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics

SOON_SECONDS = 30.0


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """Give a channel of somebody else's."""
    async with aiormq.connect(amqp_url) as connection:
        yield await connection.channel()


@pytest.fixture
async def publisher(amqp_url: str) -> AsyncIterator[Publisher]:
    """Give a publisher that is connected."""
    health, stopping = Health(), asyncio.Event()
    health.expect("publisher")
    publisher = Publisher(amqp_url, health, Metrics())
    task = asyncio.create_task(publisher.run(stopping))
    async with asyncio.timeout(SOON_SECONDS):
        # Readiness changes without a word.
        while not health.is_ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    yield publisher
    stopping.set()
    await task
    await publisher.close()


def row(
    exchange: str, *, letter: bytes | None = None, routing_key: str = "k", body: bytes = b"{}"
) -> OutboxMessage:
    return OutboxMessage(uuid4(), exchange, routing_key, body, properties=letter)


def letter(message_id: bytes) -> bytes:
    """Return the properties of a dead letter, with the message_id that its sender gave it."""
    return wire.properties(message_id=message_id, delivery_mode=b"\2")


async def test_what_the_broker_takes_is_confirmed(publisher: Publisher, channel: AbstractChannel) -> None:
    rows = [row(PAYMENT_REQUESTS, body=b"%d" % number) for number in range(1_200)]

    confirmed = await publisher.publish(rows)

    assert confirmed == {item.message_id for item in rows}
    answer = await channel.queue_declare(PAYMENT_REQUESTS, passive=True)
    assert answer.message_count == 1_200


async def test_an_exchange_that_is_missing_holds_up_no_other(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    await channel.exchange_delete(WALLET_DEAD_LETTERS)
    lost, events, requests = (
        row(WALLET_DEAD_LETTERS, letter=letter(b"m")),
        row(WALLET_EVENTS),
        row(PAYMENT_REQUESTS),
    )

    first = await publisher.publish([lost, events, requests])
    second = await publisher.publish([row(WALLET_DEAD_LETTERS, letter=letter(b"m")), events])

    assert first == {events.message_id, requests.message_id}
    assert second == {events.message_id}


async def test_an_exchange_that_is_back_is_published_to_again(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    await channel.exchange_delete(WALLET_EVENTS)
    first = row(WALLET_EVENTS)
    before = await publisher.publish([first])

    await channel.exchange_declare(WALLET_EVENTS, exchange_type="topic", durable=True)
    after = await publisher.publish([first])

    assert (before, after) == (set(), {first.message_id})


async def test_an_event_or_an_answer_that_nobody_waits_for_is_confirmed(publisher: Publisher) -> None:
    rows = [row(WALLET_EVENTS), row("", routing_key="nobody")]

    confirmed = await publisher.publish(rows)

    assert confirmed == {item.message_id for item in rows}


async def test_a_dead_letter_that_no_queue_takes_is_not_confirmed(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    await channel.queue_unbind(WALLET_DEAD_LETTERS, WALLET_DEAD_LETTERS, "#")

    confirmed = await publisher.publish([row(WALLET_DEAD_LETTERS, letter=letter(b"m")) for _ in range(3)])

    assert confirmed == set()


async def test_a_payment_request_that_no_queue_takes_is_not_confirmed(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    await channel.queue_unbind(PAYMENT_REQUESTS, PAYMENT_REQUESTS, "#")
    await channel.queue_unbind(WALLET_UNROUTED, WALLET_UNROUTED, "#")

    confirmed = await publisher.publish([row(PAYMENT_REQUESTS) for _ in range(3)])

    assert confirmed == set()


async def test_a_queue_that_takes_no_more_is_not_taken_for_one_that_does(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    arguments: dict[str, aiormq.abc.FieldValue] = {"x-max-length": 2, "x-overflow": "reject-publish"}
    await channel.queue_declare("full", arguments=arguments)
    rows = [row("", routing_key="full") for _ in range(5)]

    confirmed = await publisher.publish(rows)

    assert confirmed == {item.message_id for item in rows[:2]}


async def test_a_channel_that_is_refused_everything_is_not_used_again_and_not_for_each_refusal(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    arguments: dict[str, aiormq.abc.FieldValue] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    await channel.queue_declare("full", arguments=arguments)
    await channel.queue_declare("empty")
    assert len(await publisher.publish([row("", routing_key="empty")])) == 1
    first = publisher._channels[""]
    used = []
    for _ in range(2):
        assert await publisher.publish([row("", routing_key="full")]) == set()
        assert len(await publisher.publish([row("", routing_key="empty")])) == 1
        used.append(publisher._channels[""])

    assert first.is_closed
    assert used[0] is used[1] is not first
    assert not used[0].is_closed


async def test_letters_whose_senders_gave_them_one_message_id_are_not_taken_for_each_other(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    await channel.queue_unbind(WALLET_DEAD_LETTERS, WALLET_DEAD_LETTERS, "#")
    await channel.queue_bind(WALLET_DEAD_LETTERS, WALLET_DEAD_LETTERS, "taken")
    taken = [row(WALLET_DEAD_LETTERS, letter=letter(b"same"), routing_key="taken") for _ in range(5)]
    returned = [row(WALLET_DEAD_LETTERS, letter=letter(b"same"), routing_key="nowhere") for _ in range(5)]
    mixed = [item for pair in zip(taken, returned, strict=True) for item in pair]

    at_once = await asyncio.gather(publisher.publish(mixed[:5]), publisher.publish(mixed[5:]))

    assert set().union(*at_once) == {item.message_id for item in taken}


async def test_without_a_connection_nothing_is_confirmed_and_nothing_raised(amqp_url: str) -> None:
    publisher = Publisher(amqp_url, Health(), Metrics())

    confirmed = await publisher.publish([row(WALLET_EVENTS)])

    assert confirmed == set()
