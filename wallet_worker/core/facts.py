"""What the database knew about everything that a batch names, and what the batch has decided since.

`decide` reads facts, and `apply` writes a decision into them. The second message of a batch so sees what the first
did, as if the database had been asked again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

from wallet_schemas.values import OrderStatus, OrderType, PaymentKind
from wallet_worker.core.accounts import Account, AccountKey, SystemKey
from wallet_worker.core.changes import Changes, Decision, OutboxMessage, StoredCommand, StoredInstructions
from wallet_worker.core.orders import ORDER_SPECS, OWN, UNSUCCESSFUL, Order
from wallet_worker.core.reversals import Reversal

_RETURNED: Final[Mapping[OrderType, int]] = MappingProxyType(
    {OrderType.PAYOUT_RETURN: 1, OrderType.PAYOUT_RETURN_REVERSAL: -1}
)
_WRITTEN_OFF: Final[Mapping[OrderType, int]] = MappingProxyType(
    {OrderType.WRITE_OFF: 1, OrderType.WRITE_OFF_RECOVERY: -1}
)


@dataclass(slots=True)
class Facts:
    """The state that a batch is decided over, and what of it is still to be written.

    The store fills it before the first decision. Sums are in minor units, and known only of what the batch looks up
    and of what is made in it:

    - `lanes`: the lane of each system account that this batch may write to;
    - `refund_totals`: by recharge, the sum of the refunds that have not failed, less what of them was returned;
    - `reversals`: by order and the gateway's reference, its disputes, recalls and returns;
    - `reversed_totals`: by order, what of its reversals stands;
    - `written_off`: by account, what was written off and is not recovered;
    - `instructions`: by order, how its payer pays;
    - `gateway_refs`: by channel and the gateway's id of a payment, which order has it, where one id is one payment;
    - `pending_orders`: by account, how many orders wait for a result;
    - `daily_totals`: by account and type, the sum of the orders made since `day_start` that have not come to nothing,
      those of closed accounts of the same key included; without a `day_start` nothing is limited by the day;
    - `pending_recharges`: by account, the sum of the recharges that wait for the gateway.

    `flushable` may be written before the batch is decided, `deferred` only in the end.
    """

    commands: dict[str, StoredCommand] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    newest: dict[AccountKey, int] = field(default_factory=dict)
    lanes: dict[SystemKey, int] = field(default_factory=dict)
    refund_totals: dict[str, int] = field(default_factory=dict)
    reversals: dict[str, dict[str, Reversal]] = field(default_factory=dict)
    reversed_totals: dict[str, int] = field(default_factory=dict)
    written_off: dict[int, int] = field(default_factory=dict)
    instructions: dict[str, StoredInstructions] = field(default_factory=dict)
    gateway_refs: dict[tuple[str, str], UUID] = field(default_factory=dict)
    pending_orders: dict[int, int] = field(default_factory=dict)
    daily_totals: dict[tuple[int, OrderType], int] = field(default_factory=dict)
    pending_recharges: dict[int, int] = field(default_factory=dict)
    day_start: datetime | None = None

    flushable: Changes = field(default_factory=Changes)
    deferred: Changes = field(default_factory=Changes)

    def take_flushable(self) -> Changes:
        """Return what may be written before the batch is decided: rows that no other transaction can be writing.

        These rows are locked, or belong to an account that this transaction has locked.
        """
        taken, self.flushable = self.flushable, Changes()
        return taken

    def take_remaining(self) -> Changes:
        """Return everything that is left, once the batch is decided.

        This includes the rows that had nothing to lock, so that they can be written in order: accounts that are
        opened, commands that name no account, and rows that depend on either.
        """
        taken = self.take_flushable()
        taken.add(self.deferred)
        self.deferred = Changes()
        return taken

    def add_accounts(self, accounts: Iterable[Account]) -> None:
        """Add users' accounts. Each is the newest of its key unless a newer one is there."""
        for account in accounts:
            self.accounts[account.account_id] = account
            newest = self.account(account.key)
            if newest is None or newest.recency < account.recency:
                self.newest[account.key] = account.account_id

    def add_lane(self, key: SystemKey, account: Account) -> None:
        """Add the lane of a system account that this batch may write to."""
        self.accounts[account.account_id] = account
        self.lanes[key] = account.account_id

    def account(self, key: AccountKey) -> Account | None:
        """Return the newest account of a key, closed or not; None if the key never had an account."""
        account_id = self.newest.get(key)
        return None if account_id is None else self.accounts[account_id]

    def lane(self, key: SystemKey) -> Account:
        """Return this batch's lane of a system account."""
        return self.accounts[self.lanes[key]]

    def apply(self, decision: Decision) -> None:
        """Apply the decision to the facts and queue its writes."""
        if decision.opened is not None:
            self.deferred.accounts_new[decision.opened.account_id] = decision.opened
            self._put_opened(decision.opened)
        changes = self.deferred if self._depends_on_deferred(decision) else self.flushable
        if decision.command is not None:
            self.commands[decision.command.serial_no] = decision.command
            changes.commands.append(decision.command)
        for order in decision.orders:
            self._put_order(order, changes)
        for account in decision.changed:
            self._put_account(account)
        for posting in decision.postings:
            for account in posting.accounts:
                self._put_account(account)
            changes.entries += posting.entries
        if decision.receipt is not None:
            changes.receipts.append(decision.receipt)
        if decision.own_commands or decision.reversal_receipt is not None:
            self._apply_own(decision, changes)
        if decision.instructions is not None or decision.taken_ref is not None:
            self._apply_payment(decision, changes)
        self.enqueue(*decision.outgoing)

    def _apply_own(self, decision: Decision, changes: Changes) -> None:
        """Apply the commands that stand for the wallet's own orders, and what is known of a reversal."""
        for own in decision.own_commands:
            self.commands[own.serial_no] = own
            changes.commands.append(own)
        if decision.reversal_receipt is not None:
            changes.reversal_receipts.append(decision.reversal_receipt)
            if (reversal := decision.reversal) is not None:
                self._put_reversal(decision.reversal_receipt.reversal.payment_order_no, reversal)
                changes.reversals[reversal.order_id, reversal.reversal_ref] = reversal

    def _apply_payment(self, decision: Decision, changes: Changes) -> None:
        """Apply what is kept of a payment beside its order."""
        if (instructions := decision.instructions) is not None:
            self.instructions[instructions.serial_no] = instructions
            changes.instructions[instructions.order_id] = instructions
        if (taken := decision.taken_ref) is not None:
            self.gateway_refs[taken.channel, taken.gateway_ref] = taken.order_id
            changes.taken_refs.append(taken)

    def enqueue(self, *messages: OutboxMessage) -> None:
        """Queue messages to be published once the batch is committed."""
        self.flushable.outgoing += messages

    def _depends_on_deferred(self, decision: Decision) -> bool:
        """Return whether the decision must be written in the last part: it depends on a row that could not be locked.

        An order depends on its accounts. An order about another order (a refund, a capture) has the account of that.
        """
        if decision.command is not None and not decision.orders:
            return True  # the accounts and orders that it names may be missing, so nothing may be locked
        opened, receipt = self.deferred.accounts_new, decision.receipt
        if not opened:
            return False
        if receipt is not None and receipt.result.payment_order_no in self.deferred.orders_new:
            return True
        reversal = decision.reversal_receipt
        if reversal is not None and reversal.reversal.payment_order_no in self.deferred.orders_new:
            return True
        return any(
            order.account_id in opened or order.counter_account_id in opened for order in decision.orders
        )

    def _put_opened(self, account: Account) -> None:
        before = self.newest.get(account.key)
        for (account_id, order_type), spent_minor in (
            list(self.daily_totals.items()) if before is not None else ()
        ):
            if account_id == before:
                self.daily_totals[account.account_id, order_type] = spent_minor
        self.pending_orders[account.account_id] = 0
        self.add_accounts((account,))

    def _put_order(self, order: Order, changes: Changes) -> None:
        before, moved = self.orders.get(order.serial_no), self.flushable.orders_moved
        if order.serial_no in moved:
            moved[order.serial_no] = (moved[order.serial_no][0], order)
        elif before is None or order.serial_no in changes.orders_new:
            changes.orders_new[order.serial_no] = order
        else:
            moved[order.serial_no] = (before, order)
        self.orders[order.serial_no] = order
        if before is None or before.status is not order.status:
            self._count(before, order)
        if order.order_type in OWN:
            self._count_own(order)

    def _put_reversal(self, serial_no: str, reversal: Reversal) -> None:
        known = self.reversals.setdefault(serial_no, {})
        before = known.get(reversal.reversal_ref)
        known[reversal.reversal_ref] = reversal
        stood_minor = self.reversed_totals.get(serial_no, 0) - (before.moved_minor if before else 0)
        self.reversed_totals[serial_no] = stood_minor + reversal.moved_minor

    def _count_own(self, order: Order) -> None:
        """Update the sums that an order of the wallet's own changes."""
        parent = self.orders.get(order.parent_serial_no or "")
        if (
            parent is not None
            and parent.order_type is OrderType.REFUND
            and parent.parent_serial_no is not None
        ):
            by_minor = _RETURNED.get(order.order_type, 0) * order.amount_minor
            refunded = self.refund_totals.get(parent.parent_serial_no, 0)
            self.refund_totals[parent.parent_serial_no] = refunded - by_minor
        if (sign := _WRITTEN_OFF.get(order.order_type)) is not None:
            known = self.written_off.get(order.account_id, 0)
            self.written_off[order.account_id] = known + sign * order.amount_minor

    def _count(self, before: Order | None, after: Order) -> None:
        """Update the sums and counts that are known of an order's account and parent."""
        waits = (after.status is OrderStatus.PENDING) - (
            before is not None and before.status is OrderStatus.PENDING
        )
        if after.account_id in self.pending_orders:
            self.pending_orders[after.account_id] += waits
        payment = ORDER_SPECS[after.order_type].payment
        if waits and payment is PaymentKind.CHARGE:
            known = self.pending_recharges.get(after.account_id, 0)
            self.pending_recharges[after.account_id] = known + waits * after.amount_minor
        counted = 0 if before is None or before.status in UNSUCCESSFUL else before.amount_minor
        counts = 0 if after.status in UNSUCCESSFUL else after.amount_minor
        if counts == counted:
            return
        if payment is PaymentKind.REFUND and after.parent_serial_no is not None:
            refunded = self.refund_totals.get(after.parent_serial_no, 0)
            self.refund_totals[after.parent_serial_no] = refunded + counts - counted
        if self.day_start is not None and after.created_at >= self.day_start:
            key = (after.account_id, after.order_type)
            self.daily_totals[key] = self.daily_totals.get(key, 0) + counts - counted

    def _put_account(self, account: Account) -> None:
        account_id, moved = account.account_id, self.flushable.accounts_moved
        if account_id in self.deferred.accounts_new:
            self.deferred.accounts_new[account_id] = account
        else:
            read = moved[account_id][0] if account_id in moved else self.accounts[account_id]
            moved[account_id] = (read, account)
        self.accounts[account_id] = account
