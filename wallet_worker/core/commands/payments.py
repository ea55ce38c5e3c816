"""Commands that the payment gateway has a part in: recharge, withdraw, refund."""

from collections.abc import Mapping
from dataclasses import replace

from wallet_schemas import money
from wallet_schemas.codes import Code
from wallet_schemas.commands import CancelOrder, Recharge, RechargeV2, Refund, Withdraw, WithdrawV2
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType, PaymentKind
from wallet_worker.core import orders, outbound
from wallet_worker.core.commands import checks
from wallet_worker.core.commands.acceptance import Accepted, announce_and_request, new_order, reserve
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.lookups import Lookups
from wallet_worker.core.orders import Effect, UpstreamAction


def recharge(message: Recharge | RechargeV2, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Ask the gateway to collect money for an account. A frozen account may be paid into."""
    checked = checks.check_amount_and_account(message, facts, context)
    if isinstance(checked, Refused):
        return checked
    amount_minor, account = checked
    if account.status is AccountStatus.CLOSED:
        return checks.CLOSED
    refused = checks.check_limits(OrderType.RECHARGE, amount_minor, account, facts, context, payee=account)
    if refused is not None:
        return refused
    order = new_order(
        OrderType.RECHARGE,
        message.serial_no,
        account,
        amount_minor,
        context,
        message.metadata,
        channel=message.recharge_type,
    )
    return Accepted(
        {
            "object": "recharge",
            "user_id": account.user_id,
            "account_type": account.account_type,
            "amount": money.to_text(amount_minor, order.currency),
            "currency": order.currency,
            "recharge_type": order.channel,
            "serial_no": order.serial_no,
            "order_status": order.status,
        },
        orders=(order,),
        outgoing=announce_and_request(order, account, context, handed_on=_handed_on(message)),
    )


def withdraw(message: Withdraw | WithdrawV2, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Reserve money and ask the gateway to pay it out."""
    checked = checks.check_amount_and_account(message, facts, context)
    if isinstance(checked, Refused):
        return checked
    amount_minor, account = checked
    refused = checks.check_parties(account) or checks.check_funds(
        OrderType.WITHDRAW, amount_minor, account, facts, context
    )
    if refused is not None:
        return refused
    order = new_order(
        OrderType.WITHDRAW,
        message.serial_no,
        account,
        amount_minor,
        context,
        message.metadata,
        channel=message.payout_type,
    )
    outgoing = announce_and_request(order, account, context, handed_on=_handed_on(message))
    return reserve(order, account, outgoing, context)


def _handed_on(message: Recharge | RechargeV2 | Withdraw | WithdrawV2) -> Mapping[str, str]:
    """Return what of a command the gateway alone reads."""
    if isinstance(message, Recharge | Withdraw):
        return outbound.NOTHING
    members = {
        "instrument": message.instrument,
        "return_url": message.return_url if isinstance(message, RechargeV2) else None,
    }
    return {name: value for name, value in members.items() if value is not None}


def cancel(message: CancelOrder, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """End a pending recharge, or ask the gateway to stop a pending payout; also of a frozen account."""
    order = facts.orders.get(message.target_serial_no)
    if order is None:
        return Refused(Code.ORDER_NOT_FOUND, "no order has this target_serial_no")
    step = orders.ORDER_SPECS[order.order_type].transition(order.status, UpstreamAction.CANCEL)
    if step is None or step.effect is Effect.REFUSE:
        return Refused(
            Code.ORDER_NOT_CANCELLABLE,
            f"the order is a {order.order_type} that is {order.status}: only a recharge, a withdrawal or a refund that "
            "is pending can be cancelled",
        )
    account = facts.accounts[order.account_id]
    if order.cancelling:  # the gateway was asked already
        return Accepted(orders.result_body(order, account))
    request = outbound.payment_request(order, account, PaymentKind.CANCEL, context)
    if step.effect is Effect.STOP:
        stopping = replace(order, cancelling=True)
        return Accepted(orders.result_body(stopping, account), orders=(stopping,), outgoing=(request,))
    cancelled = orders.advance(order, step, context.now)
    return Accepted(
        orders.result_body(cancelled, account),
        orders=(cancelled,),
        outgoing=(outbound.order_event(cancelled, account, context), request),
    )


def cancel_lookups(lookups: Lookups, message: CancelOrder) -> None:
    """Add the order, and who sent it."""
    lookups.serial_nos |= {message.serial_no, message.target_serial_no}
    lookups.orders.add(message.target_serial_no)


def refund(message: Refund, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Reserve money that a recharge has brought, and ask the gateway to give it back.

    An unknown original has no account, so no account can be checked before the original is known.
    """
    amount_minor = checks.check_amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    original = facts.orders.get(message.original_serial_no)
    if original is None:
        return Refused(Code.ORDER_NOT_FOUND, "no order has this original_serial_no")
    account = facts.accounts[original.account_id]
    refused = checks.check_parties(account)
    if refused is not None:
        return refused
    if original.order_type is not OrderType.RECHARGE or original.status is not OrderStatus.SUCCEEDED:
        return Refused(
            Code.ORDER_NOT_REFUNDABLE,
            f"the original is a {original.order_type} that is {original.status}: only a recharge "
            "that has succeeded can be given back",
        )
    if message.currency != original.currency:
        return Refused(Code.CURRENCY_MISMATCH, f"the original is in {original.currency}")
    given_back_minor = facts.refund_totals.get(original.serial_no, 0)
    given_back_minor += facts.reversed_totals.get(original.serial_no, 0)
    if given_back_minor + amount_minor > original.moved_minor:
        why = "all refunds and reversals together would be more than the original"
        return Refused(Code.AMOUNT_EXCEEDS_ORIGINAL, why)
    refused = checks.check_funds(OrderType.REFUND, amount_minor, account, facts, context)
    if refused is not None:
        return refused
    order = new_order(
        OrderType.REFUND,
        message.serial_no,
        account,
        amount_minor,
        context,
        message.metadata,
        channel=original.channel,
        parent_serial_no=original.serial_no,
    )
    return reserve(order, account, announce_and_request(order, account, context, original=original), context)


def refund_lookups(lookups: Lookups, message: Refund) -> None:
    """Add the recharge, who sent it, and the sum of its refunds."""
    lookups.serial_nos |= {message.serial_no, message.original_serial_no}
    lookups.orders.add(message.original_serial_no)
    lookups.refunded.add(message.original_serial_no)
