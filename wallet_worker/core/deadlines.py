"""What the time does to an order.

The sweeper brings an order when it is due (`Order.due_at`). The gateway is asked about an order that waits, and a last
time about an order that expires.
"""

from dataclasses import replace
from typing import assert_never

from wallet_schemas.values import PaymentKind
from wallet_worker.core import debts, orders, outbound
from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import Decision
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.inbound import DueOrder
from wallet_worker.core.orders import ORDER_SPECS, Effect, Order, Timer


def on_due(due: DueOrder, facts: Facts, context: DecisionContext) -> Decision:
    """Return what the time does to an order: an inquiry, its expiry, or no change if it is not due."""
    order = facts.orders.get(due.serial_no)
    if order is None or order.due_at is None or order.due_at > context.now:
        return Decision(Ending.REPEATED)
    kind = ORDER_SPECS[order.order_type]
    over = order.expires_at is not None and order.expires_at <= context.now
    step = kind.transition(order.status, Timer.EXPIRE if over else Timer.ASK)
    if step is None:
        msg = f"a {order.order_type} that is {order.status} is due, and nothing can come of it"
        raise AssertionError(msg)
    account = facts.accounts[order.account_id]
    match step.effect:
        case Effect.INQUIRE:
            return _inquire(order, account, context)
        case Effect.CLOSE:
            expired = replace(orders.advance(order, step, context.now), inquiries=order.inquiries + 1)
            inquiry = outbound.payment_request(order, account, PaymentKind.STATUS, context)
            return Decision(
                Ending.APPLIED,
                orders=(expired,),
                outgoing=(outbound.order_event(expired, account, context), inquiry),
            )
        case Effect.RELEASE_RESERVE:
            remaining_minor = order.remaining_minor or 0
            expired = orders.draw_down(order, step, remaining_minor, context.now)
            account = account.reserving(-remaining_minor, context.now)
            decision = Decision(
                Ending.APPLIED,
                orders=(expired,),
                changed=(account,),
                outgoing=(outbound.order_event(expired, account, context),),
            )
            if not account.debt_minor:
                return decision
            own = debts.recovered(account, order.serial_no, facts, context)
            return decision.with_own(own)._replace(outgoing=(*decision.outgoing, *own.outgoing))
        case (
            Effect.CREDIT
            | Effect.CREDIT_LATE
            | Effect.DEBIT
            | Effect.DUPLICATE
            | Effect.NO_CHANGE
            | Effect.CONTRADICTION
            | Effect.STOP
            | Effect.REFUSE
        ):
            msg = f"the time cannot come to {step.effect}"
            raise AssertionError(msg)
        case _:
            assert_never(step.effect)


def _inquire(order: Order, account: Account, context: DecisionContext) -> Decision:
    """Return the decision that asks the gateway and sets the next time. No event: the order is as it was."""
    due_at = context.rules.next_inquiry_at(order.channel, order.created_at, order.expires_at, context.now)
    inquired = replace(order, inquiries=order.inquiries + 1, due_at=due_at)
    return Decision(
        Ending.APPLIED,
        orders=(inquired,),
        outgoing=(outbound.payment_request(order, account, PaymentKind.STATUS, context),),
    )
