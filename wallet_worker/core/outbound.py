"""What goes out with a decision: events, payment requests, and the answer to whoever asked.

The numbers keep a message's ids apart: 0 its first event, 1 its payment request or its second event, 2 its reply.
"""

from collections.abc import Callable
from typing import TypeAlias
from uuid import UUID

from wallet_schemas.commands import Outcome
from wallet_schemas.encode import encode
from wallet_schemas.events import (
    EntryView,
    Event,
    OrderActive,
    OrderCaptured,
    OrderExpired,
    OrderFailed,
    OrderPending,
    OrderReleased,
    OrderSucceeded,
)
from wallet_schemas.message import Message, Part
from wallet_schemas.money import to_text
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS, routing_key
from wallet_schemas.payments import PaymentProcessed, PaymentRequest
from wallet_schemas.values import OrderStatus, PaymentKind
from wallet_worker.core import orders
from wallet_worker.core.accounts import Account
from wallet_worker.core.context import Circumstances
from wallet_worker.core.facts import Outgoing
from wallet_worker.core.orders import Order

MakeEvent: TypeAlias = Callable[..., Event]
"""A class of events: each has data of its own kind."""

_ORDER_EVENTS: dict[OrderStatus, MakeEvent] = {
    OrderStatus.PENDING: OrderPending,
    OrderStatus.SUCCEEDED: OrderSucceeded,
    OrderStatus.FAILED: OrderFailed,
    OrderStatus.EXPIRED: OrderExpired,
    OrderStatus.ACTIVE: OrderActive,
    OrderStatus.CAPTURED: OrderCaptured,
    OrderStatus.RELEASED: OrderReleased,
}

if set(_ORDER_EVENTS) != set(OrderStatus):
    msg = f"no event says that an order is {set(OrderStatus) - set(_ORDER_EVENTS)}"
    raise AssertionError(msg)


def event(kind: MakeEvent, serial_no: str, data: Part, at: Circumstances, number: int = 0) -> Outgoing:
    """Return an event about a serial number; `data` is what this kind of event tells."""
    event_id = at.draw.event_id(at.now, number)
    message = kind(event_id=str(event_id), occurred_at=at.now, serial_no=serial_no, data=data)
    return _outgoing(message, event_id, WALLET_EVENTS, at)


def order_event(
    order: Order,
    account: Account,
    at: Circumstances,
    *,
    entries: list[EntryView] | None = None,
    payee: Account | None = None,
    number: int = 0,
) -> Outgoing:
    """Return the event that tells the status which an order has come to."""
    data = orders.view(order, account, entries, payee)
    return event(_ORDER_EVENTS[order.status], order.serial_no, data, at, number)


def request(order: Order, kind: PaymentKind, at: Circumstances) -> Outgoing:
    """Return what the payment gateway is asked about an order."""
    message = PaymentRequest(
        payment_order_no=order.serial_no,
        kind=kind,
        amount=to_text(order.amount_minor, order.currency),
        currency=order.currency,
        channel=order.channel,
        requested_at=at.now,
        expires_at=order.expires_at,
    )
    return _outgoing(message, at.draw.event_id(at.now, 1), PAYMENT_REQUESTS, at)


def reply(message: Outcome | PaymentProcessed, at: Circumstances) -> tuple[Outgoing, ...]:
    """Return the answer to whoever asked for one, on the default exchange."""
    if at.incoming.reply_to is None:
        return ()
    answer = Outgoing(
        message_id=at.draw.event_id(at.now, 2),
        exchange="",
        routing_key=at.incoming.reply_to,
        body=encode(message),
        correlation_id=at.incoming.correlation_id,
        traceparent=at.incoming.traceparent,
    )
    return (answer,)


def _outgoing(message: Message, message_id: UUID, exchange: str, at: Circumstances) -> Outgoing:
    return Outgoing(
        message_id=message_id,
        exchange=exchange,
        routing_key=routing_key(message.type),
        body=encode(message),
        traceparent=at.incoming.traceparent,
    )
