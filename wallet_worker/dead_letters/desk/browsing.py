"""Letters as operators look at them: lists, groups, one letter with everything about it, exports."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from wallet_worker.dead_letters import runbook
from wallet_worker.dead_letters.desk import audit_log, views
from wallet_worker.dead_letters.desk.inputs import to_row_filter
from wallet_worker.dead_letters.desk.ledger_view import situation_of, truth_of
from wallet_worker.dead_letters.desk.plan_checks import predictions_of
from wallet_worker.dead_letters.desk.planning import awaiting_approval
from wallet_worker.dead_letters.desk.refusals import require_role
from wallet_worker.dead_letters.desk.session import Desk, custom_plans, whole_letter
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.letters import (
    PAGE_LETTERS_MAX,
    Group,
    LetterContent,
    LetterDetail,
    Overview,
    Page,
)
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.settings.operators import Role
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import audit as audit_table
from wallet_worker.store.dead_letters import keepers as keepers_table
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import operations as operations_table
from wallet_worker.store.dead_letters import replays as replays_table

_EXPORTED: Final = 20  # letters exported at once: a body may be as large as the broker allows
_AUDIT_ROWS_MAX: Final = 1_000  # of one letter


async def letters(desk: Desk, actor: Actor, which: Filter, *, after: int | None, limit: int) -> Page:
    """Return letters, newest first."""
    limit = min(max(limit, 1), PAGE_LETTERS_MAX)
    async with desk.snapshot() as connection:
        rows = await letters_table.page(connection, to_row_filter(which), after=after, limit=limit + 1)
    shown = tuple(views.line(row, actor) for row in rows[:limit])
    return Page(shown, shown[-1].letter_id if len(rows) > limit else None)


async def count(desk: Desk, which: Filter) -> int:
    """Return how many letters fit."""
    async with desk.snapshot() as connection:
        return await letters_table.count(connection, to_row_filter(which))


async def groups(desk: Desk, which: Filter, *, span: timedelta, buckets: int) -> list[Group]:
    """Return the letters by reason and source, the group with the most waiting first."""
    async with desk.snapshot() as connection:
        until = await database_time(connection)
        rows = await letters_table.groups(
            connection, to_row_filter(which), since=until - span, until=until, buckets=buckets
        )
    return [views.group(row, buckets) for row in rows]


async def overview(desk: Desk) -> Overview:
    """Return depths, ages and what is in progress."""
    async with desk.snapshot() as connection:
        now = await database_time(connection)
        states = {LetterState(row.state): row for row in await letters_table.states(connection)}
        keeper = await keepers_table.newest(connection)
        running = len(await operations_table.open_ids(connection))
        awaiting = len(await awaiting_approval(desk, connection, now))
    waiting = states.get(LetterState.WAITING)
    return Overview(
        states={state: states[state].letters if state in states else 0 for state in LetterState},
        oldest_waiting=waiting.oldest if waiting else None,
        last_arrival=max((row.newest for row in states.values()), default=None),
        keeper_seen=keeper.seen_at if keeper else None,
        keeper_standing=keeper.standing if keeper else "no keeper was ever at work: start `wallet keeper`",
        depths=keeper.depths if keeper else {},
        running=running,
        awaiting_approval=awaiting,
    )


async def letter(desk: Desk, actor: Actor, letter_id: int) -> LetterDetail:
    """Return everything about one letter, from one snapshot."""
    async with desk.snapshot() as connection:
        row = await whole_letter(connection, letter_id)
        attempts = await letters_table.attempts(connection, letter_id)
        replays = await replays_table.of_letter(connection, letter_id)
        audit = await audit_table.oldest(
            connection, audit_table.AuditRowFilter(letter_id=letter_id), after=None, limit=_AUDIT_ROWS_MAX
        )
        truth = await truth_of(connection, row, actor)
        prediction = (await predictions_of(desk, connection, [letter_id]))[letter_id]
        same = 0
        if row.serial_no is not None:
            same_number = letters_table.RowFilter(serial_no=row.serial_no)
            same = await letters_table.count(connection, same_number) - 1
        situation = await situation_of(connection, row, truth, prediction, desk.limits.replays_max)
    return views.seen_by(
        actor,
        LetterDetail(
            whole=views.whole(row, actor),
            attempts=tuple(views.attempt(attempt) for attempt in attempts),
            replays=tuple(views.replay(replay) for replay in replays),
            truth=truth,
            prediction=prediction,
            runbook=runbook.line(situation),
            audit=tuple(views.audit_row(record, actor) for record in audit),
            same_number=same,
        ),
    )


async def export(desk: Desk, actor: Actor, which: Filter) -> AsyncIterator[LetterContent]:
    """Yield every letter that fits with its content, newest first. The audit log has the export before the first."""
    after: int | None = None
    async with desk.database.transaction() as connection:
        await custom_plans(connection)
        fitting = await letters_table.count(connection, to_row_filter(which))
        detail = {"filter": which.to_query(), "letters": fitting}
        await audit_log.record(connection, [audit_log.entry(actor, "export", "", detail=detail)])
    while True:
        async with desk.snapshot() as connection:
            rows = await letters_table.wholes(connection, to_row_filter(which), after=after, limit=_EXPORTED)
        for row in rows:
            yield views.whole(row, actor)
        if len(rows) < _EXPORTED:
            return
        after = rows[-1].letter_id


async def payload(desk: Desk, actor: Actor, letter_id: int) -> bytes:
    """Return a letter's payload, byte for byte; the audit log has the download."""
    require_role(actor, Role.OPERATOR)
    async with desk.database.transaction() as connection:
        row = await whole_letter(connection, letter_id)
        detail = {"bytes": len(row.body)}
        await audit_log.record(
            connection, [audit_log.entry(actor, "download", "", letter_id=letter_id, detail=detail)]
        )
    return row.body
