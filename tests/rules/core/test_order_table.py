"""What each payment result does to a recharge: the table of docs/contract.md, section 6."""

import inspect
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from tests.rules.contract.bodies import JsonObject
from tests.rules.core.world import NOW, World, events, replies, result
from wallet_schemas.codes import Code
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType, PaymentStatus
from wallet_worker.core import orders
from wallet_worker.core.endings import Ending
from wallet_worker.core.orders import ORDER_SPECS, RECHARGE, Effect, Signal, Transition

PENDING, SUCCEEDED, FAILED, EXPIRED, CANCELLED = (
    OrderStatus.PENDING,
    OrderStatus.SUCCEEDED,
    OrderStatus.FAILED,
    OrderStatus.EXPIRED,
    OrderStatus.CANCELLED,
)

# order is, result says: order becomes, money arrives, late, the event, the answer to the gateway, its code
TABLE = [
    (PENDING, "succeeded", SUCCEEDED, True, None, "order.succeeded.v1", "processed", Code.OK),
    (PENDING, "failed", FAILED, False, None, "order.failed.v1", "processed", Code.OK),
    (PENDING, "unknown", PENDING, False, None, None, "duplicate", Code.OK),
    (SUCCEEDED, "succeeded", SUCCEEDED, False, None, None, "duplicate", Code.OK),
    (SUCCEEDED, "failed", SUCCEEDED, False, None, None, "refused", Code.CONTRADICTING_RESULT),
    (SUCCEEDED, "unknown", SUCCEEDED, False, None, None, "duplicate", Code.OK),
    (FAILED, "succeeded", SUCCEEDED, True, True, "order.succeeded.v1", "processed", Code.OK),
    (FAILED, "failed", FAILED, False, None, None, "duplicate", Code.OK),
    (FAILED, "unknown", FAILED, False, None, None, "duplicate", Code.OK),
    (EXPIRED, "succeeded", SUCCEEDED, True, True, "order.succeeded.v1", "processed", Code.OK),
    (EXPIRED, "failed", EXPIRED, False, None, None, "duplicate", Code.OK),
    (EXPIRED, "unknown", EXPIRED, False, None, None, "duplicate", Code.OK),
    (CANCELLED, "succeeded", SUCCEEDED, True, True, "order.succeeded.v1", "processed", Code.OK),
    (CANCELLED, "failed", CANCELLED, False, None, None, "duplicate", Code.OK),
    (CANCELLED, "unknown", CANCELLED, False, None, None, "duplicate", Code.OK),
]


def test_the_table_here_has_a_row_for_every_status_and_every_result() -> None:
    rows = {(status, PaymentStatus(answer)) for status, answer, *_ in TABLE}

    assert len(rows) == len(TABLE)
    assert rows == {(each, other) for each, other in RECHARGE if isinstance(other, PaymentStatus)}
    assert rows == {
        (item, other) for item in ORDER_SPECS[OrderType.RECHARGE].statuses for other in PaymentStatus
    }


@pytest.mark.parametrize(("status", "sentence", "becomes", "moves", "late", "event", "answer", "code"), TABLE)
def test_a_result_does_to_a_recharge_what_the_contract_says(
    status: OrderStatus,
    sentence: str,
    becomes: OrderStatus,
    moves: bool,  # noqa: FBT001 - a column of the table
    late: bool | None,  # noqa: FBT001 - a column of the table
    event: str | None,
    answer: str,
    code: Code,
) -> None:
    world = World()
    before = world.with_order(status, world.with_account())

    decision = world.tell_one(result("gateway", status=sentence))

    order, account = world.orders["R-1"], world.user()
    assert order.status is becomes
    assert order.late is bool(late)
    assert account.balance_minor == (10_000 if moves else 0)
    assert len(world.entries) == (2 if moves else 0)
    assert order.transacted_at == (NOW if moves else before.transacted_at)
    assert [item["type"] for item in events(decision)] == ([event] if event else [])
    assert [item["data"].get("late") for item in events(decision)] == ([late] if event else [])
    assert replies(decision) == [
        {"type": "payment.processed.v1", "payment_order_no": "R-1", "processing_status": answer, "code": code}
    ]
    assert (
        decision.ending
        is {
            "processed": Ending.APPLIED,
            "duplicate": Ending.REPEATED,
            "refused": Ending.REJECTED,
        }[answer]
    )


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
def test_a_result_that_does_not_fit_its_order_moves_nothing(
    status: OrderStatus, sentence: str, changes: JsonObject, code: Code
) -> None:
    world = World()
    before = world.with_order(status, world.with_account())

    decision = world.tell_one(result("gateway", status=sentence, **changes))

    assert (decision.ending, decision.code) == (Ending.REJECTED, code)
    assert world.orders["R-1"] == before
    assert world.entries == []
    assert events(decision) == []
    assert [(reply["processing_status"], reply["code"]) for reply in replies(decision)] == [("refused", code)]


@pytest.mark.parametrize("status", [PENDING, FAILED, EXPIRED])
def test_money_for_a_closed_account_waits_for_an_operator(status: OrderStatus) -> None:
    world = World()
    before = world.with_order(status, world.with_account(AccountStatus.CLOSED))

    decision = world.tell_one(result("gateway"))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.ACCOUNT_CLOSED)
    assert world.orders["R-1"] == before
    assert world.entries == []


@pytest.mark.parametrize(
    ("status", "sentence"), [(FAILED, "failed"), (EXPIRED, "unknown"), (SUCCEEDED, "succeeded")]
)
def test_what_moves_nothing_is_fine_for_a_closed_account(status: OrderStatus, sentence: str) -> None:
    world = World()
    world.with_order(status, world.with_account(AccountStatus.CLOSED))

    assert world.tell_one(result(status=sentence)).ending is Ending.REPEATED


def test_money_arrives_in_a_frozen_account() -> None:
    world = World()
    world.with_order(PENDING, world.with_account(AccountStatus.FROZEN))

    world.tell_one(result())

    assert world.user().balance_minor == 10_000
    assert world.user().status is AccountStatus.FROZEN


def _without(key: tuple[OrderStatus, Signal]) -> Mapping[tuple[OrderStatus, Signal], Transition]:
    return MappingProxyType({item: step for item, step in RECHARGE.items() if item != key})


@pytest.mark.parametrize("key", list(RECHARGE))
def test_a_table_with_a_hole_is_found_at_import(
    key: tuple[OrderStatus, Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "RECHARGE", _without(key))

    with pytest.raises(AssertionError, match="not total"):
        orders.check_total()


@pytest.mark.parametrize("effect", [Effect.DUPLICATE, Effect.NO_CHANGE, Effect.CONTRADICTION])
def test_a_row_that_moves_a_status_without_an_effect_is_found_at_import(
    effect: Effect, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (PENDING, PaymentStatus.FAILED)
    monkeypatch.setattr(orders, "RECHARGE", {**RECHARGE, key: Transition(effect, FAILED)})

    with pytest.raises(AssertionError, match="cannot end"):
        orders.check_total()


def test_the_check_runs_at_import() -> None:
    source = inspect.getsource(orders)
    row = "        (_EXPIRED, PaymentStatus.UNKNOWN): Transition(Effect.NO_CHANGE, _EXPIRED),\n"
    assert source.count(row) == 1

    with pytest.raises(AssertionError, match="not total"):
        exec(compile(source.replace(row, ""), "orders.py", "exec"), {"__name__": orders.__name__})  # noqa: S102
