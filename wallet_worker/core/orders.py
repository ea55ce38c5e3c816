"""The lives of orders, as total tables.

Laws:
1. Only this module says what a payment result, a capture, a release or the time does to an order; nothing
   else chooses a status.
2. A table answers for every status and everything that may happen. That is checked at import.
3. Money that did arrive is credited, late too, within what its channel allows. A result never moves money back.
4. `unknown` never changes an order: the gateway is asked again.
5. What was sent to be paid out never ends by itself: only a result ends it.

The rows are those of docs/contract.md, section 6. The database repeats the statuses as named CHECKs, and
moves a row only from the status that was read here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias
from uuid import UUID

from wallet_schemas.codes import Code
from wallet_schemas.message import Body
from wallet_schemas.money import to_text
from wallet_schemas.payments import PaymentResult
from wallet_schemas.queries import OrderAnswered
from wallet_schemas.times import to_text as time_text
from wallet_schemas.values import (
    REASON_LENGTH_MAX,
    OrderStatus,
    OrderType,
    PaymentKind,
    PaymentStatus,
    ProcessingStatus,
)
from wallet_worker.core.accounts import Account, SystemKey, SystemName
from wallet_worker.core.ledger import Movement


@dataclass(frozen=True, slots=True)
class Order:
    """A movement of money that a command asked for, or that the wallet made itself.

    `amount_minor` is above zero, in minor units of `currency`.

    `account_id` is whose money it is about: the account that is recharged, and the one that pays in every other
    order. `counter_account_id` is the payee of a transfer or a capture. `parent_serial_no` is the recharge that
    is given back, the hold that is captured or released, or the order because of which the wallet made this.
    `channel` is how it is paid, by the gateway or to it, and empty where no gateway has a part. `remaining_minor` is
    what a hold still reserves.

    `transacted_at` is absent until money has moved. `late` says that the money came after the order had failed,
    had expired or was cancelled. `due_at` is when the wallet looks at the order by itself, absent when it never has to
    again, and `inquiries` how often the gateway was asked about it.

    `received_minor` is what came of a recharge where that is not `amount_minor`.

    `metadata` is that of its command, absent where that has none. `gateway_ref` is the gateway's id of the
    payment, from the result that the order has; `failure_code` and `failure_reason` are why the payment failed, in the
    gateway's words.
    """

    order_id: UUID
    serial_no: str
    order_type: OrderType
    account_id: int
    amount_minor: int
    currency: str
    status: OrderStatus
    code: Code
    channel: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    transacted_at: datetime | None = None
    late: bool = False
    counter_account_id: int | None = None
    parent_serial_no: str | None = None
    remaining_minor: int | None = None
    due_at: datetime | None = None
    inquiries: int = 0
    metadata: dict[str, str] | None = None
    gateway_ref: str | None = None
    failure_code: str | None = None
    failure_reason: str | None = None
    reversal_ref: str | None = None
    cancelling: bool = False
    received_minor: int | None = None

    @property
    def moved_minor(self) -> int:
        """What the order moves, or has moved: what came, where that is another amount than was ordered."""
        return self.amount_minor if self.received_minor is None else self.received_minor


class HoldAction(StrEnum):
    """What a command does with a hold."""

    CAPTURE = "capture of a part"
    CAPTURE_ALL = "capture of the rest"
    RELEASE = "release"


class UpstreamAction(StrEnum):
    """What an upstream service asks of an order that waits for the gateway."""

    CANCEL = "order.cancel"


class Timer(StrEnum):
    """What the time does to an order."""

    ASK = "pending for long"
    EXPIRE = "expires_at"


Signal: TypeAlias = PaymentStatus | HoldAction | UpstreamAction | Timer


class Effect(StrEnum):
    """What a signal does to an order."""

    CREDIT = "credit"
    """The money arrived in time: credit the account."""
    CREDIT_LATE = "credit, late"
    """The money arrived after all: credit the account and say that it is late."""
    DEBIT = "debit"
    """The money has left: debit the account, out of its reserve."""
    CLOSE = "close"
    """The order ends without money."""
    RELEASE_RESERVE = "return the reserve"
    """The money stays: what was reserved, or is left of it, is available again."""
    INQUIRE = "inquire"
    """Nothing is known yet: the gateway is asked."""
    STOP = "ask to stop"
    """The gateway is asked to stop a payout, and nothing changes until it has answered."""
    DUPLICATE = "duplicate"
    """The order says the same already: nothing moves."""
    NO_CHANGE = "no change"
    """Nothing new is known: nothing moves."""
    CONTRADICTION = "contradiction"
    """Both cannot be true: nothing moves and an operator decides."""
    REFUSE = "refuse"
    """It is too late: nothing moves, and the command is refused."""


_CHANGES = frozenset({Effect.CREDIT, Effect.CREDIT_LATE, Effect.DEBIT, Effect.CLOSE, Effect.RELEASE_RESERVE})


@dataclass(frozen=True, slots=True)
class Transition:
    """The answer of a table: what to do, and the status afterwards."""

    effect: Effect
    to: OrderStatus

    @property
    def credits(self) -> bool:
        """Whether money reaches the account."""
        return self.effect in {Effect.CREDIT, Effect.CREDIT_LATE}

    @property
    def processing(self) -> ProcessingStatus:
        """What the reply to the gateway says."""
        if self.effect in _CHANGES:
            return ProcessingStatus.PROCESSED
        if self.effect is Effect.CONTRADICTION:
            return ProcessingStatus.REFUSED
        return ProcessingStatus.DUPLICATE


class Party(StrEnum):
    """An account that an order names, by its column."""

    ACCOUNT = "account_id"
    COUNTERPARTY = "counter_account_id"


Holder: TypeAlias = Party | SystemName
"""Whose account a leg changes."""


class Leg(NamedTuple):
    """An entry of every order of a type that succeeded: on whose account, and how often the order's amount.

    Above zero is a credit, below zero a debit. All legs of a type sum to zero.
    """

    holder: Holder
    times: int


Table: TypeAlias = Mapping[tuple[OrderStatus, Signal], Transition]

_PENDING, _SUCCEEDED, _FAILED, _EXPIRED, _CANCELLED, _ACTIVE, _CAPTURED, _RELEASED = (
    OrderStatus.PENDING,
    OrderStatus.SUCCEEDED,
    OrderStatus.FAILED,
    OrderStatus.EXPIRED,
    OrderStatus.CANCELLED,
    OrderStatus.ACTIVE,
    OrderStatus.CAPTURED,
    OrderStatus.RELEASED,
)

RECHARGE: Table = MappingProxyType(
    {
        (_PENDING, PaymentStatus.SUCCEEDED): Transition(Effect.CREDIT, _SUCCEEDED),
        (_PENDING, PaymentStatus.FAILED): Transition(Effect.CLOSE, _FAILED),
        (_PENDING, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _PENDING),
        (_PENDING, Timer.ASK): Transition(Effect.INQUIRE, _PENDING),
        (_PENDING, Timer.EXPIRE): Transition(Effect.CLOSE, _EXPIRED),
        (_PENDING, UpstreamAction.CANCEL): Transition(Effect.CLOSE, _CANCELLED),
        (_SUCCEEDED, PaymentStatus.SUCCEEDED): Transition(Effect.DUPLICATE, _SUCCEEDED),
        (_SUCCEEDED, PaymentStatus.FAILED): Transition(Effect.CONTRADICTION, _SUCCEEDED),
        (_SUCCEEDED, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _SUCCEEDED),
        (_SUCCEEDED, Timer.ASK): Transition(Effect.NO_CHANGE, _SUCCEEDED),
        (_SUCCEEDED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _SUCCEEDED),
        (_FAILED, PaymentStatus.SUCCEEDED): Transition(Effect.CREDIT_LATE, _SUCCEEDED),
        (_FAILED, PaymentStatus.FAILED): Transition(Effect.DUPLICATE, _FAILED),
        (_FAILED, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _FAILED),
        (_FAILED, Timer.ASK): Transition(Effect.NO_CHANGE, _FAILED),
        (_FAILED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _FAILED),
        (_EXPIRED, PaymentStatus.SUCCEEDED): Transition(Effect.CREDIT_LATE, _SUCCEEDED),
        (_EXPIRED, PaymentStatus.FAILED): Transition(Effect.NO_CHANGE, _EXPIRED),
        (_EXPIRED, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _EXPIRED),
        (_EXPIRED, Timer.ASK): Transition(Effect.NO_CHANGE, _EXPIRED),
        (_EXPIRED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _EXPIRED),
        (_CANCELLED, PaymentStatus.SUCCEEDED): Transition(Effect.CREDIT_LATE, _SUCCEEDED),
        (_CANCELLED, PaymentStatus.FAILED): Transition(Effect.NO_CHANGE, _CANCELLED),
        (_CANCELLED, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _CANCELLED),
        (_CANCELLED, Timer.ASK): Transition(Effect.NO_CHANGE, _CANCELLED),
        (_CANCELLED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _CANCELLED),
        (_SUCCEEDED, UpstreamAction.CANCEL): Transition(Effect.REFUSE, _SUCCEEDED),
        (_FAILED, UpstreamAction.CANCEL): Transition(Effect.REFUSE, _FAILED),
        (_EXPIRED, UpstreamAction.CANCEL): Transition(Effect.REFUSE, _EXPIRED),
        (_CANCELLED, UpstreamAction.CANCEL): Transition(Effect.REFUSE, _CANCELLED),
    }
)

PAYOUT: Table = MappingProxyType(
    {
        (_PENDING, PaymentStatus.SUCCEEDED): Transition(Effect.DEBIT, _SUCCEEDED),
        (_PENDING, PaymentStatus.FAILED): Transition(Effect.RELEASE_RESERVE, _FAILED),
        (_PENDING, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _PENDING),
        (_PENDING, Timer.ASK): Transition(Effect.INQUIRE, _PENDING),
        (_PENDING, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _PENDING),
        (_SUCCEEDED, PaymentStatus.SUCCEEDED): Transition(Effect.DUPLICATE, _SUCCEEDED),
        (_SUCCEEDED, PaymentStatus.FAILED): Transition(Effect.CONTRADICTION, _SUCCEEDED),
        (_SUCCEEDED, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _SUCCEEDED),
        (_SUCCEEDED, Timer.ASK): Transition(Effect.NO_CHANGE, _SUCCEEDED),
        (_SUCCEEDED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _SUCCEEDED),
        (_FAILED, PaymentStatus.SUCCEEDED): Transition(Effect.CONTRADICTION, _FAILED),
        (_FAILED, PaymentStatus.FAILED): Transition(Effect.DUPLICATE, _FAILED),
        (_FAILED, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _FAILED),
        (_FAILED, Timer.ASK): Transition(Effect.NO_CHANGE, _FAILED),
        (_FAILED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _FAILED),
        (_PENDING, UpstreamAction.CANCEL): Transition(Effect.STOP, _PENDING),
        (_SUCCEEDED, UpstreamAction.CANCEL): Transition(Effect.REFUSE, _SUCCEEDED),
        (_FAILED, UpstreamAction.CANCEL): Transition(Effect.REFUSE, _FAILED),
    }
)
"""A withdrawal, and a refund: both are reserved first, and both leave through the gateway."""

HOLD: Table = MappingProxyType(
    {
        (_ACTIVE, HoldAction.CAPTURE): Transition(Effect.DEBIT, _ACTIVE),
        (_ACTIVE, HoldAction.CAPTURE_ALL): Transition(Effect.DEBIT, _CAPTURED),
        (_ACTIVE, HoldAction.RELEASE): Transition(Effect.RELEASE_RESERVE, _RELEASED),
        (_ACTIVE, Timer.EXPIRE): Transition(Effect.RELEASE_RESERVE, _EXPIRED),
        (_CAPTURED, HoldAction.CAPTURE): Transition(Effect.REFUSE, _CAPTURED),
        (_CAPTURED, HoldAction.CAPTURE_ALL): Transition(Effect.REFUSE, _CAPTURED),
        (_CAPTURED, HoldAction.RELEASE): Transition(Effect.REFUSE, _CAPTURED),
        (_CAPTURED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _CAPTURED),
        (_RELEASED, HoldAction.CAPTURE): Transition(Effect.REFUSE, _RELEASED),
        (_RELEASED, HoldAction.CAPTURE_ALL): Transition(Effect.REFUSE, _RELEASED),
        (_RELEASED, HoldAction.RELEASE): Transition(Effect.REFUSE, _RELEASED),
        (_RELEASED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _RELEASED),
        (_EXPIRED, HoldAction.CAPTURE): Transition(Effect.REFUSE, _EXPIRED),
        (_EXPIRED, HoldAction.CAPTURE_ALL): Transition(Effect.REFUSE, _EXPIRED),
        (_EXPIRED, HoldAction.RELEASE): Transition(Effect.REFUSE, _EXPIRED),
        (_EXPIRED, Timer.EXPIRE): Transition(Effect.NO_CHANGE, _EXPIRED),
    }
)

IMMEDIATE: Table = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """A type of order: everything that differs between types, except deciding the command.

    `initial_status` is its first status, and `table` what may happen to it after that: empty where the order has ended
    with its command. `payment` is what the gateway is asked for, if it is asked. `legs` are the entries of an order
    that succeeded, that of its own account first: decided, stored, audited and reconciled by. `parent_is_hold`: the
    order that it is about is a hold. `is_own`: no command asks for it, the wallet makes it itself.
    """

    initial_status: OrderStatus
    table: Table
    payment: PaymentKind | None = None
    legs: tuple[Leg, ...] = ()
    parent_is_hold: bool = False
    is_own: bool = False
    system_names: frozenset[SystemName] = field(init=False)
    """The system accounts among its legs."""

    def __post_init__(self) -> None:
        """Derive what is asked for every message."""
        names = frozenset(leg.holder for leg in self.legs if isinstance(leg.holder, SystemName))
        object.__setattr__(self, "system_names", names)

    @property
    def statuses(self) -> frozenset[OrderStatus]:
        """Every status that such an order can have."""
        return frozenset({self.initial_status} | {status for status, _ in self.table})

    @property
    def reserves(self) -> bool:
        """Whether such an order reserves money in its first status, until it ends."""
        return any(step.effect is Effect.RELEASE_RESERVE for step in self.table.values())

    @property
    def is_drawn_down(self) -> bool:
        """Whether such an order reserves what remains of it, and not its amount."""
        return any(isinstance(signal, HoldAction) for _, signal in self.table)

    @property
    def is_paid_out(self) -> bool:
        """Whether the gateway takes its money away from the account."""
        return self.payment is not None and Leg(Party.ACCOUNT, -1) in self.legs

    @property
    def has_payee(self) -> bool:
        """Whether such an order has a counterparty, to whom it pays."""
        return any(leg.holder is Party.COUNTERPARTY for leg in self.legs)

    def transition(self, status: OrderStatus, signal: Signal) -> Transition | None:
        """Return what happens to such an order; None if that cannot happen to its type."""
        return self.table.get((status, signal))


def _from(name: SystemName) -> tuple[Leg, ...]:
    return (Leg(Party.ACCOUNT, 1), Leg(name, -1))


def _to(name: SystemName) -> tuple[Leg, ...]:
    return (Leg(Party.ACCOUNT, -1), Leg(name, 1))


def _own(legs: tuple[Leg, ...]) -> OrderSpec:
    return OrderSpec(_SUCCEEDED, IMMEDIATE, legs=legs, is_own=True)


_FROM_GATEWAY = _from(SystemName.CLEARING)
_TO_GATEWAY = _to(SystemName.CLEARING)
_TO_COUNTERPARTY = (Leg(Party.ACCOUNT, -1), Leg(Party.COUNTERPARTY, 1))

ORDER_SPECS: Mapping[OrderType, OrderSpec] = MappingProxyType(
    {
        OrderType.RECHARGE: OrderSpec(_PENDING, RECHARGE, PaymentKind.CHARGE, _FROM_GATEWAY),
        OrderType.WITHDRAW: OrderSpec(_PENDING, PAYOUT, PaymentKind.PAYOUT, _TO_GATEWAY),
        OrderType.REFUND: OrderSpec(_PENDING, PAYOUT, PaymentKind.REFUND, _TO_GATEWAY),
        OrderType.TRANSFER: OrderSpec(_SUCCEEDED, IMMEDIATE, legs=_TO_COUNTERPARTY),
        OrderType.HOLD: OrderSpec(_ACTIVE, HOLD),
        OrderType.CAPTURE: OrderSpec(_SUCCEEDED, IMMEDIATE, legs=_TO_COUNTERPARTY, parent_is_hold=True),
        OrderType.RELEASE: OrderSpec(_SUCCEEDED, IMMEDIATE, parent_is_hold=True),
        OrderType.CHARGEBACK: _own(_TO_GATEWAY),
        OrderType.CHARGEBACK_REVERSAL: _own(_FROM_GATEWAY),
        OrderType.PAYOUT_RETURN: _own(_FROM_GATEWAY),
        OrderType.PAYOUT_RETURN_REVERSAL: _own(_TO_GATEWAY),
        OrderType.ADVANCE: _own(_from(SystemName.RECEIVABLES)),
        OrderType.REPAYMENT: _own(_to(SystemName.RECEIVABLES)),
        OrderType.WRITE_OFF: _own((Leg(SystemName.LOSSES, -1), Leg(SystemName.RECEIVABLES, 1))),
        OrderType.WRITE_OFF_RECOVERY: _own(_to(SystemName.LOSSES)),
        OrderType.LOSS: _own((Leg(SystemName.LOSSES, -1), Leg(SystemName.CLEARING, 1))),
        OrderType.ADJUSTMENT_CREDIT: _own(_from(SystemName.ADJUSTMENTS)),
        OrderType.ADJUSTMENT_DEBIT: _own(_to(SystemName.ADJUSTMENTS)),
    }
)

PAID_OUT = frozenset(order_type for order_type, spec in ORDER_SPECS.items() if spec.is_paid_out)
"""The types of orders whose money the gateway takes away from the account."""

CHARGED = frozenset(
    order_type for order_type, spec in ORDER_SPECS.items() if spec.payment is PaymentKind.CHARGE
)
"""The types of orders whose money the gateway brings to the account."""

REFUNDS = frozenset(
    order_type for order_type, spec in ORDER_SPECS.items() if spec.payment is PaymentKind.REFUND
)
"""The types of orders that give a charge back."""

OWN = frozenset(order_type for order_type, spec in ORDER_SPECS.items() if spec.is_own)
"""The types of orders that the wallet makes itself."""


def is_debit(order_type: OrderType) -> bool:
    """Return whether an order of this type takes money from the account that it is about."""
    return any(leg.holder is Party.ACCOUNT and leg.times < 0 for leg in ORDER_SPECS[order_type].legs)


OPEN = frozenset({_PENDING, _ACTIVE})
"""The statuses in which an order is looked at again by itself."""

UNSUCCESSFUL = frozenset({_FAILED, _EXPIRED, _CANCELLED, _RELEASED})
"""The statuses in which an order has come to nothing."""


def check_legs(order_type: OrderType, spec: OrderSpec) -> None:
    """Raise AssertionError unless the legs of a type sum to zero, and the order's own account, if any, is the first."""
    holders = [leg.holder for leg in spec.legs]
    of_users = [holder for holder in holders if isinstance(holder, Party)]
    if (
        sum(leg.times for leg in spec.legs) != 0
        or len(holders) != len(set(holders))
        or (of_users and holders[0] is not Party.ACCOUNT)
    ):
        msg = f"the legs of a {order_type} are not a posting: {spec.legs}"
        raise AssertionError(msg)


