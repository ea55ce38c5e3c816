"""What the time does to an order that nobody has said anything about.

The sweep brings an order when it is due (`Order.due_at`). Nothing is guessed: an order is asked about, and one that
expires is asked about a last time.
"""

from dataclasses import replace
from typing import assert_never

from wallet_schemas.values import PaymentKind
from wallet_worker.core import orders, outbound
from wallet_worker.core.context import Circumstances
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Decision, Facts
from wallet_worker.core.inbound import Due
from wallet_worker.core.orders import KINDS, Clock, Effect, Order


def pass_by(due: Due, facts: Facts, at: Circumstances) -> Decision:
    """Return what the time does to an order: it is asked about, it expires, or nothing if it is not due."""
    order = facts.orders.get(due.serial_no)
    if order is None or order.due_at is None or order.due_at > at.now:
        return Decision(Ending.REPEATED)
    kind = KINDS[order.order_type]
    over = order.expires_at is not None and order.expires_at <= at.now
    step = kind.on(order.status, Clock.EXPIRE if over else Clock.ASK)
    if step is None:
        msg = f"a {order.order_type} that is {order.status} is due, and nothing can come of it"
        raise AssertionError(msg)
    account = facts.accounts[order.account_id]
    match step.effect:
        case Effect.ASK:
            return _asked(order, at)
        case Effect.CLOSE:
            expired = replace(orders.advance(order, step, at.now), asked=order.asked + 1)
            asking = outbound.request(order, PaymentKind.STATUS, at)
            return Decision(
                Ending.APPLIED,
                orders=(expired,),
                outgoing=(outbound.order_event(expired, account, at), asking),
            )
        case Effect.GIVE_BACK:
            remaining_minor = order.remaining_minor or 0
            expired = orders.use(order, step, remaining_minor, at.now)
            return Decision(
                Ending.APPLIED,
                orders=(expired,),
                changed=(account.reserving(-remaining_minor, at.now),),
                outgoing=(outbound.order_event(expired, account, at),),
            )
        case (
            Effect.CREDIT
            | Effect.CREDIT_LATE
            | Effect.DEBIT
            | Effect.REPEAT
            | Effect.KEEP
            | Effect.CONTRADICTION
            | Effect.REFUSE
        ):
            msg = f"the time cannot come to {step.effect}"
            raise AssertionError(msg)
        case _:
            assert_never(step.effect)


def _asked(order: Order, at: Circumstances) -> Decision:
    """Return the decision that asks the gateway, and looks again later. To the world the order is as it was."""
    due_at = at.rules.asked_at(order.channel, order.created_at, order.expires_at, at.now)
    asked = replace(order, asked=order.asked + 1, due_at=due_at)
    return Decision(
        Ending.APPLIED, orders=(asked,), outgoing=(outbound.request(order, PaymentKind.STATUS, at),)
    )
