"""What the person sees in the end: what became of everything, and whether it is as it must be."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from schemas.codes import Code
from schemas.commands import Recharge
from schemas.events import EntryView
from schemas.money import to_text
from schemas.values import OrderStatus
from tests.demo.accounting import unaccounted
from tests.demo.plan import FATES, Act, Plan
from tests.demo.screen import table
from tests.demo.story import IN_FLIGHT, Seen

LINES_FIRST: Final = 3
LINES_LAST: Final = 5
BY_DESIGN: Final = "waits for the gateway: by design; expiry and asking come with a later release"


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
    yield _title("How the commands were answered")
    yield _answers(seen)
    yield _title("How the recharges stand")
    yield _orders(plan, seen)
    yield _title("The dead letters: they stay in their queue, and wait for an operator")
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
        f"{sent - missing:,} of {sent:,} messages are accounted for, and not all is as it must be:",
        verdict.complaints,
    )
    yield from _judgement(
        f"the statement of {seen.account.user_id}: {len(seen.entries):,} lines, no gaps, every balance follows",
        f"the statement of {seen.account.user_id} has faults:",
        verdict.statement_faults,
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
    yield "sent", f"{sent:,} messages: {answered:,} commands, {sent - answered:,} that are none"
    kinds = sum((phase.counts for phase in phases), Counter[str]())
    yield "answered", _told(kinds, "applied", "refused", "repeated", "conflicts")
    commands = answered / sum(phase.seconds for phase in phases)
    settled = seen.settled_meanwhile / seen.phases[Act.RECHARGE].seconds
    payments = f", and {settled:,.0f} payments a second meanwhile" if settled else ""
    yield "speed", f"{commands:,.0f} commands a second{payments}"
    half, nearly_all = (_quantile(seen.latencies_seconds, share) for share in (0.5, 0.99))
    yield "latency", f"half within {half}, 99 in 100 within {nearly_all}, {IN_FLIGHT} at once"
    statuses = Counter(status.value for status in seen.found.orders.values())
    yield "recharges", f"{_told(statuses, 'succeeded', 'failed', 'pending')} by design"
    yield "set aside", f"{seen.found.dead_letters.total():,} dead letters, each with its reason"
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
    made.add_row("(a repeat)", f"{repeated:,}", "the first answer once more, and nothing else done")
    return made


def _orders(plan: Plan, seen: Seen) -> Table:
    made = table("status", "how many", "because", numbers=("how many",))
    statuses = Counter(seen.found.orders.values())
    for status, why in _WHY.items():
        if statuses[status]:
            made.add_row(status.value, f"{statuses[status]:,}", why)
    channels = {
        one.command.serial_no: one.command.recharge_type
        for one in plan
        if isinstance(one.command, Recharge) and one.fate is not None
    }
    pending = Counter(
        channels.get(serial_no, "unknown")
        for serial_no, status in seen.found.orders.items()
        if status is OrderStatus.PENDING
    )
    for channel, number in sorted(pending.items()):
        made.add_row(
            "", f"{number:,}", f"{channel}: {_WAITS.get(channel, 'it should not wait')}", style="dim"
        )
    return made


_WHY: Final[Mapping[OrderStatus, str]] = {
    OrderStatus.SUCCEEDED: "the gateway collected the money; it was credited once",
    OrderStatus.FAILED: "the gateway declined",
    OrderStatus.EXPIRED: "the gateway did not answer in time",
    OrderStatus.PENDING: BY_DESIGN,
}
_WAITS: Final[Mapping[str, str]] = {
    mood.channel: "its result is a dead letter" if fate.dead_letter else "it never tells by itself"
    for mood, fate in FATES.items()
    if fate.waits
}


def _dead_letters(seen: Seen) -> Table:
    made = table("reason", "how many", "that is", numbers=("how many",))
    reasons: Counter[str] = Counter()
    for (_, reason), number in seen.found.dead_letters.items():
        reasons[reason] += number
    known = {code.value: code.meaning for code in Code}
    for reason, number in reasons.most_common():
        made.add_row(reason, f"{number:,}", known.get(reason, ""))
    return made


def _told(counts: Mapping[str, int], *names: str) -> str:
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
