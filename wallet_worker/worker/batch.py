"""The spine: one batch, one transaction, one ending for each message. Read this first.

    take        what has arrived, at once, up to BATCH_MAX
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
"""

import asyncio
import hashlib
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeAlias

import asyncpg
import structlog
from pamqp.commands import Basic

from wallet_schemas.codes import Code
from wallet_schemas.commands import OpenAccount
from wallet_schemas.names import WALLET_DEAD_LETTERS
from wallet_schemas.payments import PaymentResult
from wallet_worker.backoff import sleep_unless
from wallet_worker.broker.amqp.properties import dead_letter, marshal, unmarshal
from wallet_worker.broker.inbox import Envelope, Inbox, acknowledge, envelope
from wallet_worker.broker.senders import ANYONE, SenderPolicy
from wallet_worker.core.context import DecisionContext, Policy
from wallet_worker.core.decide import decide
from wallet_worker.core.endings import DISPOSITIONS, Disposition, Ending
from wallet_worker.core.facts import Changes, Decision, Facts, OutboxMessage
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds, uuid7
from wallet_worker.core.inbound import InvalidMessage, Message, Source, read
from wallet_worker.failpoints import Failpoint, failpoint
from wallet_worker.store import accounts, crash_suspects, facts, orders, outbox, parked_results
from wallet_worker.store.database import Database
from wallet_worker.store.errors import (
    ConflictError,
    InvariantBrokenError,
    StatementRejectedError,
    StoreError,
    UnavailableError,
    waited_for,
)
from wallet_worker.store.parked_results import Parked
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.worker.outbox import Outbox

# A thousand do 4 to 7 % more, alone; two workers then wait for each other's accounts half of the time.
BATCH_MAX = 500
FLUSH_EVERY = 125  # of a batch, written while the next part is decided: smaller ones are more statements
YIELD_EVERY = (
    6  # messages decided, in a third of a millisecond, before the part that is being written is looked after
)
RACES_MAX = 20  # that one message loses in a row; then somebody holds a lock for good, and waiting is right
BATCH_RACES_MAX = 5  # that a batch loses in a row before it is halved
RACES_SECONDS = (
    9.0  # two locks that were not given in time: somebody holds one for long, and that is to be known
)
CRASHES_MAX = 3  # times that a worker dies with a suspect in hand, before that is set aside
SWEEP_SECONDS = 1.0
MEASURE_SECONDS = 15.0
RETRY_AFTER = timedelta(hours=1)  # an order that the wallet failed on when it was due
ACCOUNT_IDS_RESERVED = 1_000  # a round trip for every thousand accounts opened

log = structlog.get_logger(__name__)


class MessageFailedError(Exception):
    """Our own code failed on a message. Nothing was written."""


class MessageResult(NamedTuple):
    """A message, what became of it, and why."""

    letter: Envelope
    ending: Ending
    code: Code
    detail: str
    number: str


@dataclass(slots=True)
class BatchResult:
    """What a batch came to: every ending, what is to be published, and the orders that it made."""

    ended: list[MessageResult] = field(default_factory=list)
    outgoing: list[OutboxMessage] = field(default_factory=list)
    orders_new: list[str] = field(default_factory=list)

    def note(self, changes: Changes) -> None:
        """Note what comes of changes after the commit."""
        self.outgoing += changes.outgoing
        self.orders_new += changes.orders_new


TakeDue: TypeAlias = Callable[[asyncpg.Connection, int], Awaitable[list[Envelope]]]
"""Takes letters that are due from a table, locked, at most so many."""


