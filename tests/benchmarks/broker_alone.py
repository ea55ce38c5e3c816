"""The broker alone: raw bytes into a quorum queue and out of it, by a client that costs next to nothing."""

import time
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.place import EVENTS_QUEUE, Site
from tests.benchmarks.wire import Parcel, RawChannel, framed

_ACKNOWLEDGED_AT_ONCE: Final = 500
_PREFETCH: Final = 2_000


@dataclass(frozen=True, slots=True)
class BrokerPace:
    """Messages a second published with confirms, and consumed with acknowledgements."""

    published: float
    consumed: float


def run(site: Site, count: int) -> BrokerPace:
    """Return how fast `count` messages of the size of an event go into a quorum queue, and come out again."""
    body = b"x" * 600
    messages = [framed(Parcel("", EVENTS_QUEUE, body, f"raw-{number}")) for number in range(count)]
    with RawChannel(site.amqp_url) as channel:
        begun = time.perf_counter()
        channel.publish(messages)
        published = count / (time.perf_counter() - begun)
    with RawChannel(site.amqp_url) as channel:
        begun = time.perf_counter()
        deliveries = channel.consume(EVENTS_QUEUE, prefetch=_PREFETCH)
        for number, message in enumerate(deliveries, start=1):
            if number % _ACKNOWLEDGED_AT_ONCE == 0 or number == count:
                channel.acknowledge(message.tag)
            if number == count:
                break
        consumed = count / (time.perf_counter() - begun)
        channel.depth(EVENTS_QUEUE)
    return BrokerPace(published, consumed)
