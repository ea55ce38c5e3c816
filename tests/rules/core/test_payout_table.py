"""What results and the time do to withdrawals and refunds: the table of docs/contract.md, section 6."""

from dataclasses import replace

import pytest

from tests.rules.contract.bodies import JsonObject
from tests.rules.core.world import LONG_AGO, NOW, World, events, replies, requests, result, tick
from wallet_schemas.codes import Code
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType, PaymentStatus
from wallet_worker.core import orders
from wallet_worker.core.batch import MessageFailedError
from wallet_worker.core.endings import Ending
from wallet_worker.core.orders import ORDER_SPECS, PAYOUT, Effect, Order, Timer, Transition

PENDING, SUCCEEDED, FAILED = OrderStatus.PENDING, OrderStatus.SUCCEEDED, OrderStatus.FAILED
PAYOUTS = pytest.mark.parametrize("order_type", [OrderType.WITHDRAW, OrderType.REFUND])

# order is, result says: order becomes, what the balance and the reserve are then, the event, the answer, its code
TABLE = [
    (PENDING, "succeeded", SUCCEEDED, 20_000, 0, "order.succeeded.v1", "processed", Code.OK),
    (PENDING, "failed", FAILED, 30_000, 0, "order.failed.v1", "processed", Code.OK),
    (PENDING, "unknown", PENDING, 30_000, 10_000, None, "duplicate", Code.OK),
    (SUCCEEDED, "succeeded", SUCCEEDED, 30_000, 0, None, "duplicate", Code.OK),
    (SUCCEEDED, "failed", SUCCEEDED, 30_000, 0, None, "refused", Code.CONTRADICTING_RESULT),
    (SUCCEEDED, "unknown", SUCCEEDED, 30_000, 0, None, "duplicate", Code.OK),
    (FAILED, "succeeded", FAILED, 30_000, 0, None, "refused", Code.CONTRADICTING_RESULT),
    (FAILED, "failed", FAILED, 30_000, 0, None, "duplicate", Code.OK),
    (FAILED, "unknown", FAILED, 30_000, 0, None, "duplicate", Code.OK),
]


def _world(
    order_type: OrderType, status: OrderStatus, account: AccountStatus = AccountStatus.ACTIVE
) -> tuple[World, Order]:
    """Return a wallet in which a payout of 100.00 of an account with 300.00 stands somewhere."""
    world = World()
    held = world.with_account(account, balance_minor=30_000)
    world.with_order(SUCCEEDED, held, "R-1", "300.00")
    about = "R-1" if order_type is OrderType.REFUND else None
    return world, world.with_order(status, held, "W-1", order_type=order_type, about=about)


def test_the_table_here_has_a_row_for_every_status_and_every_result() -> None:
    rows = {(status, PaymentStatus(answer)) for status, answer, *_ in TABLE}

    assert len(rows) == len(TABLE)
    assert rows == {(item, other) for item, other in PAYOUT if isinstance(other, PaymentStatus)}
    for order_type in (OrderType.WITHDRAW, OrderType.REFUND):
        assert ORDER_SPECS[order_type].table is PAYOUT


@PAYOUTS
@pytest.mark.parametrize(
    ("status", "sentence", "becomes", "balance_minor", "reserved_minor", "event", "answer", "code"), TABLE
)
def test_a_result_does_to_a_payout_what_the_contract_says(  # noqa: PLR0917 - columns of the table
    order_type: OrderType,
    status: OrderStatus,
    sentence: str,
    becomes: OrderStatus,
    balance_minor: int,
    reserved_minor: int,
    event: str | None,
    answer: str,
    code: Code,
) -> None:
    world, before = _world(order_type, status)

    decision = world.tell_one(result("gateway", payment_order_no="W-1", status=sentence))

    order, account = world.orders["W-1"], world.user()
    moved = event == "order.succeeded.v1"
    assert order.status is becomes
    assert (account.balance_minor, account.reserved_minor) == (balance_minor, reserved_minor)
    assert len(world.entries) == (2 if moved else 0)
    assert order.transacted_at == (NOW if moved else before.transacted_at)
    assert order.late is False
    assert [item["type"] for item in events(decision)] == ([event] if event else [])
    assert replies(decision) == [
        {"type": "payment.processed.v1", "payment_order_no": "W-1", "processing_status": answer, "code": code}
    ]
    endings = {"processed": Ending.APPLIED, "duplicate": Ending.REPEATED, "refused": Ending.REJECTED}
    assert decision.ending is endings[answer]


