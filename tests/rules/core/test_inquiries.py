"""When the gateway is asked about an order that nobody has said anything about, and when the waiting ends."""

from datetime import datetime, timedelta

import pytest

from tests.rules.core.world import (
    NOW,
    World,
    events,
    open_account,
    recharge,
    refund,
    requests,
    result,
    tick,
    told,
    withdraw,
)
from wallet_schemas.names import PAYMENT_REQUESTS
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core.changes import Decision
from wallet_worker.core.context import INQUIRY_AGES, Policy
from wallet_worker.core.endings import Ending

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def _world(rules: Policy | None = None) -> World:
    """Return a wallet with a user who has 300.00, a recharge that is done, and nothing that waits."""
    world = World(rules=rules or Policy())
    world.tell(open_account(), recharge(amount="300"), result(amount="300"))
    world.outgoing.clear()
    return world


def _inquiry_ages(world: World, until: datetime, step: timedelta = timedelta(seconds=30)) -> list[timedelta]:
    """Let a sweep come by every now and then, and return after how long the gateway was asked."""
    ages = []
    while world.now < until:
        for decision in world.sweep(world.now + step):
            ages += [world.now - NOW for _ in requests(decision)]
    return ages


def test_the_gateway_is_asked_at_each_age_and_a_last_time_when_the_recharge_expires() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"))

    ages = _inquiry_ages(world, NOW + 3 * DAY)

    assert ages == [*INQUIRY_AGES, DAY]
    order = world.orders["R-2"]
    assert (order.status, order.inquiries, order.due_at) == (OrderStatus.EXPIRED, 6, None)


@pytest.mark.parametrize("order_type", [OrderType.WITHDRAW, OrderType.REFUND])
def test_after_the_last_age_a_payout_is_asked_about_again_and_again(order_type: OrderType) -> None:
    world = _world()
    world.tell(refund(serial_no="W-1") if order_type is OrderType.REFUND else withdraw())

    ages = _inquiry_ages(world, NOW + 3 * DAY, 10 * MINUTE)

    # The sweep comes by every ten minutes only: it is never early, and what is put off counts from there.
    assert ages[:5] == [10 * MINUTE, 30 * MINUTE, 2 * HOUR, 12 * HOUR, 24 * HOUR]
    assert ages[5:] == [36 * HOUR, 48 * HOUR, 60 * HOUR, 72 * HOUR]
    assert world.orders["W-1"].status is OrderStatus.PENDING
    assert world.orders["W-1"].inquiries == len(ages)


def test_a_deployment_chooses_the_ages_and_others_for_a_channel() -> None:
    rules = Policy(
        inquiry_ages=(10 * MINUTE, 20 * MINUTE),
        ask_after_by_channel={"bank_transfer": (HOUR,), "card": (MINUTE, 3 * MINUTE)},
    )
    world = _world(rules)
    world.tell(
        recharge(serial_no="R-2", recharge_type="convenience_store", amount="1"),
        recharge(serial_no="R-3", amount="2"),
        withdraw(amount="3"),  # by bank transfer
        refund(amount="4"),  # of what was paid by card
    )

    fields: dict[str, list[timedelta]] = {}
    while world.now < NOW + HOUR:
        for decision in world.sweep(world.now + MINUTE):
            for request in requests(decision):
                fields.setdefault(request["payment_order_no"], []).append(world.now - NOW)

    assert fields == {
        "R-2": [10 * MINUTE, 20 * MINUTE, 40 * MINUTE, 60 * MINUTE],
        "R-3": [MINUTE * number for number in (1, *range(3, 61, 3))],
        "RF-1": [MINUTE * number for number in (1, *range(3, 61, 3))],
        "W-1": [HOUR],
    }


def test_a_worker_that_was_away_for_long_asks_once_and_not_once_for_each_age() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"), withdraw())

    decisions = world.sweep(NOW + 3 * HOUR)

    assert sorted(
        request["payment_order_no"] for decision in decisions for request in requests(decision)
    ) == [
        "R-2",
        "W-1",
    ]
    assert {number: world.orders[number].due_at for number in ("R-2", "W-1")} == {
        "R-2": NOW + 12 * HOUR,
        "W-1": NOW + 12 * HOUR,
    }
    assert world.sweep(NOW + 3 * HOUR) == []


