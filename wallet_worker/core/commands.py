"""What commands ask of accounts and orders, and what the wallet does about it.

Each function below is one command, as a row of early returns in the order of the codes (`wallet_schemas.codes`): a
command that is wrong in two ways gets the code that stands first. What is found of the account that pays stands before
what is found of the one that is paid, where both have the same code.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from wallet_schemas import money
from wallet_schemas.codes import Code
from wallet_schemas.commands import (
    Capture,
    CloseAccount,
    Command,
    FreezeAccount,
    Hold,
    OpenAccount,
    OpenAccountResult,
    Recharge,
    RechargeResult,
    Refund,
    Release,
    Transfer,
    UnfreezeAccount,
    Withdraw,
)
from wallet_schemas.events import AccountClosed, AccountFrozen, AccountOpened, AccountUnfrozen
from wallet_schemas.message import JsonObject, MoneyFields
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType
from wallet_worker.core import accounts, ledger, orders, outbound
from wallet_worker.core.accounts import Account, AccountKey, StatusChange
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.ledger import Posting
from wallet_worker.core.orders import ORDER_SPECS, Effect, HoldAction, Order


class Accepted(NamedTuple):
    """What a command does, before its outcome is wrapped around it."""

    result: JsonObject
    opened: Account | None = None
    orders: tuple[Order, ...] = ()
    changed: tuple[Account, ...] = ()
    postings: tuple[Posting, ...] = ()
    outgoing: tuple[OutboxMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Why something is refused."""

    code: Code
    message: str


_ACCOUNT_MISSING = Refused(Code.ACCOUNT_NOT_FOUND, "the user has no account of this type and currency")
_NO_PAYEE = Refused(
    Code.ACCOUNT_NOT_FOUND, "the user who is to be paid has no account of this type and currency"
)
_CLOSED = Refused(Code.ACCOUNT_CLOSED, "the account is closed")
_PAYEE_CLOSED = Refused(Code.ACCOUNT_CLOSED, "the account that is to be paid is closed")
_FROZEN = Refused(Code.ACCOUNT_FROZEN, "the account is frozen: nothing leaves it")
_SAME_ACCOUNT = Refused(Code.SAME_ACCOUNT, "an account cannot pay itself")
_NO_HOLD = Refused(Code.ORDER_NOT_FOUND, "no order has this hold_serial_no")
_NOT_ENOUGH = Refused(Code.INSUFFICIENT_BALANCE, "the account has less than that available")
_OVERFLOW = Refused(Code.AMOUNT_OUT_OF_RANGE, "the balance would leave 64 bits")


# Accounts


