"""What the wallet lends, and takes back: the only functions that change a debt.

1. Only a debit that cannot be refused makes a debt. No command can.
2. What lacks is lent before the debit, so that no balance is ever below zero.
3. What becomes available on an account that owes pays the debt at once, in the same commit.
4. What is reserved is never touched.
"""

from dataclasses import replace
from typing import Final

from wallet_schemas.codes import Code
from wallet_schemas.events import AccountDebtChanged
from wallet_schemas.fingerprint import Content, canonical, fingerprint
from wallet_schemas.money import to_text
from wallet_schemas.values import AccountStatus, OrderType, OutcomeStatus
from wallet_worker.core import accounts, ledger, orders, outbound
from wallet_worker.core.accounts import Account, SystemKey
from wallet_worker.core.changes import OutboxMessage, StoredCommand
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.facts import Facts
from wallet_worker.core.ledger import BALANCE_MAX_MINOR, BalanceOverflowError, Posting
from wallet_worker.core.orders import Order

OWN_ORDER: Final = "wallet.order.v1"
"""The type of the command that stands for an order which the wallet makes itself."""

_IDS_FROM: Final = 16  # the ids before are those of what a message asks for
_IDS_EACH: Final = 4


class OwnOrders:
    """The orders that the wallet makes itself in one decision: rows, lines and events, in the order of the lines.

    `touched` are the accounts as the decision has left them so far: with the lines that it has posted, and the
    reserves that it has returned.
    """

    __slots__ = ("_accounts", "_context", "_debtors", "_events", "_facts", "commands", "orders", "postings")

    def __init__(self, facts: Facts, context: DecisionContext, *touched: Account) -> None:
        self._facts = facts
        self._context = context
        self._accounts = {account.account_id: account for account in touched}
        self._debtors: dict[int, OutboxMessage] = {}
        self._events: list[OutboxMessage] = []
        self.commands: list[StoredCommand] = []
        self.orders: list[Order] = []
        self.postings: list[Posting] = []

    @property
    def outgoing(self) -> tuple[OutboxMessage, ...]:
        """The events: of each order in the order of its lines, then of each account whose debt has changed."""
        return (*self._events, *self._debtors.values())

    def account(self, account_id: int) -> Account:
        """Return an account as the orders made so far have left it."""
        return self._accounts.get(account_id) or self._facts.accounts[account_id]

    def written_off(self, account_id: int) -> int:
        """Return what was written off of an account and is not recovered, before this decision; in minor units."""
        return self._facts.written_off.get(account_id, 0)

    def make(
        self,
        order_type: OrderType,
        account_id: int,
        amount_minor: int,
        about: str | None,
        *,
        reversal_ref: str | None = None,
        debt_by: int = 0,
    ) -> Order:
        """Make an order of an account that succeeds at once, and change the account's debt with it.

        `about` is the serial number of the order because of which it is made. Raises BalanceOverflowError.
        """
        context, number = self._context, _IDS_FROM + _IDS_EACH * len(self.orders)
        account = self.account(account_id)
        if debt_by:
            if account.debt_minor + debt_by > BALANCE_MAX_MINOR:
                raise BalanceOverflowError
            account = replace(account, debt_minor=account.debt_minor + debt_by)
        order = Order(
            order_id=context.draw.further_id(context.now, number),
            serial_no=str(context.draw.further_id(context.now, number + 1)),
            order_type=order_type,
            account_id=account_id,
            amount_minor=amount_minor,
            currency=account.currency,
            status=orders.ORDER_SPECS[order_type].initial_status,
            code=Code.OK,
            channel="",
            created_at=context.now,
            updated_at=context.now,
            parent_serial_no=about,
            reversal_ref=reversal_ref,
        )
        posting = ledger.post(
            orders.movements(order, account, None, self._lane), order_id=order.order_id, at=context.now
        )
        self.postings.append(posting)
        if all(moved.account_id != account_id for moved in posting.accounts):
            # In the books only: the account has no line, and is as it was but for its debt.
            account = replace(account, updated_at=max(context.now, account.updated_at))
            self.postings.append(Posting((), (account,)))
        self._accounts |= {account_id: account} | {moved.account_id: moved for moved in posting.accounts}
        account = self._accounts[account_id]
        moved_at = max(entry.created_at for entry in posting.entries)
        order = replace(order, transacted_at=moved_at, updated_at=moved_at)
        self.orders.append(order)
        self.commands.append(self._command(order, account))
        self._events.append(
            outbound.order_event(
                order,
                account,
                context,
                entries=ledger.bodies(posting, order_type, order.serial_no) or None,
                number=number + 2,
            )
        )
        if debt_by:
            self._debtors[account_id] = outbound.event_message(
                AccountDebtChanged,
                order.serial_no,
                accounts.body(account, with_debt=True),
                context,
                number + 3,
            )
        return order

    def _lane(self, key: SystemKey) -> Account:
        return self.account(self._facts.lanes[key])

    def _command(self, order: Order, account: Account) -> StoredCommand:
        """Return the row that stands for the command which nobody has sent."""
        content: Content = {
            "type": OWN_ORDER,
            "serial_no": order.serial_no,
            "order_type": order.order_type.value,
            "account_no": account.account_no,
            "amount": to_text(order.amount_minor, order.currency),
            "currency": order.currency,
        }
        if order.parent_serial_no is not None:
            content["original_serial_no"] = order.parent_serial_no
        if order.reversal_ref is not None:
            content["reversal_ref"] = order.reversal_ref
        text = canonical(content)
        return StoredCommand(
            serial_no=order.serial_no,
            command_type=OWN_ORDER,
            fingerprint=fingerprint(text),
            content=text.decode(),
            status=OutcomeStatus.APPLIED,
            code=Code.OK,
            result=outbound.encode(orders.result_body(order, account)).decode(),
            created_at=self._context.now,
        )


