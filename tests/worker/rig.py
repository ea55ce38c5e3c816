"""Batches on one database, in this process and without a broker: what they promise stays in the outbox."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from aiormq.channel import Channel
from pamqp.commands import Basic
from typing_extensions import override

from tests.workers import KEYS
from wallet_schemas.names import SIGNATURE_HEADER
from wallet_worker.broker.inbox import Delivery, Envelope, Inbox, envelope
from wallet_worker.broker.publisher import Publisher
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.core.context import Policy
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.store import accounts
from wallet_worker.store.database import WORKER_ROLE, Database
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.worker.batch import BatchProcessor
from wallet_worker.worker.bounds import Bounds
from wallet_worker.worker.dead_lettering import DeadLettering
from wallet_worker.worker.outbox import Outbox
from wallet_worker.worker.sweeper import Sweeper

BOUNDS = Bounds(flush_every=2, yield_every=1)
"""So that there are parts in the small batches of tests, and something is decided while they are being written."""

WORKER = "0.0.0 test:1"
ROUTING_KEY = "as.published"


class _Silent(Publisher):
    """Publishes nothing, so nothing is confirmed and every promise can be looked at in the outbox."""

    @override
    async def publish(self, rows: Sequence[OutboxMessage]) -> set[UUID]:
        return set()


@dataclass
class Acknowledged:
    """Stands where a channel does, and notes what is acknowledged on it."""

    tags: list[int] = field(default_factory=list)

    async def basic_ack(self, tag: int, *, multiple: bool, wait: bool) -> None:
        """Note it."""
        assert multiple
        assert not wait
        self.tags.append(tag)


@dataclass
class Rig:
    """One worker, less its broker."""

    database: Database
    batches: BatchProcessor
    sweeper: Sweeper
    dead_lettering: DeadLettering
    health: Health
    metrics: Metrics

    async def settle(self, *arrived: InboundMessage, deliveries: int = 0) -> None:
        """Apply what has arrived as one batch."""
        await self.batches.process([as_letter(item, deliveries) for item in arrived])

    async def settle_each(self, *arrived: InboundMessage) -> None:
        """Apply what has arrived one by one."""
        for item in arrived:
            await self.settle(item)

    async def sweep(self) -> None:
        """Look at everything that is parked and due."""
        await self.sweeper.sweep(asyncio.Event())

    async def run(
        self, *arrived: InboundMessage, channel: Acknowledged, stopping: asyncio.Event, deliveries: int = 0
    ) -> None:
        """Take what has arrived from an inbox and end when it is empty, as a worker that drains does."""
        inbox = Inbox[Envelope]()
        for tag, item in enumerate(arrived, start=1):
            inbox.put(Delivery(as_letter(item, deliveries), tag, cast("Channel", channel)))
        inbox.close()
        await self.batches.run(inbox, stopping)

    def races(self) -> float:
        """Return how many batches were begun again after a lost race."""
        return self.metrics.registry.get_sample_value("wallet_lost_races_total") or 0.0


def as_letter(message: InboundMessage, deliveries: int = 0) -> Envelope:
    """Return what has arrived with the properties that a broker would hand over."""
    properties = Basic.Properties(
        message_id="m-1",
        reply_to=message.reply_to and f"reply.{message.reply_to}",  # answers go to reply queues only
        correlation_id=message.correlation_id,
        headers={} if message.signature is None else {SIGNATURE_HEADER: str(message.signature)},
    )
    return envelope(
        message.source,
        message.body,
        properties,
        exchange=message.source.value,
        routing_key=ROUTING_KEY,
        deliveries=deliveries,
    )


@asynccontextmanager
async def open_rig(database_url: str, rules: Policy | None = None) -> AsyncIterator[Rig]:
    """Give a worker without a broker, on a database that has the system accounts of the default rules."""
    health, metrics, rules = Health(), Metrics(), rules or Policy()
    database = Database(database_url, role=WORKER_ROLE, application="wallet tests")
    await database.open()
    async with database.connection() as connection:
        await accounts.ensure_lanes(connection, rules.currencies)
    outbox = Outbox(database, _Silent("amqp://nowhere/", health, metrics), health, metrics)
    dead_lettering = DeadLettering(database, outbox, worker=WORKER)
    batches = BatchProcessor(
        database=database,
        outbox=outbox,
        dead_lettering=dead_lettering,
        rules=rules,
        keys=KEYS,
        health=health,
        metrics=metrics,
        bounds=BOUNDS,
    )
    sweeper = Sweeper(database, batches, health, metrics, bounds=BOUNDS)
    publishing = asyncio.create_task(outbox.publish(), name="outbox publish")
    try:
        yield Rig(database, batches, sweeper, dead_lettering, health, metrics)
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await database.close()