def open_account(message: OpenAccount, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Open an account, unless one of the same user, type and currency is there and not closed."""
    if message.currency not in context.rules.currencies:
        return _currency_not_supported(message.currency)
    key = AccountKey(message.user_id, message.account_type, message.currency)
    newest = facts.account(key)
    if newest is not None and newest.status is not AccountStatus.CLOSED:
        return Refused(Code.ACCOUNT_EXISTS, "the user has an account of this type and currency")
    account = accounts.opened(context.draw.account_id, context.draw.account_no(context.now), key, context.now)
    return Accepted(
        OpenAccountResult(
            user_id=account.user_id,
            account_type=account.account_type,
            currency=account.currency,
            account_no=account.account_no,
        ),
        opened=account,
        outgoing=(outbound.event_message(AccountOpened, message.serial_no, accounts.view(account), context),),
    )


STATUS_EVENTS: dict[type[Command], tuple[StatusChange, outbound.MakeEvent]] = {
    FreezeAccount: (StatusChange.FREEZE, AccountFrozen),
    UnfreezeAccount: (StatusChange.UNFREEZE, AccountUnfrozen),
    CloseAccount: (StatusChange.CLOSE, AccountClosed),
}


def change_status(
    message: FreezeAccount | UnfreezeAccount | CloseAccount, facts: Facts, context: DecisionContext
) -> Accepted | Refused:
    """Freeze, unfreeze or close the newest account of its key; one that is as asked stays so and is told again."""
    if message.currency not in context.rules.currencies:
        return _currency_not_supported(message.currency)
    account = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    if account is None:
        return _ACCOUNT_MISSING
    turn, event = STATUS_EVENTS[type(message)]
    turned = accounts.transition(account, turn, context.now)
    if turned is None:
        return _CLOSED
    if turn is StatusChange.CLOSE:
        if account.balance_minor or account.reserved_minor:
            return Refused(Code.BALANCE_NOT_ZERO, "the account is not empty, or something of it is reserved")
        if facts.pending_orders[account.account_id]:
            return Refused(Code.ORDERS_PENDING, "an order of the account still waits for its result")
    view = accounts.view(turned)
    return Accepted(
        view, changed=(turned,), outgoing=(outbound.event_message(event, message.serial_no, view, context),)
    )


# Orders


def recharge(message: Recharge, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Have the gateway collect money for an account; a frozen one may be paid into."""
    amount_minor = _amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    account = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    if account is None:
        return _ACCOUNT_MISSING
    if account.status is AccountStatus.CLOSED:
        return _CLOSED
    broken = _order_limit(OrderType.RECHARGE, amount_minor, account, facts, context, payee=account)
    if broken is not None:
        return broken
    order = _order(
        OrderType.RECHARGE, message.serial_no, account, amount_minor, context, channel=message.recharge_type
    )
    return Accepted(
        RechargeResult(
            user_id=account.user_id,
            account_type=account.account_type,
            amount=money.to_text(amount_minor, order.currency),
            currency=order.currency,
            recharge_type=order.channel,
            serial_no=order.serial_no,
            order_status=order.status,
        ),
        orders=(order,),
        outgoing=_announce_and_request(order, account, context),
    )


def withdraw(message: Withdraw, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Reserve money and have the gateway pay it out."""
    amount_minor = _amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    account = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    if account is None:
        return _ACCOUNT_MISSING
    refused = _check_parties(account) or _check_funds(
        OrderType.WITHDRAW, amount_minor, account, facts, context
    )
    if refused is not None:
        return refused
    order = _order(
        OrderType.WITHDRAW, message.serial_no, account, amount_minor, context, channel=message.payout_type
    )
    return _accept_reserving(order, account, _announce_and_request(order, account, context), context)


def refund(message: Refund, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Reserve money that a recharge has brought, and have the gateway give it back.

    Of an original that is not known, no account is known either, so nothing of that can be checked before.
    """
    amount_minor = _amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    original = facts.orders.get(message.original_serial_no)
    if original is None:
        return Refused(Code.ORDER_NOT_FOUND, "no order has this original_serial_no")
    account = facts.accounts[original.account_id]
    refused = _check_parties(account)
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
    if facts.refund_totals.get(original.serial_no, 0) + amount_minor > original.amount_minor:
        return Refused(Code.AMOUNT_EXCEEDS_ORIGINAL, "all refunds together would be more than the original")
    refused = _check_funds(OrderType.REFUND, amount_minor, account, facts, context)
    if refused is not None:
        return refused
    order = _order(
        OrderType.REFUND,
        message.serial_no,
        account,
        amount_minor,
        context,
        channel=original.channel,
        parent_serial_no=original.serial_no,
    )
    return _accept_reserving(order, account, _announce_and_request(order, account, context), context)


def transfer(message: Transfer, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Move money from one user's account to another's, at once."""
    amount_minor = _amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    payer = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    payee = facts.account(AccountKey(message.to_user_id, message.to_account_type, message.currency))
    if payer is None:
        return _ACCOUNT_MISSING
    if payee is None:
        return _NO_PAYEE
    refused = _check_parties(payer, payee) or _check_funds(
        OrderType.TRANSFER, amount_minor, payer, facts, context, payee
    )
    if refused is not None:
        return refused
    order = _order(OrderType.TRANSFER, message.serial_no, payer, amount_minor, context, payee=payee)
    return _move_now(order, payer, payee, (), context)


def hold(message: Hold, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Reserve money until it is captured, released, or the time is over."""
    amount_minor = _amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    account = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    if account is None:
        return _ACCOUNT_MISSING
    refused = _check_parties(account) or _check_funds(OrderType.HOLD, amount_minor, account, facts, context)
    if refused is not None:
        return refused
    expires_at = context.now + timedelta(seconds=message.expires_in_seconds)
    order = replace(
        _order(OrderType.HOLD, message.serial_no, account, amount_minor, context),
        remaining_minor=amount_minor,
        expires_at=expires_at,
        due_at=expires_at,
    )
    return _accept_reserving(order, account, (outbound.order_event(order, account, context),), context)


def capture(message: Capture, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Pay another account out of a hold."""
    amount_minor = _amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    payee = facts.account(AccountKey(message.to_user_id, message.to_account_type, message.currency))
    if payee is None:
        return _NO_PAYEE
    held = facts.orders.get(message.hold_serial_no)
    if held is None:
        return _PAYEE_CLOSED if payee.status is AccountStatus.CLOSED else _NO_HOLD
    payer = facts.accounts[held.account_id]
    refused = _check_parties(payer, payee)
    if refused is not None:
        return refused
    remaining_minor = held.remaining_minor or 0
    happening = HoldAction.CAPTURE_ALL if amount_minor >= remaining_minor else HoldAction.CAPTURE
    step = orders.ORDER_SPECS[held.order_type].transition(held.status, happening)
    if step is None or step.effect is Effect.REFUSE or _is_over(held, context):
        return _not_active(held, context)
    if message.currency != held.currency:
        return Refused(Code.CURRENCY_MISMATCH, f"the hold is in {held.currency}")
    if amount_minor > remaining_minor:
        return Refused(Code.AMOUNT_EXCEEDS_ORIGINAL, "the hold has less than that left")
    broken = _order_limit(OrderType.CAPTURE, amount_minor, payer, facts, context, payee)
    if broken is not None:
        return broken
    order = _order(
        OrderType.CAPTURE,
        message.serial_no,
        payer,
        amount_minor,
        context,
        payee=payee,
        parent_serial_no=held.serial_no,
    )
    used = orders.draw_down(held, step, amount_minor, context.now)
    return _move_now(order, payer.reserving(-amount_minor, context.now), payee, (used,), context)


def release(message: Release, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Make what is left of a hold available again, also on a frozen account: nothing leaves it."""
    held = facts.orders.get(message.hold_serial_no)
    if held is None:
        return _NO_HOLD
    step = orders.ORDER_SPECS[held.order_type].transition(held.status, HoldAction.RELEASE)
    if step is None or step.effect is Effect.REFUSE or _is_over(held, context):
        return _not_active(held, context)
    account = facts.accounts[held.account_id]
    remaining_minor = held.remaining_minor or 0
    order = _order(
        OrderType.RELEASE,
        message.serial_no,
        account,
        remaining_minor,
        context,
        parent_serial_no=held.serial_no,
    )
    used = orders.draw_down(held, step, remaining_minor, context.now)
    return Accepted(
        orders.view(order, account),
        orders=(order, used),
        changed=(account.reserving(-remaining_minor, context.now),),
        outgoing=(
            outbound.order_event(order, account, context),
            outbound.order_event(used, account, context, number=1),
        ),
    )


# What several of them have in common


def _amount(message: MoneyFields, context: DecisionContext) -> int | Refused:
    """Return the amount in minor units, or why it is none of this wallet's."""
    if message.currency not in context.rules.currencies:
        return _currency_not_supported(message.currency)
    try:
        return message.amount_minor
    except money.AmountOutOfRange as exc:
        return Refused(Code.AMOUNT_OUT_OF_RANGE, str(exc))


def _currency_not_supported(currency: str) -> Refused:
    return Refused(Code.CURRENCY_NOT_SUPPORTED, f"{currency} is not among the currencies of this wallet")


def _check_parties(payer: Account, payee: Account | None = None) -> Refused | None:
    """Return why nothing may leave the one account, or reach the other."""
    if payer.status is AccountStatus.CLOSED:
        return _CLOSED
    if payee is not None and payee.status is AccountStatus.CLOSED:
        return _PAYEE_CLOSED
    if payer.status is AccountStatus.FROZEN:
        return _FROZEN
    if payee is not None and payee.account_id == payer.account_id:
        return _SAME_ACCOUNT
    return None


def _order_limit(
    order_type: OrderType,
    amount_minor: int,
    account: Account,
    facts: Facts,
    context: DecisionContext,
    payee: Account | None = None,
) -> Refused | None:
    """Return which of the deployment's limits stands against the order."""
    limits = context.rules.limits
    if not limits.accounts:
        return None
    spent_minor = facts.daily_totals.get((account.account_id, order_type), 0)
    why = limits.check_order(order_type, amount_minor, account, spent_minor)
    if why is None and payee is not None:
        why = _balance_limit(payee, amount_minor, facts, context)
    return None if why is None else Refused(Code.LIMIT_EXCEEDED, why)


def _check_funds(
    order_type: OrderType,
    amount_minor: int,
    account: Account,
    facts: Facts,
    context: DecisionContext,
    payee: Account | None = None,
) -> Refused | None:
    """Return which limit stands against the order, or that the account has not so much available."""
    broken = _order_limit(order_type, amount_minor, account, facts, context, payee)
    if broken is None and account.available_minor < amount_minor:
        return _NOT_ENOUGH
    return broken


def _balance_limit(account: Account, amount_minor: int, facts: Facts, context: DecisionContext) -> str | None:
    """Return which limit the account would break if this came, and everything else that is on its way to it."""
    expected_minor = facts.pending_recharges.get(account.account_id, 0)
    return context.rules.limits.check_balance(account, amount_minor, expected_minor)


def _is_over(held: Order, context: DecisionContext) -> bool:
    """Whether a hold's time is over, also if the sweep has not come by yet."""
    return held.expires_at is not None and held.expires_at <= context.now


def _not_active(held: Order, context: DecisionContext) -> Refused:
    if held.order_type is not OrderType.HOLD:
        return Refused(Code.HOLD_NOT_ACTIVE, f"the order is a {held.order_type}, not a hold")
    over = held.status is OrderStatus.ACTIVE and _is_over(held, context)
    return Refused(Code.HOLD_NOT_ACTIVE, f"the hold is {OrderStatus.EXPIRED if over else held.status}")


def _order(
    order_type: OrderType,
    serial_no: str,
    account: Account,
    amount_minor: int,
    context: DecisionContext,
    *,
    channel: str = "",
    payee: Account | None = None,
    parent_serial_no: str | None = None,
) -> Order:
    """Return a new order in its first status; if it waits for the gateway, with the time to look at it again."""
    kind = ORDER_SPECS[order_type]
    expires_at = (
        context.now + context.rules.recharge_expires_after if order_type is OrderType.RECHARGE else None
    )
    return Order(
        order_id=context.draw.order_id(context.now),
        serial_no=serial_no,
        order_type=order_type,
        account_id=account.account_id,
        amount_minor=amount_minor,
        currency=account.currency,
        status=kind.initial_status,
        code=Code.OK,
        channel=channel,
        created_at=context.now,
        updated_at=context.now,
        expires_at=expires_at,
        counter_account_id=None if payee is None else payee.account_id,
        parent_serial_no=parent_serial_no,
        due_at=context.rules.next_inquiry_at(channel, context.now, expires_at, context.now)
        if kind.payment
        else None,
    )


def _accept_reserving(
    order: Order, account: Account, outgoing: tuple[OutboxMessage, ...], context: DecisionContext
) -> Accepted:
    """Return an order whose amount stays on the account, and is reserved there until the order ends."""
    return Accepted(
        orders.view(order, account),
        orders=(order,),
        changed=(account.reserving(order.amount_minor, context.now),),
        outgoing=outgoing,
    )


def _announce_and_request(
    order: Order, account: Account, context: DecisionContext
) -> tuple[OutboxMessage, ...]:
    """Return what tells the world, and asks the gateway, about an order that waits for it."""
    kind = ORDER_SPECS[order.order_type].payment
    if kind is None:
        msg = f"a {order.order_type} has nothing to do with the gateway"
        raise ValueError(msg)
    return outbound.order_event(order, account, context), outbound.payment_request(order, kind, context)


def _move_now(
    order: Order, payer: Account, payee: Account, used: tuple[Order, ...], context: DecisionContext
) -> Accepted | Refused:
    """Return an order whose money moves at once from `payer`, as it is without its reserve, to `payee`.

    `used` is the hold that it is paid out of, if it is. A balance that would leave 64 bits is found here, after all
    else and out of the order of the codes: it takes nine thousand of the largest orders to come there.
    """
    try:
        posting = ledger.post(
            debit=payer,
            credit=payee,
            amount_minor=order.amount_minor,
            order_id=order.order_id,
            at=context.now,
        )
    except ledger.BalanceOverflowError:
        return _OVERFLOW
    moved_at = max(posting.debit.created_at, posting.credit.created_at)
    order = replace(order, transacted_at=moved_at, updated_at=moved_at)
    lines = [
        ledger.view(posting.debit, posting.debited, order.order_type),
        ledger.view(posting.credit, posting.credited, order.order_type),
    ]
    told = [outbound.order_event(order, payer, context, entries=lines, payee=payee)]
    told += [
        outbound.order_event(one, payer, context, number=1)
        for one in used
        if one.status is not OrderStatus.ACTIVE
    ]
    return Accepted(
        orders.view(order, payer, payee=payee),
        orders=(order, *used),
        postings=(posting,),
        outgoing=tuple(told),
    )
