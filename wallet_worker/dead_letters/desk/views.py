"""From the database's rows to what operators are shown; what a viewer may not see is masked here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.meanings import meaning_of
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.audit_log import AuditRow
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.letters import (
    Attempt,
    Group,
    LetterContent,
    LetterDetail,
    LetterSummary,
    Replay,
)
from wallet_worker.dead_letters.model.plans import Difference
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import LetterState, ReplayState
from wallet_worker.settings.operators import Role
from wallet_worker.store.dead_letters.audit import AuditRecord
from wallet_worker.store.dead_letters.letters import AttemptRow, GroupRow, LetterRow, WholeLetterRow
from wallet_worker.store.dead_letters.replays import ReplayRow


def line(row: LetterRow, actor: Actor) -> LetterSummary:
    """Return a letter as a line of a list."""
    masks = actor.role < Role.OPERATOR
    return LetterSummary(
        letter_id=row.letter_id,
        state=LetterState(row.state),
        reason=row.reason,
        detail=meaning_of(row.reason) if masks else row.detail,
        source=row.source,
        message_type=masking.masked_code(row.message_type) if masks else row.message_type,
        serial_no=row.serial_no,
        user_id=masking.masked(row.user_id) if masks else row.user_id,
        attempts=row.attempts,
        replays=row.replays,
        first_seen=row.first_seen,
        arrived_at=row.arrived_at,
        updated_at=row.updated_at,
    )


def whole(row: WholeLetterRow, actor: Actor) -> LetterContent:
    """Return a letter as it was taken in."""
    masks = actor.role < Role.OPERATOR
    properties, headers = masking.properties(row.properties)
    return LetterContent(
        line=line(row, actor),
        exchange=row.exchange,
        routing_key=masking.masked_code(row.routing_key) or "" if masks else row.routing_key,
        body=None if masks else row.body,
        body_bytes=len(row.body),
        pretty=masking.pretty(row.body, mask=masks),
        properties=dict.fromkeys(properties, masking.MASK) if masks else properties,
        headers=masking.masked_headers(headers) if masks else headers,
        worker=masking.masked_code(row.worker) if masks else row.worker,
        trace_id=masking.masked_code(row.trace_id) if masks else row.trace_id,
        edit_of=row.edit_of,
        seal=row.seal,
    )


def seen_by(actor: Actor, detail: LetterDetail) -> LetterDetail:
    """Return all about a letter as the actor may see it.

    What was said of its attempts, its replays and its prediction quotes the message: a viewer reads what the code
    means instead.
    """
    if actor.role >= Role.OPERATOR:
        return detail
    return replace(
        detail,
        attempts=tuple(
            replace(attempt, detail=meaning_of(attempt.reason), worker=masking.masked_code(attempt.worker))
            for attempt in detail.attempts
        ),
        replays=tuple(replace(replay, detail=_meaning(replay.code)) for replay in detail.replays),
        prediction=replace(detail.prediction, detail=_meaning(detail.prediction.code)),
    )


def _meaning(code: str) -> str:
    return "" if code in {"", "OK"} else meaning_of(code)


def group(row: GroupRow, buckets: int) -> Group:
    """Return a group with its arrivals in each of `buckets` stretches."""
    drawn = dict(zip(row.buckets, row.counts, strict=True))
    return Group(
        reason=row.reason,
        source=row.source,
        count=row.letters,
        waiting=row.waiting,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        series=tuple(drawn.get(number, 0) for number in range(1, buckets + 1)),
        seen_up_to=row.seen_up_to,
    )


def attempt(row: AttemptRow) -> Attempt:
    """Return one time that a message became a dead letter."""
    return Attempt(
        reason=row.reason,
        detail=row.detail,
        worker=row.worker,
        attempts=row.attempts,
        first_seen=row.first_seen,
        arrived_at=row.arrived_at,
        times=row.times,
        replay_id=row.replay_id,
    )


def replay(row: ReplayRow) -> Replay:
    """Return one replay."""
    return Replay(
        replay_id=row.replay_id,
        operation_id=row.operation_id,
        number=row.number,
        is_edit=row.is_edit,
        state=ReplayState(row.state),
        predicted=Prediction(PredictedOutcome(row.verdict), row.verdict_code),
        code=row.code,
        detail=row.detail,
        serial_no=row.serial_no,
        ordered_at=row.ordered_at,
        published_at=row.published_at,
        ended_at=row.ended_at,
    )


def filter_of(query: Mapping[str, str], actor: Actor) -> Filter:
    """Return the filter of a plan or operation."""
    which = Filter.from_query(query)
    return which if actor.role >= Role.OPERATOR else replace(which, user_id=masking.masked(which.user_id))


def differences(changes: Sequence[Mapping[str, Any]], actor: Actor) -> tuple[Difference, ...]:
    """Return what an edit changes; a viewer sees which fields."""
    given = [Difference(**change) for change in changes]
    if actor.role >= Role.OPERATOR:
        return tuple(given)
    names = masking.masked_names(change.field for change in given)
    return tuple(
        Difference(
            name,
            masking.masked_member(difference.field, difference.before),
            masking.masked_member(difference.field, difference.after),
        )
        for name, difference in zip(names, given, strict=True)
    )


def audit_row(row: AuditRecord, actor: Actor) -> AuditRow:
    """Return one row of the audit."""
    return AuditRow(
        audit_id=row.audit_id,
        at=row.at,
        actor=row.actor,
        role=row.role,
        via=row.via,
        action=row.action,
        reason=row.reason,
        letter_id=row.letter_id,
        operation_id=row.operation_id,
        detail=_detail(row.detail, actor),
    )


def _detail(detail: dict[str, Any], actor: Actor) -> dict[str, Any]:
    match detail:
        case {"filter": {"user_id": str(user_id)}} if actor.role < Role.OPERATOR:
            return detail | {"filter": detail["filter"] | {"user_id": masking.masked(user_id)}}
        case {"user_id": str(user_id)} if actor.role < Role.OPERATOR:
            return detail | {"user_id": masking.masked(user_id)}
        case _:
            return detail