def check_total() -> None:
    """Raise AssertionError unless every type has a row, and every row an answer to whatever may happen."""
    if set(ORDER_SPECS) != set(OrderType):
        msg = f"no row for {set(OrderType) - set(ORDER_SPECS)}"
        raise AssertionError(msg)
    for order_type, spec in ORDER_SPECS.items():
        check_legs(order_type, spec)
    for name, table, signals in (
        ("recharge", RECHARGE, {*PaymentStatus, *UpstreamAction, *Timer}),
        ("payout", PAYOUT, {*PaymentStatus, *UpstreamAction, *Timer}),
        ("hold", HOLD, {*HoldAction, Timer.EXPIRE}),
    ):
        statuses = {status for status, _ in table} | {step.to for step in table.values()}
        wanted = {(status, signal) for status in statuses for signal in signals}
        if set(table) != wanted:
            msg = f"the {name} table is not total: {sorted(set(table) ^ wanted)}"
            raise AssertionError(msg)
        for (status, signal), step in table.items():
            part = signal is HoldAction.CAPTURE and status in OPEN
            if (step.effect in _CHANGES and not part) != (step.to is not status):
                msg = f"{status} on {signal}: {step.effect} cannot end in {step.to}"
                raise AssertionError(msg)


check_total()


PAYMENT_CODES: Mapping[OrderStatus, Code] = MappingProxyType(
    {_FAILED: Code.PAYMENT_FAILED, _EXPIRED: Code.PAYMENT_EXPIRED, _CANCELLED: Code.PAYMENT_CANCELLED}
)
"""The code of an order that waited for the gateway, where its payment has come to nothing; else it is OK."""


