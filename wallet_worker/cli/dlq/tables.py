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
from wallet_worker.dead_letters.model.states import PlanState

_BARS = " ▁▂▃▄▅▆▇█"
_RAW_SHOWN = 2_000


def tell_letters(letters: Iterable[LetterSummary]) -> None:
    """Print a line for each letter."""
    terminal.tell_table(
        "dead letters",
        ("letter", "state", "reason", "source", "type", "serial", "user", "arrived", "replays"),
        (
            (
                str(one.letter_id),
                one.state.value,
                one.reason,
                one.source,
                one.message_type or "?",
                one.serial_no or "?",
                one.user_id or "?",
                time(one.arrived_at),
                str(one.replays),
            )
            for one in letters
        ),
        right=("letter", "replays"),
    )


def tell_groups(groups: Iterable[Group]) -> None:
    """Print a line for each group, with its arrivals over the requested hours."""
    terminal.tell_table(
        "dead letters by reason and source",
        ("reason", "source", "waiting", "all", "first seen", "last seen", "up to", "arrivals"),
        (
            (
                one.reason,
                one.source,
                f"{one.waiting:,}",
                f"{one.count:,}",
                time(one.first_seen),
                time(one.last_seen),
                str(one.seen_up_to),
                bars(one.series),
            )
            for one in groups
        ),
        right=("waiting", "all", "up to"),
    )


