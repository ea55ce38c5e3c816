"""The gateway's settlement file: what became of its payments, by its own books, to compare the orders with.

CSV as RFC 4180 has it, in UTF-8: a first line with the names of `COLUMNS`, then one record a payment. None of these
values has a line end in it; those of other columns may.
"""

from typing import Annotated, Final

from pydantic import StringConstraints, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from wallet_schemas.message import MoneyFields
from wallet_schemas.values import (
    ONE_LINE,
    AmountText,
    CurrencyText,
    Enumerated,
    GatewayRef,
    IncomingTimestamp,
    PaymentKind,
    PaymentStatus,
    SerialNo,
)

SETTLED_KINDS: Final = (PaymentKind.CHARGE, PaymentKind.PAYOUT, PaymentKind.REFUND)
"""The kinds of requests that are payments: the others ask for the state of one, or to stop it."""


def _a_payment(value: object, handler: ValidatorFunctionWrapHandler) -> PaymentKind:
    try:
        kind = handler(value)
    except ValidationError:
        kind = None
    if kind not in SETTLED_KINDS:
        raise PydanticCustomError("payment_kind", "Input should be 'charge', 'payout' or 'refund'")
    return PaymentKind(kind)


class SettlementLine(MoneyFields):
    """One payment as the gateway has it in its books."""

    payment_order_no: SerialNo
    kind: Annotated[Enumerated[PaymentKind], WrapValidator(_a_payment)]
    amount: AmountText
    currency: CurrencyText
    status: Enumerated[PaymentStatus]
    gateway_ref: Annotated[GatewayRef, StringConstraints(pattern=ONE_LINE)]
    occurred_at: IncomingTimestamp


COLUMNS: Final = tuple(SettlementLine.model_fields)
