"""The tables `dead_letters` and `dead_letter_attempts`: each letter once, and each time that it became one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from wallet_schemas.names import BODY_BYTES_MAX

OPERATOR_ROLE = "wallet_operator"
"""The role of operators: it reads the ledger and dead letters, and writes by functions of the database alone."""

KEEPER_ROLE = "wallet_keeper"
"""The role of keepers: it reads the ledger, takes letters in, and follows the replays that operators have ordered."""


_LOCKED = """
SELECT letter_id, state, replays, seal = 'unsealed' AS is_unsealed
FROM dead_letters
WHERE letter_id = ANY ($1::bigint[])
ORDER BY letter_id
"""
# A statement of its own, so that the next one reads what the locks have waited for.
_LOCK_ROWS = "SELECT dead_letter_lock_letters($1)"


class LetterStatus(NamedTuple):
    """The state of a letter, how often it was replayed, and whether anybody may have forged it."""

    letter_id: int
    state: str
    replays: int
    is_unsealed: bool


async def lock(connection: asyncpg.Connection, letter_ids: Iterable[int]) -> list[LetterStatus]:
    """Return the status of letters, ascending by id; their rows are locked in this order."""
    ids = list(letter_ids)
    await connection.execute(_LOCK_ROWS, ids)
    return [LetterStatus(**row) for row in await connection.fetch(_LOCKED, ids)]


_MOVE = """
UPDATE dead_letters
SET state = $3, replays = greatest(replays + $5::int, 0), updated_at = $4
WHERE letter_id = ANY ($1::bigint[]) AND state = ANY ($2::text[])
"""


async def move(
    connection: asyncpg.Connection,
    letter_ids: Iterable[int],
    *,
    before: Iterable[str],
    after: str,
    now: datetime,
    replays: int = 0,
) -> int:
    """Put letters that are in one of the states `before` into the state `after`; return how many were."""
    status = await connection.execute(_MOVE, sorted(letter_ids), list(before), after, now, replays)
    return int(status.rpartition(" ")[2])


# Everything that may be asked for at once, each part idle where nothing is asked: one statement, static text.
_FITS = """
    ($1::text[] IS NULL OR state = ANY ($1))
    AND ($2::text IS NULL OR reason = $2)
    AND ($3::text IS NULL OR source = $3)
    AND ($4::text IS NULL OR message_type = $4)
    AND ($5::text IS NULL OR serial_no = $5)
    AND ($6::text IS NULL OR letter_id IN (
        SELECT n.letter_id FROM dead_letter_names n WHERE n.kind = 'user' AND n.name = $6
        UNION ALL  -- an order that was written after its letter had been taken in
        SELECT n.letter_id
        FROM accounts a
        JOIN orders o ON o.account_id = a.account_id
        JOIN dead_letter_names n ON n.kind = 'order' AND n.name = o.serial_no
        WHERE a.kind = 'user' AND a.user_id = $6
        UNION ALL  -- the same order, whose command is a letter itself
        SELECT n.letter_id
        FROM dead_letter_names u
        JOIN dead_letters c ON c.letter_id = u.letter_id
        JOIN dead_letter_names n ON n.kind = 'order' AND n.name = c.serial_no
        WHERE u.kind = 'user' AND u.name = $6
    ))
    AND ($7::timestamptz IS NULL OR arrived_at >= $7)
    AND ($8::timestamptz IS NULL OR arrived_at < $8)
    AND ($9::bigint[] IS NULL OR letter_id = ANY ($9))
    AND ($10::bigint IS NULL OR letter_id <= $10)
    AND ($11::text IS NULL OR letter_id IN (
        SELECT n.letter_id FROM dead_letter_names n WHERE n.kind = 'gateway_ref' AND n.name = $11
        UNION ALL  -- what is about the order that was paid under this reference
        SELECT n.letter_id
        FROM payment_results r
        JOIN dead_letter_names n ON n.kind = 'order' AND n.name = r.payment_order_no
        WHERE r.gateway_ref = $11
    ))
    AND ($12::uuid IS NULL OR letter_id IN (
        SELECT n.letter_id
        FROM orders o
        JOIN dead_letter_names n ON n.kind = 'order' AND n.name = o.serial_no
        WHERE o.order_id = $12
    ))
