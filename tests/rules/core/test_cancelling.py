"""Cancelling orders, and what the second versions of commands hand on to the gateway."""

from datetime import timedelta
from typing import Any

import pytest

from tests.rules.core.world import (
    NOW,
    World,
    cancel,
    events,
    hold,
    open_account,
    recharge,
    recharge_v2,
    refund,
    replies,
    requests,
    result,
    transfer,
    withdraw,
    withdraw_v2,
)
from wallet_schemas.codes import Code
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType
from wallet_worker.core.context import Policy
from wallet_worker.core.endings import Ending
from wallet_worker.core.senders import Rights, Sender, Senders


def _world() -> World:
    """Return a wallet in which u-1 has 300.00, by R-paid, and u-2 an account."""
    world = World()
    world.tell(
        open_account(),
        open_account(serial_no="O-2", user_id="u-2"),
        recharge(serial_no="R-paid", amount="300"),
        result(payment_order_no="R-paid", amount="300"),
    )
    return world


def test_a_pending_recharge_is_cancelled_at_once_and_the_gateway_is_asked_to_stop() -> None:
    world = _world()
    world.tell(recharge())

    decision = world.tell_one(cancel("upstream"))

    (event,), (request,), (reply,) = events(decision), requests(decision), replies(decision)
    assert (event["type"], event["serial_no"]) == ("order.cancelled.v1", "R-1")
    assert (event["data"]["status"], event["data"]["code"]) == ("cancelled", "PAYMENT_CANCELLED")
    assert (request["kind"], request["payment_order_no"], request["amount"]) == ("cancel", "R-1", "100.00")
    assert (reply["serial_no"], reply["code"]) == ("X-1", "OK")
    assert reply["result"] == {**event["data"], "object": "order"}
    assert world.sweep(NOW + timedelta(days=30)) == []
    assert len({message.message_id for message in decision.outgoing}) == 3


@pytest.mark.parametrize(
    ("status", "code", "becomes"),
    [
        ("succeeded", Code.OK, OrderStatus.SUCCEEDED),
        ("failed", Code.OK, OrderStatus.CANCELLED),
        ("unknown", Code.OK, OrderStatus.CANCELLED),
    ],
)
def test_a_result_of_a_cancelled_recharge(status: str, code: Code, becomes: OrderStatus) -> None:
    world = _world()
    world.tell(recharge(), cancel())

    decision = world.tell_one(result(status=status))

    assert (decision.code, world.orders["R-1"].status) == (code, becomes)
    assert (world.orders["R-1"].late, world.user().balance_minor) == (
        (True, 40_000) if status == "succeeded" else (False, 30_000)
    )


@pytest.mark.parametrize(
    ("made", "number"), [(withdraw(), "W-1"), (refund(original_serial_no="R-paid"), "RF-1")]
)
def test_a_payout_that_is_cancelled_stays_reserved_until_the_gateway_has_answered(
    made: Any, number: str
) -> None:
    world = _world()
    world.tell(made)

    decision = world.tell_one(cancel("upstream", target_serial_no=number))

    assert events(decision) == []
    assert [(request["kind"], request["payment_order_no"]) for request in requests(decision)] == [
        ("cancel", number)
    ]
    (reply,) = replies(decision)
    assert (reply["result"]["status"], reply["result"]["cancelling"]) == ("pending", True)
    assert world.user().available_minor == 20_000
    again = world.tell_one(cancel("upstream", serial_no="X-2", target_serial_no=number))
    assert (again.code, requests(again)) == (Code.OK, [])
    assert [
        request["kind"] for swept in world.sweep(NOW + timedelta(minutes=1)) for request in requests(swept)
    ] == ["status"]
    world.tell(result(payment_order_no=number, status="failed"))
    assert world.user().available_minor == 30_000
    refused = world.tell_one(cancel(serial_no="X-3", target_serial_no=number))
    assert refused.code is Code.ORDER_NOT_CANCELLABLE


@pytest.mark.parametrize(
    ("made", "number"),
    [
        ((), "R-paid"),
        ((recharge(), result(status="failed")), "R-1"),
        ((recharge(), cancel(serial_no="X-0")), "R-1"),
        ((transfer(),), "T-1"),
        ((hold(),), "H-1"),
        ((withdraw(), result(payment_order_no="W-1")), "W-1"),
    ],
)
def test_what_is_not_pending_or_of_another_type_is_not_cancelled(made: tuple[Any, ...], number: str) -> None:
    world = _world()
    world.tell(*made)
    before = dict(world.orders)

    decision = world.tell_one(cancel("upstream", target_serial_no=number))

    assert (decision.ending, decision.code) == (Ending.REFUSED, Code.ORDER_NOT_CANCELLABLE)
    assert world.orders == before


def test_what_was_never_ordered_is_not_cancelled() -> None:
    assert _world().tell_one(cancel()).code is Code.ORDER_NOT_FOUND


def test_an_order_of_a_frozen_account_may_be_cancelled() -> None:
    world = World()
    account = world.with_account(status=AccountStatus.FROZEN)
    world.with_order(OrderStatus.PENDING, account, "R-1", order_type=OrderType.RECHARGE)

    assert world.tell_one(cancel()).code is Code.OK


def test_a_recharge_is_cancelled_in_the_batch_that_opens_its_account() -> None:
    world = World()

    world.tell(open_account(), recharge(), cancel())

    assert world.orders["R-1"].status is OrderStatus.CANCELLED


def test_only_the_sender_of_an_order_may_cancel_it() -> None:
    shop, other = Rights(types=("*",)), Rights(types=("*",))
    world = World(rules=Policy(senders=Senders({"shop": shop, "other": other})))
    world.tell(*(item._replace(sender=Sender("shop")) for item in (open_account(), recharge())))

    by_other = world.tell_one(cancel()._replace(sender=Sender("other")))
    by_shop = world.tell_one(cancel()._replace(sender=Sender("shop")))

    assert (by_other.code, by_shop.code) == (Code.NOT_ALLOWED, Code.OK)


def test_the_second_version_hands_on_what_the_gateway_alone_reads() -> None:
    world = _world()

    charged, paid_out = world.tell_one(recharge_v2("upstream")), world.tell_one(withdraw_v2("upstream"))

    (charge,), (payout,) = requests(charged), requests(paid_out)
    assert (charge["instrument"], charge["return_url"]) == ("pm_7Qd2", "https://shop.example/orders/778")
    assert payout["instrument"] == "ba_51Hx"
    assert "return_url" not in payout
    shown = [event["data"] for decision in (charged, paid_out) for event in events(decision)]
    assert not any({"instrument", "return_url"} & order.keys() for order in shown)
    swept = [
        request for decision in world.sweep(NOW + timedelta(minutes=1)) for request in requests(decision)
    ]
    assert swept
    assert not any("instrument" in request for request in swept)


def test_both_versions_under_one_serial_number_are_a_conflict() -> None:
    world = _world()
    world.tell(recharge())

    (reply,) = replies(world.tell_one(recharge_v2("upstream", instrument=..., return_url=...)))

    assert (reply["code"], reply["different"]) == ("SERIAL_CONFLICT", ["type"])
