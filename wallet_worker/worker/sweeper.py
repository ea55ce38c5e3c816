"""Parked results and orders that are due: the same way as messages, from tables instead of the broker."""

import asyncio
import time
from functools import partial

import asyncpg
from pamqp.commands import Basic

from wallet_worker.backoff import sleep_unless
from wallet_worker.broker.inbox import Envelope, envelope
from wallet_worker.broker.sender_policy import ANYONE, SenderPolicy
from wallet_worker.core.inbound import Source
from wallet_worker.store import orders
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, UnavailableError, waited_for
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.worker import parking
from wallet_worker.worker.batch import BatchProcessor
from wallet_worker.worker.bounds import BOUNDS, TIMINGS, Bounds, Timings
from wallet_worker.worker.intake import DueRows, TakeDue
from wallet_worker.worker.reporting import report


class Sweeper:
    """Applies parked results and orders when they are due, until stopped."""

    def __init__(
        self,
        database: Database,
        batches: BatchProcessor,
        health: Health,
        metrics: Metrics,
        *,
        senders: SenderPolicy = ANYONE,
        bounds: Bounds = BOUNDS,
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._batches = batches
        self._metrics = metrics
        self._senders = senders
        self._bounds = bounds
        self._timings = timings
        self._waiting = Waiting("sweep database", database, health)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look at parked results and at orders when they are due, until stopping."""
        gauges_at = 0.0
        while not stopping.is_set():
            if not await self._waiting.done(lambda: self.sweep(stopping), stopping):
                return
            if time.monotonic() - gauges_at > self._timings.gauge_seconds:
                gauges_at = time.monotonic()
                await self._update_gauges()
            await sleep_unless(self._timings.sweep_seconds, stopping)

    async def sweep(self, stopping: asyncio.Event) -> None:
        """Apply all that is due; once stopping, at most one batch of each table."""
        for sweep_some in (self.sweep_parked, self.sweep_orders):
            while await sweep_some(self._bounds.batch_max) and not stopping.is_set():
                pass

    async def sweep_parked(self, limit: int) -> int:
        """Apply up to `limit` parked results that are due; return how many have an ending."""
        return await self._sweep_some(partial(parking.take_due, self._senders), limit)

    async def sweep_orders(self, limit: int) -> int:
        """Look at up to `limit` orders that are due; return how many have an ending."""
        return await self._sweep_some(_take_orders, limit)

    async def _sweep_some(self, take: TakeDue, limit: int) -> int:
        begun = time.monotonic()
        results = await self._batches.apply(DueRows(take, limit))
        if results:
            report(results, time.monotonic() - begun, self._metrics)
        return len(results)

    async def _update_gauges(self) -> None:
        """Update the gauges of waiting orders: unknown while the database is unavailable."""
        try:
            with waited_for():
                async with self._database.connection() as connection:
                    self._metrics.saw_orders(*await orders.overdue_stats(connection))
        except (UnavailableError, ConflictError):
            self._metrics.orders_unknown()


async def _take_orders(connection: asyncpg.Connection, limit: int) -> list[Envelope]:
    return [
        envelope(Source.CLOCK, serial_no.encode(), Basic.Properties(), exchange="", routing_key="")
        for serial_no in await orders.take_due(connection, limit)
    ]
