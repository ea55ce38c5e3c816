"""Publishing many messages with one write, each with its own confirm.

aiormq's `basic_publish` takes a lock, a timer, a future, a task and a write for every message, which is most of
what a worker's time goes into. Here a batch takes one of each. The bookkeeping is aiormq's: tags, confirmations
and returned messages are noted where its reader looks for them.
"""

import asyncio
import itertools
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast
from uuid import uuid4

import pamqp.frame
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from aiormq.exceptions import DeliveryError
from pamqp import constants
from pamqp.commands import Basic

from wallet_worker.broker.connection import describe

_process = uuid4().hex[:16]
_numbers = itertools.count()

_FRAME: Final = struct.Struct(">BHI")  # kind, channel, size of what follows
_HEADER: Final = struct.Struct(">HHQ")  # class, weight, size of the body; the properties follow


class Publication(NamedTuple):
    """One message. No other message that is unconfirmed may have its message_id.

    `properties` are AMQP properties as they stand on the wire, this message_id among them.
    """

    exchange: str
    routing_key: str
    mandatory: bool
    message_id: str
    properties: bytes
    body: bytes


def fresh_message_id() -> str:
    """Return a message_id that no other attempt has, of this process or another."""
    return f"{_process}{next(_numbers):016x}"


async def publish_all(channel: Channel, messages: Sequence[Publication]) -> "PendingConfirms":
    """Send the messages, at least one, in order, and return what waits for the broker's answers.

    If the sending itself is cut off, the channel is closed, because nobody knows what the broker has seen.
    """
    payload = b"".join(frame for message in messages for frame in _frames(channel, message))
    async with channel.lock:
        sending = PendingConfirms(channel, messages)
        try:
            await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
        except BaseException:
            sending.failures()
            await channel.close()
            raise
    return sending


class PendingConfirms:
    """Messages on their way, sent with one write, and what the broker answers to each."""

    def __init__(self, channel: Channel, messages: Sequence[Publication]) -> None:
        self._answers = [_Answer(self) for _ in messages]
        self._missing = len(messages)
        self._complete = channel.create_future()  # the channel ends it, when it is lost before
        self._mandatory = [message.message_id for message in messages if message.mandatory]
        self._tags_of_returned = channel.message_id_delivery_tag
        confirmations = cast("dict[int, Any]", channel.confirmations)
        for message, answer in zip(messages, self._answers, strict=True):
            channel.delivery_tag += 1
            confirmations[channel.delivery_tag] = answer
            if message.mandatory:
                self._tags_of_returned[message.message_id] = channel.delivery_tag

    @property
    def ended(self) -> bool:
        """Whether nobody waits any more."""
        return self._complete.done()

    async def wait(self) -> None:
        """Return once every message is answered, or the channel is lost."""
        await asyncio.wait({self._complete})

    def failures(self) -> list[str | None]:
        """Return why each message is not confirmed, nothing for one that is; missing answers are given up."""
        without = "no confirm in time"
        if not self._complete.done():
            self._complete.cancel()
        elif self._missing:
            exc = None if self._complete.cancelled() else self._complete.exception()
            without = describe(exc) if exc else "the channel was closed"
        for message_id in self._mandatory:
            self._tags_of_returned.pop(message_id, None)
        return [answer.error if answer.received else without for answer in self._answers]

    @property
    def is_refused(self) -> bool:
        """Whether the broker has refused every message itself, with a nack: none was taken, returned or left open."""
        return all(answer.refused for answer in self._answers)

    def note_answer(self) -> None:
        """Count one message as answered."""
        self._missing -= 1
        if not self._missing and not self._complete.done():
            self._complete.set_result(None)


class _Answer:
    """The broker's answer to one message: to aiormq's reader a future, and cheaper, as nobody waits for it alone."""

    __slots__ = ("_sending", "error", "received", "refused")

    def __init__(self, sending: PendingConfirms) -> None:
        self._sending = sending
        self.received = False
        self.refused = False
        self.error: str | None = None

    def done(self) -> bool:
        """Return whether an answer is not wanted any more."""
        return self.received or self._sending.ended

    def cancelled(self) -> bool:
        """Return whether it was given up before an answer came."""
        return not self.received and self._sending.ended

    def set_result(self, frame: object) -> None:
        """Note what the broker says."""
        self._note(None if isinstance(frame, Basic.Ack) else "the broker did not take the message")

    def set_exception(self, exc: BaseException) -> None:
        """Note that the message was nacked or returned."""
        self.refused = isinstance(exc, DeliveryError) and isinstance(exc.frame, Basic.Nack)
        self._note(describe(exc))

    def _note(self, why_not: str | None) -> None:
        self.received, self.error = True, why_not
        self._sending.note_answer()


def _frames(channel: Channel, message: Publication) -> Iterator[bytes]:
    """Return the frames of one message, in pieces; an empty body has none."""
    number, body = channel.number, message.body
    yield _method(number, message.exchange, message.routing_key, message.mandatory)
    yield _FRAME.pack(constants.FRAME_HEADER, number, _HEADER.size + len(message.properties))
    yield _HEADER.pack(Basic.frame_id, 0, len(body))
    yield message.properties
    yield constants.FRAME_END_CHAR
    size = channel.max_content_size
    for start in range(0, len(body), size):
        part = body[start : start + size]
        yield _FRAME.pack(constants.FRAME_BODY, number, len(part))
        yield part
        yield constants.FRAME_END_CHAR


@lru_cache(maxsize=1_024)  # the same few events and requests, and the reply queues of who is asking now
def _method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:  # noqa: FBT001 -- cached
    method = Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    return pamqp.frame.marshal(method, channel)
