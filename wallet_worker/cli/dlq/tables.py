"""Letters, plans, operations and the audit as tables, or as JSON with every field that they have."""

from collections.abc import Iterable
from datetime import UTC, datetime

from wallet_worker.cli import terminal
from wallet_worker.dead_letters.model.audit_log import AuditRow
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.json import document as document  # noqa: PLC0414 -- its callers show with it
from wallet_worker.dead_letters.model.letters import (
    Group,
    LetterContent,
    LetterDetail,
    LetterSummary,
    Overview,
    RunbookLine,
)
from wallet_worker.dead_letters.model.plans import Operation, Plan
from wallet_worker.dead_letters.model.states import Action, OperationState, PlanState

_BARS = " ▁▂▃▄▅▆▇█"
_RAW_SHOWN = 2_000


def print_letters(letters: Iterable[LetterSummary]) -> None:
    """Print a line for each letter."""
    terminal.print_table(
        "dead letters",
        ("letter", "state", "reason", "source", "type", "serial", "user", "arrived", "replays"),
        (
            (
                str(letter.letter_id),
                letter.state.value,
                letter.reason,
                letter.source,
                letter.message_type or "?",
                letter.serial_no or "?",
                letter.user_id or "?",
                time(letter.arrived_at),
                str(letter.replays),
            )
            for letter in letters
        ),
        right=("letter", "replays"),
    )


def print_groups(groups: Iterable[Group]) -> None:
    """Print a line for each group, with its arrivals over the requested hours."""
    terminal.print_table(
        "dead letters by reason and source",
        ("reason", "source", "waiting", "all", "first seen", "last seen", "up to", "arrivals"),
        (
            (
                group.reason,
                group.source,
                f"{group.waiting:,}",
                f"{group.count:,}",
                time(group.first_seen),
                time(group.last_seen),
                str(group.seen_up_to),
                bars(group.series),
            )
            for group in groups
        ),
        right=("waiting", "all", "up to"),
    )


def bars(series: Iterable[int]) -> str:
    """Return a chart of one line."""
    counts = list(series)
    most = max(counts, default=0)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most) if most else 0] for count in counts)


def print_overview(overview: Overview) -> None:
    """Print counts, ages, keepers and running operations."""
    rows = [(state.value, f"{count:,}") for state, count in overview.states.items()]
    rows += [(f"queue {name}", f"{depth:,}") for name, depth in overview.depths.items()]
    rows += [
        ("oldest that waits", time(overview.oldest_waiting)),
        ("last arrival", time(overview.last_arrival)),
        ("keeper", f"{overview.keeper_standing} ({time(overview.keeper_seen)})".removesuffix(" ()")),
        ("operations at work", str(overview.running)),
        ("plans that need a second person", str(overview.awaiting_approval)),
    ]
    terminal.print_pairs("dead letters", rows)


def print_letter(letter: LetterDetail) -> None:
    """Print everything about a letter."""
    whole, line = letter.whole, letter.whole.line
    rows = [
        ("state", line.state.value),
        ("reason", f"{line.reason}: {letter.runbook.meaning}"),
        ("detail", line.detail),
        ("what is safe", letter.runbook.safe),
        ("whom to ask", letter.runbook.ask),
        ("a replay now", f"{letter.prediction.label}: {letter.prediction.detail}".removesuffix(": ")),
        ("source", line.source),
        ("published to", _address(whole)),
        ("type", line.message_type or "?"),
        ("serial number", (line.serial_no or "?") + _others(letter.same_number)),
        ("user", line.user_id or "?"),
        ("first seen", time(line.first_seen)),
        ("arrived", time(line.arrived_at)),
        ("attempts", str(line.attempts)),
        ("worker", whole.worker or "?"),
        (
            "seal",
            "UNSEALED: nothing proves that a worker set it aside" if whole.seal == "unsealed" else whole.seal,
        ),
        ("trace", whole.trace_id or "?"),
    ]
    rows += [("sent in the place of letter", str(whole.edit_of))] if whole.edit_of else []
    terminal.print_pairs(f"letter {line.letter_id}", rows)
    _print_ledger_view(letter)
    terminal.print_pairs("properties", whole.properties.items())
    terminal.print_pairs("headers", whole.headers.items())
    _print_history(letter)
    terminal.print_result(f"payload, {whole.body_bytes:,} bytes:")
    if whole.pretty is not None:
        for text in whole.pretty.split("\n"):
            terminal.print_result(text)
    elif whole.body is not None:
        terminal.print_result(
            repr(whole.body[:_RAW_SHOWN])[2:-1] + ("…" if len(whole.body) > _RAW_SHOWN else "")
        )
    else:
        terminal.print_result("(for operators)")


