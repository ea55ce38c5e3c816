"""What the wallet tells the world, and the shapes of accounts, orders and entries wherever they are shown."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from wallet_schemas.codes import Code
from wallet_schemas.message import OutboundMessage, OutboundObject
from wallet_schemas.values import (
    REVERSAL_SEQUENCE_MAX,
    AccountNo,
    AccountStatus,
    AccountType,
    AmountText,
    AppUrl,
    BalanceText,
    BankAccountNumber,
    BankCode,
    Barcode,
    ChannelType,
    CurrencyText,
    Direction,
    EventId,
    FailureCode,
    FailureReason,
    Form,
    FormMethod,
    GrowingEnum,
    LineNo,
    Notes,
    OmittedIfNone,
    OrderId,
    OrderStatus,
    OrderType,
    PayerAction,
    PayerNote,
    PayerUrl,
    QrPayload,
    ReasonCode,
    ReversalKind,
    ReversalRef,
    ReversalStatus,
    Revision,
    SerialNo,
    ShortPlainText,
    StoreChain,
    StoreCode,
    Text,
    Timestamp,
    TransferReference,
    UserId,
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
    "account_type": "basic",
    "order_type": "recharge",
    "amount": "100.00",
    "currency": "TWD",
    "channel": "card",
    "status": "pending",
    "code": "OK",
    "transacted_at": None,
    "created_at": _OPENED_AT,
    "updated_at": _OPENED_AT,
    "expires_at": "2026-01-02T03:34:05.000006Z",
    "metadata": {"cart": "C-778"},
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
    "serial_no": "R-20260102-000001",
    "order_type": "recharge",
    "direction": "credit",
    "amount": "100.00",
    "currency": "TWD",
    "balance_before": "0.00",
    "balance_after": "100.00",
    "created_at": _MOVED_AT,
}

_LATER_AT: Final = "2026-01-02T04:00:00.000000Z"

_LATER_ORDER: Final[dict[str, Any]] = {
    "user_id": "user-1001",
    "account_no": "2026010204815162347",
    "account_type": "basic",
    "currency": "TWD",
    "code": "OK",
    "created_at": _LATER_AT,
    "updated_at": _LATER_AT,
}

_WITHDRAWAL_EXAMPLE: Final[dict[str, Any]] = {
    **_LATER_ORDER,
    "order_id": "019b7d7f-9a80-7b21-a5c0-1d7b7e0c9f02",
    "serial_no": "W-20260102-000001",
    "order_type": "withdraw",
    "amount": "40.00",
    "channel": "bank_transfer",
    "status": "pending",
    "transacted_at": None,
}

TRANSFER_EXAMPLE: Final[dict[str, Any]] = {
    **_LATER_ORDER,
    "order_id": "019b7d7f-9a80-7c4e-8d11-6a2f1b3c4d55",
    "serial_no": "T-20260102-000001",
    "order_type": "transfer",
    "amount": "25.00",
    "status": "succeeded",
    "transacted_at": _LATER_AT,
    "to_user_id": "user-1002",
    "to_account_no": "2026010207777777771",
}

_TRANSFER_ENTRIES: Final[list[dict[str, Any]]] = [
    {
        **ENTRY_EXAMPLE,
        "line_no": 2,
        "serial_no": "T-20260102-000001",
        "order_type": "transfer",
        "direction": "debit",
        "amount": "25.00",
        "balance_before": "100.00",
        "balance_after": "75.00",
        "created_at": _LATER_AT,
    },
    {
        **ENTRY_EXAMPLE,
        "account_no": "2026010207777777771",
        "line_no": 1,
        "serial_no": "T-20260102-000001",
        "order_type": "transfer",
        "direction": "credit",
        "amount": "25.00",
        "balance_before": "0.00",
        "balance_after": "25.00",
        "created_at": _LATER_AT,
    },
]

HOLD_EXAMPLE: Final[dict[str, Any]] = {
    **_LATER_ORDER,
    "order_id": "019b7d7f-9a80-7e93-9b3d-2f8e5a6b7c88",
    "serial_no": "H-20260102-000001",
    "order_type": "hold",
    "amount": "50.00",
    "status": "active",
    "transacted_at": None,
    "remaining": "50.00",
    "expires_at": "2026-01-09T04:00:00.000000Z",
}

REVERSAL_EXAMPLE: Final[dict[str, Any]] = {
    "reversal_id": "019b7d7f-9a80-7a11-8b22-7c6d5e4f3a2b",
    "serial_no": "R-20260102-000001",
    "order_type": "recharge",
    "user_id": "user-1001",
    "account_no": "2026010204815162347",
    "reversal_ref": "dp_7",
    "kind": "dispute",
    "status": "opened",
    "sequence": 1,
    "amount": "100.00",
    "moved_amount": "0.00",
    "currency": "TWD",
    "created_at": _LATER_AT,
    "updated_at": _LATER_AT,
    "reason_code": "10.4",
    "respond_by": "2026-02-01T00:00:00.000000Z",
}

INSTRUCTIONS_EXAMPLE: Final[dict[str, Any]] = {
    "revision": 1,
    "action": "bank_transfer",
    "bank_code": "822",
    "account_number": "9829411019605745",
    "expires_at": "2026-01-05T15:59:59.000000Z",
}

_CHARGEBACK_EXAMPLE: Final[dict[str, Any]] = {
    **_LATER_ORDER,
    "order_id": "019b7d7f-9a80-7b33-9d44-5e6f7a8b9c0d",
    "serial_no": "019b7d7f-9a80-7c55-8e66-6f7a8b9c0d1e",
    "order_type": "chargeback",
    "amount": "100.00",
    "status": "succeeded",
    "transacted_at": _LATER_AT,
    "original_serial_no": "R-20260102-000001",
    "reversal_ref": "dp_7",
    "entries": [
        {
            **ENTRY_EXAMPLE,
            "line_no": 2,
            "order_type": "chargeback",
            "direction": "debit",
            "balance_before": "100.00",
            "balance_after": "0.00",
            "created_at": _LATER_AT,
        }
    ],
}

_EVENT_ID: Final = "019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e"


def _examples(event_type: str, *examples: tuple[str, str, dict[str, Any]]) -> ConfigDict:
    """Return examples of an event: when it occurred, of which serial number, and its data."""
    return ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": event_type,
                    "event_id": _EVENT_ID,
                    "occurred_at": occurred_at,
                    "serial_no": serial_no,
                    "data": data,
                }
                for occurred_at, serial_no, data in examples
            ]
        }
    )


class AccountView(OutboundObject):
    """An account as it stands."""

    user_id: UserId
    account_no: AccountNo
    account_type: AccountType
    currency: CurrencyText
    balance: BalanceText
    available: BalanceText = Field(description="The balance less what is reserved.")
    debt: OmittedIfNone[BalanceText] = Field(
        default=None,
        description="What the user owes the wallet, where that is not zero: whatever becomes available pays it.",
    )
    status: GrowingEnum[AccountStatus]
    created_at: Timestamp
    updated_at: Timestamp


class OrderView(OutboundObject):
    """An order as it stands."""

    order_id: OrderId
    serial_no: SerialNo
    user_id: UserId
    account_no: AccountNo
    account_type: AccountType
    order_type: GrowingEnum[OrderType]
    amount: AmountText
    currency: CurrencyText
    status: GrowingEnum[OrderStatus]
    code: GrowingEnum[Code] = Field(
        description="PAYMENT_FAILED, PAYMENT_EXPIRED or PAYMENT_CANCELLED where the payment of the order came to "
        "nothing, else OK."
    )
    transacted_at: Timestamp | None = Field(description="When money moved, or null.")
    created_at: Timestamp
    updated_at: Timestamp
    channel: OmittedIfNone[ChannelType] = Field(
        default=None,
        description="The recharge_type or payout_type; of a refund, that of the recharge. "
        "Absent where the payment gateway has no part.",
    )
    late: OmittedIfNone[Literal[True]] = Field(
        default=None,
        description="True where the money came after the order had failed, expired or been cancelled.",
    )
    original_serial_no: OmittedIfNone[SerialNo] = Field(
        default=None,
        description="Of a refund: the serial number of the recharge that is refunded. Of an order that the wallet "
        "makes itself: that of the order which it is about.",
    )
    hold_serial_no: OmittedIfNone[SerialNo] = Field(
        default=None, description="Of a capture or release: the serial number of the hold."
    )
    remaining: OmittedIfNone[BalanceText] = Field(
        default=None, description="Of a hold: what is still reserved."
    )
    to_user_id: OmittedIfNone[UserId] = Field(default=None, description="Who receives the money.")
    to_account_no: OmittedIfNone[AccountNo] = Field(
        default=None, description="The account that receives the money."
    )
    expires_at: OmittedIfNone[Timestamp] = Field(
        default=None, description="When the order expires by itself."
    )
    failure_code: OmittedIfNone[FailureCode] = Field(
        default=None, description="With PAYMENT_FAILED: the payment gateway's own code of why."
    )
    failure_reason: OmittedIfNone[FailureReason] = Field(
        default=None, description="With PAYMENT_FAILED: why, in the words of the payment gateway."
    )
    received_amount: OmittedIfNone[AmountText] = Field(
        default=None, description="What came of a recharge, where that is another amount than was ordered."
    )
    cancelling: OmittedIfNone[Literal[True]] = Field(
        default=None, description="True where the payment gateway was asked to stop a payout."
    )
    metadata: OmittedIfNone[Notes] = None
    reversal_ref: OmittedIfNone[ReversalRef] = Field(
        default=None,
        description="Of an order that the wallet made because of a dispute, recall or return: which.",
    )


class EntryView(OutboundObject):
    """One line of an account's statement. A gap in `line_no` means a missed event."""

    account_no: AccountNo
    line_no: LineNo
    serial_no: SerialNo = Field(description="The serial number of the order that the line is of.")
    order_type: GrowingEnum[OrderType]
    direction: GrowingEnum[Direction]
    amount: AmountText
    currency: CurrencyText
    balance_before: BalanceText
    balance_after: BalanceText
    created_at: Timestamp


