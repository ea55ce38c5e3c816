"""What a payment result does to its order."""

from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from wallet_schemas import money
from wallet_schemas.codes import Code
from wallet_schemas.fingerprint import content, fingerprint
from wallet_schemas.payments import PaymentInstructions, PaymentResult, PaymentReversal, SignedMessage
from wallet_schemas.values import OrderStatus, OrderType, PaymentStatus, ProcessingStatus
from wallet_worker.core import debts, ledger, orders, outbound
from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import Decision, OutboxMessage, StoredResult, TakenRef
from wallet_worker.core.channels import Channel
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.orders import Effect, Order, Transition

SIGNED_BEFORE_MAX = timedelta(minutes=5)
"""How much earlier than its order a result may be signed: clocks differ."""

RESULT_KIND = "result"

PARK_DELAYS = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5))
"""How long a result without an order waits, each time; then it is a dead letter (docs/contract.md, section 6)."""


def apply_result(result: PaymentResult, facts: Facts, context: DecisionContext) -> Decision:
    """Return what a result does that the gateway has signed."""
    order = facts.orders.get(result.payment_order_no)
    if order is None:
        return not_yet(result, Code.ORDER_NOT_FOUND, "no order has this payment_order_no", context)
    account = facts.accounts[order.account_id]
    step = orders.ORDER_SPECS[order.order_type].transition(order.status, result.status)
    if step is None:
        # The order exists and is never paid for: waiting would not help.
        return _rejected(
            result, Refused(Code.ORDER_NOT_FOUND, f"a {order.order_type} is not paid for"), context
        )
    channel = context.rules.channel(order.channel)
    came_minor = _came_minor(result, order)
    refusal = (
        key_not_allowed(result, order, RESULT_KIND)
        or _mismatch(result, order, account, step, channel, came_minor)
        or _not_this_payment(result, order, step, channel, facts, context)
        or _contradiction(result, order, step)
    )
    if refusal is not None:
        return _rejected(result, refusal, context)
    if came_minor != order.moved_minor and step.credits:
        order = replace(order, received_minor=came_minor)
    match step.effect:
        case Effect.DUPLICATE | Effect.NO_CHANGE:
            return Decision(
                Ending.REPEATED,
                receipt=_receipt(result, step.processing, Code.OK, context),
                outgoing=processed(result.payment_order_no, step.processing, Code.OK, context),
            )
        case Effect.CLOSE | Effect.RELEASE_RESERVE:
            return _close_order(result, order, account, step, facts, context)
        case Effect.CREDIT | Effect.CREDIT_LATE | Effect.DEBIT:
            return _post_money(result, order, account, step, facts, context)
        case Effect.CONTRADICTION | Effect.INQUIRE | Effect.STOP | Effect.REFUSE:
            msg = f"a result cannot come to {step.effect} here"
            raise AssertionError(msg)
        case _:
            assert_never(step.effect)


def key_not_allowed(message: SignedMessage, order: Order, kind: str) -> Refused | None:
    """Return why the key that signed a message of this kind may not speak of the order; absent if it may.

    What was signed before there was the order is not about it: another deployment's, or an old system's.
    """
    signed = message.signed
    if signed is None:
        return None  # made here, and not read from a queue
    if signed.channels is not None and order.channel not in signed.channels:
        why = f"the key {signed.key_id} does not speak of the channel {order.channel}"
        return Refused(Code.KEY_NOT_ALLOWED, why)
    if signed.kinds is not None and kind not in signed.kinds:
        return Refused(Code.KEY_NOT_ALLOWED, f"the key {signed.key_id} does not sign {kind}s")
    if signed.at_unix < (order.created_at - SIGNED_BEFORE_MAX).timestamp():
        return Refused(Code.KEY_NOT_ALLOWED, "it was signed before the order was made")
    return None


