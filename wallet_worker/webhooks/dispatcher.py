"""From the log of events to deliveries: one process reads, and writes what it read with its place in the log.

Which process reads is a lease in the row of the cursor. The cursor moves in the transaction that writes the deliveries,
and only from where this process has left it: whoever has lost the lease without noticing writes nothing.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

import structlog

from wallet_worker.backoff import Backoff, sleep_unless
from wallet_worker.broker.connection import BrokerUnavailableError
from wallet_worker.broker.event_log import EventLog, LoggedEvent, Reader
from wallet_worker.core.visibility import FeedEvent, Interest
from wallet_worker.store import webhooks
from wallet_worker.store.database import Database
from wallet_worker.store.errors import InvariantBrokenError, StoreError
from wallet_worker.store.webhooks import Cursor, Endpoint, NewDelivery
from wallet_worker.telemetry.health import Health
from wallet_worker.webhooks.metrics import WebhooksMetrics

LEASE: Final = timedelta(seconds=15)
RENEW_SECONDS: Final = 5.0
FIRST_SECONDS: Final = 10.0  # of a log that has the event of the cursor, something comes within this time
SLACK: Final = timedelta(
    minutes=1
)  # the clocks of workers and database: an endpoint gets events from so long before it

log = structlog.get_logger(__name__)


class _LostLeaseError(Exception):
    """Another process reads."""


class Dispatcher:
    """Reads the log for all endpoints, or waits until the process that does has gone. `on_new` wakes those who post."""

    def __init__(
        self,
        event_log: EventLog,
        database: Database,
        *,
        name: str,
        on_new: asyncio.Event,
        health: Health,
        metrics: WebhooksMetrics,
    ) -> None:
        self._log = event_log
        self._database = database
        self._name = name
        self._on_new = on_new
        self._health = health
        self._metrics = metrics

    async def run(self, stopping: asyncio.Event) -> None:
        """Read until told to stop."""
        pause = Backoff()
        while not stopping.is_set():
            try:
                cursor = await self._lease()
                if cursor is None:
                    self._health.ready("event log")  # another process reads it
                    await sleep_unless(RENEW_SECONDS, stopping)
                    continue
                await self._read(cursor, stopping, pause)
            except _LostLeaseError:
                log.info("webhooks.reader_lost_lease")
            except InvariantBrokenError:
                raise  # our bug: whoever goes on would do more of it
            except (BrokerUnavailableError, StoreError) as exc:
                if self._health.unready("event log", str(exc)):
                    log.error("webhooks.log_lost", reason=str(exc))
                await pause.wait(stopping)
        await self._log.close()
        try:
            async with self._database.connection() as connection:
                await webhooks.let_go(connection, self._name)
        except StoreError as exc:
            log.debug("webhooks.lease_kept", reason=str(exc))

    async def _lease(self) -> Cursor | None:
        async with self._database.connection() as connection:
            return await webhooks.lease(connection, self._name, LEASE)

    async def _read(self, cursor: Cursor, stopping: asyncio.Event, pause: Backoff) -> None:
        async with self._log.reader(max(0, cursor.passed - 1)) as reader:
            batch = await self._first(reader, cursor)
            if batch is None:
                # Nothing of what the cursor says is there: it is another log, from its beginning on.
                self._metrics.missed.inc()
                log.error("webhooks.log_is_another", passed=cursor.passed)
                await self._advance(cursor, Cursor(0, None), ())
                return
            if self._health.ready("event log"):
                log.info("webhooks.reading", passed=cursor.passed)
            pause.reset()
            while not stopping.is_set():
                if batch:
                    gap = batch[0].offset - cursor.passed if cursor.passed else 0
                    if gap:
                        self._metrics.missed.inc(gap)
                        log.error("webhooks.events_missed", events=gap, detail="the log no longer has them")
                    after = Cursor(batch[-1].offset + 1, _mark(batch[-1]))
                    await self._advance(cursor, after, batch)
                    cursor = after
                elif await self._lease() is None:
                    raise _LostLeaseError
                batch = await reader.next(RENEW_SECONDS)

    async def _first(self, reader: Reader, cursor: Cursor) -> list[LoggedEvent] | None:
        """Return what comes first after the cursor; absent where the event before it is not the cursor's."""
        if not cursor.passed:
            return []
        batch = await reader.next(FIRST_SECONDS)
        if not batch:
            return None
        if batch[0].offset >= cursor.passed:
            return batch  # the event of the cursor is no longer kept
        return batch[1:] if _mark(batch[0]) == cursor.mark else None

    async def _advance(self, before: Cursor, after: Cursor, batch: Sequence[LoggedEvent]) -> None:
        """Write deliveries of these events, and how far the log was read, at once."""
        async with self._database.transaction() as connection:
            endpoints = await webhooks.listening(connection)
            new = [
                delivery
                for event in batch
                for delivery in wanted(FeedEvent(event.offset, event.routing_key, event.body), endpoints)
            ]
            written = await webhooks.deliver(connection, new)
            if not await webhooks.advance(connection, self._name, before.passed, after, LEASE):
                raise _LostLeaseError
        self._metrics.events.inc(len(batch))
        if written:
            self._on_new.set()


def wanted(event: FeedEvent, endpoints: Sequence[Endpoint]) -> list[NewDelivery]:
    """Return the deliveries of an event: to each endpoint that wants it, what its client may see."""
    found: list[NewDelivery] = []
    for endpoint in endpoints:
        body = Interest(endpoint.kinds, reach=endpoint.users).shown(event)
        if body is not None and _at(event) >= endpoint.created_at - SLACK:
            event_id = str(event.content["event_id"])[:64]
            found.append(NewDelivery(endpoint.endpoint_id, event_id, event.kind, body.decode()))
    return found


def _at(event: FeedEvent) -> datetime:
    """Return when it happened; what does not say so is new."""
    try:
        return datetime.fromisoformat(str(event.content.get("occurred_at")))
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def _mark(event: LoggedEvent) -> str:
    return sha256(event.body).hexdigest()[:8]
