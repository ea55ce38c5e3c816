"""What the demo sends, drawn from a seed, and what must become of each message."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate, count, cycle, islice
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from payment_simulator.moods import TABLE, Mood, asked_for_by
from schemas.codes import Code
from schemas.commands import OpenAccount, Recharge
from schemas.encode import encode
from schemas.money import to_minor, to_text
from schemas.names import BODY_BYTES_MAX
from schemas.values import OrderStatus, PaymentKind

CURRENCIES: Final = {"TWD": 40, "USD": 25, "EUR": 15, "JPY": 12, "KWD": 8}  # and their shares, in per cent
ORDINARY_CHANNELS: Final = ("card", "bank_transfer", "convenience_store")
SANDBOX_SHARE: Final = 0.1  # of all recharges; the moods take turns, so that each is met
AMOUNT_MINOR_MAX: Final = 500_000
SECOND_ACCOUNT_EVERY: Final = 5  # one account in five is the second one of a user, in another currency
MISTAKES_EVERY: Final = 100  # one round of mistakes for so many accounts, and one at least


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a recharge, in a wallet that keeps the contract and never asks the gateway."""

    status: OrderStatus
    dead_letter: Code | None = None

    @property
    def waits(self) -> bool:
        """Whether no result that the wallet believes ever comes by itself."""
        return self.status is OrderStatus.PENDING


FATES: Final[Mapping[Mood, Fate]] = MappingProxyType(
    {
        Mood.SUCCEEDED: Fate(OrderStatus.SUCCEEDED),
        Mood.DECLINED: Fate(OrderStatus.FAILED),
        Mood.UNKNOWN_THEN_SUCCEEDED: Fate(OrderStatus.SUCCEEDED),
        Mood.DUPLICATE: Fate(OrderStatus.SUCCEEDED),
        Mood.CONTRADICTION: Fate(OrderStatus.SUCCEEDED, Code.CONTRADICTING_RESULT),
        Mood.WRONG_AMOUNT: Fate(OrderStatus.PENDING, Code.AMOUNT_MISMATCH),
        Mood.WRONG_CURRENCY: Fate(OrderStatus.PENDING, Code.CURRENCY_MISMATCH),
        Mood.BAD_SIGNATURE: Fate(OrderStatus.PENDING, Code.BAD_SIGNATURE),
        Mood.SILENT: Fate(OrderStatus.PENDING),
        Mood.LATE: Fate(OrderStatus.SUCCEEDED),  # the simulator is told to be seconds late, not a day
        Mood.FAILED_THEN_SUCCEEDED: Fate(OrderStatus.SUCCEEDED),
        Mood.LOST: Fate(OrderStatus.PENDING),
    }
)
if set(FATES) != set(Mood):
    raise AssertionError("a mood of the gateway has no fate here")


class Act(StrEnum):
    """The parts of the story in which messages are sent. Each waits for the answers of the one before."""

    OPEN = "open"
    RECHARGE = "recharge"
    AGAIN = "again"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of a command is told. `different`: the fields, if the serial number was used before."""

    code: Code
    duplicate: bool = False
    different: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sending:
    """One message, and what must become of it.

    `label` is the message's own; for the first message with a serial number it is that number.
    `command` is absent from what is no command at all: that has no answer, and goes to the dead letters.
    `repeats` is the label of the message whose outcome must be told again.
    """

    label: str
    body: bytes
    command: OpenAccount | Recharge | None = None
    answer: Answer | None = None
    dead_letter: Code | None = None
    fate: Fate | None = None
    repeats: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is sent, act by act."""

    accounts: Sequence[tuple[str, str]]  # user_id and currency, the busiest first
    acts: Mapping[Act, Sequence[Sending]]

    def __iter__(self) -> Iterator[Sending]:
        for act in Act:
            yield from self.acts[act]

    @property
    def gateway_answers(self) -> int:
        """How many results the gateway sends, if every accepted recharge reaches it once."""
        return sum(
            len(step.told)
            for one in self
            if one.fate is not None
            for step in TABLE[PaymentKind.CHARGE][_mood(one)].steps
        )

    @property
    def settling(self) -> int:
        """How many orders get a result that ends them."""
        return sum(one.fate is not None and not one.fate.waits for one in self)

    @property
    def dead_letters(self) -> Counter[tuple[str, Code]]:
        """Which dead letters must be there: the number that each is about, and its reason."""
        return Counter(
            (_reference(one), code)
            for one in self
            for code in (one.dead_letter, one.fate.dead_letter if one.fate else None)
            if code is not None
        )

    @property
    def balances_minor(self) -> dict[tuple[str, str], int]:
        """What each user must have in each currency, in minor units."""
        balances = dict.fromkeys(self.accounts, 0)
        for one in self:
            if isinstance(one.command, Recharge) and one.fate and one.fate.status is OrderStatus.SUCCEEDED:
                balances[one.command.user_id, one.command.currency] += one.command.amount_minor
        return balances


