"""What anyone may ask of the wallet, and its answers."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.events import (
    ACCOUNT_EXAMPLE,
    ENTRY_EXAMPLE,
    SUCCEEDED_ORDER_EXAMPLE,
    AccountView,
    EntryView,
    OrderView,
)
from wallet_schemas.message import Message
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE
from wallet_schemas.values import (
    INTEGER_MAX,
    STATEMENT_LINES_DEFAULT,
    STATEMENT_LINES_MAX,
    AccountType,
    BalanceText,
    CurrencyText,
    Enumerated,
    IncomingTimestamp,
    LineNo,
    OptionalIn,
    SerialNo,
    Text,
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
    """Look up what became of a serial number. Answered by order.detail.v1."""

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


class AccountListed(AccountView):
    """An account as it stands, with the number that the wallet keeps it under."""

    id: int = Field(ge=1, le=INTEGER_MAX)


class AccountList(Message):
    """The accounts of a user, perhaps none. A closed account is shown where it is the newest of its kind."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "account.list.v1", "accounts": [{**ACCOUNT_EXAMPLE, "id": 42}]}]
        }
    )

    type: Literal["account.list.v1"] = "account.list.v1"
    accounts: list[AccountListed]


class OrderDetail(Message):
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
                            "user_id": "user-1001",
                            "account_type": "basic",
                            "amount": "100.00",
                            "currency": "TWD",
                            "recharge_type": "card",
                            "serial_no": "R-20260102-000001",
                            "order_status": "pending",
                        },
                    },
                    "order": SUCCEEDED_ORDER_EXAMPLE,
                    "entries": [ENTRY_EXAMPLE],
                }
            ]
        }
    )

    type: Literal["order.detail.v1"] = "order.detail.v1"
    outcome: Outcome = Field(description="What the command was answered, as it was then.")
    order: OrderView | None = Field(
        description="The order as it stands now; null where the command made none."
    )
    entries: list[EntryView]


class Statement(Message):
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


class QueryRefused(Message):
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
    code: Enumerated[Code]
    message: Text = Field(description="Why, for a person.")
