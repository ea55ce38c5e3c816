"""What goes out with a decision: events, payment requests, replies.

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
from wallet_schemas.message import JsonObject, Message
from wallet_schemas.money import to_text
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS, routing_key
from wallet_schemas.payments import PaymentProcessed, PaymentRequest
from wallet_schemas.values import OrderStatus, PaymentKind
from wallet_worker.core import orders
from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.core.context import DecisionContext
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
    msg = f"no event for an order that is {set(OrderStatus) - set(_ORDER_EVENTS)}"
    raise AssertionError(msg)


def event_message(
    kind: MakeEvent, serial_no: str, data: JsonObject, context: DecisionContext, number: int = 0
) -> OutboxMessage:
    """Return an event about a serial number, with the data of its kind."""
    event_id = context.draw.event_id(context.now, number)
    message = kind(event_id=str(event_id), occurred_at=context.now, serial_no=serial_no, data=data)
    return _outgoing(message, event_id, WALLET_EVENTS, context)


def order_event(
    order: Order,
    account: Account,
    context: DecisionContext,
    *,
    entries: list[EntryView] | None = None,
    payee: Account | None = None,
    number: int = 0,
) -> OutboxMessage:
    """Return the event of the status that an order has come to."""
    data = orders.view(order, account, entries, payee)
    return event_message(_ORDER_EVENTS[order.status], order.serial_no, data, context, number)


def payment_request(order: Order, kind: PaymentKind, context: DecisionContext) -> OutboxMessage:
    """Return the request to the payment gateway about an order."""
    message = PaymentRequest(
        payment_order_no=order.serial_no,
        kind=kind,
        amount=to_text(order.amount_minor, order.currency),
        currency=order.currency,
        channel=order.channel,
        requested_at=context.now,
        expires_at=order.expires_at,
    )
    return _outgoing(message, context.draw.event_id(context.now, 1), PAYMENT_REQUESTS, context)


def reply(message: Outcome | PaymentProcessed, context: DecisionContext) -> tuple[OutboxMessage, ...]:
    """Return the reply, on the default exchange; empty if the message asks for none."""
    if context.incoming.reply_to is None:
        return ()
    answer = OutboxMessage(
        message_id=context.draw.event_id(context.now, 2),
        exchange="",
        routing_key=context.incoming.reply_to,
        body=encode(message),
        correlation_id=context.incoming.correlation_id,
        traceparent=context.incoming.traceparent,
    )
    return (answer,)


def _outgoing(message: Message, message_id: UUID, exchange: str, context: DecisionContext) -> OutboxMessage:
    return OutboxMessage(
        message_id=message_id,
        exchange=exchange,
        routing_key=routing_key(message.type),
        body=encode(message),
        traceparent=context.incoming.traceparent,
    )
