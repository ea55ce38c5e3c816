"""The exchanges, queues and bindings of the wallet as data (docs/contract.md, section 4)."""

from dataclasses import dataclass
from typing import TypeAlias

from wallet_schemas.names import (
    EVENT_LOG,
    PAYMENT_REQUESTS,
    PAYMENT_RESULTS,
    QUERY_LIFE_MS,
    WALLET_COMMANDS,
    WALLET_DEAD_LETTERS,
    WALLET_EVENTS,
    WALLET_QUERIES,
    WALLET_UNROUTED,
)

DELIVERY_LIMIT = 1_000
"""A net against crash loops only: far above the wallet's own count of attempts, which decides what is poison."""

EVENT_LOG_AGE = "7D"
EVENT_LOG_BYTES = 10_000_000_000
EVENT_LOG_SEGMENT_BYTES = 100_000_000  # what is too old is dropped a segment at a time

Arguments: TypeAlias = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str
    alternate: str | None = None

    @property
    def arguments(self) -> Arguments:
        """What it is declared with."""
        return {"alternate-exchange": self.alternate} if self.alternate else {}


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue and the exchange that it is bound to, by every routing key: that of its name unless `fed_by`."""

    name: str
    type: str
    dead_letter_exchange: str | None = None
    message_ttl_ms: int | None = None
    fed_by: str | None = None

    @property
    def source(self) -> str:
        """The exchange whose messages it gets."""
        return self.fed_by or self.name

    def arguments(self, version: tuple[int, ...]) -> Arguments:
        """What it is declared with on a broker of this version."""
        arguments: Arguments = {"x-queue-type": self.type}
        if self.message_ttl_ms is not None:
            arguments["x-message-ttl"] = self.message_ttl_ms
        if self.type == "stream":
            return arguments | {
                "x-max-age": EVENT_LOG_AGE,
                "x-max-length-bytes": EVENT_LOG_BYTES,
                "x-stream-max-segment-size-bytes": EVENT_LOG_SEGMENT_BYTES,
            }
        if self.type != "quorum":
            return arguments
        # drop-head would lose messages, and quietly turn at-least-once dead-lettering into at-most-once.
        arguments["x-overflow"] = "reject-publish"
        if self.dead_letter_exchange is not None:
            arguments["x-dead-letter-exchange"] = self.dead_letter_exchange
            arguments["x-dead-letter-strategy"] = "at-least-once"
            arguments["x-delivery-limit"] = DELIVERY_LIMIT
        elif version >= (4,):
            # Here a limit would drop messages; from 4.0 the default is 20, before there is none (and -1 means 0).
            arguments["x-delivery-limit"] = -1
        return arguments


EXCHANGES = (
    Exchange(WALLET_UNROUTED, "fanout"),
    Exchange(WALLET_DEAD_LETTERS, "topic"),
    Exchange(WALLET_COMMANDS, "topic", alternate=WALLET_UNROUTED),
    Exchange(PAYMENT_REQUESTS, "topic", alternate=WALLET_UNROUTED),
    Exchange(PAYMENT_RESULTS, "topic", alternate=WALLET_UNROUTED),
    Exchange(WALLET_EVENTS, "topic"),
    Exchange(WALLET_QUERIES, "topic"),
)

QUEUES = (
    Queue(WALLET_UNROUTED, "quorum"),
    Queue(WALLET_DEAD_LETTERS, "quorum"),
    Queue(WALLET_COMMANDS, "quorum", dead_letter_exchange=WALLET_DEAD_LETTERS),
    Queue(PAYMENT_REQUESTS, "quorum", dead_letter_exchange=WALLET_DEAD_LETTERS),
    Queue(PAYMENT_RESULTS, "quorum", dead_letter_exchange=WALLET_DEAD_LETTERS),
    Queue(WALLET_QUERIES, "quorum", message_ttl_ms=QUERY_LIFE_MS),
)

QUERIES_ON_ONE_NODE = Queue(WALLET_QUERIES, "classic", message_ttl_ms=QUERY_LIFE_MS)
"""What 0.1 had before: it was down with its node, and every worker ended."""

STREAMS = (Queue(EVENT_LOG, "stream", fed_by=WALLET_EVENTS),)
"""The log of events: made where events are read by HTTP or posted to webhooks, and needed by no worker."""

BINDING_KEY = "#"

MEMBERS = 3
"""Members of a queue on a cluster: one may be lost, and two are a majority. The broker's own default."""
