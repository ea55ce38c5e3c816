"""What the world is told of every type of order: the fields of docs/contract.md, section 7."""

from datetime import timedelta

import pytest

from tests.rules.contract.bodies import JsonObject
from tests.rules.core.world import (
    NOW,
    World,
    capture,
    events,
    hold,
    open_account,
    recharge,
    refund,
    release,
    replies,
    requests,
    result,
    told,
    transfer,
    withdraw,
)
from wallet_schemas.names import PAYMENT_REQUESTS, WALLET_EVENTS
from wallet_worker.core.changes import Decision

SAID_AT = "2026-01-02T03:04:05.000006Z"
SAID_IN_AN_HOUR = "2026-01-02T04:04:05.000006Z"


def _world() -> World:
    """Return a wallet in which u-1 has 300.00, by R-1, and u-2 an account."""
    world = World()
    world.tell(
        open_account(),
        open_account(serial_no="O-2", user_id="u-2"),
        recharge(amount="300"),
        result(amount="300"),
    )
    world.outgoing.clear()
    return world


def _order(world: World, serial_no: str, **fields: object) -> JsonObject:
    """Return what every order of u-1 says, and what this one says besides."""
    return {
        "order_id": str(world.orders[serial_no].order_id),
        "serial_no": serial_no,
        "user_id": "u-1",
        "account_no": world.user().account_no,
        "account_type": "basic",
        "order_type": world.orders[serial_no].order_type,
        "amount": "100.00",
        "currency": "TWD",
        "status": "succeeded",
        "code": "OK",
        "transacted_at": None,
        "created_at": SAID_AT,
        "updated_at": SAID_AT,
        **fields,
    }


SERIAL_NOS = {"withdraw": "W-1", "transfer": "T-1", "capture": "C-1"}


def _line(world: World, user_id: str, line_no: int, order_type: str, before: str, after: str) -> JsonObject:
    return {
        "account_no": world.user(user_id).account_no,
        "line_no": line_no,
        "serial_no": SERIAL_NOS[order_type],
        "order_type": order_type,
        "direction": "credit" if float(after) > float(before) else "debit",
        "amount": "100.00",
        "currency": "TWD",
        "balance_before": before,
        "balance_after": after,
        "created_at": SAID_AT,
    }


def _events_of(decision: Decision) -> list[tuple[str, str, object]]:
    """Return the events as type, serial number and data."""
    return [(event["type"], event["serial_no"], event["data"]) for event in events(decision)]


def _result(decision: Decision) -> JsonObject:
    (reply,) = replies(decision)
    assert (reply["status"], reply["code"]) == ("applied", "OK")
    found: JsonObject = dict(reply["result"])
    assert found.pop("object") == "order"
    return found


def test_a_withdrawal_tells_the_order_and_asks_the_gateway_to_pay() -> None:
    world = _world()

    decision = world.tell_one(withdraw("upstream"))

    order = _order(world, "W-1", status="pending", channel="bank_transfer")
    assert _events_of(decision) == [("order.pending.v1", "W-1", order)]
    assert _result(decision) == order
    assert requests(decision) == [
        {
            "type": "payment.request.v1",
            "payment_order_no": "W-1",
            "kind": "payout",
            "amount": "100.00",
            "currency": "TWD",
            "channel": "bank_transfer",
            "requested_at": SAID_AT,
            "expires_at": None,
            "user_id": "u-1",
            "account_no": world.user().account_no,
        }
    ]
    assert [item.exchange for item in told(decision)] == [WALLET_EVENTS, PAYMENT_REQUESTS, ""]


@pytest.mark.parametrize("sentence", ["succeeded", "failed"])
def test_the_end_of_a_withdrawal_tells_its_line_if_money_has_moved(sentence: str) -> None:
    world = _world()
    world.tell(withdraw())

    decision = world.tell_one(result(payment_order_no="W-1", status=sentence))

    order = _order(world, "W-1", status=sentence, channel="bank_transfer")
    if sentence == "failed":
        order |= {"code": "PAYMENT_FAILED"}
    if sentence == "succeeded":
        line = _line(world, "u-1", 2, "withdraw", "300.00", "200.00")
        order |= {"transacted_at": SAID_AT, "entries": [line]}
    assert _events_of(decision) == [(f"order.{sentence}.v1", "W-1", order)]


