"""The closed set of answers: why something was applied, refused or set aside."""

from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """One answer. The codes stand in the order in which the wallet checks them; the first that fits is given.

    `meaning` says it to a person.
    """

    meaning: str

    OK = "OK", "it was done"
    MALFORMED = "MALFORMED", "the message does not match the schema of its type; see `faults`"
    UNSUPPORTED_TYPE = "UNSUPPORTED_TYPE", "messages of this type are not accepted here"
    BAD_SIGNATURE = "BAD_SIGNATURE", "the signature is missing, wrong, or made with an unknown key"
    NOT_ALLOWED = "NOT_ALLOWED", "the sender may not send this, or not about this user, account or order"
    SERIAL_CONFLICT = "SERIAL_CONFLICT", "the serial number was used before with other content"
    COMMAND_EXPIRED = "COMMAND_EXPIRED", "the command was decided later than its valid_until"
    CURRENCY_NOT_SUPPORTED = "CURRENCY_NOT_SUPPORTED", "this wallet does not hold the currency"
    ACCOUNT_TYPE_NOT_SUPPORTED = "ACCOUNT_TYPE_NOT_SUPPORTED", "this wallet has no accounts of this type"
    AMOUNT_OUT_OF_RANGE = "AMOUNT_OUT_OF_RANGE", "the amount is larger than a wallet can hold"
    ACCOUNT_EXISTS = "ACCOUNT_EXISTS", "the user has an account of this type and currency already"
    DEBT_OUTSTANDING = "DEBT_OUTSTANDING", "the closed account of this kind still owes money"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND", "the user has no account of this type and currency"
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED", "the account is closed"
    ACCOUNT_FROZEN = "ACCOUNT_FROZEN", "the account is frozen: debits are refused"
    SAME_ACCOUNT = "SAME_ACCOUNT", "money cannot move from an account to itself"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND", "there is no order with this serial number"
    KEY_NOT_ALLOWED = (
        "KEY_NOT_ALLOWED",
        "the key that signed it may not speak of this order, or spoke before there was one",
    )
    ORDER_NOT_REFUNDABLE = "ORDER_NOT_REFUNDABLE", "only a recharge that succeeded can be refunded"
    ORDER_NOT_CANCELLABLE = (
        "ORDER_NOT_CANCELLABLE",
        "the order is not pending, or is of a type that cannot be cancelled",
    )
    ORDER_NOT_REVERSIBLE = (
        "ORDER_NOT_REVERSIBLE",
        "no money of the order has moved, or reversals of this kind are not of its kind",
    )
    HOLD_NOT_ACTIVE = "HOLD_NOT_ACTIVE", "the hold was captured, released, or has expired"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH", "the currency is not that of the order or the account"
    AMOUNT_MISMATCH = "AMOUNT_MISMATCH", "the amount is not that of the order"
    AMOUNT_EXCEEDS_ORIGINAL = (
        "AMOUNT_EXCEEDS_ORIGINAL",
        "the amount exceeds what is left of the original",
    )
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED", "the amount is above a limit of the account"
    INSUFFICIENT_BALANCE = "INSUFFICIENT_BALANCE", "the account has less available than the amount"
    BALANCE_NOT_ZERO = "BALANCE_NOT_ZERO", "the account still holds, reserves or owes money"
    ORDERS_PENDING = "ORDERS_PENDING", "an order of the account is still pending"
    GATEWAY_REF_USED = "GATEWAY_REF_USED", "the gateway's id of the payment belongs to another payment"
    PAID_TWICE = "PAID_TWICE", "the order was paid already, by another payment"
    RESULT_TOO_LATE = "RESULT_TOO_LATE", "the money came long after the order had ended"
    CONTRADICTING_RESULT = "CONTRADICTING_RESULT", "the order already has another result"
    INTERNAL = "INTERNAL", "a fault of the wallet itself; nothing was done"
    # Of orders only: no command is answered with them.
    PAYMENT_FAILED = "PAYMENT_FAILED", "the payment gateway reported that the payment failed"
    PAYMENT_EXPIRED = "PAYMENT_EXPIRED", "the money did not arrive in time"
    PAYMENT_CANCELLED = "PAYMENT_CANCELLED", "the order was cancelled before the money arrived"

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """Return the member: a string like any other, that knows what it means."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code
