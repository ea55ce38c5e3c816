"""What a channel says of payments: whether one id of the gateway's is one payment, and which amounts are taken."""

from datetime import timedelta
from typing import Any

import pytest

from tests.rules.core.world import (
    NOW,
    World,
    cancel,
    close,
    events,
    open_account,
    recharge,
    refund,
    replies,
    result,
    reversal,
    transfer,
    withdraw,
)
from wallet_schemas.codes import Code
from wallet_schemas.events import OrderSucceeded
from wallet_schemas.values import OrderStatus
from wallet_worker.core.accounts import SystemKey, SystemName
from wallet_worker.core.channels import Channel
from wallet_worker.core.context import Policy
from wallet_worker.core.endings import Ending

DAY = timedelta(days=1)
UNIQUE = Channel(refs_unique=True)
ANY = Channel(refs_unique=True, any_amount=True)


def _world(channel: Channel) -> World:
    """Return a wallet in which the recharges R-1 and R-2 of u-1 wait, on a channel with these rules."""
    world = World(rules=Policy(channels={"card": channel}))
    world.tell(open_account(), recharge(), recharge(serial_no="R-2"))
    return world


def _refused(world: World, message: Any, code: Code) -> None:
    before = world.user(), world.orders["R-1"], world.orders["R-2"]

    decision = world.tell_one(message)

    assert (decision.ending, decision.code) == (Ending.REJECTED, code)
    assert replies(decision)[0]["processing_status"] == "refused"
    assert (world.user(), world.orders["R-1"], world.orders["R-2"]) == before


# One id, one payment


@pytest.mark.parametrize("ended", [None, "failed", "expired", "cancelled"])
def test_one_payment_is_not_two_orders(ended: str | None) -> None:
    world = _world(UNIQUE)
    if ended == "failed":
        world.tell(result(payment_order_no="R-2", status="failed"))
    elif ended == "cancelled":
        world.tell(cancel(target_serial_no="R-2"))
    world.tell(result())
    if ended == "expired":
        world.sweep(NOW + 2 * DAY)

    _refused(world, result("gateway", payment_order_no="R-2"), Code.GATEWAY_REF_USED)
    assert world.tell_one(result(payment_order_no="R-2", gateway_ref="gw-2")).ending is Ending.APPLIED


def test_one_payment_is_not_two_orders_of_one_batch() -> None:
    world = World(rules=Policy(channels={"*": UNIQUE}))

    decisions = world.tell(
        open_account(),
        recharge(),
        recharge(serial_no="R-2"),
        result(),
        result(payment_order_no="R-2"),
        recharge(serial_no="R-3", recharge_type="qr"),
        result(payment_order_no="R-3"),  # of another channel
    )

    assert [decision.code for decision in decisions[3:]] == [Code.OK, Code.GATEWAY_REF_USED, Code.OK, Code.OK]


def test_one_payment_of_another_batch_is_not_the_order_of_this_one() -> None:
    world = _world(UNIQUE)
    world.tell(result())

    decisions = world.tell(recharge(serial_no="R-9"), result(payment_order_no="R-9"))

    assert decisions[-1].code is Code.GATEWAY_REF_USED


def test_an_order_is_not_paid_twice() -> None:
    world = _world(UNIQUE)
    world.tell(result())

    assert world.tell_one(result()).ending is Ending.REPEATED
    _refused(world, result("gateway", gateway_ref="gw-2"), Code.PAID_TWICE)


def test_where_ids_are_free_a_second_success_is_a_repeat() -> None:
    world = _world(Channel())
    world.tell(result())

    assert world.tell_one(result(gateway_ref="gw-2")).ending is Ending.REPEATED
    assert world.tell_one(result(payment_order_no="R-2")).ending is Ending.APPLIED
    assert world.gateway_refs == {}


def test_what_failed_or_is_paid_out_takes_no_id() -> None:
    world = _world(Channel(refs_unique=True))
    world.tell(result(), withdraw(payout_type="card"), recharge(serial_no="R-3"))

    world.tell(result(payment_order_no="R-2", status="failed", gateway_ref="gw-2"))
    assert world.tell_one(result(payment_order_no="W-1")).ending is Ending.APPLIED
    assert world.tell_one(result(payment_order_no="R-3", gateway_ref="gw-2")).ending is Ending.APPLIED


# Too late


@pytest.mark.parametrize("ended", [OrderStatus.EXPIRED, OrderStatus.FAILED, OrderStatus.CANCELLED])
@pytest.mark.parametrize(("days", "late"), [(None, 36_500), (1, 1), (60, 60)])
def test_money_that_comes_long_after_the_end_is_for_an_operator(
    ended: OrderStatus, days: int | None, late: int
) -> None:
    world = _world(Channel(late_credit_max=None if days is None else days * DAY))
    if ended is OrderStatus.FAILED:
        world.tell(result(status="failed"))
    elif ended is OrderStatus.CANCELLED:
        world.tell(cancel())
    world.sweep(NOW + DAY)
    assert world.orders["R-1"].status is ended
    over = world.orders["R-1"].updated_at

    world.now = over + late * DAY + timedelta(microseconds=1)
    if days is not None:
        _refused(world, result("gateway"), Code.RESULT_TOO_LATE)
    world.now = over + late * DAY

    assert world.tell_one(result()).ending is Ending.APPLIED
    assert (world.orders["R-1"].late, world.user().balance_minor) == (True, 10_000)