class BatchProcessor:
    """Applies batches, from the inbox, from the parked results and from the orders that are due, until stopped."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        rules: Policy,
        keys: Mapping[str, str],
        worker: str,
        health: Health,
        metrics: Metrics,
        policy: SenderPolicy = ANYONE,
    ) -> None:
        self._policy = policy
        self._database = database
        self._outbox = outbox
        self._rules = rules
        self._keys = keys
        self._worker = worker
        self._metrics = metrics
        self._applying = Waiting("database", database, health)
        self._sweeping = Waiting("sweep database", database, health)
        self._sweep_races: list[float] = []
        """When each race was lost since the sweep last took something."""
        self._account_ids: list[int] = []
        self._attempt_counts: dict[bytes, int] = {}
        """What this process has counted and not finished: a fault of the database counts nothing twice."""

    async def run(self, inbox: Inbox, stopping: asyncio.Event) -> None:
        """Apply what arrives until the inbox is closed and empty, or the database is away while stopping."""
        while batch := await inbox.take(BATCH_MAX):
            letters = [one.letter for one in batch]

            async def settle(letters: Sequence[Envelope] = letters) -> None:
                await self._settle(letters)

            if not await self._applying.done(settle, stopping):
                return
            failpoint(Failpoint.AFTER_COMMIT)
            await acknowledge(batch)
            failpoint(Failpoint.AFTER_ACKNOWLEDGE)

    async def sweep(self, stopping: asyncio.Event) -> None:
        """Look at parked results and at orders when they are due, until stopping."""
        measured_at = 0.0
        while not stopping.is_set():
            if not await self._sweeping.done(lambda: self._sweep_all(stopping), stopping):
                return
            if time.monotonic() - measured_at > MEASURE_SECONDS:
                measured_at = time.monotonic()
                await self._update_gauges()
            await sleep_unless(SWEEP_SECONDS, stopping)

    async def _settle(self, letters: Sequence[Envelope]) -> None:
        """Apply a batch; return when every letter of it has its ending in the database."""
        begun = time.monotonic()
        ended = await (
            self._process_redelivered(letters) if letters[0].deliveries else self._apply_or_bisect(letters)
        )
        self._report(ended, time.monotonic() - begun)

    async def _process_redelivered(self, letters: Sequence[Envelope]) -> list[MessageResult]:
        """Apply letters that were handed out before: one of them may be what a worker died of.

        Each is noted before it is touched and forgotten when it has ended, so that what is noted already was
        in hand when a worker died. That one goes alone; the others, however often a dying worker had them
        waiting, go together.
        """
        marks = [_fingerprint(one) for one in letters]
        async with self._database.connection() as connection:
            # Those that this very process noted were interrupted by a fault of the database: nobody died of them.
            noted = await crash_suspects.seen(connection, marks) - self._attempt_counts.keys()
        ended: list[MessageResult] = []
        together: list[Envelope] = []
        for one, mark in zip(letters, marks, strict=True):
            if mark in noted:
                ended += await self._process_counted(together)
                ended += await self._process_counted([one])
                together = []
            else:
                together.append(one)
        return ended + await self._process_counted(together)

    async def _process_counted(self, letters: Sequence[Envelope]) -> list[MessageResult]:
        """Apply letters of which a worker may die, counting before they are touched."""
        if not letters:
            return []
        marks = {_fingerprint(one) for one in letters}
        try:
            if uncounted := marks - self._attempt_counts.keys():
                async with self._database.connection() as connection:
                    self._attempt_counts |= await crash_suspects.count_attempt(connection, uncounted)
            deaths = self._attempt_counts[_fingerprint(letters[0])] - 1
            if len(letters) == 1 and deaths >= CRASHES_MAX:
                ended = await self._set_aside(letters[0], f"a worker died of it {deaths} times")
            else:
                ended = await self._apply_or_bisect(letters)
            async with self._database.connection() as connection:
                await crash_suspects.clear(connection, marks)
        except ConflictError as exc:
            msg = f"the suspects are locked: {exc}"
            raise UnavailableError(msg) from exc
        except (InvariantBrokenError, asyncio.CancelledError):
            # The worker ends in order, by its own will: it does not die of these.
            with suppress(StoreError):
                async with self._database.connection() as connection:
                    await crash_suspects.clear(connection, marks)
            raise
        for mark in marks:
            del self._attempt_counts[mark]
        return ended

    async def _apply_or_bisect(self, letters: Sequence[Envelope]) -> list[MessageResult]:
        """Apply the letters in one transaction, or halves of them in several, if one of them is at fault.

        So too if they lose every race: a smaller batch holds fewer locks, and meets fewer others, or itself.
        """
        try:
            return await self._apply_with_retries(letters)
        except (StatementRejectedError, MessageFailedError) as exc:
            if len(letters) == 1:
                log.exception("message.failed", source=letters[0].incoming.source.value)
                return await self._set_aside(letters[0], f"the wallet failed on it: {exc}")
        except ConflictError as exc:
            if len(letters) == 1:
                msg = f"a message lost {RACES_MAX} races in a row: {exc}"
                raise UnavailableError(msg) from exc
        middle = len(letters) // 2
        return await self._apply_or_bisect(letters[:middle]) + await self._apply_or_bisect(letters[middle:])

    async def _apply_with_retries(self, letters: Sequence[Envelope]) -> list[MessageResult]:
        """Apply the letters in one transaction, begun again after a lost race, but not for ever."""
        messages = [read(one.incoming, self._keys) for one in letters]
        races_max = RACES_MAX if len(letters) == 1 else BATCH_RACES_MAX
        begun = time.monotonic()
        for race in range(races_max):
            forgettable = self._outbox.claim_confirmed()
            try:
                async with self._database.transaction() as connection:
                    applied = await self._apply(connection, letters, messages)
                    if forgettable:
                        with waited_for():
                            await outbox.delete(connection, forgettable)
                    failpoint(Failpoint.BEFORE_COMMIT)
            except ConflictError as exc:
                self._outbox.give_back(forgettable)
                self._metrics.races.inc()
                log.info("batch.race_lost", size=len(letters), race=race + 1, reason=str(exc))
                if time.monotonic() - begun > RACES_SECONDS:
                    msg = f"{race + 1} races were lost in a row: {exc}"
                    raise UnavailableError(msg) from exc
                if race + 1 == races_max:
                    raise
                await asyncio.sleep(random.uniform(0, 0.005) * (race + 1))
            except BaseException:
                self._outbox.give_back(forgettable)
                raise
            else:
                await self._outbox.enqueue(applied.outgoing)
                await self._wake_parked(
                    applied.orders_new
                )  # it may wait for another worker, and nobody for it
                return applied.ended
        msg = "every race was won or lost"
        raise AssertionError(msg)

    async def _wake_parked(self, serial_nos: Collection[str]) -> None:
        """Have what was parked for these orders looked at now; if that fails, it is when it is due."""
        if serial_nos:
            with suppress(UnavailableError, ConflictError), waited_for():
                async with self._database.connection() as connection:
                    await parked_results.wake(connection, serial_nos)

    async def _apply(
        self,
        connection: asyncpg.Connection,
        letters: Sequence[Envelope],
        messages: Sequence[Message | InvalidMessage],
    ) -> BatchResult:
        """Load, decide, save; the caller commits.

        A part of a large batch is written while the next is decided, so that neither the database nor this process
        waits for the other.
        """
        now, known = await facts.load(
            connection,
            [message for message in messages if not isinstance(message, InvalidMessage)],
            self._rules,
        )
        await self._reserve_account_ids(connection, messages)
        entropy = os.urandom(ENTROPY_BYTES * len(letters))
        applied = BatchResult()
        waiting: list[Parked] = []
        async with facts.PipelinedWriter(connection, now) as saving:
            for position, (one, message) in enumerate(zip(letters, messages, strict=True)):
                if position and position % FLUSH_EVERY == 0:
                    applied.note(part := known.take_flushable())
                    await saving.begin(part)
                elif position % YIELD_EVERY == 0:
                    await saving.yield_control()
                decision = self._decide(one, message, known, now, entropy, position)
                number = _number(message)
                match DISPOSITIONS[decision.ending]:
                    case Disposition.ACKNOWLEDGE:
                        pass
                    case Disposition.DEAD_LETTER:
                        dead = self._dead_letter(one, decision.code, decision.detail, now)
                        known.enqueue(dead)
                    case Disposition.RETRY_LATER:
                        waiting.append(_parked(one, number, decision, now))
                applied.ended.append(
                    MessageResult(one, decision.ending, decision.code, decision.detail, number)
                )
            applied.note(rest := known.take_remaining())
            await saving.end(rest)
        await _save_parked(connection, applied.ended, waiting)
        return applied

    def _decide(
        self,
        letter: Envelope,
        message: Message | InvalidMessage,
        known: Facts,
        now: datetime,
        entropy: bytes,
        position: int,
    ) -> Decision:
        account_id = self._account_ids.pop() if isinstance(message, OpenAccount) else 0
        start = position * ENTROPY_BYTES
        draw = FreshIds(entropy[start : start + ENTROPY_BYTES], account_id)
        try:
            decision = decide(message, known, DecisionContext(self._rules, letter.incoming, draw, now))
            known.apply(decision)
        except Exception as exc:
            # The one place where a bug of ours is a message's fault: its neighbours must not pay for it.
            msg = f"{type(exc).__name__}: {exc}"
            raise MessageFailedError(msg) from exc
        return decision

    async def _reserve_account_ids(
        self, connection: asyncpg.Connection, messages: Sequence[Message | InvalidMessage]
    ) -> None:
        wanted = sum(isinstance(message, OpenAccount) for message in messages)
        if len(self._account_ids) < wanted:
            count = max(wanted, ACCOUNT_IDS_RESERVED)
            # Popped from the end: the smallest first.
            self._account_ids = sorted(await accounts.reserve_ids(connection, count), reverse=True)

    async def _set_aside(self, letter: Envelope, detail: str) -> list[MessageResult]:
        """Send one letter to the dead letters, in a transaction of its own.

        Nothing is done with a parked one that another worker has taken since this one failed on it. An order that
        was due is no letter of anybody's: it is looked at again after a while.
        """
        if letter.incoming.source is Source.CLOCK:
            async with self._database.transaction() as connection:
                await orders.reschedule(connection, letter.incoming.body.decode(), RETRY_AFTER)
            return [
                MessageResult(
                    letter, Ending.QUARANTINED, Code.INTERNAL, detail, letter.incoming.body.decode()
                )
            ]
        async with self._database.transaction() as connection:
            if letter.parked_id is not None and not await parked_results.lock(connection, letter.parked_id):
                return []
            now = await connection.fetchval("SELECT clock_timestamp()")
            row = self._dead_letter(letter, Code.INTERNAL, detail, now)
            await outbox.insert(connection, [row], now)
            if letter.parked_id is not None:
                await parked_results.delete(connection, [letter.parked_id])
        await self._outbox.enqueue([row])
        return [MessageResult(letter, Ending.QUARANTINED, Code.INTERNAL, detail, "")]

    def _dead_letter(self, letter: Envelope, code: Code, detail: str, now: datetime) -> OutboxMessage:
        properties = dead_letter(
            letter.properties,
            code=code,
            detail=detail,
            source=letter.incoming.source.value,
            exchange=letter.exchange,
            routing_key=letter.routing_key,
            attempts=letter.deliveries + letter.incoming.attempts + 1,
            first_seen=letter.first_seen or now,
            worker=self._worker,
        )
        return OutboxMessage(
            message_id=uuid7(now, os.urandom(10)),
            exchange=WALLET_DEAD_LETTERS,
            routing_key=letter.routing_key,
            body=letter.incoming.body,
            properties=marshal(properties),
        )

    # Parked results, and orders that are due: the same road, from tables instead of the broker.

    async def _sweep_all(self, stopping: asyncio.Event) -> None:
        """Apply all that is due; once stopping, no more than one batch of each: the rest stays where it is."""
        for take in (partial(_take_parked, self._policy), _take_due):
            while await self._sweep_some(take, BATCH_MAX) and not stopping.is_set():
                pass

    async def _update_gauges(self) -> None:
        """Update the gauges of the orders that wait: not known, while the database is away."""
        try:
            with waited_for():
                async with self._database.connection() as connection:
                    self._metrics.saw_orders(*await orders.overdue_stats(connection))
        except (UnavailableError, ConflictError):
            self._metrics.orders_unknown()

    async def _sweep_some(self, take: TakeDue, limit: int) -> int:
        """Apply what is due; return how many were taken."""
        begun = time.monotonic()
        letters: list[Envelope] = []
        try:
            async with self._database.transaction() as connection:
                with waited_for():  # nothing is taken yet that could be at fault
                    letters += await take(connection, limit)
                if not letters:
                    self._sweep_races.clear()
                    return 0
                messages = [read(one.incoming, self._keys) for one in letters]
                applied = await self._apply(connection, letters, messages)
                failpoint(Failpoint.BEFORE_COMMIT)
        except ConflictError as exc:
            self._metrics.races.inc()
            self._sweep_races.append(begun)
            if len(self._sweep_races) >= RACES_MAX or time.monotonic() - self._sweep_races[0] > RACES_SECONDS:
                msg = f"what is due lost {len(self._sweep_races)} races in a row: {exc}"
                self._sweep_races.clear()
                raise UnavailableError(msg) from exc
            await asyncio.sleep(random.uniform(0, 0.05))
            return limit  # still there, and looked at again at once
        except (StatementRejectedError, MessageFailedError) as exc:
            if len(letters) > 1:
                log.info("sweep.bisected", size=len(letters), reason=str(exc))
                return await self._sweep_some(take, len(letters) // 2)
            log.exception("message.failed", source=letters[0].incoming.source.value)
            if ended := await self._set_aside(letters[0], f"the wallet failed on it: {exc}"):
                self._report(ended, 0)
            return 1
        self._sweep_races.clear()
        await self._outbox.enqueue(applied.outgoing)
        self._report(applied.ended, time.monotonic() - begun)
        return len(applied.ended)

    def _report(self, ended: Sequence[MessageResult], seconds: float) -> None:
        """One line for the batch, and one for each message that an operator may want to look at."""
        counts: Counter[tuple[str, str, str]] = Counter()
        for one in ended:
            counts[one.letter.incoming.source.value, one.ending.value, one.code.value] += 1
            if DISPOSITIONS[one.ending] is not Disposition.ACKNOWLEDGE:
                log.warning(
                    "message.ended",
                    ending=one.ending.value,
                    source=one.letter.incoming.source.value,
                    code=one.code.value,
                    detail=one.detail,
                    number=one.number,
                )
        for labels, count in counts.items():
            self._metrics.messages.labels(*labels).inc(count)
        self._metrics.batch_size.observe(len(ended))
        self._metrics.batch_seconds.observe(seconds)
        endings: Counter[str] = Counter()
        for (_, ending, _), count in counts.items():
            endings[ending] += count
        log.info("batch.settled", size=len(ended), ms=round(seconds * 1000, 1), **endings)


def _fingerprint(one: Envelope) -> bytes:
    """Return what a letter is known by among the suspects.

    Its sender's message_id is part of it: the same body, sent often and in the hands of many workers, is no
    suspect for that.
    """
    sent = f"{one.incoming.source}\0{one.properties.message_id or ''}\0"
    return hashlib.sha256(sent.encode(errors="surrogateescape") + one.incoming.body).digest()


def _number(message: Message | InvalidMessage) -> str:
    """Return the serial number that a message is about, empty if it could not be read."""
    match message:
        case InvalidMessage():
            return message.serial_no or message.payment_order_no or ""
        case PaymentResult():
            return message.payment_order_no
        case _:
            return message.serial_no


def _parked(letter: Envelope, number: str, decision: Decision, now: datetime) -> Parked:
    return Parked(
        payment_order_no=number,
        exchange=letter.exchange,
        routing_key=letter.routing_key,
        properties=marshal(letter.properties),
        body=letter.incoming.body,
        attempts=letter.incoming.attempts + 1,
        first_seen=letter.first_seen or now,
        due_at=decision.due_at or now,
        parked_id=letter.parked_id or 0,
    )


def _envelope(one: Parked, policy: SenderPolicy) -> Envelope:
    return envelope(
        Source.RESULTS,
        one.body,
        unmarshal(one.properties),
        policy,
        exchange=one.exchange,
        routing_key=one.routing_key,
        attempts=one.attempts,
        first_seen=one.first_seen,
        parked_id=one.parked_id,
    )


async def _take_parked(policy: SenderPolicy, connection: asyncpg.Connection, limit: int) -> list[Envelope]:
    return [_envelope(one, policy) for one in await parked_results.take_due(connection, limit)]


async def _take_due(connection: asyncpg.Connection, limit: int) -> list[Envelope]:
    return [
        envelope(Source.CLOCK, serial_no.encode(), Basic.Properties(), exchange="", routing_key="")
        for serial_no in await orders.take_due(connection, limit)
    ]


async def _save_parked(
    connection: asyncpg.Connection, ended: Sequence[MessageResult], waiting: Sequence[Parked]
) -> None:
    """Write which results wait, for how long, and which no longer do."""
    fresh = [one for one in waiting if not one.parked_id]
    again = [one for one in waiting if one.parked_id]
    over = [
        one.letter.parked_id
        for one in ended
        if one.letter.parked_id is not None and one.ending is not Ending.PARKED
    ]
    if fresh:
        await parked_results.insert(connection, fresh)
    if again:
        await parked_results.put_off(connection, again)
    if over:
        await parked_results.delete(connection, over)
