"""The table `dead_letter_replays`: each replay, before it is anything else, and what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from wallet_schemas.names import BODY_BYTES_MAX, PAYMENT_REQUESTS

CHUNK_BYTES_MAX = 16 * 2**20


class OrderedReplay(NamedTuple):
    """A replay that is ordered, with the message that it publishes."""

    replay_id: UUID
    letter_id: int
    number: int
    """What it carries as x-wallet-replay-count."""
    position: int
    """Its place in the operation, from 0."""
    tries: int
    """How often the broker refused it."""
    copies: int
    """Copies that may be in flight or were delivered."""
    body: bytes
    is_edit: bool
    serial_no: str | None
    properties: bytes
    """The AMQP properties of the letter as bytes of the wire."""
    exchange: str | None
    routing_key: str
    source: str

    @property
    def key(self) -> int | UUID:
        """The letter whose own message it publishes, or itself if it is an edit."""
        return self.replay_id if self.is_edit else self.letter_id


# Whoever publishes holds the operation; a stop may come in between, which `begin` finds.
_NEXT = """
SELECT r.replay_id, r.letter_id, r.number, r.position, r.tries, r.copies, coalesce(r.body, l.body) AS body,
       r.body IS NOT NULL AS is_edit, coalesce(r.serial_no, l.serial_no) AS serial_no,
       l.properties, l.exchange, l.routing_key, l.source
FROM (
    SELECT c.replay_id, sum(octet_length(coalesce(c.body, l.body))) OVER (ORDER BY c.tries, c.position) AS bytes,
           row_number() OVER (ORDER BY c.tries, c.position) AS place
    FROM (
        SELECT replay_id, letter_id, body, tries, position
        FROM dead_letter_replays
        WHERE operation_id = $1 AND state = 'ordered' AND ($2::int IS NULL OR position < $2)
        ORDER BY tries, position  -- what the broker would not take stands in nobody's way
        LIMIT $3
    ) c
    JOIN dead_letters l USING (letter_id)
) n
JOIN dead_letter_replays r USING (replay_id)
JOIN dead_letters l USING (letter_id)
WHERE n.bytes <= $4 OR n.place = 1
ORDER BY r.tries, r.position
"""


async def next_ordered(
    connection: asyncpg.Connection, operation_id: UUID, *, below: int | None, limit: int
) -> list[OrderedReplay]:
    """Return at most `limit` replays to publish next; with `below`, only those at a lower position.

    Their bodies are at most CHUNK_BYTES_MAX together, except that the first replay is always returned.
    """
    rows = await connection.fetch(_NEXT, operation_id, below, limit, CHUNK_BYTES_MAX)
    return [OrderedReplay(**row) for row in rows]


_BEGIN = """
UPDATE dead_letter_replays
SET copies = copies + 1, attempted_at = coalesce(attempted_at, clock_timestamp())
WHERE replay_id = ANY ($1::uuid[]) AND state = 'ordered'
RETURNING replay_id
"""


async def begin(connection: asyncpg.Connection, replay_ids: Iterable[UUID]) -> set[UUID]:
    """Note that a copy of each may be on its way from now on; return those that nobody has stopped meanwhile.

    It must be committed before they are published: a keeper may die of it.
    """
    return {row["replay_id"] for row in await connection.fetch(_BEGIN, list(replay_ids))}


# One may be back already, and have ended.
_PUBLISHED = """
UPDATE dead_letter_replays
SET state = CASE WHEN state = 'ordered' THEN 'published' ELSE state END, published_at = $2, copies = greatest(copies, 1)
WHERE replay_id = ANY ($1::uuid[]) AND published_at IS NULL
"""


async def published(connection: asyncpg.Connection, replay_ids: Iterable[UUID], now: datetime) -> None:
    """Note that the broker has confirmed these."""
    await connection.execute(_PUBLISHED, list(replay_ids), now)


_ASSUME_PUBLISHED = """
UPDATE dead_letter_replays
SET state = 'published', published_at = $2
WHERE operation_id = $1 AND state = 'ordered' AND copies > 0
"""


async def assume_published(connection: asyncpg.Connection, operation_id: UUID, now: datetime) -> None:
    """Mark replays that may be on their way as published. The caller holds the lock of the operation."""
    await connection.execute(_ASSUME_PUBLISHED, operation_id, now)


@dataclass(frozen=True, slots=True)
class PublishFailure:
    """A replay that the broker has not confirmed. `is_certain`: it has said so; else nobody knows."""

    replay_id: UUID
    why: str
    is_certain: bool


_TRIED = """
UPDATE dead_letter_replays
SET tries = tries + 1, detail = $2, copies = greatest(copies - $3::int, 0),
    attempted_at = CASE WHEN copies > $3::int THEN attempted_at END
