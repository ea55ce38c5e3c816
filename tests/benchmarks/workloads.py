"""What is asked of the contestants: each workload as a list of steps, and what must have come of them."""

import itertools
import random
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from tests.benchmarks.state import AMOUNT, CURRENCY, past_order, user_id
from tests.benchmarks.wire import Parcel
from wallet_schemas.names import PAYMENT_RESULTS, SIGNATURE_HEADER, WALLET_COMMANDS
from wallet_schemas.signature import Algorithm, SigningDirection, SigningKey

GATEWAY_KEY: Final = SigningKey("gateway-1", Algorithm.ED25519, b"the gateway's key in a benchmark")
"""What results are signed with: its seed is no secret, for it signs nothing outside of a benchmark."""
USERS: Final = 10_000
"""Users that have an account before a run, if its workload says no other number."""
MANY_USERS: Final = 400_000
"""Those of the mix. At 5,000 orders a second each of 10,000 users would order every two seconds, which nobody does."""

_SIGNED_AT: Final = 4_102_444_800  # a result may not be signed before its order
_ZIPF_EXPONENT: Final = 1.1


class Kind(StrEnum):
    """What one message does."""

    OPEN = "account.open"
    RECHARGE = "order.recharge"
    WITHDRAW = "order.withdraw"
    TRANSFER = "order.transfer"
    REFUND = "order.refund"
    HOLD = "order.hold"
    CAPTURE = "order.capture"
    RELEASE = "order.release"
    SUCCEEDED = "payment.result, succeeded"
    FAILED = "payment.result, failed"


EVENTS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.OPEN: "account.opened.v1",
        Kind.RECHARGE: "order.pending.v1",
        Kind.WITHDRAW: "order.pending.v1",
        Kind.TRANSFER: "order.succeeded.v1",
        Kind.REFUND: "order.pending.v1",
        Kind.HOLD: "order.active.v1",
        Kind.CAPTURE: "order.succeeded.v1",
        Kind.RELEASE: "order.succeeded.v1",
        Kind.SUCCEEDED: "order.succeeded.v1",
        Kind.FAILED: "order.failed.v1",
    }
)
"""The one event of its own that each kind of message ends in."""

ENDS: Final[Mapping[Kind, str]] = MappingProxyType(
    {Kind.CAPTURE: "order.captured.v1", Kind.RELEASE: "order.released.v1"}
)
"""The event of the hold that a message ends."""

RESULTS: Final = frozenset({Kind.SUCCEEDED, Kind.FAILED})
ASKING: Final = frozenset({Kind.RECHARGE, Kind.WITHDRAW, Kind.REFUND})
"""What the payment gateway is asked to do; the orders wait."""
MOVING: Final = frozenset({Kind.TRANSFER, Kind.CAPTURE})
"""What moves money at once."""
SPENT: Final = "1.00"
"""What each order spends of the 100.00 that each user has before: never all of it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One message: what it does, under which serial number, for which user (counted from 1).

    `other` is the user who is paid, and `about` the serial number of what is given back or held.
    """

    kind: Kind
    serial_no: str
    user: int
    other: int = 0
    about: str = ""


class Workload(StrEnum):
    """The workloads of the table."""

    OPEN = "open accounts"
    RECHARGE = "recharge commands"
    RESULTS = "payment results"
    HOT = "payment results, one account"
    ZIPF = "payment results, Zipf"
    MIX = "mix"
    MIX_FEW = "mix, 10,000 users"
    EVERY = "every kind of order"


# A user opens one account and recharges it some ten times; each recharge has its result, and one in
# twenty is declined.
_MIX: Final = (Kind.OPEN, *(Kind.RECHARGE,) * 10, *(Kind.SUCCEEDED,) * 10)
_FAILED_EVERY: Final = 20
# The users have money before. What is held is captured or let go, each by a later message.
_EVERY: Final = (
    *(Kind.RECHARGE, Kind.SUCCEEDED) * 4,
    *(Kind.TRANSFER,) * 4,
    *(Kind.WITHDRAW,) * 2,
    Kind.REFUND,
    *(Kind.HOLD,) * 2,
    Kind.CAPTURE,
    Kind.RELEASE,
)


