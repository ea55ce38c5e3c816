"""What upstream services ask of the wallet, and the one outcome that each serial number has."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag

from wallet_schemas.codes import Code
from wallet_schemas.events import (
    ACCOUNT_EXAMPLE,
    HOLD_EXAMPLE,
    TRANSFER_EXAMPLE,
    AccountView,
    OrderView,
)
from wallet_schemas.fingerprint import changed_fields, content, fingerprint
from wallet_schemas.message import OPEN, JsonObject, Message, MoneyFields, OutboundMessage, OutboundObject
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE
from wallet_schemas.values import (
    HOLD_SECONDS_MAX,
    AccountNo,
    AccountType,
    AmountText,
    BalanceText,
    ChannelType,
    CurrencyText,
    Enumerated,
    GrowingEnum,
    Instrument,
    Metadata,
    OmittedIfNone,
    OptionalIn,
    OrderStatus,
    OutcomeStatus,
    Reason,
    ReturnUrl,
    SerialNo,
    Text,
    UserId,
    ValidUntil,
)

__all__ = [
    "AccountResult",
    "AnyCommand",
    "CancelOrder",
    "Capture",
    "CloseAccount",
    "Command",
    "Fault",
    "FreezeAccount",
    "Hold",
    "LimitName",
    "NoResult",
    "OpenAccount",
    "OpenAccountResult",
    "OrderResult",
    "Outcome",
    "Recharge",
    "RechargeResult",
    "RechargeV2",
    "Refund",
    "RefusalDetails",
    "RefusedParty",
    "Release",
    "Transfer",
    "UnfreezeAccount",
    "Withdraw",
    "WithdrawV2",
    "changed_fields",
    "content",
    "fingerprint",
]


class Command(Message):
    """The fields of every command: a serial number, and perhaps metadata and a time until when it is valid."""

    serial_no: SerialNo

    if TYPE_CHECKING:  # they stand last in each command
        metadata: dict[str, str] | None
        valid_until: datetime | None


class OpenAccount(Command):
    """Open an account of a user, of one type and in one currency.

    Refused with ACCOUNT_EXISTS while the user has an open or frozen account of this type and currency.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "account.open.v1",
                    "serial_no": "OPEN-20260102-000001",
                    "user_id": "user-1001",
                    "account_type": "basic",
                    "currency": "TWD",
                    "metadata": {"campaign": "spring"},
                }
            ]
        }
    )

    type: Literal["account.open.v1"] = "account.open.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    currency: CurrencyText
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class Recharge(Command, MoneyFields):
    """Ask the payment gateway to collect money; credit the account once it has.

    The outcome says that the order is pending. The events order.succeeded, order.failed and order.expired report
    how it ended, and so does the query order.get.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "order.recharge.v1",
                    "serial_no": "R-20260102-000001",
                    "user_id": "user-1001",
                    "account_type": "basic",
                    "amount": "100.00",
                    "currency": "TWD",
                    "recharge_type": "card",
                    "metadata": {"cart": "C-778"},
                }
            ]
        }
    )

    type: Literal["order.recharge.v1"] = "order.recharge.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    amount: AmountText
    currency: CurrencyText
    recharge_type: ChannelType
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


def _account_example(command_type: str, serial_no: str, reason: str) -> ConfigDict:
    return _example(
        {
            "type": command_type,
            "serial_no": serial_no,
            "user_id": "user-1001",
            "account_type": "basic",
            "currency": "TWD",
            "reason": reason,
            "metadata": {"case": "K-31"},
        }
    )


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class FreezeAccount(Command):
    """Freeze an account: debits are refused, credits are still accepted.

    Reserved amounts stay reserved. A withdrawal or refund that was sent to the payment gateway ends as the gateway
    reports.
    """

    model_config = _account_example("account.freeze.v1", "FREEZE-20260102-000001", "chargeback reported")

    type: Literal["account.freeze.v1"] = "account.freeze.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    currency: CurrencyText
    reason: Reason
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class UnfreezeAccount(Command):
    """Unfreeze an account: debits are accepted again."""

    model_config = _account_example("account.unfreeze.v1", "UNFREEZE-20260102-000001", "chargeback settled")

    type: Literal["account.unfreeze.v1"] = "account.unfreeze.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    currency: CurrencyText
    reason: Reason
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class CloseAccount(Command):
    """Close an account for good. It must have a zero balance, no reserve and no pending order.

    A later open of the same user, type and currency creates a new account with a new account_no.
    """

    model_config = _account_example("account.close.v1", "CLOSE-20260102-000001", "asked for by the user")

    type: Literal["account.close.v1"] = "account.close.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    currency: CurrencyText
    reason: Reason
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class Withdraw(Command, MoneyFields):
    """Pay money out of an account through the payment gateway.

    The amount is reserved at once: `available` falls, `balance` stays. The gateway's result debits it or releases
    it. A withdrawal never expires: the gateway is asked until it reports a result.
    """

    model_config = _example(
        {
            "type": "order.withdraw.v1",
            "serial_no": "W-20260102-000001",
            "user_id": "user-1001",
            "account_type": "basic",
            "amount": "40.00",
            "currency": "TWD",
            "payout_type": "bank_transfer",
            "metadata": {"bank": "B-12"},
        }
    )

    type: Literal["order.withdraw.v1"] = "order.withdraw.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    amount: AmountText
    currency: CurrencyText
    payout_type: ChannelType
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class Transfer(Command, MoneyFields):
    """Move money at once from one account to another of the same currency."""

    model_config = _example(
        {
            "type": "order.transfer.v1",
            "serial_no": "T-20260102-000001",
            "user_id": "user-1001",
            "account_type": "basic",
            "to_user_id": "user-1002",
            "to_account_type": "basic",
            "amount": "25.00",
            "currency": "TWD",
            "metadata": {"note": "lunch"},
        }
    )

    type: Literal["order.transfer.v1"] = "order.transfer.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    to_user_id: UserId = Field(description="Who receives the money.")
    to_account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    amount: AmountText
    currency: CurrencyText
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class Refund(Command, MoneyFields):
    """Return a successful recharge, or a part of it, through the payment gateway.

    The amount is reserved at once, as for a withdrawal. The refunds of a recharge that did not fail are together
    at most its amount.
    """

    model_config = _example(
        {
            "type": "order.refund.v1",
            "serial_no": "RF-20260102-000001",
            "original_serial_no": "R-20260102-000001",
            "amount": "60.00",
            "currency": "TWD",
            "metadata": {"cart": "C-778"},
        }
    )

    type: Literal["order.refund.v1"] = "order.refund.v1"
    serial_no: SerialNo
    original_serial_no: SerialNo = Field(description="The serial number of the recharge.")
    amount: AmountText
    currency: CurrencyText
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class Hold(Command, MoneyFields):
    """Reserve money of an account, to be captured or released later. No money moves."""

    model_config = _example(
        {
            "type": "order.hold.v1",
            "serial_no": "H-20260102-000001",
            "user_id": "user-1001",
            "account_type": "basic",
            "amount": "50.00",
            "currency": "TWD",
            "expires_in_seconds": 604_800,
            "metadata": {"booking": "B-4711"},
        }
    )

    type: Literal["order.hold.v1"] = "order.hold.v1"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    amount: AmountText
    currency: CurrencyText
    expires_in_seconds: int = Field(
        ge=1,
        le=HOLD_SECONDS_MAX,
        description="After how many seconds the hold lets go of what is left of it; at most a year.",
    )
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class Capture(Command, MoneyFields):
    """Move held money, or a part of it, to another account. A hold may be captured several times."""

    model_config = _example(
        {
            "type": "order.capture.v1",
            "serial_no": "C-20260102-000001",
            "hold_serial_no": "H-20260102-000001",
            "amount": "30.00",
            "currency": "TWD",
            "to_user_id": "merchant-7",
            "to_account_type": "basic",
            "metadata": {"booking": "B-4711"},
        }
    )

    type: Literal["order.capture.v1"] = "order.capture.v1"
    serial_no: SerialNo
    hold_serial_no: SerialNo = Field(description="The serial number of the hold.")
    amount: AmountText
    currency: CurrencyText
    to_user_id: UserId = Field(description="Who receives the money.")
    to_account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class Release(Command):
    """Release what is left of a hold. No money moves."""

    model_config = _example(
        {
            "type": "order.release.v1",
            "serial_no": "L-20260102-000001",
            "hold_serial_no": "H-20260102-000001",
            "metadata": {"booking": "B-4711"},
        }
    )

    type: Literal["order.release.v1"] = "order.release.v1"
    serial_no: SerialNo
    hold_serial_no: SerialNo = Field(description="The serial number of the hold.")
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class RechargeV2(Command, MoneyFields):
    """Ask the payment gateway to collect money, and say how; credit the account once it has.

    Like order.recharge.v1, which stays. A number that was used with the other version is a conflict.
    """

    model_config = _example(
        {
            "type": "order.recharge.v2",
            "serial_no": "R-20260102-000009",
            "user_id": "user-1001",
            "account_type": "basic",
            "amount": "100.00",
            "currency": "TWD",
            "recharge_type": "card",
            "instrument": "pm_7Qd2",
            "return_url": "https://shop.example/orders/778",
        }
    )

    type: Literal["order.recharge.v2"] = "order.recharge.v2"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    amount: AmountText
    currency: CurrencyText
    recharge_type: ChannelType
    instrument: OptionalIn[Instrument] = None
    return_url: OptionalIn[ReturnUrl] = None
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class WithdrawV2(Command, MoneyFields):
    """Pay money out of an account through the payment gateway, and say where to.

    Like order.withdraw.v1, which stays. A number that was used with the other version is a conflict.
    """

    model_config = _example(
        {
            "type": "order.withdraw.v2",
            "serial_no": "W-20260102-000009",
            "user_id": "user-1001",
            "account_type": "basic",
            "amount": "40.00",
            "currency": "TWD",
            "payout_type": "bank_transfer",
            "instrument": "ba_51Hx",
        }
    )

    type: Literal["order.withdraw.v2"] = "order.withdraw.v2"
    serial_no: SerialNo
    user_id: UserId
    account_type: AccountType = DEFAULT_ACCOUNT_TYPE
    amount: AmountText
    currency: CurrencyText
    payout_type: ChannelType
    instrument: OptionalIn[Instrument] = None
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


class CancelOrder(Command):
    """Cancel a pending recharge at once, or ask the payment gateway to stop a pending payout.

    It makes no order: its result is the order as it stands. A recharge that is paid all the same is credited, late. The
    amount of a payout stays reserved until the gateway has said what became of it.
    """

    model_config = _example(
        {
            "type": "order.cancel.v1",
            "serial_no": "X-20260102-000001",
            "target_serial_no": "R-20260102-000001",
            "reason": "the customer has left",
        }
    )

    type: Literal["order.cancel.v1"] = "order.cancel.v1"
    serial_no: SerialNo
    target_serial_no: SerialNo = Field(description="The serial number of the recharge, withdrawal or refund.")
    reason: OptionalIn[Reason] = None
    metadata: OptionalIn[Metadata] = None
    valid_until: OptionalIn[ValidUntil] = None


AnyCommand: TypeAlias = (
    OpenAccount
    | FreezeAccount
    | UnfreezeAccount
    | CloseAccount
    | Recharge
    | RechargeV2
    | Withdraw
    | WithdrawV2
    | Transfer
    | Refund
    | Hold
    | Capture
    | Release
    | CancelOrder
)
"""Every command that the wallet knows. What accepts, decides and sends commands takes them from here."""


class OpenAccountResult(OutboundObject):
    """The account that was opened."""

    object: Literal["account_opened"] = "account_opened"
    user_id: UserId
    account_type: AccountType
    currency: CurrencyText
    account_no: AccountNo


class AccountResult(AccountView):
    """The account after the command."""

    object: Literal["account"] = "account"


class RechargeResult(MoneyFields):
    """The accepted order, which waits for the payment gateway."""

    model_config = OPEN

    object: Literal["recharge"] = "recharge"
    user_id: UserId
    account_type: AccountType
    amount: AmountText
    currency: CurrencyText
    recharge_type: ChannelType
    serial_no: SerialNo
    order_status: GrowingEnum[OrderStatus]


class OrderResult(OrderView):
    """The order after the command."""

    object: Literal["order"] = "order"


class NoResult(OutboundObject):
    """The empty result of a refusal."""

    object: Literal["none"] = "none"


_KINDS: Final[dict[type[JsonObject], str]] = {
    OpenAccountResult: "account_opened",
    RechargeResult: "recharge",
    OrderResult: "order",
    AccountResult: "account",
    NoResult: "none",
}

# A field that tells a kind of result from those after it: of results that were stored before they said what they are.
_SIGNS: Final = {
    "order_id": "order",
    "recharge_type": "recharge",
    "balance": "account",
    "account_no": "account_opened",
}


def _kind(result: Any) -> str:
    """Return the tag of a result, in a fraction of the time in which pydantic would try each class."""
    if isinstance(result, dict):
        kind = result.get("object")
        if isinstance(kind, str):
            return kind
        return next((tag for sign, tag in _SIGNS.items() if sign in result), "none")
    return _KINDS.get(type(result), "unknown")


Result = Annotated[
    Annotated[OpenAccountResult, Tag("account_opened")]
    | Annotated[RechargeResult, Tag("recharge")]
    | Annotated[OrderResult, Tag("order")]
    | Annotated[AccountResult, Tag("account")]
    | Annotated[NoResult, Tag("none")],
    Discriminator(_kind),
]


class RefusedParty(StrEnum):
    """A side of a transfer or a capture."""

    PAYER = "payer"
    PAYEE = "payee"


class LimitName(StrEnum):
    """A limit that a deployment sets."""

    AMOUNT_MIN = "amount_min"
    AMOUNT_MAX = "amount_max"
    BALANCE_MAX = "balance_max"
    DAY_MAX = "day_max"


class RefusalDetails(OutboundObject):
    """Why a command was refused, for a program: what applies to its code."""

    party: OmittedIfNone[GrowingEnum[RefusedParty]] = Field(
        default=None, description="Of a transfer or a capture: whose account it is."
    )
    limit: OmittedIfNone[GrowingEnum[LimitName]] = Field(
        default=None, description="With LIMIT_EXCEEDED: which limit."
    )
    allowed: OmittedIfNone[BalanceText] = Field(
        default=None, description="With LIMIT_EXCEEDED: what the limit is."
    )
    left: OmittedIfNone[BalanceText] = Field(
        default=None,
        description="With LIMIT_EXCEEDED, of `day_max` and `balance_max`: what is left of it.",
    )
    available: OmittedIfNone[BalanceText] = Field(
        default=None,
        description="With INSUFFICIENT_BALANCE: what the account had available. "
        "Only whoever may act for the user is told.",
    )


class Fault(OutboundObject):
    """A fault of a malformed message."""

    field: Text = Field(
        description="Where it is: the path of the field, such as `metadata.campaign`; empty for the whole."
    )
    message: Text = Field(description="What is wrong, for a person.")


class Outcome(OutboundMessage):
    """The one outcome of a serial number, sent to the command's `reply_to` with its `correlation_id`.

    A repeat of the same command gets the stored outcome, with `duplicate` true, whatever has happened since. A
    refusal is final: a new attempt takes a new serial number. MALFORMED, UNSUPPORTED_TYPE and SERIAL_CONFLICT do not
    use up a serial number.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "command.outcome.v1",
                    "serial_no": "OPEN-20260102-000001",
                    "status": "applied",
                    "code": "OK",
                    "duplicate": False,
                    "result": {
                        "object": "account_opened",
                        "user_id": "user-1001",
                        "account_type": "basic",
                        "currency": "TWD",
                        "account_no": "2026010204815162347",
                    },
                },
                {
                    "type": "command.outcome.v1",
                    "serial_no": "R-20260102-000001",
                    "status": "applied",
                    "code": "OK",
                    "duplicate": True,
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
                {
                    "type": "command.outcome.v1",
                    "serial_no": "T-20260102-000001",
                    "status": "applied",
                    "code": "OK",
                    "duplicate": False,
                    "result": {"object": "order", **TRANSFER_EXAMPLE},
                },
                {
                    "type": "command.outcome.v1",
                    "serial_no": "H-20260102-000001",
                    "status": "applied",
                    "code": "OK",
                    "duplicate": False,
                    "result": {"object": "order", **HOLD_EXAMPLE},
                },
                {
                    "type": "command.outcome.v1",
                    "serial_no": "FREEZE-20260102-000001",
                    "status": "applied",
                    "code": "OK",
                    "duplicate": False,
                    "result": {"object": "account", **ACCOUNT_EXAMPLE, "status": "frozen"},
                },
                {
                    "type": "command.outcome.v1",
                    "serial_no": "R-20260102-000001",
                    "status": "refused",
                    "code": "SERIAL_CONFLICT",
                    "duplicate": False,
                    "result": {"object": "none"},
                    "message": "the serial number was used before with different amount",
                    "different": ["amount"],
                },
                {
                    "type": "command.outcome.v1",
                    "serial_no": "T-20260102-000002",
                    "status": "refused",
                    "code": "INSUFFICIENT_BALANCE",
                    "duplicate": False,
                    "result": {"object": "none"},
                    "message": "the account has less than that available",
                    "details": {"available": "20.00"},
                },
                {
                    "type": "command.outcome.v1",
                    "serial_no": None,
                    "status": "refused",
                    "code": "MALFORMED",
                    "duplicate": False,
                    "result": {"object": "none"},
                    "message": "amount: Input should be a valid string",
                    "faults": [{"field": "amount", "message": "Input should be a valid string"}],
                },
            ]
        }
    )

    type: Literal["command.outcome.v1"] = "command.outcome.v1"
    serial_no: SerialNo | None = Field(
        description="The serial number of the command; null where the message had none that could be read."
    )
    status: Enumerated[OutcomeStatus]
    code: GrowingEnum[Code]
    duplicate: bool = Field(description="True when a stored outcome is being repeated.")
    result: Result = Field(
        description="What the command made, if it was applied; `object` says what it is. `account_opened` of "
        "account.open: the account's identity. `account` of the other account commands. `recharge` of order.recharge: "
        "the order in short. `order` of the other orders. `none` of a refusal."
    )
    message: OmittedIfNone[Text] = Field(default=None, description="Of a refusal: why, for a person.")
    details: OmittedIfNone[RefusalDetails] = Field(
        default=None,
        description="Of a refusal: why, for a program, where there is more to say than the code.",
    )
    different: OmittedIfNone[list[Text]] = Field(
        default=None,
        description="With SERIAL_CONFLICT: the fields in which the command differs from the first one.",
    )
    faults: OmittedIfNone[list[Fault]] = Field(
        default=None, description="With MALFORMED and UNSUPPORTED_TYPE: what is wrong with the message."
    )
