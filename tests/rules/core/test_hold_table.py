"""What commands and the time do to a hold: the table of docs/contract.md, section 6."""

from datetime import timedelta

import pytest

from tests.rules.core.world import NOW, World, capture, events, freeze, hold, release, requests, result, tick
from wallet_schemas.codes import Code
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType
from wallet_worker.core import orders
from wallet_worker.core.endings import Ending
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.orders import HOLD, HoldAction, Signal, Timer

ACTIVE, CAPTURED, RELEASED, EXPIRED = (
    OrderStatus.ACTIVE,
    OrderStatus.CAPTURED,
    OrderStatus.RELEASED,
    OrderStatus.EXPIRED,
)
OVER = NOW + timedelta(hours=1)
A_PART = capture(amount="40.00")
THE_REST = capture(amount="100.00")

# hold is, what happens: hold becomes, what is left of it, what payer and payee have then, the events
TABLE: list[tuple[OrderStatus, Signal, OrderStatus, int, int, int, list[str]]] = [
    (ACTIVE, HoldAction.CAPTURE, ACTIVE, 6_000, 26_000, 4_000, ["order.succeeded.v1"]),
    (
        ACTIVE,
        HoldAction.CAPTURE_ALL,
        CAPTURED,
        0,
        20_000,
        10_000,
        ["order.succeeded.v1", "order.captured.v1"],
    ),
    (ACTIVE, HoldAction.RELEASE, RELEASED, 0, 30_000, 0, ["order.succeeded.v1", "order.released.v1"]),
    (ACTIVE, Timer.EXPIRE, EXPIRED, 0, 30_000, 0, ["order.expired.v1"]),
    *(
        (item, use, item, 0, 30_000, 0, ["command.refused.v1"])
        for item in (CAPTURED, RELEASED, EXPIRED)
        for use in HoldAction
    ),
    *((item, Timer.EXPIRE, item, 0, 30_000, 0, []) for item in (CAPTURED, RELEASED, EXPIRED)),
]
SAID: dict[Signal, InboundMessage] = {
    HoldAction.CAPTURE: A_PART,
    HoldAction.CAPTURE_ALL: THE_REST,
    HoldAction.RELEASE: release(),
    Timer.EXPIRE: tick("H-1"),
}


def _world(status: OrderStatus = ACTIVE) -> World:
    """Return a wallet in which a hold of 100.00, of an account with 300.00, stands somewhere."""
    world = World()
    world.with_account(user_id="u-2")
    world.with_order(status, world.with_account(balance_minor=30_000), "H-1", order_type=OrderType.HOLD)
    return world


def test_the_table_here_has_a_row_for_every_status_and_everything_that_may_happen() -> None:
    assert len(TABLE) == len(HOLD)
    assert {(status, happening) for status, happening, *_ in TABLE} == set(HOLD)


@pytest.mark.parametrize(
    ("status", "happening", "becomes", "remaining_minor", "payer_minor", "payee_minor", "notified"), TABLE
)
def test_what_happens_to_a_hold_is_what_the_contract_says(
    status: OrderStatus,
    happening: Signal,
    becomes: OrderStatus,
    remaining_minor: int,
    payer_minor: int,
    payee_minor: int,
    notified: list[str],
) -> None:
    world = _world(status)
    if happening is Timer.EXPIRE:
        world.now = OVER

    decision = world.tell_one(SAID[happening])

    held = world.orders["H-1"]
    assert (held.status, held.remaining_minor, held.transacted_at) == (becomes, remaining_minor, None)
    assert (held.due_at is None) == (becomes is not ACTIVE)
    assert (world.user().balance_minor, world.user().reserved_minor) == (payer_minor, remaining_minor)
    assert world.user("u-2").balance_minor == payee_minor
    assert [event["type"] for event in events(decision)] == notified
    assert requests(decision) == []
    if notified == ["command.refused.v1"]:
        assert (decision.ending, decision.code) == (Ending.REFUSED, Code.HOLD_NOT_ACTIVE)
        assert decision.detail == f"the hold is {status}"


