"""The table `dead_letter_plans`: what would be done to exactly which letters, each executed at most once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from pydantic_core import to_json


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan. The letters, their verdicts and codes stand at the same places of their lists."""

    token: str
    action: str
    made_by: str
    made_via: str
    made_at: datetime
    expires_at: datetime
    reason: str
    filter: Mapping[str, Any]
    canary: int
    rate: float
    stop_ratio: float
    letter_ids: Sequence[int]
    verdicts: Sequence[str]
    codes: Sequence[str]
    skipped: int
    needs_two: bool
    edited_body: bytes | None
    differences: Sequence[Mapping[str, Any]]


_INSERT = """
INSERT INTO dead_letter_plans (token, action, made_by, made_via, made_at, expires_at, reason, filter, canary, rate,
                               stop_ratio, letter_ids, verdicts, codes, skipped, needs_two, edited_body, differences)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""


async def insert(connection: asyncpg.Connection, one: NewPlan) -> None:
    """Keep a plan."""
    await connection.execute(
        _INSERT,
        one.token,
        one.action,
        one.made_by,
        one.made_via,
        one.made_at,
        one.expires_at,
        one.reason,
        to_json(one.filter).decode(),
        one.canary,
        one.rate,
        one.stop_ratio,
        one.letter_ids,
        one.verdicts,
        one.codes,
        one.skipped,
        one.needs_two,
        one.edited_body,
        to_json(one.differences).decode(),
    )


_COLUMNS = """
    token, action, made_by, made_via, made_at, expires_at, reason, filter, canary, rate, stop_ratio, letter_ids,
    verdicts, codes, skipped, needs_two, edited_body, differences, approved_by, operation_id
"""

_BY_TOKEN = f"SELECT {_COLUMNS} FROM dead_letter_plans WHERE token = $1"  # noqa: S608 -- static text
_LOCK = f"{_BY_TOKEN} FOR NO KEY UPDATE"


async def by_token(connection: asyncpg.Connection, token: str) -> asyncpg.Record | None:
    """Return a plan, or nothing."""
    return await connection.fetchrow(_BY_TOKEN, token)


async def lock(connection: asyncpg.Connection, token: str) -> asyncpg.Record | None:
    """Return a plan, locked, or nothing: whoever executes the same waits here."""
    return await connection.fetchrow(_LOCK, token)


_OPEN = f"""
SELECT {_COLUMNS}
FROM dead_letter_plans
WHERE made_at > $1 AND expires_at > $2 AND operation_id IS NULL
  AND (NOT $3 OR (needs_two AND approved_by IS NULL))
ORDER BY made_at DESC, token
LIMIT $4
"""  # noqa: S608 -- static text


async def open_plans(
    connection: asyncpg.Connection, *, since: datetime, now: datetime, awaiting_approval: bool, limit: int
) -> list[asyncpg.Record]:
    """Return plans made after `since` that can still be executed, newest first."""
    return await connection.fetch(_OPEN, since, now, awaiting_approval, limit)


_APPROVE = """
UPDATE dead_letter_plans
SET approved_by = $2
WHERE token = $1 AND approved_by IS NULL AND operation_id IS NULL
"""


async def approve(connection: asyncpg.Connection, token: str, approver: str) -> bool:
    """Note a second person's yes; return False if there was one already, or it was executed."""
    return await connection.execute(_APPROVE, token, approver) == "UPDATE 1"


_EXECUTED = "UPDATE dead_letter_plans SET operation_id = $2 WHERE token = $1 AND operation_id IS NULL"


async def executed(connection: asyncpg.Connection, token: str, operation_id: UUID) -> bool:
    """Note what executed a plan; return False if something had before."""
    return await connection.execute(_EXECUTED, token, operation_id) == "UPDATE 1"
