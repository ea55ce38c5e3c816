"""Orders that nobody says anything about: the gateway is asked, once each time, and nothing is guessed."""

from collections import Counter
from datetime import datetime

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import Json, recharge, refund, result, withdraw
from tests.journeys.shapes import a_time, an_order
from tests.journeys.upstream import Received

ORDERS = 20
PROCESSED, DUPLICATE = ("processed", "OK"), ("duplicate", "OK")


def asks(received: Received) -> bool:
    return bool(received.json["kind"] == "status")


async def asked_about(wallet: Wallet, command: Json, count: int = 1) -> list[Json]:
    """Return the first questions about an order, once there are so many."""
    found = await wallet.upstream.requests.until(
        lambda value: asks(value) and value.json["payment_order_no"] == command["serial_no"], count
    )
    return [item.json for item in found[:count]]


async def test_the_gateway_is_asked_about_an_order_again_and_again_until_it_says(wallet: Wallet) -> None:
    upstream = wallet.upstream
    await wallet.workers.start(WALLET_PAYMENT_INQUIRY_SECONDS="1,2")
    user = await upstream.funded()
    payout = withdraw(user, "40.00")
    order = await upstream.applied(payout)

    first, second, third = await asked_about(wallet, payout, 3)
    await upstream.processed(result(payout["serial_no"], "unknown", amount="40.00"))
    (fourth,) = (await asked_about(wallet, payout, 4))[3:]
    pending = await upstream.balances(user)
    await upstream.processed(result(payout["serial_no"], amount="40.00"))

    times = [a_time(item.pop("requested_at")) for item in (first, second, third, fourth)]
    ages = [(time - datetime.fromisoformat(order["created_at"])).total_seconds() for time in times]
    assert [age >= due for age, due in zip(ages, (1, 2, 4, 6), strict=True)] == [True] * 4
    for item in (first, second, third, fourth):
        assert (item.pop("user_id"), item.pop("account_no")) == (user, order["account_no"])
        assert item == {
            "type": "payment.request.v1",
            "payment_order_no": payout["serial_no"],
            "kind": "status",
            "amount": "40.00",
            "currency": "TWD",
            "channel": "bank_transfer",
            "expires_at": None,
        }
    assert pending == ("100.00", "60.00")
    assert await upstream.balances(user) == ("60.00", "60.00")


async def test_an_answer_ends_the_asking(wallet: Wallet) -> None:
    upstream = wallet.upstream
    await wallet.workers.start(WALLET_PAYMENT_INQUIRY_SECONDS="1")
    user = await upstream.funded()
    original = await upstream.paid(user)
    answered, waiting = refund(original, "10.00"), refund(original, "20.00")
    await upstream.applied(answered)
    await upstream.applied(waiting)
    await asked_about(wallet, answered)

    await upstream.processed(result(answered["serial_no"], "failed", amount="10.00"))
    await upstream.settled(wallet.owner)
    before = Counter(item.json["payment_order_no"] for item in upstream.requests.received if asks(item))
    await asked_about(wallet, waiting, before[waiting["serial_no"]] + 2)
    after = Counter(item.json["payment_order_no"] for item in upstream.requests.received if asks(item))

    assert after[answered["serial_no"]] == before[answered["serial_no"]]


async def test_two_workers_ask_once(wallet: Wallet) -> None:
    upstream = wallet.upstream
    for worker in [await wallet.workers.launch(WALLET_PAYMENT_INQUIRY_SECONDS="1,3600") for _ in range(2)]:
        await worker.until_ready()
    user = await upstream.funded("1000.00")
    commands = [withdraw(user, "1.00") for _ in range(ORDERS)]
    await upstream.at_once(*commands)

    for command in commands:
        await asked_about(wallet, command)
    await upstream.settled(wallet.owner)

    heard = Counter(item.json["payment_order_no"] for item in upstream.requests.received if asks(item))
    assert {heard[command["serial_no"]] for command in commands} == {1}
    await assert_sound(wallet.owner)


async def test_a_recharge_that_expires_is_asked_about_a_last_time(wallet: Wallet) -> None:
    upstream = wallet.upstream
    await wallet.workers.start(WALLET_RECHARGE_EXPIRES_SECONDS="1")
    user = await upstream.opened()
    order = recharge(user)
    await upstream.outcome(order)

    body = (await upstream.events.first_about(order["serial_no"], "order.expired.v1")).json["data"]
    (question,) = await asked_about(wallet, order)

    assert (question["kind"], question["expires_at"]) == ("status", body["expires_at"])


async def test_a_channel_may_be_asked_sooner(wallet: Wallet) -> None:
    upstream = wallet.upstream
    await wallet.workers.start(WALLET_PAYMENT_INQUIRY_SECONDS_BY_CHANNEL='{"convenience_store": [1]}')
    user = await upstream.opened()
    card, store = recharge(user), recharge(user, recharge_type="convenience_store")
    await upstream.outcome(card)
    await upstream.outcome(store)

    await asked_about(wallet, store, 2)

    assert not [item for item in upstream.requests.about(card["serial_no"]) if asks(item)]


async def test_a_withdrawal_never_expires_and_a_recharge_does(wallet: Wallet) -> None:
    upstream = wallet.upstream
    await wallet.workers.start()
    user = await upstream.funded()
    payout = withdraw(user, "40.00")
    await upstream.applied(payout)
    for worker in wallet.workers.started:
        await worker.stop()
    await wallet.workers.start(WALLET_RECHARGE_EXPIRES_SECONDS="1")
    order = recharge(user)
    await upstream.outcome(order)

    expired = await upstream.events.first_about(order["serial_no"], "order.expired.v1")
    still = await upstream.status(payout["serial_no"])

    an_order(
        expired.json["data"],
        serial_no=order["serial_no"],
        user_id=user,
        order_type="recharge",
        amount="100.00",
        status="expired",
        code="PAYMENT_EXPIRED",
        expires_at=expired.json["data"]["expires_at"],
    )
    assert still == "pending"
    assert await upstream.balances(user) == ("100.00", "60.00")


async def test_money_that_comes_after_its_order_expired_is_credited_late(wallet: Wallet) -> None:
    upstream = wallet.upstream
    await wallet.workers.start(WALLET_RECHARGE_EXPIRES_SECONDS="1")
    user = await upstream.opened()
    order = recharge(user)
    await upstream.outcome(order)
    await upstream.events.first_about(order["serial_no"], "order.expired.v1")

    failed = await upstream.processed(result(order["serial_no"], "failed"))
    late = await upstream.processed(result(order["serial_no"]))
    body = (await upstream.events.first_about(order["serial_no"], "order.succeeded.v1")).json["data"]
    again = await upstream.processed(result(order["serial_no"]))

    answers = [(item["processing_status"], item["code"]) for item in (failed, late, again)]
    assert answers == [DUPLICATE, PROCESSED, DUPLICATE]
    assert (body["status"], body["late"]) == ("succeeded", True)
    assert [line["balance_after"] for line in body["entries"]] == ["100.00"]
    assert await upstream.balances(user) == ("100.00", "100.00")
    assert await upstream.code(withdraw(user)) == "OK"
