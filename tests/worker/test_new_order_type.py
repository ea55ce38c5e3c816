"""What it takes to add a type of order: a message, a function, and a row in two tables. Everything else reads the rows.

The type that is made up here has three legs: a gift that the house doubles. The giver pays once, the house once, and
the receiver gets both. It is decided, stored, shown, exported, reconciled and audited like any other, and the audit
finds its damage.
"""

import io
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import asyncpg
import pytest

from tests.reconcile.files import line, reader
from tests.rules.contract import bodies
from tests.rules.core.world import changed, command, open_account, recharge, result
from tests.worker import tables
from tests.worker.rig import Rig
from wallet_schemas.codes import Code
from wallet_schemas.commands import Command, Transfer
from wallet_schemas.message import Message
from wallet_schemas.parse import RESULTS
from wallet_schemas.queries import FindOrders, GetHistory, GetStatement
from wallet_schemas.values import OrderStatus, OrderType, PaymentKind
from wallet_worker.accounting import export
from wallet_worker.accounting.export import OrderFilter, TimeRange
from wallet_worker.accounting.reconcile import Comparison, reconcile
from wallet_worker.accounting.table_file import Format
from wallet_worker.audit.findings import Invariant
from wallet_worker.audit.report import audit
from wallet_worker.core import commands, inbound, orders
from wallet_worker.core import facts as facts_module
from wallet_worker.core.accounts import AccountKey, SystemName
from wallet_worker.core.changes import Decision
from wallet_worker.core.commands import Handler, checks, transfers
from wallet_worker.core.commands.acceptance import Accepted, move_now, new_order
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.inbound import Source
from wallet_worker.core.orders import IMMEDIATE, Leg, Order, OrderSpec, Party
from wallet_worker.queries.answers import answer

GIFT = str.__new__(OrderType, "gift")
GIFT._name_, GIFT._value_ = "GIFT", "gift"


class Gift(Transfer):
    """The message."""

    type: Literal["order.gift.v1"] = "order.gift.v1"  # type: ignore[assignment]


def gift(message: Gift, facts: Facts, context: DecisionContext) -> Accepted | Refused:
    """Do what the command asks."""
    amount_minor = checks.check_amount(message, context)
    if isinstance(amount_minor, Refused):
        return amount_minor
    payer = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    payee = facts.account(AccountKey(message.to_user_id, message.to_account_type, message.currency))
    if payer is None or payee is None:
        return checks.ACCOUNT_MISSING
    refused = checks.check_parties(payer, payee) or checks.check_funds(
        GIFT, amount_minor, payer, facts, context
    )
    if refused is not None:
        return refused
    order = new_order(GIFT, message.serial_no, payer, amount_minor, context, message.metadata, payee=payee)
    return move_now(order, payer, payee, facts, context)


SPEC = OrderSpec(
    OrderStatus.SUCCEEDED,
    IMMEDIATE,
    legs=(Leg(Party.ACCOUNT, -1), Leg(Party.COUNTERPARTY, 2), Leg(SystemName.CLEARING, -1)),
)

# What a migration would do: the database repeats which types there are, and which have a payee.
MIGRATION = """
ALTER TABLE orders DROP CONSTRAINT orders_type_known, DROP CONSTRAINT orders_payee_where_paid
"""


@pytest.fixture(autouse=True)
async def added(monkeypatch: pytest.MonkeyPatch, owner: asyncpg.Connection) -> None:
    """Add the type, for one test."""
    monkeypatch.setitem(OrderType._member_map_, "GIFT", GIFT)
    monkeypatch.setitem(OrderType._value2member_map_, "gift", GIFT)
    known, specs = orders.ORDER_SPECS, {**orders.ORDER_SPECS, GIFT: SPEC}
    for module in [module for name, module in sys.modules.items() if name.startswith("wallet_worker.")]:
        if getattr(module, "ORDER_SPECS", None) is known:
            monkeypatch.setattr(module, "ORDER_SPECS", specs)
    handlers: dict[type[Command], Handler] = dict(commands.HANDLERS)
    handlers[Gift] = Handler(transfers.transfer_lookups, gift, GIFT)
    monkeypatch.setattr(commands, "HANDLERS", handlers)
    accepted: dict[str, type[Message]] = dict(inbound.ACCEPTED[Source.COMMANDS])
    accepted["order.gift.v1"] = Gift
    sources: dict[Source, Mapping[str, type[Message]]] = {Source.COMMANDS: accepted, Source.RESULTS: RESULTS}
    monkeypatch.setattr(inbound, "ACCEPTED", sources)
    await owner.execute(MIGRATION)


@pytest.fixture
async def given(rig: Rig) -> Rig:
    """Give a wallet in which alice has given bob 30 of her 100, and the house as much."""
    await rig.settle(
        open_account(user_id="alice", serial_no="O-1"),
        open_account(user_id="bob", serial_no="O-2"),
        recharge(user_id="alice", serial_no="R-1"),
        result(payment_order_no="R-1"),
    )
    sent = changed(
        bodies.TRANSFER, {"user_id": "alice", "to_user_id": "bob", "amount": "30.00", "serial_no": "G-1"}
    )
    await rig.settle(command(sent.replace(b"order.transfer.v1", b"order.gift.v1"), reply_to="upstream"))
    return rig