@dataclass(frozen=True, slots=True)
class Load:
    """The steps of one run. `waiting` is the prefix of the orders that its results pay, in order of their steps."""

    steps: Sequence[Step]
    waiting: str

    @property
    def paid_users(self) -> list[int]:
        """The users of the orders that must wait for their money when the run begins."""
        return [step.user for step in self.steps if step.kind in RESULTS]

    @property
    def kinds(self) -> Counter[Kind]:
        """How many messages there are of each kind."""
        return Counter(step.kind for step in self.steps)

    @property
    def credited(self) -> Counter[int]:
        """How often each user's account is credited."""
        return Counter(step.user for step in self.steps if step.kind is Kind.SUCCEEDED)

    @property
    def events(self) -> set[tuple[str, str]]:
        """Type and serial number of every event that must have been published, once."""
        own = {(EVENTS[step.kind], step.serial_no) for step in self.steps}
        return own | {(ENDS[step.kind], step.about) for step in self.steps if step.kind in ENDS}


def load(workload: Workload, count: int, *, prefix: str, users: int = USERS) -> Load:
    """Return `count` steps of a workload for users 1 to `users`; the same arguments give the same steps.

    Serial numbers begin with `prefix`. New accounts are of users that only this prefix has.
    """
    chance = random.Random(prefix)
    kinds = _kinds(workload, count, chance)
    user = _user(workload, users, chance)
    numbers, paid, newcomers = itertools.count(1), itertools.count(1), newcomer_numbers(prefix)
    waiting = f"{prefix}-P-"
    held: deque[str] = deque()
    holders: dict[str, int] = {}
    steps = []
    for kind in kinds:
        match kind:
            case Kind.HOLD | Kind.CAPTURE | Kind.RELEASE if kind is Kind.HOLD or not held:
                held.append(f"{prefix}-H-{next(numbers):08}")
                holders[held[-1]] = user()
                steps.append(Step(Kind.HOLD, held[-1], holders[held[-1]]))
            case Kind.CAPTURE | Kind.RELEASE:
                # Of whom the hold is, its command has said; who is paid is anybody else.
                hold = held.popleft()
                payee = next(other for other in iter(user, 0) if other != holders[hold])
                steps.append(Step(kind, f"{prefix}-C-{next(numbers):08}", holders[hold], payee, hold))
            case Kind.TRANSFER:
                payer = user()
                payee = next(other for other in iter(user, 0) if other != payer)
                steps.append(Step(kind, f"{prefix}-T-{next(numbers):08}", payer, payee))
            case Kind.REFUND:
                original = past_order(chance.randint(1, users))
                steps.append(Step(kind, f"{prefix}-F-{next(numbers):08}", 0, about=original))
            case Kind.WITHDRAW:
                steps.append(Step(kind, f"{prefix}-W-{next(numbers):08}", user()))
            case Kind.OPEN:
                steps.append(Step(kind, f"{prefix}-O-{next(numbers):08}", next(newcomers)))
            case Kind.RECHARGE:
                steps.append(Step(kind, f"{prefix}-R-{next(numbers):08}", user()))
            case Kind.SUCCEEDED | Kind.FAILED:
                steps.append(Step(kind, f"{waiting}{next(paid):08}", user()))
    return Load(steps, waiting)


def newcomer_numbers(prefix: str) -> Iterator[int]:
    """Give numbers of users that have no account, the same for the same prefix."""
    return itertools.count(10**9 + zlib.crc32(prefix.encode()) * 10**8)


