"""What the gateway says about how a payer pays: kept while the recharge is pending, the highest revision of it.

The rows are those of docs/contract.md, section 14.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, assert_never

from wallet_schemas import money
from wallet_schemas.codes import Code
from wallet_schemas.events import OrderInstructions
from wallet_schemas.fingerprint import canonical, content, fingerprint
from wallet_schemas.payments import PaymentInstructions
from wallet_schemas.values import OrderStatus, OrderType, ProcessingStatus
from wallet_worker.core import orders, outbound, payment_results
from wallet_worker.core.changes import Decision, StoredInstructions
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.orders import Order
from wallet_worker.core.reversals import Recency, ReversalEffect

INSTRUCTIONS_KIND: Final = "instructions"

_OF_PENDING: Final[Mapping[Recency, ReversalEffect]] = MappingProxyType(
    {
        Recency.HIGHER: ReversalEffect.APPLY,
        Recency.EQUAL: ReversalEffect.DUPLICATE,
        Recency.EQUAL_OTHER: ReversalEffect.CONTRADICTION,
        Recency.LOWER: ReversalEffect.DUPLICATE,
    }
)

INSTRUCTIONS: Final[Mapping[tuple[OrderStatus, Recency], ReversalEffect]] = MappingProxyType(
    {
        (status, recency): effect if status is OrderStatus.PENDING else ReversalEffect.DUPLICATE
        for status in orders.ORDER_SPECS[OrderType.RECHARGE].statuses
        for recency, effect in _OF_PENDING.items()
    }
)
"""What instructions come to, by how their recharge stands. After its end nothing is kept of them."""

_NOT_SHOWN: Final = frozenset(
    {"type", "payment_order_no", "amount", "currency", "gateway_ref", "occurred_at"}
)


def apply_instructions(message: PaymentInstructions, facts: Facts, context: DecisionContext) -> Decision:
    """Return what instructions do that the gateway has signed."""
    order = facts.orders.get(message.payment_order_no)
    if order is None:
        return payment_results.not_yet(
            message, Code.ORDER_NOT_FOUND, "no order has this payment_order_no", context
        )
    refusal = _refusal(message, order, context)
    if refusal is not None:
        return _rejected(message, refusal, context)
    fields = content(message)
    mark = fingerprint(fields)
    known = facts.instructions.get(order.serial_no)
    match INSTRUCTIONS[order.status, _recency(known, message.revision, mark)]:
        case ReversalEffect.DUPLICATE:
            return Decision(
                Ending.REPEATED,
                outgoing=payment_results.processed(
                    order.serial_no, ProcessingStatus.DUPLICATE, Code.OK, context
                ),
            )
        case ReversalEffect.CONTRADICTION:
            why = f"the revision {message.revision} had other content before"
            return _rejected(message, Refused(Code.CONTRADICTING_RESULT, why), context)
        case ReversalEffect.APPLY:
            return _keep(message, order, mark, facts, context)
        case effect:
            assert_never(effect)


def _refusal(message: PaymentInstructions, order: Order, context: DecisionContext) -> Refused | None:
    """Return why an operator must look, the first in the order of the codes; absent if nothing is wrong."""
    if order.order_type is not OrderType.RECHARGE:
        # The order exists and nobody pays it: waiting would not help.
        return Refused(Code.ORDER_NOT_FOUND, f"a {order.order_type} has no payer")
    refusal = payment_results.key_not_allowed(message, order, INSTRUCTIONS_KIND)
    if refusal is not None:
        return refusal
    foreign = context.rules.channel(order.channel).foreign(message.urls)
    if foreign is not None:
        why = f"an address in it leads to {foreign[:100]}, which the channel {order.channel} does not allow"
        return Refused(Code.KEY_NOT_ALLOWED, why)
    if message.currency != order.currency:
        why = f"the order is in {order.currency}, the instructions in {message.currency}"
        return Refused(Code.CURRENCY_MISMATCH, why)
    try:
        fits = message.amount_minor == order.amount_minor
    except money.AmountOutOfRange:
        fits = False
    return None if fits else Refused(Code.AMOUNT_MISMATCH, "the amount is not that of the order")


def _recency(known: StoredInstructions | None, revision: int, mark: bytes) -> Recency:
    if known is None or known.revision < revision:
        return Recency.HIGHER
    if known.revision > revision:
        return Recency.LOWER
    return Recency.EQUAL if known.fingerprint == mark else Recency.EQUAL_OTHER


def _keep(
    message: PaymentInstructions, order: Order, mark: bytes, facts: Facts, context: DecisionContext
) -> Decision:
    """Return the decision that keeps the instructions, and waits for the payment as long as they say."""
    shown = {name: value for name, value in content(message).items() if name not in _NOT_SHOWN}
    expires_at = _expires_at(message, order, context)
    waiting = replace(
        order,
        updated_at=max(context.now, order.updated_at),
        expires_at=expires_at,
        due_at=order.due_at
        if expires_at == order.expires_at
        else context.rules.next_inquiry_at(order.channel, order.created_at, expires_at, context.now),
    )
    kept = StoredInstructions(
        order.serial_no, order.order_id, message.revision, mark, canonical(shown).decode(), context.now
    )
    body = orders.body(waiting, facts.accounts[order.account_id])
    body["instructions"] = shown
    return Decision(
        Ending.APPLIED,
        orders=(waiting,),
        instructions=kept,
        outgoing=(
            outbound.event_message(OrderInstructions, order.serial_no, body, context),
            *payment_results.processed(order.serial_no, ProcessingStatus.PROCESSED, Code.OK, context),
        ),
    )


def _expires_at(message: PaymentInstructions, order: Order, context: DecisionContext) -> datetime | None:
    """Return when the order expires: never earlier than before, and not later than its channel allows."""
    if message.expires_at is None or order.expires_at is None:
        return order.expires_at
    latest = order.created_at + context.rules.channel(order.channel).expires_max_after
    return max(order.expires_at, min(message.expires_at, latest))


def _rejected(message: PaymentInstructions, refusal: Refused, context: DecisionContext) -> Decision:
    return Decision(
        Ending.REJECTED,
        refusal.code,
        refusal.message,
        outgoing=payment_results.refused(message.payment_order_no, refusal.code, context),
    )
