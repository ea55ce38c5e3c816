"""Whether a payment request is the wallet's own, and still wanted: only such a one may reach the gateway again.

Everybody who may publish to the dead letters can write what he likes there, `x-death` too. But what moves money at
the gateway is told by the order, and that nobody but the wallet writes. The order does not keep what a command says to
the gateway alone, such as where a payout goes: of that the wallet's own signature is the only proof. An order that has
ended wants no money any more: a gateway would collect it all the same.
"""

import json
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import asyncpg

from wallet_schemas.money import AmountOutOfRange, UnknownCurrency
from wallet_schemas.names import SIGNATURE_HEADER
from wallet_schemas.parse import Malformed, UnsupportedType, parse
from wallet_schemas.payments import PaymentRequest
from wallet_schemas.values import OrderStatus, PaymentKind
from wallet_worker.broker.amqp.properties import unmarshal
from wallet_worker.core.accounts import Account
from wallet_worker.core.orders import ORDER_SPECS, Order
from wallet_worker.store import accounts, orders

_REQUESTS: Final = {PaymentRequest.TYPE: PaymentRequest}

_UNKEPT: Final = frozenset({"instrument", "return_url"})
"""What a request says that its order does not."""

IsSigned = Callable[[object, bytes], bool]
"""Whether a header is the wallet's own signature of a body."""


class RequestLetter(Protocol):
    """A payment request that came back."""

    @property
    def body(self) -> bytes:
        """The request."""

    @property
    def properties(self) -> bytes:
        """The AMQP properties as bytes of the wire, with the wallet's signature if it had a key."""


def is_perhaps_signed(header: object, body: bytes) -> bool:
    """Return whether there is a signature at all. Who has no key of the wallet, as the console, knows no better."""
    del body
    return isinstance(header, str)


async def invalid_requests(
    connection: asyncpg.Connection,
    letters: Sequence[RequestLetter],
    is_signed: IsSigned = is_perhaps_signed,
) -> list[str | None]:
    """Return why each payment request asks for nothing that an order of the wallet waits for; nothing where it does.

    A question about an order is always free.
    """
    requests = [_read(letter.body) for letter in letters]
    numbers = {request.payment_order_no for request in requests if isinstance(request, PaymentRequest)}
    stored_orders = await orders.find(connection, sorted(numbers), lock=False) if numbers else {}
    account_ids = {order.account_id for order in stored_orders.values()}
    stored_accounts = await accounts.by_id(connection, account_ids) if account_ids else {}
    originals = {order.parent_serial_no for order in stored_orders.values() if order.parent_serial_no}
    stored_originals = await orders.find(connection, sorted(originals), lock=False) if originals else {}
    faults: list[str | None] = []
    for request, letter in zip(requests, letters, strict=True):
        if isinstance(request, str):
            faults.append(request)
            continue
        order = stored_orders.get(request.payment_order_no)
        faults.append(
            "it is about no order of the wallet"
            if order is None
            else _why_not(
                request,
                order,
                stored_accounts[order.account_id],
                stored_originals.get(order.parent_serial_no or ""),
            )
            or _why_unproven(letter, is_signed)
        )
    return faults


def _read(body: bytes) -> PaymentRequest | str:
    try:
        message = parse(body, _REQUESTS)
    except (Malformed, UnsupportedType):
        return "it is no payment request that the wallet would have written"
    if not isinstance(message, PaymentRequest):
        raise TypeError(type(message).__name__)
    return message


def _why_not(request: PaymentRequest, order: Order, account: Account, original: Order | None) -> str | None:
    """Return what differs from the order, from its account or from the payment that a refund gives back."""
    try:
        amount_minor = request.amount_minor
    except (AmountOutOfRange, UnknownCurrency):
        return "its amount is none that an order can have"
    payment = ORDER_SPECS[order.order_type].payment
    is_refund = request.kind is PaymentKind.REFUND
    is_cancel = request.kind is PaymentKind.CANCEL
    is_cancelled = order.cancelling or order.status is OrderStatus.CANCELLED
    agreeing = {
        "kind": payment is not None
        and (request.kind in {payment, PaymentKind.STATUS} or (is_cancel and is_cancelled)),
        "amount": (amount_minor, request.currency) == (order.amount_minor, order.currency),
        "channel": request.channel == order.channel,
        "expires_at": request.expires_at == order.expires_at,
        "user_id": request.user_id in {account.user_id, None},
        "account_no": request.account_no in {account.account_no, None},
        "metadata": (request.metadata or None) == (order.metadata or None),
        "original_payment_order_no": request.original_payment_order_no
        == (order.parent_serial_no if is_refund else None),
        "original_gateway_ref": request.original_gateway_ref
        == (original.gateway_ref if is_refund and original is not None else None),
    }
    differing = [name for name, same in agreeing.items() if not same]
    if differing:
        return f"its {' and '.join(differing)} is not that of the order"
    if request.kind is not PaymentKind.STATUS and not is_cancel and order.status is not OrderStatus.PENDING:
        return f"its order is {order.status}, and nothing more is asked of the gateway for it"
    return None


def _why_unproven(letter: RequestLetter, is_signed: IsSigned) -> str | None:
    """Return which fields no order proves, and no signature either."""
    unproven = sorted(set(json.loads(letter.body)) - _PROVEN)
    if not unproven or is_signed(
        (unmarshal(letter.properties).headers or {}).get(SIGNATURE_HEADER), letter.body
    ):
        return None
    named = unproven[0] if unproven[0] in _UNKEPT else "a field that the wallet does not know"
    return f"it says {named}, which its order does not, and the wallet's signature is not on it"


_PROVEN: Final = frozenset(PaymentRequest.model_fields) - _UNKEPT
