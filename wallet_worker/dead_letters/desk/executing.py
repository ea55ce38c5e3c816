"""Executing plans: an operation is written in one transaction, and keepers carry it out."""

import os
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from wallet_worker.core.ids import uuid7
from wallet_worker.core.proofs import NotProvenError
from wallet_worker.dead_letters.desk import audit_log, views
from wallet_worker.dead_letters.desk.four_eyes import check_four_eyes
from wallet_worker.dead_letters.desk.inputs import normalise_token, storable_text, validate_reason
from wallet_worker.dead_letters.desk.plan_checks import lock_usable_plan, verify_unchanged
from wallet_worker.dead_letters.desk.refusals import (
    ensure_operator,
    explain_stale,
    no_operation,
    require_role,
)
from wallet_worker.dead_letters.desk.session import Desk, retry_on_conflict
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import (
    ApprovalNeededError,
    NotAllowedError,
    NotPossibleError,
    StaleError,
)
from wallet_worker.dead_letters.model.plans import Operation, ReplayPace
from wallet_worker.dead_letters.model.states import Action, OperationState
from wallet_worker.dead_letters.replay.authority import ensure_signed
from wallet_worker.settings.operators import Role
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import operations as operations_table
from wallet_worker.store.dead_letters import replays as replays_table
from wallet_worker.store.dead_letters.operations import OperationRow
from wallet_worker.store.dead_letters.plans import PlanRow


@retry_on_conflict
async def execute(desk: Desk, actor: Actor, token: str) -> Operation:
    """Check a plan again and carry it out as an operation, once."""
    require_role(actor, Role.OPERATOR)
    token = normalise_token(token)
    async with desk.database.transaction() as connection:
        await ensure_operator(connection, actor)
        plan = await lock_usable_plan(connection, token)
        if plan.needs_two and not plan.is_requested:
            msg = f"{plan.made_by} must sign the plan {token} first (`wallet dlq sign {token} --key FILE`)"
            raise ApprovalNeededError(msg)
        if plan.needs_two and plan.approved_by is None:
            msg = f"a second person must approve the plan {token} first (`wallet dlq approve {token} --key FILE`)"
            raise ApprovalNeededError(msg)
        action = Action(plan.action)
        now = await database_time(connection)
        if plan.needs_two:
            await _ensure_signed(desk, connection, plan)
        else:
            await check_four_eyes(desk, connection, actor, action, plan.letter_ids, now)
        if action in {Action.REPLAY, Action.EDIT}:
            await replays_table.claim(connection, edits=action is Action.EDIT)
        await verify_unchanged(desk, connection, plan, action)
        operation_id = uuid7(now, os.urandom(10))
        await apply_plan(connection, actor, plan, operation_id, now)
        row = await operations_table.by_id(connection, operation_id)
        if row is None:
            raise no_operation(operation_id)
        return await _view(connection, row, actor)


async def _ensure_signed(desk: Desk, connection: asyncpg.Connection, plan: PlanRow) -> None:
    """Raise NotAllowedError unless both signatures of a plan hold now; a keeper verifies them again."""
    letters = await letters_table.digests(connection, plan.letter_ids)
    try:
        await ensure_signed(connection, plan, letters, desk.environment)
    except NotProvenError as exc:
        msg = f"{exc}: nothing was done. Plan it again"
        raise NotAllowedError(msg) from exc


async def apply_plan(
    connection: asyncpg.Connection, actor: Actor, plan: PlanRow, operation_id: UUID, now: datetime
) -> None:
    """Put the letters of a plan into their next state, order its replays, and log it; raises StaleError."""
    ids = plan.letter_ids
    moved = await operations_table.execute(
        connection,
        plan.token,
        operation_id,
        actor=storable_text(actor.name),
        role=audit_log.role_of(actor),
        via=storable_text(actor.via),
        replay_ids=[uuid7(now, os.urandom(10)) for _ in ids],
    )
    if moved != len(ids):
        msg = f"{len(ids) - moved:,} letters have changed at this moment: plan again"
        raise StaleError(msg)
    if Action(plan.action) in {Action.REPLAY, Action.EDIT}:
        ordered = await replays_table.progress(connection, operation_id, plan.canary)
        if ordered.ordered != len(ids):
            raise StaleError(await explain_stale(connection, ids))


_DONE: Final = {"pause": "paused", "resume": "resumed", "stop": "stopped"}


async def pause(desk: Desk, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
    """Hold a running operation."""
    return await _change_state(desk, actor, operation_id, reason, "pause", (OperationState.RUNNING,))


async def resume(desk: Desk, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
    """Go on with a paused operation."""
    return await _change_state(desk, actor, operation_id, reason, "resume", (OperationState.PAUSED,))


async def stop(desk: Desk, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
    """End an operation: what is not published waits again."""
    before = (OperationState.RUNNING, OperationState.PAUSED)
    return await _change_state(desk, actor, operation_id, reason, "stop", before)


@retry_on_conflict
async def _change_state(
    desk: Desk,
    actor: Actor,
    operation_id: UUID,
    reason: str,
    verb: str,
    before: tuple[OperationState, ...],
) -> Operation:
    require_role(actor, Role.OPERATOR)
    reason = validate_reason(reason)
    async with desk.database.transaction() as connection:
        await ensure_operator(connection, actor)
        row = await operations_table.lock(connection, operation_id)
        if row is None:
            raise no_operation(operation_id)
        state = OperationState(row.state)
        if state not in before or row.ended_at is not None:
            msg = f"operation {operation_id} is {state}, and so there is nothing to {verb}"
            raise NotPossibleError(msg)
        await operations_table.change(
            connection,
            operation_id,
            verb,
            actor=storable_text(actor.name),
            role=audit_log.role_of(actor),
            via=storable_text(actor.via),
            reason=reason,
            standing=f"{_DONE[verb]} by {actor.name}: {reason}",
        )
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
