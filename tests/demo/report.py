"""What the person sees in the end: what became of everything, and whether it is as it must be."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tests.demo.accounting import unaccounted
from tests.demo.plan import Act, AnyCommand, Plan
from tests.demo.screen import table
from tests.demo.story import IN_FLIGHT, Seen
from wallet_schemas.codes import Code
from wallet_schemas.events import EntryView
from wallet_schemas.money import to_text
from wallet_schemas.values import OrderStatus

LINES_FIRST: Final = 3
LINES_LAST: Final = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether all is well: each list is empty where it is."""

    complaints: Sequence[str]
    statement_faults: Sequence[str]
    audit_status: int
    audit_said: str

    @property
    def exit_status(self) -> int:
        """The audit's own where that is not 0; else 1 if there is anything to complain of."""
        return self.audit_status or int(bool(self.complaints or self.statement_faults))


def details(plan: Plan, seen: Seen, verdict: Verdict) -> Iterator[RenderableType]:
    """Give the tables, from one account to the whole."""
    account = seen.account
    yield _title(
        f"The statement of {account.user_id}: {account.account_no}, {account.currency}, {account.balance}"
    )
    yield _statement(seen.entries)
    yield _title("Outcomes of the commands")
    yield _answers(seen)
    yield _title("Orders by status")
    yield _orders(plan, seen)
    yield _title("The gateway's books: `wallet reconcile`")
    yield _books(plan, seen)
    yield _title("Dead letters: rejected messages, kept until an operator decides")
    yield _dead_letters(seen)
    yield _title("The audit: `wallet audit`")
    yield Padding(Text(verdict.audit_said), (0, 0, 1, 2))


def summary(plan: Plan, seen: Seen, verdict: Verdict) -> Iterator[RenderableType]:
    """Give what a newcomer needs, on one screen."""
    yield _title("In short")
    facts = Table(box=None, show_header=False, padding=(0, 0, 0, 2), pad_edge=True)
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column()
    for name, text in _facts(plan, seen):
        facts.add_row(name, text)
    yield facts
    yield Text()
    sent, missing = sum(1 for _ in plan), len(unaccounted(plan, seen.found))
    yield from _judgement(
        f"all {sent:,} messages are accounted for",
        f"{sent - missing:,} of {sent:,} messages are accounted for; found wrong:",
        verdict.complaints,
    )
    yield from _judgement(
        f"the statement of {seen.account.user_id}: {len(seen.entries):,} lines, no gaps, every balance follows",
        f"the statement of {seen.account.user_id} has faults:",
        verdict.statement_faults,
    )
    yield from _judgement(
        f"gateway's books: {seen.found.reconciled.get('matched', 0):,} payments match, every difference is explained",
        "the gateway's books differ without an explanation:",
        [f"{number}: {what}" for number, what in sorted(seen.found.differences ^ plan.differences)],
    )
    yield from _judgement(
        "the audit is clean",
        "the audit is not clean:",
        [f"it ended with status {verdict.audit_status}"] if verdict.audit_status else [],
    )


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _judgement(good: str, bad: str, faults: Sequence[str]) -> Iterator[RenderableType]:
    """Give one line with a mark, and below it what is wrong, if anything is."""
    if not faults:
        yield Text.assemble(("  [ok]    ", "bold green"), good)
        return
    yield Text.assemble(("  [WRONG] ", "bold red"), bad)
    for fault in faults:
        yield Padding(Text(fault, style="red"), (0, 0, 0, 10))


def _facts(plan: Plan, seen: Seen) -> Iterator[tuple[str, str]]:
    sent, answered = sum(1 for _ in plan), len(seen.found.answers)
    phases = [seen.phases[act] for act in Act]
    yield "sent", f"{sent:,} messages: {answered:,} commands, {sent - answered:,} malformed on purpose"
    kinds = sum((phase.counts for phase in phases), Counter[str]())
    yield "answered", _counts(kinds, "applied", "refused", "repeated", "conflicts")
    commands = answered / sum(phase.seconds for phase in phases)
    settled = seen.settled_meanwhile / seen.phases[Act.RECHARGE].seconds
    payments = f", and {settled:,.0f} payments a second meanwhile" if settled else ""
    yield "speed", f"{commands:,.0f} commands a second{payments}"
    half, nearly_all = (_quantile(seen.latencies_seconds, share) for share in (0.5, 0.99))
    yield "latency", f"median {half}, p99 {nearly_all}, with {IN_FLIGHT} commands at once"
    statuses = Counter(status.value for status in seen.found.orders.values())
    yield "orders", _counts(statuses, *(status.value for status in OrderStatus if statuses[status.value]))
    yield "dead letters", f"{seen.found.dead_letters.total():,}, each with its reason"
    money: Counter[str] = Counter()
    for (_, currency), minor in seen.found.balances_minor.items():
        money[currency] += minor
    amounts = (f"{_grouped(minor, currency)} {currency}" for currency, minor in sorted(money.items()))
    yield "accounts", f"{len(seen.found.balances_minor):,}, with {', '.join(amounts)}"