def code_of(order_type: OrderType, status: OrderStatus) -> Code:
    """Return the code of an order of this type in this status."""
    return Code.OK if ORDER_SPECS[order_type].payment is None else PAYMENT_CODES.get(status, Code.OK)


def advance(order: Order, step: Transition, at: datetime, result: PaymentResult | None = None) -> Order:
    """Return the order after a step that changes it; its times never run backwards, whatever the clock does.

    `result` is what the gateway has reported, where that is what changes the order.
    """
    at = max(at, order.updated_at)
    moved = step.credits or (step.effect is Effect.DEBIT and order.order_type is not OrderType.HOLD)
    # Every field by name: `replace` takes twice as long, and this is done for every result.
    return Order(
        order_id=order.order_id,
        serial_no=order.serial_no,
        order_type=order.order_type,
        account_id=order.account_id,
        amount_minor=order.amount_minor,
        currency=order.currency,
        status=step.to,
        code=code_of(order.order_type, step.to),
        channel=order.channel,
        created_at=order.created_at,
        updated_at=at,
        expires_at=order.expires_at,
        transacted_at=at if moved else order.transacted_at,
        late=order.late or step.effect is Effect.CREDIT_LATE,
        counter_account_id=order.counter_account_id,
        parent_serial_no=order.parent_serial_no,
        remaining_minor=order.remaining_minor,
        due_at=order.due_at if step.to in OPEN else None,
        inquiries=order.inquiries,
        metadata=order.metadata,
        gateway_ref=order.gateway_ref if result is None else result.gateway_ref,
        failure_code=result.reason_code if result is not None and step.to is _FAILED else None,
        failure_reason=result.reason[:REASON_LENGTH_MAX]
        if result is not None and result.reason and step.to is _FAILED
        else None,
        reversal_ref=order.reversal_ref,
        cancelling=order.cancelling,
        received_minor=order.received_minor,
    )


