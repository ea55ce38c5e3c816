"""What a deployment limits: amounts, days and balances, counted within a batch in order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

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
    replies,
    result,
    transfer,
    withdraw,
)
from wallet_schemas.codes import Code
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType
from wallet_worker.core.context import Policy
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.limits import ANY_TYPE, AccountLimits, Limits, OrderLimits
from wallet_worker.core.senders import Rights, Sender, Senders

OK, TOO_MUCH = Code.OK, Code.LIMIT_EXCEEDED


def _world(
    *,
    zone: str = "UTC",
    account_type: str = "basic",
    currency: str = "TWD",
    balance_max_minor: int | None = None,
    balance_minor: int = 1_000_000,
    **orders: OrderLimits,
) -> World:
    """Return a wallet with limits, in which u-1 has money of a currency and u-2 an account."""
    limits = AccountLimits(balance_max_minor, {OrderType(name): order for name, order in orders.items()})
    world = World(rules=Policy(limits=Limits({(account_type, currency): limits}, ZoneInfo(zone))))
    world.with_account(balance_minor=balance_minor, currency=currency)
    world.with_account(user_id="u-2", currency=currency)
    return world


def _codes(world: World, *arrived: InboundMessage) -> list[Code]:
    return [item.code for item in world.tell(*arrived)]


# One order

MESSAGES: dict[OrderType, InboundMessage] = {
    OrderType.RECHARGE: recharge(serial_no="S-1", amount="100"),
    OrderType.WITHDRAW: withdraw(serial_no="S-1", amount="100"),
    OrderType.TRANSFER: transfer(serial_no="S-1", amount="100"),
    OrderType.REFUND: refund(serial_no="S-1", original_serial_no="R-paid", amount="100"),
    OrderType.HOLD: hold(serial_no="S-1", amount="100"),
    OrderType.CAPTURE: capture(serial_no="S-1", hold_serial_no="H-held", amount="100"),
}


@pytest.mark.parametrize("order_type", MESSAGES)
@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        (OrderLimits(), None),
        (OrderLimits(10_000, 10_000, 10_000), None),
        (OrderLimits(amount_min_minor=10_001), "is at least 100.01 TWD"),
        (OrderLimits(amount_max_minor=9_999), "is at most 99.99 TWD"),
        (OrderLimits(day_max_minor=9_999), "orders of a day are at most 99.99 TWD"),
        (OrderLimits(10_001, 9_999, 9_999), "is at least 100.01 TWD"),
        (OrderLimits(0, 0, 0), "is at most 0.00 TWD"),
    ],
)
def test_an_order_of_every_type_is_held_to_its_limits_and_told_which(
    order_type: OrderType, limits: OrderLimits, answer: str | None
) -> None:
    only: dict[str, Any] = {order_type.value: limits}
    world = _world(**only)
    world.with_order(OrderStatus.SUCCEEDED, world.user(), "R-paid")
    world.with_order(OrderStatus.ACTIVE, world.user(), "H-held", order_type=OrderType.HOLD)

    decision = world.tell_one(MESSAGES[order_type])

    assert decision.code is (TOO_MUCH if answer else OK)
    if answer:
        assert answer in decision.detail
        assert order_type.value in decision.detail


@pytest.mark.parametrize(
    ("limits", "details"),
    [
        (OrderLimits(amount_min_minor=10_001), {"limit": "amount_min", "allowed": "100.01"}),
        (OrderLimits(amount_max_minor=9_999), {"limit": "amount_max", "allowed": "99.99"}),
        (OrderLimits(day_max_minor=12_999), {"limit": "day_max", "allowed": "129.99", "left": "29.99"}),
        (OrderLimits(day_max_minor=9_999), {"limit": "day_max", "allowed": "99.99", "left": "0.00"}),
    ],
)
def test_a_refusal_says_which_limit_and_what_is_left_of_it(
    limits: OrderLimits, details: dict[str, str]
) -> None:
    world = _world()
    world.tell(withdraw(amount="100"))
    world.rules = Policy(limits=Limits({("basic", "TWD"): AccountLimits(None, {OrderType.WITHDRAW: limits})}))

    (reply,) = replies(world.tell_one(withdraw("upstream", serial_no="W-2", amount="100")))

    assert (reply["code"], reply["details"]) == ("LIMIT_EXCEEDED", details)


@pytest.mark.parametrize(
    ("senders", "is_told"),
    [
        (None, True),
        (Rights(types=("order.*",)), False),
        (Rights(types=("order.*",), users="u-"), True),
        (Rights(types=("order.*",), queries=("account.get",)), True),
    ],
)
def test_what_is_available_is_told_to_whoever_acts_for_the_user(
    senders: Rights | None, *, is_told: bool
) -> None:
    world = World(rules=Policy(senders=None if senders is None else Senders({"shop": senders})))
    world.with_account(balance_minor=4_000)

    (reply,) = replies(world.tell_one(withdraw("upstream", amount="40.01")._replace(sender=Sender("shop"))))

    assert reply["code"] == "INSUFFICIENT_BALANCE"
    assert reply.get("details") == ({"available": "40.00"} if is_told else None)


def test_what_a_payee_may_still_receive_is_told_only_to_whoever_acts_for_the_payee() -> None:
    world = _world(balance_max_minor=1_000_000, balance_minor=999_000)
    (reply,) = replies(world.tell_one(recharge("upstream", amount="100")))
    assert reply["details"] == {"limit": "balance_max", "allowed": "10000.00", "left": "10.00"}

    shop = Senders({"shop": Rights(types=("order.*",), users="u-2")})
    world.rules = replace(world.rules, senders=shop)
    paying = transfer("upstream", user_id="u-2", to_user_id="u-1", amount="100")._replace(
        sender=Sender("shop")
    )
    (reply,) = replies(world.tell_one(paying))

    assert reply["details"] == {"limit": "balance_max", "allowed": "10000.00"}


def test_letting_a_hold_go_is_never_too_much() -> None:
    world = _world(release=OrderLimits(day_max_minor=0, amount_max_minor=0))
    world.with_order(OrderStatus.ACTIVE, world.user(), "H-1", order_type=OrderType.HOLD)

    assert _codes(world, release()) == [OK]


@pytest.mark.parametrize(
    ("currency", "most", "fits", "too_much", "sentence"),
    [
        ("TWD", 10_050, "100.50", "100.51", "100.50 TWD"),
        ("JPY", 100, "100", "101", "100 JPY"),
        ("KWD", 1_005, "1.005", "1.006", "1.005 KWD"),
    ],
)
def test_limits_have_the_digits_of_their_currency(
    currency: str, most: int, fits: str, too_much: str, sentence: str
) -> None:
    world = _world(currency=currency, withdraw=OrderLimits(amount_max_minor=most))

    first, other = world.tell(
        withdraw(currency=currency, amount=fits),
        withdraw(serial_no="W-2", currency=currency, amount=too_much),
    )

    assert (first.code, other.code) == (OK, TOO_MUCH)
    assert sentence in other.detail


# Whose limits

OF_ALL = AccountLimits(orders={OrderType.WITHDRAW: OrderLimits(amount_max_minor=100)})
OF_BASIC = AccountLimits(orders={OrderType.WITHDRAW: OrderLimits(amount_max_minor=200)})


@pytest.mark.parametrize(
    ("limits", "amount", "code"),
    [
        ({}, "9999", OK),
        ({(ANY_TYPE, "TWD"): OF_ALL}, "1.01", TOO_MUCH),
        ({(ANY_TYPE, "USD"): OF_ALL}, "1.01", OK),
        ({("bonus", "TWD"): OF_ALL}, "1.01", TOO_MUCH),  # there are limits, and none for its type
        ({("bonus", "TWD"): OF_ALL, ("basic", "USD"): OF_ALL}, "1.01", OK),
        ({(ANY_TYPE, "TWD"): OF_ALL, ("basic", "TWD"): OF_BASIC}, "2.00", OK),
        ({(ANY_TYPE, "TWD"): OF_ALL, ("basic", "TWD"): OF_BASIC}, "2.01", TOO_MUCH),
        # Limits of its own are all that a type has: nothing is taken from those of any type.
        ({(ANY_TYPE, "TWD"): OF_ALL, ("basic", "TWD"): AccountLimits()}, "9999", OK),
    ],
)
def test_a_type_of_account_has_its_own_limits_or_else_those_of_any_type(
    limits: dict[tuple[str, str], AccountLimits], amount: str, code: Code
) -> None:
    world = World(rules=Policy(limits=Limits(limits)))
    world.with_account(balance_minor=1_000_000)

    assert _codes(world, withdraw(amount=amount)) == [code]


def test_what_one_user_has_spent_is_nothing_to_another() -> None:
    world = _world(withdraw=OrderLimits(day_max_minor=10_000))
    world.with_account(user_id="u-3", balance_minor=50_000)

    assert _codes(
        world, withdraw(), withdraw(serial_no="W-2", user_id="u-3"), withdraw(serial_no="W-3", amount="0.01")
    ) == [OK, OK, TOO_MUCH]


# The sum of a day

BY_HUNDREDS = [withdraw(serial_no=f"W-{number}") for number in range(4)]


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_the_orders_of_a_day_are_summed_up_in_order(is_one_batch: bool) -> None:  # noqa: FBT001
    world = _world(withdraw=OrderLimits(day_max_minor=25_000))
    arrived = [
        *BY_HUNDREDS,
        withdraw(serial_no="W-9", amount="50"),
        withdraw(serial_no="W-10", amount="0.01"),
    ]

    decisions = world.tell(*arrived) if is_one_batch else world.tell_each(*arrived)

    assert [decision.code for decision in decisions] == [OK, OK, TOO_MUCH, TOO_MUCH, OK, TOO_MUCH]
    assert world.user().reserved_minor == 25_000


@pytest.mark.parametrize("is_one_batch", [True, False])
def test_an_order_that_fails_gives_its_part_of_the_day_back(is_one_batch: bool) -> None:  # noqa: FBT001
    world = _world(withdraw=OrderLimits(day_max_minor=10_000))
    arrived = [
        withdraw(serial_no="W-1"),
        withdraw(serial_no="W-2"),
        result(payment_order_no="W-1", status="failed"),
        withdraw(serial_no="W-3"),
        result(payment_order_no="W-3"),
        withdraw(serial_no="W-4"),
    ]

    decisions = world.tell(*arrived) if is_one_batch else world.tell_each(*arrived)

    assert [decision.code for decision in decisions] == [OK, TOO_MUCH, OK, OK, OK, TOO_MUCH]


def test_a_recharge_that_fails_gives_its_part_back_and_takes_it_again_when_the_money_comes_late() -> None:
    world = _world(recharge=OrderLimits(day_max_minor=10_000))

    assert _codes(
        world,
        recharge(),
        result(status="failed"),
        recharge(serial_no="R-2", amount="40"),
        result(),  # there it is after all: credited, whatever the limit says
        recharge(serial_no="R-3", amount="0.01"),
    ) == [OK, OK, OK, OK, TOO_MUCH]
    assert world.orders["R-1"].late


def test_a_hold_that_is_let_go_or_expires_gives_its_part_of_the_day_back() -> None:
    world = _world(hold=OrderLimits(day_max_minor=10_000))

    assert _codes(world, hold(), hold(serial_no="H-2"), release(), hold(serial_no="H-3")) == [
        OK,
        TOO_MUCH,
        OK,
        OK,
    ]
    world.sweep(NOW + timedelta(hours=1))
    assert _codes(world, hold(serial_no="H-4"), capture(hold_serial_no="H-4"), hold(serial_no="H-5")) == [
        OK,
        OK,
        TOO_MUCH,  # what was captured has come to something
    ]


def test_each_type_of_order_has_a_sum_of_its_own() -> None:
    first = OrderLimits(day_max_minor=10_000)
    world = _world(withdraw=first, transfer=first, hold=first, recharge=first)

    assert _codes(world, withdraw(), transfer(), hold(), recharge(), withdraw(serial_no="W-2")) == [
        OK,
        OK,
        OK,
        OK,
        TOO_MUCH,
    ]


def test_an_account_that_was_opened_in_the_batch_is_counted_too() -> None:
    limits = {("basic", "TWD"): AccountLimits(orders={OrderType.RECHARGE: OrderLimits(day_max_minor=10_000)})}
    world = World(rules=Policy(limits=Limits(limits)))

    assert _codes(world, open_account(), recharge(), recharge(serial_no="R-2")) == [OK, OK, TOO_MUCH]


# When a day begins


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("zone", "last", "first"),
    [
        ("UTC", "2026-01-02T23:59:59.999999Z", "2026-01-03T00:00:00Z"),
        ("Asia/Taipei", "2026-01-02T15:59:59.999999Z", "2026-01-02T16:00:00Z"),
        ("America/New_York", "2026-01-03T04:59:59.999999Z", "2026-01-03T05:00:00Z"),
        # The day on which the clocks go forward begins in winter time, the next one an hour earlier.
        ("Europe/Berlin", "2026-03-28T22:59:59.999999Z", "2026-03-28T23:00:00Z"),
        ("Europe/Berlin", "2026-03-29T21:59:59.999999Z", "2026-03-29T22:00:00Z"),
        # And the other way about.
        ("Europe/Berlin", "2026-10-24T21:59:59.999999Z", "2026-10-24T22:00:00Z"),
        ("Europe/Berlin", "2026-10-25T22:59:59.999999Z", "2026-10-25T23:00:00Z"),
        # Midnight itself is left out: the day begins at one o'clock.
        ("America/Sao_Paulo", "2018-11-04T02:59:59.999999Z", "2018-11-04T03:00:00Z"),
        # And midnight comes twice: the day begins with the first.
        ("America/Havana", "2026-11-01T03:59:59.999999Z", "2026-11-01T04:00:00Z"),
    ],
)
def test_a_day_begins_at_midnight_of_the_time_zone(zone: str, last: str, first: str) -> None:
    limits = Limits(time_zone=ZoneInfo(zone))

    assert limits.day_start(_at(first)) == _at(first)
    assert limits.day_start(_at(first) + timedelta(hours=22)) == _at(first)
    assert limits.day_start(_at(last)) < _at(last) - timedelta(hours=22)


@pytest.mark.parametrize(
    ("moments", "codes"),
    [
        # Taipei is eight hours ahead: a day there ends at 16:00 UTC, and UTC's midnight is no end of anything.
        (["2026-01-02T15:59:59Z", "2026-01-02T16:00:00Z"], [OK, OK]),
        (["2026-01-02T16:00:00Z", "2026-01-03T15:59:59Z"], [OK, TOO_MUCH]),
        (["2026-01-02T23:59:59Z", "2026-01-03T00:00:00Z"], [OK, TOO_MUCH]),
    ],
)
def test_the_sum_begins_anew_at_midnight_of_the_time_zone(moments: list[str], codes: list[Code]) -> None:
    world = _world(zone="Asia/Taipei", withdraw=OrderLimits(day_max_minor=10_000))
    found = []
    for number, moment in enumerate(moments):
        world.now = _at(moment)
        found += _codes(world, withdraw(serial_no=f"W-{number}"))

    assert found == codes


def test_what_fails_on_the_day_after_gives_nothing_back_of_that_day() -> None:
    world = _world(withdraw=OrderLimits(day_max_minor=10_000))
    world.tell(withdraw(serial_no="W-1"))
    world.now = NOW + timedelta(days=1)

    assert _codes(
        world,
        withdraw(serial_no="W-2"),
        result(payment_order_no="W-1", status="failed"),
        withdraw(serial_no="W-3", amount="0.01"),
    ) == [OK, OK, TOO_MUCH]


# How much an account may hold


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (recharge(amount="50.00"), OK),
        (recharge(amount="50.01"), TOO_MUCH),
        (transfer(user_id="u-9", to_user_id="u-1", amount="50.00"), OK),
        (transfer(user_id="u-9", to_user_id="u-1", amount="50.01"), TOO_MUCH),
        (capture(hold_serial_no="H-9", to_user_id="u-1", amount="50.00"), OK),
        (capture(hold_serial_no="H-9", to_user_id="u-1", amount="50.01"), TOO_MUCH),
    ],
)
def test_nobody_is_paid_more_than_the_account_may_hold(message: InboundMessage, code: Code) -> None:
    world = _world(balance_max_minor=15_000, balance_minor=10_000)
    payer = world.with_account(user_id="u-9", balance_minor=50_000)
    world.with_order(OrderStatus.ACTIVE, payer, "H-9", "100.00", OrderType.HOLD)

    decision = world.tell_one(message)

    assert decision.code is code
    if code is TOO_MUCH:
        assert decision.detail == "the account may hold at most 150.00 TWD"


def test_what_the_gateway_has_collected_is_credited_above_the_ceiling_too() -> None:
    """One had failed when the other was asked for: the money of both is there."""
    world = _world(balance_max_minor=15_000, balance_minor=0)

    assert _codes(
        world,
        recharge(),
        result(status="failed"),
        recharge(serial_no="R-2"),
        result(payment_order_no="R-2"),
        result(),
        recharge(serial_no="R-3"),
    ) == [OK, OK, OK, OK, OK, TOO_MUCH]
    assert world.user().balance_minor == 20_000


def test_what_is_still_waited_for_counts_for_the_ceiling() -> None:
    world = _world(balance_max_minor=15_000, balance_minor=0)

    assert _codes(world, recharge(), recharge(serial_no="R-2")) == [OK, TOO_MUCH]
    assert _codes(world, recharge(serial_no="R-3"), result(status="failed"), recharge(serial_no="R-4")) == [
        TOO_MUCH,
        OK,
        OK,
    ]


def test_closing_and_opening_again_renews_no_limit_of_the_day() -> None:
    for apart in (False, True):
        world = _world(
            account_type=ANY_TYPE, balance_minor=10_000, withdraw=OrderLimits(day_max_minor=10_000)
        )
        heard = [
            withdraw(serial_no="W-1"),
            result(payment_order_no="W-1"),
            close(),
            open_account(serial_no="O-2"),
            recharge(serial_no="R-2"),
            result(payment_order_no="R-2"),
            withdraw(serial_no="W-2", amount="1"),
        ]

        decisions = world.tell_each(*heard) if apart else world.tell(*heard)

        assert [decision.code for decision in decisions] == [OK] * 6 + [TOO_MUCH]


def test_a_ceiling_keeps_nobody_from_paying() -> None:
    world = _world(balance_max_minor=0, balance_minor=50_000)

    assert _codes(world, withdraw(), hold(), transfer(amount="1")) == [OK, OK, TOO_MUCH]


def test_within_a_batch_the_ceiling_is_held_to_what_was_paid_before() -> None:
    world = _world(balance_max_minor=15_000, balance_minor=0)
    world.with_account(user_id="u-9", balance_minor=50_000)
    pays: dict[str, Any] = {"user_id": "u-9", "to_user_id": "u-1"}

    assert _codes(
        world,
        *(transfer(serial_no=f"T-{number}", amount="60", **pays) for number in range(3)),
        transfer(serial_no="T-9", user_id="u-1", to_user_id="u-9", amount="1"),
    ) == [OK, OK, TOO_MUCH, TOO_MUCH]  # the last one because of what u-9 holds


# Beside


def test_a_refusal_for_a_limit_uses_up_the_serial_number_like_any_other() -> None:
    world = _world(withdraw=OrderLimits(day_max_minor=10_000))
    assert _codes(world, withdraw(serial_no="W-1"), withdraw(serial_no="W-2")) == [OK, TOO_MUCH]
    world.now = NOW + timedelta(days=1)

    assert _codes(world, withdraw(serial_no="W-2"), withdraw(serial_no="W-3")) == [TOO_MUCH, OK]


def test_a_frozen_account_that_is_recharged_is_held_to_its_limits_too() -> None:
    world = _world(recharge=OrderLimits(amount_max_minor=100))

    assert _codes(world, freeze(), recharge(amount="1"), recharge(serial_no="R-2", amount="1.01")) == [
        OK,
        OK,
        TOO_MUCH,
    ]
    assert world.user().status is AccountStatus.FROZEN
