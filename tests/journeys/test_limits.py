"""Limits that a deployment sets: of one order, of a day's orders, and of what an account may hold."""

import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.journeys.conftest import Wallet, a_wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import (
    Json,
    capture,
    hold,
    recharge,
    refund,
    release,
    result,
    transfer,
    withdraw,
)
from tests.journeys.upstream import Upstream
from tests.servers import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE_ORDER = {"amount_min": "10.00", "amount_max": "20.00"}
LIMITS = {
    "time_zone": "Asia/Taipei",
    "accounts": {
        "basic": {
            "TWD": {
                "balance_max": "1000.00",
                "orders": {
                    "recharge": {"amount_min": "1.00", "amount_max": "900.00"},
                    "transfer": ONE_ORDER,
                    "refund": ONE_ORDER,
                    "hold": ONE_ORDER,
                    "capture": ONE_ORDER,
                    "withdraw": ONE_ORDER | {"day_max": "50.00"},
                },
            },
        },
        "*": {"JPY": {"orders": {"withdraw": {"amount_max": "500"}}}},
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def limited(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet with these limits, and two workers."""
    async with a_wallet(servers, migrated_url) as wallet:
        for worker in [await wallet.workers.launch(WALLET_LIMITS=json.dumps(LIMITS)) for _ in range(2)]:
            await worker.until_ready()
        yield wallet


async def refused(upstream: Upstream, command: Json) -> str:
    """Return what a command that some limit forbids was told."""
    outcome = await upstream.outcome(command)
    assert (outcome["status"], outcome["code"], outcome["result"]) == (
        "refused",
        "LIMIT_EXCEEDED",
        {"object": "none"},
    )
    notified = await upstream.events.first_about(command["serial_no"], "command.refused.v1")
    message: str = notified.json["data"]["message"]
    return message


async def commands_of(upstream: Upstream, amount: str) -> list[Json]:
    """Return a command of each type, of so much, each on an account of its own that has 800.00."""
    shop, users = await upstream.opened(), [await upstream.funded("800.00") for _ in range(4)]
    holder = await upstream.funded("800.00")
    holding = hold(holder, "20.00")
    await upstream.applied(holding)
    original = await upstream.paid(users[3], "100.00")
    return [
        withdraw(users[0], amount),
        transfer(users[1], shop, amount),
        hold(users[2], amount),
        refund(original, amount),
        capture(holding["serial_no"], shop, amount),
    ]


async def test_an_order_is_neither_too_small_nor_too_large(limited: Wallet) -> None:
    upstream = limited.upstream

    for command in await commands_of(upstream, "9.99"):
        name = command["type"].split(".")[1]
        assert await refused(upstream, command) == f"a {name} is at least 10.00 TWD"
    for command in await commands_of(upstream, "20.01"):
        name = command["type"].split(".")[1]
        if name != "capture":  # of which there is not so much
            assert await refused(upstream, command) == f"a {name} is at most 20.00 TWD"
    for amount in ("10.00", "20.00"):
        for command in await commands_of(upstream, amount):
            assert await upstream.code(command) == "OK"


async def test_a_release_has_no_limit_because_nothing_moves(limited: Wallet) -> None:
    upstream = limited.upstream
    holding = hold(await upstream.funded(), "15.00")
    await upstream.applied(holding)
    await upstream.applied(capture(holding["serial_no"], await upstream.opened(), "10.00"))

    assert await upstream.code(release(holding["serial_no"])) == "OK"


async def test_a_recharge_has_limits_of_its_own(limited: Wallet) -> None:
    upstream = limited.upstream
    user = await upstream.opened()

    assert await refused(upstream, recharge(user, "0.99")) == "a recharge is at least 1.00 TWD"
    assert await refused(upstream, recharge(user, "900.01")) == "a recharge is at most 900.00 TWD"
    assert await upstream.code(recharge(user, "900.00")) == "OK"


async def test_an_account_holds_no_more_than_it_may(limited: Wallet) -> None:
    upstream = limited.upstream
    user, other = await upstream.funded("900.00"), await upstream.funded("900.00")
    await upstream.paid(user, "85.00")

    too_much = await refused(upstream, recharge(user, "15.01"))
    sent = await refused(upstream, transfer(other, user, "15.01"))
    just = await upstream.code(transfer(other, user, "15.00"))
    more = await refused(upstream, recharge(user, "1.00"))

    assert {too_much, sent, more} == {"the account may hold at most 1000.00 TWD"}
    assert just == "OK"
    assert await upstream.balances(user) == ("1000.00", "1000.00")


async def test_money_that_was_collected_is_credited_whatever_the_limit_says(limited: Wallet) -> None:
    upstream = limited.upstream
    user = await upstream.opened()
    orders = [recharge(user, "900.00"), recharge(user, "900.00")]

    codes = [await upstream.code(orders[0])]
    await upstream.processed(result(orders[0]["serial_no"], "failed", amount="900.00"))
    codes.append(await upstream.code(orders[1]))
    answers = [await upstream.processed(result(order["serial_no"], amount="900.00")) for order in orders]

    assert codes == ["OK", "OK"]
    assert [answer["processing_status"] for answer in answers] == ["processed", "processed"]
    assert await upstream.balances(user) == ("1800.00", "1800.00")


async def test_the_orders_of_a_day_are_summed_up_less_those_that_came_to_nothing(limited: Wallet) -> None:
    upstream = limited.upstream
    user = await upstream.funded("800.00")
    first, second = withdraw(user, "20.00"), withdraw(user, "20.00")

    codes = [await upstream.code(first), await upstream.code(second)]
    over = await refused(upstream, withdraw(user, "10.01"))
    await upstream.processed(result(first["serial_no"], amount="20.00"))
    paid_counts = await refused(upstream, withdraw(user, "10.01"))
    await upstream.processed(result(second["serial_no"], "failed", amount="20.00"))
    codes += [await upstream.code(withdraw(user, "20.00")), await upstream.code(withdraw(user, "10.00"))]
    full = await refused(upstream, withdraw(user, "10.00"))

    assert codes == ["OK"] * 4
    assert {over, paid_counts, full} == {"the withdraw orders of a day are at most 50.00 TWD"}


async def test_orders_of_a_day_at_once_on_two_workers_keep_within_the_limit(limited: Wallet) -> None:
    upstream = limited.upstream
    users = [await upstream.funded("800.00") for _ in range(10)]

    outcomes = await upstream.at_once(*(withdraw(user, "10.00") for user in users for _ in range(8)))
    await upstream.settled(limited.owner)

    assert Counter(outcome["code"] for outcome in outcomes) == {"OK": 50, "LIMIT_EXCEEDED": 30}
    assert {await upstream.balances(user) for user in users} == {("800.00", "750.00")}
    await assert_sound(limited.owner)


async def test_a_limit_is_said_before_what_is_available_is_looked_at(limited: Wallet) -> None:
    upstream = limited.upstream
    user = await upstream.opened()

    assert await refused(upstream, withdraw(user, "20.01")) == "a withdraw is at most 20.00 TWD"
    assert await upstream.code(withdraw(user, "20.00")) == "INSUFFICIENT_BALANCE"


async def test_an_account_type_has_its_own_limits_or_those_of_all_or_none(limited: Wallet) -> None:
    upstream = limited.upstream
    free = await upstream.funded("5000.00", account_type="savings")
    starred = await upstream.funded("5000", account_type="savings", currency="JPY")

    codes = [
        await upstream.code(withdraw(free, "4000.00", account_type="savings")),
        await upstream.code(withdraw(starred, "501", account_type="savings", currency="JPY")),
        await upstream.code(withdraw(starred, "500", account_type="savings", currency="JPY")),
    ]

    assert codes == ["OK", "LIMIT_EXCEEDED", "OK"]
