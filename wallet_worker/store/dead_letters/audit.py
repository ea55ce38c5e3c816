"""The table `dead_letter_audit`: who did what, when and why. Rows are written and read, and never changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from pydantic_core import to_json


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did, for one letter, one operation, or neither."""

    actor: str
    role: str
    via: str
    action: str
    reason: str
    letter_id: int | None = None
    operation_id: UUID | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


class AuditRecord(NamedTuple):
    """One row of the audit log."""

    audit_id: int
    at: datetime
    actor: str
    role: str
    via: str
    action: str
    reason: str
    letter_id: int | None
    operation_id: UUID | None
    detail: dict[str, Any]
    """What the action adds, such as the filter and the number of letters; JSON."""


_COLUMNS = "audit_id, at, actor, role, via, action, reason, letter_id, operation_id, detail"

_LOG = f"SELECT {_COLUMNS} FROM dead_letter_log($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608 -- static text


async def insert(connection: asyncpg.Connection, entries: Sequence[AuditEntry]) -> list[AuditRecord]:
    """Write what operators have noted and read; return the rows.

    The database writes what they do to letters with the deed itself, and refuses an entry here that says so.
    """
    rows = await connection.fetch(
        _LOG,
        [entry.actor for entry in entries],
        [entry.role for entry in entries],
        [entry.via for entry in entries],
        [entry.action for entry in entries],
        [entry.reason for entry in entries],
        [entry.letter_id for entry in entries],
        [entry.operation_id for entry in entries],
        [to_json(entry.detail).decode() for entry in entries],
    )
    return [_record(row) for row in rows]


_KEEPER_LOG = "SELECT FROM dead_letter_keeper_log($1, $2, $3, $4, $5)"


class KeeperEntry(NamedTuple):
    """Something that a keeper did."""

    action: str
    reason: str
    letter_id: int | None = None
    operation_id: UUID | None = None


async def insert_of_keeper(
    connection: asyncpg.Connection, entries: Sequence[KeeperEntry], now: datetime
) -> None:
    """Write entries of a keeper in the transaction that does what they say."""
    await connection.execute(
        _KEEPER_LOG,
        [entry.action for entry in entries],
        [entry.reason for entry in entries],
        [entry.letter_id for entry in entries],
        [entry.operation_id for entry in entries],
        now,
    )


def _record(row: asyncpg.Record) -> AuditRecord:
    return AuditRecord(**{**row, "detail": json.loads(row["detail"])})


_PAGE = f"""
SELECT {_COLUMNS}
FROM dead_letter_audit
WHERE ($1::text IS NULL OR actor = $1)
  AND ($2::text IS NULL OR action = $2)
  AND ($3::bigint IS NULL OR letter_id = $3)
  AND ($4::uuid IS NULL OR operation_id = $4)
  AND ($5::timestamptz IS NULL OR at >= $5)
  AND ($6::timestamptz IS NULL OR at < $6)
"""  # noqa: S608 -- static text
_NEWEST = f"{_PAGE} AND ($7::bigint IS NULL OR audit_id < $7) ORDER BY audit_id DESC LIMIT $8"
_OLDEST = f"{_PAGE} AND ($7::bigint IS NULL OR audit_id > $7) ORDER BY audit_id LIMIT $8"


@dataclass(frozen=True, slots=True)
class AuditRowFilter:
    """Which rows of the audit log. A field that is absent restricts nothing; `since` is inclusive, `until` is not."""

    actor: str | None = None
    action: str | None = None
    letter_id: int | None = None
    operation_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The statement's first six parameters."""
        return (self.actor, self.action, self.letter_id, self.operation_id, self.since, self.until)


async def newest(
    connection: asyncpg.Connection, fits: AuditRowFilter, *, after: int | None, limit: int
) -> list[AuditRecord]:
    """Return at most `limit` rows, newest first, with an audit_id below `after`."""
    return [_record(row) for row in await connection.fetch(_NEWEST, *fits.arguments, after, limit)]


async def oldest(
    connection: asyncpg.Connection, fits: AuditRowFilter, *, after: int | None, limit: int
) -> list[AuditRecord]:
    """Return at most `limit` rows, oldest first, with an audit_id above `after`."""
    return [_record(row) for row in await connection.fetch(_OLDEST, *fits.arguments, after, limit)]
