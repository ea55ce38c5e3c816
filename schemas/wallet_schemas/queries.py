"""What anyone may ask of the wallet, and its answers."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.events import (
    ACCOUNT_EXAMPLE,
    ENTRY_EXAMPLE,
    SUCCEEDED_ORDER_EXAMPLE,
    AccountView,
    EntryView,
    InstructionsView,
    OrderView,
    ReversalView,
)
from wallet_schemas.message import Message, OutboundMessage, OutboundObject
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE
from wallet_schemas.values import (
    INTEGER_MAX,
    LIST_DEFAULT,
    LIST_MAX,
    METADATA_SOUGHT_MAX,
    STATEMENT_LINES_DEFAULT,
    STATEMENT_LINES_MAX,
    AccountNo,
    AccountType,
    AmountText,
    BalanceText,
    CurrencyText,
    Enumerated,
    GatewayRef,
    GrowingEnum,
    IncomingTimestamp,
    LineNo,
    OmittedIfNone,
    OptionalIn,
    OrderStatus,
    OrderType,
    ReversalRef,
    SerialNo,
    Text,
    Timestamp,
    UserId,
)


class GetAccount(Message):
    """List the accounts of a user, all or those of one type or currency. Answered by account.list.v1."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "account.get.v1", "user_id": "user-1001", "currency": "TWD"}]
        }
    )

    type: Literal["account.get.v1"] = "account.get.v1"
    user_id: UserId
    account_type: OptionalIn[AccountType] = None
    currency: OptionalIn[CurrencyText] = None


class GetOrder(Message):
    """Look up the outcome and the order of a serial number. Answered by order.detail.v1."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "order.get.v1", "serial_no": "R-20260102-000001"}]}
    )

    type: Literal["order.get.v1"] = "order.get.v1"
    serial_no: SerialNo


class GetStatement(Message):
    """Read an account's entries, oldest first, a page at a time. Answered by statement.v1."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "statement.get.v1",
                    "user_id": "user-1001",
                    "account_type": "basic",
                    "currency": "TWD",
                    "from": "2026-01-01T00:00:00Z",
                    "to": "2026-02-01T00:00:00Z",
                    "after_line_no": 0,
                    "limit": 100,
                }
            ]
        }
    )

    type: Literal["statement.get.v1"] = "statement.get.v1"
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    currency: CurrencyText
    from_time: OptionalIn[IncomingTimestamp] = Field(
        default=None, alias="from", description="Only entries made at this time or later."
    )
    to_time: OptionalIn[IncomingTimestamp] = Field(
        default=None, alias="to", description="Only entries made before this time."
    )
    after_line_no: OptionalIn[Annotated[int, Field(ge=0, le=INTEGER_MAX)]] = Field(
        default=None, description="Only entries after this line: the next_after_line_no of the page before."
    )
    limit: int = Field(
        default=STATEMENT_LINES_DEFAULT, ge=1, le=STATEMENT_LINES_MAX, description="How many entries at most."
    )