def bars(series: Iterable[int]) -> str:
    """Return a chart of one line."""
    counts = list(series)
    most = max(counts, default=0)
    return "".join(_BARS[-(-one * (len(_BARS) - 1) // most) if most else 0] for one in counts)


def tell_overview(found: Overview) -> None:
    """Print counts, ages, keepers and running operations."""
    rows = [(state.value, f"{count:,}") for state, count in found.states.items()]
    rows += [(f"queue {name}", f"{depth:,}") for name, depth in found.depths.items()]
    rows += [
        ("oldest that waits", time(found.oldest_waiting)),
        ("last arrival", time(found.last_arrival)),
        ("keeper", f"{found.keeper_standing} ({time(found.keeper_seen)})".removesuffix(" ()")),
        ("operations at work", str(found.running)),
        ("plans that need a second person", str(found.awaiting_approval)),
    ]
    terminal.tell_pairs("dead letters", rows)


def tell_letter(found: LetterDetail) -> None:
    """Print everything about a letter."""
    whole, line = found.whole, found.whole.line
    rows = [
        ("state", line.state.value),
        ("reason", f"{line.reason}: {found.runbook.meaning}"),
        ("detail", line.detail),
        ("what is safe", found.runbook.safe),
        ("whom to ask", found.runbook.ask),
        ("a replay now", f"{found.prediction.label}: {found.prediction.detail}".removesuffix(": ")),
        ("source", line.source),
        ("published to", _address(whole)),
        ("type", line.message_type or "?"),
        ("serial number", (line.serial_no or "?") + _others(found.same_number)),
        ("user", line.user_id or "?"),
        ("first seen", time(line.first_seen)),
        ("arrived", time(line.arrived_at)),
        ("attempts", str(line.attempts)),
        ("worker", whole.worker or "?"),
        ("trace", whole.trace_id or "?"),
    ]
    rows += [("sent in the place of letter", str(whole.edit_of))] if whole.edit_of else []
    terminal.tell_pairs(f"letter {line.letter_id}", rows)
    _tell_truth(found)
    terminal.tell_pairs("properties", whole.properties.items())
    terminal.tell_pairs("headers", whole.headers.items())
    _tell_past(found)
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


def _tell_truth(found: LetterDetail) -> None:
    truth = found.truth
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
        ("gateway", f"{one.status} {one.amount} {one.currency}, {one.gateway_ref}: {one.code}")
        for one in truth.results
    ]
    terminal.tell_pairs("what the wallet knows", rows or [("", "nothing under this number")])


def _tell_past(found: LetterDetail) -> None:
    terminal.tell_table(
        "attempts",
        ("arrived", "reason", "detail", "worker", "replay"),
        (
            (
                time(one.arrived_at),
                one.reason,
                one.detail,
                one.worker or "?",
                str(one.replay_id) if one.replay_id else "",
            )
            for one in found.attempts
        ),
    )
    if found.replays:
        terminal.tell_table(
            "replays",
            ("number", "state", "code", "predicted", "ordered", "published", "ended", "operation"),
            (
                (
                    str(one.number),
                    one.state.value,
                    one.code,
                    one.predicted.label,
                    time(one.ordered_at),
                    time(one.published_at),
                    time(one.ended_at),
                    str(one.operation_id),
                )
                for one in found.replays
            ),
        )
    if found.audit:
        tell_audit(found.audit)


def tell_plan(plan: Plan) -> None:
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
    terminal.tell_pairs(f"plan: {plan.action.value}", rows)
    if plan.differences:
        terminal.tell_table(
            "differences",
            ("field", "before", "after"),
            ((one.field, one.before or "", one.after or "") for one in plan.differences),
        )
    terminal.tell_table(
        "what a replay would do now",
        ("letters", "prediction"),
        ((f"{count:,}", prediction.label) for prediction, count in plan.counts),
        right=("letters",),
    )
    terminal.tell_table(
        "some of them",
        ("letter", "serial", "prediction"),
        ((str(one.letter_id), one.serial_no or "?", one.prediction.label) for one in plan.sample),
        right=("letter",),
    )
    if plan.state is PlanState.NEEDS_APPROVAL:
        terminal.print_status(
            f"a second person must approve, in the console or: wallet dlq approve {plan.token} --why …"
        )
    if plan.state in {PlanState.READY, PlanState.NEEDS_APPROVAL}:
        terminal.print_status(
            f"nothing is done yet; to do it: wallet dlq {plan.action.value} --execute {plan.token}"
        )


def tell_operation(one: Operation) -> None:
    """Print the progress of an operation."""
    rows = [
        ("state", one.state.value),
        ("where it stands", one.standing),
        ("who", one.actor + (f", approved by {one.approved_by}" if one.approved_by else "")),
        ("which", _target(one.filter)),
        ("why", one.reason),
        ("letters", f"{one.total:,}"),
        ("not published yet", f"{one.ordered:,}"),
        ("waiting for the outcome", f"{one.published:,}"),
        ("resolved", f"{one.resolved:,}"),
        ("failed", f"{one.failed:,}"),
        ("cancelled", f"{one.cancelled:,}"),
        ("started", time(one.started_at)),
        ("ended", time(one.ended_at)),
    ]
    terminal.tell_pairs(f"operation {one.operation_id}: {one.action.value}", rows)


def tell_operations(operations: Iterable[Operation]) -> None:
    """Print a line for each operation."""
    terminal.tell_table(
        "operations",
        ("operation", "what", "state", "who", "why", "letters", "resolved", "failed", "started"),
        (
            (
                str(one.operation_id),
                one.action.value,
                one.state.value,
                one.actor,
                one.reason,
                f"{one.total:,}",
                f"{one.resolved:,}",
                f"{one.failed:,}",
                time(one.started_at),
            )
            for one in operations
        ),
        right=("letters", "resolved", "failed"),
    )


def tell_audit(rows: Iterable[AuditRow]) -> None:
    """Print a line for each audit entry."""
    terminal.tell_table(
        "audit",
        ("at", "who", "via", "what", "letter", "operation", "why"),
        (
            (
                time(one.at),
                f"{one.actor} ({one.role})",
                one.via,
                one.action,
                str(one.letter_id or ""),
                str(one.operation_id or ""),
                one.reason,
            )
            for one in rows
        ),
        right=("letter",),
    )


def tell_runbook(lines: Iterable[RunbookLine]) -> None:
    """Print the runbook's line of each reason."""
    terminal.tell_table(
        "runbook",
        ("reason", "what it means", "when", "what is safe", "whom to ask"),
        ((one.reason, one.meaning, one.when, one.safe, one.ask) for one in lines),
    )


def _target(which: Filter) -> str:
    """Return what was asked for, in words."""
    names = {"ids": "letters", "states": "state", "since": "from", "until": "before"}
    said = (f"{names.get(name, name.replace('_', ' '))} {value}" for name, value in which.to_query().items())
    return ", ".join(said) or "every letter"


def time(value: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
