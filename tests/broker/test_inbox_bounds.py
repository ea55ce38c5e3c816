"""A batch has a bound in messages and one in bytes, and what strangers put into headers decides nothing."""

from typing import cast

import pytest
from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_schemas.names import TRACEPARENT_HEADER
from wallet_worker.broker.inbox import TAKEN_BYTES_MAX, Delivery, Envelope, Inbox, envelope, traceparent
from wallet_worker.core.inbound import Source

CHANNEL = cast("Channel", object())
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def delivery(tag: int, body: bytes) -> Delivery[Envelope]:
    return Delivery(
        envelope(Source.COMMANDS, body, Basic.Properties(), exchange="", routing_key=""), tag, CHANNEL
    )


async def test_a_batch_ends_before_its_bodies_are_too_many_bytes() -> None:
    inbox = Inbox[Envelope]()
    third = bytes(TAKEN_BYTES_MAX // 3)
    for tag in range(1, 6):
        inbox.put(delivery(tag, third))

    batches = [[item.tag for item in await inbox.take(500)] for _ in range(2)]

    assert batches == [[1, 2, 3], [4, 5]]


async def test_a_body_above_the_bound_is_taken_alone() -> None:
    inbox = Inbox[Envelope]()
    inbox.put(delivery(1, bytes(TAKEN_BYTES_MAX + 1)))
    inbox.put(delivery(2, b"{}"))

    batches = [[item.tag for item in await inbox.take(500)] for _ in range(2)]

    assert batches == [[1], [2]]


@pytest.mark.parametrize(
    ("header", "carried"),
    [
        (TRACE, TRACE),
        ("01" + TRACE[2:] + "-what.a.later=version-adds", "01" + TRACE[2:] + "-what.a.later=version-adds"),
        (TRACE + "-\0", None),
        (TRACE + "\n", None),
        (TRACE.upper(), None),
        (b"\xff", None),
        (17, None),
        (None, None),
    ],
)
def test_only_a_traceparent_is_carried_on(header: object, carried: str | None) -> None:
    assert traceparent({TRACEPARENT_HEADER: header}) == carried
