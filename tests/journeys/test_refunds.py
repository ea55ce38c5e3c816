"""Refunds: a recharge given back, in parts, never more than there was of it."""

from collections import Counter

import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import Json, fresh, recharge, refund, result, transfer, withdraw
from tests.journeys.shapes import a_line, a_time, an_event, an_order
from tests.journeys.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS = 20


async def a_recharge(upstream: Upstream, amount: str = "100.00") -> tuple[str, str]:
    """Return a new user and the serial number of the recharge that he has in his account."""
    user = await upstream.opened()
    return user, await upstream.paid(user, amount)


async def given_back(upstream: Upstream, command: Json, status: str = "succeeded") -> Json:
    return await upstream.processed(result(command["serial_no"], status, amount=command["amount"]))


async def test_a_refund_is_reserved_at_once_and_debited_when_it_was_given_back(upstream: Upstream) -> None:
    user, original = await a_recharge(upstream)
    command = refund(original, "60.00")

    order = await upstream.applied(command)
    reserved = await upstream.balances(user)
    request = (await upstream.requests.first_about(command["serial_no"])).json
    processed = await given_back(upstream, command)
    moved = await upstream.balances(user)
    detail = await upstream.order(command["serial_no"])
    succeeded = await upstream.events.first_about(command["serial_no"], "order.succeeded.v1")

    what = {
        "serial_no": command["serial_no"],
        "user_id": user,
        "order_type": "refund",
        "amount": "60.00",
        "original_serial_no": original,
    }
    an_order(order, **what, status="pending")
    assert (reserved, moved) == (("100.00", "40.00"), ("40.00", "40.00"))
    a_time(request.pop("requested_at"))
    assert (request.pop("user_id"), request.pop("account_no")) == (user, order["account_no"])
    assert request == {
        "type": "payment.request.v1",
        "payment_order_no": command["serial_no"],
        "kind": "refund",
        "amount": "60.00",
        "currency": "TWD",
        "channel": "card",
        "expires_at": None,
        "original_payment_order_no": original,
        "original_gateway_ref": request["original_gateway_ref"],
    }
    assert processed["processing_status"] == "processed"
    body = an_event(succeeded.json, type_="order.succeeded.v1", serial_no=command["serial_no"])
    (line,) = body.pop("entries")
    a_line(line, line_no=2, order_type="refund", direction="debit", amount="60.00", balance_after="40.00")
    an_order(body, **what, status="succeeded", transacted_at=True)
    assert detail["order"].pop("gateway_ref")
    assert (detail["order"], detail["entries"]) == (body, [line])
    assert (await upstream.order(original))["order"]["status"] == "succeeded"


async def test_a_recharge_is_refunded_in_parts_until_it_is_used_up(upstream: Upstream) -> None:
    user, original = await a_recharge(upstream)
    await upstream.paid(user, "500.00")
    first, second, third = refund(original, "60.00"), refund(original, "40.01"), refund(original, "40.00")

    codes = [await upstream.code(first), await upstream.code(second), await upstream.code(third)]
    await given_back(upstream, first)
    await given_back(upstream, third)
    nothing_left = await upstream.code(refund(original, "0.01"))

    assert codes == ["OK", "AMOUNT_EXCEEDS_ORIGINAL", "OK"]
    assert nothing_left == "AMOUNT_EXCEEDS_ORIGINAL"
    assert await upstream.balances(user) == ("500.00", "500.00")


async def test_a_refund_that_failed_counts_no_more(upstream: Upstream) -> None:
    user, original = await a_recharge(upstream)
    failing = refund(original)
    await upstream.applied(failing)
    before = await upstream.code(refund(original, "0.01"))

    await given_back(upstream, failing, "failed")
    back = await upstream.balances(user)
    again = refund(original)
    code = await upstream.code(again)
    await given_back(upstream, again)

    assert before == "AMOUNT_EXCEEDS_ORIGINAL"
    assert back == ("100.00", "100.00")
    assert code == "OK"
    assert await upstream.balances(user) == ("0.00", "0.00")


async def test_a_refund_whose_fate_is_unknown_still_counts(upstream: Upstream) -> None:
    user, original = await a_recharge(upstream)
    await upstream.paid(user, "500.00")
    unknown = refund(original)
    await upstream.applied(unknown)

    await given_back(upstream, unknown, "unknown")

    assert await upstream.status(unknown["serial_no"]) == "pending"
    assert await upstream.code(refund(original, "0.01")) == "AMOUNT_EXCEEDS_ORIGINAL"


async def test_a_second_word_of_the_gateway_is_a_contradiction(shared: Wallet) -> None:
    upstream = shared.upstream
    for first, then in (("succeeded", "failed"), ("failed", "succeeded")):
        _, original = await a_recharge(upstream)
        command = refund(original)
        await upstream.applied(command)
        await given_back(upstream, command, first)

        answer = await given_back(upstream, command, then)
        letter = await upstream.dead_letters.first_about(command["serial_no"])

        assert (answer["processing_status"], answer["code"]) == ("refused", "CONTRADICTING_RESULT")
        assert letter.headers["x-wallet-reason"] == "CONTRADICTING_RESULT"
        assert await upstream.status(command["serial_no"]) == first


