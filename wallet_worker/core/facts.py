"""What the database knew about everything that a batch names, and what the batch has decided since.

`decide` reads facts, `apply` writes a decision into them; so the second message of a batch sees what
the first did, as if the database had been asked again. What is made for every message and only carried is a tuple: it
costs a third of a frozen dataclass.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from wallet_schemas.codes import Code
from wallet_schemas.payments import PaymentResult
from wallet_schemas.values import OrderStatus, OrderType, OutcomeStatus, ProcessingStatus
from wallet_worker.core.accounts import Account, AccountKey, SystemKey
from wallet_worker.core.endings import Ending
from wallet_worker.core.ledger import Entry, Posting
from wallet_worker.core.orders import UNSUCCESSFUL, Order


class StoredCommand(NamedTuple):
    """One row of the memory: what was asked under a serial number, and the outcome it has for ever.

    `content` and `result` are JSON texts, repeated as they are. `fingerprint` is of the content.
    """

    serial_no: str
    command_type: str
    fingerprint: bytes
    content: str
    status: OutcomeStatus
    code: Code
    result: str
    created_at: datetime


class StoredResult(NamedTuple):
    """A payment result as it was received, and what came of it."""

    result: PaymentResult
    fingerprint: bytes
    processing: ProcessingStatus
    code: Code
    received_at: datetime


class OutboxMessage(NamedTuple):
    """A message that the wallet has promised to publish, once this is committed: a row of the outbox.

    `message_id` is the outbox's own; the AMQP message_id is fresh for each attempt. `properties` are marshalled AMQP
    properties, and there for dead letters only. `attempts` counts how often the relay has tried it.
    """

    message_id: UUID
    exchange: str
    routing_key: str
    body: bytes
    correlation_id: str | None = None
    traceparent: str | None = None
    properties: bytes | None = None
    attempts: int = 0


class Decision(NamedTuple):
    """All that one message does. What is absent is not touched.

    `code` and `detail` say why, wherever `ending` is not a plain success. `changed` are accounts of which
    something else than the balance is different now; those of `postings` are in the postings. `due_at` is there
    for a message that is parked, and for nothing else.
    """

    ending: Ending
    code: Code = Code.OK
    detail: str = ""
    command: StoredCommand | None = None
    opened: Account | None = None
    orders: tuple[Order, ...] = ()
    changed: tuple[Account, ...] = ()
    postings: tuple[Posting, ...] = ()
    receipt: StoredResult | None = None
    outgoing: tuple[OutboxMessage, ...] = ()
    due_at: datetime | None = None


@dataclass(slots=True)
class Changes:
    """What was decided and is to be written. What was there before is in pairs: as it was read, and as it is now."""

    commands: list[StoredCommand] = field(default_factory=list)
    accounts_new: dict[int, Account] = field(default_factory=dict)
    accounts_moved: dict[int, tuple[Account, Account]] = field(default_factory=dict)
    orders_new: dict[str, Order] = field(default_factory=dict)
    orders_moved: dict[str, tuple[Order, Order]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    receipts: list[StoredResult] = field(default_factory=list)
    outgoing: list[OutboxMessage] = field(default_factory=list)

    def add(self, others: "Changes") -> None:
        """Have others written with these; what was moved in both is not foreseen."""
        self.commands += others.commands
        self.accounts_new |= others.accounts_new
        self.accounts_moved |= others.accounts_moved
        self.orders_new |= others.orders_new
        self.orders_moved |= others.orders_moved
        self.entries += others.entries
        self.receipts += others.receipts
        self.outgoing += others.outgoing


@dataclass(slots=True)
class Facts:
    """The state that a batch is decided over, and what of it is still to be written.

    Filled by the store before the first decision. `lanes` holds the lane of each system account that
    this batch was given.

    `refunded` is the sum of each recharge's refunds that have not failed, `waiting` the number of an account's
    orders without a result, and `spent` the sum of an account's orders of a type made since `day_start` that have
    not come to nothing, also of accounts of the same key that were closed; `expected` is the sum of an account's
    recharges that wait for the gateway. Each is known only of what the batch asks about, and of what is made in it.
    Without a `day_start` nobody asks what was spent.
    """

    commands: dict[str, StoredCommand] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    newest: dict[AccountKey, int] = field(default_factory=dict)
    lanes: dict[SystemKey, int] = field(default_factory=dict)
    refund_totals: dict[str, int] = field(default_factory=dict)
    pending_orders: dict[int, int] = field(default_factory=dict)
    daily_totals: dict[tuple[int, OrderType], int] = field(default_factory=dict)
    pending_recharges: dict[int, int] = field(default_factory=dict)
    day_start: datetime | None = None

    flushable: Changes = field(default_factory=Changes)
    deferred: Changes = field(default_factory=Changes)

    def take_flushable(self) -> Changes:
        """Return what may be written before the batch is decided: rows that nobody else can be writing.

        They are locked, or of orders whose account this transaction has locked: only who has it makes such orders.
        """
        taken, self.flushable = self.flushable, Changes()
        return taken

    def take_remaining(self) -> Changes:
        """Return everything that is left, once the batch is decided.

        What had nothing to lock is in it, so that of all of a batch it can be written in order: accounts that are
        opened, commands that name none, and whatever stands on these.
        """
        taken = self.take_flushable()
        taken.add(self.deferred)
        self.deferred = Changes()
        return taken

    def add_accounts(self, accounts: Iterable[Account]) -> None:
        """Know these users' accounts, each the newest of its key unless a newer one is known."""
        for account in accounts:
            self.accounts[account.account_id] = account
            newest = self.account(account.key)
            if newest is None or newest.recency < account.recency:
                self.newest[account.key] = account.account_id

    def add_lane(self, key: SystemKey, account: Account) -> None:
        """Know the lane of a system account that this batch may write to."""
        self.accounts[account.account_id] = account
        self.lanes[key] = account.account_id

    def account(self, key: AccountKey) -> Account | None:
        """Return the newest account of a key, closed or not; absent if there never was one."""
        account_id = self.newest.get(key)
        return None if account_id is None else self.accounts[account_id]

    def lane(self, key: SystemKey) -> Account:
        """Return this batch's lane of a system account."""
        return self.accounts[self.lanes[key]]

    def apply(self, decision: Decision) -> None:
        """Let the decision be true for the messages after it, and be written."""
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
            self._put_account(posting.debited)
            self._put_account(posting.credited)
            changes.entries += (posting.debit, posting.credit)
        if decision.receipt is not None:
            changes.receipts.append(decision.receipt)
        self.enqueue(*decision.outgoing)

    def enqueue(self, *messages: OutboxMessage) -> None:
        """Have messages published once the batch is committed."""
        self.flushable.outgoing += messages

    def _depends_on_deferred(self, decision: Decision) -> bool:
        """Return whether something of the decision has to be written with, or after, what waits for the end.

        An order stands on its accounts. What is about another order (a refund, a capture) has the account of that.
        """
        if decision.command is not None and not decision.orders:
            return True  # whatever it names need not be there, and so need not be locked
        opened, receipt = self.deferred.accounts_new, decision.receipt
        if not opened:
            return False
        if receipt is not None and receipt.result.payment_order_no in self.deferred.orders_new:
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

    def _count(self, before: Order | None, after: Order) -> None:
        """Keep the sums and numbers that are known of other orders true."""
        waits = (after.status is OrderStatus.PENDING) - (
            before is not None and before.status is OrderStatus.PENDING
        )
        if after.account_id in self.pending_orders:
            self.pending_orders[after.account_id] += waits
        if waits and after.order_type is OrderType.RECHARGE:
            known = self.pending_recharges.get(after.account_id, 0)
            self.pending_recharges[after.account_id] = known + waits * after.amount_minor
        counted = 0 if before is None or before.status in UNSUCCESSFUL else before.amount_minor
        counts = 0 if after.status in UNSUCCESSFUL else after.amount_minor
        if counts == counted:
            return
        if after.order_type is OrderType.REFUND and after.parent_serial_no is not None:
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
