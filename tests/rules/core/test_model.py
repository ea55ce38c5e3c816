"""Whatever is said, in whatever order and however often, and however the time passes: the wallet does as the model.

The model (`tests.rules.core.model`) is written from the contract, without the wallet's code. Messages are collected and
told to the wallet as batches of any size; whenever nothing is left to be told, both must hold the same, and the
promises about the ledger must be kept.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from typing_extensions import override

from tests.rules.core.model import Model, Row
from tests.rules.core.world import (
    NOW,
    World,
    capture,
    close,
    freeze,
    hold,
    open_account,
    recharge,
    refund,
    release,
    result,
    reversal,
    transfer,
    unfreeze,
    withdraw,
)
from wallet_schemas.money import to_text
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core.endings import Ending
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.orders import OWN

USERS = st.sampled_from(["u-1", "u-1", "u-1", "u-2", "u-2", "u-3"])
PAYEES = st.sampled_from(["u-2", "u-3", "u-2", "u-3", "u-1"])
CURRENCIES = st.sampled_from([*["TWD"] * 8, "JPY", "XYZ"])
AMOUNTS = st.sampled_from([100, 100, 200, 300, 500])
RICH = st.sampled_from([300, 1_000, 2_000])
ANY = st.integers(0, 99)
"""Which of those that there are: the number, divided by how many they are."""

TIMES = st.sampled_from(
    [timedelta(seconds=seconds) for seconds in (1, 5, 59, 60, 61, 300, 1_860, 3_600, 46_800, 90_000)]
)
UNKNOWN = "S-nobody"


class Wallet(RuleBasedStateMachine):
    """The wallet and the model, told the same."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.model = Model(NOW)
        self.arrived: list[tuple[InboundMessage, str, frozenset[Ending]]] = []
        """What is not told yet, the code that it shall get, and how it may end."""
        self.outcomes: dict[str, tuple[Row, str]] = {}
        self.sent: list[tuple[Callable[..., InboundMessage], Row]] = []

    @initialize(amounts=st.tuples(RICH, RICH))
    def there_are_users_with_money(self, amounts: tuple[int, int]) -> None:
        """Begin where there is something to move."""
        self._ask(open_account, user_id="u-3", currency="TWD")
        for user, amount in zip(("u-1", "u-2"), amounts, strict=True):
            self._ask(open_account, user_id=user, currency="TWD")
            serial_no = self._ask(recharge, user_id=user, currency="TWD", amount=amount)
            self._say(serial_no, amount, "TWD", "succeeded")

    # Commands

    @rule(user_id=USERS, currency=CURRENCIES)
    def open(self, user_id: str, currency: str) -> None:
        """Open an account."""
        self._ask(open_account, user_id=user_id, currency=currency)

    @rule(turn=st.sampled_from([freeze, unfreeze, unfreeze, close]), user_id=USERS, currency=CURRENCIES)
    def turn(self, turn: Callable[..., InboundMessage], user_id: str, currency: str) -> None:
        """Freeze, unfreeze or close an account."""
        self._ask(turn, user_id=user_id, currency=currency)

    @rule(user_id=USERS, currency=CURRENCIES, amount=AMOUNTS)
    def recharge(self, user_id: str, currency: str, amount: int) -> None:
        """Recharge."""
        self._ask(recharge, user_id=user_id, currency=currency, amount=amount)

    @rule(user_id=USERS, currency=CURRENCIES, amount=AMOUNTS)
    def withdraw(self, user_id: str, currency: str, amount: int) -> None:
        """Withdraw."""
        self._ask(withdraw, user_id=user_id, currency=currency, amount=amount)

    @rule(user_id=USERS, to_user_id=PAYEES, currency=CURRENCIES, amount=AMOUNTS)
    def transfer(self, user_id: str, to_user_id: str, currency: str, amount: int) -> None:
        """Transfer."""
        self._ask(transfer, user_id=user_id, to_user_id=to_user_id, currency=currency, amount=amount)

    @rule(
        user_id=USERS,
        currency=CURRENCIES,
        amount=AMOUNTS,
        seconds=st.sampled_from([60, 3_600, 86_400, 86_400]),
    )
    def hold(self, user_id: str, currency: str, amount: int, seconds: int) -> None:
        """Hold."""
        self._ask(hold, user_id=user_id, currency=currency, amount=amount, expires_in_seconds=seconds)

    @rule(which=ANY, currency=CURRENCIES, amount=AMOUNTS)
    def refund(self, which: int, currency: str, amount: int) -> None:
        """Give back a recharge, or what is none."""
        about = self._one_of("recharge", which)
        self._ask(refund, original_serial_no=about, currency=currency, amount=amount)

    @rule(which=ANY, to_user_id=PAYEES, currency=CURRENCIES, amount=AMOUNTS)
    def capture(self, which: int, to_user_id: str, currency: str, amount: int) -> None:
        """Capture a hold, or what is none."""
        about = self._one_of("hold", which)
        self._ask(capture, hold_serial_no=about, to_user_id=to_user_id, currency=currency, amount=amount)

    @rule(which=ANY)
    def release(self, which: int) -> None:
        """Release a hold, or what is none."""
        self._ask(release, hold_serial_no=self._one_of("hold", which))

    # Results

    @rule(which=ANY, status=st.sampled_from(["succeeded", "succeeded", "failed", "unknown"]))
    def say_what_became_of_an_order(self, which: int, status: str) -> None:
        """Tell the result of an order, with its amount."""
        serial_no = self._one_of("recharge withdraw refund", which)
        order = self.model.orders.get(serial_no, {"amount": 100, "currency": "TWD"})
        self._say(serial_no, order["amount"], order["currency"], status)

    @rule(which=ANY, amount=AMOUNTS, currency=CURRENCIES, status=st.sampled_from(["succeeded", "failed"]))
    def say_something_of_any_order(self, which: int, amount: int, currency: str, status: str) -> None:
        """Tell a result that may not fit, about an order that need not be the gateway's."""
        self._say(self._one_of("", which), amount, currency, status)

    @rule(ahead=st.integers(1, 3), amount=AMOUNTS, status=st.sampled_from(["succeeded", "failed"]))
    def say_what_will_become_of_an_order_to_come(self, ahead: int, amount: int, status: str) -> None:
        """Tell a result that comes before its order."""
        self._say(f"S-{len(self.outcomes) + ahead}", amount, "TWD", status)

    @rule(
        which=ANY,
        ref=st.sampled_from(["dp-1", "dp-1", "dp-2"]),
        sequence=st.integers(1, 4),
        status=st.sampled_from(["moved", "moved", "settled", "dropped", "opened"]),
        part=st.sampled_from([1, 1, 2]),
        is_fitting=st.sampled_from([True, True, True, False]),
    )
    def say_what_stands_of_a_reversal(
        self, which: int, ref: str, sequence: int, status: str, part: int, *, is_fitting: bool
    ) -> None:
        """Tell what has become of a dispute of a recharge, or of the return of a payout."""
        number = self._one_of("recharge withdraw refund", which)
        order = self.model.orders.get(number, {"amount": 100, "currency": "TWD", "kind": "recharge"})
        kinds = (
            ("dispute", "return") if (order["kind"] == "recharge") is is_fitting else ("return", "dispute")
        )
        self._say_of_reversal(
            {
                "payment_order_no": number,
                "reversal_ref": ref,
                "kind": kinds[0],
                "sequence": sequence,
                "status": status,
                "amount": order["amount"] // part,
                "currency": order["currency"],
            }
        )

    # Repeats, and the time

    @rule(which=ANY)
    def repeat(self, which: int) -> None:
        """Say again what was said before."""
        message, answer = self.sent[which % len(self.sent)]
        if message is reversal:
            self._say_of_reversal(answer)
        elif message is result:
            self._say(answer["payment_order_no"], answer["amount"], answer["currency"], answer["status"])
        else:
            self._ask(message, **answer)

    @rule(which=ANY, user_id=USERS, currency=CURRENCIES, amount=AMOUNTS)
    def reuse_a_serial_number(self, which: int, user_id: str, currency: str, amount: int) -> None:
        """Say something under a serial number that was used."""
        serial_no = sorted(self.outcomes)[which % len(self.outcomes)]
        self._ask(withdraw, serial_no=serial_no, user_id=user_id, currency=currency, amount=amount)

    @rule(by=TIMES)
    def time_passes(self, by: timedelta) -> None:
        """Let the sweep look at what is due."""
        self.settle()
        self.model.pass_time(by, seen=True)
        self.world.sweep(self.model.now)
        assert not [
            order for order in self.world.orders.values() if order.due_at and order.due_at <= self.model.now
        ]
        assert self.world.sweep(self.model.now) == []

    @rule(by=TIMES)
    def time_passes_before_anybody_looks(self, by: timedelta) -> None:
        """Be later, with the sweep behind."""
        self.settle()
        self.model.pass_time(by, seen=False)
        self.world.now = self.model.now

    @rule()
    def settle(self) -> None:
        """Tell the wallet everything as one batch, and see that each message gets its code."""
        arrived, self.arrived = self.arrived, []
        if not arrived:
            return
        decisions = self.world.tell(*(item for item, _, _ in arrived))
        assert [decision.code.value for decision in decisions] == [code for _, code, _ in arrived]
        assert all(item.ending in endings for item, (_, _, endings) in zip(decisions, arrived, strict=True))

    @invariant()
    def the_wallet_holds_what_the_model_holds(self) -> None:
        """Compare them, and check the promises, whenever there is nothing left to be told."""
        if not self.arrived:
            self._compare_accounts()
            self._compare_orders()
            self._check_promises()

    @invariant()
    def small_batches_are_told_too(self) -> None:
        """Do not collect for ever."""
        if len(self.arrived) >= 12:
            self.settle()

    @override
    def teardown(self) -> None:
        """Tell what is left."""
        self.settle()
        self.the_wallet_holds_what_the_model_holds()

    def _ask(self, message: Callable[..., InboundMessage], **fields: Any) -> str:
        """Have a command told, and return its serial number."""
        serial_no = str(fields.setdefault("serial_no", f"S-{len(self.outcomes) + 1}"))
        arrived = message(**{**fields, **_as_text(fields)})
        said_as = {**fields, "type": json.loads(arrived.body)["type"]}
        ending = Ending.REPEATED
        if serial_no not in self.outcomes:
            self.outcomes[serial_no] = (said_as, self.model.tell(said_as))
            ending = Ending.APPLIED if self.outcomes[serial_no][1] == "OK" else Ending.REFUSED
        first, code = self.outcomes[serial_no]
        if first != said_as:
            code, ending = "SERIAL_CONFLICT", Ending.CONFLICT
        self.arrived.append((arrived, code, frozenset({ending})))
        self.sent.append((message, fields))
        return serial_no

    def _say(self, number: str, amount: int, currency: str, status: str) -> None:
        """Have a result told."""
        fields = {"payment_order_no": number, "amount": amount, "currency": currency, "status": status}
        code = self.model.hear({**fields, "attempts": 0})
        endings = {Ending.APPLIED, Ending.REPEATED} if code == "OK" else {Ending.REJECTED, Ending.PARKED}
        self.arrived.append((result(**{**fields, **_as_text(fields)}), code, frozenset(endings)))
        self.sent.append((result, fields))

    def _say_of_reversal(self, fields: Row) -> None:
        """Have the gateway's word about a reversal told."""
        code = self.model.hear_of_reversal({**fields, "attempts": 0})
        endings = {Ending.APPLIED, Ending.REPEATED} if code == "OK" else {Ending.REJECTED, Ending.PARKED}
        self.arrived.append((reversal(**{**fields, **_as_text(fields)}), code, frozenset(endings)))
        self.sent.append((reversal, fields))

    def _one_of(self, kinds: str, which: int) -> str:
        """Return the serial number of an order of these kinds, seldom of another, or of none."""
        found = [number for number, order in self.model.orders.items() if order["kind"] in kinds or not kinds]
        others = sorted(self.model.orders)
        return [*found * 3, *others, UNKNOWN][which % (len(found) * 3 + len(others) + 1)]

    def _compare_accounts(self) -> None:
        for (user, currency), accounts in self.model.accounts.items():
            found = [
                account
                for account in self.world.accounts.values()
                if (account.user_id, account.currency) == (user, currency) and account.account_no
            ]
            found.sort(key=lambda value: value.account_id)
            assert [
                {
                    "status": item.status,
                    "balance": item.balance_minor,
                    "reserved": item.reserved_minor,
                    "debt": item.debt_minor,
                }
                for item in found
            ] == accounts
            assert self.world.user(user, currency=currency) == found[-1]
        named = {
            (account.user_id, account.currency)
            for account in self.world.accounts.values()
            if account.account_no
        }
        assert named == self.model.accounts.keys()

    def _compare_orders(self) -> None:
        own = {number for number, order in self.world.orders.items() if order.order_type in OWN}
        assert {
            number: (item.order_type.value, item.status.value)
            for number, item in self.world.orders.items()
            if number not in own
        } == {number: (item["kind"], item["status"]) for number, item in self.model.orders.items()}
        for number, order in self.world.orders.items():
            if number in own:
                continue
            stands = {ref: found.moved_minor for ref, found in self.world.reversals.get(number, {}).items()}
            assert stands == {
                ref: known["stands"] for ref, known in self.model.orders[number]["refs"].items()
            }
            assert order.amount_minor == self.model.orders[number]["amount"]
            assert order.remaining_minor == self.model.orders[number].get("remaining")

    def _check_promises(self) -> None:
        """Check invariant 4 of the ledger, from the entries alone; `World.check` looks at their lines."""
        by_account: Counter[int] = Counter()
        by_currency: Counter[str] = Counter()
        for entry in self.world.entries:
            by_account[entry.account_id] += self.world.signed(entry)
            by_currency[self.world.accounts[entry.account_id].currency] += self.world.signed(entry)
        assert not +by_currency
        assert not -by_currency
        reserved: Counter[int] = Counter()
        for order in self.world.orders.values():
            if order.status is OrderStatus.ACTIVE:
                reserved[order.account_id] += order.remaining_minor or 0
            elif order.status is OrderStatus.PENDING and order.order_type is not OrderType.RECHARGE:
                reserved[order.account_id] += order.amount_minor
        for account in self.world.accounts.values():
            assert account.balance_minor == by_account[account.account_id]
            assert account.reserved_minor == reserved[account.account_id]
            if account.account_no:
                assert account.debt_minor == 0 or account.available_minor == 0
                assert 0 <= account.available_minor <= account.balance_minor
        for number, known in self.model.orders.items():
            refunds = [each for each in self.model.orders.values() if each.get("about") == number]
            # What came back once may have been refunded again before that was undone.
            if known["kind"] == "recharge" and not any(each["refs"] for each in refunds):
                assert self.model.refunded(number) <= known["amount"]


def _as_text(row: Row) -> Row:
    """Return the amount as it is written on the wire."""
    if "amount" not in row:
        return {}
    amount, currency = row["amount"], row["currency"]
    text = to_text(amount, currency) if currency != "XYZ" else f"{amount // 100}.00"
    return {"amount": text}


TestTheWalletDoesAsTheModel = Wallet.TestCase
TestTheWalletDoesAsTheModel.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
