"""What commands do once they are accepted: the order, the money that moves or is reserved, and what is published."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from wallet_schemas.codes import Code
from wallet_schemas.message import Body
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core import debts, ledger, orders, outbound
from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import OutboxMessage, StoredCommand
from wallet_worker.core.commands.checks import OVERFLOW, Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.debts import OwnOrders
from wallet_worker.core.facts import Facts
from wallet_worker.core.ledger import Posting
from wallet_worker.core.orders import Order


class Accepted(NamedTuple):
    """What a command does, before its outcome is wrapped around it."""

    result: Body
    opened: Account | None = None
    orders: tuple[Order, ...] = ()
    changed: tuple[Account, ...] = ()
    postings: tuple[Posting, ...] = ()
    outgoing: tuple[OutboxMessage, ...] = ()
    own_commands: tuple[StoredCommand, ...] = ()

    def with_own(self, own: OwnOrders) -> "Accepted":
        """Return the same with orders that the wallet makes itself, after its own."""
        return self._replace(
            orders=(*self.orders, *own.orders),
            postings=(*self.postings, *own.postings),
            outgoing=(*self.outgoing, *own.outgoing),
            own_commands=(*self.own_commands, *own.commands),
        )


def new_order(
    order_type: OrderType,
    serial_no: str,
    account: Account,
    amount_minor: int,
    context: DecisionContext,
    metadata: dict[str, str] | None,
    *,
    channel: str = "",
    payee: Account | None = None,
    parent_serial_no: str | None = None,
) -> Order:
    """Return a new order in its first status; if it waits for the gateway, with the time to look at it again."""
    spec = orders.ORDER_SPECS[order_type]
    expires_at = (
        context.rules.recharge_expires_at(channel, context.now) if order_type is OrderType.RECHARGE else None
    )
    return Order(
        order_id=context.draw.order_id(context.now),
        serial_no=serial_no,
        order_type=order_type,
        account_id=account.account_id,
        amount_minor=amount_minor,
        currency=account.currency,
        status=spec.initial_status,
        code=Code.OK,
        channel=channel,
        created_at=context.now,
        updated_at=context.now,
        expires_at=expires_at,
        counter_account_id=None if payee is None else payee.account_id,
        parent_serial_no=parent_serial_no,
        due_at=context.rules.next_inquiry_at(channel, context.now, expires_at, context.now)
        if spec.payment
        else None,
        metadata=metadata or None,
    )


def reserve(
    order: Order, account: Account, outgoing: tuple[OutboxMessage, ...], context: DecisionContext
) -> Accepted:
    """Return an order whose amount stays on the account, and is reserved there until the order ends."""
    return Accepted(
        orders.result_body(order, account),
        orders=(order,),
        changed=(account.reserving(order.amount_minor, context.now),),
        outgoing=outgoing,
    )


def announce_and_request(
    order: Order,
    account: Account,
    context: DecisionContext,
    *,
    original: Order | None = None,
    handed_on: Mapping[str, str] = outbound.NOTHING,
) -> tuple[OutboxMessage, ...]:
    """Return the event of an order that waits for the gateway, and the request to the gateway.

    `original` is the recharge that a refund gives back; for `handed_on` see `outbound.payment_request`.
    """
    payment = orders.ORDER_SPECS[order.order_type].payment
    if payment is None:
        msg = f"a {order.order_type} has nothing to do with the gateway"
        raise ValueError(msg)
    return (
        outbound.order_event(order, account, context),
        outbound.payment_request(order, account, payment, context, original=original, handed_on=handed_on),
    )


def move_now(
    order: Order,
    payer: Account,
    payee: Account,
    facts: Facts,
    context: DecisionContext,
    drawn: tuple[Order, ...] = (),
) -> Accepted | Refused:
    """Return an order whose money moves at once, as the legs of its type say.

    `payer` is the account without what the order releases of its reserve. `drawn` is the hold that the order is paid
    out of. A balance that would leave 64 bits is refused here, after everything
    else and out of the order of the codes: it takes nine thousand of the largest orders to come there.
    """
    try:
        posting = ledger.post(
            orders.movements(order, payer, payee, facts.lane), order_id=order.order_id, at=context.now
        )
    except ledger.BalanceOverflowError:
        return OVERFLOW
    moved_at = max(entry.created_at for entry in posting.entries)
    order = replace(order, transacted_at=moved_at, updated_at=moved_at)
    events = [
        outbound.order_event(
            order,
            payer,
            context,
            entries=ledger.bodies(posting, order.order_type, order.serial_no),
            payee=payee,
        )
    ]
    events += [
        outbound.order_event(hold, payer, context, number=1)
        for hold in drawn
        if hold.status is not OrderStatus.ACTIVE
    ]
    accepted = Accepted(
        orders.result_body(order, payer, payee),
        orders=(order, *drawn),
        postings=(posting,),
        outgoing=tuple(events),
    )
    if not payee.debt_minor:
        return accepted
    (credited,) = (account for account in posting.accounts if account.account_id == payee.account_id)
    return accepted.with_own(debts.recovered(credited, order.serial_no, facts, context))