class OrderWithEntries(OrderView):
    """An order, with its entries if money moved."""

    entries: OmittedIfNone[list[EntryView]] = None


class ReversalView(OutboundObject):
    """A dispute, recall or return as it stands."""

    reversal_id: OrderId = Field(description="The wallet's own id of the reversal: a UUID.")
    serial_no: SerialNo = Field(description="The serial number of the order that it is about.")
    order_type: GrowingEnum[OrderType]
    user_id: UserId
    account_no: AccountNo
    reversal_ref: ReversalRef
    kind: GrowingEnum[ReversalKind]
    status: GrowingEnum[ReversalStatus]
    sequence: int = Field(ge=1, le=REVERSAL_SEQUENCE_MAX)
    amount: AmountText = Field(description="What the gateway says is disputed or returned.")
    moved_amount: BalanceText = Field(description="How much of it stands in the ledger now.")
    currency: CurrencyText
    created_at: Timestamp
    updated_at: Timestamp
    reason_code: OmittedIfNone[ReasonCode] = None
    reason: OmittedIfNone[Text] = Field(default=None, description="Why, for a person.")
    respond_by: OmittedIfNone[Timestamp] = Field(
        default=None, description="Until when evidence can be given to the gateway."
    )
    over_returned: OmittedIfNone[Literal[True]] = Field(
        default=None,
        description="True where refunds and reversals together have given back more than the payment brought.",
    )


