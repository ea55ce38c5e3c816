"""Deliveries between the broker's callback and the batch: in order, and only while they can be acknowledged."""

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_schemas.names import SIGNATURE_HEADER, TRACEPARENT_HEADER
from wallet_worker.broker.amqp.deliveries import RawDelivery
from wallet_worker.broker.amqp.properties import DroppedBody
from wallet_worker.broker.connection import CONNECTION_ERRORS, BrokerUnavailableError, translate_errors
from wallet_worker.broker.sender_policy import ANYONE, SenderPolicy
from wallet_worker.core.inbound import InboundMessage, Source
from wallet_worker.text import storable

DELIVERY_COUNT_HEADER = "x-delivery-count"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,200})?")
_NAME_BYTES_MAX = 255
# What is written of a batch may be one parameter of one statement, and PostgreSQL's limit for that is 1 GiB.
TAKEN_BYTES_MAX = 32 * 2**20
ACKNOWLEDGE_SECONDS = 35.0  # when a dead peer is found; the client's own queue could be waited for longer


class Envelope(NamedTuple):
    """One message with everything that came with it, from the broker or from the parked results.

    `deliveries` counts how often the broker has handed it out before.
    """

    incoming: InboundMessage
    exchange: str
    routing_key: str
    properties: Basic.Properties
    deliveries: int = 0
    first_seen: datetime | None = None
    parked_id: int | None = None
    dropped: DroppedBody | None = None

    @property
    def size(self) -> int:
        """The bytes of its body."""
        return len(self.incoming.body)

    @property
    def is_isolated(self) -> bool:
        """Whether the broker has handed it out before: a worker may have died of it."""
        return self.deliveries > 0


class Content(Protocol):
    """What an inbox needs to know of a message."""

    @property
    def size(self) -> int:
        """The bytes of its body."""

    @property
    def is_isolated(self) -> bool:
        """Whether it shares no batch with messages that are not isolated."""


C = TypeVar("C", bound=Content)


class Delivery(NamedTuple, Generic[C]):
    """A message that this channel, and no other, can acknowledge."""

    content: C
    tag: int
    channel: Channel


def delivery(source: Source, taken: RawDelivery, policy: SenderPolicy = ANYONE) -> Delivery[Envelope]:
    """Return what was taken out of the stream as one of ours."""
    return Delivery(
        envelope(
            source,
            taken.body,
            taken.properties,
            policy,
            exchange=taken.exchange,
            routing_key=taken.routing_key,
            deliveries=_deliveries(taken),
            dropped=taken.dropped,
        ),
        taken.delivery_tag,
        taken.channel,
    )


def envelope(
    source: Source,
    body: bytes,
    properties: Basic.Properties,
    policy: SenderPolicy = ANYONE,
    *,
    exchange: str,
    routing_key: str,
    deliveries: int = 0,
    attempts: int = 0,
    first_seen: datetime | None = None,
    parked_id: int | None = None,
    dropped: DroppedBody | None = None,
) -> Envelope:
    """Return a message with what the core may know of its properties."""
    headers = properties.headers or {}
    return Envelope(
        InboundMessage(
            source=source,
            body=body,
            reply_to=policy.reply_to(properties),
            correlation_id=properties.correlation_id or None,
            traceparent=traceparent(headers),
            signature=headers.get(SIGNATURE_HEADER),
            attempts=attempts,
            routing_key=_name(routing_key),
            sender=policy.sender(properties) if source is Source.COMMANDS else None,
            dropped_bytes=None if dropped is None else dropped.size,
        ),
        exchange,
        _name(routing_key),
        properties,
        deliveries,
        first_seen or datetime.now(UTC),
        parked_id,
        dropped,
    )


def traceparent(headers: Mapping[str, object]) -> str | None:
    """Return the header `traceparent` if it is one (W3C Trace Context, section 3.2)."""
    header = headers.get(TRACEPARENT_HEADER)
    return header if isinstance(header, str) and _TRACEPARENT.fullmatch(header) else None


def _name(text: str) -> str:
    """Return a name of AMQP as PostgreSQL can store it, cut to the 255 bytes that AMQP has for it."""
    if text.isascii() and text.isprintable():
        return text  # unchanged, except from strangers
    return storable(text, _NAME_BYTES_MAX)


def _deliveries(taken: RawDelivery) -> int:
    """Return how often the message was handed out before; a quorum queue counts, others only flag it."""
    if not taken.redelivered:
        return 0  # whatever a sender has written into the header
    counted = (taken.properties.headers or {}).get(DELIVERY_COUNT_HEADER)
    return max(counted, 1) if isinstance(counted, int) else 1


class Inbox(Generic[C]):
    """Deliveries that wait for the next batch. The broker's prefetch is their bound.

    A batch has at most `bytes_max` bytes of bodies, or one message.
    """

    def __init__(self, bytes_max: int = TAKEN_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._waiting: deque[Delivery[C]] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, delivery: Delivery[C]) -> None:
        """Add a delivery, in the order in which the broker sent it."""
        self._waiting.append(delivery)
        self._changed.set()

    def close(self) -> None:
        """End the inbox: `take` returns nothing once it is empty."""
        self._closed = True
        self._changed.set()

    async def take(self, limit: int) -> list[Delivery[C]]:
        """Return what is there, at least one delivery and at most `limit`; nothing once closed and empty.

        A batch comes from one channel. Isolated messages share no batch with others.
        """
        while not self._waiting:
            if self._closed:
                return []
            self._changed.clear()
            await self._changed.wait()
        taken: list[Delivery[C]] = []
        taken_bytes = 0
        while self._waiting and len(taken) < limit:
            following = self._waiting[0]
            taken_bytes += following.content.size
            if taken and (
                taken_bytes > self._bytes_max
                or following.content.is_isolated != taken[0].content.is_isolated
                or following.channel is not taken[0].channel
            ):
                break
            taken.append(self._waiting.popleft())
        return taken

    def forget(self, channel: Channel) -> None:
        """Drop what a closed channel left: it cannot be acknowledged, and the broker sends it again."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.channel is not channel)


async def acknowledge(batch: Sequence[Delivery[Any]]) -> None:
    """Acknowledge a batch, and with it everything that its channel delivered before.

    A channel that is gone is no loss: the broker delivers again, and the outcomes are known then.
    """
    last = batch[-1]
    try:
        with translate_errors():
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                await last.channel.basic_ack(last.tag, multiple=True, wait=False)
    except (BrokerUnavailableError, *CONNECTION_ERRORS):
        return
