"""The wallet without servers: messages as they arrive, and a state in memory that decisions change.

`World` loads and saves what `wallet_worker.store.load` and `save` do, and no more, so that a decision which needs
a fact that is not loaded fails here too. It asserts what the database guards.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

from tests.rules.contract import bodies
from tests.rules.contract.bodies import JsonObject
from tests.workers import KEYS
from wallet_schemas.codes import Code
from wallet_schemas.commands import OpenAccount
from wallet_schemas.money import to_minor
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS
from wallet_schemas.signature import sign
from wallet_schemas.values import AccountStatus, Direction, OrderStatus, OrderType
from wallet_worker.core.accounts import Account, AccountKey, SystemKey, SystemName, opened
from wallet_worker.core.batch import decide_all, lookups_for
from wallet_worker.core.changes import (
    Changes,
    Decision,
    OutboxMessage,
    StoredCommand,
    StoredInstructions,
    StoredResult,
    StoredReversal,
)
from wallet_worker.core.context import Policy
from wallet_worker.core.endings import DISPOSITIONS, Disposition
from wallet_worker.core.facts import Facts
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds
from wallet_worker.core.inbound import InboundMessage, InvalidMessage, Message, Source, read
from wallet_worker.core.ledger import Entry
from wallet_worker.core.orders import OPEN, ORDER_SPECS, UNSUCCESSFUL, Order
from wallet_worker.core.reversals import REVERSAL_ACCOUNTS, Reversal
from wallet_worker.store.load import wanted_refs

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SIGNED_AT_UNIX = 4_102_444_800  # in 2100: no order here is made after it, and a time in the future is as good


def changed(good: JsonObject, changes: Mapping[str, Any]) -> bytes:
    """Return a good body with some fields changed, or left out where the change is `...`."""
    return bodies.body({name: value for name, value in {**good, **changes}.items() if value is not ...})


def open_account(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `account.open.v1` as it arrives."""
    return command(changed(bodies.OPEN, changes), reply_to)


