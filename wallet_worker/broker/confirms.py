"""Publishing many messages with one write, each with its own confirm.

aiormq's `basic_publish` takes a lock, a timer, a task and a write for every message, which is most of what a
worker's time goes into. Here a batch takes one of each. The bookkeeping is aiormq's: tags, confirmations and
returned messages are noted where its reader looks for them.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import uuid4

import pamqp.frame
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

_process = uuid4().hex[:16]
_numbers = itertools.count()


class Publication(NamedTuple):
    """One message. No other message that is unconfirmed may have the message_id of its `properties`."""

    exchange: str
    routing_key: str
    mandatory: bool
    properties: Basic.Properties
    body: bytes


def fresh_message_id() -> str:
    """Return a message_id that no other attempt has, of this process or another."""
    return f"{_process}{next(_numbers):016x}"


async def publish_all(channel: Channel, messages: Sequence[Publication]) -> list[asyncio.Future[Any]]:
    """Send the messages, in order, and return a future of the broker's confirm for each.

    A future ends with Basic.Ack, or raises: nacked, returned (if mandatory), or the channel was lost.
    If the sending itself is cut off, the channel is closed, because nobody knows what the broker has seen.
    """
    async with channel.lock:
        waiting: list[asyncio.Future[Any]] = []
        frames: list[bytes] = []
        for message in messages:
            channel.delivery_tag += 1
            confirmation = channel.create_future()
            channel.confirmations[channel.delivery_tag] = confirmation
            if message.mandatory:
                _expect_return(channel, message.properties.message_id or "", confirmation)
            header = ContentHeader(properties=message.properties, body_size=len(message.body))
            frames += (
                _publish(channel.number, message.exchange, message.routing_key, message.mandatory),
                pamqp.frame.marshal(header, channel.number),
                *_body(channel, message.body),
            )
            waiting.append(confirmation)
        try:
            await channel.write_queue.put(ChannelFrame(payload=b"".join(frames), should_close=False))
        except BaseException:
            for confirmation in waiting:
                confirmation.cancel()
            await channel.close()
            raise
    return waiting


def _expect_return(channel: Channel, message_id: str, confirmation: asyncio.Future[Any]) -> None:
    """Have a returned message, which is known by its message_id alone, end its confirmation."""
    channel.message_id_delivery_tag[message_id] = channel.delivery_tag
    confirmation.add_done_callback(lambda _: channel.message_id_delivery_tag.pop(message_id, None))


def _body(channel: Channel, body: bytes) -> Iterator[bytes]:
    """Return the frames of a body, none for an empty one."""
    size = channel.max_content_size
    for start in range(0, len(body), size):
        yield pamqp.frame.marshal(ContentBody(body[start : start + size]), channel.number)


@lru_cache(maxsize=1_024)  # the same few events and requests, and the reply queues of who is asking now
def _publish(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:  # noqa: FBT001 -- cached
    method = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return pamqp.frame.marshal(method, channel)