def test_a_month_is_the_bound_that_nobody_has_set() -> None:
    world = World()
    world.tell(open_account(), recharge(), recharge(serial_no="R-2"), cancel())

    world.now = NOW + 31 * DAY

    _refused(world, result("gateway"), Code.RESULT_TOO_LATE)


def test_of_several_faults_the_first_code_counts() -> None:
    world = _world(UNIQUE)
    world.tell(result(payment_order_no="R-2"), cancel())
    world.now = NOW + 31 * DAY

    _refused(world, result("gateway", amount="1.00"), Code.AMOUNT_MISMATCH)
    _refused(world, result("gateway"), Code.GATEWAY_REF_USED)
    _refused(world, result("gateway", gateway_ref="gw-3"), Code.RESULT_TOO_LATE)


# Another amount


@pytest.mark.parametrize("came", ["99.00", "110.00", "0.01"])
@pytest.mark.parametrize("ended", [None, "failed", "cancelled"])
def test_what_came_is_credited(came: str, ended: str | None) -> None:
    world = _world(ANY)
    if ended == "failed":
        world.tell(result(status="failed"))
    elif ended == "cancelled":
        world.tell(cancel())

    decision = world.tell_one(result("gateway", amount=came))

    order, (event,) = world.orders["R-1"], events(decision)
    minor = round(float(came) * 100)
    assert (order.status, order.received_minor, order.late) == (
        OrderStatus.SUCCEEDED,
        minor,
        ended is not None,
    )
    assert (event["data"]["amount"], event["data"]["received_amount"]) == ("100.00", came)
    assert event["data"]["entries"][0]["amount"] == came
    OrderSucceeded.model_validate(event, strict=False)
    assert world.user().balance_minor == minor
    assert world.accounts[world.lanes[SystemKey(SystemName.CLEARING, "TWD")]].balance_minor == -minor
    assert replies(decision)[0]["processing_status"] == "processed"


def test_the_ordered_amount_has_nothing_beside_it() -> None:
    world = _world(ANY)

    (event,) = events(world.tell_one(result()))

    assert world.orders["R-1"].received_minor is None
    assert "received_amount" not in event["data"]


def test_after_another_amount_that_amount_is_the_repeat() -> None:
    world = _world(ANY)
    world.tell(result(amount="99.00"))

    assert world.tell_one(result(amount="99.00")).ending is Ending.REPEATED
    _refused(world, result("gateway", amount="100.00"), Code.AMOUNT_MISMATCH)
    _refused(world, result("gateway", amount="99.00", gateway_ref="gw-2"), Code.PAID_TWICE)
    _refused(world, result("gateway", amount="50.00", gateway_ref="gw-2"), Code.PAID_TWICE)
    _refused(world, result("gateway", status="failed", amount="1"), Code.CONTRADICTING_RESULT)
    _refused(world, result("gateway", amount="99.00", currency="USD"), Code.CURRENCY_MISMATCH)


@pytest.mark.parametrize("status", ["failed", "unknown"])
def test_what_has_not_come_may_be_of_any_amount(status: str) -> None:
    world = _world(ANY)

    decision = world.tell_one(result(status=status, amount="1.00"))

    assert decision.code is Code.OK
    assert world.orders["R-1"].received_minor is None


def test_more_than_any_amount_is_none() -> None:
    world = _world(ANY)

    _refused(world, result("gateway", amount="9" * 60), Code.AMOUNT_MISMATCH)


@pytest.mark.parametrize("status", ["succeeded", "failed", "unknown"])
def test_where_amounts_are_exact_another_is_none(status: str) -> None:
    world = _world(UNIQUE)

    _refused(world, result("gateway", status=status, amount="99.99"), Code.AMOUNT_MISMATCH)


def test_a_payout_is_always_exact() -> None:
    world = _world(ANY)
    world.tell(result(), withdraw(payout_type="card", amount="50"))

    _refused(world, result("gateway", payment_order_no="W-1", amount="49"), Code.AMOUNT_MISMATCH)


def test_refunds_and_reversals_go_up_to_what_came() -> None:
    world = _world(ANY)
    world.tell(result(amount="60.00"), result(payment_order_no="R-2", gateway_ref="gw-2", amount="140.00"))

    assert world.tell_one(refund(amount="60.01")).code is Code.AMOUNT_EXCEEDS_ORIGINAL
    assert world.tell_one(refund(serial_no="RF-2", amount="60.00")).code is Code.OK
    assert world.tell_one(refund(serial_no="RF-3", original_serial_no="R-2", amount="140.00")).code is Code.OK
    assert world.tell_one(reversal(amount="60.01")).code is Code.AMOUNT_EXCEEDS_ORIGINAL
    (*_, moved) = events(world.tell_one(reversal(amount="60.00", sequence=2)))
    assert moved["data"]["over_returned"] is True


def test_a_late_sum_reaches_a_closed_account_only_into_its_debt() -> None:
    world = _world(ANY)
    world.tell(
        open_account(serial_no="O-2", user_id="u-2"),
        result(payment_order_no="R-2", gateway_ref="gw-2"),
        cancel(),
        transfer(),
        close(serial_no="CL-1"),
        reversal(payment_order_no="R-2"),
    )
    assert (world.user().status, world.user().debt_minor) == ("closed", 10_000)

    _refused(world, result("gateway", amount="100.01"), Code.ACCOUNT_CLOSED)
    assert world.tell_one(result(amount="40.00")).ending is Ending.APPLIED
    assert (world.user().balance_minor, world.user().debt_minor) == (0, 6_000)
