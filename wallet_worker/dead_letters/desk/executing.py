"""Executing plans: an operation is written in one transaction, and keepers carry it out."""

import os
from collections import Counter
from datetime import datetime
from uuid import UUID

import asyncpg

from wallet_worker.core.ids import uuid7
from wallet_worker.dead_letters.desk import audit_log, views
from wallet_worker.dead_letters.desk.edits import new_body, parse_edit
from wallet_worker.dead_letters.desk.four_eyes import check_four_eyes
from wallet_worker.dead_letters.desk.inputs import normalise_token, storable_text, validate_reason
from wallet_worker.dead_letters.desk.plan_checks import lock_usable_plan, verify_unchanged
from wallet_worker.dead_letters.desk.refusals import explain_stale, no_operation, require_role
from wallet_worker.dead_letters.desk.session import Desk, retry_on_conflict
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import ApprovalNeededError, NotPossibleError, StaleError
from wallet_worker.dead_letters.model.plans import Operation, ReplayPace
from wallet_worker.dead_letters.model.states import ACTS_ON, LEADS_TO, Action, OperationState
from wallet_worker.dead_letters.replay.transitions import cancel_unpublished
from wallet_worker.settings.operators import Role
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import operations as operations_table
from wallet_worker.store.dead_letters import plans as plans_table
from wallet_worker.store.dead_letters import replays as replays_table
from wallet_worker.store.dead_letters.operations import OperationRow
from wallet_worker.store.dead_letters.plans import PlanRow


@retry_on_conflict
async def execute(desk: Desk, actor: Actor, token: str) -> Operation:
    """Check a plan again and carry it out as an operation, once."""
    require_role(actor, Role.OPERATOR)
    token = normalise_token(token)
    async with desk.database.transaction() as connection:
        plan = await lock_usable_plan(connection, token)
        if plan.needs_two and plan.approved_by is None:
            msg = f"a second person must approve the plan {token} first (`wallet dlq approve {token}`)"
            raise ApprovalNeededError(msg)
        action = Action(plan.action)
        now = await database_time(connection)
        if not plan.needs_two:
            await check_four_eyes(desk, connection, actor, len(plan.letter_ids), now)
        if action in {Action.REPLAY, Action.EDIT}:
            await replays_table.claim(connection, edits=action is Action.EDIT)
        await verify_unchanged(desk, connection, plan, action)
        operation_id = uuid7(now, os.urandom(10))
        await _start_operation(connection, actor, plan, operation_id, now)
        await apply_plan(connection, plan, operation_id, now)
        row = await operations_table.by_id(connection, operation_id)
        if row is None:
            raise no_operation(operation_id)
        return await _view(connection, row, actor)


async def _start_operation(
    connection: asyncpg.Connection, actor: Actor, plan: PlanRow, operation_id: UUID, now: datetime
) -> None:
    """Write the operation, and in the audit log a row for the operation and a row for each letter."""
    action = Action(plan.action)
    at_once = action in {Action.DISCARD, Action.RESTORE}
    await operations_table.insert(
        connection,
        operations_table.NewOperation(
            operation_id=operation_id,
            token=plan.token,
            action=action.value,
            state=(OperationState.DONE if at_once else OperationState.RUNNING).value,
            actor=actor.name,
            via=storable_text(actor.via),
            approved_by=plan.approved_by,
            reason=plan.reason,
            filter=plan.filter,
            canary=plan.canary,
            rate=plan.rate,
            stop_ratio=plan.stop_ratio,
            total=len(plan.letter_ids),
            standing="done" if at_once else "written down; waiting for a keeper to publish it",
        ),
        now,
    )
    await plans_table.executed(connection, plan.token, operation_id)
    counts = Counter(zip(plan.verdicts, plan.codes, strict=True))
    detail = {
        "token": plan.token,
        "made_by": plan.made_by,
        "approved_by": plan.approved_by,
        "filter": plan.filter,
        "letters": len(plan.letter_ids),
        "predictions": [
            {"verdict": verdict, "code": code, "letters": count}
            for (verdict, code), count in counts.most_common()
        ],
    }
    operation_entry = audit_log.entry(
        actor, f"execute {action}", plan.reason, operation_id=operation_id, detail=detail
    )
    letter_entries = [
        audit_log.entry(
            actor,
            action.value,
            plan.reason,
            letter_id=letter_id,
            operation_id=operation_id,
            detail={"verdict": verdict, "code": code},
        )
        for letter_id, verdict, code in zip(plan.letter_ids, plan.verdicts, plan.codes, strict=True)
    ]
    await audit_log.record(connection, [operation_entry, *letter_entries], now)


