"""What operators watch, as Prometheus metrics in a registry of the worker's own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The worker's metrics; `registry` is what `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
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
        self.queue_depth = Gauge(
            "wallet_queue_messages",
            "Messages ready in a queue: those that are consumed here, and those of dead letters, whoever keeps them.",
            ("queue",),
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
        self.ready = Gauge("wallet_ready", "1 while the worker is ready.", registry=self.registry)