def test_a_worker_that_was_away_until_the_end_asks_once_and_expires_the_recharge() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"))

    (decision,) = world.sweep(NOW + 30 * DAY)

    assert [request["kind"] for request in requests(decision)] == ["status"]
    assert [event["type"] for event in events(decision)] == ["order.expired.v1"]


def test_an_order_is_looked_at_when_it_expires_even_if_it_would_be_asked_about_later() -> None:
    world = _world(Policy(recharge_expires_after=7 * MINUTE))
    world.tell(recharge(serial_no="R-2"))

    assert _inquiry_ages(world, NOW + HOUR) == [MINUTE, 5 * MINUTE, 7 * MINUTE]
    assert world.orders["R-2"].status is OrderStatus.EXPIRED


def test_what_expires_before_the_first_age_is_asked_about_all_the_same() -> None:
    world = _world(Policy(recharge_expires_after=SECOND))
    world.tell(recharge(serial_no="R-2"))

    (decision,) = world.sweep(NOW + SECOND)

    assert world.orders["R-2"].status is OrderStatus.EXPIRED
    assert [request["kind"] for request in requests(decision)] == ["status"]


def test_a_recharge_expires_at_expires_at_and_not_before() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"))
    world.sweep(NOW + 23 * HOUR)

    assert world.sweep(NOW + DAY - timedelta(microseconds=1)) == []
    assert [item.ending for item in world.sweep(NOW + DAY)] == [Ending.APPLIED]


def test_asking_tells_the_gateway_what_the_order_says_and_the_world_nothing() -> None:
    world = _world()
    world.tell(withdraw(amount="12.3"))

    (decision,) = world.sweep(NOW + MINUTE)

    (request,) = told(decision)
    assert (request.exchange, request.routing_key) == (PAYMENT_REQUESTS, "payment.request")
    assert request.body == {
        "type": "payment.request.v1",
        "payment_order_no": "W-1",
        "kind": "status",
        "amount": "12.30",
        "currency": "TWD",
        "channel": "bank_transfer",
        "requested_at": "2026-01-02T03:05:05.000006Z",
        "expires_at": None,
        "user_id": "u-1",
        "account_no": world.user().account_no,
    }
    # An order that is only asked about has not changed, for whoever looks at it.
    assert world.orders["W-1"].updated_at == NOW


def test_an_answer_ends_the_asking() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"), withdraw())
    world.sweep(NOW + MINUTE)

    world.tell(result(payment_order_no="R-2", status="failed"), result(payment_order_no="W-1"))

    assert world.sweep(NOW + 30 * DAY) == []


def test_unknown_is_no_answer_and_leaves_the_next_time_as_it_was() -> None:
    world = _world()
    world.tell(withdraw())
    due_at = world.orders["W-1"].due_at

    world.tell(result(payment_order_no="W-1", status="unknown"))

    assert world.orders["W-1"].due_at == due_at == NOW + MINUTE


def test_a_success_that_comes_after_the_end_is_credited_late_and_once() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"))
    world.sweep(NOW + DAY)

    first, again = world.tell(
        result(payment_order_no="R-2"), result(payment_order_no="R-2", gateway_ref="gw-2")
    )

    assert (first.ending, again.ending) == (Ending.APPLIED, Ending.REPEATED)
    assert events(first)[0]["data"]["late"] is True
    assert world.user().balance_minor == 40_000
    assert world.orders["R-2"].due_at is None


def _repeated(decision: Decision) -> bool:
    return decision.ending is Ending.REPEATED and not decision.outgoing and not decision.orders


@pytest.mark.parametrize("number", ["R-1", "R-2", "R-nobody", "O-1"])
def test_what_is_not_due_is_left_as_it_is(number: str) -> None:
    """Another sweeper was there first, or its result has come meanwhile."""
    world = _world()
    world.tell(recharge(serial_no="R-2"))

    assert _repeated(world.tell_one(tick(number)))


def test_two_words_of_the_clock_about_one_order_ask_once() -> None:
    world = _world()
    world.tell(withdraw())
    world.now = NOW + MINUTE

    first, again = world.tell(tick("W-1"), tick("W-1"))

    assert len(requests(first)) == 1
    assert _repeated(again)
