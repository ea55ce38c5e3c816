"""What upstream services ask of the wallet, and the one outcome that each serial number has."""

from typing import Literal

from pydantic import ConfigDict, Field

from schemas.codes import Code
from schemas.fingerprint import content, differing, fingerprint
from schemas.message import Message, Part, WithAmount
from schemas.names import DEFAULT_ACCOUNT_TYPE
from schemas.values import (
    AccountNo,
    AccountType,
    AmountText,
    ChannelType,
    CurrencyText,
    Enumerated,
    Metadata,
    Optionally,
    OrderStatus,
    OutcomeStatus,
    SerialNo,
    Text,
    UserId,
    WhereItApplies,
)

__all__ = [
    "Command",
    "Fault",
    "NoResult",
    "OpenAccount",
    "OpenAccountResult",
    "Outcome",
    "Recharge",
    "RechargeResult",
    "content",
    "differing",
    "fingerprint",
]


class Command(Message):
    """What every command has: a serial number, and perhaps the sender's own notes."""

    serial_no: SerialNo


class OpenAccount(Command):
    """Open an account of a user, of one type and in one currency.

    Refused with ACCOUNT_EXISTS while the user has an open account of this type and currency.
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
    metadata: Optionally[Metadata] = None


class Recharge(Command, WithAmount):
    """Put money into an account, once the payment gateway has collected it.

    The outcome says that the order is pending. How it ends is told by the events order.succeeded,
    order.failed and order.expired, and by the query order.get.
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
    metadata: Optionally[Metadata] = None


class OpenAccountResult(Part):
    """The account that was opened."""

    user_id: UserId
    account_type: AccountType
    currency: CurrencyText
    account_no: AccountNo


class RechargeResult(WithAmount):
    """The order that was accepted; it waits for the payment gateway."""

    user_id: UserId
    account_type: AccountType
    amount: AmountText
    currency: CurrencyText
    recharge_type: ChannelType
    serial_no: SerialNo
    order_status: Enumerated[OrderStatus]


class NoResult(Part):
    """The empty result of a refusal."""


class Fault(Part):
    """One thing that is wrong with a malformed message."""

    field: Text = Field(
        description="Where it is: the path of the field, such as `metadata.campaign`; empty for the whole."
    )
    message: Text = Field(description="What is wrong, for a person.")


class Outcome(Message):
    """The one outcome of a serial number, sent to the command's `reply_to` with its `correlation_id`.

    A repeat of the same command gets the same outcome again, whatever has happened since, with `duplicate`
    true. A refusal is final: a new attempt takes a new serial number. Only MALFORMED, UNSUPPORTED_TYPE and
    SERIAL_CONFLICT leave the serial number as it was.
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
                    "serial_no": "R-20260102-000001",
                    "status": "refused",
                    "code": "SERIAL_CONFLICT",
                    "duplicate": False,
                    "result": {},
                    "different": ["amount"],
                },
                {
                    "type": "command.outcome.v1",
                    "serial_no": "R-20260102-000002",
                    "status": "refused",
                    "code": "MALFORMED",
                    "duplicate": False,
                    "result": {},
                    "faults": [{"field": "amount", "message": "Input should be a valid string"}],
                },
            ]
        }
    )

    type: Literal["command.outcome.v1"] = "command.outcome.v1"
    serial_no: SerialNo
    status: Enumerated[OutcomeStatus]
    code: Enumerated[Code]
    duplicate: bool = Field(description="True when a stored outcome is being repeated.")
    result: OpenAccountResult | RechargeResult | NoResult = Field(
        description="What the command made, if it was applied; empty for a refusal."
    )
    different: WhereItApplies[list[Text]] = Field(
        default=None,
        description="With SERIAL_CONFLICT: the fields in which the command differs from the first one.",
    )
    faults: WhereItApplies[list[Fault]] = Field(
        default=None, description="With MALFORMED and UNSUPPORTED_TYPE: what is wrong with the message."
    )