def draw_down(hold: Order, step: Transition, amount_minor: int, at: datetime) -> Order:
    """Return a hold after `amount_minor` of it was captured, or after the rest was given back."""
    remaining = (hold.remaining_minor or 0) - amount_minor
    return replace(advance(hold, step, at), remaining_minor=remaining if step.to in OPEN else 0)


def movements(
    order: Order, account: Account, counterparty: Account | None, lane: Callable[[SystemKey], Account]
) -> list[Movement]:
    """Return what the order moves, as the legs of its type say.

    `account` and `counterparty` are the accounts that the order names, `lane` returns that of a system account.
    """
    moved: list[Movement] = []
    for holder, times in ORDER_SPECS[order.order_type].legs:
        if holder is Party.ACCOUNT:
            changed = account
        elif holder is Party.COUNTERPARTY:
            if counterparty is None:
                msg = f"a {order.order_type} has nobody to pay"
                raise ValueError(msg)
            changed = counterparty
        else:
            changed = lane(SystemKey(holder, order.currency))
        moved.append(Movement(changed, times * order.moved_minor))
    return moved


def body(  # noqa: C901, PLR0912 -- a line for each field that only some orders have
    order: Order, account: Account, entries: list[Body] | None = None, payee: Account | None = None
) -> Body:
    """Return an order as docs/contract.md, section 7, has it, for JSON, with its entries where they are wanted.

    `account` is that of `order.account_id`; `payee` that of `counter_account_id`, if the order has one. What does not
    apply is left out, and the rest stands in the order of OrderView.
    """
    currency = order.currency
    shown: Body = {
        "order_id": str(order.order_id),
        "serial_no": order.serial_no,
        "user_id": account.user_id,
        "account_no": account.account_no,
        "account_type": account.account_type,
        "order_type": order.order_type,
        "amount": to_text(order.amount_minor, currency),
        "currency": currency,
        "status": order.status,
        "code": order.code,
        "transacted_at": None if order.transacted_at is None else time_text(order.transacted_at),
        "created_at": time_text(order.created_at),
        "updated_at": time_text(order.updated_at),
    }
    if order.channel:
        shown["channel"] = order.channel
    if order.late:
        shown["late"] = True
    if order.parent_serial_no is not None:
        about_hold = ORDER_SPECS[order.order_type].parent_is_hold
        shown["hold_serial_no" if about_hold else "original_serial_no"] = order.parent_serial_no
    if order.remaining_minor is not None:
        shown["remaining"] = to_text(order.remaining_minor, currency)
    if payee is not None:
        shown["to_user_id"] = payee.user_id
        shown["to_account_no"] = payee.account_no
    if order.expires_at is not None:
        shown["expires_at"] = time_text(order.expires_at)
    if order.failure_code is not None:
        shown["failure_code"] = order.failure_code
    if order.failure_reason is not None:
        shown["failure_reason"] = order.failure_reason
    if order.received_minor is not None:
        shown["received_amount"] = to_text(order.received_minor, currency)
    if order.cancelling:
        shown["cancelling"] = True
    if order.metadata:
        shown["metadata"] = order.metadata
    if order.reversal_ref is not None:
        shown["reversal_ref"] = order.reversal_ref
    if entries is not None:
        shown["entries"] = entries
    return shown


