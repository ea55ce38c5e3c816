"""The table `dead_letter_operations`: what was executed, and how it stands."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from pydantic_core import to_json


@dataclass(frozen=True, slots=True)
class NewOperation:
    """An operation that is beginning. `filter` is what the operator asked for, for people; `via` is how he asked."""

    operation_id: UUID
    token: str
    action: str
    state: str
    actor: str
    via: str
    approved_by: str | None
    reason: str
    filter: Mapping[str, Any]
    canary: int
    rate: float
    stop_ratio: float
    total: int
    standing: str


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


_INSERT = """
INSERT INTO dead_letter_operations (operation_id, token, action, state, actor, via, approved_by, reason, filter,
                                    canary, rate, stop_ratio, total, standing, publish_at, started_at, ended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15,
        CASE WHEN $4 = 'done' THEN $15::timestamptz END)
"""


async def insert(connection: asyncpg.Connection, operation: NewOperation, now: datetime) -> None:
    """Write an operation; one that is done at once has ended with it."""
    await connection.execute(
        _INSERT,
        operation.operation_id,
        operation.token,
        operation.action,
        operation.state,
        operation.actor,
        operation.via,
        operation.approved_by,
        operation.reason,
        to_json(operation.filter).decode(),
        operation.canary,
        operation.rate,
        operation.stop_ratio,
        operation.total,
        operation.standing,
        now,
    )


_COLUMNS = """
    operation_id, token, action, state, actor, approved_by, reason, filter, canary, rate, stop_ratio, total, standing,
    publish_at, started_at, ended_at
"""

_BY_ID = f"SELECT {_COLUMNS} FROM dead_letter_operations WHERE operation_id = $1"  # noqa: S608 -- static text
_LOCK = f"{_BY_ID} FOR NO KEY UPDATE"


async def by_id(connection: asyncpg.Connection, operation_id: UUID) -> OperationRow | None:
    """Return an operation; None if there is none with this id."""
    row = await connection.fetchrow(_BY_ID, operation_id)
    return None if row is None else _row(row)


async def lock(connection: asyncpg.Connection, operation_id: UUID) -> OperationRow | None:
    """Return an operation, its row locked until the transaction ends; None if there is none with this id."""
    row = await connection.fetchrow(_LOCK, operation_id)
    return None if row is None else _row(row)


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
"""


async def single_person_actions(
    connection: asyncpg.Connection, names: Iterable[str], vias: Iterable[str], since: datetime
) -> int:
    """Count the letters of operations that one person began after `since` and that nobody approved.

    The person is any of the names, or any of the logins: `vias`, in lower case.
    """
    return int(await connection.fetchval(_SINGLE_PERSON, list(names), list(vias), since))


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