@pytest.mark.parametrize("key", list(HOLD))
def test_a_table_of_holds_with_a_hole_is_found_at_import(
    key: tuple[OrderStatus, Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "HOLD", {item: step for item, step in HOLD.items() if item != key})

    with pytest.raises(AssertionError, match="not total"):
        orders.check_total()


# The end of its time


@pytest.mark.parametrize("message", [A_PART, THE_REST, release()])
def test_a_hold_is_over_at_expires_at_whether_or_not_the_sweep_has_come_by(message: InboundMessage) -> None:
    just_in_time, too_late = _world(), _world()
    just_in_time.now, too_late.now = OVER - timedelta(microseconds=1), OVER

    fits, refused = just_in_time.tell_one(message), too_late.tell_one(message)

    assert fits.code is Code.OK
    assert (refused.code, refused.detail) == (Code.HOLD_NOT_ACTIVE, "the hold is expired")
    assert too_late.orders["H-1"].status is ACTIVE
    assert too_late.user().reserved_minor == 10_000


def test_a_hold_expires_at_expires_at_and_not_before() -> None:
    world = _world()

    assert world.sweep(OVER - timedelta(microseconds=1)) == []
    (decision,) = world.sweep(OVER)

    assert decision.ending is Ending.APPLIED
    assert world.orders["H-1"].status is EXPIRED
    assert world.user().available_minor == 30_000
    assert world.sweep(OVER + timedelta(days=400)) == []


def test_what_is_left_after_captures_returns_when_the_hold_expires() -> None:
    world = _world()
    world.tell(capture(serial_no="C-1", amount="40.00"), capture(serial_no="C-2", amount="35.50"))

    world.sweep(OVER)

    held = world.orders["H-1"]
    assert (held.status, held.remaining_minor, held.amount_minor) == (EXPIRED, 0, 10_000)
    assert (world.user().balance_minor, world.user().reserved_minor) == (22_450, 0)
    assert world.user("u-2").balance_minor == 7_550


def test_captures_in_one_batch_take_of_a_hold_what_is_there_in_order() -> None:
    world = _world()

    decisions = world.tell(
        *(
            capture(serial_no=f"C-{number}", amount=amount)
            for number, amount in enumerate(["60", "60", "40", "1"])
        )
    )

    assert [decision.code for decision in decisions] == [
        Code.OK,
        Code.AMOUNT_EXCEEDS_ORIGINAL,
        Code.OK,
        Code.HOLD_NOT_ACTIVE,
    ]
    assert world.orders["H-1"].status is CAPTURED
    assert world.user("u-2").balance_minor == 10_000


def test_a_hold_made_used_and_released_in_one_batch() -> None:
    world = World()
    world.with_account(balance_minor=10_000)
    world.with_account(user_id="u-2")

    decisions = world.tell(hold(), capture(amount="99.99"), release(), release(serial_no="L-2"))

    assert [decision.code for decision in decisions] == [Code.OK, Code.OK, Code.OK, Code.HOLD_NOT_ACTIVE]
    assert (world.orders["L-1"].amount_minor, world.orders["L-1"].transacted_at) == (1, None)
    assert (world.user().balance_minor, world.user().reserved_minor) == (1, 0)


def test_a_hold_of_a_frozen_account_is_released_and_expires_but_pays_nobody() -> None:
    world = _world()
    world.tell(freeze())

    assert world.tell_one(capture(amount="1.00")).code is Code.ACCOUNT_FROZEN
    assert world.tell_one(release()).code is Code.OK
    assert (world.user().status, world.user().reserved_minor) == (AccountStatus.FROZEN, 0)


@pytest.mark.parametrize("status", [ACTIVE, CAPTURED, RELEASED, EXPIRED])
def test_no_payment_result_is_about_a_hold(status: OrderStatus) -> None:
    world = _world(status)
    before = world.orders["H-1"]

    decision = world.tell_one(result(payment_order_no="H-1"))

    # There is an order, so waiting for one would be for nothing.
    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.ORDER_NOT_FOUND)
    assert world.orders["H-1"] == before
    assert world.parked == []
