"""The life of a reversal: a dispute or recall of a recharge, or the return of a withdrawal or a refund.

The gateway says what stands now, with a number that rises. The message with the highest number counts, in whatever
order messages arrive, so that nothing is doubled, reordered or netted wrongly. The rows are those of
docs/contract.md, section 13.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias
from uuid import UUID

from wallet_schemas.events import ReversalView
from wallet_schemas.message import Body
from wallet_schemas.money import to_text
from wallet_schemas.times import to_text as time_text
from wallet_schemas.values import OrderType, ReversalKind, ReversalStatus
from wallet_worker.core.accounts import Account, SystemName
from wallet_worker.core.orders import Order

REFS_MAX: Final = 100  # reversals of one order: more are no disputes, and each is read with the others


@dataclass(frozen=True, slots=True)
class Reversal:
    """What the gateway said last of one dispute, recall or return. Amounts are minor units.

    `moved_minor` is what of it stands in the ledger: the amount where it is moved or settled, else zero. `fingerprint`
    is that of the message with the highest sequence.
    """

    reversal_id: UUID
    order_id: UUID
    reversal_ref: str
    kind: ReversalKind
    status: ReversalStatus
    sequence: int
    amount_minor: int
    moved_minor: int
    fingerprint: bytes
    created_at: datetime
    updated_at: datetime
    reason_code: str | None = None
    reason: str | None = None
    respond_by: datetime | None = None


STANDING: Final = frozenset({ReversalStatus.MOVED, ReversalStatus.SETTLED})
"""The statuses in which the amount is moved back."""


class Recency(StrEnum):
    """How the sequence of a message compares to what is known."""

    HIGHER = "higher"
    EQUAL = "equal, same content"
    EQUAL_OTHER = "equal, other content"
    LOWER = "lower"


class ReversalEffect(StrEnum):
    """What a message about a reversal comes to."""

    APPLY = "recorded; what stands is moved; its status"
    DUPLICATE = "nothing"
    CONTRADICTION = "dead letter"


Table: TypeAlias = Mapping[tuple[ReversalStatus | None, Recency], ReversalEffect]

_OF_RECENCY: Final[Mapping[Recency, ReversalEffect]] = MappingProxyType(
    {
        Recency.HIGHER: ReversalEffect.APPLY,
        Recency.EQUAL: ReversalEffect.DUPLICATE,
        Recency.EQUAL_OTHER: ReversalEffect.CONTRADICTION,
        Recency.LOWER: ReversalEffect.DUPLICATE,
    }
)
_KNOWN: Final[tuple[ReversalStatus | None, ...]] = (None, *ReversalStatus)

REVERSAL: Final[Table] = MappingProxyType(
    {
        (status, recency): answer
        for status in _KNOWN
        for recency, answer in _OF_RECENCY.items()
        if status is not None or recency is Recency.HIGHER
    }
)
"""What a message comes to, by what is known of its reversal (None: nothing). No status is final for the money."""

KINDS: Final[Mapping[OrderType, frozenset[ReversalKind]]] = MappingProxyType(
    {
        OrderType.RECHARGE: frozenset({ReversalKind.DISPUTE, ReversalKind.RECALL}),
        OrderType.WITHDRAW: frozenset({ReversalKind.RETURN}),
        OrderType.REFUND: frozenset({ReversalKind.RETURN}),
    }
)
"""Which reversals an order of a type may have."""

MADE: Final[Mapping[OrderType, tuple[OrderType, OrderType]]] = MappingProxyType(
    {
        OrderType.RECHARGE: (OrderType.CHARGEBACK, OrderType.CHARGEBACK_REVERSAL),
        OrderType.WITHDRAW: (OrderType.PAYOUT_RETURN, OrderType.PAYOUT_RETURN_REVERSAL),
        OrderType.REFUND: (OrderType.PAYOUT_RETURN, OrderType.PAYOUT_RETURN_REVERSAL),
    }
)
"""The orders that the wallet makes of an order's reversal: where more of it stands than before, and where less."""

REVERSAL_ACCOUNTS: Final = (SystemName.CLEARING, SystemName.RECEIVABLES, SystemName.LOSSES)
"""The system accounts that a reversal may move."""


def _check_total() -> None:
    wanted = {(status, recency) for status in ReversalStatus for recency in Recency} | {
        (None, Recency.HIGHER)
    }
    if set(REVERSAL) != wanted or set(KINDS) != set(MADE):
        msg = f"the life of a reversal is not total: {set(REVERSAL) ^ wanted}"
        raise AssertionError(msg)


_check_total()


def recency(known: Reversal | None, sequence: int, fingerprint: bytes) -> Recency:
    """Return how a message compares to what is known of its reversal."""
    if known is None or sequence > known.sequence:
        return Recency.HIGHER
    if sequence < known.sequence:
        return Recency.LOWER
    return Recency.EQUAL if fingerprint == known.fingerprint else Recency.EQUAL_OTHER


def body(reversal: Reversal, order: Order, account: Account, *, over_returned: bool = False) -> Body:
    """Return a reversal of an order as docs/contract.md, section 13, has it, for JSON."""
    shown: Body = {
        "reversal_id": str(reversal.reversal_id),
        "serial_no": order.serial_no,
        "order_type": order.order_type,
        "user_id": account.user_id,
        "account_no": account.account_no,
        "reversal_ref": reversal.reversal_ref,
        "kind": reversal.kind,
        "status": reversal.status,
        "sequence": reversal.sequence,
        "amount": to_text(reversal.amount_minor, order.currency),
        "moved_amount": to_text(reversal.moved_minor, order.currency),
        "currency": order.currency,
        "created_at": time_text(reversal.created_at),
        "updated_at": time_text(reversal.updated_at),
    }
    if reversal.reason_code is not None:
        shown["reason_code"] = reversal.reason_code
    if reversal.reason is not None:
        shown["reason"] = reversal.reason
    if reversal.respond_by is not None:
        shown["respond_by"] = time_text(reversal.respond_by)
    if over_returned:
        shown["over_returned"] = True
    return shown


def view(reversal: Reversal, order: Order, account: Account) -> ReversalView:
    """Return the same reversal as a model, for whoever reads its fields."""
    return ReversalView.model_validate(body(reversal, order, account), strict=False)
