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
from typing import NamedTuple, TypeAlias

import asyncpg
import structlog
from pamqp.commands import Basic

from wallet_schemas.codes import Code
from wallet_schemas.commands import OpenAccount
from wallet_schemas.names import WALLET_DEAD_LETTERS
from wallet_schemas.payments import PaymentResult
from wallet_worker.backoff import Pause, rest
from wallet_worker.broker.amqp.properties import dead_letter, marshal, unmarshal
from wallet_worker.broker.inbox import Inbox, Letter, acknowledge, letter
from wallet_worker.core.context import Circumstances, Rules
from wallet_worker.core.decide import decide
from wallet_worker.core.endings import DISPOSITIONS, Disposition, Ending
from wallet_worker.core.facts import Changes, Decision, Facts, Outgoing
from wallet_worker.core.ids import ENTROPY_BYTES, Draw, uuid7
from wallet_worker.core.inbound import Readable, Source, Unreadable, read
from wallet_worker.failpoints import Failpoint, passing
from wallet_worker.store import accounts, crash_suspects, facts, orders, outbox, parked_results
from wallet_worker.store.database import Database
from wallet_worker.store.errors import (
    InvariantBrokenError,
    LostRaceError,
    RefusedError,
    StoreError,
    UnavailableError,
)
from wallet_worker.store.parked_results import Parked
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.worker.outbox import Outbox

# A thousand do 4 to 7 % more, alone; two workers then wait for each other's accounts half of the time.
BATCH_MAX = 500
PART_MAX = 125  # of a batch, written while the next part is decided: smaller ones are more statements
STEP = (
    6  # messages decided, in a third of a millisecond, before the part that is being written is looked after
)
RACES_MAX = 20  # that one message loses in a row; then somebody holds a lock for good, and waiting is right
BATCH_RACES_MAX = 5  # that a batch loses in a row before it is halved
CRASHES_MAX = 3  # times that a worker dies with a suspect in hand, before that is set aside
SWEEP_SECONDS = 1.0
MEASURE_SECONDS = 15.0
PUT_OFF = timedelta(hours=1)  # an order that the wallet failed on when it was due
ACCOUNT_IDS_RESERVED = 1_000  # a round trip for every thousand accounts opened

log = structlog.get_logger(__name__)


class MessageFailedError(Exception):
    """Our own code failed on a message. Nothing was written."""


class Ended(NamedTuple):
    """A message, what became of it, and why."""

    letter: Letter
    ending: Ending
    code: Code
    detail: str
    number: str


@dataclass(slots=True)
class Applied:
    """What a batch came to: every ending, what is to be published, and the orders that it made."""

    ended: list[Ended] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    orders_new: list[str] = field(default_factory=list)

    def note(self, changes: Changes) -> None:
        """Note what comes of changes after the commit."""
        self.outgoing += changes.outgoing
        self.orders_new += changes.orders_new


Take: TypeAlias = Callable[[asyncpg.Connection, int], Awaitable[list[Letter]]]
"""Takes letters that are due from a table, locked, at most so many."""