"""

# The user that the message names; else, for what is about an order, the user whose order it is.
_LINE = """
    letter_id, state, reason, detail, source, message_type, serial_no,
    coalesce(user_id, (
        SELECT a.user_id
        FROM dead_letter_names n
        JOIN orders o ON o.serial_no = n.name
        JOIN accounts a ON a.account_id = o.account_id
        WHERE n.letter_id = dead_letters.letter_id AND n.kind = 'order'
        ORDER BY n.name = dead_letters.serial_no DESC
        LIMIT 1
    ), (
        SELECT min(n.name) FROM dead_letter_names n WHERE n.letter_id = dead_letters.letter_id AND n.kind = 'user'
    )) AS user_id,
    attempts, replays, first_seen, arrived_at, updated_at
"""

_LIST = f"""
SELECT {_LINE}
FROM dead_letters
WHERE ($13::bigint IS NULL OR letter_id < $13) AND {_FITS}
ORDER BY letter_id DESC
LIMIT $14
"""  # noqa: S608 -- static text


class RowFilter(NamedTuple):
    """Which letters. A field that is absent restricts nothing; `since` is inclusive, `until` is not.

    The fields are the first twelve parameters of each statement with `_FITS`, in their order.
    """

    states: Sequence[str] | None = None
    reason: str | None = None
    source: str | None = None
    message_type: str | None = None
    serial_no: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: Sequence[int] | None = None
    seen_up_to: int | None = None
    gateway_ref: str | None = None
    order_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A letter without its content. `user_id` is the user that it names, else the user of the order that it names."""

    letter_id: int
    state: str
    reason: str
    detail: str
    source: str
    message_type: str | None
    serial_no: str | None
    user_id: str | None
    attempts: int
    replays: int
    first_seen: datetime
    arrived_at: datetime
    updated_at: datetime


async def page(
    connection: asyncpg.Connection, fits: RowFilter, *, after: int | None, limit: int
) -> list[LetterRow]:
    """Return at most `limit` letters without their content, newest first, with an id below `after`."""
    return [LetterRow(**row) for row in await connection.fetch(_LIST, *fits, after, limit)]


_WHOLE = f"""
SELECT {_LINE}, exchange, routing_key, properties, body, worker, trace_id, edit_of, seal
FROM dead_letters
WHERE ($13::bigint IS NULL OR letter_id < $13) AND {_FITS}
ORDER BY letter_id DESC
LIMIT $14
"""  # noqa: S608 -- static text


@dataclass(frozen=True, slots=True)
class WholeLetterRow(LetterRow):
    """A letter with its content."""

    exchange: str | None
    """Where a replay is published; absent if unknown."""
    routing_key: str
    properties: bytes
    """The AMQP properties as bytes of the wire."""
    body: bytes
    worker: str | None
    trace_id: str | None
    edit_of: int | None
    """The letter that this message replaces."""
    seal: str
    """What the seal says about who set it aside."""

    @property
    def key(self) -> int:
        """The letter whose own message it is."""
        return self.letter_id


async def wholes(
    connection: asyncpg.Connection, fits: RowFilter, *, after: int | None, limit: int
) -> list[WholeLetterRow]:
    """Return at most `limit` letters with their content, newest first, with an id below `after`."""
    return [WholeLetterRow(**row) for row in await connection.fetch(_WHOLE, *fits, after, limit)]


class DuplicateLetter(NamedTuple):
    """A letter whose command has the same number as another letter's, or a number that an edit relates to it."""

    letter_id: int
    serial_no: str
    state: str


_DUPLICATES = """
SELECT letter_id, serial_no, state
FROM dead_letters
WHERE serial_no = ANY ($1::text[]) AND source = $2 AND letter_id <> $3
ORDER BY letter_id
"""


