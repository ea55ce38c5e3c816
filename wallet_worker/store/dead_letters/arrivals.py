"""What the keeper writes of dead letters as it takes them in: new letters, their names, and each attempt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

import asyncpg


@dataclass(frozen=True, slots=True)
class Arrival:
    """A dead letter as it came from its queue, read as far as it could be.

    `key` is what makes two deliveries the same. `replay_id` is the replay that it says it comes from, which anybody
    may write. `redelivered` says that the broker may have handed it out before.
    """

    key: bytes
    reason: str
    detail: str
    source: str
    exchange: str | None
    routing_key: str
    properties: bytes
    body: bytes
    body_digest: bytes
    message_type: str | None
    serial_no: str | None
    user_id: str | None
    trace_id: str | None
    worker: str | None
    attempts: int
    first_seen: datetime
    replay_id: UUID | None
    redelivered: bool
    users: frozenset[str] = frozenset()
    """Every user that the message names."""
    orders: frozenset[str] = frozenset()
    """Every serial number and payment_order_no that it names."""
    gateway_refs: frozenset[str] = frozenset()
    seal: str = "unchecked"
    """What the seal says about who set it aside: sealed, unsealed, unchecked, not by a worker."""


_KNOWN = "SELECT arrival_key, letter_id FROM dead_letter_attempts WHERE arrival_key = ANY ($1::bytea[])"


async def ids_of_keys(connection: asyncpg.Connection, keys: Iterable[bytes]) -> dict[bytes, int]:
    """Return the letters of those deliveries that were taken in before."""
    return {row["arrival_key"]: row["letter_id"] for row in await connection.fetch(_KNOWN, list(keys))}


# The columns that an arrival brings, with their types.
_ARRIVAL_COLUMNS: Final = MappingProxyType(
    {
        "reason": "text",
        "detail": "text",
        "source": "text",
        "exchange": "text",
        "routing_key": "text",
        "properties": "bytea",
        "body": "bytea",
        "body_digest": "bytea",
        "message_type": "text",
        "serial_no": "text",
        "user_id": "text",
        "trace_id": "text",
        "worker": "text",
        "attempts": "int",
        "first_seen": "timestamptz",
        "seal": "text",
    }
)
_NAMES: Final = ", ".join(_ARRIVAL_COLUMNS)
_ARRAYS: Final = ", ".join(
    f"${number}::{type_name}[]" for number, type_name in enumerate(_ARRIVAL_COLUMNS.values(), start=4)
)

# All at once, numbered first, so that each attempt knows its letter: a letter a round trip would be too slow for a
# hundred thousand.
_INSERT_NEW = f"""
INSERT INTO dead_letters (letter_id, edit_of, arrived_at, updated_at, {_NAMES})
SELECT n.letter_id, n.edit_of, $3::timestamptz, $3::timestamptz, {", ".join(f"n.{name}" for name in _ARRIVAL_COLUMNS)}
FROM unnest($1::bigint[], $2::bigint[], {_ARRAYS})
     AS n (letter_id, edit_of, {_NAMES})
"""  # noqa: S608 -- names and types of our own


async def insert_all(
    connection: asyncpg.Connection, letters: Sequence[tuple[int, Arrival, int | None]], now: datetime
) -> None:
    """Write new letters under reserved ids, each with the letter in whose place it was sent, if any."""
    await connection.execute(
        _INSERT_NEW,
        [letter_id for letter_id, _, _ in letters],
        [edit_of for _, _, edit_of in letters],
        now,
        *([getattr(arrival, name) for _, arrival, _ in letters] for name in _ARRIVAL_COLUMNS),
    )


_NOTE_NAMES = """
INSERT INTO dead_letter_names (letter_id, kind, name)
SELECT n.letter_id, n.kind, n.name
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n (letter_id, kind, name)
ON CONFLICT DO NOTHING
"""

# Whose order, or whose command, it is. A command that was refused has no order, and its content names the user.
_NOTE_OWNERS = """
INSERT INTO dead_letter_names (letter_id, kind, name)
SELECT n.letter_id, 'user', a.user_id
FROM unnest($1::bigint[], $2::text[]) AS n (letter_id, name)
JOIN orders o ON o.serial_no = n.name
JOIN accounts a ON a.account_id IN (o.account_id, o.counter_account_id)
UNION
SELECT n.letter_id, 'user', c.content::json ->> 'user_id'
FROM unnest($1::bigint[], $2::text[]) AS n (letter_id, name)
JOIN commands c ON c.serial_no = n.name
WHERE c.content::json ->> 'user_id' IS NOT NULL
ON CONFLICT DO NOTHING
"""


async def note_names(connection: asyncpg.Connection, letters: Iterable[tuple[int, Arrival]]) -> None:
    """Write what new letters name, and whose the orders are that they name, so that they are found by it."""
    arrivals = list(letters)
    names = [
        (letter_id, kind, name)
        for letter_id, arrival in arrivals
        for kind, named in (
            ("user", arrival.users),
            ("order", arrival.orders),
            ("gateway_ref", arrival.gateway_refs),
        )
        for name in sorted(named)
    ]
    if not names:
        return
    await connection.execute(_NOTE_NAMES, *map(list, zip(*names, strict=True)))
    orders = [(letter_id, name) for letter_id, kind, name in names if kind == "order"]
    if orders:
        await connection.execute(_NOTE_OWNERS, *map(list, zip(*orders, strict=True)))


# Ids come from a sequence, and a sequence knows no transaction: a higher one would be seen before a lower one.
_CLAIM_IDS = "SELECT pg_advisory_xact_lock(hashtextextended('dead letters: ids', 0))"


async def claim_ids(connection: asyncpg.Connection) -> None:
    """Lock the reservation of ids until the transaction ends, so that letters are seen in the order of their ids.

    Before any letter is locked: nobody waits for each other.
    """
    await connection.execute(_CLAIM_IDS)


_RESERVE_IDS = """
SELECT nextval('dead_letters_letter_id_seq') FROM generate_series(1, $1::int)
"""


async def reserve_ids(connection: asyncpg.Connection, count: int) -> list[int]:
    """Return ids that no letter has, above all that there are, ascending; the caller has claimed them.

    Those that stay unused leave gaps.
    """
    return sorted(row[0] for row in await connection.fetch(_RESERVE_IDS, count))


_NOTE_ATTEMPTS = """
INSERT INTO dead_letter_attempts (letter_id, arrival_key, replay_id, reason, detail, worker, attempts, first_seen,
                                  arrived_at)
