"""From an order in the database to the broker's confirm, and from there to the outcome.

A replay is a row first. That a copy may be on its way is written down, then it is published, confirmed, to the exchange
and routing key where the message was published at first, and marked afterwards: whoever is killed in between publishes
it again, and the serial number keeps its effect single. Its outcome is known when the wallet, asked what the message
would do, says that it would only repeat; it has failed when the message is back at the keeper, with the replay's id on
it. The gateway says no such thing of a payment request: that one is handed on when a result has come since, or when it
was not back for a while; and has failed all the same when it is back later.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog
from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel

from wallet_schemas.names import PAYMENT_REQUESTS
from wallet_worker.broker.addresses import login_of
from wallet_worker.broker.amqp.confirms import Publication, publish_all
from wallet_worker.broker.amqp.properties import marshal
from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    BrokerUnavailableError,
    close,
    connect,
    describe,
    open_channel,
    translate_errors,
)
from wallet_worker.dead_letters.intake.classify import SOURCES
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.model.states import OperationState
from wallet_worker.dead_letters.replay import transitions
from wallet_worker.dead_letters.replay.authority import Authority
from wallet_worker.dead_letters.replay.lineage import Lineage
from wallet_worker.dead_letters.replay.payment_requests import IsSigned, invalid_requests
from wallet_worker.dead_letters.replay.properties import is_too_large, replayed
from wallet_worker.failpoints import Failpoint, failpoint
from wallet_worker.store.clock import database_time
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters import operations, replays
from wallet_worker.store.dead_letters.operations import OperationRow
from wallet_worker.store.dead_letters.replays import (
    OrderedReplay,
    PublishFailure,
    ReplayProgress,
)
from wallet_worker.store.errors import ConflictError, InvariantBrokenError, StoreError, UnavailableError
from wallet_worker.store.sentences import explain

PUBLISH_SECONDS = 8.0
CHUNK_MAX = 200
CHUNK_SHARE_SECONDS = 0.5  # of the rate: so that a pause is felt at once
CHUNK_BYTES_MAX = 8 * 2**20
REFUSED_WAIT = timedelta(seconds=2)
JUDGED_AFTER = 10  # outcomes, before the share of failures says anything
OUT_MAX, OUT_SECONDS = 200, 10.0  # without an outcome: so many, or so long at the rate, whichever is more
STEP_SECONDS_MAX = 86_400.0  # between two publications, however small a rate is
LOST_ALONE_MAX = 3  # connections that one message may cost, published alone

log = structlog.get_logger(__name__)


class Replayer:
    """Publishes what is ordered, one chunk of one operation at a time, on a connection of its own."""

    def __init__(
        self,
        database: Database,
        url: str,
        metrics: DeadLetterMetrics,
        versions: Lineage,
        authority: Authority,
        sign: Callable[[bytes], str | None] = lambda _: None,
        is_signed: IsSigned = lambda *_: False,
    ) -> None:
        """`sign` returns the header that proves a payment request to the gateway, if the wallet has a key.

        `is_signed` says whether a header is such a one.
        """
        self._database = database
        self._versions = versions
        self._url = url
        self._authority = authority
        self._sign = sign
        self._is_signed = is_signed
        self._metrics = metrics
        self._failed = 0
        """Replays of the operation in hand that have failed before they were published."""
        self._stopped = 0
        """Whether it has stopped by itself."""
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._suspects: dict[UUID, int] = {}
        """Replays that were unconfirmed when a connection was lost, and how often each was so alone."""

    async def step(self) -> bool:
        """Bring every open operation one step on; return whether something was published.

        Raises UnavailableError or InvariantBrokenError. A broker that is away is said in each operation, and is no
        error: it goes on later. An operation with which anything else is wrong is paused, and holds up no other.
        """
        async with self._database.connection() as connection:
            open_ids = await operations.open_ids(connection)
        moved = False
        for operation_id in open_ids:
            self._failed = self._stopped = 0
            try:
                moved |= await self._advance(operation_id)
                # Not before it is committed: what is undone is done again, and would count twice.
                self._metrics.replays.labels(outcome="failed").inc(self._failed)
                self._metrics.ended_by_themselves.labels(how="stopped").inc(self._stopped)
            except BrokerUnavailableError as exc:
                await self._away(operation_id, str(exc))
            except ConflictError:
                continue  # an operator is at it just now
            except (UnavailableError, InvariantBrokenError):
                raise
            except Exception as exc:
                log.exception("replay.paused", operation=str(operation_id))
                why = explain(exc) if isinstance(exc, StoreError) else "the wallet's own code has a fault"
                await self._hold(operation_id, f"{why}; replay.paused in the log of the keeper says where")
        return moved

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await close(connection)

    async def _away(self, operation_id: UUID, reason: str) -> None:
        await self.close()
        log.warning("replay.waiting", operation=str(operation_id), reason=reason)
        async with self._database.transaction() as connection:
            await operations.set_status_text(
                connection, operation_id, f"waiting for the broker, and then going on by itself: {reason}"
            )

    async def _hold(self, operation_id: UUID, why: str) -> None:
        """Pause an operation that cannot be carried on, until a person has looked."""
        async with self._database.transaction() as connection:
            paused = await transitions.hold(connection, operation_id, why)
        self._metrics.ended_by_themselves.labels(how="paused").inc(int(paused))

    async def _advance(self, operation_id: UUID) -> bool:
        async with self._database.transaction() as connection:
            if not await operations.claim(connection, operation_id):
                return False
            row = await operations.by_id(connection, operation_id)
            if row is None or row.ended_at is not None:
                return False
            now = await database_time(connection)
            counts = await replays.progress(connection, operation_id, row.canary)
            match OperationState(row.state):
                case OperationState.STOPPED:
                    await transitions.end_stopped(connection, row, counts, now)
                    return False
                case OperationState.PAUSED | OperationState.DONE:
                    return False
                case OperationState.RUNNING:
                    why = _why_stop(row, counts)
                    if why:
                        await transitions.stop(connection, operation_id, why, now)
                        self._stopped = 1
                        return False
                    return await self._go_on(connection, row, counts, now)

    async def _go_on(
        self, connection: asyncpg.Connection, row: OperationRow, counts: ReplayProgress, now: datetime
    ) -> bool:
        """Publish the next chunk of a running operation, if it is time; return whether something was."""
        operation_id = row.operation_id
        if not counts.ordered:
            await transitions.wait_or_end(connection, operation_id, counts, now)
            return False
        if row.publish_at > now:
            return False
        # What is out says nothing yet of failures: the share of those is to be known before much more follows.
        room = int(max(OUT_MAX, row.rate * OUT_SECONDS)) - counts.published
        if room <= 0:
            standing = f"waiting for some of {counts.published:,} outcomes before more is published"
            await operations.set_status_text(connection, operation_id, standing)
            return False
        limit = max(1, min(CHUNK_MAX, room, int(row.rate * CHUNK_SHARE_SECONDS)))
        below = row.canary if counts.canaries_out else None
        ordered = await replays.next_ordered(connection, operation_id, below=below, limit=limit)
        if not ordered:
            standing = f"waiting for the outcome of the first {row.canary:,} before the others go"
            await operations.set_status_text(connection, operation_id, standing)
            return False
        why_not = await self._authority.why_not(connection, row, ordered)
        if why_not is not None:
            await transitions.stop(connection, operation_id, f"it is not authorised: {why_not}", now)
            self._stopped = 1
            return False
        chosen = await self._allowed(connection, operation_id, ordered, now)
        if not chosen:
            return True
        gap = timedelta(seconds=min(len(chosen) / row.rate, STEP_SECONDS_MAX))
        confirmed, not_taken = await self._publish(chosen)
        failpoint(Failpoint.AFTER_REPLAY)
        after = await database_time(connection)
        await replays.published(connection, confirmed, after)
        due = after + gap
        standing = "publishing"
        if not_taken:
            await replays.tried(connection, not_taken)
            standing = f"the broker does not take all of it, and it is tried again: {not_taken[0].why}"
            due = max(due, after + REFUSED_WAIT)
        await operations.set_status_text(connection, operation_id, standing, due)
        return bool(confirmed)

    async def _allowed(
        self,
        connection: asyncpg.Connection,
        operation_id: UUID,
        ordered: Sequence[OrderedReplay],
        now: datetime,
    ) -> Sequence[OrderedReplay]:
        """Fail those that must not be published, or cannot; return the others that may be published together.

        One that was published perhaps, and must not be again, goes on to its outcome.
        """
        requests = [row for row in ordered if row.source == PAYMENT_REQUESTS]
        faults = await invalid_requests(connection, requests, self._is_signed) if requests else []
        invalid = {row.replay_id: why for row, why in zip(requests, faults, strict=True)}
        # Ordered long ago perhaps, and the sender may have repeated the old version since.
        applied = await self._versions.already_applied(connection, [row for row in ordered if not row.copies])
        failed: dict[UUID, str] = {}
        out: set[UUID] = set()
        for row in ordered:
            why = invalid.get(row.replay_id) or applied.get(row.replay_id) or _why_never(row)
            if why is not None and row.copies:
                out.add(row.replay_id)
                continue
            if why is None and self._suspects.get(row.replay_id, 0) >= LOST_ALONE_MAX:
                why = "the connection to the broker was lost each time that it was published, alone too"
            if why is not None:
                failed[row.replay_id] = why
                self._suspects.pop(row.replay_id, None)
        if failed:
            self._failed += await transitions.fail(connection, operation_id, failed, now)
        if out:
            await replays.published(connection, out, now)
        allowed = [row for row in ordered if row.replay_id not in failed.keys() | out]
        sound = [row for row in allowed if row.replay_id not in self._suspects]
        return sound or allowed[:1]

    async def _publish(self, chosen: Sequence[OrderedReplay]) -> tuple[list[UUID], list[PublishFailure]]:
        """Publish what nobody has stopped; return what the broker confirmed, and what not, with its reason.

        Raises BrokerUnavailableError: then nothing is known of any of them.
        """
        confirmed: list[UUID] = []
        not_taken: list[PublishFailure] = []
        try:
            with translate_errors():
                async with asyncio.timeout(PUBLISH_SECONDS):
                    for group in _groups(chosen, self._sign, login_of(self._url)):
                        channel = await self._open()
                        going = await self._begin(group)
                        if not going:
                            continue
                        sending = await publish_all(channel, [publication for _, publication in going])
                        try:
                            await sending.wait()
                        finally:
                            ends = sending.failures()
                            is_lost = channel.is_closed
                            self._note(going, ends, is_lost=is_lost)
                        if sending.is_refused:
                            await channel.close()  # another may be served: see Publisher
                        for (replay_id, _), why_not in zip(going, ends, strict=True):
                            if why_not is None:
                                confirmed.append(replay_id)
                            else:
                                not_taken.append(PublishFailure(replay_id, why_not, is_certain=not is_lost))
        except CONNECTION_ERRORS as exc:
            raise BrokerUnavailableError(describe(exc)) from exc
        return confirmed, not_taken

    async def _begin(self, group: Sequence[tuple[UUID, Publication]]) -> list[tuple[UUID, Publication]]:
        """Note, in a transaction of its own, what is about to be published; return what nobody has stopped meanwhile.

        Whoever dies after that leaves behind that a copy may be on its way.
        """
        async with self._database.transaction() as connection:
            begun = await replays.begin(connection, [replay_id for replay_id, _ in group])
        return [message for message in group if message[0] in begun]

    def _note(
        self, group: Sequence[tuple[UUID, Publication]], ends: Sequence[str | None], *, is_lost: bool
    ) -> None:
        """Remember which of a group may have cost the connection."""
        for (replay_id, _), why_not in zip(group, ends, strict=True):
            if why_not is None or not is_lost:
                self._suspects.pop(replay_id, None)
            else:
                self._suspects[replay_id] = self._suspects.get(replay_id, 0) + (len(group) == 1)

    async def _open(self) -> Channel:
        if self._connection is None or self._connection.is_closed:
            self._connection, self._channel = await connect(self._url, "wallet keeper: replays"), None
        if self._channel is None or self._channel.is_closed:
            self._channel = await open_channel(self._connection, confirms=True)
        return self._channel


def _groups(
    chosen: Sequence[OrderedReplay], sign: Callable[[bytes], str | None], login: str
) -> Iterator[list[tuple[UUID, Publication]]]:
    """Give messages that may be unconfirmed together: no message_id twice, and not too many bytes."""
    group: list[tuple[UUID, Publication]] = []
    ids: set[str] = set()
    size = 0
    for row in chosen:
        if row.exchange is None:
            msg = f"the replay {row.replay_id} has no exchange and was not held back"
            raise AssertionError(msg)
        properties = replayed(
            row.properties,
            row.replay_id,
            row.number,
            is_new=row.is_edit,
            login=login,
            signature=sign(row.body) if row.exchange == PAYMENT_REQUESTS else None,
        )
        message_id = properties.message_id or ""
        if group and (message_id in ids or size + len(row.body) > CHUNK_BYTES_MAX):
            yield group
            group, ids, size = [], set(), 0
        publication = Publication(
            exchange=row.exchange,
            routing_key=row.routing_key,
            mandatory=True,
            message_id=message_id,
            properties=marshal(properties),
            body=row.body,
        )
        group.append((row.replay_id, publication))
        ids.add(message_id)
        size += len(row.body)
    if group:
        yield group


def _why_never(row: OrderedReplay) -> str | None:
    """Return why a replay must not be published, or cannot be."""
    if row.exchange not in SOURCES:
        return "it would not go to an exchange that feeds the wallet or its gateway"
    if is_too_large(row.properties):
        return "its headers, with those of a replay, are larger than the broker takes"
    return None


def _why_stop(row: OperationRow, counts: ReplayProgress) -> str | None:
    """Return why a running operation must not go on, if so."""
    if row.canary and counts.canaries_bad:
        return (
            f"{counts.canaries_bad:,} of the first {row.canary:,} went badly, and the others were kept back"
        )
    ended = counts.resolved + counts.failed
    if ended >= JUDGED_AFTER and counts.bad > ended * row.stop_ratio:
        return f"{counts.bad:,} of {ended:,} outcomes were failures, more than {row.stop_ratio:.0%}"
    return None