async def duplicates(
    connection: asyncpg.Connection, numbers: Iterable[str], source: str, letter_id: int
) -> list[DuplicateLetter]:
    """Return the letters from this queue that have one of these numbers, but for `letter_id`, ascending by id."""
    rows = await connection.fetch(_DUPLICATES, list(numbers), source, letter_id)
    return [DuplicateLetter(**row) for row in rows]


class LetterMessage(NamedTuple):
    """The message that a replay of a letter publishes. `body` is cut after one byte more than a message may have."""

    letter_id: int
    serial_no: str | None
    source: str
    exchange: str | None
    """Where a replay is published; absent if unknown."""
    properties: bytes
    """The AMQP properties as bytes of the wire."""
    body: bytes

    @property
    def key(self) -> int:
        """The letter whose own message it is."""
        return self.letter_id


# A body that no message can have is cut where that is certain: there may be megabytes of it, hundreds of times.
_REPLAYABLE = """
SELECT letter_id, serial_no, source, exchange, properties, substring(body FROM 1 FOR $2) AS body
FROM dead_letters
WHERE letter_id = ANY ($1::bigint[])
"""


async def replayable(connection: asyncpg.Connection, letter_ids: Sequence[int]) -> list[LetterMessage]:
    """Return the messages of these letters, in no particular order."""
    rows = await connection.fetch(_REPLAYABLE, letter_ids, BODY_BYTES_MAX + 1)
    return [LetterMessage(**row) for row in rows]


class LetterDigest(NamedTuple):
    """What a letter is to whoever approves a plan of it."""

    letter_id: int
    body_digest: bytes
    is_unsealed: bool


_DIGESTS = """
SELECT letter_id, body_digest, seal = 'unsealed' AS is_unsealed
FROM dead_letters
WHERE letter_id = ANY ($1::bigint[])
"""


async def digests(connection: asyncpg.Connection, letter_ids: Sequence[int]) -> dict[int, LetterDigest]:
    """Return the SHA-256 of the messages of letters, by id."""
    rows = [LetterDigest(**row) for row in await connection.fetch(_DIGESTS, letter_ids)]
    return {row.letter_id: row for row in rows}


_COUNT = f"SELECT count(*) FROM dead_letters WHERE {_FITS}"  # noqa: S608 -- static text


async def count(connection: asyncpg.Connection, fits: RowFilter) -> int:
    """Return how many letters fit."""
    return int(await connection.fetchval(_COUNT, *fits))


_IDS = f"""
SELECT letter_id, state, replays, seal = 'unsealed' AS is_unsealed
FROM dead_letters
WHERE {_FITS}
ORDER BY letter_id
LIMIT $13
"""  # noqa: S608 -- static text


async def statuses(connection: asyncpg.Connection, fits: RowFilter, limit: int) -> list[LetterStatus]:
    """Return the status of at most `limit` letters that fit, oldest first."""
    return [LetterStatus(**row) for row in await connection.fetch(_IDS, *fits, limit)]


class GroupRow(NamedTuple):
    """The letters of one reason and source. `buckets` and `counts` are parallel lists; empty buckets are left out."""

    reason: str
    source: str
    letters: int
    waiting: int
    first_seen: datetime
    last_seen: datetime
    seen_up_to: int
    """The highest letter_id in it."""
    buckets: list[int]
    """Numbers of time buckets, from 1."""
    counts: list[int]
    """Arrivals in these buckets."""


# One scan for the counts, and of the arrivals in the stretches only those that are in one.
_GROUPS = f"""
WITH fitting AS (
    SELECT reason, source, state, arrived_at, letter_id
    FROM dead_letters
    WHERE {_FITS}
),
counted AS (
    SELECT reason, source, count(*) AS letters, count(*) FILTER (WHERE state = 'waiting') AS waiting,
           min(arrived_at) AS first_seen, max(arrived_at) AS last_seen, max(letter_id) AS seen_up_to
    FROM fitting
    GROUP BY reason, source
),
drawn AS (
    SELECT reason, source, width_bucket(extract(epoch FROM arrived_at), extract(epoch FROM $13::timestamptz),
                                        extract(epoch FROM $14::timestamptz), $15::int) AS bucket,
           count(*) AS letters
    FROM fitting
    WHERE arrived_at >= $13 AND arrived_at < $14
    GROUP BY 1, 2, 3
)
SELECT c.reason, c.source, c.letters, c.waiting, c.first_seen, c.last_seen, c.seen_up_to,
       coalesce(d.buckets, '{{}}') AS buckets, coalesce(d.counts, '{{}}') AS counts
FROM counted c
LEFT JOIN (
    SELECT reason, source, array_agg(bucket) AS buckets, array_agg(letters) AS counts FROM drawn GROUP BY 1, 2
) d USING (reason, source)
ORDER BY c.waiting DESC, c.letters DESC, c.reason, c.source
"""  # noqa: S608 -- static text


