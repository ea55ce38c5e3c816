"""The life of an order, as one total table.

Laws:
1. Only this module says what a payment result does to an order; nothing else chooses a status.
2. The table answers for every status and every result. It is checked at import.
3. Money that did arrive is credited, however late; money that moved never moves back by a result.
4. `unknown` never changes an order: the gateway is asked again.

The rows are those of the contract, section 6. The database repeats the statuses as named CHECKs, and
moves a row only from the status that was read here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from schemas.codes import Code
from schemas.events import EntryView, OrderWithEntries
from schemas.money import to_text
from schemas.values import OrderStatus, OrderType, PaymentStatus, ProcessingStatus
from wallet_worker.core.accounts import Account


@dataclass(frozen=True, slots=True)
class Order:
    """One movement that was asked for. `amount_minor` is above zero, in minor units of `currency`.

    `channel` is how it is paid (the recharge_type). `transacted_at` is absent until money has moved.
    `late` says that the money came after the order had failed or expired.
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


class Effect(StrEnum):
    """What a payment result does."""

    CREDIT = "credit"
    """The money arrived in time: credit the account."""
    CREDIT_LATE = "credit, late"
    """The money arrived after all: credit the account and say that it is late."""
    CLOSE = "close"
    """The order ends without money."""
    REPEAT = "repeat"
    """The order says the same already: nothing moves."""
    KEEP = "keep"
    """Nothing new is known: nothing moves."""
    CONTRADICTION = "contradiction"
    """Both cannot be true: nothing moves and an operator decides."""


@dataclass(frozen=True, slots=True)
class Step:
    """The answer of the table: what to do, and the status afterwards."""

    effect: Effect
    to: OrderStatus

    @property
    def credits(self) -> bool:
        """Whether money reaches the account."""
        return self.effect in {Effect.CREDIT, Effect.CREDIT_LATE}

    @property
    def processing(self) -> ProcessingStatus:
        """What the gateway is told."""
        match self.effect:
            case Effect.CREDIT | Effect.CREDIT_LATE | Effect.CLOSE:
                return ProcessingStatus.PROCESSED
            case Effect.REPEAT | Effect.KEEP:
                return ProcessingStatus.DUPLICATE
            case Effect.CONTRADICTION:
                return ProcessingStatus.REFUSED


_PENDING, _SUCCEEDED, _FAILED, _EXPIRED = (
    OrderStatus.PENDING,
    OrderStatus.SUCCEEDED,
    OrderStatus.FAILED,
    OrderStatus.EXPIRED,
)

RECHARGE: Mapping[tuple[OrderStatus, PaymentStatus], Step] = MappingProxyType(
    {
        (_PENDING, PaymentStatus.SUCCEEDED): Step(Effect.CREDIT, _SUCCEEDED),
        (_PENDING, PaymentStatus.FAILED): Step(Effect.CLOSE, _FAILED),
        (_PENDING, PaymentStatus.UNKNOWN): Step(Effect.KEEP, _PENDING),
        (_SUCCEEDED, PaymentStatus.SUCCEEDED): Step(Effect.REPEAT, _SUCCEEDED),
        (_SUCCEEDED, PaymentStatus.FAILED): Step(Effect.CONTRADICTION, _SUCCEEDED),
        (_SUCCEEDED, PaymentStatus.UNKNOWN): Step(Effect.KEEP, _SUCCEEDED),
        (_FAILED, PaymentStatus.SUCCEEDED): Step(Effect.CREDIT_LATE, _SUCCEEDED),
        (_FAILED, PaymentStatus.FAILED): Step(Effect.REPEAT, _FAILED),
        (_FAILED, PaymentStatus.UNKNOWN): Step(Effect.KEEP, _FAILED),
        (_EXPIRED, PaymentStatus.SUCCEEDED): Step(Effect.CREDIT_LATE, _SUCCEEDED),
        (_EXPIRED, PaymentStatus.FAILED): Step(Effect.KEEP, _EXPIRED),
        (_EXPIRED, PaymentStatus.UNKNOWN): Step(Effect.KEEP, _EXPIRED),
    }
)

RECHARGE_STATUSES = frozenset({_PENDING, _SUCCEEDED, _FAILED, _EXPIRED})


def _check_total() -> None:
    wanted = {(status, result) for status in RECHARGE_STATUSES for result in PaymentStatus}
    if set(RECHARGE) != wanted:
        msg = f"the recharge table is not total: {sorted(set(RECHARGE) ^ wanted)}"
        raise AssertionError(msg)
    for (status, result), step in RECHARGE.items():
        stays = step.effect in {Effect.REPEAT, Effect.KEEP, Effect.CONTRADICTION}
        if stays != (step.to is status):
            msg = f"{status} on {result}: {step.effect} cannot end in {step.to}"
            raise AssertionError(msg)


_check_total()


def pending_recharge(
    *,
    order_id: UUID,
    serial_no: str,
    account: Account,
    amount_minor: int,
    channel: str,
    at: datetime,
    expires_at: datetime,
) -> Order:
    """Return a new recharge that waits for the gateway."""
    return Order(
        order_id=order_id,
        serial_no=serial_no,
        order_type=OrderType.RECHARGE,
        account_id=account.account_id,
        amount_minor=amount_minor,
        currency=account.currency,
        status=OrderStatus.PENDING,
        code=Code.OK,
        channel=channel,
        created_at=at,
        updated_at=at,
        expires_at=expires_at,
    )


def advance(order: Order, step: Step, at: datetime) -> Order:
    """Return the order after a step that changes it; its times never run backwards, whatever the clock does."""
    at = max(at, order.updated_at)
    return replace(
        order,
        status=step.to,
        updated_at=at,
        transacted_at=at if step.credits else order.transacted_at,
        late=order.late or step.effect is Effect.CREDIT_LATE,
    )


def view(order: Order, account: Account, entries: list[EntryView] | None = None) -> OrderWithEntries:
    """Return an order as the contract shows it (section 7), with its entries where they are wanted."""
    return OrderWithEntries(
        order_id=str(order.order_id),
        serial_no=order.serial_no,
        user_id=account.user_id,
        account_no=account.account_no,
        order_type=order.order_type,
        amount=to_text(order.amount_minor, order.currency),
        currency=order.currency,
        status=order.status,
        code=order.code,
        transacted_at=order.transacted_at,
        created_at=order.created_at,
        updated_at=order.updated_at,
        late=True if order.late else None,
        expires_at=order.expires_at,
        entries=entries,
    )


def diagram() -> str:
    """Return the table as a mermaid state diagram, as it stands in ARCHITECTURE.md."""
    lines = ["stateDiagram-v2", "    [*] --> pending: order.recharge.v1"]
    for (status, result), step in RECHARGE.items():
        lines.append(f"    {status} --> {step.to}: {result} / {step.effect}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())  # noqa: T201 -- what this module is run for