WHERE replay_id = $1
"""


async def tried(connection: asyncpg.Connection, failures: Sequence[PublishFailure]) -> None:
    """Note which the broker would not take, and why; no copy of those is on its way where that is certain."""
    await connection.executemany(
        _TRIED, [(failure.replay_id, failure.why, int(failure.is_certain)) for failure in failures]
    )


class PublishedReplay(NamedTuple):
    """A replay without an outcome, with its message. `body` is cut after one byte more than a message may have."""

    replay_id: UUID
    letter_id: int
    operation_id: UUID
    is_edit: bool
    body: bytes
    properties: bytes
    """The AMQP properties of the letter as bytes of the wire."""
    source: str
    verdict: str
    """What was predicted."""
    is_quiet: bool
    """Whether it was published longer ago than `quiet_after`."""
    answer: str | None
    """Of a payment request: the status that the gateway has reported of its order since, if any."""


_TO_CHECK = """
SELECT r.replay_id, r.letter_id, r.operation_id, r.body IS NOT NULL AS is_edit,
       substring(coalesce(r.body, l.body) FROM 1 FOR $2) AS body,  -- see store.dead_letters.replayable
       l.properties, l.source, r.verdict, r.published_at < clock_timestamp() - $3::interval AS is_quiet,
       (SELECT p.status
        FROM payment_results p
        WHERE l.source = $4 AND p.payment_order_no = l.serial_no
          AND p.received_at >= coalesce(r.attempted_at, r.published_at)
        ORDER BY p.received_at
        LIMIT 1) AS answer
FROM dead_letter_replays r
JOIN dead_letters l USING (letter_id)
WHERE r.state = 'published'
  -- Less often, the longer it takes: a result that waits for its order does so for minutes.
  AND (r.checked_at IS NULL
       OR r.checked_at < clock_timestamp() - least((clock_timestamp() - r.published_at) / 10, interval '10 seconds'))
ORDER BY r.checked_at NULLS FIRST
LIMIT $1
FOR NO KEY UPDATE OF r SKIP LOCKED
"""


async def take_published(
    connection: asyncpg.Connection, limit: int, *, quiet_after: timedelta
) -> list[PublishedReplay]:
    """Lock and return at most `limit` replays without an outcome, the one checked longest ago first."""
    rows = await connection.fetch(_TO_CHECK, limit, BODY_BYTES_MAX + 1, quiet_after, PAYMENT_REQUESTS)
    return [PublishedReplay(**row) for row in rows]


_CHECKED = "UPDATE dead_letter_replays SET checked_at = clock_timestamp() WHERE replay_id = ANY ($1::uuid[])"


async def checked(connection: asyncpg.Connection, replay_ids: Iterable[UUID]) -> None:
    """Note that these were looked at, and have no outcome yet."""
    await connection.execute(_CHECKED, list(replay_ids))


_END = """
UPDATE dead_letter_replays r
SET state = n.state, code = n.code, detail = n.detail, ended_at = $5
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS n (replay_id, state, code, detail)
WHERE r.replay_id = n.replay_id AND r.state IN ('ordered', 'published')
RETURNING r.replay_id, r.letter_id, r.operation_id, r.state, r.verdict, r.code, r.body IS NOT NULL AS is_edit
"""


@dataclass(frozen=True, slots=True)
class ReplayEnd:
    """What came of a replay."""

    replay_id: UUID
    state: str
    code: str
    detail: str = ""


class EndedReplay(NamedTuple):
    """A replay that has just ended."""

    replay_id: UUID
    letter_id: int
    operation_id: UUID
    state: str
    verdict: str
    """What was predicted."""
    code: str
    """The outcome's code."""
    is_edit: bool