async def groups(
    connection: asyncpg.Connection, fits: RowFilter, *, since: datetime, until: datetime, buckets: int
) -> list[GroupRow]:
    """Count letters by reason and source, the group with the most waiting first.

    Arrivals from `since` until before `until` are counted in `buckets` buckets of equal length.
    """
    rows = await connection.fetch(_GROUPS, *fits, since, until, buckets)
    return [GroupRow(**row) for row in rows]


class StateSummary(NamedTuple):
    """The letters in one state, and when the oldest and the newest of them arrived."""

    state: str
    letters: int
    oldest: datetime
    newest: datetime


_STATES = """
SELECT state, count(*) AS letters, min(arrived_at) AS oldest, max(arrived_at) AS newest
FROM dead_letters
GROUP BY state
"""


async def states(connection: asyncpg.Connection) -> list[StateSummary]:
    """Summarise the letters by state; a state without letters is left out."""
    return [StateSummary(**row) for row in await connection.fetch(_STATES)]


class StateCount(NamedTuple):
    """How many letters are in one state."""

    state: str
    letters: int


_STATES_OF = """
SELECT state, count(*) AS letters
FROM dead_letters
WHERE letter_id = ANY ($1::bigint[])
GROUP BY state
ORDER BY letters DESC, state
"""


async def states_of(connection: asyncpg.Connection, letter_ids: Sequence[int]) -> list[StateCount]:
    """Count these letters by state, most first."""
    return [StateCount(**row) for row in await connection.fetch(_STATES_OF, letter_ids)]


class AttemptRow(NamedTuple):
    """One time that a message became a dead letter."""

    reason: str
    detail: str
    worker: str | None
    attempts: int
    first_seen: datetime
    arrived_at: datetime
    times: int
    """Deliveries of this very dead letter to a keeper."""
    replay_id: UUID | None
    """The replay that came back."""


_ATTEMPTS = """
SELECT reason, detail, worker, attempts, first_seen, arrived_at, times, replay_id
FROM dead_letter_attempts
WHERE letter_id = $1
ORDER BY attempt_id
"""


async def attempts(connection: asyncpg.Connection, letter_id: int) -> list[AttemptRow]:
    """Return each time that a message became a dead letter, oldest first."""
    return [AttemptRow(**row) for row in await connection.fetch(_ATTEMPTS, letter_id)]


class GroupAge(NamedTuple):
    """How many letters of a reason and source wait, and whether the group is new."""

    reason: str
    source: str
    waiting: int
    since: datetime | None
    """The first arrival within the last window; absent if there was none."""
    is_old: bool
    """Whether letters arrived in the window before that one."""


# A group is new when it had none in the day before: what was there for long wakes nobody.
_FRESH = """
SELECT reason, source, count(*) FILTER (WHERE state = 'waiting') AS waiting,
       min(arrived_at) FILTER (WHERE arrived_at >= clock_timestamp() - $1::interval) AS since,
       bool_or(arrived_at < clock_timestamp() - $1::interval AND arrived_at >= clock_timestamp() - 2 * $1::interval)
           AS is_old
FROM dead_letters
GROUP BY reason, source
"""


async def group_ages(connection: asyncpg.Connection, window: timedelta) -> list[GroupAge]:
    """Return the age of each group, in windows of this length."""
    return [GroupAge(**row) for row in await connection.fetch(_FRESH, window)]
