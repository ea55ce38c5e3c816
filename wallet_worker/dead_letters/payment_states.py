"""What the state of an order means for the results of its payment that may still come, in words.

The words follow the tables of `core/orders.py`, so that they cannot differ from what the worker does.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wallet_schemas.values import OrderStatus, OrderType, PaymentStatus
from wallet_worker.core.orders import ORDER_SPECS, Effect

_STANDS: Final[Mapping[OrderStatus, str]] = MappingProxyType(
    {
        OrderStatus.PENDING: "still waits for its result",
        OrderStatus.SUCCEEDED: "has succeeded",
        OrderStatus.FAILED: "has failed",
        OrderStatus.EXPIRED: "has expired, and its user is told so",
        OrderStatus.CANCELLED: "was cancelled",
    }
)
_ON_SUCCESS: Final[Mapping[Effect, str]] = MappingProxyType(
    {
        Effect.CREDIT: "A right `succeeded` credits it.",
        Effect.CREDIT_LATE: "A right `succeeded` is still credited, late.",
        Effect.DEBIT: "A right `succeeded` debits the reserved amount.",
        Effect.DUPLICATE: "Another `succeeded` changes nothing.",
        Effect.NO_CHANGE: "A `succeeded` changes nothing.",
        Effect.CONTRADICTION: "A `succeeded` would contradict it, and move nothing.",
    }
)
_ON_FAILURE: Final[Mapping[Effect, str]] = MappingProxyType(
    {
        Effect.CLOSE: "A right `failed` ends it.",
        Effect.RELEASE_RESERVE: "A right `failed` makes the reserved amount available again.",
        Effect.DUPLICATE: "Another `failed` changes nothing.",
        Effect.NO_CHANGE: "A `failed` changes nothing.",
        Effect.CONTRADICTION: "A `failed` would contradict it, and move nothing.",
    }
)


def of_order(order_type: OrderType, status: OrderStatus, *, account_closed: bool = False) -> str:
    """Return what the state of a payment's order means for the results that may still come."""
    spec = ORDER_SPECS[order_type]
    stands = _STANDS.get(status, f"is {status.value}")
    sentences = [f"Its order, a {_TYPES.get(order_type, order_type.value)}, {stands}."]
    success, failure = (
        spec.transition(status, PaymentStatus.SUCCEEDED),
        spec.transition(status, PaymentStatus.FAILED),
    )
    if success is not None and success.credits and account_closed:
        sentences.append("A `succeeded` would be a dead letter, too, because its account is closed.")
    elif success is not None and success.effect in _ON_SUCCESS:
        sentences.append(_ON_SUCCESS[success.effect])
    if failure is not None and failure.effect in _ON_FAILURE:
        sentences.append(_ON_FAILURE[failure.effect])
    return " ".join(sentences)


_TYPES: Final[Mapping[OrderType, str]] = MappingProxyType({OrderType.WITHDRAW: "withdrawal"})

PAYMENT_STATES: Final = tuple(
    (order_type, status)
    for order_type, spec in ORDER_SPECS.items()
    if spec.payment is not None
    for status in OrderStatus
    if status in spec.statuses
)
"""Every state of every order that is paid through the gateway."""