SELECT n.letter_id, n.arrival_key, n.replay_id, n.reason, n.detail, n.worker, n.attempts, n.first_seen, $9::timestamptz
FROM unnest($1::bigint[], $2::bytea[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::int[],
            $8::timestamptz[])
     AS n (letter_id, arrival_key, replay_id, reason, detail, worker, attempts, first_seen)
ON CONFLICT ON CONSTRAINT dead_letter_attempts_arrival_key DO NOTHING
RETURNING arrival_key
"""


async def note_attempts(
    connection: asyncpg.Connection, attempts: Sequence[tuple[int, Arrival, UUID | None]], now: datetime
) -> set[bytes]:
    """Write that these letters arrived; return the keys of those that nobody had written before."""
    rows = await connection.fetch(
        _NOTE_ATTEMPTS,
        [letter_id for letter_id, _, _ in attempts],
        [attempt.key for _, attempt, _ in attempts],
        [replay_id for _, _, replay_id in attempts],
        [attempt.reason for _, attempt, _ in attempts],
        [attempt.detail for _, attempt, _ in attempts],
        [attempt.worker for _, attempt, _ in attempts],
        [attempt.attempts for _, attempt, _ in attempts],
        [attempt.first_seen for _, attempt, _ in attempts],
        now,
    )
    return {row["arrival_key"] for row in rows}


_COUNT_AGAIN = """
UPDATE dead_letter_attempts a
SET times = a.times + n.times
FROM (SELECT key, count(*)::int AS times FROM unnest($1::bytea[]) AS k (key) GROUP BY key) n
WHERE a.arrival_key = n.key
"""


async def count_again(connection: asyncpg.Connection, keys: Sequence[bytes]) -> None:
    """Count deliveries of letters that were taken in before."""
    await connection.execute(_COUNT_AGAIN, keys)


# What was closed is looked at again when somebody sends it again; a delivery of the broker's own repeat is no such.


_REOPEN = """
UPDATE dead_letters
SET state = 'waiting', updated_at = $2
WHERE letter_id = ANY ($1::bigint[]) AND state IN ('resolved', 'discarded')
RETURNING letter_id
"""


async def reopen(connection: asyncpg.Connection, letter_ids: Iterable[int], now: datetime) -> list[int]:
    """Set closed letters that were sent once more to waiting; return which were closed."""
    return [row["letter_id"] for row in await connection.fetch(_REOPEN, sorted(letter_ids), now)]


# A letter that is being replayed again goes on with that; so does one in whose place a new message was sent.
_RETURN = """
UPDATE dead_letters l
SET state = 'waiting', reason = n.reason, detail = n.detail, worker = n.worker, attempts = n.attempts,
    updated_at = $6
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::int[])
     AS n (letter_id, reason, detail, worker, attempts)
WHERE l.letter_id = n.letter_id AND l.state <> 'edited'
  AND NOT EXISTS (
      SELECT FROM dead_letter_replays r WHERE r.letter_id = l.letter_id AND r.state IN ('ordered', 'published')
  )
"""


async def came_back(
    connection: asyncpg.Connection, letters: Sequence[tuple[int, Arrival]], now: datetime
) -> None:
    """Set letters of which a replay came back to waiting, for its reason, unless another replay is outstanding."""
    await connection.execute(
        _RETURN,
        [letter_id for letter_id, _ in letters],
        [letter.reason for _, letter in letters],
        [letter.detail for _, letter in letters],
        [letter.worker for _, letter in letters],
        [letter.attempts for _, letter in letters],
        now,
    )
