"""Whether a payment request is the wallet's own, and still wanted: only such a one may reach the gateway again.

Everybody who may publish to the dead letters can write what he likes there, `x-death` too. But what moves money at
the gateway is told by the order, and that nobody but the wallet writes. An order that has ended wants no money
any more: a gateway would collect it all the same.
"""

from collections.abc import Sequence
from typing import Final

import asyncpg

from wallet_schemas.money import AmountOutOfRange, UnknownCurrency
from wallet_schemas.parse import Malformed, UnsupportedType, parse
from wallet_schemas.payments import PaymentRequest
from wallet_schemas.values import OrderStatus, PaymentKind
from wallet_worker.core.orders import ORDER_SPECS, Order
from wallet_worker.store import orders

_REQUESTS: Final = {PaymentRequest.TYPE: PaymentRequest}


async def invalid_requests(connection: asyncpg.Connection, bodies: Sequence[bytes]) -> list[str | None]:
    """Return why each payment request asks for nothing that an order of the wallet waits for; nothing where it does.

    A question about an order is always free.
    """
    requests = [_read(body) for body in bodies]
    numbers = {request.payment_order_no for request in requests if isinstance(request, PaymentRequest)}
    stored_orders = await orders.find(connection, sorted(numbers), lock=False) if numbers else {}
    return [
        request
        if isinstance(request, str)
        else _why_not(request, stored_orders.get(request.payment_order_no))
        for request in requests
    ]


def _read(body: bytes) -> PaymentRequest | str:
    try:
        message = parse(body, _REQUESTS)
    except (Malformed, UnsupportedType):
        return "it is no payment request that the wallet would have written"
    if not isinstance(message, PaymentRequest):
        raise TypeError(type(message).__name__)
    return message


def _why_not(request: PaymentRequest, order: Order | None) -> str | None:
    if order is None:
        return "it is about no order of the wallet"
    try:
        amount_minor = request.amount_minor
    except (AmountOutOfRange, UnknownCurrency):
        return "its amount is none that an order can have"
    agreeing = {
        "kind": request.kind in {ORDER_SPECS[order.order_type].payment, PaymentKind.STATUS}
        and ORDER_SPECS[order.order_type].payment is not None,
        "amount": (amount_minor, request.currency) == (order.amount_minor, order.currency),
        "channel": request.channel == order.channel,
        "expires_at": request.expires_at == order.expires_at,
    }
    differing = [name for name, same in agreeing.items() if not same]
    if differing:
        return f"its {' and '.join(differing)} is not that of the order"
    if request.kind is not PaymentKind.STATUS and order.status is not OrderStatus.PENDING:
        return f"its order is {order.status}, and nothing more is asked of the gateway for it"
    return None
