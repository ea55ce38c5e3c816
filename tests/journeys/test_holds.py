"""Holds: money set aside, captured in parts or let go, by somebody or by time."""

from collections import Counter

import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import (
    Json,
    account_command,
    capture,
    fresh,
    hold,
    recharge,
    release,
    transfer,
    withdraw,
)
from tests.journeys.shapes import a_line, a_time, an_event, an_order
from tests.journeys.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS = 20


async def held(upstream: Upstream, amount: str = "50.00") -> tuple[str, str]:
    """Return a new user with 100.00, and the serial number of a hold on so much of it."""
    user = await upstream.funded()
    command = hold(user, amount)
    await upstream.applied(command)
    return user, command["serial_no"]


async def of(upstream: Upstream, serial_no: str) -> tuple[str, str]:
    """Return status and remaining of a hold."""
    order = (await upstream.order(serial_no))["order"]
    return order["status"], order["remaining"]


async def test_a_hold_reserves_and_captures_move_until_it_is_used_up(upstream: Upstream) -> None:
    user, shop = await upstream.funded(), await upstream.opened()
    holding = hold(user, "50.00", expires_in_seconds=600)
    some, rest = capture(holding["serial_no"], shop, "30.00"), capture(holding["serial_no"], shop, "20.00")

    order = await upstream.applied(holding)
    reserved = await upstream.balances(user)
    first = await upstream.applied(some)
    between = (await upstream.balances(user), await of(upstream, holding["serial_no"]))
    last = await upstream.applied(rest)
    after = (await upstream.balances(user), await of(upstream, holding["serial_no"]))

    what = {
        "serial_no": holding["serial_no"],
        "user_id": user,
        "order_type": "hold",
        "amount": "50.00",
        "expires_at": order["expires_at"],
    }
    an_order(order, **what, status="active", remaining="50.00")
    assert reserved == ("100.00", "50.00")
    assert between == (("70.00", "50.00"), ("active", "20.00"))
    assert after == (("50.00", "50.00"), ("captured", "0.00"))
    assert await upstream.balances(shop) == ("50.00", "50.00")
    for done, command in ((first, some), (last, rest)):
        an_order(
            done,
            serial_no=command["serial_no"],
            user_id=user,
            order_type="capture",
            amount=command["amount"],
            status="succeeded",
            transacted_at=True,
            hold_serial_no=holding["serial_no"],
            to_user_id=shop,
            to_account_no=(await upstream.account(shop))["account_no"],
        )
    active = await upstream.events.first_about(holding["serial_no"], "order.active.v1")
    captured = await upstream.events.first_about(holding["serial_no"], "order.captured.v1")
    assert an_event(active.json, type_="order.active.v1", serial_no=holding["serial_no"]) == order
    body = an_event(captured.json, type_="order.captured.v1", serial_no=holding["serial_no"])
    an_order(body, **what, status="captured", remaining="0.00")


async def test_a_capture_tells_of_both_lines_and_a_hold_of_none(upstream: Upstream) -> None:
    user, shop = await upstream.funded(), await upstream.opened()
    holding = hold(user, "50.00")
    some = capture(holding["serial_no"], shop, "30.00")
    await upstream.applied(holding)

    await upstream.applied(some)
    event = await upstream.events.first_about(some["serial_no"])
    body = an_event(event.json, type_="order.succeeded.v1", serial_no=some["serial_no"])
    detail = await upstream.order(some["serial_no"])

    debit, credit = body["entries"]
    a_line(debit, line_no=2, order_type="capture", direction="debit", amount="30.00", balance_after="70.00")
    a_line(credit, line_no=1, order_type="capture", direction="credit", amount="30.00", balance_after="30.00")
    assert detail["entries"] == [debit, credit]
    assert (await upstream.order(holding["serial_no"]))["entries"] == []


async def test_a_release_gives_back_what_is_left(upstream: Upstream) -> None:
    user, holding = await held(upstream)
    await upstream.applied(capture(holding, await upstream.opened(), "20.00"))
    letting_go = release(holding)

    order = await upstream.applied(letting_go)
    released = await upstream.events.first_about(holding, "order.released.v1")
    succeeded = await upstream.events.first_about(letting_go["serial_no"], "order.succeeded.v1")

    an_order(
        order,
        serial_no=letting_go["serial_no"],
        user_id=user,
        order_type="release",
        amount="30.00",
        status="succeeded",
        hold_serial_no=holding,
    )
    assert await of(upstream, holding) == ("released", "0.00")
    assert await upstream.balances(user) == ("80.00", "80.00")
    assert released.json["data"]["status"] == "released"
    assert succeeded.json["data"] == order