class FindOrders(Message):
    """List the orders of a user's accounts, newest first, closed accounts too. Answered by order.list.v1.

    Money received from other users is in the history of the account.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "order.find.v1",
                    "user_id": "user-1001",
                    "order_types": ["recharge"],
                    "statuses": ["succeeded", "pending"],
                    "metadata": {"cart": "C-778"},
                    "limit": 50,
                }
            ]
        }
    )

    type: Literal["order.find.v1"] = "order.find.v1"
    user_id: UserId
    account_type: OptionalIn[AccountType] = None
    currency: OptionalIn[CurrencyText] = None
    order_types: OptionalIn[Annotated[list[Enumerated[OrderType]], Field(min_length=1, max_length=20)]] = (
        Field(default=None, description="Only orders of these types.")
    )
    statuses: OptionalIn[Annotated[list[Enumerated[OrderStatus]], Field(min_length=1, max_length=10)]] = (
        Field(default=None, description="Only orders that stand so now.")
    )
    from_time: OptionalIn[IncomingTimestamp] = Field(
        default=None, alias="from", description="Only orders made at this time or later."
    )
    to_time: OptionalIn[IncomingTimestamp] = Field(
        default=None, alias="to", description="Only orders made before this time."
    )
    metadata: OptionalIn[Annotated[dict[Text, Text], Field(min_length=1, max_length=METADATA_SOUGHT_MAX)]] = (
        Field(
            default=None,
            description=f"Only orders whose metadata has all of these, at most {METADATA_SOUGHT_MAX}.",
        )
    )
    limit: int = Field(
        default=LIST_DEFAULT,
        ge=1,
        le=LIST_MAX,
        description="How many orders at most; a page may have fewer and still not be the last.",
    )
    after: OptionalIn[Annotated[Text, Field(min_length=1, max_length=200)]] = Field(
        default=None, description="Only orders after this: the next_after of the page before."
    )


class GetHistory(Message):
    """Read an account's movements, newest first, as an app shows them. Answered by history.v1."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "history.get.v1",
                    "user_id": "user-1001",
                    "account_type": "basic",
                    "currency": "TWD",
                    "limit": 50,
                }
            ]
        }
    )

    type: Literal["history.get.v1"] = "history.get.v1"
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    currency: CurrencyText
    account_no: OptionalIn[AccountNo] = Field(
        default=None, description="An older account of the same user, type and currency."
    )
    before_line_no: OptionalIn[Annotated[int, Field(ge=1, le=INTEGER_MAX)]] = Field(
        default=None, description="Only lines before this: the next_before_line_no of the page before."
    )
    limit: int = Field(default=LIST_DEFAULT, ge=1, le=LIST_MAX, description="How many lines at most.")


class AccountListed(AccountView):
    """An account's present state, with the wallet's own number of it."""

    id: int = Field(ge=1, le=INTEGER_MAX)


class AccountList(OutboundMessage):
    """The accounts of a user, perhaps none. A closed account is shown where it is the newest of its kind."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "account.list.v1", "accounts": [{**ACCOUNT_EXAMPLE, "id": 42}]}]
        }
    )

    type: Literal["account.list.v1"] = "account.list.v1"
    accounts: list[AccountListed]


class OrderAnswered(OrderView):
    """An order as it stands, and what only whoever asks is told."""

    gateway_ref: OmittedIfNone[GatewayRef] = Field(
        default=None,
        description="The payment gateway's own id of the payment, once it has reported a result.",
    )
    reversed_amount: OmittedIfNone[AmountText] = Field(
        default=None, description="How much of it stands moved back by disputes, recalls and returns."
    )


class OrderDetail(OutboundMessage):
    """The outcome of a serial number, the order if the command made one, and the order's entries."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "order.detail.v1",
                    "outcome": {
                        "type": "command.outcome.v1",
                        "serial_no": "R-20260102-000001",
                        "status": "applied",
                        "code": "OK",
                        "duplicate": False,
                        "result": {
                            "object": "recharge",
                            "user_id": "user-1001",
                            "account_type": "basic",
                            "amount": "100.00",
                            "currency": "TWD",
                            "recharge_type": "card",
                            "serial_no": "R-20260102-000001",
                            "order_status": "pending",
                        },
                    },
                    "order": {**SUCCEEDED_ORDER_EXAMPLE, "gateway_ref": "gw-90210"},
                    "entries": [ENTRY_EXAMPLE],
                    "sent_by": "up-shop",
                }
            ]
        }
    )

    type: Literal["order.detail.v1"] = "order.detail.v1"
    outcome: Outcome = Field(description="What the command was answered, as it was then.")
    order: OrderAnswered | None = Field(
        description="The order as it stands now; null where the command made none."
    )
    entries: list[EntryView]
    instructions: OmittedIfNone[InstructionsView] = Field(
        default=None,
        description="How the payer pays, while the order is pending and the payment gateway has said it.",
    )
    reversals: OmittedIfNone[list[ReversalView]] = Field(
        default=None,
        description="Its disputes, recalls and returns, the first one first, where there are any.",
    )
    sent_by: OmittedIfNone[str] = Field(
        default=None,
        description="Who sent the command: the broker's user, and behind the HTTP API its client. Absent where senders "
        "are anyone.",
    )


