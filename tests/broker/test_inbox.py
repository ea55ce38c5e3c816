"""The inbox: in order, only while it can be acknowledged, and never fresh messages with those of a dead worker."""

import asyncio
from typing import Any, cast

import pytest
from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_worker.broker.amqp.deliveries import RawDelivery
from wallet_worker.broker.inbox import Delivery, Envelope, Inbox, acknowledge, delivery
from wallet_worker.core.inbound import Source

HERE, THERE = cast("Channel", object()), cast("Channel", object())


def delivered(
    tag: int, *, channel: Channel = HERE, redelivered: bool = False, routing_key: str = "k", **properties: Any
) -> Delivery[Envelope]:
    """Return a delivery as it is taken out of the stream."""
    kept = Basic.Properties(**properties)
    return delivery(
        Source.COMMANDS, RawDelivery(channel, tag, redelivered, "wallet.commands", routing_key, kept, b"{}")
    )


async def batches(inbox: Inbox[Envelope], limit: int = 500) -> list[list[int]]:
    """Close the inbox and return the tags of all batches that are left in it."""
    inbox.close()
    found = []
    while batch := await inbox.take(limit):
        found.append([item.tag for item in batch])
    return found


def filled(*deliveries: Delivery[Envelope]) -> Inbox[Envelope]:
    inbox = Inbox[Envelope]()
    for item in deliveries:
        inbox.put(item)
    return inbox


async def test_what_is_there_is_taken_at_once_and_in_order() -> None:
    inbox = filled(*(delivered(tag) for tag in range(1, 8)))

    found = await batches(inbox)

    assert found == [[1, 2, 3, 4, 5, 6, 7]]


async def test_a_batch_has_at_most_as_many_as_the_limit() -> None:
    inbox = filled(*(delivered(tag) for tag in range(1, 8)))

    found = await batches(inbox, limit=3)

    assert found == [[1, 2, 3], [4, 5, 6], [7]]


async def test_what_was_delivered_before_never_comes_with_what_was_not() -> None:
    again = {2, 3, 5}
    inbox = filled(*(delivered(tag, redelivered=tag in again) for tag in range(1, 7)))

    found = await batches(inbox)

    assert found == [[1], [2, 3], [4], [5], [6]]


async def test_a_batch_comes_from_one_channel() -> None:
    inbox = filled(delivered(8), delivered(9), delivered(1, channel=THERE), delivered(2, channel=THERE))

    found = await batches(inbox)

    assert found == [[8, 9], [1, 2]]


async def test_what_a_lost_channel_left_is_forgotten_and_nothing_else() -> None:
    inbox = filled(delivered(8), delivered(1, channel=THERE), delivered(9))

    inbox.forget(HERE)

    assert (len(inbox), await batches(inbox)) == (1, [[1]])


async def test_to_take_waits_for_a_delivery() -> None:
    inbox = Inbox[Envelope]()
    taking = asyncio.create_task(inbox.take(500))
    await asyncio.sleep(0)

    inbox.put(delivered(7))

    assert [item.tag for item in await taking] == [7]


async def test_to_take_ends_when_the_inbox_is_closed() -> None:
    inbox = Inbox[Envelope]()
    taking = asyncio.create_task(inbox.take(500))
    await asyncio.sleep(0)

    inbox.close()

    assert await taking == []


async def test_to_take_waits_on_when_what_arrived_is_forgotten_again() -> None:
    inbox = Inbox[Envelope]()
    taking = asyncio.create_task(inbox.take(500))
    await asyncio.sleep(0)
    inbox.put(delivered(7))
    inbox.forget(HERE)
    await asyncio.sleep(0)

    inbox.put(delivered(1, channel=THERE))

    assert [item.tag for item in await taking] == [1]


@pytest.mark.parametrize(
    ("redelivered", "headers", "deliveries"),
    [
        (False, None, 0),
        (True, None, 1),
        (True, {"x-delivery-count": 4}, 4),
        (True, {"x-delivery-count": 0}, 1),
        (True, {"x-delivery-count": "4"}, 1),
        (False, {"x-delivery-count": 4}, 0),
    ],
)
async def test_deliveries_are_counted_by_the_broker_and_not_by_senders(
    redelivered: bool,  # noqa: FBT001 -- a column of the table above
    headers: dict[str, Any] | None,
    deliveries: int,
) -> None:
    first = delivered(1, redelivered=redelivered, headers=headers)

    assert first.content.deliveries == deliveries


@pytest.mark.parametrize(
    ("reply_to", "address"),
    [
        ("amq.gen-1", "amq.gen-1"),
        ("amq.rabbitmq.reply-to.g1h2.x==", "amq.rabbitmq.reply-to.g1h2.x=="),
        ("reply." + "r" * 249, "reply." + "r" * 249),
        ("reply.中文", None),
        ("payment.requests", None),
        ("wallet.dead-letters", None),
        ("somebody.elses", None),
        ("", None),
        (None, None),
        ("a\0b", None),
        ("\udcff", None),
    ],
)
async def test_an_answer_goes_only_to_a_queue_of_whoever_asks(
    reply_to: str | None, address: str | None
) -> None:
    first = delivered(1, reply_to=reply_to)

    assert first.content.incoming.reply_to == address


@pytest.mark.parametrize(
    ("routing_key", "kept"),
    [
        ("a.b", "a.b"),
        ("", ""),
        ("a\0b", "a\ufffdb"),
        ("a\udcffb", "a\ufffdb"),
        ("\udcff" * 255, "\ufffd" * 85),
    ],
)
async def test_a_routing_key_is_kept_as_text_that_can_be_stored_and_sent(routing_key: str, kept: str) -> None:
    first = delivered(1, routing_key=routing_key)

    assert first.content.routing_key == kept


async def test_a_correlation_id_is_kept_whatever_it_is() -> None:
    first = delivered(1, correlation_id="\udcff\0")

    assert first.content.incoming.correlation_id == "\udcff\0"


class Recorder:
    """A channel that notes acknowledgements, or is gone."""

    def __init__(self, error: Exception | None = None) -> None:
        self.acknowledged: list[tuple[int, bool]] = []
        self.error = error

    async def basic_ack(self, tag: int, *, multiple: bool, wait: bool) -> None:  # noqa: ARG002 -- aiormq's
        if self.error is not None:
            raise self.error
        self.acknowledged.append((tag, multiple))


async def test_a_batch_is_acknowledged_with_one_frame() -> None:
    recorder = Recorder()
    channel = cast("Channel", recorder)

    await acknowledge([delivered(tag, channel=channel) for tag in (4, 5, 6)])

    assert recorder.acknowledged == [(6, True)]


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), asyncio.InvalidStateError()])
async def test_an_acknowledgement_that_comes_too_late_is_no_error(error: Exception) -> None:
    channel = cast("Channel", Recorder(error))

    await acknowledge([delivered(1, channel=channel)])
