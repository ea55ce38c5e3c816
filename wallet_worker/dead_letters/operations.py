"""Everything that an operator can do with dead letters: the one module that command line and console call.

Every method takes the actor first and raises `OperationError` with a sentence for a person when it will not;
then nothing was changed. A StoreError means that the database is away: nothing is lost, ask again. No method needs
the broker: what is to be published is written down, and a keeper publishes it.

    letters, groups, overview, letter      look
    plan, plan_edit -> token               say what would be done to exactly which letters
    approve                                a second person agrees
    execute(token)                         do it: write it down in one transaction; keepers carry it out
    pause, resume, stop                    hold, go on, end
    operation, operations                  how far it is
"""

import asyncio
import json
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.commands import Command
from wallet_schemas.names import WALLET_COMMANDS
from wallet_worker.core.context import Policy
from wallet_worker.core.ids import uuid7
from wallet_worker.dead_letters import runbook
from wallet_worker.dead_letters.desk import views
from wallet_worker.dead_letters.desk.edits import differences, edited
from wallet_worker.dead_letters.desk.executing import apply_plan, cancel_unpublished
from wallet_worker.dead_letters.desk.inputs import (
    audit_fits,
    audit_query,
    fits,
    normalise_token,
    storable_text,
    validate_pace,
    validate_reason,
)
from wallet_worker.dead_letters.desk.ledger_view import situation_of, truth_of
from wallet_worker.dead_letters.desk.refusals import (
    explain_empty,
    explain_stale,
    no_operation,
    no_plan,
    require_role,
)
from wallet_worker.dead_letters.model.actors import COMMAND_LINE, Actor
from wallet_worker.dead_letters.model.audit_log import AuditPage, AuditRow
from wallet_worker.dead_letters.model.errors import (
    ApprovalNeededError,
    BusyError,
    InvalidEditError,
    NotAllowedError,
    NotFoundError,
    NotPossibleError,
    StaleError,
)
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.letters import Group, LetterContent, LetterDetail, Overview, Page
from wallet_worker.dead_letters.model.plans import Difference, Operation, Plan, PlannedLetter, ReplayPace
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import ACTS_ON, Action, LetterState, OperationState, PlanState
from wallet_worker.dead_letters.replay.lineage import Lineage
from wallet_worker.dead_letters.replay.predict import MOVES_NOTHING, Replayable, predict
from wallet_worker.settings.operators import ApprovalLimits, Role
from wallet_worker.store import commands
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters import audit as audit_table
from wallet_worker.store.dead_letters import keepers as keepers_table
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.store.dead_letters import operations as operations_table
from wallet_worker.store.dead_letters import plans as plans_table
from wallet_worker.store.dead_letters import replays as replays_table
from wallet_worker.store.dead_letters.audit import AuditEntry
from wallet_worker.store.errors import ConflictError

PAGE_LETTERS = 50
PAGE_LETTERS_MAX = 500
PLANS_MAX = 100

STUCK_AFTER = timedelta(minutes=15)
"""A published replay may be given up then: a result that waits for its order comes back within six minutes."""

FOUR_EYES_WINDOW = timedelta(hours=1)
"""What one person does to letters within this time counts as one."""

_EDIT_OUT = "an edit of it was given up without an outcome, and may still be applied"

_CHUNK = 500  # letters predicted at once: bodies of 64 KiB each are 32 MB
_EXPORTED = 20  # letters exported at once: a body may be as large as the broker allows
_SAMPLES = 5  # of each prediction
_NOTE_MAX = 4_000
_RACES_MAX = 3  # each may wait as long as the database lets anybody wait for a lock
_RACE_SECONDS = 0.1

P = ParamSpec("P")
T = TypeVar("T")


def retry_on_conflict(
    work: Callable[Concatenate["DeadLetterDesk", P], Awaitable[T]],
) -> Callable[Concatenate["DeadLetterDesk", P], Coroutine[Any, Any, T]]:
    """Return work that begins again when somebody else was first; raises BusyError when that does not end."""

    async def tried(self: "DeadLetterDesk", /, *args: P.args, **kwargs: P.kwargs) -> T:
        for race in range(_RACES_MAX):
            try:
                return await work(self, *args, **kwargs)
            except ConflictError:
                await asyncio.sleep(_RACE_SECONDS * race)
        msg = "somebody else is at these letters; nothing was done. Try it again in a moment"
        raise BusyError(msg)

    update_wrapper(tried, work)
    return tried