async def end(connection: asyncpg.Connection, ends: Sequence[ReplayEnd], now: datetime) -> list[EndedReplay]:
    """Write outcomes; return those of replays that had no outcome yet."""
    rows = await connection.fetch(
        _END,
        [end.replay_id for end in ends],
        [end.state for end in ends],
        [end.code for end in ends],
        [end.detail for end in ends],
        now,
    )
    return [EndedReplay(**row) for row in rows]


class ReturnedReplay(NamedTuple):
    """A replay that came back as a dead letter."""

    replay_id: UUID
    letter_id: int
    operation_id: UUID
    code: str
    """The reason for which it came back."""


# What was over without an outcome has one now. So has a payment request: that it was handed on was no more than likely.
_CAME_BACK = """
UPDATE dead_letter_replays r
SET state = 'failed', code = n.code, detail = n.detail, ended_at = $4
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS n (replay_id, code, detail), dead_letters l
WHERE r.replay_id = n.replay_id AND l.letter_id = r.letter_id
  AND (r.state IN ('ordered', 'published', 'cancelled') OR (r.state = 'resolved' AND l.source = $5))
RETURNING r.replay_id, r.letter_id, r.operation_id, r.code
"""


async def came_back(
    connection: asyncpg.Connection, ends: Sequence[ReplayEnd], now: datetime
) -> list[ReturnedReplay]:
    """Mark replays that came back as dead letters as failed; return those that had no final outcome before."""
    rows = await connection.fetch(
        _CAME_BACK,
        [end.replay_id for end in ends],
        [end.code for end in ends],
        [end.detail for end in ends],
        now,
        PAYMENT_REQUESTS,
    )
    return [ReturnedReplay(**row) for row in rows]


# What may be on its way is passed over: it goes on to its outcome, and a keeper that holds the operation says so.
_CANCEL = """
UPDATE dead_letter_replays
SET state = 'cancelled', detail = $2, ended_at = $3
WHERE replay_id IN (
    SELECT replay_id
    FROM dead_letter_replays
    WHERE operation_id = $1 AND state = 'ordered' AND copies = 0
    FOR UPDATE SKIP LOCKED
)
RETURNING letter_id
"""


async def cancel(connection: asyncpg.Connection, operation_id: UUID, detail: str, now: datetime) -> list[int]:
    """End the replays of an operation of which no copy can be on its way; return their letters."""
    return [row["letter_id"] for row in await connection.fetch(_CANCEL, operation_id, detail, now)]


class OutstandingReplay(NamedTuple):
    """A replay that has not ended, and who ordered it."""

    letter_id: int
    state: str
    published_at: datetime | None
    actor: str
    operation_id: UUID
    ordered_at: datetime


_OUTSTANDING = """
SELECT r.letter_id, r.state, r.published_at, o.actor, o.operation_id, r.ordered_at
FROM dead_letter_replays r
JOIN dead_letter_operations o USING (operation_id)
WHERE r.letter_id = ANY ($1::bigint[]) AND r.state IN ('ordered', 'published')
"""


async def outstanding(connection: asyncpg.Connection, letter_ids: Iterable[int]) -> list[OutstandingReplay]:
    """Return the replays of these letters that have not ended: at most one a letter."""
    return [OutstandingReplay(**row) for row in await connection.fetch(_OUTSTANDING, list(letter_ids))]


class InFlightReplay(NamedTuple):
    """A replay that is over and of which a copy may still be in flight.

    `body` is cut after one byte more than a message may have.
    """

    replay_id: UUID
    letter_id: int
    is_edit: bool
    source: str
    exchange: str | None
    properties: bytes
    """The AMQP properties of the letter as bytes of the wire."""
    body: bytes

    @property
    def key(self) -> int | UUID:
        """The letter whose own message it published, or itself if it is an edit."""
        return self.replay_id if self.is_edit else self.letter_id