@pytest.mark.usefixtures("given")
async def test_the_rows_of_a_type_are_enough_to_decide_and_store_its_orders(
    owner: asyncpg.Connection,
) -> None:
    rows = await owner.fetch(
        """
        SELECT coalesce(a.user_id, a.system_name), e.direction, e.amount
        FROM entries e JOIN orders o USING (order_id) JOIN accounts a ON a.account_id = e.account_id
        WHERE o.serial_no = 'G-1'
        """
    )

    assert {tuple(row) for row in rows} == {
        ("alice", "debit", 3_000),
        ("bob", "credit", 6_000),
        ("clearing", "debit", 3_000),
    }
    (outcome,) = [reply for reply in await tables.replies(owner) if reply["serial_no"] == "G-1"]
    assert (outcome["status"], outcome["result"]["order_type"]) == ("applied", "gift")
    bodies_sent = [json.loads(row[0]) for row in await owner.fetch("SELECT body FROM outbox")]
    (event,) = [
        sent
        for sent in bodies_sent
        if sent.get("type") == "order.succeeded.v1" and sent["serial_no"] == "G-1"
    ]
    assert [entry["amount"] for entry in event["data"]["entries"]] == ["30.00", "60.00"]


async def test_its_orders_are_on_the_statements_of_both(given: Rig) -> None:
    async with given.database.snapshot() as connection:
        statements = [
            await answer(connection, GetStatement(user_id=user, account_type="basic", currency="TWD"))
            for user in ("alice", "bob")
        ]

    shown = [
        [
            (entry["order_type"], entry["balance_after"])
            for entry in statement.model_dump(mode="json")["entries"]
        ]
        for statement in statements
    ]
    assert shown == [[("recharge", "100.00"), ("gift", "70.00")], [("gift", "60.00")]]


async def test_its_orders_are_in_the_list_of_the_giver_and_in_the_histories_of_both(given: Rig) -> None:
    async with given.database.snapshot() as connection:
        listed = await answer(connection, FindOrders(user_id="alice", order_types=[GIFT]))
        histories = [
            await answer(connection, GetHistory(user_id=user, account_type="basic", currency="TWD"))
            for user in ("alice", "bob")
        ]

    (order,) = listed.model_dump(mode="json")["orders"]
    assert (order["serial_no"], order["order_type"], order["status"]) == ("G-1", "gift", "succeeded")
    newest = [history.model_dump(mode="json")["lines"][0] for history in histories]
    assert [(line["order"]["order_type"], line["order"]["counterparty_user_id"]) for line in newest] == [
        ("gift", "bob"),
        ("gift", "alice"),
    ]
    assert [line["entry"]["amount"] for line in newest] == ["30.00", "60.00"]


@pytest.mark.usefixtures("given")
async def test_its_orders_are_exported(database_url: str) -> None:
    lines, chosen = io.StringIO(), io.StringIO()
    always = TimeRange()

    written = await export.statement(
        database_url,
        lines,
        Format.CSV,
        user_id="bob",
        account_type="basic",
        currency="TWD",
        span=always,
        on_progress=lambda _done, _total: None,
    )
    count = await export.orders(
        database_url,
        chosen,
        Format.CSV,
        OrderFilter(span=always, types=(GIFT,)),
        on_progress=lambda _done, _total: None,
    )

    assert written is not None
    assert (written.lines, written.closing_balance) == (1, "60.00")
    assert "G-1,gift,credit,60.00,TWD" in lines.getvalue()
    assert count == 1
    assert ",gift,30.00,TWD,succeeded,OK," in chosen.getvalue()


@pytest.mark.usefixtures("given")
async def test_a_settlement_that_names_its_order_is_compared_with_its_row(database_url: str) -> None:
    """The gateway has no part in a gift: a line about it is of another kind, whatever its amount."""
    report = await reconcile(database_url, reader(line(payment_order_no="G-1", amount="30.00")), span=None)

    (finding,) = report.findings
    assert (finding.verdict, finding.detail) == (Comparison.DIFFERENT_KIND, "charge there, gift here")


def test_money_that_the_gateway_brings_is_expected_whatever_the_type_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit of the balance counts what waits: the row says so by its payment, and no name of a type."""
    paid = replace(SPEC, initial_status=OrderStatus.PENDING, payment=PaymentKind.CHARGE)
    monkeypatch.setattr(facts_module, "ORDER_SPECS", {**orders.ORDER_SPECS, GIFT: paid})
    now = datetime(2026, 1, 2, tzinfo=UTC)
    order = Order(UUID(int=1), "G-2", GIFT, 7, 3_000, "TWD", OrderStatus.PENDING, Code.OK, "card", now, now)
    facts = Facts()

    facts.apply(Decision(Ending.APPLIED, orders=(order,)))

    assert facts.pending_recharges == {7: 3_000}


@pytest.mark.usefixtures("given")
async def test_the_audit_knows_what_it_must_have_moved(database_url: str) -> None:
    report = await audit(database_url)

    assert (report.clean, report.orders, report.lines) == (True, 2, 5), report.findings


@pytest.mark.usefixtures("given")
async def test_the_audit_finds_a_leg_that_is_missing_or_of_another_amount(
    owner: asyncpg.Connection, database_url: str
) -> None:
    """The lines themselves still chain, and the currency sums to zero over all: only the legs tell."""
    await owner.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
    await owner.execute(
        """
        UPDATE entries SET order_id = (SELECT order_id FROM orders WHERE serial_no = 'R-1')
        WHERE account_id = (SELECT account_id FROM accounts WHERE user_id = 'bob')
        """
    )

    report = await audit(database_url)

    assert report.counts == {Invariant.ORDER_SUM: 2, Invariant.ORDER_ENTRIES: 2}
    details = {finding.detail for finding in report.findings if finding.serial_no == "G-1"}
    assert any("it succeeded and should have -30.00 TWD" in detail for detail in details), details
