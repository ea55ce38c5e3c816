"""What operators watch of the HTTP API, in a registry of the process's own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from wallet_worker.telemetry.metrics import RoleRegistry

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class ApiMetrics:
    """The API's metrics; `registry` is what `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "wallet_api_requests_total",
            "Requests answered, by operation and status.",
            ("operation", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "wallet_api_seconds",
            "Time from a request's headers to its answer.",
            ("operation",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "wallet_api_waiting", "Requests that wait for an outcome.", registry=self.registry
        )
        self.connections = Gauge("wallet_api_connections", "Open connections.", registry=self.registry)
        self.repeats = Counter(
            "wallet_api_repeats_total",
            "Commands answered from the database, because their number was known.",
            registry=self.registry,
        )
        self.unknown = Counter(
            "wallet_api_unknown_total",
            "Commands answered without an outcome: 202, the broker has it; 504, it is not known.",
            ("reason",),
            registry=self.registry,
        )
        self.not_sent = Counter(
            "wallet_api_not_sent_total", "Messages that were not sent.", ("reason",), registry=self.registry
        )
        self.refused_at_the_door = Counter(
            "wallet_api_refused_at_the_door_total",
            "Requests that no message was made of.",
            ("reason",),
            registry=self.registry,
        )
        self.lookups = Counter(
            "wallet_api_lookups_total",
            "Commands whose number was looked up before sending.",
            registry=self.registry,
        )
        self.lookup_queries = Gauge(
            "wallet_api_lookup_queries_total", "QueryService that the look-ups took.", registry=self.registry
        )
        self.broker_ready = Gauge(
            "wallet_api_broker_ready", "1 while the broker takes messages.", registry=self.registry
        )
        self.events = Counter(
            "wallet_api_events_total",
            "Events that clients were given, as pages or as streams.",
            ("how",),
            registry=self.registry,
        )
        self.event_streams = Gauge(
            "wallet_api_event_streams", "Streams of server-sent events that are open.", registry=self.registry
        )
        self.event_log_ready = Gauge(
            "wallet_api_event_log_ready",
            "1 while the log of events is read, 0 while it is away; NaN while nobody asks for events.",
            registry=self.registry,
        )
        self.event_log_ready.set(float("nan"))
        self.key_expires_seconds = Gauge(
            "wallet_api_key_expires_seconds",
            "Time until the next of the keys that were used lately ends; +Inf if none does.",
            registry=self.registry,
        )
        # To find a series by its labels takes longer than to count; operations and statuses are few.
        self._series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.ready = Gauge("wallet_ready", "1 while the process is ready.", registry=self.registry)

    def answered(self, operation: str, status: int, seconds: float) -> None:
        """Count a request, and how long it took."""
        found = self._series.get((operation, status))
        if found is None:
            found = self._series[operation, status] = (
                self.requests.labels(operation=operation, status=status),
                self.seconds.labels(operation=operation),
            )
        count, duration = found
        count.inc()
        duration.observe(seconds)

    @property
    def exposed(self) -> CollectorRegistry:
        """What `/metrics` shows."""
        return RoleRegistry(self.registry, "api")