class DeadLetterDesk:
    """What operators do. `database` is opened under `store.dead_letters.OPERATOR_ROLE`, and closed by its opener.

    `rules` and `keys` are the worker's own: predictions are made with them.
    """

    def __init__(
        self, database: Database, rules: Policy, keys: Mapping[str, str], limits: ApprovalLimits | None = None
    ) -> None:
        self._database = database
        self._rules = rules
        self._keys = keys
        self._versions = Lineage(rules, keys)
        self.limits = limits or ApprovalLimits()

    # Looking

    async def letters(
        self, actor: Actor, which: Filter, *, after: int | None = None, limit: int = PAGE_LETTERS
    ) -> Page:
        """Return letters, newest first; `after` is a page's `next_after`."""
        limit = min(max(limit, 1), PAGE_LETTERS_MAX)
        async with self._snapshot() as connection:
            rows = await letters_table.page(connection, fits(which), after=after, limit=limit + 1)
        shown = tuple(views.line(row, actor) for row in rows[:limit])
        return Page(shown, shown[-1].letter_id if len(rows) > limit else None)

    async def count(self, actor: Actor, which: Filter) -> int:  # noqa: ARG002 -- everybody who may look may count
        """Return how many letters fit."""
        async with self._snapshot() as connection:
            return await letters_table.count(connection, fits(which))

    async def groups(
        self,
        actor: Actor,  # noqa: ARG002 -- a group says nothing of anybody
        which: Filter,
        *,
        span: timedelta = timedelta(hours=24),
        buckets: int = 24,
    ) -> list[Group]:
        """Return the letters by reason and source, those with the most waiting first.

        Each has its arrivals in the last `span`, in `buckets` stretches.
        """
        async with self._snapshot() as connection:
            until = await _now(connection)
            rows = await letters_table.groups(
                connection, fits(which), since=until - span, until=until, buckets=buckets
            )
        return [views.group(row, buckets) for row in rows]

    async def overview(self, actor: Actor) -> Overview:  # noqa: ARG002 -- see groups
        """Return depths, ages and what is going on."""
        async with self._snapshot() as connection:
            now = await _now(connection)
            states = {LetterState(row["state"]): row for row in await letters_table.states(connection)}
            keeper = await keepers_table.newest(connection)
            running = len(await operations_table.open_ids(connection))
            awaiting = await plans_table.open_plans(
                connection, since=self._plans_since(now), now=now, awaiting_approval=True, limit=PLANS_MAX
            )
        waiting = states.get(LetterState.WAITING)
        return Overview(
            states={state: states[state]["letters"] if state in states else 0 for state in LetterState},
            oldest_waiting=waiting["oldest"] if waiting else None,
            last_arrival=max((row["newest"] for row in states.values()), default=None),
            keeper_seen=keeper["seen_at"] if keeper else None,
            keeper_standing=keeper["standing"]
            if keeper
            else "no keeper was ever at work: start `wallet keeper`",
            depths=json.loads(keeper["depths"]) if keeper else {},
            running=running,
            awaiting_approval=len(awaiting),
        )

    async def letter(self, actor: Actor, letter_id: int) -> LetterDetail:
        """Return all about one letter, what the wallet knows of it, and what a replay would do now.

        Raises NotFoundError.
        """
        async with self._snapshot() as connection:
            row = await self._row(connection, letter_id)
            attempts = await letters_table.attempts(connection, letter_id)
            replays = await replays_table.of_letter(connection, letter_id)
            audit = await audit_table.oldest(
                connection, audit_table.Fits(letter_id=letter_id), after=None, limit=1_000
            )
            truth = await truth_of(connection, row, actor)
            prediction = (await self._predicted(connection, [letter_id]))[letter_id]
            same = 0
            if row["serial_no"] is not None:
                same = (
                    await letters_table.count(connection, letters_table.RowFilter(serial_no=row["serial_no"]))
                    - 1
                )
            situation = await situation_of(connection, row, truth, prediction, self.limits.replays_max)
        return views.seen_by(
            actor,
            LetterDetail(
                whole=views.whole(row, actor),
                attempts=tuple(views.attempt(one) for one in attempts),
                replays=tuple(views.replay(one) for one in replays),
                truth=truth,
                prediction=prediction,
                runbook=runbook.line(situation),
                audit=tuple(views.audit_row(one, actor) for one in audit),
                same_number=same,
            ),
        )

    async def export(self, actor: Actor, which: Filter) -> AsyncIterator[LetterContent]:
        """Give every letter that fits, newest first, whole; masked for viewers. The audit tells it first."""
        after: int | None = None
        async with self._database.transaction() as connection:
            await _custom_plans(connection)
            fitting = await letters_table.count(connection, fits(which))
            detail = {"filter": which.to_query(), "letters": fitting}
            await _note_deeds(connection, [_deed(actor, "export", "", detail=detail)])
        while True:
            async with self._snapshot() as connection:
                rows = await letters_table.wholes(connection, fits(which), after=after, limit=_EXPORTED)
            for row in rows:
                yield views.whole(row, actor)
            if len(rows) < _EXPORTED:
                return
            after = rows[-1]["letter_id"]

    async def payload(self, actor: Actor, letter_id: int) -> bytes:
        """Return a letter's payload to keep, byte for byte; the audit tells it.

        Raises NotAllowedError for viewers, and NotFoundError.
        """
        require_role(actor, Role.OPERATOR)
        async with self._database.transaction() as connection:
            row = await self._row(connection, letter_id)
            detail = {"bytes": len(row["body"])}
            await _note_deeds(connection, [_deed(actor, "download", "", letter_id=letter_id, detail=detail)])
        body: bytes = row["body"]
        return body

    # Planning

    @retry_on_conflict
    async def plan(
        self, actor: Actor, action: Action, which: Filter, *, reason: str, pace: ReplayPace | None = None
    ) -> Plan:
        """Return what a replay, discard or restore of the letters that fit now would do; nothing is done.

        The plan is of these very letters, whatever arrives later. Raises NotAllowedError for viewers, and
        NotPossibleError if there is none, there are too many, or `reason` is empty.
        """
        require_role(actor, Role.OPERATOR)
        if action is Action.EDIT:
            msg = "an edit is planned with the new message, for one letter"
            raise NotPossibleError(msg)
        reason, pace = validate_reason(reason), validate_pace(pace or ReplayPace())
        async with self._database.transaction() as connection:
            await _custom_plans(connection)
            found = await letters_table.ids(connection, fits(which), self.limits.plan_max + 1)
            if len(found) > self.limits.plan_max:
                msg = f"more than {self.limits.plan_max:,} letters fit: narrow the filter"
                raise NotPossibleError(msg)
            ids = await self._eligible(connection, action, found)
            predicted = await self._predicted(connection, ids)
            nowhere = [one for one in predicted.values() if one.verdict is PredictedOutcome.NOT_REPLAYABLE]
            if action is Action.REPLAY:
                predicted = {
                    one: said
                    for one, said in predicted.items()
                    if said.verdict is not PredictedOutcome.NOT_REPLAYABLE
                }
            if not predicted:
                raise NotPossibleError(await explain_empty(connection, action, which, found, nowhere))
            return await self._store_plan(
                connection, actor, action, which, reason, pace, predicted, skipped=len(found) - len(predicted)
            )

    @retry_on_conflict
    async def plan_edit(self, actor: Actor, letter_id: int, body: bytes, *, reason: str) -> Plan:
        """Return the plan of sending `body` as a new message in the place of a letter.

        The body must be a command that the schema allows, with a serial number that nobody has used. A payment result
        cannot be edited: the gateway's signature would not fit. Raises InvalidEditError, and what `plan` does.
        """
        require_role(actor, Role.OPERATOR)
        reason = validate_reason(reason)
        message = edited(body)
        async with self._database.transaction() as connection:
            row = await self._row(connection, letter_id)
            await self._editable(connection, row, message)
            new = Replayable(row["source"], body, row["properties"])
            (prediction,) = await predict(connection, [new], self._rules, self._keys)
            if prediction.verdict is PredictedOutcome.NOT_REPLAYABLE:
                raise NotPossibleError(f"letter {letter_id} cannot be edited: {prediction.detail}")
            which = Filter(ids=(letter_id,))
            return await self._store_plan(
                connection,
                actor,
                Action.EDIT,
                which,
                reason,
                ReplayPace(),
                {letter_id: prediction},
                edited_body=body,
                differences=differences(row["body"], message),
            )

    async def plan_of(self, actor: Actor, token: str) -> Plan:
        """Return a plan by its token; raises NotFoundError."""
        async with self._snapshot() as connection:
            row = await plans_table.by_token(connection, normalise_token(token))
            if row is None:
                raise no_plan(token)
            return await self._plan(connection, row, actor)

    async def plans(self, actor: Actor, *, awaiting_approval: bool = False) -> list[Plan]:
        """Return the plans that can still be executed, newest first, perhaps only those that need somebody's yes."""
        async with self._snapshot() as connection:
            now = await _now(connection)
            rows = await plans_table.open_plans(
                connection,
                since=self._plans_since(now),
                now=now,
                awaiting_approval=awaiting_approval,
                limit=PLANS_MAX,
            )
            return [await self._plan(connection, row, actor) for row in rows]

    @retry_on_conflict
    async def approve(self, actor: Actor, token: str, *, reason: str) -> Plan:
        """Note that a second person agrees; returns the plan, ready now.

        Raises NotAllowedError if the actor is no approver, made the plan, or sits at the login that made it; StaleError
        if a letter or a prediction has changed since it was planned; NotFoundError.
        """
        require_role(actor, Role.APPROVER)
        reason, token = validate_reason(reason), normalise_token(token)
        async with self._database.transaction() as connection:
            row = await self._lock_usable_plan(connection, token)
            if _same_person(row["made_by"], actor.name):
                msg = "a second person must approve, and this plan is your own"
                raise NotAllowedError(msg)
            seat = row["made_via"].removeprefix(COMMAND_LINE)
            by_its_name = seat != row["made_via"] and _same_person(seat, actor.name)  # in the console
            if by_its_name or row["made_via"] == _login(actor):
                msg = f"a second person must approve, and this plan was made by the same login, {seat}"
                raise NotAllowedError(msg)
            if not row["needs_two"]:
                msg = "this plan needs nobody's approval"
                raise NotPossibleError(msg)
            if row["approved_by"] is None:
                # What is agreed to is what would happen now.
                await self._verify_unchanged(connection, row, Action(row["action"]), list(row["letter_ids"]))
            if not await plans_table.approve(connection, token, actor.name):
                msg = f"{row['approved_by']} has approved this plan already"
                raise StaleError(msg)
            await _note_deeds(
                connection,
                [_deed(actor, "approve", reason, detail={"token": token, "letters": len(row["letter_ids"])})],
            )
            approved = await plans_table.by_token(connection, token)
            if approved is None:
                raise no_plan(token)
            return await self._plan(connection, approved, actor)

    # Acting

    @retry_on_conflict
    async def execute(self, actor: Actor, token: str) -> Operation:
        """Do what was planned, once: it is written down in one transaction, and keepers carry it out.

        Predictions are made again first. Raises StaleError if a letter or a prediction has changed (then plan again),
        or the token is old or used; ApprovalNeededError; NotAllowedError; NotFoundError. The same token executed
        twice, at once or later, is done once; the second is told who did it and when.
        """
        require_role(actor, Role.OPERATOR)
        token = normalise_token(token)
        async with self._database.transaction() as connection:
            plan = await self._lock_usable_plan(connection, token)
            if plan["needs_two"] and plan["approved_by"] is None:
                msg = f"a second person must approve the plan {token} first (`wallet dlq approve {token}`)"
                raise ApprovalNeededError(msg)
            action, ids = Action(plan["action"]), list(plan["letter_ids"])
            now = await _now(connection)
            if not plan["needs_two"]:
                await self._check_four_eyes(connection, actor, len(ids), now)
            if action in {Action.REPLAY, Action.EDIT}:
                await replays_table.claim(connection, edits=action is Action.EDIT)
            await self._verify_unchanged(connection, plan, action, ids)
            operation_id = uuid7(now, os.urandom(10))
            await self._start_operation(connection, actor, plan, operation_id, now)
            await apply_plan(connection, plan, action, ids, operation_id, now)
            row = await operations_table.by_id(connection, operation_id)
            if row is None:
                raise no_operation(operation_id)
            return await _operation(connection, row, actor)

    async def pause(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """Publish nothing more of it for now; raises NotPossibleError if it is not running."""
        return await self._change_state(
            actor, operation_id, reason, "pause", (OperationState.RUNNING,), OperationState.PAUSED
        )

    async def resume(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """Go on with what was paused; raises NotPossibleError if it is not."""
        return await self._change_state(
            actor, operation_id, reason, "resume", (OperationState.PAUSED,), OperationState.RUNNING
        )

    async def stop(self, actor: Actor, operation_id: UUID, *, reason: str) -> Operation:
        """End it: what was not published waits again, what was goes on to its outcome.

        Raises NotPossibleError if it has ended.
        """
        return await self._change_state(
            actor,
            operation_id,
            reason,
            "stop",
            (OperationState.RUNNING, OperationState.PAUSED),
            OperationState.STOPPED,
        )

    async def operation(self, actor: Actor, operation_id: UUID) -> Operation:
        """Return how far an operation is; raises NotFoundError."""
        async with self._snapshot() as connection:
            row = await operations_table.by_id(connection, operation_id)
            if row is None:
                raise no_operation(operation_id)
            return await _operation(connection, row, actor)

    async def operations(self, actor: Actor, *, limit: int = 50) -> list[Operation]:
        """Return the operations, newest first."""
        async with self._snapshot() as connection:
            rows = await operations_table.newest(connection, limit)
            return [await _operation(connection, row, actor) for row in rows]

    @retry_on_conflict
    async def note(self, actor: Actor, letter_id: int, text: str) -> AuditRow:
        """Keep a note with a letter; raises NotAllowedError for viewers, NotFoundError, NotPossibleError if empty."""
        require_role(actor, Role.OPERATOR)
        text = storable_text(text)
        if not text or len(text) > _NOTE_MAX:
            msg = f"a note has 1 to {_NOTE_MAX:,} characters"
            raise NotPossibleError(msg)
        async with self._database.transaction() as connection:
            await self._row(connection, letter_id)
            (row,) = await _note_deeds(connection, [_deed(actor, "note", text, letter_id=letter_id)])
        return views.audit_row(row, actor)

    # The record

    async def audit(
        self, actor: Actor, which: AuditFilter, *, after: int | None = None, limit: int = 100
    ) -> AuditPage:
        """Return audit rows, newest first; `after` is a page's `next_after`."""
        limit = min(max(limit, 1), PAGE_LETTERS_MAX)
        async with self._snapshot() as connection:
            rows = await audit_table.newest(connection, audit_fits(which), after=after, limit=limit + 1)
        shown = tuple(views.audit_row(row, actor) for row in rows[:limit])
        return AuditPage(shown, shown[-1].audit_id if len(rows) > limit else None)

    async def export_audit(self, actor: Actor, which: AuditFilter) -> AsyncIterator[AuditRow]:
        """Give every audit row that fits, oldest first; that it was exported is the newest of them, if that fits."""
        after: int | None = None
        async with self._database.transaction() as connection:
            detail = {"filter": audit_query(which)}
            await _note_deeds(connection, [_deed(actor, "export audit", "", detail=detail)])
        while True:
            async with self._snapshot() as connection:
                rows = await audit_table.oldest(connection, audit_fits(which), after=after, limit=_CHUNK)
            for row in rows:
                yield views.audit_row(row, actor)
            if len(rows) < _CHUNK:
                return
            after = rows[-1]["audit_id"]

    # Inside

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a snapshot."""
        async with self._database.snapshot() as connection:
            await _custom_plans(connection)
            yield connection

    def _plans_since(self, now: datetime) -> datetime:
        return now - timedelta(seconds=self.limits.plan_life_seconds)

    async def _row(self, connection: asyncpg.Connection, letter_id: int) -> asyncpg.Record:
        rows = await letters_table.wholes(
            connection, letters_table.RowFilter(ids=[letter_id]), after=None, limit=1
        )
        if not rows:
            msg = f"there is no dead letter {letter_id}"
            raise NotFoundError(msg)
        return rows[0]

    async def _recent_actions(self, connection: asyncpg.Connection, actor: Actor, now: datetime) -> int:
        """Return to how many letters the actor has done something lately without a second person.

        So has whoever sits at the same login under whatever name, and who has signed in as the login is called.
        """
        names = _names(actor)
        vias = {f"{COMMAND_LINE}{name}" for name in names}
        return await operations_table.done_alone(connection, names, vias, now - FOUR_EYES_WINDOW)

    async def _check_four_eyes(
        self, connection: asyncpg.Connection, actor: Actor, letters: int, now: datetime
    ) -> None:
        """Raise StaleError if these letters are too many for the actor alone, with what was done lately."""
        login = _login(actor)
        await operations_table.claim_actor(connection, _names(actor))  # two at once do not both fit
        lately = await self._recent_actions(connection, actor, now)
        if lately + letters > self.limits.single_person_max:
            who = (
                actor.name
                if login is None
                else f"{actor.name}, or the login {login.removeprefix(COMMAND_LINE)},"
            )
            msg = (
                f"{who} has acted on {lately:,} letters alone within the hour, and with these {letters:,} "
                f"that is more than {self.limits.single_person_max:,}: plan again, and a second person approves"
            )
            raise StaleError(msg)

    async def _eligible(
        self, connection: asyncpg.Connection, action: Action, found: Sequence[asyncpg.Record]
    ) -> list[int]:
        """Return those of the letters to which the action can be done."""
        states = ACTS_ON[action]
        ids = [row["letter_id"] for row in found if LetterState(row["state"]) in states]
        if action is Action.REPLAY:
            worn = {row["letter_id"] for row in found if row["replays"] >= self.limits.replays_max}
            return [one for one in ids if one not in worn]
        if action is Action.RESTORE:
            now = await _now(connection)
            stuck = {
                row["letter_id"]
                for row in await replays_table.outstanding(connection, ids)
                if row["published_at"] is not None and now - row["published_at"] >= STUCK_AFTER
            }
            discarded = {row["letter_id"] for row in found if row["state"] == LetterState.DISCARDED}
            return [one for one in ids if one in stuck or one in discarded]
        return ids

    async def _predicted(self, connection: asyncpg.Connection, ids: Sequence[int]) -> dict[int, Prediction]:
        """Return what a replay of each would do now, in the order of the ids."""
        found: dict[int, Prediction] = {}
        for start in range(0, len(ids), _CHUNK):
            some = ids[start : start + _CHUNK]
            rows = await letters_table.replayable(connection, some)
            said = await self._versions.predicted(connection, rows)
            found |= {row["letter_id"]: one for row, one in zip(rows, said, strict=True)}
            moving = [row for row in rows if found[row["letter_id"]].verdict not in MOVES_NOTHING]
            found |= await self._versions.superseded(connection, moving)
            for row in await self._versions.in_flight(connection, some):
                if row["is_edit"]:
                    found[row["letter_id"]] = Prediction(PredictedOutcome.NOT_REPLAYABLE, "", _EDIT_OUT)
        return {one: found[one] for one in ids if one in found}

    async def _store_plan(
        self,
        connection: asyncpg.Connection,
        actor: Actor,
        action: Action,
        which: Filter,
        reason: str,
        pace: ReplayPace,
        predicted: Mapping[int, Prediction],
        *,
        skipped: int = 0,
        edited_body: bytes | None = None,
        differences: Sequence[Difference] = (),
    ) -> Plan:
        """Write a plan and who made it; return it."""
        now = await _now(connection)
        token = secrets.token_hex(6)
        await plans_table.insert(
            connection,
            plans_table.NewPlan(
                token=token,
                action=action.value,
                made_by=actor.name,
                made_via=storable_text(actor.via),
                made_at=now,
                expires_at=now + timedelta(seconds=self.limits.plan_life_seconds),
                reason=reason,
                filter=which.to_query(),
                canary=min(pace.canary, len(predicted)),
                rate=pace.rate_per_second,
                stop_ratio=pace.stop_ratio,
                letter_ids=list(predicted),
                verdicts=[one.verdict.value for one in predicted.values()],
                codes=[one.code for one in predicted.values()],
                skipped=skipped,
                needs_two=action is Action.EDIT
                or len(predicted) + await self._recent_actions(connection, actor, now)
                > self.limits.single_person_max,
                edited_body=edited_body,
                differences=[asdict(one) for one in differences],
            ),
        )
        detail = {"token": token, "letters": len(predicted), "skipped": skipped, "filter": which.to_query()}
        await _note_deeds(connection, [_deed(actor, f"plan {action}", reason, detail=detail)])
        row = await plans_table.by_token(connection, token)
        if row is None:
            raise no_plan(token)
        return await self._plan(connection, row, actor)

    async def _plan(self, connection: asyncpg.Connection, row: asyncpg.Record, actor: Actor) -> Plan:
        now = await _now(connection)
        predictions = [
            Prediction(PredictedOutcome(verdict), code)
            for verdict, code in zip(row["verdicts"], row["codes"], strict=True)
        ]
        taken: Counter[Prediction] = Counter()
        sampled: dict[int, Prediction] = {}
        for letter_id, prediction in zip(row["letter_ids"], predictions, strict=True):
            taken[prediction] += 1
            if taken[prediction] <= _SAMPLES:
                sampled[letter_id] = prediction
        lines = await letters_table.page(
            connection, letters_table.RowFilter(ids=list(sampled)), after=None, limit=len(sampled)
        )
        numbers = {line["letter_id"]: line["serial_no"] for line in lines}
        states = await letters_table.states_of(connection, row["letter_ids"])
        return Plan(
            token=row["token"],
            action=Action(row["action"]),
            state=_plan_state(row, now),
            made_by=row["made_by"],
            made_at=row["made_at"],
            expires_at=row["expires_at"],
            reason=row["reason"],
            filter=views.asked(row["filter"], actor),
            total=len(predictions),
            skipped=row["skipped"],
            counts=tuple(taken.most_common()),
            sample=tuple(
                PlannedLetter(letter_id, numbers.get(letter_id), prediction)
                for letter_id, prediction in sampled.items()
            ),
            pace=ReplayPace(row["canary"], row["rate"], row["stop_ratio"]),
            approved_by=row["approved_by"],
            operation_id=row["operation_id"],
            differences=views.differences(row["differences"], actor),
            edited_body=row["edited_body"] if actor.role >= Role.OPERATOR else None,
            states=tuple((LetterState(one["state"]), one["letters"]) for one in states),
        )

    async def _lock_usable_plan(self, connection: asyncpg.Connection, token: str) -> asyncpg.Record:
        """Return a plan, locked, that nobody has executed and that is not too old."""
        row = await plans_table.lock(connection, token)
        if row is None:
            raise no_plan(token)
        if row["operation_id"] is not None:
            done = await operations_table.by_id(connection, row["operation_id"])
            who = done["actor"] if done else "somebody"
            when = f" at {done['started_at'].astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if done else ""
            msg = f"{who} has executed this plan already{when}, as operation {row['operation_id']}"
            raise StaleError(msg)
        if row["expires_at"] <= await _now(connection):
            msg = "this plan is too old: plan again"
            raise StaleError(msg)
        return row

    async def _verify_unchanged(
        self, connection: asyncpg.Connection, plan: asyncpg.Record, action: Action, ids: Sequence[int]
    ) -> None:
        """Lock the letters of a plan; raise StaleError if one of them, or its prediction, is not as it was planned."""
        held = await letters_table.lock(connection, ids)
        found = [
            {"letter_id": letter_id, "state": state, "replays": replays}
            for letter_id, (state, replays) in held.items()
        ]
        fitting = set(await self._eligible(connection, action, found))  # type: ignore[arg-type]
        lost = [one for one in ids if one not in fitting]
        if lost:
            raise StaleError(await explain_stale(connection, lost))
        if action is Action.EDIT:
            row = await self._row(connection, ids[0])
            await self._editable(connection, row, edited(plan["edited_body"]))
            new = Replayable(row["source"], plan["edited_body"], row["properties"])
            predicted = dict(zip(ids, await predict(connection, [new], self._rules, self._keys), strict=True))
        else:
            predicted = await self._predicted(connection, ids)
        changed = [
            (one, Prediction(PredictedOutcome(verdict), code), predicted[one])
            for one, verdict, code in zip(ids, plan["verdicts"], plan["codes"], strict=True)
            if (predicted[one].verdict.value, predicted[one].code) != (verdict, code)
        ]
        if changed:
            letter_id, before, after = changed[0]
            msg = (
                f"what would happen has changed for {len(changed):,} of {len(ids):,} letters since it was planned: "
                f"letter {letter_id}, for one, was '{before.label}' and now '{after.label}'. Plan again."
            )
            raise StaleError(msg)

    async def _start_operation(
        self,
        connection: asyncpg.Connection,
        actor: Actor,
        plan: asyncpg.Record,
        operation_id: UUID,
        now: datetime,
    ) -> None:
        """Write the operation, and in the audit who does it and each letter it is done to."""
        action, ids = Action(plan["action"]), plan["letter_ids"]
        at_once = action in {Action.DISCARD, Action.RESTORE}
        await operations_table.insert(
            connection,
            operations_table.NewOperation(
                operation_id=operation_id,
                token=plan["token"],
                action=action.value,
                state=(OperationState.DONE if at_once else OperationState.RUNNING).value,
                actor=actor.name,
                via=storable_text(actor.via),
                approved_by=plan["approved_by"],
                reason=plan["reason"],
                filter=json.loads(plan["filter"]),
                canary=plan["canary"],
                rate=plan["rate"],
                stop_ratio=plan["stop_ratio"],
                total=len(ids),
                standing="done" if at_once else "written down; waiting for a keeper to publish it",
            ),
            now,
        )
        await plans_table.executed(connection, plan["token"], operation_id)
        counts = Counter(zip(plan["verdicts"], plan["codes"], strict=True))
        detail = {
            "token": plan["token"],
            "made_by": plan["made_by"],
            "approved_by": plan["approved_by"],
            "filter": json.loads(plan["filter"]),
            "letters": len(ids),
            "predictions": [
                {"verdict": verdict, "code": code, "letters": count}
                for (verdict, code), count in counts.most_common()
            ],
        }
        deeds = [_deed(actor, f"execute {action}", plan["reason"], operation_id=operation_id, detail=detail)]
        deeds += [
            _deed(
                actor,
                action.value,
                plan["reason"],
                letter_id=letter_id,
                operation_id=operation_id,
                detail={"verdict": verdict, "code": code},
            )
            for letter_id, verdict, code in zip(ids, plan["verdicts"], plan["codes"], strict=True)
        ]
        await _note_deeds(connection, deeds, now)

    async def _editable(self, connection: asyncpg.Connection, row: asyncpg.Record, message: Command) -> None:
        """Raise unless this message may be sent in the place of a letter."""
        letter_id = row["letter_id"]
        if row["source"] != WALLET_COMMANDS or row["exchange"] is None:
            msg = (
                f"letter {letter_id} came from {row['source']}: only commands can be edited, because nobody else "
                "can sign a payment result"
            )
            raise NotPossibleError(msg)
        if LetterState(row["state"]) not in ACTS_ON[Action.EDIT]:
            msg = f"letter {letter_id} is {row['state']}, and only one that is waiting can be edited"
            raise NotPossibleError(msg)
        out = await self._versions.in_flight(connection, [letter_id])
        if any(one["is_edit"] for one in out):
            msg = (
                f"letter {letter_id} was edited before, without an outcome so far, and that may still be applied: an "
                "edit would send both versions. Edit the letter that it comes back as"
            )
            raise NotPossibleError(msg)
        await self._versions.ensure_only_version(connection, row)
        # After the twins: each statement sees what was committed before it, and one of them may just have been applied.
        (before,) = await self._versions.predicted(connection, [row])
        if before.verdict is PredictedOutcome.REPEATS:
            msg = (
                f"letter {letter_id} has an outcome already ({before.code}): an edit would send both versions"
            )
            raise NotPossibleError(msg)
        numbers = {message.serial_no, row["serial_no"]} - {None}
        _, known = await commands.known(connection, numbers)
        mended = known.get(row["serial_no"]) if before.verdict is PredictedOutcome.STILL_MALFORMED else None
        if mended is not None and mended.code is Code.OK:
            msg = (
                f"letter {letter_id} cannot be read, and the mended message was applied as {row['serial_no']}: an edit "
                "would send both versions"
            )
            raise NotPossibleError(msg)
        if out:
            msg = (
                f"letter {letter_id} was replayed before, without an outcome so far, and that may still be applied: an "
                "edit would send both versions. It can be edited when that is back"
            )
            raise NotPossibleError(msg)
        taken = message.serial_no in known or message.serial_no == row["serial_no"]
        if taken or await replays_table.serial_taken(connection, message.serial_no):
            msg = f"the serial number {message.serial_no} is used already: an edit is a new message with a new one"
            raise InvalidEditError(msg)

    @retry_on_conflict
    async def _change_state(
        self,
        actor: Actor,
        operation_id: UUID,
        reason: str,
        verb: str,
        before: tuple[OperationState, ...],
        after: OperationState,
    ) -> Operation:
        require_role(actor, Role.OPERATOR)
        reason = validate_reason(reason)
        async with self._database.transaction() as connection:
            row = await operations_table.lock(connection, operation_id)
            if row is None:
                raise no_operation(operation_id)
            state = OperationState(row["state"])
            if state not in before or row["ended_at"] is not None:
                msg = f"operation {operation_id} is {state}, and so there is nothing to {verb}"
                raise NotPossibleError(msg)
            now = await _now(connection)
            done = {OperationState.PAUSED: "paused", OperationState.STOPPED: "stopped"}.get(after, "resumed")
            standing = f"{done} by {actor.name}: {reason}"
            await operations_table.move(
                connection, operation_id, before=state.value, after=after.value, standing=standing, now=now
            )
            await _note_deeds(connection, [_deed(actor, verb, reason, operation_id=operation_id)], now)
            if after is OperationState.STOPPED:
                await cancel_unpublished(connection, operation_id, standing, now)
            row = await operations_table.by_id(connection, operation_id)
            if row is None:
                raise no_operation(operation_id)
            return await _operation(connection, row, actor)


async def _now(connection: asyncpg.Connection) -> datetime:
    """Return the database's time: several machines' operators see one clock."""
    found: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return found


async def _custom_plans(connection: asyncpg.Connection) -> None:
    """Have each statement planned for what is asked: of a filter's parts, most are not."""
    await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")


async def _note_deeds(
    connection: asyncpg.Connection, deeds: Sequence[AuditEntry], now: datetime | None = None
) -> list[asyncpg.Record]:
    return await audit_table.insert(connection, deeds, now or await _now(connection))


def _deed(
    actor: Actor,
    action: str,
    reason: str,
    *,
    letter_id: int | None = None,
    operation_id: UUID | None = None,
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    return AuditEntry(
        storable_text(actor.name),
        actor.role.name.lower(),
        storable_text(actor.via),
        action,
        reason,
        letter_id,
        operation_id,
        detail or {},
    )


def _login(actor: Actor) -> str | None:
    """Return where at the command line an actor sits, as it is kept; nothing for whoever has signed in elsewhere."""
    via = storable_text(actor.via)
    return via if via.startswith(COMMAND_LINE) else None


def _names(actor: Actor) -> set[str]:
    """Return what somebody is called: the name, and the login's where there is one."""
    login = _login(actor)
    return {actor.name} if login is None else {actor.name, login.removeprefix(COMMAND_LINE).lower()}


def _same_person(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


def _plan_state(row: asyncpg.Record, now: datetime) -> PlanState:
    if row["operation_id"] is not None:
        return PlanState.EXECUTED
    if row["expires_at"] <= now:
        return PlanState.EXPIRED
    if row["needs_two"] and row["approved_by"] is None:
        return PlanState.NEEDS_APPROVAL
    return PlanState.READY


async def _operation(connection: asyncpg.Connection, row: asyncpg.Record, actor: Actor) -> Operation:
    state, action = OperationState(row["state"]), Action(row["action"])
    counts = await replays_table.progress(connection, row["operation_id"], row["canary"])
    at_once = action in {Action.DISCARD, Action.RESTORE}
    return Operation(
        operation_id=row["operation_id"],
        action=action,
        state=state,
        actor=row["actor"],
        approved_by=row["approved_by"],
        reason=row["reason"],
        filter=views.asked(row["filter"], actor),
        pace=ReplayPace(row["canary"], row["rate"], row["stop_ratio"]),
        total=row["total"],
        ordered=counts["ordered"],
        published=counts["published"],
        resolved=row["total"] if at_once else counts["resolved"],
        failed=counts["failed"],
        cancelled=counts["cancelled"],
        standing=row["standing"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )
