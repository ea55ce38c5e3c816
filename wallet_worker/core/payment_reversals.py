"""What the gateway's word about a dispute, recall or return does: the ledger moves by what stands."""

from typing import Final, assert_never

from wallet_schemas import money
from wallet_schemas.codes import Code
from wallet_schemas.events import Event, ReversalDropped, ReversalMoved, ReversalOpened, ReversalSettled
from wallet_schemas.fingerprint import content, fingerprint
from wallet_schemas.payments import PaymentReversal
from wallet_schemas.values import OrderStatus, OrderType, PaymentStatus, ProcessingStatus, ReversalStatus
from wallet_worker.core import debts, orders, outbound, payment_results, reversals
from wallet_worker.core.changes import Decision, StoredReversal
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.debts import OwnOrders
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.ledger import BalanceOverflowError
from wallet_worker.core.orders import Order
from wallet_worker.core.reversals import Recency, Reversal, ReversalEffect

REVERSAL_KIND: Final = "reversal"

_EVENTS: Final[dict[ReversalStatus, type[Event]]] = {
    ReversalStatus.OPENED: ReversalOpened,
    ReversalStatus.MOVED: ReversalMoved,
    ReversalStatus.DROPPED: ReversalDropped,
    ReversalStatus.SETTLED: ReversalSettled,
}
_EVENT, _REVERSAL_ID = 3, 4  # see `outbound`


def apply_reversal(message: PaymentReversal, facts: Facts, context: DecisionContext) -> Decision:
    """Return what a reversal does that the gateway has signed."""
    order = facts.orders.get(message.payment_order_no)
    if order is None:
        return payment_results.not_yet(
            message, Code.ORDER_NOT_FOUND, "no order has this payment_order_no", context
        )
    if orders.ORDER_SPECS[order.order_type].payment is None:
        # The order exists and is never paid for: waiting would not help.
        why = f"a {order.order_type} is not paid for"
        return _rejected(message, Refused(Code.ORDER_NOT_FOUND, why), context)
    refusal = payment_results.key_not_allowed(message, order, REVERSAL_KIND) or _unfit(message, order)
    if refusal is not None:
        return _rejected(message, refusal, context)
    if order.status is not OrderStatus.SUCCEEDED:
        return _unpaid(message, order, context)
    return _apply(message, order, facts, context)


def _unfit(message: PaymentReversal, order: Order) -> Refused | None:
    if message.kind in reversals.KINDS[order.order_type]:
        return None
    return Refused(
        Code.ORDER_NOT_REVERSIBLE, f"a {order.order_type} has no reversal of the kind {message.kind}"
    )


def _unpaid(message: PaymentReversal, order: Order, context: DecisionContext) -> Decision:
    """Return the decision about an order of which no money has moved: wait, where that may still come."""
    step = orders.ORDER_SPECS[order.order_type].transition(order.status, PaymentStatus.SUCCEEDED)
    why = f"the {order.order_type} is {order.status}: no money of it has moved"
    if step is not None and step.to is OrderStatus.SUCCEEDED:
        return payment_results.not_yet(message, Code.ORDER_NOT_REVERSIBLE, why, context)
    return _rejected(message, Refused(Code.ORDER_NOT_REVERSIBLE, why), context)


def _apply(message: PaymentReversal, order: Order, facts: Facts, context: DecisionContext) -> Decision:
    known_refs = facts.reversals.get(order.serial_no, {})
    known = known_refs.get(message.reversal_ref)
    mark = fingerprint(content(message))
    recency = reversals.recency(known, message.sequence, mark)
    try:
        amount_minor = message.amount_minor
    except (money.AmountOutOfRange, money.UnknownCurrency):
        amount_minor = _BEYOND
    refusal = _refusal(message, amount_minor, order, known, recency, facts)
    if refusal is not None:
        return _rejected(message, refusal, context)
    match reversals.REVERSAL[known.status if known else None, recency]:
        case ReversalEffect.DUPLICATE:
            return _answered(Decision(Ending.REPEATED), message, mark, ProcessingStatus.DUPLICATE, context)
        case ReversalEffect.CONTRADICTION:
            why = f"the sequence {message.sequence} had other content before"
            return _rejected(message, Refused(Code.CONTRADICTING_RESULT, why), context)
        case ReversalEffect.APPLY:
            return _move(message, amount_minor, order, known, mark, facts, context)
        case answer:
            assert_never(answer)


_BEYOND: Final = 2**63  # more than any order has
_EXCEEDS: Final = Refused(
    Code.AMOUNT_EXCEEDS_ORIGINAL, "all reversals together would be more than what the order has moved"
)