def recharge_v2(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.recharge.v2` as it arrives."""
    return command(changed(bodies.RECHARGE_V2, changes), reply_to)


def withdraw_v2(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.withdraw.v2` as it arrives."""
    return command(changed(bodies.WITHDRAW_V2, changes), reply_to)


def cancel(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.cancel.v1` as it arrives."""
    return command(changed(bodies.CANCEL, changes), reply_to)


def recharge(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.recharge.v1` as it arrives."""
    return command(changed(bodies.RECHARGE, changes), reply_to)


def freeze(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `account.freeze.v1` as it arrives."""
    return command(changed(bodies.FREEZE, changes), reply_to)


def unfreeze(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `account.unfreeze.v1` as it arrives."""
    return command(changed(bodies.UNFREEZE, changes), reply_to)


def close(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `account.close.v1` as it arrives."""
    return command(changed(bodies.CLOSE, changes), reply_to)


def withdraw(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.withdraw.v1` as it arrives."""
    return command(changed(bodies.WITHDRAW, changes), reply_to)


def transfer(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.transfer.v1` as it arrives."""
    return command(changed(bodies.TRANSFER, changes), reply_to)


def refund(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.refund.v1` as it arrives."""
    return command(changed(bodies.REFUND, changes), reply_to)


def hold(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.hold.v1` as it arrives."""
    return command(changed(bodies.HOLD, changes), reply_to)


def capture(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.capture.v1` as it arrives."""
    return command(changed(bodies.CAPTURE, changes), reply_to)


def release(reply_to: str | None = None, **changes: Any) -> InboundMessage:
    """Return an `order.release.v1` as it arrives."""
    return command(changed(bodies.RELEASE, changes), reply_to)


def command(body: bytes, reply_to: str | None = None) -> InboundMessage:
    """Return whatever arrives on the queue of commands."""
    return InboundMessage(
        Source.COMMANDS, body, reply_to=reply_to, correlation_id="c-1" if reply_to else None
    )


def _from_gateway(
    body: bytes, reply_to: str | None, keys: Mapping[str, str], attempts: int
) -> InboundMessage:
    return InboundMessage(
        Source.RESULTS,
        body,
        reply_to=reply_to,
        correlation_id="c-1" if reply_to else None,
        signature=sign(body, keys, SIGNED_AT_UNIX) if keys else None,
        attempts=attempts,
    )


def result(
    reply_to: str | None = None, *, keys: Mapping[str, str] = KEYS, attempts: int = 0, **changes: Any
) -> InboundMessage:
    """Return a `payment.result.v1` as it arrives, signed with the first of `keys`, or with none."""
    return _from_gateway(changed(bodies.RESULT, changes), reply_to, keys, attempts)


def instructions(
    reply_to: str | None = None, *, keys: Mapping[str, str] = KEYS, attempts: int = 0, **changes: Any
) -> InboundMessage:
    """Return a `payment.instructions.v1` as it arrives, signed with the first of `keys`, or with none."""
    return _from_gateway(changed(bodies.INSTRUCTIONS, changes), reply_to, keys, attempts)


def reversal(
    reply_to: str | None = None, *, keys: Mapping[str, str] = KEYS, attempts: int = 0, **changes: Any
) -> InboundMessage:
    """Return a `payment.reversal.v1` as it arrives, signed with the first of `keys`, or with none."""
    return _from_gateway(changed(bodies.REVERSAL, changes), reply_to, keys, attempts)


def tick(serial_no: str) -> InboundMessage:
    """Return what the clock says when an order is due."""
    return InboundMessage(Source.CLOCK, serial_no.encode())


@dataclass(frozen=True, slots=True)
class Notified:
    """A message that the wallet sends, as its receiver sees it."""

    exchange: str
    routing_key: str
    body: JsonObject
    correlation_id: str | None


def told(decision: Decision) -> list[Notified]:
    """Return what a decision tells the world."""
    return [
        Notified(out.exchange, out.routing_key, json.loads(out.body), out.correlation_id)
        for out in decision.outgoing
    ]


def events(decision: Decision) -> list[JsonObject]:
    """Return the events of a decision."""
    return [item.body for item in told(decision) if item.exchange == WALLET_EVENTS]


def requests(decision: Decision) -> list[JsonObject]:
    """Return the payment requests of a decision."""
    return [item.body for item in told(decision) if item.exchange == PAYMENT_REQUESTS]


def replies(decision: Decision) -> list[JsonObject]:
    """Return the replies of a decision."""
    return [item.body for item in told(decision) if item.exchange == ""]


@dataclass
class World:
    """Everything that the wallet knows. Two worlds that were told the same have drawn the same ids."""

    rules: Policy = field(default_factory=Policy)
    now: datetime = NOW
    commands: dict[str, StoredCommand] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    lanes: dict[SystemKey, int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    receipts: dict[tuple[str, bytes], StoredResult] = field(default_factory=dict)
    reversals: dict[str, dict[str, Reversal]] = field(default_factory=dict)
    reversal_receipts: dict[tuple[str, bytes], StoredReversal] = field(default_factory=dict)
    instructions: dict[str, StoredInstructions] = field(default_factory=dict)
    gateway_refs: dict[tuple[str, str], UUID] = field(default_factory=dict)
    outgoing: list[OutboxMessage] = field(default_factory=list)
    dead: list[tuple[bytes, Code]] = field(default_factory=list)
    parked: list[tuple[InboundMessage, datetime]] = field(default_factory=list)
    unpaid: list[InboundMessage] = field(default_factory=list, compare=False)
    written: list[Changes] = field(default_factory=list, compare=False)
    drawn: int = 0
    flush_every: int = field(default=3, compare=False)
    """Messages in a part: so few that small batches have parts."""

    def __post_init__(self) -> None:
        """Give every system account a lane in every currency."""
        keys = [
            SystemKey(name, currency) for name in SystemName for currency in sorted(self.rules.currencies)
        ]
        for number, key in enumerate(keys, start=1):
            self.accounts[number] = Account(number, key.currency, 0, 0, LONG_AGO)
            self.lanes[key] = number

    def tell(self, *arrived: InboundMessage) -> list[Decision]:
        """Decide what has arrived as one batch, and return the decisions."""
        messages = [read(message, KEYS) for message in arrived]
        entropy, account_ids = self._draw(messages)
        parts = decide_all(
            list(zip(arrived, messages, strict=True)),
            self._load(messages),
            self.rules,
            self.now,
            entropy=entropy,
            account_ids=account_ids,
            flush_every=self.flush_every,
            yield_every=1,
        )
        decisions: list[Decision] = []
        for part in parts:
            if part is not None:
                for message, decision in zip(arrived[part.start :], part.decisions, strict=False):
                    self._conclude(message, decision)
                decisions += part.decisions
                self._save(part.changes)
        self.check()
        return decisions

    def _conclude(self, message: InboundMessage, decision: Decision) -> None:
        match DISPOSITIONS[decision.ending]:
            case Disposition.RETRY_LATER:
                assert decision.due_at is not None
                again = message._replace(attempts=message.attempts + 1)
                self.parked.append((again, decision.due_at))
                if decision.code is Code.ORDER_NOT_REVERSIBLE:  # its order is there: that wakes it no more
                    self.unpaid.append(again)
            case Disposition.DEAD_LETTER:
                self.dead.append((message.body, decision.code))
            case Disposition.ACKNOWLEDGE:
                pass

    def facts(self, *arrived: InboundMessage) -> Facts:
        """Return what is loaded for messages."""
        return self._load([read(message, KEYS) for message in arrived])

    def do(self, decision: Decision) -> None:
        """Apply a decision that no message has led to, to what an account's dispute loads."""
        facts = Facts()
        facts.accounts = dict(self.accounts)
        facts.orders = dict(self.orders)
        facts.apply(decision)
        self._save(facts.take_remaining())
        self.check()

    def tell_one(self, arrived: InboundMessage) -> Decision:
        """Decide one message by itself."""
        (decision,) = self.tell(arrived)
        return decision

    def tell_each(self, *arrived: InboundMessage) -> list[Decision]:
        """Decide what has arrived one by one, each in a batch of its own."""
        return [self.tell_one(item) for item in arrived]

    def sweep(self, until: datetime, *, one_by_one: bool = False) -> list[Decision]:
        """Let time pass until `until`, and look at what was parked and is due, then at the orders that are."""
        tell = self.tell_each if one_by_one else self.tell
        self.now = until
        parked = [item for item, due_at in self.parked if due_at <= until]
        self.parked = [(item, due_at) for item, due_at in self.parked if due_at > until]
        due = sorted(
            (order.due_at, order.serial_no) for order in self.orders.values() if order.due_at is not None
        )
        ticks = [tick(serial_no) for due_at, serial_no in due if due_at <= until]
        return [decision for batch in (parked, ticks) if batch for decision in tell(*batch)]

    def _load(self, messages: Sequence[Message | InvalidMessage]) -> Facts:
        wanted = lookups_for(messages)
        facts = Facts()
        facts.commands = {
            number: self.commands[number] for number in wanted.serial_nos & self.commands.keys()
        }
        facts.orders = {number: self.orders[number] for number in wanted.orders & self.orders.keys()}
        facts.add_accounts([self.accounts[order.account_id] for order in facts.orders.values()])
        facts.add_accounts([found for key in wanted.keys if (found := self.newest(key))])
        facts.gateway_refs = {
            pair: self.gateway_refs[pair]
            for pair in wanted_refs(wanted, facts, self.rules)
            if pair in self.gateway_refs
        }
        for about in wanted.refunded:
            facts.refund_totals[about] = self.refunded(about)
            facts.reversed_totals[about] = sum(
                reversal.moved_minor for reversal in self.reversals.get(about, {}).values()
            )
        for number in wanted.reversed & self.orders.keys():
            facts.reversals[number] = dict(self.reversals.get(number, {}))
            account_id = self.orders[number].account_id
            facts.written_off[account_id] = self.sum_of(account_id, OrderType.WRITE_OFF) - self.sum_of(
                account_id, OrderType.WRITE_OFF_RECOVERY
            )
        facts.instructions = {
            number: self.instructions[number] for number in wanted.instructed & self.instructions.keys()
        }
        for account in [found for key in wanted.closing if (found := facts.account(key))]:
            facts.pending_orders[account.account_id] = sum(
                item.account_id == account.account_id and item.status is OrderStatus.PENDING
                for item in self.orders.values()
            )
        if self.rules.limits.has_daily_limits:
            facts.day_start = self.rules.limits.day_start(self.now)
            for account_id in self.rules.limits.with_daily_limit(facts.accounts.values()):
                for order in self.orders.values():
                    if (
                        self.accounts[order.account_id].key == self.accounts[account_id].key
                        and order.created_at >= facts.day_start
                        and order.status not in UNSUCCESSFUL
                    ):
                        key = (account_id, order.order_type)
                        facts.daily_totals[key] = facts.daily_totals.get(key, 0) + order.amount_minor
        for account_id in self.rules.limits.with_balance_limit(facts.accounts.values()):
            facts.pending_recharges[account_id] = sum(
                order.amount_minor
                for order in self.orders.values()
                if order.account_id == account_id
                and order.order_type is OrderType.RECHARGE
                and order.status is OrderStatus.PENDING
            )
        paid = [self.orders[number] for number in wanted.paid & self.orders.keys()]
        system_accounts = {
            SystemKey(name, order.currency)
            for order in paid
            for name in ORDER_SPECS[order.order_type].system_names
        }
        system_accounts |= {
            SystemKey(name, self.orders[number].currency)
            for number in wanted.reversed & self.orders.keys()
            for name in REVERSAL_ACCOUNTS
        }
        system_accounts |= {
            SystemKey(SystemName.RECEIVABLES, account.currency)
            for account in facts.accounts.values()
            if account.debt_minor
        }
        for lane in self.lanes.keys() & (system_accounts | wanted.system_accounts):
            facts.add_lane(lane, self.accounts[self.lanes[lane]])
        return facts

    def _save(self, changes: Changes) -> None:  # noqa: C901 -- a loop for each table
        self.written.append(changes)
        for new in changes.commands:
            assert new.serial_no not in self.commands
            self.commands[new.serial_no] = new
        for before, after in changes.accounts_moved.values():
            assert self.accounts[before.account_id] == before
            self.accounts[before.account_id] = after
        for account_id, account in changes.accounts_new.items():
            assert account_id not in self.accounts
            assert account.account_no not in {item.account_no for item in self.accounts.values()}
            newest = self.newest(account.key)
            assert newest is None or newest.status is AccountStatus.CLOSED
            self.accounts[account_id] = account
        for number, order in changes.orders_new.items():
            assert number not in self.orders
            assert number in self.commands
            assert order.account_id in self.accounts
            assert order.counter_account_id is None or order.counter_account_id in self.accounts
            assert order.parent_serial_no is None or order.parent_serial_no in {
                *self.orders,
                *changes.orders_new,
            }
            self.orders[number] = order
        for number, (was, order) in changes.orders_moved.items():
            assert self.orders[number] == was
            self.orders[number] = order
        made = {order.order_id for order in self.orders.values()}
        assert all(line.account_id in self.accounts and line.order_id in made for line in changes.entries)
        self.entries = sorted(
            [*self.entries, *changes.entries]
        )  # of one account in order; of others nobody asks
        self.outgoing += changes.outgoing
        for receipt in changes.receipts:
            assert receipt.result.payment_order_no in self.orders
            self.receipts.setdefault((receipt.result.payment_order_no, receipt.fingerprint), receipt)
        numbers = {order.order_id: order.serial_no for order in self.orders.values()}
        for reversal in changes.reversals.values():
            known = self.reversals.setdefault(numbers[reversal.order_id], {}).get(reversal.reversal_ref)
            assert known is None or known.sequence < reversal.sequence
            self.reversals[numbers[reversal.order_id]][reversal.reversal_ref] = reversal
        for taken in changes.taken_refs:
            assert (taken.channel, taken.gateway_ref) not in self.gateway_refs
            assert taken.order_id in made
            self.gateway_refs[taken.channel, taken.gateway_ref] = taken.order_id
        for order_id, kept in changes.instructions.items():
            assert numbers[order_id] == kept.serial_no
            latest = self.instructions.get(kept.serial_no)
            assert latest is None or latest.revision < kept.revision
            self.instructions[kept.serial_no] = kept
        for said in changes.reversal_receipts:
            assert said.reversal.payment_order_no in self.orders
            self.reversal_receipts.setdefault((said.reversal.payment_order_no, said.fingerprint), said)
        self.parked = [
            (each, self.now if _number(each) in changes.orders_new and each not in self.unpaid else due_at)
            for each, due_at in self.parked
        ]

    def _draw(self, messages: Sequence[Message | InvalidMessage]) -> tuple[bytes, Iterator[int]]:
        numbers = range(self.drawn + 1, self.drawn + 1 + len(messages))
        self.drawn += len(messages)
        entropy = b"".join(hashlib.sha384(number.to_bytes(8, "big")).digest() for number in numbers)
        assert len(entropy) == ENTROPY_BYTES * len(messages)
        opening = [
            1_000 + number
            for number, message in zip(numbers, messages, strict=True)
            if isinstance(message, OpenAccount)
        ]
        return entropy, iter(opening)

    def refunded(self, serial_no: str) -> int:
        """Return the sum of an order's refunds that have not failed, less what of them was returned."""
        refunds = [
            order
            for order in self.orders.values()
            if order.parent_serial_no == serial_no
            and order.order_type is OrderType.REFUND
            and order.status is not OrderStatus.FAILED
        ]
        returned = {OrderType.PAYOUT_RETURN: -1, OrderType.PAYOUT_RETURN_REVERSAL: 1}
        return sum(order.amount_minor for order in refunds) + sum(
            returned.get(order.order_type, 0) * order.amount_minor
            for order in self.orders.values()
            if order.parent_serial_no in {refund.serial_no for refund in refunds}
        )

    def sum_of(self, account_id: int, order_type: OrderType) -> int:
        """Return the sum of an account's orders of a type, in minor units."""
        return sum(
            order.amount_minor
            for order in self.orders.values()
            if order.account_id == account_id and order.order_type is order_type
        )

    def newest(self, key: AccountKey) -> Account | None:
        """Return the newest account of a key."""
        found = [account for account in self.accounts.values() if account.account_no and account.key == key]
        return max(found, key=lambda value: value.recency, default=None)

    def user(self, user_id: str = "u-1", account_type: str = "basic", currency: str = "TWD") -> Account:
        """Return the newest account of a user, which must be there."""
        account = self.newest(AccountKey(user_id, account_type, currency))
        assert account is not None
        return account

    def with_account(
        self,
        status: AccountStatus = AccountStatus.ACTIVE,
        *,
        user_id: str = "u-1",
        currency: str = "TWD",
        balance_minor: int = 0,
        source: SystemName = SystemName.CLEARING,
    ) -> Account:
        """Put a user's account there, in any state; its balance has come from a system account."""
        number = 100 + len(self.accounts)
        new = opened(number, f"{number:019d}", AccountKey(user_id, "basic", currency), LONG_AGO)
        self.accounts[number] = replace(new, status=status, balance_minor=balance_minor)
        lane = self.lanes[SystemKey(source, currency)]
        self.accounts[lane] = replace(
            self.accounts[lane], balance_minor=self.accounts[lane].balance_minor - balance_minor
        )
        return self.accounts[number]

    def with_order(
        self,
        status: OrderStatus,
        account: Account,
        serial_no: str = "R-1",
        amount: str = "100.00",
        order_type: OrderType = OrderType.RECHARGE,
        *,
        about: str | None = None,
        payee: Account | None = None,
    ) -> Order:
        """Put an order of an account there, in any state, without its command and its entries.

        What it reserves is reserved. A hold is there for another hour, and what waits for the gateway is overdue.
        """
        amount_minor = to_minor(amount, account.currency)
        is_hold = order_type is OrderType.HOLD
        moved = status is OrderStatus.SUCCEEDED and order_type is not OrderType.RELEASE
        over_at = NOW + timedelta(hours=1) if is_hold else LONG_AGO + timedelta(days=1)
        order = Order(
            order_id=FreshIds(hashlib.sha384(serial_no.encode()).digest()).order_id(LONG_AGO),
            serial_no=serial_no,
            order_type=order_type,
            account_id=account.account_id,
            amount_minor=amount_minor,
            currency=account.currency,
            status=status,
            code=Code.OK,
            channel="card" if ORDER_SPECS[order_type].payment else "",
            created_at=LONG_AGO,
            # What has ended has ended today: later money would be too late.
            updated_at=NOW if status in UNSUCCESSFUL else LONG_AGO,
            expires_at=over_at if is_hold or order_type is OrderType.RECHARGE else None,
            transacted_at=LONG_AGO if moved else None,
            counter_account_id=payee.account_id if payee else None,
            parent_serial_no=about,
            remaining_minor=(amount_minor if status in OPEN else 0) if is_hold else None,
            due_at=over_at if status in OPEN else None,
        )
        self.orders[serial_no] = order
        if status in OPEN and order_type is not OrderType.RECHARGE:
            held = self.accounts[account.account_id]
            self.accounts[account.account_id] = replace(
                held, reserved_minor=held.reserved_minor + amount_minor
            )
        return order

    def check(self) -> None:
        """Assert the promises about the ledger, and about what is reserved."""
        self._check_reserves()
        self._check_debts()
        assert sum(self.signed(entry) for entry in self.entries) == 0
        for currency in self.rules.currencies:
            held = [item for item in self.accounts.values() if item.currency == currency]
            assert sum(item.balance_minor for item in held) == 0
            ids = {item.account_id for item in held}
            assert sum(self.signed(entry) for entry in self.entries if entry.account_id in ids) == 0
        for account in self.accounts.values():
            lines = [entry for entry in self.entries if entry.account_id == account.account_id]
            assert [entry.line_no for entry in lines] == list(range(1, account.line_no + 1))
            for before, after in pairwise(lines):
                assert before.balance_after_minor == after.balance_before_minor
                assert before.created_at <= after.created_at
            for entry in lines:
                assert entry.balance_after_minor == entry.balance_before_minor + self.signed(entry)
            if lines:
                assert lines[-1].balance_after_minor == account.balance_minor
                assert lines[-1].created_at <= account.updated_at

    def _check_reserves(self) -> None:
        """Assert that exactly that is reserved which pending orders and active holds will take."""
        reserved: Counter[int] = Counter()
        for order in self.orders.values():
            assert (order.status in OPEN) == (order.due_at is not None)
            assert (order.order_type is OrderType.HOLD) == (order.remaining_minor is not None)
            if order.order_type is OrderType.HOLD:
                reserved[order.account_id] += order.remaining_minor or 0
            elif (
                order.order_type in {OrderType.WITHDRAW, OrderType.REFUND}
                and order.status is OrderStatus.PENDING
            ):
                reserved[order.account_id] += order.amount_minor
        for account in self.accounts.values():
            assert account.reserved_minor == reserved[account.account_id]
            if account.user_id:
                assert 0 <= account.available_minor <= account.balance_minor
        refunded = {
            o.parent_serial_no or "" for o in self.orders.values() if o.order_type is OrderType.REFUND
        }
        undone = [o for o in self.orders.values() if o.order_type is OrderType.PAYOUT_RETURN_REVERSAL]
        for serial_no in refunded if not undone else ():
            assert self.refunded(serial_no) <= self.orders[serial_no].moved_minor

    def _check_debts(self) -> None:
        """Assert that a debt is what was lent and not paid, and that whoever owes has nothing available."""
        owed: Counter[str] = Counter()
        for account in self.accounts.values():
            if not account.user_id:
                assert account.debt_minor == 0
                continue
            lent, paid, lost = (
                self.sum_of(account.account_id, kind)
                for kind in (OrderType.ADVANCE, OrderType.REPAYMENT, OrderType.WRITE_OFF)
            )
            assert account.debt_minor == lent - paid - lost >= 0
            assert not account.debt_minor or account.balance_minor == account.reserved_minor
            if account.status is AccountStatus.CLOSED:
                assert account.balance_minor == account.reserved_minor == 0
            owed[account.currency] += account.debt_minor
        for (name, currency), account_id in self.lanes.items():
            if name is SystemName.RECEIVABLES:
                assert self.accounts[account_id].balance_minor == -owed[currency]
        for serial_no, by_ref in self.reversals.items():
            assert sum(reversal.moved_minor for reversal in by_ref.values()) == self._moved(serial_no)

    def _moved(self, serial_no: str) -> int:
        """Return what of an order's reversals stands, by the orders that the wallet has made of them."""
        sign = {
            OrderType.CHARGEBACK: 1,
            OrderType.CHARGEBACK_REVERSAL: -1,
            OrderType.PAYOUT_RETURN: 1,
            OrderType.PAYOUT_RETURN_REVERSAL: -1,
        }
        return sum(
            sign.get(order.order_type, 0) * order.amount_minor
            for order in self.orders.values()
            if order.parent_serial_no == serial_no
        )

    @staticmethod
    def signed(entry: Entry) -> int:
        """Return what an entry adds to its account."""
        return entry.amount_minor if entry.direction is Direction.CREDIT else -entry.amount_minor


def _number(message: InboundMessage) -> str:
    return str(json.loads(message.body)["payment_order_no"])