# Copies that came back have been noted as attempts: of the letter itself, or of the one that an edit has become.
_IN_FLIGHT = """
SELECT r.replay_id, r.letter_id, r.body IS NOT NULL AS is_edit, l.source, l.exchange, l.properties,
       substring(coalesce(r.body, l.body) FROM 1 FOR $2) AS body  -- see store.dead_letters.replayable
FROM dead_letter_replays r
JOIN dead_letters l USING (letter_id)
WHERE r.letter_id = ANY ($1::bigint[]) AND r.state IN ('failed', 'cancelled')
  AND r.copies > (SELECT count(*) FROM dead_letter_attempts a WHERE a.replay_id = r.replay_id)
"""


async def in_flight(connection: asyncpg.Connection, letter_ids: Iterable[int]) -> list[InFlightReplay]:
    """Return the replays of these letters that are over and of which a copy may still be in flight."""
    rows = await connection.fetch(_IN_FLIGHT, list(letter_ids), BODY_BYTES_MAX + 1)
    return [InFlightReplay(**row) for row in rows]


class ClaimedReplay(NamedTuple):
    """The replay that a dead letter claims to come from."""

    replay_id: UUID
    letter_id: int
    body_digest: bytes
    """SHA-256 of what was published."""
    is_edit: bool


_CLAIMED = """
SELECT replay_id, letter_id, body_digest, body IS NOT NULL AS is_edit
FROM dead_letter_replays
WHERE replay_id = ANY ($1::uuid[])
"""


async def claimed(connection: asyncpg.Connection, replay_ids: Iterable[UUID]) -> dict[UUID, ClaimedReplay]:
    """Return the replays of these ids that exist, by id."""
    rows = [ClaimedReplay(**row) for row in await connection.fetch(_CLAIMED, list(replay_ids))]
    return {row.replay_id: row for row in rows}


class ReplayRow(NamedTuple):
    """One replay of a letter."""

    replay_id: UUID
    operation_id: UUID
    number: int
    """What it carries as x-wallet-replay-count."""
    is_edit: bool
    state: str
    verdict: str
    """What was predicted, with `verdict_code`."""
    verdict_code: str
    code: str
    """The outcome's code; empty while there is none."""
    detail: str
    serial_no: str | None
    """The new serial number, of an edit."""
    ordered_at: datetime
    published_at: datetime | None
    ended_at: datetime | None


_OF_LETTER = """
SELECT replay_id, operation_id, number, body IS NOT NULL AS is_edit, state, verdict, verdict_code, code, detail,
       serial_no, ordered_at, published_at, ended_at
FROM dead_letter_replays
WHERE letter_id = $1
ORDER BY number, ordered_at
"""


async def of_letter(connection: asyncpg.Connection, letter_id: int) -> list[ReplayRow]:
    """Return the replays of a letter, oldest first."""
    return [ReplayRow(**row) for row in await connection.fetch(_OF_LETTER, letter_id)]


class ReplayProgress(NamedTuple):
    """How many replays of an operation are in each state, and how many of them went badly."""

    ordered: int
    published: int
    resolved: int
    failed: int
    cancelled: int
    bad: int
    """Failed, or refused although a success was predicted."""
    canaries_out: int
    """Canaries without an outcome."""
    canaries_bad: int
    """Canaries that failed, were cancelled, or were refused although a success was predicted."""


# A refusal is a failure only where something else was promised.
_PROGRESS = """
SELECT count(*) FILTER (WHERE state = 'ordered') AS ordered,
       count(*) FILTER (WHERE state = 'published') AS published,
       count(*) FILTER (WHERE state = 'resolved') AS resolved,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE state = 'failed'
                           OR state = 'resolved' AND verdict = 'will_apply' AND code <> 'OK') AS bad,
       count(*) FILTER (WHERE position < $2 AND state IN ('ordered', 'published')) AS canaries_out,
       count(*) FILTER (WHERE position < $2 AND (state IN ('failed', 'cancelled')
                           OR state = 'resolved' AND verdict = 'will_apply' AND code <> 'OK')) AS canaries_bad
FROM dead_letter_replays
WHERE operation_id = $1
"""