class InstructionsView(OutboundObject):
    """How the payer of a pending recharge pays, as the payment gateway has said it last."""

    revision: Revision
    action: GrowingEnum[PayerAction] = Field(description="What the payer does.")
    url: OmittedIfNone[PayerUrl] = None
    method: OmittedIfNone[GrowingEnum[FormMethod]] = Field(
        default=None, description="Of a redirect: how the browser goes there; GET where it is left out."
    )
    form: OmittedIfNone[Form] = Field(default=None, description="Of a redirect by POST: the fields to post.")
    app_url: OmittedIfNone[AppUrl] = None
    bank_code: OmittedIfNone[BankCode] = None
    account_number: OmittedIfNone[BankAccountNumber] = None
    bank_name: OmittedIfNone[ShortPlainText] = None
    account_name: OmittedIfNone[ShortPlainText] = None
    reference: OmittedIfNone[TransferReference] = None
    code: OmittedIfNone[StoreCode] = None
    store: OmittedIfNone[StoreChain] = None
    barcodes: OmittedIfNone[list[Barcode]] = None
    qr_payload: OmittedIfNone[QrPayload] = None
    expires_at: OmittedIfNone[Timestamp] = Field(default=None, description="Until when it can be paid so.")
    note: OmittedIfNone[PayerNote] = None