@PAYOUTS
@pytest.mark.parametrize(("status", "sentence"), [(status, sentence) for status, sentence, *_ in TABLE])
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": "100.01"}, Code.AMOUNT_MISMATCH),
        ({"amount": "9" * 30}, Code.AMOUNT_MISMATCH),
        ({"currency": "USD"}, Code.CURRENCY_MISMATCH),
        ({"currency": "XYZ"}, Code.CURRENCY_MISMATCH),
    ],
)
def test_a_result_that_does_not_fit_its_payout_moves_nothing(
    order_type: OrderType, status: OrderStatus, sentence: str, changes: JsonObject, code: Code
) -> None:
    world, before = _world(order_type, status)
    held = world.user()

    decision = world.tell_one(result("gateway", payment_order_no="W-1", status=sentence, **changes))

    assert (decision.ending, decision.code) == (Ending.REJECTED, code)
    assert (world.orders["W-1"], world.user(), world.entries) == (before, held, [])
    assert events(decision) == []
    assert [(reply["processing_status"], reply["code"]) for reply in replies(decision)] == [("refused", code)]


@PAYOUTS
@pytest.mark.parametrize(("sentence", "balance_minor"), [("succeeded", 20_000), ("failed", 30_000)])
def test_what_was_sent_before_an_account_was_frozen_ends_as_the_gateway_says(
    order_type: OrderType, sentence: str, balance_minor: int
) -> None:
    world, _ = _world(order_type, PENDING, AccountStatus.FROZEN)

    decision = world.tell_one(result(payment_order_no="W-1", status=sentence))

    assert decision.ending is Ending.APPLIED
    assert (world.user().balance_minor, world.user().reserved_minor) == (balance_minor, 0)
    assert world.user().status is AccountStatus.FROZEN


@PAYOUTS
def test_a_payout_never_ends_by_itself_and_is_asked_about_for_ever(order_type: OrderType) -> None:
    world, before = _world(order_type, PENDING)
    assert before.expires_at is None

    decision = world.tell_one(tick("W-1"))

    order = world.orders["W-1"]
    assert (order.status, order.inquiries) == (PENDING, 1)
    assert order.due_at is not None
    assert order.due_at > NOW > LONG_AGO
    assert (world.user().balance_minor, world.user().reserved_minor) == (30_000, 10_000)
    assert [request["kind"] for request in requests(decision)] == ["status"]
    assert events(decision) == []


@pytest.mark.parametrize("key", list(PAYOUT))
def test_a_table_of_payouts_with_a_hole_is_found_at_import(
    key: tuple[OrderStatus, orders.Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "PAYOUT", {item: step for item, step in PAYOUT.items() if item != key})

    with pytest.raises(AssertionError, match="not total"):
        orders.check_total()


@pytest.mark.parametrize(
    ("table", "key", "step"),
    [
        ("PAYOUT", (PENDING, PaymentStatus.SUCCEEDED), Transition(Effect.NO_CHANGE, SUCCEEDED)),
        ("PAYOUT", (PENDING, PaymentStatus.FAILED), Transition(Effect.RELEASE_RESERVE, PENDING)),
        ("PAYOUT", (PENDING, Timer.ASK), Transition(Effect.INQUIRE, FAILED)),
        ("HOLD", (OrderStatus.ACTIVE, Timer.EXPIRE), Transition(Effect.RELEASE_RESERVE, OrderStatus.ACTIVE)),
        (
            "HOLD",
            (OrderStatus.ACTIVE, orders.HoldAction.CAPTURE),
            Transition(Effect.DEBIT, OrderStatus.CAPTURED),
        ),
        (
            "HOLD",
            (OrderStatus.RELEASED, orders.HoldAction.CAPTURE),
            Transition(Effect.DEBIT, OrderStatus.RELEASED),
        ),
    ],
)
def test_a_row_whose_effect_and_status_do_not_fit_is_found_at_import(
    table: str, key: tuple[OrderStatus, orders.Signal], step: Transition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, table, {**getattr(orders, table), key: step})

    with pytest.raises(AssertionError, match="cannot end"):
        orders.check_total()


def test_an_order_that_is_due_though_nothing_can_come_of_it_is_a_bug_of_ours() -> None:
    """It has no ending; the shell sets it aside, and asks an operator to look."""
    world, before = _world(OrderType.WITHDRAW, PENDING)
    world.orders["W-1"] = replace(before, expires_at=LONG_AGO)

    with pytest.raises(MessageFailedError, match="cannot come to no change"):
        world.tell_one(tick("W-1"))
