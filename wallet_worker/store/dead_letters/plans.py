"""The table `dead_letter_plans`: what would be done to exactly which letters, each executed at most once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from pydantic_core import to_json


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan. The letters, their verdicts and codes stand at the same places of their lists."""

    token: str
    action: str
    made_by: str
    role: str
    made_via: str
    life: timedelta
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


class PlanRow(NamedTuple):
    """One plan. Letter ids, verdicts and codes are parallel lists."""

    token: str
    action: str
    made_by: str
    made_via: str
    made_at: datetime
    expires_at: datetime
    reason: str
    filter: dict[str, str]
    """The filter of the letters, as names and texts."""
    canary: int
    rate: float
    """Replays a second."""
    stop_ratio: float
    letter_ids: list[int]
    verdicts: list[str]
    codes: list[str]
    skipped: int
    needs_two: bool
    edited_body: bytes | None
    """The new message of an edit."""
    differences: list[dict[str, str | None]]
    """Of an edit: `field`, `before` and `after` of each changed field."""
    approved_by: str | None
    operation_id: UUID | None
    """The operation that executed it."""
    is_requested: bool
    """Whether there is a signature of whoever made it; who executes verifies it."""


_COLUMNS = """
    token, action, made_by, made_via, made_at, expires_at, reason, filter, canary, rate, stop_ratio, letter_ids,
    verdicts, codes, skipped, needs_two, edited_body, differences, approved_by, operation_id,
    EXISTS (SELECT FROM dead_letter_signatures s WHERE s.token = dead_letter_plans.token AND s.purpose = 'request')
        AS is_requested
"""

_MAKE = """
SELECT dead_letter_make_plan($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""


async def make(connection: asyncpg.Connection, plan: NewPlan) -> PlanRow:
    """Write a plan, and who made it into the audit log; return its row.

    The database has an edit need two people whatever `needs_two` says.
    """
    await connection.execute(
        _MAKE,
        plan.token,
        plan.action,
        plan.made_by,
        plan.role,
        plan.made_via,
        plan.life,
        plan.reason,
        to_json(plan.filter).decode(),
        plan.canary,
        plan.rate,
        plan.stop_ratio,
        plan.letter_ids,
        plan.verdicts,
        plan.codes,
        plan.skipped,
        plan.needs_two,
        plan.edited_body,
        to_json(plan.differences).decode(),
    )
    row = await by_token(connection, plan.token)
    if row is None:
        msg = "a plan that was made is there"
        raise AssertionError(msg)
    return row


_BY_TOKEN = f"SELECT {_COLUMNS} FROM dead_letter_plans WHERE token = $1"  # noqa: S608 -- static text
_LOCK = "SELECT dead_letter_lock_plan($1)"


async def by_token(connection: asyncpg.Connection, token: str) -> PlanRow | None:
    """Return a plan; None if there is none with this token."""
    row = await connection.fetchrow(_BY_TOKEN, token)
    return None if row is None else _row(row)


async def lock(connection: asyncpg.Connection, token: str) -> PlanRow | None:
    """Return a plan, its row locked until the transaction ends; None if there is none with this token.

    A second execution of the same plan waits here.
    """
    await connection.execute(_LOCK, token)
    return await by_token(connection, token)


def _row(row: asyncpg.Record) -> PlanRow:
    parsed = {name: json.loads(row[name]) for name in ("filter", "differences")}
    return PlanRow(**{**row, **parsed})


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
) -> list[PlanRow]:
    """Return at most `limit` plans made after `since` that can still be executed, newest first."""
    return [_row(row) for row in await connection.fetch(_OPEN, since, now, awaiting_approval, limit)]