class OrderWithInstructions(OrderView):
    """A pending recharge, and how its payer pays."""

    instructions: InstructionsView


class Refusal(OutboundObject):
    """The refused command and the reason."""

    command_type: Text = Field(description="The type of the command, such as `order.recharge.v1`.")
    code: GrowingEnum[Code]
    message: Text = Field(description="Why, for a person.")


class Event(OutboundMessage):
    """The envelope of every event."""

    event_id: EventId
    occurred_at: Timestamp
    serial_no: SerialNo  # of the command, or of the order that an order's event is about


class AccountOpened(Event):
    """An account was opened."""

    model_config = _examples(
        "account.opened.v1",
        (
            _OPENED_AT,
            "OPEN-20260102-000001",
            {**ACCOUNT_EXAMPLE, "balance": "0.00", "available": "0.00", "updated_at": _OPENED_AT},
        ),
    )

    type: Literal["account.opened.v1"] = "account.opened.v1"
    data: AccountView


class AccountFrozen(Event):
    """An account was frozen: debits are refused, credits are still accepted."""

    model_config = _examples(
        "account.frozen.v1",
        (
            _LATER_AT,
            "FREEZE-20260102-000001",
            {**ACCOUNT_EXAMPLE, "status": "frozen", "updated_at": _LATER_AT},
        ),
    )

    type: Literal["account.frozen.v1"] = "account.frozen.v1"
    data: AccountView


class AccountUnfrozen(Event):
    """A frozen account is active again."""

    model_config = _examples(
        "account.unfrozen.v1",
        (_LATER_AT, "UNFREEZE-20260102-000001", {**ACCOUNT_EXAMPLE, "updated_at": _LATER_AT}),
    )

    type: Literal["account.unfrozen.v1"] = "account.unfrozen.v1"
    data: AccountView


class AccountClosed(Event):
    """An account was closed for good."""

    model_config = _examples(
        "account.closed.v1",
        (
            _LATER_AT,
            "CLOSE-20260102-000001",
            {
                **ACCOUNT_EXAMPLE,
                "balance": "0.00",
                "available": "0.00",
                "status": "closed",
                "updated_at": _LATER_AT,
            },
        ),
    )

    type: Literal["account.closed.v1"] = "account.closed.v1"
    data: AccountView


class AccountDebtChanged(Event):
    """What an account owes has changed; `debt` is "0.00" once it is paid.

    A debit that cannot be refused found too little, or what became available has paid. `serial_no` is that of the
    advance or repayment.
    """

    model_config = _examples(
        "account.debt_changed.v1",
        (
            _LATER_AT,
            "019b7d7f-9a80-7d01-9c2e-8a7b6c5d4e3f",
            {
                **ACCOUNT_EXAMPLE,
                "balance": "0.00",
                "available": "0.00",
                "debt": "70.00",
                "updated_at": _LATER_AT,
            },
        ),
    )

    type: Literal["account.debt_changed.v1"] = "account.debt_changed.v1"
    data: AccountView