def test_a_refund_names_the_recharge_and_goes_back_the_way_it_came() -> None:
    world = _world()

    decision = world.tell_one(refund("upstream"))

    order = _order(world, "RF-1", status="pending", original_serial_no="R-1", channel="card")
    assert _events_of(decision) == [("order.pending.v1", "RF-1", order)]
    assert _result(decision) == order
    assert [
        (request["kind"], request["channel"], request["expires_at"]) for request in requests(decision)
    ] == [("refund", "card", None)]
    (request,) = requests(decision)
    assert (request["original_payment_order_no"], request["original_gateway_ref"]) == ("R-1", "gw-1")


def test_a_transfer_tells_both_users_lines_and_who_was_paid() -> None:
    world = _world()

    decision = world.tell_one(transfer("upstream"))

    order = _order(
        world,
        "T-1",
        transacted_at=SAID_AT,
        to_user_id="u-2",
        to_account_no=world.user("u-2").account_no,
    )
    lines = [
        _line(world, "u-1", 2, "transfer", "300.00", "200.00"),
        _line(world, "u-2", 1, "transfer", "0.00", "100.00"),
    ]
    assert _events_of(decision) == [("order.succeeded.v1", "T-1", {**order, "entries": lines})]
    assert _result(decision) == order
    assert requests(decision) == []


def test_a_hold_tells_what_is_left_of_it_and_until_when() -> None:
    world = _world()

    decision = world.tell_one(hold("upstream"))

    order = _order(world, "H-1", status="active", remaining="100.00", expires_at=SAID_IN_AN_HOUR)
    assert _events_of(decision) == [("order.active.v1", "H-1", order)]
    assert _result(decision) == order
    assert requests(decision) == []


def test_a_capture_of_a_part_tells_its_own_order_and_not_the_hold() -> None:
    world = _world()
    world.tell(hold(amount="150"))

    decision = world.tell_one(capture("upstream"))

    order = _order(
        world,
        "C-1",
        transacted_at=SAID_AT,
        hold_serial_no="H-1",
        to_user_id="u-2",
        to_account_no=world.user("u-2").account_no,
    )
    lines = [
        _line(world, "u-1", 2, "capture", "300.00", "200.00"),
        _line(world, "u-2", 1, "capture", "0.00", "100.00"),
    ]
    assert _events_of(decision) == [("order.succeeded.v1", "C-1", {**order, "entries": lines})]
    assert _result(decision) == order


def test_a_capture_of_the_rest_tells_the_hold_s_end_too() -> None:
    world = _world()
    world.tell(hold())

    decision = world.tell_one(capture("upstream"))

    held = _order(world, "H-1", status="captured", remaining="0.00", expires_at=SAID_IN_AN_HOUR)
    assert [item[:2] for item in _events_of(decision)] == [
        ("order.succeeded.v1", "C-1"),
        ("order.captured.v1", "H-1"),
    ]
    assert _events_of(decision)[1][2] == held
    assert len({item.message_id for item in decision.outgoing}) == 3


def test_a_release_tells_what_came_back_and_the_hold_s_end() -> None:
    world = _world()
    world.tell(hold(), capture(amount="40"))

    decision = world.tell_one(release("upstream"))

    order = _order(world, "L-1", amount="60.00", hold_serial_no="H-1")
    held = _order(world, "H-1", status="released", remaining="0.00", expires_at=SAID_IN_AN_HOUR)
    assert _events_of(decision) == [("order.succeeded.v1", "L-1", order), ("order.released.v1", "H-1", held)]
    assert _result(decision) == order
    assert len({item.message_id for item in decision.outgoing}) == 3