def draw(*, accounts: int, recharges: int, seed: int) -> Plan:
    """Return the plan of that seed and size; the same one each time."""
    chance = random.Random(seed)
    held = _accounts(chance, accounts)
    opened = [_opening(number, user_id, currency) for number, (user_id, currency) in enumerate(held, 1)]
    recharged = _recharges(chance, held, recharges)
    rounds = max(1, accounts // MISTAKES_EVERY)
    wrong = [one for round_no in range(1, rounds + 1) for one in _mistakes(round_no, held)]
    wrong += [_unreadable(number, *one) for number, one in enumerate(_bodies(rounds), 1)]
    mixed = [*recharged, *wrong]
    chance.shuffle(mixed)
    again = [
        *_repeats(chance.sample(opened, min(rounds, len(opened)))),
        *_repeats(chance.sample(recharged, min(5 * rounds, len(recharged)))),
        *_repeats([one for one in wrong if one.command is not None][:rounds]),
        *(_conflict(one) for one in chance.sample(recharged, min(2 * rounds, len(recharged)))),
    ]
    acts = {Act.OPEN: opened, Act.RECHARGE: mixed, Act.AGAIN: again}
    return Plan(accounts=held, acts=MappingProxyType(acts))


def _accounts(chance: random.Random, wanted: int) -> list[tuple[str, str]]:
    """Return so many different pairs of user and currency."""
    held: list[tuple[str, str]] = []
    users = count(1)
    user_id = ""
    for number in range(wanted):
        taken = ""
        if number % SECOND_ACCOUNT_EVERY == SECOND_ACCOUNT_EVERY - 1:
            taken = held[-1][1]
        else:
            user_id = f"user-{next(users):05}"
        shares = {currency: share for currency, share in CURRENCIES.items() if currency != taken}
        held.append((user_id, chance.choices(list(shares), list(shares.values()))[0]))
    return held


def _opening(number: int, user_id: str, currency: str) -> Sending:
    command = OpenAccount(serial_no=f"OPEN-{number:06}", user_id=user_id, currency=currency)
    return _good(command)


def _recharges(chance: random.Random, held: Sequence[tuple[str, str]], wanted: int) -> list[Sending]:
    """Return so many recharges: the second busiest account gets half of what the busiest gets, and so on."""
    # Zipf's law: on real systems, too, a few accounts are hot.
    weights = list(accumulate(1 / rank for rank in range(1, len(held) + 1)))
    moods = cycle(Mood)
    recharged = []
    for number, (user_id, currency) in enumerate(chance.choices(held, cum_weights=weights, k=wanted), 1):
        # The first of them go through all moods, so that a small demo shows each as well.
        sandbox = number <= len(Mood) or chance.random() < SANDBOX_SHARE
        channel = next(moods).channel if sandbox else chance.choice(ORDINARY_CHANNELS)
        command = Recharge(
            serial_no=f"R-{number:06}",
            user_id=user_id,
            amount=to_text(chance.randint(1, AMOUNT_MINOR_MAX), currency),
            currency=currency,
            recharge_type=channel,
        )
        recharged.append(_good(command))
    return recharged


def _good(command: OpenAccount | Recharge) -> Sending:
    one = Sending(label=command.serial_no, body=encode(command), command=command, answer=Answer(Code.OK))
    return replace(one, fate=FATES[_mood(one)]) if isinstance(command, Recharge) else one


def _mood(one: Sending) -> Mood:
    """Return how the gateway treats a recharge; the demo's scenario lets ordinary channels succeed."""
    if not isinstance(one.command, Recharge):
        raise TypeError(f"{one.label} is no recharge")
    return asked_for_by(one.command.recharge_type, PaymentKind.CHARGE) or Mood.SUCCEEDED


def _reference(one: Sending) -> str:
    return one.label if one.command is None else one.command.serial_no


# What a wallet must say no to: well-formed, and refused.


def _mistakes(round_no: int, held: Sequence[tuple[str, str]]) -> list[Sending]:
    user_id, currency = held[round_no % len(held)]

    def serial_no(what: str) -> str:
        return f"NO-{what}-{round_no:04}"

    refused: dict[Code, OpenAccount | Recharge] = {
        Code.ACCOUNT_EXISTS: OpenAccount(serial_no=serial_no("TWICE"), user_id=user_id, currency=currency),
        Code.CURRENCY_NOT_SUPPORTED: OpenAccount(
            serial_no=serial_no("CURRENCY"), user_id=user_id, currency="GBP"
        ),
        Code.ACCOUNT_NOT_FOUND: Recharge(
            serial_no=serial_no("NOBODY"),
            user_id="nobody",
            amount="100.00",
            currency="TWD",
            recharge_type="card",
        ),
        Code.AMOUNT_OUT_OF_RANGE: Recharge(
            serial_no=serial_no("HUGE"),
            user_id=user_id,
            amount="9" * 30,
            currency=currency,
            recharge_type="card",
        ),
    }
    return [
        Sending(label=command.serial_no, body=encode(command), command=command, answer=Answer(code))
        for code, command in refused.items()
    ]


# What is sent once more.


def _repeats(sent: Sequence[Sending]) -> list[Sending]:
    return [
        replace(
            one,
            label=f"{one.label} again",
            answer=replace(one.answer, duplicate=True) if one.answer else None,
            fate=None,
            repeats=one.label,
        )
        for one in sent
    ]


def _conflict(one: Sending) -> Sending:
    """Return the serial number of that recharge, with another amount."""
    if not isinstance(one.command, Recharge):
        raise TypeError(f"{one.label} is no recharge")
    minor = to_minor(one.command.amount, one.command.currency) + 1
    command = one.command.model_copy(update={"amount": to_text(minor, one.command.currency)})
    return Sending(
        label=f"{one.label} otherwise",
        body=encode(command),
        command=command,
        answer=Answer(Code.SERIAL_CONFLICT, different=("amount",)),
        dead_letter=Code.SERIAL_CONFLICT,
    )


# What is no command at all. Nobody could be told, so these carry no address for an answer.

Body: TypeAlias = tuple[bytes, Code]

NESTING: Final = 10_000


def _bodies(rounds: int) -> Iterator[Body]:
    """Return every kind of bad body, so many times over."""
    return islice(cycle(_KINDS), rounds * len(_KINDS))


def _unreadable(number: int, body: bytes, code: Code) -> Sending:
    return Sending(label=f"BAD-{number:06}", body=body, dead_letter=code)


def _spoilt(**changes: Any) -> bytes:
    """Return a recharge with some fields changed, or left out where the change is `...`."""
    fields: dict[str, Any] = {
        "type": Recharge.TYPE,
        "serial_no": "SPOILT",
        "user_id": "user-00001",
        "amount": "100.00",
        "currency": "TWD",
        "recharge_type": "card",
    } | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


_KINDS: Final[Sequence[Body]] = (
    (b"please recharge my account, thank you", Code.MALFORMED),
    (_spoilt().decode().encode("utf-16"), Code.MALFORMED),
    (_spoilt(amount=100.0), Code.MALFORMED),
    (_spoilt(amount="1e3"), Code.MALFORMED),
    (_spoilt(amount="-1"), Code.MALFORMED),
    (_spoilt(amount="0"), Code.MALFORMED),
    (_spoilt(amount="1.001"), Code.MALFORMED),
    (_spoilt(amount="1.0", currency="JPY"), Code.MALFORMED),
    (_spoilt(user_id=...), Code.MALFORMED),
    (_spoilt(user_id="nul\x00"), Code.MALFORMED),
    (_spoilt(colour="green"), Code.MALFORMED),
    (_spoilt()[:-1] + b', "amount": "200.00"}', Code.MALFORMED),
    (_spoilt(metadata={"note": "x" * BODY_BYTES_MAX}), Code.MALFORMED),
    (b"[" * NESTING + b"]" * NESTING, Code.MALFORMED),
    (_spoilt(type="order.recharge.v9"), Code.UNSUPPORTED_TYPE),
    (_spoilt(type="order.teleport.v1"), Code.UNSUPPORTED_TYPE),
)