class OrderPending(Event):
    """An order was accepted and waits for the payment gateway. No money has moved.

    The amount of a withdrawal or refund is reserved.
    """

    model_config = _examples(
        "order.pending.v1",
        (_OPENED_AT, "R-20260102-000001", PENDING_ORDER_EXAMPLE),
        (_LATER_AT, "W-20260102-000001", _WITHDRAWAL_EXAMPLE),
    )

    type: Literal["order.pending.v1"] = "order.pending.v1"
    data: OrderView


class OrderInstructions(Event):
    """How the payer of a pending recharge pays is known, or has changed: the highest revision counts."""

    model_config = _examples(
        "order.instructions.v1",
        (
            _OPENED_AT,
            "R-20260102-000001",
            {
                **PENDING_ORDER_EXAMPLE,
                "channel": "bank_transfer",
                "expires_at": "2026-01-05T15:59:59.000000Z",
                "instructions": INSTRUCTIONS_EXAMPLE,
            },
        ),
    )

    type: Literal["order.instructions.v1"] = "order.instructions.v1"
    data: OrderWithInstructions


class OrderSucceeded(Event):
    """An order succeeded. `late` is true if the money came after the order had failed, expired or been cancelled.

    `entries` of a transfer or capture has the payer's line and the payee's; a release has no entries. Orders that the
    wallet makes itself (`chargeback`, `advance`, `repayment` and others) have a UUID for their serial number.
    """

    model_config = _examples(
        "order.succeeded.v1",
        (_MOVED_AT, "R-20260102-000001", {**SUCCEEDED_ORDER_EXAMPLE, "entries": [ENTRY_EXAMPLE]}),
        (_LATER_AT, "T-20260102-000001", {**TRANSFER_EXAMPLE, "entries": _TRANSFER_ENTRIES}),
        (
            _LATER_AT,
            "L-20260102-000001",
            {
                **_LATER_ORDER,
                "order_id": "019b7d7f-9a80-7f07-b2aa-90c1d2e3f4a5",
                "serial_no": "L-20260102-000001",
                "order_type": "release",
                "amount": "20.00",
                "status": "succeeded",
                "transacted_at": None,
                "hold_serial_no": "H-20260102-000001",
            },
        ),
        (_LATER_AT, "019b7d7f-9a80-7c55-8e66-6f7a8b9c0d1e", _CHARGEBACK_EXAMPLE),
    )

    type: Literal["order.succeeded.v1"] = "order.succeeded.v1"
    data: OrderWithEntries


class OrderFailed(Event):
    """The payment gateway reported that an order failed. No money has moved; the reserve is released."""

    model_config = _examples(
        "order.failed.v1",
        (
            _MOVED_AT,
            "R-20260102-000001",
            {
                **PENDING_ORDER_EXAMPLE,
                "status": "failed",
                "code": "PAYMENT_FAILED",
                "updated_at": _MOVED_AT,
                "failure_code": "card_declined",
                "failure_reason": "the bank says no",
            },
        ),
    )

    type: Literal["order.failed.v1"] = "order.failed.v1"
    data: OrderView


class OrderExpired(Event):
    """A recharge expired, or a hold expired and what was left of it was released.

    If the money of an expired recharge arrives later, order.succeeded follows with `late` true.
    """

    model_config = _examples(
        "order.expired.v1",
        (
            "2026-01-02T03:34:06.000000Z",
            "R-20260102-000001",
            {
                **PENDING_ORDER_EXAMPLE,
                "status": "expired",
                "code": "PAYMENT_EXPIRED",
                "updated_at": "2026-01-02T03:34:06.000000Z",
            },
        ),
    )

    type: Literal["order.expired.v1"] = "order.expired.v1"
    data: OrderView


class OrderCancelled(Event):
    """A recharge was cancelled. If the money arrives all the same, order.succeeded follows with `late` true."""

    model_config = _examples(
        "order.cancelled.v1",
        (
            _MOVED_AT,
            "R-20260102-000001",
            {
                **PENDING_ORDER_EXAMPLE,
                "status": "cancelled",
                "code": "PAYMENT_CANCELLED",
                "updated_at": _MOVED_AT,
            },
        ),
    )

    type: Literal["order.cancelled.v1"] = "order.cancelled.v1"
    data: OrderView