def _others(letters: int) -> str:
    if letters == 1:
        return " (1 other letter has it)"
    return f" ({letters:,} other letters have it)" if letters else ""


def _address(whole: LetterContent) -> str:
    if whole.exchange is None:
        return "nobody knows"
    return f"{whole.exchange or 'the default exchange'}, routing key {whole.routing_key}"


def _print_ledger_view(letter: LetterDetail) -> None:
    truth = letter.truth
    rows: list[tuple[str, str]] = []
    if truth.outcome is not None:
        rows.append(("outcome", f"{truth.outcome['status']}, {truth.outcome['code']}"))
    if truth.order is not None:
        order = truth.order
        rows.append(("order", f"{order.order_type} {order.amount} {order.currency}, {order.status}"))
    if truth.account is not None:
        account = truth.account
        rows.append(
            (
                "account",
                (
                    f"{account.account_no} of {account.user_id}, {account.status}: "
                    f"{account.balance} {account.currency}, {account.available} available"
                ),
            )
        )
    rows += [
        ("gateway", f"{result.status} {result.amount} {result.currency}, {result.gateway_ref}: {result.code}")
        for result in truth.results
    ]
    terminal.print_pairs("what the wallet knows", rows or [("", "nothing under this number")])


def _print_history(letter: LetterDetail) -> None:
    terminal.print_table(
        "attempts",
        ("arrived", "reason", "detail", "worker", "replay"),
        (
            (
                time(attempt.arrived_at),
                attempt.reason,
                attempt.detail,
                attempt.worker or "?",
                str(attempt.replay_id) if attempt.replay_id else "",
            )
            for attempt in letter.attempts
        ),
    )
    if letter.replays:
        terminal.print_table(
            "replays",
            ("number", "state", "code", "predicted", "ordered", "published", "ended", "operation"),
            (
                (
                    str(replay.number),
                    replay.state.value,
                    replay.code,
                    replay.predicted.label,
                    time(replay.ordered_at),
                    time(replay.published_at),
                    time(replay.ended_at),
                    str(replay.operation_id),
                )
                for replay in letter.replays
            ),
        )
    if letter.audit:
        print_audit(letter.audit)


def print_plan(plan: Plan) -> None:
    """Print what a plan would do, and how to execute it."""
    rows = [
        ("token", plan.token),
        ("state", plan.state.value),
        (
            "letters",
            f"{plan.total:,}" + (f", and {plan.skipped:,} more that it does not fit" if plan.skipped else ""),
        ),
        ("now", ", ".join(f"{count:,} {state.value}" for state, count in plan.states)),
        ("which", _target(plan.filter)),
        ("why", plan.reason),
        ("made by", f"{plan.made_by} at {time(plan.made_at)}"),
        ("until", time(plan.expires_at)),
    ]
    rows += [("approved by", plan.approved_by)] if plan.approved_by else []
    rows += [("operation", str(plan.operation_id))] if plan.operation_id else []
    if plan.action.value == "replay":
        canary = f"{plan.pace.canary:,} first, " if plan.pace.canary else ""
        rows.append(
            (
                "pace",
                f"{canary}{plan.pace.rate_per_second:g} a second, stops above {plan.pace.stop_ratio:.0%} failures",
            )
        )
    terminal.print_pairs(f"plan: {plan.action.value}", rows)
    if plan.differences:
        terminal.print_table(
            "differences",
            ("field", "before", "after"),
            ((change.field, change.before or "", change.after or "") for change in plan.differences),
        )
    terminal.print_table(
        "what a replay would do now",
        ("letters", "prediction"),
        ((f"{count:,}", prediction.label) for prediction, count in plan.counts),
        right=("letters",),
    )
    terminal.print_table(
        "some of them",
        ("letter", "serial", "prediction"),
        (
            (str(planned.letter_id), planned.serial_no or "?", planned.prediction.label)
            for planned in plan.sample
        ),
        right=("letter",),
    )
    if plan.state is PlanState.NEEDS_SIGNATURE:
        terminal.print_status(
            f"it needs two people: sign it, in the console or: wallet dlq sign {plan.token} --key FILE"
        )
    if plan.state is PlanState.NEEDS_APPROVAL:
        terminal.print_status(
            "a second person must approve, in the console or: "
            f"wallet dlq approve {plan.token} --key FILE --why …"
        )
    if plan.state in _OPEN and plan.is_hopeless:
        terminal.print_status(
            "every letter of it is predicted to be a dead letter again: mend the cause first, and plan again"
        )
    if plan.state in _OPEN:
        terminal.print_status(
            f"nothing is done yet; to do it: wallet dlq {plan.action.value} --execute {plan.token}"
        )


