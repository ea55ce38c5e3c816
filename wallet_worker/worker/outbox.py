"""From the commit to the broker's confirm: what a batch promised is published, whoever is left to do it.

The worker that wrote a row has it to itself for `store.outbox.RELAY_AFTER` and publishes it while the next
batch is decided. What is not confirmed by then, for whatever reason, any worker's relay publishes.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

import structlog

from wallet_schemas.names import PAYMENT_REQUESTS
from wallet_worker.broker.amqp.seal import SealKey, is_request_sealed, request_seal
from wallet_worker.broker.publisher import Publisher
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.failpoints import Failpoint, failpoint
from wallet_worker.store import outbox
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, StatementRejectedError, StoreError, UnavailableError
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics

BATCHES_WAITING_MAX = 3  # one being published, two waiting: more would only be memory
STALLED_SECONDS = 1.0
FORGET_SECONDS = 0.5  # how long confirmed rows wait to be deleted, unless a batch takes them along
TAKEN_ALONG_MIN = 50  # fewer confirmed rows are not worth a round trip of a batch's
RELAY_SECONDS = 2.0
RELAY_BATCH_MAX = 500
REPLY_ATTEMPTS_MAX = 8  # in about three minutes; nobody waits that long for an answer

log = structlog.get_logger(__name__)


class Outbox:
    """Publishes what batches committed, and forgets what is confirmed."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        health: Health,
        metrics: Metrics,
        *,
        seal_key: SealKey | None = None,
    ) -> None:
        """With `seal_key`, the relay publishes no payment request that a worker has not sealed."""
        self._seal_key = seal_key
        self._database = database
        self._publisher = publisher
        self._health = health
        self._metrics = metrics
        self._waiting: asyncio.Queue[Sequence[OutboxMessage]] = asyncio.Queue(BATCHES_WAITING_MAX)
        self._confirmed: list[UUID] = []
        self._forgetting = asyncio.Lock()
        self._forgetting_waits = Waiting("outbox forget database", database, health)
        self._relaying_waits = Waiting("outbox relay database", database, health)
        self._stalled = False

    async def enqueue(self, rows: Sequence[OutboxMessage]) -> None:
        """Publish committed rows soon; waits while too much is waiting, unless the broker takes nothing at all.

        While the broker takes nothing (a memory or disk alarm), rows are left to the relay, so that
        consuming and acknowledging go on.
        """
        if not rows:
            return
        if self._stalled:
            if self._waiting.full():
                return
            self._waiting.put_nowait(rows)
            return
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._waiting.put(rows)
        except TimeoutError:
            self._stalled = True
            log.warning(
                "publisher.stalled", detail="the broker confirms nothing; the outbox keeps what is due"
            )

    def claim_confirmed(self, at_least: int = TAKEN_ALONG_MIN) -> list[UUID]:
        """Return ids that the caller's transaction is to delete, none if there are fewer; `give_back` undoes it."""
        if len(self._confirmed) < at_least:
            return []
        taken, self._confirmed = self._confirmed, []
        return taken

    def give_back(self, ids: Sequence[UUID]) -> None:
        """Return ids that were claimed, for a later batch to delete."""
        self._confirmed.extend(ids)

    async def publish(self) -> None:
        """Publish what is offered, until cancelled."""
        while True:
            rows = await self._waiting.get()
            try:
                confirmed = await self._publisher.publish(rows)
                failpoint(Failpoint.AFTER_PUBLISH)
                self._confirmed.extend(confirmed)
                if confirmed:
                    self._stalled = False
            finally:
                self._waiting.task_done()

    async def delete_confirmed(self) -> None:
        """Delete confirmed rows that no batch took along, until cancelled."""
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            await self._forgetting_waits.done(self._forget_confirmed)

    async def forget_now(self) -> None:
        """Delete confirmed rows; while the database is away they are kept in mind.

        On return nothing is being deleted any more, by no other call either: who stops the worker waits for it here.
        """
        with suppress(UnavailableError, ConflictError, StatementRejectedError):
            await self._forget_confirmed()

    async def _forget_confirmed(self) -> None:
        """Delete confirmed rows; they are kept in mind when that fails, and whatever has failed is raised."""
        async with self._forgetting:
            ids = self.claim_confirmed(at_least=1)
            if not ids:
                return
            try:
                async with self._database.connection() as connection:
                    await outbox.delete(connection, ids)
            except StoreError:
                self.give_back(ids)
                raise

    async def drain(self, seconds: float) -> None:
        """Wait until all that was offered was tried, and then until what was confirmed is forgotten; `seconds` each."""
        try:
            async with asyncio.timeout(seconds):
                await self._waiting.join()
        except TimeoutError:
            log.warning(
                "outbox.drain_incomplete", detail="not everything was published in time; the relay will"
            )
        try:
            async with asyncio.timeout(seconds):
                await self.forget_now()
        except TimeoutError:
            log.warning(
                "outbox.delete_incomplete",
                detail="what was published is not deleted; the relay publishes it again",
            )

    async def relay(self) -> None:
        """Publish what nobody published in time, until cancelled."""
        taken = 0

        async def relay_and_measure() -> None:
            nonlocal taken
            try:
                taken = await self._relay_some()
                async with self._database.connection() as connection:
                    waiting, oldest_seconds = await outbox.overdue(connection)
            except StoreError:
                self._metrics.outbox_unknown()
                raise
            self._metrics.outbox_overdue.set(waiting)
            self._metrics.outbox_oldest_seconds.set(oldest_seconds)

        while True:
            await self._relaying_waits.done(relay_and_measure)
            if taken < RELAY_BATCH_MAX:
                await asyncio.sleep(RELAY_SECONDS)

    async def _relay_some(self) -> int:
        """Publish overdue rows that are this relay's, and delete or put them off; return how many there were."""
        if "publisher" in self._health.reasons:
            return 0
        # A commit of its own, which waits for the standby: nothing is published that a failover could undo.
        async with self._database.transaction() as connection:
            rows = await outbox.claim_due(connection, RELAY_BATCH_MAX)
        if not rows:
            return 0
        confirmed, failed = await self._publish_isolating_replies(rows)
        failpoint(Failpoint.AFTER_PUBLISH)
        async with self._database.transaction() as connection:
            hopeless = [
                row.message_id for row in failed if _is_reply(row) and row.attempts >= REPLY_ATTEMPTS_MAX
            ]
            late = [row.message_id for row in failed if row.message_id not in hopeless]
            if confirmed or hopeless:
                await outbox.delete(connection, [*confirmed, *hopeless])
            if late:
                await outbox.put_off(connection, late)
        log.warning("outbox.relayed", messages=len(confirmed), failed=len(late))
        if hopeless:
            log.error("reply.given_up", messages=len(hopeless), detail="whoever asked may ask again")
        return len(rows)

    async def _publish_isolating_replies(
        self, rows: Sequence[OutboxMessage]
    ) -> tuple[set[UUID], list[OutboxMessage]]:
        """Return what was confirmed and what was not; some may not have been tried.

        Replies that failed before go last and one by one. Their address is a stranger's, and there are
        some over which the broker closes the connection, and with it on everything that is not confirmed yet.
        """
        unproven = [row for row in rows if self._is_unproven(row)]
        if unproven:
            log.error(
                "outbox.unproven",
                messages=len(unproven),
                detail="no worker with this key for seals has asked for these payments; they are not published",
            )
        proven = [row for row in rows if not self._is_unproven(row)] if unproven else rows
        doubtful = [row for row in proven if _is_reply(row) and row.attempts]
        sound = [row for row in proven if not (_is_reply(row) and row.attempts)]
        confirmed = await self._publisher.publish(sound)
        failed = [*unproven, *(row for row in sound if row.message_id not in confirmed)]
        for row in doubtful:
            if not await self._publisher.publish([row]):
                failed.append(row)
                break  # the connection may have gone with it
            confirmed.add(row.message_id)
        return confirmed, failed

    def _is_unproven(self, row: OutboxMessage) -> bool:
        """Return whether a row asks for a payment, and may be of somebody who has a login of the database alone."""
        return (
            row.exchange == PAYMENT_REQUESTS
            and self._seal_key is not None
            and not is_request_sealed(row.body, row.seal, self._seal_key)
        )


def seal_requests(rows: list[OutboxMessage], key: SealKey) -> None:
    """Seal the payment requests among what is about to be written: what is signed for the gateway is a worker's."""
    for place, row in enumerate(rows):
        if row.exchange == PAYMENT_REQUESTS:
            rows[place] = row._replace(seal=request_seal(row.body, key))


def _is_reply(row: OutboxMessage) -> bool:
    return not row.exchange
