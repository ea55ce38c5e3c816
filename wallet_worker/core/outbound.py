"""What goes out with a decision: events, payment requests, replies.

The numbers keep a message's ids apart: 0 its first event, 1 its payment request or its second event, 2 its reply,
3 and 4 what a reversal has, 16 and more the orders that the wallet makes itself.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias
from uuid import UUID

import orjson

from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.events import (
    Event,
    OrderActive,
    OrderCancelled,
    OrderCaptured,
    OrderExpired,
    OrderFailed,
    OrderPending,
    OrderReleased,
    OrderSucceeded,
)
from wallet_schemas.message import Body
from wallet_schemas.money import to_text
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS, routing_key
from wallet_schemas.payments import PaymentProcessed, PaymentRequest
from wallet_schemas.times import to_text as time_text
from wallet_schemas.values import OrderStatus, OutcomeStatus, PaymentKind, ProcessingStatus
from wallet_worker.core import orders
from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.orders import Order

EventClass: TypeAlias = type[Event]
"""A class of events: each has data of its own kind, and only the name of its type is asked for here."""

_ORDER_EVENTS: Final[dict[OrderStatus, EventClass]] = {
    OrderStatus.PENDING: OrderPending,
    OrderStatus.SUCCEEDED: OrderSucceeded,
    OrderStatus.FAILED: OrderFailed,
    OrderStatus.EXPIRED: OrderExpired,
    OrderStatus.CANCELLED: OrderCancelled,
    OrderStatus.ACTIVE: OrderActive,
    OrderStatus.CAPTURED: OrderCaptured,
    OrderStatus.RELEASED: OrderReleased,
}

if set(_ORDER_EVENTS) != set(OrderStatus):
    msg = f"no event for an order that is {set(OrderStatus) - set(_ORDER_EVENTS)}"
    raise AssertionError(msg)


NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def encode(body: Body) -> bytes:
    """Return a body as compact JSON in UTF-8. What it says is not checked: that it is what the models say, tests do."""
    return orjson.dumps(body)


def event_message(
    kind: EventClass, serial_no: str, data: Body, context: DecisionContext, number: int = 0
) -> OutboxMessage:
    """Return an event about a serial number, with the data of its kind."""
    event_id = context.draw.event_id(context.now, number)
    event = {
        "type": kind.TYPE,
        "event_id": str(event_id),
        "occurred_at": time_text(context.now),
        "serial_no": serial_no,
        "data": data,
    }
    return _outgoing(kind.TYPE, event, event_id, WALLET_EVENTS, context)


def order_event(
    order: Order,
    account: Account,
    context: DecisionContext,
    *,
    entries: list[Body] | None = None,
    payee: Account | None = None,
    number: int = 0,
) -> OutboxMessage:
    """Return the event of the status that an order has come to."""
    data = orders.body(order, account, entries, payee)
    return event_message(_ORDER_EVENTS[order.status], order.serial_no, data, context, number)


def payment_request(
    order: Order,
    account: Account,
    kind: PaymentKind,
    context: DecisionContext,
    *,
    original: Order | None = None,
    handed_on: Mapping[str, str] = NOTHING,
) -> OutboxMessage:
    """Return the request to the payment gateway about an order.

    `original` is the recharge that a refund gives back; `handed_on` are members of the command that the gateway alone
    reads.
    """
    request: Body = {
        "type": PaymentRequest.TYPE,
        "payment_order_no": order.serial_no,
        "kind": kind,
        "amount": to_text(order.amount_minor, order.currency),
        "currency": order.currency,
        "channel": order.channel,
        "requested_at": time_text(context.now),
        "expires_at": None if order.expires_at is None else time_text(order.expires_at),
        "user_id": account.user_id,
        "account_no": account.account_no,
    }
    request.update(handed_on)
    if original is not None:
        request["original_payment_order_no"] = original.serial_no
        if original.gateway_ref is not None:
            request["original_gateway_ref"] = original.gateway_ref
    if order.metadata:
        request["metadata"] = order.metadata
    message_id = context.draw.event_id(context.now, 1)
    return _outgoing(PaymentRequest.TYPE, request, message_id, PAYMENT_REQUESTS, context)


def outcome(
    serial_no: str | None,
    status: OutcomeStatus,
    code: Code,
    result: str,
    *,
    duplicate: bool,
    **further: object,
) -> Body:
    """Return the outcome of a command. `result` is JSON, and goes into the body as it is; `further` are the members
    that stand beside it.
    """
    return {
        "type": Outcome.TYPE,
        "serial_no": serial_no,
        "status": status,
        "code": code,
        "duplicate": duplicate,
        "result": orjson.Fragment(result),
        **further,
    }


def processed(
    payment_order_no: str, status: ProcessingStatus, code: Code, reversal_ref: str | None = None
) -> Body:
    """Return the answer to the gateway about its result, or about its reversal."""
    of_reversal: Body = {} if reversal_ref is None else {"reversal_ref": reversal_ref}
    return {
        "type": PaymentProcessed.TYPE,
        "payment_order_no": payment_order_no,
        **of_reversal,
        "processing_status": status,
        "code": code,
    }


def reply(answer: Body, context: DecisionContext) -> tuple[OutboxMessage, ...]:
    """Return the reply, on the default exchange; empty if the message asks for none."""
    if context.incoming.reply_to is None:
        return ()
    message = OutboxMessage(
        message_id=context.draw.event_id(context.now, 2),
        exchange="",
        routing_key=context.incoming.reply_to,
        body=encode(answer),
        correlation_id=context.incoming.correlation_id,
        traceparent=context.incoming.traceparent,
    )
    return (message,)


def _outgoing(
    type_: str, body: Body, message_id: UUID, exchange: str, context: DecisionContext
) -> OutboxMessage:
    return OutboxMessage(
        message_id=message_id,
        exchange=exchange,
        routing_key=routing_key(type_),
        body=encode(body),
        traceparent=context.incoming.traceparent,
    )