def _kinds(workload: Workload, count: int, chance: random.Random) -> list[Kind]:
    match workload:
        case Workload.OPEN:
            return [Kind.OPEN] * count
        case Workload.RECHARGE:
            return [Kind.RECHARGE] * count
        case Workload.RESULTS | Workload.HOT | Workload.ZIPF:
            return [Kind.SUCCEEDED] * count
        case Workload.MIX | Workload.MIX_FEW | Workload.EVERY:
            shares = _EVERY if workload is Workload.EVERY else _MIX
            kinds = list(itertools.islice(itertools.cycle(shares), count))
            results = (number for number, kind in enumerate(kinds) if kind is Kind.SUCCEEDED)
            for number in list(itertools.islice(results, 0, None, _FAILED_EVERY)):
                kinds[number] = Kind.FAILED
            chance.shuffle(kinds)
            return kinds


def _user(workload: Workload, users: int, chance: random.Random) -> Callable[[], int]:
    match workload:
        case Workload.HOT:
            return lambda: 1
        case Workload.ZIPF:
            everyone = range(1, users + 1)
            weights = list(itertools.accumulate(rank**-_ZIPF_EXPONENT for rank in everyone))
            return lambda: chance.choices(everyone, cum_weights=weights)[0]
        case _:
            return lambda: chance.randint(1, users)


def parcels(steps: Sequence[Step], *, reply_to: str | None = None) -> Iterator[Parcel]:
    """Give the messages of the steps, in order, signed where they are the gateway's."""
    for step in steps:
        yield parcel(step, reply_to=reply_to)


def parcel(step: Step, *, reply_to: str | None = None) -> Parcel:
    """Return the message of a step. Written by hand: making a million of them should take seconds."""
    number = step.serial_no
    if step.kind in RESULTS:
        status = "succeeded" if step.kind is Kind.SUCCEEDED else "failed"
        body = (
            f'{{"type":"payment.result.v1","payment_order_no":"{number}","amount":"{AMOUNT}",'
            f'"currency":"{CURRENCY}","status":"{status}","gateway_ref":"gw-{number}",'
            '"occurred_at":"2026-01-02T03:04:07Z"}'
        ).encode()
        headers = {SIGNATURE_HEADER: GATEWAY_KEY.sign(body, _SIGNED_AT, SigningDirection.RESULTS)}
        return Parcel(PAYMENT_RESULTS, "payment.result", body, number, headers, reply_to)
    body = f'{{"type":"{step.kind}.v1","serial_no":"{number}",{_fields(step)}}}'.encode()
    return Parcel(WALLET_COMMANDS, step.kind.value, body, number, reply_to=reply_to)


_SPENT: Final = f'"amount":"{SPENT}","currency":"{CURRENCY}"'


def _fields(step: Step) -> str:
    """Return what a command says beside its type and serial number."""
    owner = f'"user_id":"{user_id(step.user)}","account_type":"basic"'
    payee = f'"to_user_id":"{user_id(step.other)}","to_account_type":"basic"'
    match step.kind:
        case Kind.OPEN:
            return f'{owner},"currency":"{CURRENCY}"'
        case Kind.RECHARGE:
            return f'{owner},"amount":"{AMOUNT}","currency":"{CURRENCY}","recharge_type":"card"'
        case Kind.WITHDRAW:
            return f'{owner},{_SPENT},"payout_type":"bank_transfer"'
        case Kind.TRANSFER:
            return f"{owner},{payee},{_SPENT}"
        case Kind.REFUND:
            return f'"original_serial_no":"{step.about}",{_SPENT}'
        case Kind.HOLD:
            return f'{owner},{_SPENT},"expires_in_seconds":86400'
        case Kind.CAPTURE:
            return f'"hold_serial_no":"{step.about}",{payee},{_SPENT}'
        case Kind.RELEASE:
            return f'"hold_serial_no":"{step.about}"'
        case Kind.SUCCEEDED | Kind.FAILED:
            msg = f"{step.serial_no} is told by the gateway, and no command"
            raise ValueError(msg)