def _refusal(
    message: PaymentReversal,
    amount_minor: int,
    order: Order,
    known: Reversal | None,
    recency: Recency,
    facts: Facts,
) -> Refused | None:
    """Return why the reversal moves nothing and an operator must look, the first in the order of the codes."""
    is_news = recency is Recency.HIGHER
    stands_minor = amount_minor if message.status in reversals.STANDING else 0
    moved_minor = known.moved_minor if known else 0
    if is_news and not _can_take(order, stands_minor - moved_minor, facts):
        return Refused(
            Code.ACCOUNT_CLOSED, "the account is closed, and owes less than what would be credited"
        )
    refs = facts.reversals.get(order.serial_no, {})
    if known is None and len(refs) >= reversals.REFS_MAX:
        return Refused(Code.ORDER_NOT_REVERSIBLE, f"the order has {len(refs)} reversals already")
    if message.currency != order.currency:
        why = f"the order is in {order.currency}, the reversal in {message.currency}"
        return Refused(Code.CURRENCY_MISMATCH, why)
    others_minor = sum(reversal.moved_minor for reversal in refs.values()) - moved_minor
    if amount_minor == _BEYOND or (is_news and others_minor + stands_minor > order.moved_minor):
        return _EXCEEDS
    if known is not None and message.kind is not known.kind:
        return Refused(
            Code.CONTRADICTING_RESULT, f"it was a {known.kind} before, and is a {message.kind} now"
        )
    return None


def _can_take(order: Order, by_minor: int, facts: Facts) -> bool:
    """Return whether the account can be credited, where what stands changes by so much and that is a credit."""
    more, less = reversals.MADE[order.order_type]
    made = more if by_minor > 0 else less
    if not by_minor or orders.is_debit(made):
        return True
    account = facts.accounts[order.account_id]
    return debts.can_take(account, made, abs(by_minor), facts.written_off.get(account.account_id, 0))


def _move(
    message: PaymentReversal,
    amount_minor: int,
    order: Order,
    known: Reversal | None,
    mark: bytes,
    facts: Facts,
    context: DecisionContext,
) -> Decision:
    """Return the decision that records the message, and moves the difference to what stands in the ledger."""
    stands_minor = amount_minor if message.status in reversals.STANDING else 0
    by_minor = stands_minor - (known.moved_minor if known else 0)
    account = facts.accounts[order.account_id]
    own = OwnOrders(facts, context)
    if by_minor:
        more, less = reversals.MADE[order.order_type]
        made = more if by_minor > 0 else less
        move = debts.charge if orders.is_debit(made) else debts.credit_into
        try:
            move(own, made, account.account_id, abs(by_minor), order.serial_no, message.reversal_ref)
        except BalanceOverflowError:
            why = Refused(Code.AMOUNT_OUT_OF_RANGE, "the balance or the debt would leave 64 bits")
            return _rejected(message, why, context)
    reversal = Reversal(
        reversal_id=known.reversal_id if known else context.draw.further_id(context.now, _REVERSAL_ID),
        order_id=order.order_id,
        reversal_ref=message.reversal_ref,
        kind=message.kind,
        status=message.status,
        sequence=message.sequence,
        amount_minor=amount_minor,
        moved_minor=stands_minor,
        fingerprint=mark,
        created_at=known.created_at if known else context.now,
        updated_at=max(context.now, known.updated_at) if known else context.now,
        reason_code=message.reason_code,
        reason=message.reason,
        respond_by=message.respond_by,
    )
    outgoing = own.outgoing
    if by_minor or known is None or known.status is not reversal.status:
        returned_minor = facts.reversed_totals.get(order.serial_no, 0) + by_minor
        refunded_minor = facts.refund_totals.get(order.serial_no, 0)
        shown = reversals.body(
            reversal,
            order,
            own.account(account.account_id),
            over_returned=order.order_type is OrderType.RECHARGE
            and returned_minor > 0
            and refunded_minor + returned_minor > order.moved_minor,
        )
        event = outbound.event_message(_EVENTS[reversal.status], order.serial_no, shown, context, _EVENT)
        outgoing = (*outgoing, event)
    decision = Decision(
        Ending.APPLIED,
        orders=tuple(own.orders),
        postings=tuple(own.postings),
        own_commands=tuple(own.commands),
        reversal=reversal,
        outgoing=outgoing,
    )
    return _answered(decision, message, mark, ProcessingStatus.PROCESSED, context)


def _answered(
    decision: Decision,
    message: PaymentReversal,
    mark: bytes,
    processing: ProcessingStatus,
    context: DecisionContext,
) -> Decision:
    """Return the decision with the message kept, and the gateway answered."""
    return decision._replace(
        reversal_receipt=StoredReversal(message, mark, processing, decision.code, context.now),
        outgoing=(
            *decision.outgoing,
            *payment_results.processed(
                message.payment_order_no, processing, decision.code, context, message.reversal_ref
            ),
        ),
    )


def _rejected(message: PaymentReversal, refusal: Refused, context: DecisionContext) -> Decision:
    decision = Decision(Ending.REJECTED, refusal.code, refusal.message)
    return _answered(decision, message, fingerprint(content(message)), ProcessingStatus.REFUSED, context)
