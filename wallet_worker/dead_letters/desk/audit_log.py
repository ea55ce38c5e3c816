"""The audit log: who did what, when and why. An action and its entries are one transaction."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from wallet_worker.dead_letters.desk import views
from wallet_worker.dead_letters.desk.inputs import audit_query, storable_text, to_audit_row_filter
from wallet_worker.dead_letters.desk.refusals import ensure_operator, require_role
from wallet_worker.dead_letters.desk.session import Desk, whole_letter
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.audit_log import AuditPage, AuditRow
from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.filters import AuditFilter
from wallet_worker.settings.operators import Role
from wallet_worker.store.dead_letters import audit as audit_table
from wallet_worker.store.dead_letters.audit import AuditEntry, AuditRecord

_NOTE_MAX: Final = 4_000
_PAGE_MAX: Final = 500
_EXPORTED: Final = 500  # rows exported at once


def entry(
    actor: Actor,
    action: str,
    reason: str,
    *,
    letter_id: int | None = None,
    operation_id: UUID | None = None,
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Return an entry for an action of this actor."""
    return AuditEntry(
        storable_text(actor.name),
        role_of(actor),
        storable_text(actor.via),
        action,
        reason,
        letter_id,
        operation_id,
        detail or {},
    )


def role_of(actor: Actor) -> str:
    """Return the role under which an actor is logged."""
    return actor.role.name.lower() if actor.role_given else "no role given"


async def record(connection: asyncpg.Connection, entries: Sequence[AuditEntry]) -> list[AuditRecord]:
    """Write entries, in the transaction that does what they say; return their rows."""
    return await audit_table.insert(connection, entries)


async def note(desk: Desk, actor: Actor, letter_id: int, text: str) -> AuditRow:
    """Keep a note with a letter."""
    require_role(actor, Role.OPERATOR)
    text = storable_text(text)
    if not text or len(text) > _NOTE_MAX:
        msg = f"a note has 1 to {_NOTE_MAX:,} characters"
        raise NotPossibleError(msg)
    async with desk.database.transaction() as connection:
        await ensure_operator(connection, actor)
        await whole_letter(connection, letter_id)
        (row,) = await record(connection, [entry(actor, "note", text, letter_id=letter_id)])
    return views.audit_row(row, actor)


async def looked(desk: Desk, actor: Actor, what: str, about: Mapping[str, str | int]) -> None:
    """Write that the actor reads something about a person."""
    async with desk.database.transaction() as connection:
        await record(connection, [entry(actor, f"read {what}", "", detail=about)])


async def page(desk: Desk, actor: Actor, which: AuditFilter, *, after: int | None, limit: int) -> AuditPage:
    """Return audit rows, newest first."""
    limit = min(max(limit, 1), _PAGE_MAX)
    async with desk.snapshot() as connection:
        rows = await audit_table.newest(connection, to_audit_row_filter(which), after=after, limit=limit + 1)
    shown = tuple(views.audit_row(row, actor) for row in rows[:limit])
    return AuditPage(shown, shown[-1].audit_id if len(rows) > limit else None)


async def export(desk: Desk, actor: Actor, which: AuditFilter) -> AsyncIterator[AuditRow]:
    """Yield every audit row that fits, oldest first. The export has its own row before the first is yielded."""
    after: int | None = None
    async with desk.database.transaction() as connection:
        detail = {"filter": audit_query(which)}
        await record(connection, [entry(actor, "export audit", "", detail=detail)])
    while True:
        async with desk.snapshot() as connection:
            rows = await audit_table.oldest(
                connection, to_audit_row_filter(which), after=after, limit=_EXPORTED
            )
        for row in rows:
            yield views.audit_row(row, actor)
        if len(rows) < _EXPORTED:
            return
        after = rows[-1].audit_id