def _statement(entries: Sequence[EntryView]) -> Table:
    numbers = ("line", "amount", "balance before", "balance after")
    made = table("line", "time", "what", "amount", "balance before", "balance after", numbers=numbers)
    left_out = len(entries) - LINES_FIRST - LINES_LAST
    for entry in entries if left_out <= 1 else entries[:LINES_FIRST]:
        made.add_row(*_line(entry))
    if left_out > 1:
        made.add_row("...", f"{left_out:,} more", style="dim")
        for entry in entries[-LINES_LAST:]:
            made.add_row(*_line(entry))
    return made


def _line(entry: EntryView) -> tuple[str, ...]:
    return (
        str(entry.line_no),
        f"{entry.created_at:%H:%M:%S.%f}"[:-3],
        f"{entry.order_type.value}, {entry.direction.value}",
        entry.amount,
        entry.balance_before,
        entry.balance_after,
    )


def _answers(seen: Seen) -> Table:
    made = table("code", "how many", "that is", numbers=("how many",))
    codes = Counter(outcome.code for outcome in seen.found.answers.values() if not outcome.duplicate)
    for code in Code:
        if codes[code]:
            made.add_row(code.value, f"{codes[code]:,}", code.meaning)
    repeated = sum(outcome.duplicate for outcome in seen.found.answers.values())
    made.add_row("(a repeat)", f"{repeated:,}", "the stored outcome again; nothing moved")
    return made


def _orders(plan: Plan, seen: Seen) -> Table:
    made = table("order", "status", "how many", "because", numbers=("how many",))
    types = {item.label: _type(item.command) for item in plan if item.command is not None and item.fate}
    stand = Counter(
        (types.get(serial_no, "unknown"), status) for serial_no, status in seen.found.orders.items()
    )
    for (order_type, status), number in sorted(stand.items()):
        made.add_row(order_type, status.value, f"{number:,}", _WHY.get((order_type, status), ""))
    made.add_row("", "(late)", f"{len(seen.found.late):,}", "credited after they had ended without it")
    return made


def _type(command: AnyCommand) -> str:
    """Return what is ordered: of `order.recharge.v1`, recharge."""
    return command.type.split(".")[1]


_WHY: Final[Mapping[tuple[str, OrderStatus], str]] = {
    ("recharge", OrderStatus.SUCCEEDED): "the gateway collected the money; credited once",
    ("recharge", OrderStatus.FAILED): "the gateway declined the payment",
    ("recharge", OrderStatus.EXPIRED): "no valid result before the order expired",
    ("recharge", OrderStatus.CANCELLED): "cancelled by its sender before anybody had paid",
    ("withdraw", OrderStatus.SUCCEEDED): "the gateway paid out; debited once",
    ("withdraw", OrderStatus.FAILED): "the gateway did not pay; reserve released",
    (
        "withdraw",
        OrderStatus.PENDING,
    ): "the gateway has no result or a wrong one: reserved until it reports",
    ("refund", OrderStatus.SUCCEEDED): "the gateway returned the money; debited once",
    ("refund", OrderStatus.FAILED): "the gateway did not return it; reserve released",
    ("refund", OrderStatus.PENDING): "the gateway has no result or a wrong one: reserved until it reports",
    ("transfer", OrderStatus.SUCCEEDED): "debited and credited at once",
    ("hold", OrderStatus.ACTIVE): "a part is captured, the rest is still held",
    ("hold", OrderStatus.CAPTURED): "captured completely",
    ("hold", OrderStatus.RELEASED): "released; the rest is available again",
    ("hold", OrderStatus.EXPIRED): "expired; the rest is available again",
    ("capture", OrderStatus.SUCCEEDED): "moved from a hold to the payee",
    ("release", OrderStatus.SUCCEEDED): "released a hold",
}


def _books(plan: Plan, seen: Seen) -> Table:
    made = table("what", "how many", "that is", numbers=("how many",))
    explained = Counter(what for _, what in plan.differences)
    for what, number in seen.found.reconciled.items():
        if number:
            meaning = (
                "gateway and wallet agree"
                if what == "matched"
                else f"{explained[what]:,} made on purpose by the simulator"
            )
            made.add_row(what, f"{number:,}", meaning)
    return made


def _dead_letters(seen: Seen) -> Table:
    made = table("reason", "how many", "that is", numbers=("how many",))
    reasons: Counter[str] = Counter()
    for (_, reason), number in seen.found.dead_letters.items():
        reasons[reason] += number
    known = {code.value: code.meaning for code in Code}
    for reason, number in reasons.most_common():
        made.add_row(reason, f"{number:,}", known.get(reason, ""))
    return made


def _counts(counts: Mapping[str, int], *names: str) -> str:
    return ", ".join(f"{counts.get(name, 0):,} {name}" for name in names)


def _quantile(sorted_seconds: Sequence[float], share: float) -> str:
    """Return within how many milliseconds that share of all was."""
    if not sorted_seconds:
        return "-"
    seconds = sorted_seconds[min(int(share * len(sorted_seconds)), len(sorted_seconds) - 1)]
    return f"{seconds * 1000:,.0f} ms"


def _grouped(minor: int, currency: str) -> str:
    whole, point, fraction = to_text(minor, currency).partition(".")
    return f"{int(whole):,}{point}{fraction}"