def refused(
    number: str, code: Code, context: DecisionContext, reversal_ref: str | None = None
) -> tuple[OutboxMessage, ...]:
    """Return the answer to the gateway about a message that went to the dead letters."""
    return processed(number, ProcessingStatus.REFUSED, code, context, reversal_ref)


def _came_minor(result: PaymentResult, order: Order) -> int | None:
    """Return the amount of a result in minor units; absent where no order of its currency could have it."""
    if result.currency != order.currency:
        return None
    try:
        return result.amount_minor
    except money.AmountOutOfRange:
        return None


def _mismatch(
    result: PaymentResult,
    order: Order,
    account: Account,
    step: Transition,
    channel: Channel,
    came_minor: int | None,
) -> Refused | None:
    """Return why the result moves nothing and an operator must look; None if it fits its order."""
    takes_any = channel.any_amount and order.order_type is OrderType.RECHARGE
    credited_minor = came_minor if takes_any and came_minor is not None else order.amount_minor
    if step.credits and not debts.can_take(account, order.order_type, credited_minor):
        return Refused(Code.ACCOUNT_CLOSED, "the money arrived after the account was closed")
    if result.currency != order.currency:
        return Refused(
            Code.CURRENCY_MISMATCH, f"the order is in {order.currency}, the result in {result.currency}"
        )
    if came_minor == order.moved_minor:
        return None
    if takes_any and (
        # What failed brought nothing, and a second payment is one whatever it brought.
        result.status is not PaymentStatus.SUCCEEDED
        or (step.credits and came_minor is not None)
        or _is_second(result, order)
    ):
        return None
    return Refused(Code.AMOUNT_MISMATCH, "the amount is not that of the order")


def _is_second(result: PaymentResult, order: Order) -> bool:
    """Return whether a success is another payment than the one that the order has succeeded with."""
    return (
        order.status is OrderStatus.SUCCEEDED
        and result.status is PaymentStatus.SUCCEEDED
        and order.gateway_ref is not None
        and result.gateway_ref != order.gateway_ref
    )


def _not_this_payment(
    result: PaymentResult,
    order: Order,
    step: Transition,
    channel: Channel,
    facts: Facts,
    context: DecisionContext,
) -> Refused | None:
    """Return why a success is not the payment that the recharge waits for; absent if it is, or if it is none."""
    if order.order_type is not OrderType.RECHARGE or result.status is not PaymentStatus.SUCCEEDED:
        return None
    if channel.refs_unique:
        if step.credits and facts.gateway_refs.get((order.channel, result.gateway_ref), order.order_id) != (
            order.order_id
        ):
            return Refused(Code.GATEWAY_REF_USED, "the gateway_ref is that of another order's payment")
        if _is_second(result, order):
            return Refused(
                Code.PAID_TWICE, f"the order was paid with the gateway_ref {order.gateway_ref} already"
            )
    late_max = channel.late_credit_max
    if (
        step.effect is Effect.CREDIT_LATE
        and late_max is not None
        and context.now > order.updated_at + late_max
    ):
        why = f"the money arrived more than {late_max.days} days after the order was {order.status}"
        return Refused(Code.RESULT_TOO_LATE, why)
    return None


def _contradiction(result: PaymentResult, order: Order, step: Transition) -> Refused | None:
    if step.effect is not Effect.CONTRADICTION:
        return None
    return Refused(Code.CONTRADICTING_RESULT, f"the order is {order.status}, the result says {result.status}")


def not_yet(
    message: PaymentResult | PaymentInstructions | PaymentReversal,
    code: Code,
    why: str,
    context: DecisionContext,
) -> Decision:
    """Return the decision to look again later at what came before what it speaks of, and to give up in the end."""
    attempts = context.incoming.attempts
    if attempts < len(PARK_DELAYS):
        return Decision(Ending.PARKED, code, why, due_at=context.now + PARK_DELAYS[attempts])
    reversal_ref = message.reversal_ref if isinstance(message, PaymentReversal) else None
    return Decision(
        Ending.REJECTED,
        code,
        f"{why}, looked for {attempts + 1} times",
        outgoing=refused(message.payment_order_no, code, context, reversal_ref),
    )