class OrderActive(Event):
    """A hold was made: `remaining` is reserved until it is captured or released, or expires."""

    model_config = _examples("order.active.v1", (_LATER_AT, "H-20260102-000001", HOLD_EXAMPLE))

    type: Literal["order.active.v1"] = "order.active.v1"
    data: OrderView


class OrderCaptured(Event):
    """A hold is captured completely. The money moved with the captures, each an order of its own."""

    model_config = _examples(
        "order.captured.v1",
        (
            "2026-01-02T05:00:00.000000Z",
            "H-20260102-000001",
            {
                **HOLD_EXAMPLE,
                "status": "captured",
                "remaining": "0.00",
                "updated_at": "2026-01-02T05:00:00.000000Z",
            },
        ),
    )

    type: Literal["order.captured.v1"] = "order.captured.v1"
    data: OrderView


class OrderReleased(Event):
    """A hold was released: what was left of it is available again."""

    model_config = _examples(
        "order.released.v1",
        (
            "2026-01-02T05:00:00.000000Z",
            "H-20260102-000001",
            {
                **HOLD_EXAMPLE,
                "status": "released",
                "remaining": "0.00",
                "updated_at": "2026-01-02T05:00:00.000000Z",
            },
        ),
    )

    type: Literal["order.released.v1"] = "order.released.v1"
    data: OrderView


class ReversalOpened(Event):
    """A dispute, recall or return is open, and none of its money is moved."""

    model_config = _examples("reversal.opened.v1", (_LATER_AT, "R-20260102-000001", REVERSAL_EXAMPLE))

    type: Literal["reversal.opened.v1"] = "reversal.opened.v1"
    data: ReversalView


class ReversalMoved(Event):
    """The money of a dispute, recall or return has moved; that may change."""

    model_config = _examples(
        "reversal.moved.v1",
        (
            _LATER_AT,
            "R-20260102-000001",
            {**REVERSAL_EXAMPLE, "status": "moved", "sequence": 2, "moved_amount": "100.00"},
        ),
    )

    type: Literal["reversal.moved.v1"] = "reversal.moved.v1"
    data: ReversalView


class ReversalDropped(Event):
    """A dispute, recall or return came to nothing: none of its money is moved any more."""

    model_config = _examples(
        "reversal.dropped.v1",
        (_LATER_AT, "R-20260102-000001", {**REVERSAL_EXAMPLE, "status": "dropped", "sequence": 3}),
    )

    type: Literal["reversal.dropped.v1"] = "reversal.dropped.v1"
    data: ReversalView


class ReversalSettled(Event):
    """A dispute, recall or return stays: its money is moved for good, as far as anybody expects."""

    model_config = _examples(
        "reversal.settled.v1",
        (
            _LATER_AT,
            "R-20260102-000001",
            {**REVERSAL_EXAMPLE, "status": "settled", "sequence": 3, "moved_amount": "100.00"},
        ),
    )

    type: Literal["reversal.settled.v1"] = "reversal.settled.v1"
    data: ReversalView


class CommandRefused(Event):
    """A command was refused and changed nothing."""

    model_config = _examples(
        "command.refused.v1",
        (
            _OPENED_AT,
            "R-20260102-000003",
            {
                "command_type": "order.recharge.v1",
                "code": "ACCOUNT_NOT_FOUND",
                "message": "user-1002 has no such account",
            },
        ),
    )

    type: Literal["command.refused.v1"] = "command.refused.v1"
    data: Refusal


EVENTS: Final[tuple[type[Event], ...]] = (
    AccountOpened,
    AccountFrozen,
    AccountUnfrozen,
    AccountClosed,
    AccountDebtChanged,
    OrderPending,
    OrderInstructions,
    OrderSucceeded,
    OrderFailed,
    OrderExpired,
    OrderCancelled,
    OrderActive,
    OrderCaptured,
    OrderReleased,
    ReversalOpened,
    ReversalMoved,
    ReversalDropped,
    ReversalSettled,
    CommandRefused,
)
