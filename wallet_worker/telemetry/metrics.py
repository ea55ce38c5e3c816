"""What operators watch, as Prometheus metrics in a registry of the process's own.

A process shows only what it measures. A gauge that has not been measured yet, or can not be measured now, is NaN: every
comparison with it is false, so that it neither raises an alarm nor says that all is well.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from typing_extensions import override

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

ProcessRole: TypeAlias = Literal["worker", "keeper", "audit", "api", "console", "webhooks"]
"""What a process is for: the label `role` of each of its series."""

UNKNOWN: Final = float("nan")
"""The value of a gauge that nobody has measured."""


class RoleRegistry(CollectorRegistry):
    """Another registry with the label `role` on each sample: alarms about workers do not count keepers."""

    def __init__(self, registry: CollectorRegistry, role: ProcessRole) -> None:
        super().__init__()
        self._labelled = registry
        self._role = role

    @override
    def collect(self) -> Iterator[Metric]:
        """Yield every metric, each sample with the role; the times at which counters began are left out."""
        for family in self._labelled.collect():
            family.samples = [
                sample._replace(labels={**sample.labels, "role": self._role})
                for sample in family.samples
                if not sample.name.endswith("_created")
            ]
            yield family


class ProcessMetrics:
    """What every process measures that has a broker and a database; `registry` has it without the role."""

    def __init__(self, role: ProcessRole) -> None:
        self.role: ProcessRole = role
        self.registry = CollectorRegistry()
        self._not_empty_since: dict[str, float] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.ready = Gauge("wallet_ready", "1 while the process is ready.", registry=self.registry)
        self.queue_depth = Gauge(
            "wallet_queue_messages",
            "Messages ready in a queue, as this process last saw it; NaN while the broker is away.",
            ("queue",),
            registry=self.registry,
        )
        self.queue_not_empty_seconds = Gauge(
            "wallet_queue_not_empty_seconds",
            "Seconds since this process last saw the queue without a ready message. No message that is ready is older.",
            ("queue",),
            registry=self.registry,
        )
        self.orders_overdue = Gauge(
            "wallet_orders_overdue",
            "Orders that should have been looked at a minute ago: asked about, or expired. Above zero for long: look.",
            registry=self.registry,
        )
        self.payouts_oldest_seconds = Gauge(
            "wallet_payouts_oldest_pending_seconds",
            "Age of the oldest withdrawal or refund that the payment gateway has said nothing final about.",
            registry=self.registry,
        )
        self.orders_unknown()

    @property
    def exposed(self) -> CollectorRegistry:
        """What `/metrics` shows."""
        return RoleRegistry(self.registry, self.role)

    def saw_queue(self, queue: str, messages: int) -> None:
        """Note how many messages are ready in a queue."""
        now = time.monotonic()
        since = self._not_empty_since.setdefault(queue, now)
        if not messages:
            since = self._not_empty_since[queue] = now
        self.queue_depth.labels(queue=queue).set(messages)
        self.queue_not_empty_seconds.labels(queue=queue).set(now - since)

    def queues_unknown(self, queues: Iterable[str]) -> None:
        """Note that nobody knows how many messages are ready."""
        for queue in queues:
            self._not_empty_since.pop(queue, None)
            self.queue_depth.labels(queue=queue).set(UNKNOWN)
            self.queue_not_empty_seconds.labels(queue=queue).set(UNKNOWN)

    def saw_orders(self, overdue: float, oldest_payout_seconds: float) -> None:
        """Note how the orders stand that wait."""
        self.orders_overdue.set(overdue)
        self.payouts_oldest_seconds.set(oldest_payout_seconds)

    def orders_unknown(self) -> None:
        """Note that nobody knows how the orders stand that wait."""
        self.saw_orders(UNKNOWN, UNKNOWN)


class Metrics(ProcessMetrics):
    """What a worker measures besides."""

    def __init__(self) -> None:
        super().__init__("worker")
        self.messages = Counter(
            "wallet_messages_total",
            "Messages that ended, by queue, ending and code.",
            ("queue", "ending", "code"),
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "wallet_batch_size", "Messages in a batch.", buckets=_SIZES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "wallet_batch_seconds",
            "Time from taking a batch to its commit.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.races = Counter(
            "wallet_lost_races_total",
            "Batches begun again because another worker was first.",
            registry=self.registry,
        )
        self.lane_waits = Counter(
            "wallet_lane_waits_total",
            "Batches that found no free lane of a system account and waited for one.",
            registry=self.registry,
        )
        self.published = Counter(
            "wallet_published_total",
            "Messages that the broker confirmed.",
            ("exchange",),
            registry=self.registry,
        )
        self.publish_failures = Counter(
            "wallet_publish_failures_total",
            "Messages that were not confirmed, or came back; they stay in the outbox.",
            ("exchange",),
            registry=self.registry,
        )
        self.outbox_overdue = Gauge(
            "wallet_outbox_overdue_messages",
            "Messages in the outbox that should have been published by now. Above zero for long: look.",
            registry=self.registry,
        )
        self.outbox_oldest_seconds = Gauge(
            "wallet_outbox_oldest_seconds", "Age of the oldest overdue message.", registry=self.registry
        )
        self.queries = Counter(
            "wallet_queries_total",
            "Queries answered, by type and code.",
            ("type", "code"),
            registry=self.registry,
        )
        self.replies_refused = Counter(
            "wallet_replies_refused_total",
            "Messages whose reply_to is no address of their sender: they were applied, and answered nowhere.",
            registry=self.registry,
        )
        self.requests_unsigned = Gauge(
            "wallet_requests_unsigned",
            "1 while payment requests go out unsigned: WALLET_REQUEST_KEY_FILE is none.",
            registry=self.registry,
        )
        self.outbox_unknown()

    def outbox_unknown(self) -> None:
        """Note that nobody knows what is overdue to be published."""
        self.outbox_overdue.set(UNKNOWN)
        self.outbox_oldest_seconds.set(UNKNOWN)
