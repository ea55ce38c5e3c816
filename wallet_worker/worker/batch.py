"""The spine: one batch, one transaction, one ending for each message. Read this first.

    take        what has arrived, at once, up to `Bounds.batch_max`
    read        bytes become messages, or the reason why not
    load        known outcomes, orders, accounts: locked, in order
    decide      each message, in order of arrival, over what those before it left
    save        one statement a table, and what is to be published; a part while the next is decided
    commit
    acknowledge everything, at once
    publish     with confirms, while the next batch is decided

A fault of the infrastructure is never an outcome: the batch waits and is begun again. A lost race is begun
again at once. Any other refusal of the database, or a failure of our own code, is one message's: the batch
is halved until that message stands alone and is set aside, and the others apply.

Beside the spine stand `intake` (where a batch comes from), `sweeper` (what is due in tables, the same way),
`quarantine` (messages that a worker may have died of), `parking`, `dead_lettering`, `outbox` and `reporting`.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import asyncpg
import structlog

from wallet_schemas.codes import Code
from wallet_schemas.signature import Keys
from wallet_worker.broker.amqp.seal import SealKey
from wallet_worker.broker.inbox import Envelope, Inbox, acknowledge
from wallet_worker.core.batch import MessageFailedError, Part, account_ids_wanted, decide_all, lookups_for
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.core.context import Policy
from wallet_worker.core.endings import DISPOSITIONS, Disposition
from wallet_worker.core.ids import ENTROPY_BYTES
from wallet_worker.core.inbound import InvalidMessage, Message, read, serial_no_of
from wallet_worker.failpoints import Failpoint, failpoint
from wallet_worker.store import accounts, load, outbox, replication, save
from wallet_worker.store.bisect import apply_or_bisect
from wallet_worker.store.database import Database
from wallet_worker.store.errors import (
    ConflictError,
    StatementRejectedError,
    StoreError,
    UnavailableError,
    waited_for,
)
from wallet_worker.store.parked_results import ParkedResult
from wallet_worker.store.races import Races
from wallet_worker.store.sentences import explain
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.worker import parking
from wallet_worker.worker.bounds import BOUNDS, TIMINGS, Bounds, Timings
from wallet_worker.worker.dead_lettering import DeadLettering
from wallet_worker.worker.intake import Arrived, DueRows
from wallet_worker.worker.outbox import Outbox, seal_requests
from wallet_worker.worker.quarantine import Quarantine
from wallet_worker.worker.reporting import MessageResult, report

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class BatchResult:
    """What a batch came to: every ending, what is to be published, and the orders that it made."""

    results: list[MessageResult] = field(default_factory=list)
    outgoing: list[OutboxMessage] = field(default_factory=list)
    orders_new: list[str] = field(default_factory=list)
    of_known_orders: list[bytes] = field(default_factory=list)
    """The bodies of what was parked although its order was there, before its money: the order wakes it no more."""
    parked: list[ParkedResult] = field(default_factory=list)


class BatchProcessor:
    """Applies batches: what arrives in the inbox, until stopped, and what is due in tables."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        dead_lettering: DeadLettering,
        seal_key: SealKey | None = None,
        rules: Policy,
        keys: Keys,
        health: Health,
        metrics: Metrics,
        bounds: Bounds = BOUNDS,
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._dead_lettering = dead_lettering
        self._seal_key = seal_key
        self._rules = rules
        self._keys = keys
        self._metrics = metrics
        self._bounds = bounds
        self._timings = timings
        self._waiting = Waiting("database", database, health)
        self._quarantine = Quarantine(
            database,
            dead_lettering,
            lambda envelopes: self.apply(Arrived(envelopes)),
            crashes_max=bounds.crashes_max,
        )
        self._account_ids: list[int] = []

    async def run(self, inbox: Inbox[Envelope], stopping: asyncio.Event) -> None:
        """Apply what arrives until the inbox is closed and empty, or the database is away while stopping."""
        while deliveries := await inbox.take(self._bounds.batch_max):
            envelopes = [delivery.content for delivery in deliveries]

            async def process(envelopes: Sequence[Envelope] = envelopes) -> None:
                await self.process(envelopes)

            if not await self._waiting.done(process, stopping):
                return
            failpoint(Failpoint.AFTER_COMMIT)
            await acknowledge(deliveries)
            failpoint(Failpoint.AFTER_ACKNOWLEDGE)

    async def process(self, envelopes: Sequence[Envelope]) -> None:
        """Apply a batch; return when every message of it has its ending in the database."""
        begun = time.monotonic()
        if envelopes[0].deliveries:
            results = await self._quarantine.process(envelopes)
        else:
            results = await self.apply(Arrived(envelopes))
        report(results, time.monotonic() - begun, self._metrics)

    async def apply(self, batch: Arrived | DueRows) -> list[MessageResult]:
        """Apply a batch in one transaction, or halves of it in several, if one message is at fault.

        So too if it loses every race: a smaller batch holds fewer locks, and meets fewer others, or itself.
        """
        faults = (StatementRejectedError, MessageFailedError, ConflictError)
        try:
            return await apply_or_bisect(batch, self._apply_with_retries, self._set_aside, faults)
        except ConflictError as exc:
            msg = f"every race was lost: {exc}"
            raise UnavailableError(msg) from exc

    async def _set_aside(self, envelope: Envelope, exc: Exception) -> list[MessageResult]:
        """Turn a message that is alone at fault into a dead letter; raises ConflictError if it lost every race.

        The letter says in words for people what failed. The names of classes, constraints and values are in the log,
        under the digest of the message's bytes.
        """
        if isinstance(exc, ConflictError):
            raise exc
        digest = sha256(envelope.incoming.body).hexdigest()
        log.error("message.failed", source=envelope.incoming.source.value, digest=digest, exc_info=exc)
        why = explain(exc) if isinstance(exc, StoreError) else "its own code has a fault"
        return await self._dead_lettering.set_aside(
            envelope, f"the wallet failed on it: {why}; message.failed in the log of the worker says where"
        )

    async def _apply_with_retries(
        self, batch: Arrived | DueRows, taken: list[Envelope]
    ) -> list[MessageResult]:
        """Apply a batch in one transaction, begun again after a lost race, but not for ever.

        Leaves in `taken` the messages of the last attempt.
        """
        races = Races(self._timings.races_seconds)
        while True:
            confirmed: Sequence[UUID] = ()
            try:
                taken.clear()
                async with self._database.transaction() as connection:
                    taken[:] = await batch.take(connection)
                    if not taken:
                        return []
                    confirmed = self._outbox.claim_confirmed()
                    result = await self._apply(connection, taken)
                    if confirmed:
                        with waited_for():
                            await outbox.delete(connection, confirmed)
                    failpoint(Failpoint.BEFORE_COMMIT)
            except ConflictError as exc:
                self._outbox.give_back(confirmed)
                self._metrics.races.inc()
                log.info("batch.race_lost", size=len(taken), race=races.lost + 1, reason=str(exc))
                await races.wait(
                    exc, self._bounds.races_max if len(taken) == 1 else self._bounds.batch_races_max
                )
            except BaseException:
                self._outbox.give_back(confirmed)
                raise
            else:
                await self._outbox.enqueue(result.outgoing)
                # This may wait for another worker, and no other worker for this.
                await parking.wake(self._database, result.orders_new, besides=result.of_known_orders)
                return result.results

    async def _apply(self, connection: asyncpg.Connection, envelopes: Sequence[Envelope]) -> BatchResult:
        """Load, decide, save; the caller commits.

        A part of a large batch is written while the next is decided, so that neither the database nor this process
        waits for the other.
        """
        messages = [read(envelope.incoming, self._keys) for envelope in envelopes]
        now, facts = await load.facts(
            connection, lookups_for(messages), self._rules, on_wait_for_lane=self._metrics.lane_waits.inc
        )
        await self._reserve_account_ids(connection, account_ids_wanted(messages))
        parts = decide_all(
            [(envelope.incoming, message) for envelope, message in zip(envelopes, messages, strict=True)],
            facts,
            self._rules,
            now,
            entropy=os.urandom(ENTROPY_BYTES * len(envelopes)),
            account_ids=iter(self._account_ids.pop, None),
            flush_every=self._bounds.flush_every,
            yield_every=self._bounds.yield_every,
        )
        result = BatchResult()
        async with save.PipelinedWriter(connection, now) as writer:
            for part in parts:
                if part is None:
                    await writer.yield_control()
                    continue
                self._conclude(part, envelopes, messages, now, result)
                if part.is_last:
                    await writer.end(part.changes)
                else:
                    await writer.begin(part.changes)
        await parking.save(connection, result.parked, result.results)
        if not writer.has_written and not result.parked:
            # What is acknowledged rests on what was read, which the standby may not have yet.
            await replication.write_record(connection)
        return result

    def _conclude(
        self,
        part: Part,
        envelopes: Sequence[Envelope],
        messages: Sequence[Message | InvalidMessage],
        now: datetime,
        result: BatchResult,
    ) -> None:
        """Add a part's endings to the result, and to its changes what each ending asks of the commit."""
        for position, decision in enumerate(part.decisions, part.start):
            envelope, number = envelopes[position], serial_no_of(messages[position])
            match DISPOSITIONS[decision.ending]:
                case Disposition.ACKNOWLEDGE:
                    pass
                case Disposition.DEAD_LETTER:
                    part.changes.outgoing.append(
                        self._dead_lettering.outbox_message(envelope, decision.code, decision.detail, now)
                    )
                case Disposition.RETRY_LATER:
                    result.parked.append(parking.parked(envelope, number, decision, now))
                    if decision.code is not Code.ORDER_NOT_FOUND:
                        result.of_known_orders.append(envelope.incoming.body)
            result.results.append(
                MessageResult(envelope, decision.ending, decision.code, decision.detail, number)
            )
        if self._seal_key is not None:
            seal_requests(part.changes.outgoing, self._seal_key)
        result.outgoing += part.changes.outgoing
        result.orders_new += part.changes.orders_new

    async def _reserve_account_ids(self, connection: asyncpg.Connection, wanted: int) -> None:
        if len(self._account_ids) < wanted:
            count = max(wanted, self._bounds.account_ids_reserved)
            # Popped from the end: the smallest first.
            self._account_ids[:] = sorted(await accounts.reserve_ids(connection, count), reverse=True)
