"""What was sent against what was found: sets of numbers, never counts, because repeats can fill a count."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.demo.plan import Account, Answer, Plan, Sending
from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.events import EntryView
from wallet_schemas.money import to_minor, to_text
from wallet_schemas.values import Direction, OrderStatus

SHOWN_MAX: Final = 5  # numbers named in a complaint; the rest is counted


@dataclass(slots=True)
class Found:
    """What the world was told, and what the wallet holds, when all is quiet.

    `answers` goes by the label of what was sent; `dead_letters` counts pairs of the number that a letter is
    about and its reason; `commands` are the serial numbers that the wallet remembers; `orders` goes by serial
    number, `late` are those of them that are marked so; `balances_minor` and `reserved_minor` go by user and currency.
    `differences` is what reconciliation found: serial numbers, each with what is different.
    """

    answers: dict[str, Outcome] = field(default_factory=dict)
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    commands: frozenset[str] = frozenset()
    orders: Mapping[str, OrderStatus] = field(default_factory=dict)
    late: frozenset[str] = frozenset()
    balances_minor: Mapping[tuple[str, str], int] = field(default_factory=dict)
    reserved_minor: Mapping[tuple[str, str], int] = field(default_factory=dict)
    differences: frozenset[tuple[str, str]] = frozenset()
    reconciled: Mapping[str, int] = field(default_factory=dict)  # how many payments came out how


def complaints(plan: Plan, found: Found) -> list[str]:
    """Return what is not as it must be, in sentences; none if everything sent is accounted for."""
    return [
        sentence
        for sentence in (
            *_lost(plan, found),
            *_wrong_answers(plan, found),
            *_wrong_memory(plan, found),
            *_wrong_letters(plan, found),
            *_wrong_orders(plan, found),
            *_wrong_balances(plan, found),
            *_wrong_books(plan, found),
        )
        if sentence
    ]


def unaccounted(plan: Plan, found: Found) -> set[str]:
    """Return the labels of what was sent, and has neither an answer nor a dead letter.

    The gateway's dead letters go by the numbers of commands too, and account for no command.
    """
    set_aside = {number for number, _ in _letters_found(plan, found) - _wanted_letters(plan)}
    letters = {number for number, _ in found.dead_letters}
    return {
        item.label
        for item in plan
        if item.label not in found.answers
        and (item.label not in letters if item.command is None else item.command.serial_no not in set_aside)
    }


def statement_faults(entries: Sequence[EntryView]) -> list[str]:
    """Return where a whole statement, from its first line on, is not without gaps, or does not add up."""
    faults = []
    after_minor = 0
    for expected_no, entry in enumerate(entries, 1):
        amount_minor, before_minor, next_minor = (
            to_minor(text, entry.currency)
            for text in (entry.amount, entry.balance_before, entry.balance_after)
        )
        signed_minor = amount_minor if entry.direction is Direction.CREDIT else -amount_minor
        if entry.line_no != expected_no:
            faults.append(f"line {entry.line_no} stands where line {expected_no} should")
        if before_minor != after_minor:
            faults.append(f"line {entry.line_no} begins with another balance than the line before it left")
        if next_minor != before_minor + signed_minor:
            faults.append(f"line {entry.line_no} does not add up")
        after_minor = next_minor
    return faults


def _lost(plan: Plan, found: Found) -> Iterable[str]:
    yield _sentence("sent, and neither answered nor a dead letter", unaccounted(plan, found))
    yield _sentence("answered, and never sent", found.answers.keys() - {item.label for item in plan})


def _wrong_answers(plan: Plan, found: Found) -> Iterable[str]:
    answered = [(item, found.answers[item.label]) for item in plan if item.label in found.answers]
    yield _sentence(
        "answered otherwise than they must be",
        [
            f"{each.label} with {outcome.code.value}"
            for each, outcome in answered
            if _answer(outcome) != each.answer
        ],
    )
    yield _sentence(
        "repeated with another outcome than the first time",
        [each.label for each, outcome in answered if not _is_same(each, outcome, found)],
    )


def _answer(outcome: Outcome) -> Answer:
    return Answer(outcome.code, outcome.duplicate, tuple(outcome.different or ()))


def _is_same(sending: Sending, outcome: Outcome, found: Found) -> bool:
    first = found.answers.get(sending.repeats) if sending.repeats else None
    return first is None or outcome == first.model_copy(update={"duplicate": True})


def _wrong_memory(plan: Plan, found: Found) -> Iterable[str]:
    """Whatever was answered with an outcome of its own must be remembered, and nothing else."""
    wanted = {
        item.command.serial_no
        for item in plan
        if item.command is not None
        and item.answer is not None
        and item.answer.code is not Code.SERIAL_CONFLICT
    }
    yield _sentence("forgotten by the wallet", wanted - found.commands)
    yield _sentence("remembered by the wallet, and never sent", found.commands - wanted)


def _wrong_letters(plan: Plan, found: Found) -> Iterable[str]:
    wanted, there = _wanted_letters(plan), _letters_found(plan, found)
    yield _sentence("missing among the dead letters", _letters(wanted - there))
    yield _sentence("among the dead letters for no good reason", _letters(there - wanted))


def _letters_found(plan: Plan, found: Found) -> Counter[tuple[str, str]]:
    """Return the dead letters, and of those that the gateway insists on one, however often it was asked."""
    insisted = {(number, code.value) for number, code in plan.insisted}
    return Counter(
        {
            letter: min(times, 1) if letter in insisted else times
            for letter, times in found.dead_letters.items()
        }
    )


def _wanted_letters(plan: Plan) -> Counter[tuple[str, str]]:
    return Counter({(number, code.value): times for (number, code), times in plan.dead_letters.items()})


def _letters(letters: Counter[tuple[str, str]]) -> list[str]:
    return [f"{number} ({reason})" for number, reason in letters.elements()]


def _wrong_orders(plan: Plan, found: Found) -> Iterable[str]:
    wanted = {item.label: item.fate for item in plan if item.fate is not None}
    yield _sentence("accepted, and no order", wanted.keys() - found.orders.keys())
    yield _sentence("orders that nobody asked for", found.orders.keys() - wanted.keys())
    yield _sentence(
        "orders that ended otherwise than they must",
        [
            f"{serial_no} ({found.orders[serial_no].value}, not {fate.status.value})"
            for serial_no, fate in wanted.items()
            if serial_no in found.orders and found.orders[serial_no] not in fate.statuses
        ],
    )
    yield _sentence(
        "paid late, and not marked so",
        {serial_no for serial_no, fate in wanted.items() if fate.is_late and serial_no in found.orders}
        - found.late,
    )


def _wrong_balances(plan: Plan, found: Found) -> Iterable[str]:
    wanted = plan.balances_minor
    yield _sentence(
        "accounts that should be there", map(" ".join, wanted.keys() - found.balances_minor.keys())
    )
    yield _sentence("accounts that nobody opened", map(" ".join, found.balances_minor.keys() - wanted.keys()))
    yield _sentence(
        "accounts with another balance than they must have", _unequal(wanted, found.balances_minor)
    )
    yield _sentence(
        "accounts with another reserve than they must have",
        _unequal(plan.reserved_minor, found.reserved_minor),
    )


def _unequal(wanted: Mapping[Account, int], found: Mapping[Account, int]) -> list[str]:
    return [
        f"{user_id} has {to_text(found[user_id, currency], currency)} {currency}, not {to_text(minor, currency)}"
        for (user_id, currency), minor in wanted.items()
        if found.get((user_id, currency), minor) != minor
    ]


def _wrong_books(plan: Plan, found: Found) -> Iterable[str]:
    yield _sentence(
        "differences from the gateway's books that nothing explains",
        [f"{number} ({what})" for number, what in found.differences - plan.differences],
    )
    yield _sentence(
        "differences from the gateway's books that were not found",
        [f"{number} ({what})" for number, what in plan.differences - found.differences],
    )


def _sentence(what: str, which: Iterable[str]) -> str:
    """Return the complaint as one sentence, empty if there is nothing to complain of."""
    named: Collection[str] = sorted(which)
    if not named:
        return ""
    more = f" and {len(named) - SHOWN_MAX:,} more" if len(named) > SHOWN_MAX else ""
    return f"{len(named):,} {what}: {', '.join(list(named)[:SHOWN_MAX])}{more}"
