"""What executing a plan does to its letters, in the caller's transaction."""

import os
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from wallet_worker.core.ids import uuid7
from wallet_worker.dead_letters.desk.edits import edited
from wallet_worker.dead_letters.desk.refusals import explain_stale
from wallet_worker.dead_letters.model.errors import StaleError
from wallet_worker.dead_letters.model.states import ACTS_ON, LEADS_TO, Action, LetterState
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import replays as replays_table


async def apply_plan(
    connection: asyncpg.Connection,
    plan: asyncpg.Record,
    action: Action,
    ids: Sequence[int],
    operation_id: UUID,
    now: datetime,
) -> None:
    """Put the letters into their next state, and order the replays."""
    if action is Action.RESTORE:
        await replays_table.give_up(connection, ids, f"given up: {plan['reason']}", now)
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
    serial_no = edited(plan["edited_body"]).serial_no if action is Action.EDIT else None
    orders = [
        replays_table.NewReplay(
            replay_id=uuid7(now, os.urandom(10)),
            letter_id=letter_id,
            position=position,
            verdict=verdict,
            verdict_code=code,
            body=plan["edited_body"],
            serial_no=serial_no,
        )
        for position, (letter_id, verdict, code) in enumerate(
            zip(ids, plan["verdicts"], plan["codes"], strict=True)
        )
    ]
    if await replays_table.insert(connection, operation_id, orders, now) != len(orders):
        raise StaleError(await explain_stale(connection, ids))


async def cancel_unpublished(
    connection: asyncpg.Connection, operation_id: UUID, detail: str, now: datetime
) -> int:
    """Have letters wait again whose replays are ordered, and of which no copy can be on its way; return how many."""
    letter_ids = await replays_table.cancel(connection, operation_id, detail, now)
    if letter_ids:
        await letters_table.move(
            connection,
            letter_ids,
            before=(LetterState.REPLAYING.value, LetterState.EDITED.value),
            after=LetterState.WAITING.value,
            now=now,
            replays=-1,
        )
    return len(letter_ids)
