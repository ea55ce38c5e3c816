"""What a payment result tells, how long it waits for its order, and when it is let through at all."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.rules.contract import bodies
from tests.rules.core.world import (
    LONG_AGO,
    NOW,
    SIGNED_AT_UNIX,
    World,
    changed,
    command,
    events,
    open_account,
    recharge,
    replies,
    result,
    told,
)
from tests.workers import KEYS
from wallet_schemas.codes import Code
from wallet_schemas.names import WALLET_EVENTS
from wallet_schemas.payments import PaymentResult
from wallet_schemas.signature import sign
from wallet_schemas.values import AccountStatus, OrderStatus, ProcessingStatus
from wallet_worker.core.accounts import SystemKey, SystemName
from wallet_worker.core.endings import Ending
from wallet_worker.core.inbound import InboundMessage, InvalidMessage, Source, read
from wallet_worker.core.ledger import BALANCE_MAX_MINOR
from wallet_worker.core.payment_results import PARK_DELAYS

SAID_AT = "2026-01-02T03:04:05.000006Z"
SAID_NEXT_DAY = "2026-01-03T03:04:05.000006Z"
SAID_LATER = "2026-01-02T03:04:15.000006Z"


def _world() -> World:
    """Return a wallet with a recharge of u-1 that waits for the gateway since ten seconds."""
    world = World()
    world.tell(open_account(), recharge())
    world.outgoing.clear()
    world.now = NOW + timedelta(seconds=10)
    return world


# What is told


def test_a_credit_tells_the_order_with_its_line_and_answers_the_gateway() -> None:
    world = _world()

    decision = world.tell_one(result("gateway"))

    number = world.user().account_no
    assert [(item.exchange, item.routing_key, item.correlation_id, item.body) for item in told(decision)] == [
        (
            WALLET_EVENTS,
            "order.succeeded",
            None,
            {
                "type": "order.succeeded.v1",
                "event_id": str(decision.outgoing[0].message_id),
                "occurred_at": SAID_LATER,
                "serial_no": "R-1",
                "data": {
                    "order_id": str(world.orders["R-1"].order_id),
                    "serial_no": "R-1",
                    "user_id": "u-1",
                    "account_no": number,
                    "account_type": "basic",
                    "order_type": "recharge",
                    "amount": "100.00",
                    "currency": "TWD",
                    "channel": "card",
                    "status": "succeeded",
                    "code": "OK",
                    "transacted_at": SAID_LATER,
                    "created_at": SAID_AT,
                    "updated_at": SAID_LATER,
                    "expires_at": SAID_NEXT_DAY,
                    "entries": [
                        {
                            "account_no": number,
                            "line_no": 1,
                            "serial_no": "R-1",
                            "order_type": "recharge",
                            "direction": "credit",
                            "amount": "100.00",
                            "currency": "TWD",
                            "balance_before": "0.00",
                            "balance_after": "100.00",
                            "created_at": SAID_LATER,
                        }
                    ],
                },
            },
        ),
        (
            "",
            "gateway",
            "c-1",
            {
                "type": "payment.processed.v1",
                "payment_order_no": "R-1",
                "processing_status": "processed",
                "code": "OK",
            },
        ),
    ]


def test_a_failure_tells_the_order_without_entries() -> None:
    world = _world()

    decision = world.tell_one(result(status="failed", reason="card declined"))

    (event,) = events(decision)
    assert event["type"] == "order.failed.v1"
    assert set(event["data"]) == {
        "order_id",
        "serial_no",
        "user_id",
        "account_no",
        "account_type",
        "order_type",
        "amount",
        "currency",
        "status",
        "code",
        "transacted_at",
        "created_at",
        "updated_at",
        "channel",
        "expires_at",
        "failure_reason",
    }
    assert (event["data"]["status"], event["data"]["transacted_at"]) == ("failed", None)


def test_late_money_is_told_as_late_and_stays_so() -> None:
    world = _world()
    world.tell(result(status="failed"))

    decision = world.tell_one(result())
    world.tell(result(status="unknown"), result())

    assert events(decision)[0]["data"]["late"] is True
    assert world.orders["R-1"].late
    assert world.user().balance_minor == 10_000


def test_the_contra_entry_lowers_the_clearing_account_and_is_not_told() -> None:
    world = _world()

    decision = world.tell_one(result())

    lane = world.accounts[world.lanes[SystemKey(SystemName.CLEARING, "TWD")]]
    assert (lane.balance_minor, lane.line_no) == (-10_000, 1)
    assert [event["account_no"] for event in events(decision)[0]["data"]["entries"]] == [
        world.user().account_no
    ]


def test_an_amount_may_be_spelt_otherwise_than_in_the_request() -> None:
    world = _world()

    assert world.tell_one(result(amount="100")).ending is Ending.APPLIED


# What was received is remembered, the first of each


def test_each_different_result_is_remembered_with_what_came_of_it_the_first_time() -> None:
    world = _world()

    world.tell(
        result(gateway_ref="gw-1"),
        result(gateway_ref="gw-1"),
        result(gateway_ref="gw-2"),
        result(status="failed"),
        result(amount="1"),
    )

    assert [(receipt.processing, receipt.code) for receipt in world.receipts.values()] == [
        (ProcessingStatus.PROCESSED, Code.OK),
        (ProcessingStatus.DUPLICATE, Code.OK),
        (ProcessingStatus.REFUSED, Code.CONTRADICTING_RESULT),
        (ProcessingStatus.REFUSED, Code.AMOUNT_MISMATCH),
    ]


def test_the_whole_way_of_an_order_in_one_batch() -> None:
    world = World()

    decisions = world.tell(open_account(), recharge(), result(), recharge(), result())

    assert [decision.ending for decision in decisions] == [
        Ending.APPLIED,
        Ending.APPLIED,
        Ending.APPLIED,
        Ending.REPEATED,
        Ending.REPEATED,
    ]
    assert world.user().balance_minor == 10_000


def test_what_would_overflow_a_balance_is_a_dead_letter() -> None:
    world = World()
    account = world.with_account(balance_minor=BALANCE_MAX_MINOR - 9_999)
    before = world.with_order(OrderStatus.PENDING, account)

    decision = world.tell_one(result("gateway"))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.AMOUNT_OUT_OF_RANGE)
    assert replies(decision)[0]["processing_status"] == "refused"
    assert world.orders["R-1"] == before
    assert world.user() == account


def test_money_for_an_old_account_does_not_go_to_the_newest() -> None:
    world = World()
    old = world.with_account()
    world.with_order(OrderStatus.PENDING, old)
    world.accounts[old.account_id] = replace(old, status=AccountStatus.CLOSED)
    world.tell(open_account())

    decision = world.tell_one(result())

    assert decision.code is Code.ACCOUNT_CLOSED
    assert world.user().balance_minor == 0


# Times


def _ordered_before_the_clock_went_back() -> World:
    """Return a wallet whose clock is an hour before the order, and whose account has not moved for long."""
    world = World()
    order = world.with_order(OrderStatus.PENDING, world.with_account())
    world.orders["R-1"] = replace(order, created_at=NOW, updated_at=NOW)
    world.now = NOW - timedelta(hours=1)
    return world


def test_a_clock_that_went_back_does_not_put_money_before_its_order() -> None:
    world = _ordered_before_the_clock_went_back()

    world.tell(result())

    order = world.orders["R-1"]
    assert order.transacted_at == order.updated_at == NOW
    assert {entry.created_at for entry in world.entries} == {NOW}


def test_a_clock_that_went_back_does_not_put_a_failure_before_its_order() -> None:
    world = _ordered_before_the_clock_went_back()

    world.tell(result(status="failed"))

    assert world.orders["R-1"].updated_at == NOW


def test_money_moved_when_its_line_says() -> None:
    world = World()
    account = replace(world.with_account(), updated_at=NOW + timedelta(hours=1))
    world.accounts[account.account_id] = account
    world.with_order(OrderStatus.PENDING, account)

    world.tell(result())

    assert world.orders["R-1"].transacted_at == world.user().updated_at == NOW + timedelta(hours=1)


# A result without its order


def test_a_result_without_an_order_waits_5_s_then_30_s_then_5_min_and_is_a_dead_letter_then() -> None:
    world = World()

    waits, at = [], NOW
    decision = world.tell_one(result("gateway"))
    while decision.ending is Ending.PARKED:
        assert decision.due_at is not None
        assert (decision.code, decision.outgoing, decision.receipt) == (Code.ORDER_NOT_FOUND, (), None)
        waits.append(decision.due_at - at)
        assert world.sweep(decision.due_at - timedelta(microseconds=1)) == []
        at = decision.due_at
        (decision,) = world.sweep(at)

    assert waits == [timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5)] == list(PARK_DELAYS)
    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.ORDER_NOT_FOUND)
    assert replies(decision) == [
        {
            "type": "payment.processed.v1",
            "payment_order_no": "R-1",
            "processing_status": "refused",
            "code": "ORDER_NOT_FOUND",
        }
    ]
    assert world.parked == []


def test_a_result_that_came_before_its_order_is_applied_after_it() -> None:
    world = World()
    world.tell(result(), open_account(), recharge())

    (decision,) = world.sweep(NOW)

    assert decision.ending is Ending.APPLIED
    assert world.user().balance_minor == 10_000


def test_a_result_for_a_command_that_was_refused_finds_no_order() -> None:
    world = World()
    world.tell(recharge())

    assert world.tell_one(result()).ending is Ending.PARKED


# Who signed it


@pytest.mark.parametrize(
    "arrived",
    [
        result("gateway", keys={}),
        result("gateway", keys={"k1": "guessed"}),
        result("gateway", keys={"k-stranger": KEYS["k1"]}),
        result("gateway")._replace(body=changed(bodies.RESULT, {"amount": "999"})),
        result("gateway")._replace(signature=b"t=1,kid=k1,v1=00"),
        result("gateway")._replace(signature=17),
    ],
)
def test_what_the_gateway_did_not_sign_moves_nothing(arrived: InboundMessage) -> None:
    world = _world()
    before = dict(world.orders)

    decision = world.tell_one(arrived)

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.BAD_SIGNATURE)
    assert replies(decision) == [
        {
            "type": "payment.processed.v1",
            "payment_order_no": "R-1",
            "processing_status": "refused",
            "code": "BAD_SIGNATURE",
        }
    ]
    assert decision.receipt is None
    assert world.orders == before
    assert world.entries == []


def test_without_keys_every_result_is_refused() -> None:
    read_as = read(result(), {})

    assert isinstance(read_as, InvalidMessage)
    assert read_as.code is Code.BAD_SIGNATURE


def test_either_of_two_keys_is_good_while_they_rotate() -> None:
    keys = {"new": "n", "old": "o"}
    body = changed(bodies.RESULT, {})

    for signing in (["new"], ["old"], ["new", "old"]):
        header = sign(body, keys, SIGNED_AT_UNIX, key_ids=signing)
        message = read(InboundMessage(Source.RESULTS, body, signature=header), {"old": "o"})
        assert isinstance(message, PaymentResult) == ("old" in signing)


def test_a_signature_has_no_age_limit() -> None:
    body = changed(bodies.RESULT, {})
    old = InboundMessage(Source.RESULTS, body, signature=sign(body, KEYS, int(LONG_AGO.timestamp())))

    assert not isinstance(read(old, KEYS), InvalidMessage)


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b'{"payment_order_no": ""}'])
def test_what_has_no_order_number_cannot_be_answered(body: bytes) -> None:
    decision = World().tell_one(InboundMessage(Source.RESULTS, body, reply_to="gateway"))

    assert (decision.ending, decision.code, decision.outgoing) == (Ending.REJECTED, Code.MALFORMED, ())


def _good(message: InboundMessage, source: Source) -> Any:
    return message._replace(source=source)


@pytest.mark.parametrize(
    "arrived",
    [
        _good(result("somebody"), Source.COMMANDS),
        _good(recharge("somebody"), Source.RESULTS),
        command(changed(bodies.GET_ACCOUNT, {}), "somebody"),
    ],
)
def test_a_type_of_another_queue_is_not_taken(arrived: InboundMessage) -> None:
    decision = _world().tell_one(arrived)

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.UNSUPPORTED_TYPE)
    # On the queue of results, its number is of another kind: nobody can be told what it is about.
    assert [(reply["serial_no"], reply["code"]) for reply in replies(decision)] == (
        [] if arrived.source is Source.RESULTS else [(None, "UNSUPPORTED_TYPE")]
    )
