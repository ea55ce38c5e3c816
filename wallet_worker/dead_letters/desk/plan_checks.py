"""Checks of a plan: which letters an action fits, what a replay of each would do, and whether that is still so."""

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Final

import asyncpg

from wallet_worker.dead_letters.desk.edits import ensure_editable, new_body, parse_edit, predict_edit
from wallet_worker.dead_letters.desk.refusals import explain_stale, no_plan
from wallet_worker.dead_letters.desk.session import Desk, whole_letter
from wallet_worker.dead_letters.model.errors import StaleError
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import ACTS_ON, Action, LetterState
from wallet_worker.dead_letters.replay.predict import MOVES_NOTHING
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import operations as operations_table
from wallet_worker.store.dead_letters import plans as plans_table
from wallet_worker.store.dead_letters import replays as replays_table
from wallet_worker.store.dead_letters.letters import LetterStatus
from wallet_worker.store.dead_letters.plans import PlanRow

STUCK_AFTER: Final = timedelta(minutes=15)
"""A published replay may be given up then: a result that waits for its order comes back within six minutes."""

_EDIT_IN_FLIGHT: Final = "an edit of it was given up without an outcome, and may still be applied"
_CHUNK: Final = 500  # letters predicted at once: bodies of 64 KiB each are 32 MB


async def eligible(
    desk: Desk, connection: asyncpg.Connection, action: Action, letters: Sequence[LetterStatus]
) -> list[int]:
    """Return the ids of those letters that the action fits, in the given order."""
    fitting = [letter for letter in letters if LetterState(letter.state) in ACTS_ON[action]]
    if action is Action.REPLAY:
        return [letter.letter_id for letter in fitting if letter.replays < desk.limits.replays_max]
    ids = [letter.letter_id for letter in fitting]
    if action is not Action.RESTORE:
        return ids
    now = await database_time(connection)
    stuck = {
        replay.letter_id
        for replay in await replays_table.outstanding(connection, ids)
        if replay.published_at is not None and now - replay.published_at >= STUCK_AFTER
    }
    return [
        letter.letter_id
        for letter in fitting
        if letter.letter_id in stuck or letter.state == LetterState.DISCARDED
    ]


async def predictions_of(
    desk: Desk, connection: asyncpg.Connection, ids: Sequence[int]
) -> dict[int, Prediction]:
    """Return what a replay of each letter would do now, in the order of the ids.

    Each message is predicted once, however many letters it concerns: as of the moment when it is first needed.
    """
    lineage = desk.lineage(remembers=True)
    predictions: dict[int, Prediction] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        letters = await letters_table.replayable(connection, chunk)
        outcomes = await lineage.predictor.predict(connection, letters)
        predictions |= {letter.letter_id: outcome for letter, outcome in zip(letters, outcomes, strict=True)}
        moving = [letter for letter in letters if predictions[letter.letter_id].verdict not in MOVES_NOTHING]
        predictions |= await lineage.superseded(connection, moving)
        for replay in await lineage.in_flight(connection, chunk):
            if replay.is_edit:
                predictions[replay.letter_id] = Prediction(
                    PredictedOutcome.NOT_REPLAYABLE, "", _EDIT_IN_FLIGHT
                )
    return {letter_id: predictions[letter_id] for letter_id in ids if letter_id in predictions}


async def lock_usable_plan(connection: asyncpg.Connection, token: str) -> PlanRow:
    """Return a plan, its row locked; raises StaleError if it was executed or has expired, and NotFoundError."""
    plan = await plans_table.lock(connection, token)
    if plan is None:
        raise no_plan(token)
    if plan.operation_id is not None:
        operation = await operations_table.by_id(connection, plan.operation_id)
        who = operation.actor if operation else "somebody"
        when = f" at {operation.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if operation else ""
        msg = f"{who} has executed this plan already{when}, as operation {plan.operation_id}"
        raise StaleError(msg)
    if plan.expires_at <= await database_time(connection):
        msg = "this plan is too old: plan again"
        raise StaleError(msg)
    return plan


async def verify_unchanged(desk: Desk, connection: asyncpg.Connection, plan: PlanRow, action: Action) -> None:
    """Lock the letters of a plan; raise StaleError if a letter or a prediction is not as it was planned."""
    ids = plan.letter_ids
    fitting = set(await eligible(desk, connection, action, await letters_table.lock(connection, ids)))
    lost = [letter_id for letter_id in ids if letter_id not in fitting]
    if lost:
        raise StaleError(await explain_stale(connection, lost))
    if action is Action.EDIT:
        body = new_body(plan)
        letter = await whole_letter(connection, ids[0])
        await ensure_editable(desk, connection, letter, parse_edit(body))
        predictions = {ids[0]: await predict_edit(desk, connection, letter, body)}
    else:
        predictions = await predictions_of(desk, connection, ids)
    changed = [
        (letter_id, Prediction(PredictedOutcome(verdict), code), predictions[letter_id])
        for letter_id, verdict, code in zip(ids, plan.verdicts, plan.codes, strict=True)
        if (predictions[letter_id].verdict.value, predictions[letter_id].code) != (verdict, code)
    ]
    if changed:
        letter_id, before, after = changed[0]
        msg = (
            f"what would happen has changed for {len(changed):,} of {len(ids):,} letters since it was planned: "
            f"letter {letter_id}, for one, was '{before.label}' and now '{after.label}'. Plan again."
        )
        raise StaleError(msg)
