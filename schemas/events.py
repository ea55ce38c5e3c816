"""What the wallet tells the world, and the shapes of accounts, orders and entries wherever they are shown."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from schemas.codes import Code
from schemas.message import Message, Part
from schemas.values import (
    AccountNo,
    AccountStatus,
    AccountType,
    AmountText,
    BalanceText,
    CurrencyText,
    Direction,
    Enumerated,
    EventId,
    LineNo,
    OrderId,
    OrderStatus,
    OrderType,
    SerialNo,
    Text,
    Timestamp,
    UserId,
    WhereItApplies,
)

_OPENED_AT: Final = "2026-01-02T03:04:05.000006Z"
_MOVED_AT: Final = "2026-01-02T03:04:07.250000Z"

ACCOUNT_EXAMPLE: Final[dict[str, Any]] = {
    "user_id": "user-1001",
    "account_no": "2026010204815162347",
    "account_type": "basic",
    "currency": "TWD",
    "balance": "100.00",
    "available": "100.00",
    "status": "active",
    "created_at": _OPENED_AT,
    "updated_at": _MOVED_AT,
}

PENDING_ORDER_EXAMPLE: Final[dict[str, Any]] = {
    "order_id": "019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913",
    "serial_no": "R-20260102-000001",
    "user_id": "user-1001",
    "account_no": "2026010204815162347",
    "order_type": "recharge",
    "amount": "100.00",
    "currency": "TWD",
    "status": "pending",
    "code": "OK",
    "transacted_at": None,
    "created_at": _OPENED_AT,
    "updated_at": _OPENED_AT,
    "expires_at": "2026-01-02T03:34:05.000006Z",
}

SUCCEEDED_ORDER_EXAMPLE: Final[dict[str, Any]] = {
    **PENDING_ORDER_EXAMPLE,
    "status": "succeeded",
    "transacted_at": _MOVED_AT,
    "updated_at": _MOVED_AT,
}

ENTRY_EXAMPLE: Final[dict[str, Any]] = {
    "account_no": "2026010204815162347",
    "line_no": 1,
    "order_type": "recharge",
    "direction": "credit",
    "amount": "100.00",
    "currency": "TWD",
    "balance_before": "0.00",
    "balance_after": "100.00",
    "created_at": _MOVED_AT,
}


def _event_example(event_type: str, occurred_at: str, serial_no: str, data: dict[str, Any]) -> ConfigDict:
    return ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": event_type,
                    "event_id": "019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e",
                    "occurred_at": occurred_at,
                    "serial_no": serial_no,
                    "data": data,
                }
            ]
        }
    )


class AccountView(Part):
    """An account as it stands."""

    user_id: UserId
    account_no: AccountNo
    account_type: AccountType
    currency: CurrencyText
    balance: BalanceText
    available: BalanceText = Field(description="The balance less what is reserved.")
    status: Enumerated[AccountStatus]
    created_at: Timestamp
    updated_at: Timestamp


class OrderView(Part):
    """An order as it stands."""

    order_id: OrderId
    serial_no: SerialNo
    user_id: UserId
    account_no: AccountNo
    order_type: Enumerated[OrderType]
    amount: AmountText
    currency: CurrencyText
    status: Enumerated[OrderStatus]
    code: Enumerated[Code]
    transacted_at: Timestamp | None = Field(description="When money moved, or null.")
    created_at: Timestamp
    updated_at: Timestamp
    late: WhereItApplies[Literal[True]] = Field(
        default=None, description="True where the money came after the order had failed or expired."
    )
    original_serial_no: WhereItApplies[SerialNo] = Field(
        default=None, description="Of a refund: the serial number of the recharge that is refunded."
    )
    hold_serial_no: WhereItApplies[SerialNo] = Field(
        default=None, description="Of a capture or release: the serial number of the hold."
    )
    remaining: WhereItApplies[BalanceText] = Field(
        default=None, description="Of a hold: what is still reserved."
    )
    to_user_id: WhereItApplies[UserId] = Field(default=None, description="Who receives the money.")
    to_account_no: WhereItApplies[AccountNo] = Field(
        default=None, description="The account that receives the money."
    )
    expires_at: WhereItApplies[Timestamp] = Field(
        default=None, description="When the order expires by itself."
    )


class EntryView(Part):
    """One line of an account's statement. A gap in `line_no` means that an event was missed."""

    account_no: AccountNo
    line_no: LineNo
    order_type: Enumerated[OrderType]
    direction: Enumerated[Direction]
    amount: AmountText
    currency: CurrencyText
    balance_before: BalanceText
    balance_after: BalanceText
    created_at: Timestamp


class OrderWithEntries(OrderView):
    """An order, with the entries that it made if money moved."""

    entries: WhereItApplies[list[EntryView]] = None


class Refusal(Part):
    """What was refused, and why."""

    command_type: Text = Field(description="The type of the command, such as `order.recharge.v1`.")
    code: Enumerated[Code]
    message: Text = Field(description="Why, for a person.")


class Event(Message):
    """What every event has around its data."""

    event_id: EventId
    occurred_at: Timestamp
    serial_no: SerialNo


class AccountOpened(Event):
    """An account was opened."""

    model_config = _event_example(
        "account.opened.v1",
        _OPENED_AT,
        "OPEN-20260102-000001",
        {**ACCOUNT_EXAMPLE, "balance": "0.00", "available": "0.00", "updated_at": _OPENED_AT},
    )

    type: Literal["account.opened.v1"] = "account.opened.v1"
    data: AccountView


class OrderPending(Event):
    """An order was accepted and waits for the payment gateway. No money has moved."""

    model_config = _event_example("order.pending.v1", _OPENED_AT, "R-20260102-000001", PENDING_ORDER_EXAMPLE)

    type: Literal["order.pending.v1"] = "order.pending.v1"
    data: OrderView


class OrderSucceeded(Event):
    """An order is done. `late` is true where it had failed or expired before the money came."""

    model_config = _event_example(
        "order.succeeded.v1",
        _MOVED_AT,
        "R-20260102-000001",
        {**SUCCEEDED_ORDER_EXAMPLE, "entries": [ENTRY_EXAMPLE]},
    )

    type: Literal["order.succeeded.v1"] = "order.succeeded.v1"
    data: OrderWithEntries


class OrderFailed(Event):
    """The payment gateway said that an order failed. No money has moved."""

    model_config = _event_example(
        "order.failed.v1",
        _MOVED_AT,
        "R-20260102-000001",
        {**PENDING_ORDER_EXAMPLE, "status": "failed", "updated_at": _MOVED_AT},
    )

    type: Literal["order.failed.v1"] = "order.failed.v1"
    data: OrderView


class OrderExpired(Event):
    """An order waited too long. If its money arrives later, order.succeeded follows with `late` true."""

    model_config = _event_example(
        "order.expired.v1",
        "2026-01-02T03:34:06.000000Z",
        "R-20260102-000001",
        {**PENDING_ORDER_EXAMPLE, "status": "expired", "updated_at": "2026-01-02T03:34:06.000000Z"},
    )

    type: Literal["order.expired.v1"] = "order.expired.v1"
    data: OrderView


class CommandRefused(Event):
    """A command was refused and changed nothing."""

    model_config = _event_example(
        "command.refused.v1",
        _OPENED_AT,
        "R-20260102-000003",
        {
            "command_type": "order.recharge.v1",
            "code": "ACCOUNT_NOT_FOUND",
            "message": "user-1002 has no such account",
        },
    )

    type: Literal["command.refused.v1"] = "command.refused.v1"
    data: Refusal