class OrderList(OutboundMessage):
    """A page of a user's orders, newest first. Go by `next_after`: a page may have few orders, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "order.list.v1",
                    "orders": [{**SUCCEEDED_ORDER_EXAMPLE, "gateway_ref": "gw-90210"}],
                    "next_after": None,
                }
            ]
        }
    )

    type: Literal["order.list.v1"] = "order.list.v1"
    orders: list[OrderAnswered]
    next_after: str | None = Field(
        description="The `after` that asks for the next page; null where this page is the last."
    )


class HistoryOrder(OutboundObject):
    """The order that a line is of, in short."""

    serial_no: SerialNo
    order_type: GrowingEnum[OrderType]
    status: GrowingEnum[OrderStatus]
    amount: AmountText
    currency: CurrencyText
    created_at: Timestamp
    original_serial_no: OmittedIfNone[SerialNo] = Field(
        default=None,
        description="Of a refund, the recharge; of what the wallet makes itself, the order that it is about.",
    )
    reversal_ref: OmittedIfNone[ReversalRef] = Field(
        default=None, description="The dispute, recall or return because of which the wallet made the order."
    )
    counterparty_user_id: OmittedIfNone[UserId] = Field(
        default=None, description="Of a transfer or a capture: the user on the other side."
    )
    metadata: OmittedIfNone[dict[str, str]] = Field(
        default=None, description="The sender's own notes, where the order is of this account."
    )


class HistoryLine(OutboundObject):
    """One line of an account, and the order that it is of."""

    entry: EntryView
    order: HistoryOrder


class History(OutboundMessage):
    """A page of what moved on an account, newest first, and what waits for a payment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "history.v1",
                    "account": ACCOUNT_EXAMPLE,
                    "pending": [],
                    "lines": [
                        {
                            "entry": ENTRY_EXAMPLE,
                            "order": {
                                "serial_no": "R-20260102-000001",
                                "order_type": "recharge",
                                "status": "succeeded",
                                "amount": "100.00",
                                "currency": "TWD",
                                "created_at": "2026-01-02T03:04:05.000006Z",
                                "metadata": {"cart": "C-778"},
                            },
                        }
                    ],
                    "next_before_line_no": None,
                }
            ]
        }
    )

    type: Literal["history.v1"] = "history.v1"
    account: AccountView
    pending: list[HistoryOrder] = Field(
        description="The account's orders that wait for a payment, at most 50; on the first page only."
    )
    lines: list[HistoryLine]
    next_before_line_no: LineNo | None = Field(
        description="The before_line_no that asks for the next page; null where this page is the last."
    )


class Statement(OutboundMessage):
    """A page of a statement: entries, and the balances before the first and after the last of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "statement.v1",
                    "account": ACCOUNT_EXAMPLE,
                    "opening_balance": "0.00",
                    "closing_balance": "100.00",
                    "entries": [ENTRY_EXAMPLE],
                    "next_after_line_no": None,
                }
            ]
        }
    )

    type: Literal["statement.v1"] = "statement.v1"
    account: AccountView
    opening_balance: BalanceText
    closing_balance: BalanceText
    entries: list[EntryView]
    next_after_line_no: LineNo | None = Field(
        description="The after_line_no that asks for the next page; null where this page is the last."
    )


DATABASE_AWAY: Final = "the wallet cannot read its database now; ask again"
FAULT: Final = (
    "the wallet has a fault and cannot answer this query; asking again does not help until it is mended"
)
"""With `INTERNAL`, what the message of a refused query is: whether asking again can help."""


class QueryRefused(OutboundMessage):
    """Why a query cannot be answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "query.refused.v1",
                    "code": "ORDER_NOT_FOUND",
                    "message": "no command with this serial number was ever answered",
                }
            ]
        }
    )

    type: Literal["query.refused.v1"] = "query.refused.v1"
    code: GrowingEnum[Code]
    message: Text = Field(description="Why, for a person.")
