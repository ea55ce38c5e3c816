"""What a payment result does to its order."""

from datetime import timedelta
from typing import assert_never

from wallet_schemas import money
from wallet_schemas.codes import Code
from wallet_schemas.fingerprint import content, fingerprint
from wallet_schemas.payments import PaymentResult
from wallet_schemas.values import AccountStatus, ProcessingStatus
from wallet_worker.core import ledger, orders, outbound
from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import Decision, OutboxMessage, StoredResult
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
        return _order_not_found(result, context)
    account = facts.accounts[order.account_id]
    step = orders.ORDER_SPECS[order.order_type].transition(order.status, result.status)
    if step is None:
        # The order exists and is never paid for: waiting would not help.
        return _rejected(
            result, Refused(Code.ORDER_NOT_FOUND, f"a {order.order_type} is not paid for"), context
        )
    refusal = _key_not_allowed(result, order) or _mismatch(result, order, account, step)
    if refusal is not None:
        return _rejected(result, refusal, context)
    match step.effect:
        case Effect.DUPLICATE | Effect.NO_CHANGE:
            return Decision(
                Ending.REPEATED,
                receipt=_receipt(result, step.processing, Code.OK, context),
                outgoing=_processed(result.payment_order_no, step.processing, Code.OK, context),
            )
        case Effect.CLOSE | Effect.RELEASE_RESERVE:
            return _close_order(result, order, account, step, context)
        case Effect.CREDIT | Effect.CREDIT_LATE | Effect.DEBIT:
            return _post_money(result, order, account, step, facts, context)
        case Effect.CONTRADICTION | Effect.INQUIRE | Effect.REFUSE:
            msg = f"a result cannot come to {step.effect} here"
            raise AssertionError(msg)
        case _:
            assert_never(step.effect)


def _key_not_allowed(result: PaymentResult, order: Order) -> Refused | None:
    """Return why the key that signed the result may not speak of the order; absent if it may.

    A result that was signed before there was the order is not about it: another deployment's, or an old system's.
    """
    signed = result.signed
    if signed is None:
        return None  # made here, and not read from a queue
    if signed.channels is not None and order.channel not in signed.channels:
        why = f"the key {signed.key_id} does not speak of the channel {order.channel}"
        return Refused(Code.KEY_NOT_ALLOWED, why)
    if signed.kinds is not None and RESULT_KIND not in signed.kinds:
        return Refused(Code.KEY_NOT_ALLOWED, f"the key {signed.key_id} does not sign results")
    if signed.at_unix < (order.created_at - SIGNED_BEFORE_MAX).timestamp():
        return Refused(Code.KEY_NOT_ALLOWED, "it was signed before the order was made")
    return None


def refused(number: str, code: Code, context: DecisionContext) -> tuple[OutboxMessage, ...]:
    """Return the answer to the gateway about a result that went to the dead letters."""
    return _processed(number, ProcessingStatus.REFUSED, code, context)


def _mismatch(result: PaymentResult, order: Order, account: Account, step: Transition) -> Refused | None:
    """Return why the result moves nothing and an operator must look; None if it fits its order."""
    if step.credits and account.status is AccountStatus.CLOSED:
        return Refused(Code.ACCOUNT_CLOSED, "the money arrived after the account was closed")
    if result.currency != order.currency:
        return Refused(
            Code.CURRENCY_MISMATCH, f"the order is in {order.currency}, the result in {result.currency}"
        )
    try:
        fits = result.amount_minor == order.amount_minor
    except money.AmountOutOfRange:
        fits = False
    if not fits:
        return Refused(Code.AMOUNT_MISMATCH, "the amount is not that of the order")
    if step.effect is Effect.CONTRADICTION:
        return Refused(
            Code.CONTRADICTING_RESULT, f"the order is {order.status}, the result says {result.status}"
        )
    return None


def _order_not_found(result: PaymentResult, context: DecisionContext) -> Decision:
    attempts = context.incoming.attempts
    why = "no order has this payment_order_no"
    if attempts < len(PARK_DELAYS):
        return Decision(Ending.PARKED, Code.ORDER_NOT_FOUND, why, due_at=context.now + PARK_DELAYS[attempts])
    return Decision(
        Ending.REJECTED,
        Code.ORDER_NOT_FOUND,
        f"{why}, looked for {attempts + 1} times",
        outgoing=refused(result.payment_order_no, Code.ORDER_NOT_FOUND, context),
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
    result: PaymentResult, order: Order, account: Account, step: Transition, context: DecisionContext
) -> Decision:
    closed = orders.advance(order, step, context.now, result)
    gives_back = step.effect is Effect.RELEASE_RESERVE
    return Decision(
        Ending.APPLIED,
        orders=(closed,),
        changed=(account.reserving(-order.amount_minor, context.now),) if gives_back else (),
        receipt=_receipt(result, step.processing, Code.OK, context),
        outgoing=(
            outbound.order_event(closed, account, context),
            *_processed(order.serial_no, step.processing, Code.OK, context),
        ),
    )


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
    return Decision(
        Ending.APPLIED,
        orders=(succeeded,),
        postings=(posting,),
        receipt=_receipt(result, step.processing, Code.OK, context),
        outgoing=(
            outbound.order_event(
                succeeded,
                account,
                context,
                entries=ledger.bodies(posting, order.order_type, order.serial_no),
            ),
            *_processed(order.serial_no, step.processing, Code.OK, context),
        ),
    )


def _receipt(
    result: PaymentResult, processing: ProcessingStatus, code: Code, context: DecisionContext
) -> StoredResult:
    return StoredResult(result, fingerprint(content(result)), processing, code, context.now)


def _processed(
    number: str, status: ProcessingStatus, code: Code, context: DecisionContext
) -> tuple[OutboxMessage, ...]:
    if context.incoming.reply_to is None:
        return ()
    return outbound.reply(outbound.processed(number, status, code), context)
