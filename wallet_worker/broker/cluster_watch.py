"""How many members each queue has and how many nodes run, as gauges: for an alarm before the next node is lost.

Read from the management API, and only where WALLET_MANAGEMENT_URL names a user for that: one with the tag monitoring.
"""

import asyncio
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from wallet_worker.broker.cluster import Members, Seen, look
from wallet_worker.broker.connection import describe
from wallet_worker.broker.entities import QUEUES
from wallet_worker.broker.management import ManagementError, management
from wallet_worker.telemetry.metrics import UNKNOWN

NOT_SEEN: Final = "the management API shows no nodes: its user needs the tag monitoring"

log = structlog.get_logger(__name__)


class ClusterWatch:
    """Shows what the management API says of a cluster. Every gauge is NaN while nothing is known."""

    def __init__(self, broker_url: str, management_url: str, registry: CollectorRegistry) -> None:
        self._broker_url = broker_url
        self._management_url = management_url
        self._reason = ""
        self._members = Gauge(
            "wallet_queue_members",
            "Nodes that have a queue; NaN while the management API does not say.",
            ("queue",),
            registry=registry,
        )
        self._online = Gauge(
            "wallet_queue_members_online",
            "Nodes that have a queue and can be reached. Fewer than members: the next loss may stop everything.",
            ("queue",),
            registry=registry,
        )
        self._nodes = Gauge(
            "wallet_broker_nodes",
            "Nodes of the broker's cluster; NaN while the management API does not say.",
            registry=registry,
        )
        self._running = Gauge(
            "wallet_broker_nodes_running", "Nodes of the broker's cluster that run.", registry=registry
        )
        self._forget()

    async def look(self) -> bool:
        """Set the gauges; return False: there is nothing to go on with. What fails is logged once for each reason."""
        try:
            seen = await asyncio.to_thread(self._seen)
        except ManagementError as exc:
            self._lost(str(exc))
        except (OSError, ValueError, LookupError, TypeError) as exc:  # whatever listens there
            self._lost(describe(exc))
        else:
            if seen.nodes is None:
                self._lost(NOT_SEEN)
            else:
                self._show(seen, seen.nodes)
        return False

    def _seen(self) -> Seen:
        return look(management(self._broker_url, self._management_url))

    def _show(self, seen: Seen, nodes: int) -> None:
        for queue in QUEUES:
            self._set(queue.name, seen.members.get(queue.name))
        self._nodes.set(nodes)
        self._running.set(nodes - len(seen.down))
        if self._reason:
            log.info("cluster.seen", nodes=nodes, running=nodes - len(seen.down))
        self._reason = ""

    def _set(self, queue: str, members: Members | None) -> None:
        self._members.labels(queue=queue).set(UNKNOWN if members is None else members.all)
        self._online.labels(queue=queue).set(UNKNOWN if members is None else members.online)

    def _lost(self, reason: str) -> None:
        if reason != self._reason:
            log.warning("cluster.not_seen", reason=reason)
        self._reason = reason
        self._forget()

    def _forget(self) -> None:
        for queue in QUEUES:
            self._set(queue.name, None)
        self._nodes.set(UNKNOWN)
        self._running.set(UNKNOWN)
