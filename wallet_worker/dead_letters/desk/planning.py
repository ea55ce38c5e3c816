"""Plans: what an action would do to exactly which letters, before anything is done."""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from wallet_worker.broker.amqp.seal import Seal
from wallet_worker.dead_letters.desk import audit_log, signing, views
from wallet_worker.dead_letters.desk.edits import differences, ensure_editable, parse_edit, predict_edit
from wallet_worker.dead_letters.desk.four_eyes import needs_second_person
from wallet_worker.dead_letters.desk.inputs import (
    normalise_token,
    storable_text,
    to_row_filter,
    validate_pace,
    validate_reason,
)
from wallet_worker.dead_letters.desk.plan_checks import (
    eligible,
    predictions_of,
)
from wallet_worker.dead_letters.desk.refusals import ensure_operator, explain_empty, no_plan, require_role
from wallet_worker.dead_letters.desk.session import Desk, custom_plans, retry_on_conflict, whole_letter
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Difference, Plan, PlannedLetter, ReplayPace
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.signing import Signature
from wallet_worker.dead_letters.model.states import Action, LetterState, PlanState
from wallet_worker.settings.operators import Role
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import plans as plans_table
from wallet_worker.store.dead_letters.plans import PlanRow

PLANS_MAX: Final = 100
_SAMPLES: Final = 5  # of each prediction


@retry_on_conflict
async def plan(
    desk: Desk, actor: Actor, action: Action, which: Filter, *, reason: str, pace: ReplayPace | None
) -> Plan:
    """Plan a replay, discard or restore of the letters that fit now."""
    require_role(actor, Role.OPERATOR)
    if action is Action.EDIT:
        msg = "an edit is planned with the new message, for one letter"
        raise NotPossibleError(msg)
    reason, pace = validate_reason(reason), validate_pace(pace or ReplayPace())
    async with desk.database.transaction() as connection:
        await custom_plans(connection)
        await ensure_operator(connection, actor)
        fitting = await letters_table.statuses(connection, to_row_filter(which), desk.limits.plan_max + 1)
        if len(fitting) > desk.limits.plan_max:
            msg = f"more than {desk.limits.plan_max:,} letters fit: narrow the filter"
            raise NotPossibleError(msg)
        ids = await eligible(desk, connection, action, fitting)
        unsealed = {letter.letter_id for letter in fitting if letter.is_unsealed}
        if action is Action.REPLAY and len(ids) > 1:
            sealed = [letter_id for letter_id in ids if letter_id not in unsealed]
            if not sealed:
                raise NotPossibleError(_ALL_UNSEALED)
            ids = sealed
        predictions = await predictions_of(desk, connection, ids)
        not_replayable = {
            letter_id: prediction
            for letter_id, prediction in predictions.items()
            if prediction.verdict is PredictedOutcome.NOT_REPLAYABLE
        }
        if action is Action.REPLAY:
            predictions = {
                letter_id: prediction
                for letter_id, prediction in predictions.items()
                if letter_id not in not_replayable
            }
        if not predictions:
            sentence = await explain_empty(connection, action, which, fitting, list(not_replayable.values()))
            raise NotPossibleError(sentence)
        skipped = len(fitting) - len(predictions)
        return await _store(
            desk,
            connection,
            actor,
            action,
            which,
            reason,
            pace,
            predictions,
            has_unsealed=not unsealed.isdisjoint(predictions),
            skipped=skipped,
        )


_ALL_UNSEALED: Final = (
    "nothing proves who set these letters aside, so each is replayed by itself, and by two people: "
    "look at one, and plan its replay"
)


@retry_on_conflict
async def plan_edit(desk: Desk, actor: Actor, letter_id: int, body: bytes, *, reason: str) -> Plan:
    """Plan to send `body` in the place of a letter."""
    require_role(actor, Role.OPERATOR)
    reason = validate_reason(reason)
    message = parse_edit(body)
    async with desk.database.transaction() as connection:
        await ensure_operator(connection, actor)
        letter = await whole_letter(connection, letter_id)
        await ensure_editable(desk, connection, letter, message)
        prediction = await predict_edit(desk, connection, letter, body)
        if prediction.verdict is PredictedOutcome.NOT_REPLAYABLE:
            msg = f"letter {letter_id} cannot be edited: {prediction.detail}"
            raise NotPossibleError(msg)
        return await _store(
            desk,
            connection,
            actor,
            Action.EDIT,
            Filter(ids=(letter_id,)),
            reason,
            ReplayPace(),
            {letter_id: prediction},
            has_unsealed=letter.seal == Seal.UNSEALED,
            edited_body=body,
            changes=differences(letter.body, message),
        )


async def plan_of(desk: Desk, actor: Actor, token: str) -> Plan:
    """Return a plan by its token."""
    async with desk.snapshot() as connection:
        row = await plans_table.by_token(connection, normalise_token(token))
        if row is None:
            raise no_plan(token)
        return await _view(connection, row, actor)


