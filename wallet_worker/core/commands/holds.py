"""Commands about money that is held: hold, capture, release."""

from dataclasses import replace
from datetime import timedelta

from wallet_schemas.codes import Code
from wallet_schemas.commands import Capture, Hold, Release
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType
from wallet_worker.core import debts, orders, outbound
from wallet_worker.core.accounts import AccountKey
from wallet_worker.core.commands import checks
from wallet_worker.core.commands.acceptance import Accepted, move_now, new_order, reserve
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.lookups import Lookups
from wallet_worker.core.orders import Effect, HoldAction, Order

HOLD_MISSING = Refused(Code.ORDER_NOT_FOUND, "no order has this hold_serial_no")


def hold(message: Hold, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Reserve money until it is captured, released, or the time is over."""
    checked = checks.check_amount_and_account(message, facts, context)
    if isinstance(checked, Refused):
        return checked
    amount_minor, account = checked
    refused = checks.check_parties(account) or checks.check_funds(
        OrderType.HOLD, amount_minor, account, facts, context
    )
    if refused is not None:
        return refused
    expires_at = context.now + timedelta(seconds=message.expires_in_seconds)
    order = replace(
        new_order(OrderType.HOLD, message.serial_no, account, amount_minor, context, message.metadata),
        remaining_minor=amount_minor,
        expires_at=expires_at,
        due_at=expires_at,
    )
    return reserve(order, account, (outbound.order_event(order, account, context),), context)


def capture(message: Capture, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Pay another account out of a hold."""
    amount_minor = checks.check_amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    payee = facts.account(AccountKey(message.to_user_id, message.to_account_type, message.currency))
    if payee is None:
        return checks.PAYEE_MISSING
    held = facts.orders.get(message.hold_serial_no)
    if held is None:
        return checks.PAYEE_CLOSED if payee.status is AccountStatus.CLOSED else HOLD_MISSING
    payer = facts.accounts[held.account_id]
    refused = checks.check_parties(payer, payee)
    if refused is not None:
        return refused
    remaining_minor = held.remaining_minor or 0
    action = HoldAction.CAPTURE_ALL if amount_minor >= remaining_minor else HoldAction.CAPTURE
    step = orders.ORDER_SPECS[held.order_type].transition(held.status, action)
    if step is None or step.effect is Effect.REFUSE or _is_over(held, context):
        return _not_active(held, context)
    if message.currency != held.currency:
        return Refused(Code.CURRENCY_MISMATCH, f"the hold is in {held.currency}")
    if amount_minor > remaining_minor:
        return Refused(Code.AMOUNT_EXCEEDS_ORIGINAL, "the hold has less than that left")
    refused = checks.check_limits(OrderType.CAPTURE, amount_minor, payer, facts, context, payee)
    if refused is not None:
        return refused
    order = new_order(
        OrderType.CAPTURE,
        message.serial_no,
        payer,
        amount_minor,
        context,
        message.metadata,
        payee=payee,
        parent_serial_no=held.serial_no,
    )
    drawn = orders.draw_down(held, step, amount_minor, context.now)
    payer = payer.reserving(-amount_minor, context.now)
    return move_now(order, payer, payee, facts, context, (drawn,))


def capture_lookups(lookups: Lookups, message: Capture) -> None:
    """Add the hold, who sent it, and the account that is paid."""
    lookups.serial_nos |= {message.serial_no, message.hold_serial_no}
    lookups.orders.add(message.hold_serial_no)
    lookups.keys.add(AccountKey(message.to_user_id, message.to_account_type, message.currency))


def release(message: Release, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Return what is left of a hold to the available balance, also on a frozen account: nothing leaves it."""
    held = facts.orders.get(message.hold_serial_no)
    if held is None:
        return HOLD_MISSING
    step = orders.ORDER_SPECS[held.order_type].transition(held.status, HoldAction.RELEASE)
    if step is None or step.effect is Effect.REFUSE or _is_over(held, context):
        return _not_active(held, context)
    account = facts.accounts[held.account_id]
    remaining_minor = held.remaining_minor or 0
    order = new_order(
        OrderType.RELEASE,
        message.serial_no,
        account,
        remaining_minor,
        context,
        message.metadata,
        parent_serial_no=held.serial_no,
    )
    drawn = orders.draw_down(held, step, remaining_minor, context.now)
    account = account.reserving(-remaining_minor, context.now)
    accepted = Accepted(
        orders.result_body(order, account),
        orders=(order, drawn),
        changed=(account,),
        outgoing=(
            outbound.order_event(order, account, context),
            outbound.order_event(drawn, account, context, number=1),
        ),
    )
    if not account.debt_minor:
        return accepted
    return accepted.with_own(debts.recovered(account, held.serial_no, facts, context))


def release_lookups(lookups: Lookups, message: Release) -> None:
    """Add the hold, and who sent it."""
    lookups.serial_nos |= {message.serial_no, message.hold_serial_no}
    lookups.orders.add(message.hold_serial_no)


def _is_over(held: Order, context: DecisionContext) -> bool:
    """Whether a hold's time is over, also if the sweep has not come by yet."""
    return held.expires_at is not None and held.expires_at <= context.now


def _not_active(held: Order, context: DecisionContext) -> Refused:
    if held.order_type is not OrderType.HOLD:
        return Refused(Code.HOLD_NOT_ACTIVE, f"the order is a {held.order_type}, not a hold")
    over = held.status is OrderStatus.ACTIVE and _is_over(held, context)
    return Refused(Code.HOLD_NOT_ACTIVE, f"the hold is {OrderStatus.EXPIRED if over else held.status}")
