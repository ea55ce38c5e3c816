"""The gateway's settlement file: what became of its payments, by its own books, to compare the orders with.

CSV as RFC 4180 has it, in UTF-8: a first line with the names of `COLUMNS`, then one record a payment. A file that has
reversals has `REVERSAL_COLUMN` besides. None of these
values has a line end in it; those of other columns may.
"""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from wallet_schemas.message import FIELD_OF_WHOLE, MoneyFields
from wallet_schemas.values import (
    ONE_LINE,
    AmountText,
    CurrencyText,
    Enumerated,
    GatewayRef,
    IncomingTimestamp,
    PaymentKind,
    PaymentStatus,
    ReversalRef,
    SerialNo,
)


class SettlementKind(StrEnum):
    """What a line is about: a payment, or a dispute, recall or return of one."""

    CHARGE = PaymentKind.CHARGE.value
    PAYOUT = PaymentKind.PAYOUT.value
    REFUND = PaymentKind.REFUND.value
    REVERSAL = "reversal"


class SettlementLine(MoneyFields):
    """One payment as the gateway has it in its books, or what stands of one dispute, recall or return of it.

    Of a reversal, `succeeded` says that the amount is moved back, `failed` that it is not any more, and `unknown` that
    it is open.
    """

    payment_order_no: SerialNo
    kind: Enumerated[SettlementKind]
    amount: AmountText
    currency: CurrencyText
    status: Enumerated[PaymentStatus]
    gateway_ref: Annotated[GatewayRef, StringConstraints(pattern=ONE_LINE)]
    occurred_at: IncomingTimestamp
    reversal_ref: Annotated[ReversalRef, StringConstraints(pattern=ONE_LINE)] | None = Field(
        default=None,
        description="Of a reversal, and of nothing else; a file without reversals has no such column.",
    )

    @model_validator(mode="after")
    def _only_a_reversal_has_a_ref(self) -> Self:
        if (self.kind is SettlementKind.REVERSAL) != (self.reversal_ref is not None):
            raise PydanticCustomError(
                FIELD_OF_WHOLE, "A reversal has it, and nothing else", {"field": REVERSAL_COLUMN}
            )
        return self


REVERSAL_COLUMN: Final = "reversal_ref"
COLUMNS: Final = tuple(name for name in SettlementLine.model_fields if name != REVERSAL_COLUMN)
"""The columns that every file has."""