async def plans(desk: Desk, actor: Actor, *, awaiting_approval: bool) -> list[Plan]:
    """Return the plans that can still be executed, newest first."""
    async with desk.snapshot() as connection:
        now = await database_time(connection)
        rows = await _open_plans(desk, connection, now, awaiting_approval=awaiting_approval)
        return [await _view(connection, row, actor) for row in rows]


async def awaiting_approval(desk: Desk, connection: asyncpg.Connection, now: datetime) -> list[PlanRow]:
    """Return the plans that wait for a second person, newest first."""
    return await _open_plans(desk, connection, now, awaiting_approval=True)


async def _open_plans(
    desk: Desk, connection: asyncpg.Connection, now: datetime, *, awaiting_approval: bool
) -> list[PlanRow]:
    since = now - timedelta(seconds=desk.limits.plan_life_seconds)
    return await plans_table.open_plans(
        connection, since=since, now=now, awaiting_approval=awaiting_approval, limit=PLANS_MAX
    )


async def sign(desk: Desk, actor: Actor, token: str, signature: Signature, *, reason: str) -> Plan:
    """Store a person's signature of a plan; return the plan as the person may see it."""
    row = await signing.sign(desk, actor, token, signature, reason=reason)
    async with desk.snapshot() as connection:
        return await _view(connection, row, actor)


async def _store(
    desk: Desk,
    connection: asyncpg.Connection,
    actor: Actor,
    action: Action,
    which: Filter,
    reason: str,
    pace: ReplayPace,
    predictions: Mapping[int, Prediction],
    *,
    has_unsealed: bool,
    skipped: int = 0,
    edited_body: bytes | None = None,
    changes: Sequence[Difference] = (),
) -> Plan:
    """Write a plan, and in the audit log who made it; return the plan."""
    now = await database_time(connection)
    token = secrets.token_hex(6)
    needs_two = await needs_second_person(
        desk, connection, actor, action, list(predictions), now, has_unsealed=has_unsealed
    )
    new = plans_table.NewPlan(
        token=token,
        action=action.value,
        made_by=actor.name,
        role=audit_log.role_of(actor),
        made_via=storable_text(actor.via),
        life=timedelta(seconds=desk.limits.plan_life_seconds),
        reason=reason,
        filter=which.to_query(),
        canary=min(pace.canary, len(predictions)),
        rate=pace.rate_per_second,
        stop_ratio=pace.stop_ratio,
        letter_ids=list(predictions),
        verdicts=[prediction.verdict.value for prediction in predictions.values()],
        codes=[prediction.code for prediction in predictions.values()],
        skipped=skipped,
        needs_two=needs_two,
        edited_body=edited_body,
        differences=[asdict(change) for change in changes],
    )
    row = await plans_table.make(connection, new)
    return await _view(connection, row, actor)


async def _view(connection: asyncpg.Connection, row: PlanRow, actor: Actor) -> Plan:
    """Return a plan as the actor may see it, with counts by prediction and the states of its letters now."""
    now = await database_time(connection)
    predictions = [
        Prediction(PredictedOutcome(verdict), code)
        for verdict, code in zip(row.verdicts, row.codes, strict=True)
    ]
    counts: Counter[Prediction] = Counter()
    sample: dict[int, Prediction] = {}
    for letter_id, prediction in zip(row.letter_ids, predictions, strict=True):
        counts[prediction] += 1
        if counts[prediction] <= _SAMPLES:
            sample[letter_id] = prediction
    lines = await letters_table.page(
        connection, letters_table.RowFilter(ids=list(sample)), after=None, limit=len(sample)
    )
    numbers = {line.letter_id: line.serial_no for line in lines}
    states = await letters_table.states_of(connection, row.letter_ids)
    return Plan(
        token=row.token,
        action=Action(row.action),
        state=_state(row, now),
        made_by=row.made_by,
        made_at=row.made_at,
        expires_at=row.expires_at,
        reason=row.reason,
        filter=views.filter_of(row.filter, actor),
        total=len(predictions),
        skipped=row.skipped,
        counts=tuple(counts.most_common()),
        sample=tuple(
            PlannedLetter(letter_id, numbers.get(letter_id), prediction)
            for letter_id, prediction in sample.items()
        ),
        pace=ReplayPace(row.canary, row.rate, row.stop_ratio),
        approved_by=row.approved_by,
        operation_id=row.operation_id,
        differences=views.differences(row.differences, actor),
        edited_body=row.edited_body if actor.role >= Role.OPERATOR else None,
        states=tuple((LetterState(count.state), count.letters) for count in states),
    )


def _state(row: PlanRow, now: datetime) -> PlanState:
    if row.operation_id is not None:
        return PlanState.EXECUTED
    if row.expires_at <= now:
        return PlanState.EXPIRED
    if row.needs_two and not row.is_requested:
        return PlanState.NEEDS_SIGNATURE
    if row.needs_two and row.approved_by is None:
        return PlanState.NEEDS_APPROVAL
    return PlanState.READY
