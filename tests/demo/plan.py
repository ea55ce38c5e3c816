"""What the demo sends, drawn from a seed, and what must become of each message."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate, count, cycle, islice
from typing import Any, Final, TypeAlias

from payment_simulator.behaviours import Behaviour, behaviour_of_channel
from tests.demo.fates import PLAYED, RECHARGES, Fate
from wallet_schemas.codes import Code
from wallet_schemas.commands import (
    CancelOrder,
    Capture,
    CloseAccount,
    FreezeAccount,
    Hold,
    OpenAccount,
    Recharge,
    RechargeV2,
    Refund,
    Release,
    Transfer,
    UnfreezeAccount,
    Withdraw,
    WithdrawV2,
)
from wallet_schemas.encode import encode
from wallet_schemas.money import to_minor, to_text
from wallet_schemas.names import BODY_BYTES_MAX
from wallet_schemas.values import OrderStatus, PaymentKind

CURRENCIES: Final = {"TWD": 40, "USD": 25, "EUR": 15, "JPY": 12, "KWD": 8}  # and their shares, in per cent
ORDINARY_CHANNELS: Final = ("card", "bank_transfer", "convenience_store")
SANDBOX_CHANNELS: Final = (
    *(behaviour.channel for behaviour in PLAYED),
    *(behaviour.refund_channel for behaviour in PLAYED),
)
SANDBOX_SHARE: Final = 0.1  # of all recharges; the channels take turns, so that each is met
AMOUNT_MINOR_MAX: Final = 500_000
MINOR_MIN: Final = 1_000  # enough to be given back in parts
SECOND_ACCOUNT_EVERY: Final = 5  # one account in five is the second one of a user, in another currency
MISTAKES_EVERY: Final = 100  # one round of mistakes for so many accounts, and one at least


Account: TypeAlias = tuple[str, str]
"""A user and a currency."""

AnyCommand: TypeAlias = (
    OpenAccount | FreezeAccount | UnfreezeAccount | CloseAccount | Recharge | RechargeV2 | Withdraw | WithdrawV2
    | Transfer | Refund | Hold | Capture | Release | CancelOrder
)  # fmt: skip


class Act(StrEnum):
    """The parts of the story in which messages are sent. Each waits for the answers of the one before."""

    OPEN = "open"
    RECHARGE = "recharge"
    AGAIN = "again"
    SPEND = "spend"  # when the gateway has spoken of most recharges
    USE = "use"  # what was held; and what a frozen account may not
    END = "end"  # when all has come that comes: accounts thaw and close, holds are over
    LAST = "last"  # what is over stays over


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
    `moved` and `reserved` are what it changes in the end, account by account, in minor units.
    """

    label: str
    body: bytes
    command: AnyCommand | None = None
    answer: Answer | None = None
    dead_letter: Code | None = None
    fate: Fate | None = None
    repeats: str | None = None
    moved: tuple[tuple[Account, int], ...] = ()
    reserved: tuple[tuple[Account, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is sent, act by act."""

    accounts: Sequence[Account]  # the busiest first
    acts: Mapping[Act, Sequence[Sending]]

    def __iter__(self) -> Iterator[Sending]:
        for act in Act:
            yield from self.acts[act]

    @property
    def settling(self) -> int:
        """How many orders end, sooner or later."""
        return sum(
            item.fate is not None and item.fate.status not in {OrderStatus.PENDING, OrderStatus.ACTIVE}
            for item in self
        )

    @property
    def dead_letters(self) -> Counter[tuple[str, Code]]:
        """Which dead letters must be there: the number that each is about, and its reason.

        Of those that the gateway insists on there may be more than one.
        """
        return Counter(
            (_reference(item), code)
            for item in self
            for code in (item.dead_letter, item.fate.dead_letter if item.fate else None)
            if code is not None
        )

    @property
    def insisted(self) -> frozenset[tuple[str, Code]]:
        """Those of the dead letters that come again whenever the gateway is asked."""
        return frozenset(
            (_reference(item), item.fate.dead_letter)
            for item in self
            if item.fate and item.fate.insists and item.fate.dead_letter
        )

    @property
    def balances_minor(self) -> dict[Account, int]:
        """What each user must have in each currency in the end, in minor units."""
        return self._sums(lambda value: value.moved)

    @property
    def reserved_minor(self) -> dict[Account, int]:
        """What of it must be reserved."""
        return self._sums(lambda value: value.reserved)

    @property
    def differences(self) -> frozenset[tuple[str, str]]:
        """What reconciliation must find, and nothing else: serial numbers, each with what is different."""
        return frozenset(
            (item.label, item.fate.difference)
            for item in self
            if item.fate is not None and item.fate.difference
        )

    def _sums(self, changes: Callable[[Sending], Sequence[tuple[Account, int]]]) -> dict[Account, int]:
        sums = {
            (act.command.user_id, act.command.currency): 0
            for act in self.acts[Act.OPEN]
            if isinstance(act.command, OpenAccount)
        }
        for item in self:
            for account, minor in changes(item):
                sums[account] += minor
        return sums


def accounts(chance: random.Random, wanted: int) -> list[tuple[str, str]]:
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


def opening(number: int, user_id: str, currency: str) -> Sending:
    command = OpenAccount(serial_no=f"OPEN-{number:06}", user_id=user_id, currency=currency)
    return good(command)


def recharges(chance: random.Random, held: Sequence[tuple[str, str]], wanted: int) -> list[Sending]:
    """Return so many recharges: the second busiest account gets half of what the busiest gets, and so on."""
    # Zipf's law: on real systems, too, a few accounts are hot.
    weights = list(accumulate(1 / rank for rank in range(1, len(held) + 1)))
    channels = cycle(SANDBOX_CHANNELS)
    recharged = []
    for number, (user_id, currency) in enumerate(chance.choices(held, cum_weights=weights, k=wanted), 1):
        # The first of them go through all behaviours, so that a small demo shows each as well.
        sandbox = number <= len(SANDBOX_CHANNELS) or chance.random() < SANDBOX_SHARE
        channel = next(channels) if sandbox else chance.choice(ORDINARY_CHANNELS)
        minor = chance.randint(MINOR_MIN, AMOUNT_MINOR_MAX)
        recharged.append(recharge(f"R-{number:06}", (user_id, currency), minor, channel))
    return recharged


def recharge(serial_no: str, account: Account, minor: int, channel: str) -> Sending:
    """Return a recharge that is applied; its channel alone decides what becomes of it."""
    user_id, currency = account
    fate = RECHARGES[behaviour_of(channel, PaymentKind.CHARGE)]
    return good(
        Recharge(
            serial_no=serial_no,
            user_id=user_id,
            amount=to_text(minor, currency),
            currency=currency,
            recharge_type=channel,
        ),
        fate,
        moved=((account, minor),) if fate.status is OrderStatus.SUCCEEDED else (),
    )


def good(command: AnyCommand, fate: Fate | None = None, **changes: Any) -> Sending:
    """Return a command that is applied, with what becomes of its order if it makes one."""
    return Sending(
        label=command.serial_no,
        body=encode(command),
        command=command,
        answer=Answer(Code.OK),
        fate=fate,
        **changes,
    )


def refused(command: AnyCommand, code: Code) -> Sending:
    """Return a command that is well-formed, and refused."""
    return Sending(label=command.serial_no, body=encode(command), command=command, answer=Answer(code))


def behaviour_of(channel: str, kind: PaymentKind) -> Behaviour:
    """Return how the gateway treats a payment; the demo's scenario lets ordinary channels succeed."""
    return behaviour_of_channel(channel, kind) or Behaviour.SUCCEEDED


def _reference(sending: Sending) -> str:
    return sending.label if sending.command is None else sending.command.serial_no


# What a wallet must say no to: well-formed, and refused.


def mistakes(round_no: int, held: Sequence[tuple[str, str]]) -> list[Sending]:
    user_id, currency = held[round_no % len(held)]

    def serial_no(what: str) -> str:
        return f"NO-{what}-{round_no:04}"

    wrong: dict[Code, AnyCommand] = {
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
    return [refused(command, code) for code, command in wrong.items()]


# What is sent once more.


def repeats(sent: Sequence[Sending]) -> list[Sending]:
    return [
        replace(
            item,
            label=f"{item.label} again",
            answer=replace(item.answer, duplicate=True) if item.answer else None,
            fate=None,
            repeats=item.label,
            moved=(),
            reserved=(),
        )
        for item in sent
    ]


def conflict(sending: Sending) -> Sending:
    """Return the serial number of that recharge, with another amount."""
    if not isinstance(sending.command, Recharge):
        raise TypeError(f"{sending.label} is no recharge")
    minor = to_minor(sending.command.amount, sending.command.currency) + 1
    command = sending.command.model_copy(update={"amount": to_text(minor, sending.command.currency)})
    return Sending(
        label=f"{sending.label} otherwise",
        body=encode(command),
        command=command,
        answer=Answer(Code.SERIAL_CONFLICT, different=("amount",)),
        dead_letter=Code.SERIAL_CONFLICT,
    )


# What is no command at all. Nobody could be told, so these carry no address for an answer.

Body: TypeAlias = tuple[bytes, Code]

NESTING: Final = 10_000


def bodies(rounds: int) -> Iterator[Body]:
    """Return every kind of bad body, so many times over."""
    return islice(cycle(_KINDS), rounds * len(_KINDS))


def unreadable(number: int, body: bytes, code: Code) -> Sending:
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