def charge(
    own: OwnOrders,
    order_type: OrderType,
    account_id: int,
    amount_minor: int,
    about: str | None,
    reversal_ref: str | None = None,
) -> Order:
    """Debit an account in full, whatever is available there: what lacks is lent first. Return the order of the debit.

    Raises BalanceOverflowError where the debt or the balance would leave 64 bits.
    """
    lacking_minor = amount_minor - own.account(account_id).available_minor
    if lacking_minor > 0:
        own.make(
            OrderType.ADVANCE,
            account_id,
            lacking_minor,
            about,
            reversal_ref=reversal_ref,
            debt_by=lacking_minor,
        )
    return own.make(order_type, account_id, amount_minor, about, reversal_ref=reversal_ref)


def credit_into(
    own: OwnOrders,
    order_type: OrderType,
    account_id: int,
    amount_minor: int,
    about: str | None,
    reversal_ref: str | None = None,
) -> Order:
    """Credit an account, and take from that what it owes. Return the order of the credit.

    A dispute that was won after its debt was written off makes the loss good first. Whether a closed account can take
    the credit is decided before (`can_take`). Raises BalanceOverflowError.
    """
    order = own.make(order_type, account_id, amount_minor, about, reversal_ref=reversal_ref)
    written_off_minor = own.written_off(account_id) if order_type is OrderType.CHARGEBACK_REVERSAL else 0
    if written_off_minor:
        own.make(
            OrderType.WRITE_OFF_RECOVERY,
            account_id,
            min(written_off_minor, amount_minor),
            about,
            reversal_ref=reversal_ref,
        )
    recover(own, account_id, about, reversal_ref)
    return order


def recover(own: OwnOrders, account_id: int, about: str | None, reversal_ref: str | None = None) -> None:
    """Take what is available on an account that owes, up to its debt; the order `about` has made it available."""
    account = own.account(account_id)
    paid_minor = min(account.debt_minor, account.available_minor)
    if paid_minor > 0:
        own.make(
            OrderType.REPAYMENT, account_id, paid_minor, about, reversal_ref=reversal_ref, debt_by=-paid_minor
        )


def recovered(account: Account, about: str, facts: Facts, context: DecisionContext) -> OwnOrders:
    """Return the repayment out of what has become available on an account that owes, if there is anything.

    `account` is as the decision has left it, `about` the order that has made it available.
    """
    own = OwnOrders(facts, context, account)
    recover(own, account.account_id, about)
    return own


def write_off(own: OwnOrders, account_id: int, amount_minor: int) -> Order:
    """Move a debt, or a part of it, to the losses: in the books only, without a line of the account.

    That the debt is as large is decided before.
    """
    return own.make(OrderType.WRITE_OFF, account_id, amount_minor, None, debt_by=-amount_minor)


def can_take(account: Account, order_type: OrderType, amount_minor: int, written_off_minor: int = 0) -> bool:
    """Return whether an account can be credited: a closed account only with what it owes, or was written off of it."""
    if account.status is not AccountStatus.CLOSED:
        return True
    owed_minor = account.debt_minor
    if order_type is OrderType.CHARGEBACK_REVERSAL:
        owed_minor += written_off_minor
    return amount_minor <= owed_minor
