"""The table `dead_letter_operations`: what was executed, and how it stands."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg


class OperationRow(NamedTuple):
    """One operation. `rate` is replays a second; `publish_at` is when it may publish again."""

    operation_id: UUID
    token: str
    action: str
    state: str
    actor: str
    approved_by: str | None
    reason: str
    filter: dict[str, str]
    """The filter of its plan, as names and texts."""
    canary: int
    rate: float
    stop_ratio: float
    total: int
    standing: str
    """Its status, a sentence."""
    publish_at: datetime
    started_at: datetime
    ended_at: datetime | None


_EXECUTE = "SELECT dead_letter_execute($1, $2, $3, $4, $5, $6)"


async def execute(
    connection: asyncpg.Connection,
    token: str,
    operation_id: UUID,
    *,
    actor: str,
    role: str,
    via: str,
    replay_ids: Sequence[UUID],
) -> int:
    """Execute a plan as an operation, with its entries in the audit log; return how many letters it has moved.

    The database takes what is done from the plan, whose row it locks, and refuses one that is executed, too old, or not
    approved. A replay has the id at the letter's place in the plan.
    """
    return int(await connection.fetchval(_EXECUTE, token, operation_id, actor, role, via, list(replay_ids)))


_CHANGE = "SELECT dead_letter_change_operation($1, $2, $3, $4, $5, $6, $7)"


async def change(
    connection: asyncpg.Connection,
    operation_id: UUID,
    verb: str,
    *,
    actor: str,
    role: str,
    via: str,
    reason: str,
    standing: str,
) -> bool:
    """Pause, resume or stop an operation for a person; return whether it was in a state for that.

    The audit log has its entry. The letters of what a stop has kept from being published wait again.
    """
    return bool(await connection.fetchval(_CHANGE, operation_id, verb, actor, role, via, reason, standing))


_COLUMNS = """
    operation_id, token, action, state, actor, approved_by, reason, filter, canary, rate, stop_ratio, total, standing,
    publish_at, started_at, ended_at
"""

_BY_ID = f"SELECT {_COLUMNS} FROM dead_letter_operations WHERE operation_id = $1"  # noqa: S608 -- static text
_LOCK = "SELECT dead_letter_lock_operation($1)"


async def by_id(connection: asyncpg.Connection, operation_id: UUID) -> OperationRow | None:
    """Return an operation; None if there is none with this id."""
    row = await connection.fetchrow(_BY_ID, operation_id)
    return None if row is None else _row(row)


async def lock(connection: asyncpg.Connection, operation_id: UUID) -> OperationRow | None:
    """Return an operation, its row locked until the transaction ends; None if there is none with this id."""
    await connection.execute(_LOCK, operation_id)
    return await by_id(connection, operation_id)


def _row(row: asyncpg.Record) -> OperationRow:
    return OperationRow(**{**row, "filter": json.loads(row["filter"])})


_NEWEST = f"SELECT {_COLUMNS} FROM dead_letter_operations ORDER BY started_at DESC, operation_id LIMIT $1"  # noqa: S608


async def newest(connection: asyncpg.Connection, limit: int) -> list[OperationRow]:
    """Return at most `limit` operations, newest first."""
    return [_row(row) for row in await connection.fetch(_NEWEST, limit)]


_SINGLE_PERSON = """
SELECT coalesce(sum(total), 0)
FROM dead_letter_operations
WHERE (actor = ANY ($1::text[]) OR lower(via) = ANY ($2::text[])) AND started_at > $3 AND approved_by IS NULL
  AND ($4::timestamptz IS NULL OR started_at < $4)
"""


async def single_person_actions(
    connection: asyncpg.Connection,
    names: Iterable[str],
    vias: Iterable[str],
    since: datetime,
    *,
    before: datetime | None = None,
) -> int:
    """Count the letters of operations that one person began after `since` and that nobody approved.

    Perhaps only of those that began before a time. The person is any of the names, or any of the logins: `vias`, in
    lower case.
    """
    return int(await connection.fetchval(_SINGLE_PERSON, list(names), list(vias), since, before))


_SINGLE_PERSON_REPLAYS = """
SELECT DISTINCT r.letter_id
FROM dead_letter_operations o
JOIN dead_letter_replays r USING (operation_id)
WHERE (o.actor = ANY ($1::text[]) OR lower(o.via) = ANY ($2::text[])) AND o.started_at > $3 AND o.approved_by IS NULL
  AND ($4::timestamptz IS NULL OR o.started_at < $4) AND o.action = 'replay'
"""


async def single_person_replays(
    connection: asyncpg.Connection,
    names: Iterable[str],
    vias: Iterable[str],
    since: datetime,
    *,
    before: datetime | None = None,
) -> list[int]:
    """Return the letters that one person has replayed, as `single_person_actions` counts them."""
    rows = await connection.fetch(_SINGLE_PERSON_REPLAYS, list(names), list(vias), since, before)
    return [row["letter_id"] for row in rows]


_CLAIM_ACTOR = "SELECT pg_advisory_xact_lock(hashtextextended('dead letters of ' || $1::text, 0))"


async def claim_actor(connection: asyncpg.Connection, names: Iterable[str]) -> None:
    """Lock these names until the transaction ends: nobody else who has one of them begins an operation."""
    for name in sorted(names):  # in one order: nobody waits for each other
        await connection.execute(_CLAIM_ACTOR, name)


# What keepers carry out. All that are not at their end, those that are paused too: their outcomes still come.
_OPEN = "SELECT operation_id FROM dead_letter_operations WHERE ended_at IS NULL ORDER BY started_at"


async def open_ids(connection: asyncpg.Connection) -> list[UUID]:
    """Return the operations that have not ended, oldest first."""
    return [row["operation_id"] for row in await connection.fetch(_OPEN)]


# One keeper at a time works at an operation. An advisory lock and no row lock: to pause it, nobody waits.
_CLAIM = "SELECT pg_try_advisory_xact_lock(hashtextextended($1::text, 0))"


async def claim(connection: asyncpg.Connection, operation_id: UUID) -> bool:
    """Return whether the caller, and no other keeper, works at an operation until its transaction ends."""
    return bool(await connection.fetchval(_CLAIM, str(operation_id)))


_SET = """
UPDATE dead_letter_operations
SET state = $3, standing = $4, ended_at = CASE WHEN $6 THEN $5::timestamptz ELSE ended_at END
WHERE operation_id = $1 AND state = $2
"""


async def move(
    connection: asyncpg.Connection,
    operation_id: UUID,
    *,
    before: str,
    after: str,
    standing: str,
    now: datetime,
    ended: bool = False,
) -> bool:
    """Put an operation from one state into another; return whether it was in that one."""
    status = await connection.execute(_SET, operation_id, before, after, standing, now, ended)
    return status == "UPDATE 1"


_STAND = """
UPDATE dead_letter_operations
SET standing = $2, publish_at = coalesce($3::timestamptz, publish_at)
WHERE operation_id = $1 AND state = 'running' AND (standing <> $2 OR $3::timestamptz IS NOT NULL)
"""


async def set_status_text(
    connection: asyncpg.Connection, operation_id: UUID, standing: str, publish_at: datetime | None = None
) -> None:
    """Store where a running operation stands, and when it may publish again."""
    await connection.execute(_STAND, operation_id, standing, publish_at)