async def progress(connection: asyncpg.Connection, operation_id: UUID, canary: int) -> ReplayProgress:
    """Count the replays of an operation by state. Its first `canary` replays are the canaries."""
    row = await connection.fetchrow(_PROGRESS, operation_id, canary)
    if row is None:
        msg = "an aggregate has a row"
        raise AssertionError(msg)
    return ReplayProgress(**row)


class ReplayWaits(NamedTuple):
    """How long replays and operations have waited, in seconds; 0 if none waits."""

    without_outcome_seconds: float
    """Since the oldest replay without an outcome was published."""
    still_seconds: float
    """Since the slowest running operation last moved."""


_WAITS = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - (
           SELECT min(published_at) FROM dead_letter_replays WHERE state = 'published'
       )), 0)::float8 AS without_outcome_seconds,
       coalesce(extract(epoch FROM clock_timestamp() - (
           SELECT min(m.moved_at)
           FROM dead_letter_operations o
           CROSS JOIN LATERAL (
               SELECT greatest(o.started_at, max(published_at), max(ended_at)) AS moved_at
               FROM dead_letter_replays
               WHERE operation_id = o.operation_id
           ) m
           WHERE o.ended_at IS NULL AND o.state = 'running'
       )), 0)::float8 AS still_seconds
"""


async def waits(connection: asyncpg.Connection) -> ReplayWaits:
    """Return the longest waits of replays and running operations."""
    row = await connection.fetchrow(_WAITS)
    if row is None:
        msg = "a query without a table has a row"
        raise AssertionError(msg)
    return ReplayWaits(**row)


class SentEdit(NamedTuple):
    """An edit that was sent, or is about to be, with its message.

    `body` is cut after one byte more than a message may have.
    """

    replay_id: UUID
    letter_id: int
    replaces: str | None
    """The serial number of the letter."""
    serial_no: str
    """The new serial number."""
    source: str
    exchange: str | None
    properties: bytes
    """The AMQP properties of the letter as bytes of the wire."""
    body: bytes

    @property
    def key(self) -> UUID:
        """Itself: its message is not its letter's."""
        return self.replay_id


# What failed before it was published has sent nothing.
_EDITS_SENT = """
SELECT r.replay_id, r.letter_id, l.serial_no AS replaces, r.serial_no, l.source, l.exchange, l.properties,
       substring(r.body FROM 1 FOR $2) AS body  -- see store.dead_letters.replayable
FROM dead_letter_replays r
JOIN dead_letters l USING (letter_id)
WHERE r.serial_no IS NOT NULL AND (r.state NOT IN ('failed', 'cancelled') OR r.copies > 0)
  AND (l.serial_no = ANY ($1::text[]) OR r.serial_no = ANY ($1::text[]))
ORDER BY r.ordered_at, r.replay_id
"""


async def edits_sent(connection: asyncpg.Connection, numbers: Iterable[str]) -> list[SentEdit]:
    """Return the edits from or to one of these numbers that were sent, or are about to be, oldest first."""
    rows = await connection.fetch(_EDITS_SENT, list(numbers), BODY_BYTES_MAX + 1)
    return [SentEdit(**row) for row in rows]


# One key for all: a replay of ten thousand letters would need more locks than there is room for.
_HOLD_EDITS = "SELECT pg_advisory_xact_lock(hashtextextended('dead letters: edits', 0))"
_HOLD_NO_EDITS = "SELECT pg_advisory_xact_lock_shared(hashtextextended('dead letters: edits', 0))"


async def claim(connection: asyncpg.Connection, *, edits: bool) -> None:
    """Lock out new edits until the transaction ends; with `edits`, new replays too."""
    await connection.execute(_HOLD_EDITS if edits else _HOLD_NO_EDITS)


_SERIAL_TAKEN = """
SELECT EXISTS (
    SELECT FROM dead_letter_replays WHERE serial_no = $1 AND (state <> 'cancelled' OR copies > 0)
) OR EXISTS (
    SELECT FROM dead_letters WHERE serial_no = $1
)
"""


async def serial_taken(connection: asyncpg.Connection, serial_no: str) -> bool:
    """Return whether a letter has this number, or a message with it was sent, or is about to be, in one's place."""
    return bool(await connection.fetchval(_SERIAL_TAKEN, serial_no))