async def apply_plan(
    connection: asyncpg.Connection, plan: PlanRow, operation_id: UUID, now: datetime
) -> None:
    """Put the letters of a plan into their next state, and order the replays; raises StaleError."""
    action, ids = Action(plan.action), plan.letter_ids
    if action is Action.RESTORE:
        await replays_table.give_up(connection, ids, f"given up: {plan.reason}", now)
    moved = await letters_table.move(
        connection,
        ids,
        before=[state.value for state in ACTS_ON[action]],
        after=LEADS_TO[action].value,
        now=now,
        replays=int(action in {Action.REPLAY, Action.EDIT}),
    )
    if moved != len(ids):
        msg = f"{len(ids) - moved:,} letters have changed at this moment: plan again"
        raise StaleError(msg)
    if action in {Action.DISCARD, Action.RESTORE}:
        return
    serial_no = parse_edit(new_body(plan)).serial_no if action is Action.EDIT else None
    replays = [
        replays_table.NewReplay(
            replay_id=uuid7(now, os.urandom(10)),
            letter_id=letter_id,
            position=position,
            verdict=verdict,
            verdict_code=code,
            body=plan.edited_body,
            serial_no=serial_no,
        )
        for position, (letter_id, verdict, code) in enumerate(
            zip(ids, plan.verdicts, plan.codes, strict=True)
        )
    ]
    if await replays_table.insert(connection, operation_id, replays, now) != len(replays):
        raise StaleError(await explain_stale(connection, ids))


async def pause(desk: Desk, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
    """Hold a running operation."""
    return await _change_state(
        desk, actor, operation_id, reason, "pause", (OperationState.RUNNING,), OperationState.PAUSED
    )


async def resume(desk: Desk, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
    """Go on with a paused operation."""
    return await _change_state(
        desk, actor, operation_id, reason, "resume", (OperationState.PAUSED,), OperationState.RUNNING
    )


async def stop(desk: Desk, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
    """End an operation: what is not published waits again."""
    before = (OperationState.RUNNING, OperationState.PAUSED)
    return await _change_state(desk, actor, operation_id, reason, "stop", before, OperationState.STOPPED)


@retry_on_conflict
async def _change_state(
    desk: Desk,
    actor: Actor,
    operation_id: UUID,
    reason: str,
    verb: str,
    before: tuple[OperationState, ...],
    after: OperationState,
) -> Operation:
    require_role(actor, Role.OPERATOR)
    reason = validate_reason(reason)
    async with desk.database.transaction() as connection:
        row = await operations_table.lock(connection, operation_id)
        if row is None:
            raise no_operation(operation_id)
        state = OperationState(row.state)
        if state not in before or row.ended_at is not None:
            msg = f"operation {operation_id} is {state}, and so there is nothing to {verb}"
            raise NotPossibleError(msg)
        now = await database_time(connection)
        done = {OperationState.PAUSED: "paused", OperationState.STOPPED: "stopped"}.get(after, "resumed")
        status_text = f"{done} by {actor.name}: {reason}"
        await operations_table.move(
            connection, operation_id, before=state.value, after=after.value, standing=status_text, now=now
        )
        await audit_log.record(
            connection, [audit_log.entry(actor, verb, reason, operation_id=operation_id)], now
        )
        if after is OperationState.STOPPED:
            await cancel_unpublished(connection, operation_id, status_text, now)
        row = await operations_table.by_id(connection, operation_id)
        if row is None:
            raise no_operation(operation_id)
        return await _view(connection, row, actor)


async def operation(desk: Desk, actor: Actor, operation_id: UUID) -> Operation:
    """Return the progress of an operation."""
    async with desk.snapshot() as connection:
        row = await operations_table.by_id(connection, operation_id)
        if row is None:
            raise no_operation(operation_id)
        return await _view(connection, row, actor)


async def operations(desk: Desk, actor: Actor, *, limit: int) -> list[Operation]:
    """Return the operations, newest first."""
    async with desk.snapshot() as connection:
        rows = await operations_table.newest(connection, limit)
        return [await _view(connection, row, actor) for row in rows]


async def _view(connection: asyncpg.Connection, row: OperationRow, actor: Actor) -> Operation:
    action = Action(row.action)
    counts = await replays_table.progress(connection, row.operation_id, row.canary)
    at_once = action in {Action.DISCARD, Action.RESTORE}
    return Operation(
        operation_id=row.operation_id,
        action=action,
        state=OperationState(row.state),
        actor=row.actor,
        approved_by=row.approved_by,
        reason=row.reason,
        filter=views.filter_of(row.filter, actor),
        pace=ReplayPace(row.canary, row.rate, row.stop_ratio),
        total=row.total,
        ordered=counts.ordered,
        published=counts.published,
        resolved=row.total if at_once else counts.resolved,
        failed=counts.failed,
        cancelled=counts.cancelled,
        standing=row.standing,
        started_at=row.started_at,
        ended_at=row.ended_at,
        refused=counts.bad - counts.failed,
    )
