"""The wallet without servers: messages as they arrive, and a state in memory that decisions change.

`World` loads and saves what `wallet_worker.store.facts` does, and no more, so that a decision which needs
a fact that is not loaded fails here too. It asserts what the database guards.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from schemas.codes import Code
from schemas.commands import OpenAccount, Recharge
from schemas.money import to_minor
from schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS
from schemas.payments import PaymentResult
from schemas.signature import sign
from schemas.values import AccountStatus, Direction, OrderStatus, OrderType
from tests.contract import bodies
from tests.contract.bodies import JsonObject
from tests.workers import KEYS
from wallet_worker.core.accounts import Account, AccountKey, SystemKey, SystemName, opened
from wallet_worker.core.decide import Circumstances, Rules, decide
from wallet_worker.core.facts import Command, Decision, Facts, Outgoing, Receipt
from wallet_worker.core.ledger import Entry
from wallet_worker.core.numbering import ENTROPY_BYTES, Draw
from wallet_worker.core.orders import Order
from wallet_worker.core.reading import Incoming, Readable, Source, Unreadable, read
from wallet_worker.endings import Ending

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SIGNED_AT_UNIX = 1_767_323_045


def changed(good: JsonObject, changes: Mapping[str, Any]) -> bytes:
    """Return a good body with some fields changed, or left out where the change is `...`."""
    return bodies.body({name: value for name, value in {**good, **changes}.items() if value is not ...})


def open_account(reply_to: str | None = None, **changes: Any) -> Incoming:
    """Return an `account.open.v1` as it arrives."""
    return command(changed(bodies.OPEN, changes), reply_to)


def recharge(reply_to: str | None = None, **changes: Any) -> Incoming:
    """Return an `order.recharge.v1` as it arrives."""
    return command(changed(bodies.RECHARGE, changes), reply_to)


def command(body: bytes, reply_to: str | None = None) -> Incoming:
    """Return whatever arrives on the queue of commands."""
    return Incoming(Source.COMMANDS, body, reply_to=reply_to, correlation_id="c-1" if reply_to else None)


def result(
    reply_to: str | None = None, *, keys: Mapping[str, str] = KEYS, attempts: int = 0, **changes: Any
) -> Incoming:
    """Return a `payment.result.v1` as it arrives, signed with the first of `keys`, or with none."""
    body = changed(bodies.RESULT, changes)
    return Incoming(
        Source.RESULTS,
        body,
        reply_to=reply_to,
        correlation_id="c-1" if reply_to else None,
        signature=sign(body, keys, SIGNED_AT_UNIX) if keys else None,
        attempts=attempts,
    )


@dataclass(frozen=True, slots=True)
class Told:
    """A message that the wallet sends, as its receiver sees it."""

    exchange: str
    routing_key: str
    body: JsonObject
    correlation_id: str | None


def told(decision: Decision) -> list[Told]:
    """Return what a decision tells the world."""
    return [
        Told(out.exchange, out.routing_key, json.loads(out.body), out.correlation_id)
        for out in decision.outgoing
    ]


def events(decision: Decision) -> list[JsonObject]:
    """Return the events of a decision."""
    return [one.body for one in told(decision) if one.exchange == WALLET_EVENTS]


def requests(decision: Decision) -> list[JsonObject]:
    """Return the payment requests of a decision."""
    return [one.body for one in told(decision) if one.exchange == PAYMENT_REQUESTS]


def replies(decision: Decision) -> list[JsonObject]:
    """Return the replies of a decision."""
    return [one.body for one in told(decision) if one.exchange == ""]


@dataclass
class World:
    """Everything that the wallet knows. Two worlds that were told the same have drawn the same ids."""

    rules: Rules = field(default_factory=Rules)
    now: datetime = NOW
    commands: dict[str, Command] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    accounts: dict[int, Account] = field(default_factory=dict)
    lanes: dict[SystemKey, int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    receipts: dict[tuple[str, bytes], Receipt] = field(default_factory=dict)
    outgoing: list[Outgoing] = field(default_factory=list)
    dead: list[tuple[bytes, Code]] = field(default_factory=list)
    parked: list[tuple[Incoming, datetime]] = field(default_factory=list)
    drawn: int = 0

    def __post_init__(self) -> None:
        """Give every system account a lane in every currency."""
        for number, currency in enumerate(sorted(self.rules.currencies), start=1):
            self.accounts[number] = Account(number, currency, 0, 0, LONG_AGO)
            self.lanes[SystemKey(SystemName.CLEARING, currency)] = number

    def tell(self, *arrived: Incoming) -> list[Decision]:
        """Decide what has arrived as one batch, and return the decisions."""
        messages = [read(one, KEYS) for one in arrived]
        facts = self._load([one for one in messages if not isinstance(one, Unreadable)])
        decisions: list[Decision] = []
        for one, message in zip(arrived, messages, strict=True):
            decision = decide(message, facts, Circumstances(self.rules, one, self._draw(message), self.now))
            facts.apply(decision)
            decisions.append(decision)
        for one, decision in zip(arrived, decisions, strict=True):
            match decision.ending:
                case Ending.PARKED:
                    assert decision.due_at is not None
                    self.parked.append((replace(one, attempts=one.attempts + 1), decision.due_at))
                case Ending.CONFLICTED | Ending.REJECTED:
                    self.dead.append((one.body, decision.code))
                case _:
                    pass
        self._save(facts)
        return decisions

    def tell_one(self, arrived: Incoming) -> Decision:
        """Decide one message by itself."""
        (decision,) = self.tell(arrived)
        return decision

    def tell_each(self, *arrived: Incoming) -> list[Decision]:
        """Decide what has arrived one by one, each in a batch of its own."""
        return [self.tell_one(one) for one in arrived]

    def sweep(self, until: datetime) -> list[Decision]:
        """Let time pass until `until`, and look at what was parked and is due, in one batch."""
        self.now = until
        due = [one for one, due_at in self.parked if due_at <= until]
        self.parked = [(one, due_at) for one, due_at in self.parked if due_at > until]
        return self.tell(*due) if due else []

    def _load(self, messages: Sequence[Readable]) -> Facts:
        facts = Facts()
        keys: set[AccountKey] = set()
        currencies: set[str] = set()
        paid = {one.payment_order_no for one in messages if isinstance(one, PaymentResult)}
        for message in messages:
            match message:
                case PaymentResult():
                    order = self.orders.get(message.payment_order_no)
                    if order is not None:
                        facts.orders[order.serial_no] = order
                        facts.add_accounts((self.accounts[order.account_id],))
                        currencies.add(order.currency)
                case OpenAccount() | Recharge():
                    known = self.commands.get(message.serial_no)
                    if known is not None:
                        facts.commands[known.serial_no] = known
                    keys.add(AccountKey(message.user_id, message.account_type, message.currency))
                    if message.serial_no in paid:
                        currencies.add(message.currency)
        for key in keys:
            newest = self.newest(key)
            if newest is not None:
                facts.add_accounts((newest,))
        for lane in self.lanes.keys() & {SystemKey(SystemName.CLEARING, one) for one in currencies}:
            facts.add_lane(lane, self.accounts[self.lanes[lane]])
        return facts

    def _save(self, facts: Facts) -> None:
        for new in facts.commands_new:
            assert new.serial_no not in self.commands
            self.commands[new.serial_no] = new
        for account_id in facts.accounts_new:
            account = facts.accounts[account_id]
            assert account_id not in self.accounts
            assert account.account_no not in {one.account_no for one in self.accounts.values()}
            newest = self.newest(account.key)
            assert newest is None or newest.status is AccountStatus.CLOSED
            self.accounts[account_id] = account
        for before in facts.accounts_before.values():
            assert self.accounts[before.account_id] == before
            self.accounts[before.account_id] = facts.accounts[before.account_id]
        for number in facts.orders_new:
            assert number not in self.orders
            self.orders[number] = facts.orders[number]
        for number, status in facts.orders_before.items():
            assert self.orders[number].status is status
            self.orders[number] = facts.orders[number]
        self.entries += facts.entries
        for receipt in facts.receipts:
            self.receipts.setdefault((receipt.result.payment_order_no, receipt.fingerprint), receipt)
        self.outgoing += facts.outgoing
        self.parked = [
            (one, self.now if _number(one) in facts.orders_new else due_at) for one, due_at in self.parked
        ]
        self.check()

    def _draw(self, message: Readable | Unreadable) -> Draw:
        self.drawn += 1
        entropy = hashlib.sha384(self.drawn.to_bytes(8, "big")).digest()
        assert len(entropy) == ENTROPY_BYTES
        return Draw(entropy, 1_000 + self.drawn if isinstance(message, OpenAccount) else 0)

    def newest(self, key: AccountKey) -> Account | None:
        """Return the newest account of a key."""
        found = [one for one in self.accounts.values() if one.account_no and one.key == key]
        return max(found, key=lambda one: one.recency, default=None)

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
    ) -> Account:
        """Put a user's account there, in any state; its balance has come from the clearing account."""
        number = 100 + len(self.accounts)
        new = opened(number, f"{number:019d}", AccountKey(user_id, "basic", currency), LONG_AGO)
        self.accounts[number] = replace(new, status=status, balance_minor=balance_minor)
        lane = self.lanes[SystemKey(SystemName.CLEARING, currency)]
        self.accounts[lane] = replace(
            self.accounts[lane], balance_minor=self.accounts[lane].balance_minor - balance_minor
        )
        return self.accounts[number]

    def with_order(
        self, status: OrderStatus, account: Account, serial_no: str = "R-1", amount: str = "100.00"
    ) -> Order:
        """Put a recharge of an account there, in any state, without its command and its entries."""
        order = Order(
            order_id=Draw(hashlib.sha384(serial_no.encode()).digest()).order_id(LONG_AGO),
            serial_no=serial_no,
            order_type=OrderType.RECHARGE,
            account_id=account.account_id,
            amount_minor=to_minor(amount, account.currency),
            currency=account.currency,
            status=status,
            code=Code.OK,
            channel="card",
            created_at=LONG_AGO,
            updated_at=LONG_AGO,
            expires_at=LONG_AGO + timedelta(days=1),
            transacted_at=LONG_AGO if status is OrderStatus.SUCCEEDED else None,
        )
        self.orders[serial_no] = order
        return order

    def check(self) -> None:
        """Assert the promises about the ledger."""
        assert sum(self.signed(entry) for entry in self.entries) == 0
        for currency in self.rules.currencies:
            held = [one for one in self.accounts.values() if one.currency == currency]
            assert sum(one.balance_minor for one in held) == 0
            ids = {one.account_id for one in held}
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
                assert lines[-1].created_at == account.updated_at

    @staticmethod
    def signed(entry: Entry) -> int:
        """Return what an entry adds to its account."""
        return entry.amount_minor if entry.direction is Direction.CREDIT else -entry.amount_minor


def _number(one: Incoming) -> str:
    return str(json.loads(one.body)["payment_order_no"])
