"""The gateway's settlement file: what became of its payments, by its own books, to compare the orders with.

CSV as RFC 4180 has it, in UTF-8: a first line with the names of `COLUMNS`, then one record a payment. None of these
values has a line end in it; those of other columns may.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, StringConstraints
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


def _is_a_payment(kind: PaymentKind) -> PaymentKind:
    if kind is PaymentKind.STATUS:
        raise PydanticCustomError("payment_kind", "A status request is no payment")
    return kind


class SettlementLine(MoneyFields):
    """One payment as the gateway has it in its books."""

    payment_order_no: SerialNo
    kind: Annotated[Enumerated[PaymentKind], AfterValidator(_is_a_payment)]
    amount: AmountText
    currency: CurrencyText
    status: Enumerated[PaymentStatus]
    gateway_ref: Annotated[GatewayRef, StringConstraints(pattern=ONE_LINE)]
    occurred_at: IncomingTimestamp


COLUMNS: Final = tuple(SettlementLine.model_fields)