async def test_a_hold_lets_go_by_itself_when_its_time_is_over(upstream: Upstream) -> None:
    user, shop = await upstream.funded(), await upstream.opened()
    brief, long = hold(user, "50.00", expires_in_seconds=1), hold(user, "20.00")
    await upstream.applied(brief)
    await upstream.applied(long)
    await upstream.outcome(capture(brief["serial_no"], shop, "0.01"))

    expired = await upstream.events.first_about(brief["serial_no"], "order.expired.v1")
    body = an_event(expired.json, type_="order.expired.v1", serial_no=brief["serial_no"])
    codes = [
        await upstream.code(capture(brief["serial_no"], shop, "1.00")),
        await upstream.code(release(brief["serial_no"])),
    ]

    assert (body["status"], body["remaining"]) == ("expired", "0.00")
    assert a_time(body["expires_at"]) <= a_time(body["updated_at"])
    assert codes == ["HOLD_NOT_ACTIVE", "HOLD_NOT_ACTIVE"]
    assert await of(upstream, long["serial_no"]) == ("active", "20.00")
    balance, available = await upstream.balances(user)
    assert float(balance) - float(available) == 20


async def test_what_is_held_cannot_be_spent_otherwise(upstream: Upstream) -> None:
    user, holding = await held(upstream, "60.00")
    other = await upstream.opened()

    codes = [
        await upstream.code(withdraw(user, "40.01")),
        await upstream.code(transfer(user, other, "40.01")),
        await upstream.code(hold(user, "40.01")),
        await upstream.code(transfer(user, other, "40.00")),
        await upstream.code(capture(holding, other, "60.00")),
    ]

    assert codes == ["INSUFFICIENT_BALANCE"] * 3 + ["OK", "OK"]
    assert await upstream.balances(user) == ("0.00", "0.00")


@pytest.mark.parametrize("ended", ["captured", "released"])
async def test_a_hold_that_has_ended_stays_so(upstream: Upstream, ended: str) -> None:
    user, holding = await held(upstream)
    shop = await upstream.opened()
    await upstream.applied(capture(holding, shop, "50.00") if ended == "captured" else release(holding))

    codes = [
        await upstream.code(capture(holding, shop, "1.00")),
        await upstream.code(capture(holding, shop, "1000.00")),
        await upstream.code(release(holding)),
    ]

    assert codes == ["HOLD_NOT_ACTIVE"] * 3
    assert await of(upstream, holding) == (ended, "0.00")
    assert await upstream.balances(user) == (
        ("50.00", "50.00") if ended == "captured" else ("100.00", "100.00")
    )


async def test_only_a_hold_is_captured_or_released(upstream: Upstream) -> None:
    user, shop = await upstream.funded(), await upstream.opened()
    waiting, payout, sent = recharge(user), withdraw(user, "1.00"), transfer(user, shop, "1.00")
    for command in (waiting, payout, sent):
        await upstream.applied(command)

    for other in (waiting, payout, sent):
        assert await upstream.code(capture(other["serial_no"], shop, "1.00")) == "HOLD_NOT_ACTIVE"
        assert await upstream.code(release(other["serial_no"])) == "HOLD_NOT_ACTIVE"
    assert await upstream.code(capture(fresh("H"), shop, "1.00")) == "ORDER_NOT_FOUND"
    assert await upstream.code(release(fresh("H"))) == "ORDER_NOT_FOUND"


async def test_a_refusal_of_a_hold_says_what_stands_first(upstream: Upstream) -> None:
    """Each row mends one more fault than the row before."""
    nobody, user = fresh("nobody"), await upstream.funded()

    codes = [
        await upstream.code(hold(nobody, "9" * 30, currency="XQQ")),
        await upstream.code(hold(nobody, "9" * 30)),
        await upstream.code(hold(nobody, "100.01")),
        await upstream.code(hold(user, "100.01")),
        await upstream.code(hold(user, "100.00")),
    ]

    assert codes == [
        "CURRENCY_NOT_SUPPORTED",
        "AMOUNT_OUT_OF_RANGE",
        "ACCOUNT_NOT_FOUND",
        "INSUFFICIENT_BALANCE",
        "OK",
    ]


async def test_a_refusal_of_a_capture_says_what_stands_first(upstream: Upstream) -> None:
    """Each row mends one more fault than the row before."""
    user, holding = await held(upstream)
    nobody, shop = fresh("nobody"), await upstream.opened()
    await upstream.opened(shop, currency="USD")

    codes = [
        await upstream.code(capture("H-nothing", nobody, "9" * 30, currency="XQQ")),
        await upstream.code(capture("H-nothing", nobody, "9" * 30)),
        await upstream.code(capture("H-nothing", nobody, "50.01")),
        await upstream.code(capture("H-nothing", shop, "50.01")),
        await upstream.code(capture(holding, shop, "50.01", currency="USD")),
        await upstream.code(capture(holding, shop, "50.01")),
        await upstream.code(capture(holding, shop, "50.00")),
    ]

    assert codes == [
        "CURRENCY_NOT_SUPPORTED",
        "AMOUNT_OUT_OF_RANGE",
        "ACCOUNT_NOT_FOUND",
        "ORDER_NOT_FOUND",
        "CURRENCY_MISMATCH",
        "AMOUNT_EXCEEDS_ORIGINAL",
        "OK",
    ]
    assert await upstream.balances(user) == ("50.00", "50.00")