_OPEN = {PlanState.READY, PlanState.NEEDS_SIGNATURE, PlanState.NEEDS_APPROVAL}
_RESOLVED = {Action.DISCARD: "discarded", Action.RESTORE: "wait again"}


def ending(operation: Operation) -> str:
    """Return where an operation stands: that every outcome is known does not mean success."""
    if operation.state is OperationState.DONE and operation.failed == operation.total:
        return "failed"
    badly = [
        f"{count:,} {what}"
        for count, what in (
            (operation.failed, "failed"),
            (operation.refused, "refused"),
            (operation.cancelled, "cancelled"),
        )
        if count
    ]
    return ", ".join([operation.state.value, *badly])


def print_operation(operation: Operation) -> None:
    """Print the progress of an operation."""
    rows = [
        ("state", ending(operation)),
        ("where it stands", operation.standing),
        (
            "who",
            operation.actor + (f", approved by {operation.approved_by}" if operation.approved_by else ""),
        ),
        ("which", _target(operation.filter)),
        ("why", operation.reason),
        ("letters", f"{operation.total:,}"),
        ("not published yet", f"{operation.ordered:,}"),
        ("waiting for the outcome", f"{operation.published:,}"),
        (_RESOLVED.get(operation.action, "outcome known"), f"{operation.resolved:,}"),
        ("of these refused", f"{operation.refused:,}"),
        ("failed", f"{operation.failed:,}"),
        ("cancelled", f"{operation.cancelled:,}"),
        ("started", time(operation.started_at)),
        ("ended", time(operation.ended_at)),
    ]
    terminal.print_pairs(f"operation {operation.operation_id}: {operation.action.value}", rows)


def print_operations(operations: Iterable[Operation]) -> None:
    """Print a line for each operation."""
    terminal.print_table(
        "operations",
        ("operation", "what", "state", "who", "why", "letters", "resolved", "failed", "started"),
        (
            (
                str(operation.operation_id),
                operation.action.value,
                ending(operation),
                operation.actor,
                operation.reason,
                f"{operation.total:,}",
                f"{operation.resolved:,}",
                f"{operation.failed:,}",
                time(operation.started_at),
            )
            for operation in operations
        ),
        right=("letters", "resolved", "failed"),
    )


def print_audit(rows: Iterable[AuditRow]) -> None:
    """Print a line for each audit entry."""
    terminal.print_table(
        "audit",
        ("at", "who", "via", "what", "letter", "operation", "why"),
        (
            (
                time(row.at),
                f"{row.actor} ({row.role})",
                row.via,
                row.action,
                str(row.letter_id or ""),
                str(row.operation_id or ""),
                row.reason,
            )
            for row in rows
        ),
        right=("letter",),
    )


def print_runbook(lines: Iterable[RunbookLine]) -> None:
    """Print the runbook's line of each reason."""
    terminal.print_table(
        "runbook",
        ("reason", "what it means", "when", "what is safe", "whom to ask"),
        ((line.reason, line.meaning, line.when, line.safe, line.ask) for line in lines),
    )


def _target(which: Filter) -> str:
    """Return what was asked for, in words."""
    names = {"ids": "letters", "states": "state", "since": "from", "until": "before"}
    words = (f"{names.get(name, name.replace('_', ' '))} {value}" for name, value in which.to_query().items())
    return ", ".join(words) or "every letter"


def time(value: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