class Batches:
    """Applies batches, from the inbox, from the parked results and from the orders that are due, until stopped."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        rules: Rules,
        keys: Mapping[str, str],
        worker: str,
        health: Health,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._rules = rules
        self._keys = keys
        self._worker = worker
        self._health = health
        self._metrics = metrics
        self._account_ids: list[int] = []
        self._accused: dict[bytes, int] = {}
        """What this process has counted and not finished: a fault of the database counts nothing twice."""

    async def run(self, inbox: Inbox, stopping: asyncio.Event) -> None:
        """Apply what arrives until the inbox is closed and empty, or the database is away while stopping."""
        while batch := await inbox.take(BATCH_MAX):
            letters = [one.letter for one in batch]

            async def settle(letters: Sequence[Letter] = letters) -> None:
                await self._settle(letters)

            if not await self._while_available(settle, stopping):
                return
            passing(Failpoint.AFTER_COMMIT)
            await acknowledge(batch)
            passing(Failpoint.AFTER_ACKNOWLEDGE)

    async def sweep(self, stopping: asyncio.Event) -> None:
        """Look at parked results and at orders when they are due, until stopping."""
        measured_at = 0.0
        while not stopping.is_set():
            if not await self._while_available(lambda: self._sweep_all(stopping), stopping):
                return
            if time.monotonic() - measured_at > MEASURE_SECONDS:
                measured_at = time.monotonic()
                await self._measure()
            await rest(SWEEP_SECONDS, stopping)

    async def _while_available(self, action: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> bool:
        """Do it, again and again while the database is away; return False if stopping came first."""
        pause = Pause()
        while True:
            try:
                await action()
            except UnavailableError as exc:
                if self._health.unready("database", str(exc)):
                    log.error("database.lost", reason=str(exc))
                await self._database.forget_connections()
                if stopping.is_set():
                    return False
                await pause.wait(stopping)
            else:
                if self._health.ready("database"):
                    log.info("database.back")
                return True

    async def _settle(self, letters: Sequence[Letter]) -> None:
        """Apply a batch; return when every letter of it has its ending in the database."""
        begun = time.monotonic()
        ended = await (self._interrogate(letters) if letters[0].deliveries else self._divide(letters))
        self._tell(ended, time.monotonic() - begun)

    async def _interrogate(self, letters: Sequence[Letter]) -> list[Ended]:
        """Apply letters that were handed out before: one of them may be what a worker died of.

        Each is noted before it is touched and forgotten when it has ended, so that what is noted already was
        in hand when a worker died. That one goes alone; the others, however often a dying worker had them
        waiting, go together.
        """
        marks = [_mark(one) for one in letters]
        async with self._database.connection() as connection:
            # Those that this very process noted were interrupted by a fault of the database: nobody died of them.
            noted = await crash_suspects.noted(connection, marks) - self._accused.keys()
        ended: list[Ended] = []
        together: list[Letter] = []
        for one, mark in zip(letters, marks, strict=True):
            if mark in noted:
                ended += await self._try_suspects(together)
                ended += await self._try_suspects([one])
                together = []
            else:
                together.append(one)
        return ended + await self._try_suspects(together)

    async def _try_suspects(self, letters: Sequence[Letter]) -> list[Ended]:
        """Apply letters of which a worker may die, counting before they are touched."""
        if not letters:
            return []
        marks = {_mark(one) for one in letters}
        try:
            if uncounted := marks - self._accused.keys():
                async with self._database.connection() as connection:
                    self._accused |= await crash_suspects.accuse(connection, uncounted)
            deaths = self._accused[_mark(letters[0])] - 1
            if len(letters) == 1 and deaths >= CRASHES_MAX:
                ended = await self._set_aside(letters[0], f"a worker died of it {deaths} times")
            else:
                ended = await self._divide(letters)
            async with self._database.connection() as connection:
                await crash_suspects.acquit(connection, marks)
        except LostRaceError as exc:
            msg = f"the suspects are locked: {exc}"
            raise UnavailableError(msg) from exc
        except (InvariantBrokenError, asyncio.CancelledError):
            # The worker ends in order, by its own will: it does not die of these.
            with suppress(StoreError):
                async with self._database.connection() as connection:
                    await crash_suspects.acquit(connection, marks)
            raise
        for mark in marks:
            del self._accused[mark]
        return ended

    async def _divide(self, letters: Sequence[Letter]) -> list[Ended]:
        """Apply the letters in one transaction, or halves of them in several, if one of them is at fault.

        So too if they lose every race: a smaller batch holds fewer locks, and meets fewer others, or itself.
        """
        try:
            return await self._attempt(letters)
        except (RefusedError, MessageFailedError) as exc:
            if len(letters) == 1:
                log.exception("message.failed", source=letters[0].incoming.source.value)
                return await self._set_aside(letters[0], f"the wallet failed on it: {exc}")
        except LostRaceError as exc:
            if len(letters) == 1:
                msg = f"a message lost {RACES_MAX} races in a row"
                raise UnavailableError(msg) from exc
        middle = len(letters) // 2
        return await self._divide(letters[:middle]) + await self._divide(letters[middle:])

    async def _attempt(self, letters: Sequence[Letter]) -> list[Ended]:
        """Apply the letters in one transaction, begun again after a lost race, but not for ever."""
        messages = [read(one.incoming, self._keys) for one in letters]
        races_max = RACES_MAX if len(letters) == 1 else BATCH_RACES_MAX
        for race in range(races_max):
            forgettable = self._outbox.take_confirmed()
            try:
                async with self._database.transaction() as connection:
                    applied = await self._apply(connection, letters, messages)
                    if forgettable:
                        await outbox.delete(connection, forgettable)
                    passing(Failpoint.BEFORE_COMMIT)
            except LostRaceError as exc:
                self._outbox.keep(forgettable)
                self._metrics.races.inc()
                log.info("batch.race_lost", size=len(letters), race=race + 1, reason=str(exc))
                if race + 1 == races_max:
                    raise
                await asyncio.sleep(random.uniform(0, 0.005) * (race + 1))
            except BaseException:
                self._outbox.keep(forgettable)
                raise
            else:
                await self._outbox.offer(applied.outgoing)
                await self._wake(applied.orders_new)  # it may wait for another worker, and nobody for it
                return applied.ended
        msg = "every race was won or lost"
        raise AssertionError(msg)

    async def _wake(self, serial_nos: Collection[str]) -> None:
        """Have what was parked for these orders looked at now; if that fails, it is when it is due."""
        if serial_nos:
            with suppress(UnavailableError, LostRaceError):
                async with self._database.connection() as connection:
                    await parked_results.wake(connection, serial_nos)

    async def _apply(
        self,
        connection: asyncpg.Connection,
        letters: Sequence[Letter],
        messages: Sequence[Readable | Unreadable],
    ) -> Applied:
        """Load, decide, save; the caller commits.

        A part of a large batch is written while the next is decided, so that neither the database nor this process
        waits for the other.
        """
        now, known = await facts.load(
            connection,
            [message for message in messages if not isinstance(message, Unreadable)],
            self._rules,
        )
        await self._reserve_account_ids(connection, messages)
        entropy = os.urandom(ENTROPY_BYTES * len(letters))
        applied = Applied()
        waiting: list[Parked] = []
        async with facts.Saving(connection, now) as saving:
            for position, (one, message) in enumerate(zip(letters, messages, strict=True)):
                if position and position % PART_MAX == 0:
                    applied.note(part := known.take_part())
                    await saving.begin(part)
                elif position % STEP == 0:
                    await saving.give_way()
                decision = self._decide(one, message, known, now, entropy, position)
                number = _number(message)
                match DISPOSITIONS[decision.ending]:
                    case Disposition.ACKNOWLEDGE:
                        pass
                    case Disposition.DEAD_LETTER:
                        dead = self._dead_letter(one, decision.code, decision.detail, now)
                        known.promise(dead)
                    case Disposition.RETRY_LATER:
                        waiting.append(_parked(one, number, decision, now))
                applied.ended.append(Ended(one, decision.ending, decision.code, decision.detail, number))
            applied.note(rest := known.take_rest())
            await saving.end(rest)
        await _save_parked(connection, applied.ended, waiting)
        return applied

    def _decide(
        self,
        letter: Letter,
        message: Readable | Unreadable,
        known: Facts,
        now: datetime,
        entropy: bytes,
        position: int,
    ) -> Decision:
        account_id = self._account_ids.pop() if isinstance(message, OpenAccount) else 0
        start = position * ENTROPY_BYTES
        draw = Draw(entropy[start : start + ENTROPY_BYTES], account_id)
        try:
            decision = decide(message, known, Circumstances(self._rules, letter.incoming, draw, now))
            known.apply(decision)
        except Exception as exc:
            # The one place where a bug of ours is a message's fault: its neighbours must not pay for it.
            msg = f"{type(exc).__name__}: {exc}"
            raise MessageFailedError(msg) from exc
        return decision

    async def _reserve_account_ids(
        self, connection: asyncpg.Connection, messages: Sequence[Readable | Unreadable]
    ) -> None:
        wanted = sum(isinstance(message, OpenAccount) for message in messages)
        if len(self._account_ids) < wanted:
            count = max(wanted, ACCOUNT_IDS_RESERVED)
            # Popped from the end: the smallest first.
            self._account_ids = sorted(await accounts.reserve_ids(connection, count), reverse=True)

    async def _set_aside(self, letter: Letter, detail: str) -> list[Ended]:
        """Send one letter to the dead letters, in a transaction of its own.

        Nothing is done with a parked one that another worker has taken since this one failed on it. An order that
        was due is no letter of anybody's: it is looked at again after a while.
        """
        if letter.incoming.source is Source.CLOCK:
            async with self._database.transaction() as connection:
                await orders.put_off(connection, letter.incoming.body.decode(), PUT_OFF)
            return [Ended(letter, Ending.SET_ASIDE, Code.INTERNAL, detail, letter.incoming.body.decode())]
        async with self._database.transaction() as connection:
            if letter.parked_id is not None and not await parked_results.hold(connection, letter.parked_id):
                return []
            now = await connection.fetchval("SELECT clock_timestamp()")
            row = self._dead_letter(letter, Code.INTERNAL, detail, now)
            await outbox.insert(connection, [row], now)
            if letter.parked_id is not None:
                await parked_results.delete(connection, [letter.parked_id])
        await self._outbox.offer([row])
        return [Ended(letter, Ending.SET_ASIDE, Code.INTERNAL, detail, "")]

    def _dead_letter(self, letter: Letter, code: Code, detail: str, now: datetime) -> Outgoing:
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
        return Outgoing(
            message_id=uuid7(now, os.urandom(10)),
            exchange=WALLET_DEAD_LETTERS,
            routing_key=letter.routing_key,
            body=letter.incoming.body,
            properties=marshal(properties),
        )

    # Parked results, and orders that are due: the same road, from tables instead of the broker.

    async def _sweep_all(self, stopping: asyncio.Event) -> None:
        """Apply all that is due; once stopping, no more than one batch of each: the rest stays where it is."""
        for take in (_take_parked, _take_due):
            while await self._sweep_some(take, BATCH_MAX) and not stopping.is_set():
                pass

    async def _measure(self) -> None:
        """Let the metrics say how the orders stand that wait; if the database is away, they say what they said."""
        with suppress(UnavailableError, LostRaceError):
            async with self._database.connection() as connection:
                overdue, oldest_seconds = await orders.standing(connection)
            self._metrics.orders_overdue.set(overdue)
            self._metrics.payouts_oldest_seconds.set(oldest_seconds)

    async def _sweep_some(self, take: Take, limit: int) -> int:
        """Apply what is due; return how many were taken."""
        begun = time.monotonic()
        letters: list[Letter] = []
        try:
            async with self._database.transaction() as connection:
                letters += await take(connection, limit)
                if not letters:
                    return 0
                messages = [read(one.incoming, self._keys) for one in letters]
                applied = await self._apply(connection, letters, messages)
                passing(Failpoint.BEFORE_COMMIT)
        except LostRaceError:
            self._metrics.races.inc()
            await asyncio.sleep(random.uniform(0, 0.05))
            return limit  # still there, and looked at again at once
        except (RefusedError, MessageFailedError) as exc:
            if len(letters) > 1:
                log.info("sweep.divided", size=len(letters), reason=str(exc))
                return await self._sweep_some(take, len(letters) // 2)
            log.exception("message.failed", source=letters[0].incoming.source.value)
            if ended := await self._set_aside(letters[0], f"the wallet failed on it: {exc}"):
                self._tell(ended, 0)
            return 1
        await self._outbox.offer(applied.outgoing)
        self._tell(applied.ended, time.monotonic() - begun)
        return len(applied.ended)

    def _tell(self, ended: Sequence[Ended], seconds: float) -> None:
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


def _mark(one: Letter) -> bytes:
    """Return what a letter is known by among the suspects.

    Its sender's message_id is part of it: the same body, sent often and in the hands of many workers, is no
    suspect for that.
    """
    sent = f"{one.incoming.source}\0{one.properties.message_id or ''}\0"
    return hashlib.sha256(sent.encode(errors="surrogateescape") + one.incoming.body).digest()


def _number(message: Readable | Unreadable) -> str:
    """Return the serial number that a message is about, empty if it could not be read."""
    match message:
        case Unreadable():
            return message.serial_no or message.payment_order_no or ""
        case PaymentResult():
            return message.payment_order_no
        case _:
            return message.serial_no


def _parked(letter: Letter, number: str, decision: Decision, now: datetime) -> Parked:
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


def _letter(one: Parked) -> Letter:
    return letter(
        Source.RESULTS,
        one.body,
        unmarshal(one.properties),
        exchange=one.exchange,
        routing_key=one.routing_key,
        attempts=one.attempts,
        first_seen=one.first_seen,
        parked_id=one.parked_id,
    )


async def _take_parked(connection: asyncpg.Connection, limit: int) -> list[Letter]:
    return [_letter(one) for one in await parked_results.take_due(connection, limit)]


async def _take_due(connection: asyncpg.Connection, limit: int) -> list[Letter]:
    return [
        letter(Source.CLOCK, serial_no.encode(), Basic.Properties(), exchange="", routing_key="")
        for serial_no in await orders.take_due(connection, limit)
    ]


async def _save_parked(
    connection: asyncpg.Connection, ended: Sequence[Ended], waiting: Sequence[Parked]
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