def _rejected(result: PaymentResult, refusal: Refused, context: DecisionContext) -> Decision:
    return Decision(
        Ending.REJECTED,
        refusal.code,
        refusal.message,
        receipt=_receipt(result, ProcessingStatus.REFUSED, refusal.code, context),
        outgoing=refused(result.payment_order_no, refusal.code, context),
    )


def _close_order(
    result: PaymentResult,
    order: Order,
    account: Account,
    step: Transition,
    facts: Facts,
    context: DecisionContext,
) -> Decision:
    closed = orders.advance(order, step, context.now, result)
    changed: tuple[Account, ...] = ()
    recovered: tuple[OutboxMessage, ...] = ()
    own = None
    if step.effect is Effect.RELEASE_RESERVE:
        account = account.reserving(-order.amount_minor, context.now)
        changed = (account,)
        if account.debt_minor:
            own = debts.recovered(account, order.serial_no, facts, context)
            recovered = own.outgoing
    decision = Decision(
        Ending.APPLIED,
        orders=(closed,),
        changed=changed,
        receipt=_receipt(result, step.processing, Code.OK, context),
        outgoing=(
            outbound.order_event(closed, account, context),
            *recovered,
            *processed(order.serial_no, step.processing, Code.OK, context),
        ),
    )
    return decision if own is None else decision.with_own(own)


def _post_money(
    result: PaymentResult,
    order: Order,
    account: Account,
    step: Transition,
    facts: Facts,
    context: DecisionContext,
) -> Decision:
    """Return the decision that moves an order's money: from the gateway to the account, or out of its reserve."""
    # No line is older than its order, whatever the clock does.
    moved_at = max(context.now, order.updated_at)
    if step.effect is Effect.DEBIT:
        account = account.reserving(-order.amount_minor, moved_at)
    try:
        posting = ledger.post(
            orders.movements(order, account, None, facts.lane), order_id=order.order_id, at=moved_at
        )
    except ledger.BalanceOverflowError:
        return _rejected(
            result, Refused(Code.AMOUNT_OUT_OF_RANGE, "the balance would leave 64 bits"), context
        )
    # The first leg is that of the order's own account.
    succeeded = orders.advance(order, step, posting.entries[0].created_at, result)
    own = None
    recovered: tuple[OutboxMessage, ...] = ()
    if account.debt_minor and step.credits:
        own = debts.recovered(posting.accounts[0], order.serial_no, facts, context)
        recovered = own.outgoing
    taken = step.credits and context.rules.channel(order.channel).refs_unique
    decision = Decision(
        Ending.APPLIED,
        orders=(succeeded,),
        postings=(posting,),
        taken_ref=TakenRef(order.channel, result.gateway_ref, order.order_id) if taken else None,
        receipt=_receipt(result, step.processing, Code.OK, context),
        outgoing=(
            outbound.order_event(
                succeeded,
                account,
                context,
                entries=ledger.bodies(posting, order.order_type, order.serial_no),
            ),
            *recovered,
            *processed(order.serial_no, step.processing, Code.OK, context),
        ),
    )
    return decision if own is None else decision.with_own(own)


def _receipt(
    result: PaymentResult, processing: ProcessingStatus, code: Code, context: DecisionContext
) -> StoredResult:
    return StoredResult(result, fingerprint(content(result)), processing, code, context.now)


def processed(
    number: str,
    status: ProcessingStatus,
    code: Code,
    context: DecisionContext,
    reversal_ref: str | None = None,
) -> tuple[OutboxMessage, ...]:
    """Return the answer to the gateway; empty if it asks for none."""
    if context.incoming.reply_to is None:
        return ()
    return outbound.reply(outbound.processed(number, status, code, reversal_ref), context)