def test_a_hold_that_expires_tells_that_nothing_is_left_of_it() -> None:
    world = _world()
    world.tell(hold())

    (decision,) = world.sweep(NOW + timedelta(hours=1))

    held = _order(
        world,
        "H-1",
        status="expired",
        remaining="0.00",
        expires_at=SAID_IN_AN_HOUR,
        updated_at=SAID_IN_AN_HOUR,
    )
    assert _events_of(decision) == [("order.expired.v1", "H-1", held)]
    assert requests(decision) == []


def test_a_recharge_that_expires_and_is_paid_after_all_says_late() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"))

    expired = world.sweep(NOW + timedelta(days=1))
    paid = world.tell_one(result(payment_order_no="R-2"))

    ((_, _, at_first),) = [item for decision in expired for item in _events_of(decision)]
    ((_, _, later),) = _events_of(paid)
    assert isinstance(at_first, dict)
    assert isinstance(later, dict)
    assert ("late" in at_first, later["late"]) == (False, True)
    assert (at_first["status"], at_first["transacted_at"]) == ("expired", None)
    assert at_first["expires_at"] == later["expires_at"] == "2026-01-03T03:04:05.000006Z"


def test_a_repeat_tells_the_order_as_it_was_when_it_was_asked_for() -> None:
    world = _world()
    first = _result(world.tell_one(hold("upstream")))
    world.tell(release())

    (reply,) = replies(world.tell_one(hold("upstream")))

    assert (reply["duplicate"], reply["result"]) == (True, {"object": "order", **first})


NOTES = {"cart": "C-778", "note": "\u8349\u8393"}


def test_metadata_is_echoed_in_events_and_payment_requests_and_not_in_the_outcome() -> None:
    world = _world()

    decisions = [
        world.tell_one(withdraw("upstream", metadata=NOTES)),
        world.tell_one(result(payment_order_no="W-1")),
        world.tell_one(transfer("upstream", metadata=NOTES, amount="1")),
        world.tell_one(hold("upstream", metadata=NOTES, amount="1")),
        world.tell_one(release("upstream", metadata=NOTES)),
    ]

    told_orders = [event["data"] for decision in decisions for event in events(decision)]
    assert [order.get("metadata") for order in told_orders] == [NOTES] * 6
    assert [request["metadata"] for request in requests(decisions[0])] == [NOTES]
    asked = world.tell_one(recharge("upstream", serial_no="R-2", metadata=NOTES))
    (reply,) = replies(asked)
    assert "metadata" not in reply["result"]
    swept = [
        request for decision in world.sweep(NOW + timedelta(minutes=1)) for request in requests(decision)
    ]
    assert [(request["kind"], request["metadata"]) for request in swept] == [("status", NOTES)]


def test_empty_metadata_is_none() -> None:
    decision = _world().tell_one(withdraw(metadata={}))

    assert all("metadata" not in message for message in (*requests(decision), events(decision)[0]["data"]))


def test_a_failed_payment_says_so_with_the_gateway_s_words_until_the_money_comes_after_all() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"))

    failed = world.tell_one(
        result(payment_order_no="R-2", status="failed", reason="x" * 600, reason_code="card_declined")
    )
    paid = world.tell_one(result(payment_order_no="R-2", gateway_ref="gw-9"))

    (at_first,), (later,) = ([event["data"] for event in events(each)] for each in (failed, paid))
    assert (at_first["code"], at_first["failure_code"], at_first["failure_reason"]) == (
        "PAYMENT_FAILED",
        "card_declined",
        "x" * 500,
    )
    assert (later["code"], later["late"]) == ("OK", True)
    assert not {"failure_code", "failure_reason"} & later.keys()
    assert world.orders["R-2"].gateway_ref == "gw-9"


def test_an_expired_payment_says_so_and_an_expired_hold_is_no_payment() -> None:
    world = _world()
    world.tell(recharge(serial_no="R-2"), hold(amount="1"))

    told_codes = {
        event["serial_no"]: event["data"]["code"]
        for decision in world.sweep(NOW + timedelta(days=1))
        for event in events(decision)
    }

    assert told_codes == {"R-2": "PAYMENT_EXPIRED", "H-1": "OK"}
