"""What operators watch of webhooks."""

from prometheus_client import Counter, Gauge

from wallet_worker.store.webhooks import Backlog
from wallet_worker.telemetry.metrics import UNKNOWN, ProcessMetrics


class WebhooksMetrics(ProcessMetrics):
    """The metrics of one `wallet webhooks`."""

    def __init__(self) -> None:
        super().__init__("webhooks")
        self.attempts = Counter(
            "wallet_webhook_attempts_total",
            "Attempts to post an event, by what came of them.",
            ("ending",),
            registry=self.registry,
        )
        self.events = Counter(
            "wallet_webhook_events_total", "Events that were read from the log.", registry=self.registry
        )
        self.missed = Counter(
            "wallet_webhook_missed_total",
            "Events that the log no longer had when they were to be read, or times that it was another log.",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "wallet_webhook_deliveries_waiting", "Deliveries that are tried again.", registry=self.registry
        )
        self.given_up = Gauge(
            "wallet_webhook_deliveries_given_up",
            "Deliveries that are tried no more until somebody replays them.",
            registry=self.registry,
        )
        self.oldest_seconds = Gauge(
            "wallet_webhook_oldest_waiting_seconds",
            "Age of the oldest event that an enabled endpoint has not taken.",
            registry=self.registry,
        )
        self.disabled = Gauge(
            "wallet_webhook_endpoints_disabled",
            "Endpoints that were disabled because they failed.",
            registry=self.registry,
        )
        self.saw(None)

    def saw(self, backlog: Backlog | None) -> None:
        """Note how the deliveries stand; absent: nobody knows."""
        self.waiting.set(UNKNOWN if backlog is None else backlog.waiting)
        self.given_up.set(UNKNOWN if backlog is None else backlog.given_up)
        self.oldest_seconds.set(UNKNOWN if backlog is None else backlog.oldest_seconds)
        self.disabled.set(UNKNOWN if backlog is None else backlog.disabled)