def result_body(order: Order, account: Account, payee: Account | None = None) -> Body:
    """Return the order as the result of its command: without its metadata, which its sender knows."""
    shown = body(order, account, payee=payee)
    shown.pop("metadata", None)
    shown["object"] = "order"
    return shown


def view(order: Order, account: Account, payee: Account | None = None) -> OrderAnswered:
    """Return the order as a model, with what only whoever asks is told."""
    shown = body(order, account, payee=payee)
    if order.gateway_ref is not None:
        shown["gateway_ref"] = order.gateway_ref
    return OrderAnswered.model_validate(shown, strict=False)


def diagram(kinds: Iterable[OrderType]) -> str:
    """Return the table of orders that share one, as a mermaid state diagram, as it stands in ARCHITECTURE.md."""
    names = list(kinds)
    kind = ORDER_SPECS[names[0]]
    commands = " or ".join(f"order.{name}.v1" for name in names)
    lines = ["stateDiagram-v2", f"    [*] --> {kind.initial_status}: {commands}"]
    for (status, signal), step in kind.table.items():
        # What the time leaves as it is happens to nobody: an order that has ended is never due.
        if step.effect is not Effect.NO_CHANGE or isinstance(signal, PaymentStatus):
            lines.append(f"    {status} --> {step.to}: {signal} / {step.effect}")
    return "\n".join(lines)


def diagrams() -> dict[str, str]:
    """Return every diagram by the name that it has in ARCHITECTURE.md."""
    shared: dict[int, list[OrderType]] = {}
    for order_type, kind in ORDER_SPECS.items():
        if kind.table:
            shared.setdefault(id(kind.table), []).append(order_type)
    return {" and ".join(kinds): diagram(kinds) for kinds in shared.values()}


if __name__ == "__main__":
    for title, text in diagrams().items():
        print(f"%% {title}\n{text}\n")  # noqa: T201 -- what this module is run for