async def test_only_a_recharge_that_succeeded_can_be_refunded(upstream: Upstream) -> None:
    user, original = await a_recharge(upstream)
    other = await upstream.opened()
    back, payout, sent = refund(original, "10.00"), withdraw(user, "10.00"), transfer(user, other, "10.00")
    waiting, failed, refused = recharge(user), recharge(user), recharge(fresh("nobody"))
    for command in (back, payout, sent, waiting, failed):
        await upstream.applied(command)
    await upstream.outcome(refused)
    await upstream.processed(result(failed["serial_no"], "failed"))
    await given_back(upstream, back)
    await given_back(upstream, payout)

    codes = {
        name: await upstream.code(refund(serial_no, "1.00"))
        for name, serial_no in {
            "a refund": back["serial_no"],
            "a withdrawal": payout["serial_no"],
            "a transfer": sent["serial_no"],
            "a recharge that waits": waiting["serial_no"],
            "a recharge that failed": failed["serial_no"],
            "a recharge that was refused": refused["serial_no"],
            "nothing": fresh("R"),
        }.items()
    }

    assert codes == {
        "a refund": "ORDER_NOT_REFUNDABLE",
        "a withdrawal": "ORDER_NOT_REFUNDABLE",
        "a transfer": "ORDER_NOT_REFUNDABLE",
        "a recharge that waits": "ORDER_NOT_REFUNDABLE",
        "a recharge that failed": "ORDER_NOT_REFUNDABLE",
        "a recharge that was refused": "ORDER_NOT_FOUND",
        "nothing": "ORDER_NOT_FOUND",
    }


async def test_a_refund_of_itself_is_of_nothing(upstream: Upstream) -> None:
    serial_no = fresh("RF")

    assert await upstream.code(refund(serial_no, serial_no=serial_no)) == "ORDER_NOT_FOUND"


async def test_a_refusal_says_what_stands_first(upstream: Upstream) -> None:
    """Each row mends one more fault than the row before."""
    user, original = await a_recharge(upstream)
    await upstream.applied(withdraw(user, "50.00"))

    codes = [
        await upstream.code(refund("R-nothing", "9" * 30, currency="XQQ")),
        await upstream.code(refund("R-nothing", "9" * 30)),
        await upstream.code(refund("R-nothing", "100.01", currency="USD")),
        await upstream.code(refund(original, "100.01", currency="USD")),
        await upstream.code(refund(original, "100.01")),
        await upstream.code(refund(original, "50.01")),
        await upstream.code(refund(original, "50.00")),
    ]

    assert codes == [
        "CURRENCY_NOT_SUPPORTED",
        "AMOUNT_OUT_OF_RANGE",
        "ORDER_NOT_FOUND",
        "CURRENCY_MISMATCH",
        "AMOUNT_EXCEEDS_ORIGINAL",
        "INSUFFICIENT_BALANCE",
        "OK",
    ]
    assert await upstream.balances(user) == ("100.00", "0.00")


async def test_money_that_came_late_can_be_refunded(upstream: Upstream) -> None:
    user = await upstream.opened()
    order = recharge(user)
    await upstream.outcome(order)
    await upstream.processed(result(order["serial_no"], "failed"))
    await upstream.processed(result(order["serial_no"]))

    assert await upstream.code(refund(order["serial_no"])) == "OK"


async def test_two_refunds_of_60_on_100_at_once_are_one(pair: Wallet) -> None:
    upstream = pair.upstream
    pairs = [await a_recharge(upstream) for _ in range(ROUNDS)]
    for user, _ in pairs:
        await upstream.paid(user, "900.00")  # so that it is not the balance that is too small

    outcomes = await upstream.at_once(*(refund(original, "60.00") for _, original in pairs for _ in range(2)))

    codes = Counter(outcome["code"] for outcome in outcomes)
    assert codes == {"OK": ROUNDS, "AMOUNT_EXCEEDS_ORIGINAL": ROUNDS}
    assert {await upstream.balances(user) for user, _ in pairs} == {("1000.00", "940.00")}
    for outcome in outcomes:
        if outcome["code"] == "OK":
            await upstream.processed(result(outcome["serial_no"], amount="60.00"))
    await upstream.settled(pair.owner)
    await assert_sound(pair.owner)


async def test_a_refund_racing_a_withdrawal_never_takes_more_than_there_is(pair: Wallet) -> None:
    upstream = pair.upstream
    pairs = [await a_recharge(upstream) for _ in range(ROUNDS)]

    outcomes = await upstream.at_once(
        *(command for user, original in pairs for command in (refund(original), withdraw(user)))
    )

    assert Counter(outcome["code"] for outcome in outcomes) == {"OK": ROUNDS, "INSUFFICIENT_BALANCE": ROUNDS}
    assert {await upstream.balances(user) for user, _ in pairs} == {("100.00", "0.00")}