async def test_money_is_not_captured_to_where_it_is_nor_from_a_frozen_nor_to_a_closed_account(
    upstream: Upstream,
) -> None:
    user, holding = await held(upstream)
    closed, shop = await upstream.opened(), await upstream.opened()
    await upstream.applied(account_command("close", closed))

    to_himself = await upstream.code(capture(holding, user, "1.00"))
    to_closed = await upstream.code(capture(holding, closed, "1.00"))
    await upstream.applied(account_command("freeze", user))
    from_frozen = await upstream.code(capture(holding, shop, "1.00"))
    held_in_frozen = await upstream.code(hold(user, "1.00"))
    await upstream.applied(account_command("unfreeze", user))
    from_thawed = await upstream.code(capture(holding, shop, "1.00"))

    assert (to_himself, to_closed) == ("SAME_ACCOUNT", "ACCOUNT_CLOSED")
    assert (from_frozen, held_in_frozen) == ("ACCOUNT_FROZEN", "ACCOUNT_FROZEN")
    assert from_thawed == "OK"


async def test_a_hold_of_a_frozen_account_can_be_let_go(upstream: Upstream) -> None:
    """Nothing leaves the account by it."""
    user, holding = await held(upstream)
    await upstream.applied(account_command("freeze", user))

    assert await upstream.code(release(holding)) == "OK"
    assert await upstream.balances(user) == ("100.00", "100.00")


async def test_captures_at_once_on_two_workers_never_take_more_than_is_held(pair: Wallet) -> None:
    upstream = pair.upstream
    shop = await upstream.opened()
    holds = [await held(upstream, "50.00") for _ in range(ROUNDS)]

    outcomes = await upstream.at_once(
        *(capture(holding, shop, "30.00") for _, holding in holds for _ in range(2))
    )
    await upstream.settled(pair.owner)

    codes = Counter(outcome["code"] for outcome in outcomes)
    assert codes == {"OK": ROUNDS, "AMOUNT_EXCEEDS_ORIGINAL": ROUNDS}
    assert {await of(upstream, holding) for _, holding in holds} == {("active", "20.00")}
    assert {await upstream.balances(user) for user, _ in holds} == {("70.00", "50.00")}
    await assert_sound(pair.owner)


async def test_a_capture_racing_a_release_moves_all_of_it_or_nothing(pair: Wallet) -> None:
    upstream = pair.upstream
    shop = await upstream.opened()
    holds = [await held(upstream, "50.00") for _ in range(ROUNDS)]

    outcomes = await upstream.at_once(
        *(command for _, holding in holds for command in (capture(holding, shop, "50.00"), release(holding)))
    )
    await upstream.settled(pair.owner)

    for number, (user, holding) in enumerate(holds):
        captured, released = (outcome["code"] for outcome in outcomes[2 * number : 2 * number + 2])
        assert {captured, released} == {"OK", "HOLD_NOT_ACTIVE"}
        if captured == "OK":
            assert await of(upstream, holding) == ("captured", "0.00")
            assert await upstream.balances(user) == ("50.00", "50.00")
        else:
            assert await of(upstream, holding) == ("released", "0.00")
            assert await upstream.balances(user) == ("100.00", "100.00")
    await assert_sound(pair.owner)


async def test_a_hold_expires_once_whatever_happens_at_that_moment(pair: Wallet) -> None:
    upstream = pair.upstream
    shop, user = await upstream.opened(), await upstream.funded("1000.00")
    holds = [hold(user, "10.00", expires_in_seconds=1) for _ in range(ROUNDS)]
    await upstream.at_once(*holds)

    captured: list[Json] = []
    waiting = {command["serial_no"] for command in holds}
    while waiting:  # until the sweep has come, again and again in its way
        outcomes = await upstream.at_once(*(capture(serial_no, shop, "0.01") for serial_no in waiting))
        captured += [outcome for outcome in outcomes if outcome["code"] == "OK"]
        assert {outcome["code"] for outcome in outcomes} <= {"OK", "HOLD_NOT_ACTIVE"}
        waiting = {serial_no for serial_no in waiting if (await of(upstream, serial_no))[0] == "active"}
    for command in holds:
        await upstream.events.first_about(command["serial_no"], "order.expired.v1")
    await upstream.settled(pair.owner)

    assert {await of(upstream, command["serial_no"]) for command in holds} == {("expired", "0.00")}
    for command in holds:
        heard = [event.json["type"] for event in upstream.events.about(command["serial_no"])]
        assert Counter(heard) == {"order.active.v1": 1, "order.expired.v1": 1}
    moved = len(captured) / 100
    balance = f"{1000 - moved:.2f}"
    assert await upstream.balances(user) == (balance, balance)
    await assert_sound(pair.owner)
