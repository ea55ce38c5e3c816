"""Frozen and closed accounts: what still goes, what does not, and every race for them."""

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
    open_account,
    recharge,
    refund,
    release,
    result,
    transfer,
    withdraw,
)
from tests.journeys.shapes import a_time, an_event
from tests.journeys.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS = 30


def freeze(user: str) -> Json:
    return account_command("freeze", user)


def unfreeze(user: str) -> Json:
    return account_command("unfreeze", user)


def close(user: str) -> Json:
    return account_command("close", user)


async def test_an_account_is_frozen_thawed_and_closed_and_each_is_told(upstream: Upstream) -> None:
    user = await upstream.opened()
    opened = await upstream.account(user)

    for verb, event, status in (
        ("freeze", "account.frozen.v1", "frozen"),
        ("unfreeze", "account.unfrozen.v1", "active"),
        ("close", "account.closed.v1", "closed"),
    ):
        command = account_command(verb, user, reason="the 理由", metadata={"case": "1"})
        made = await upstream.applied(command)
        notified = await upstream.events.first_about(command["serial_no"])
        again = await upstream.outcome(command)
        detail = await upstream.order(command["serial_no"])

        assert made == {name: value for name, value in opened.items() if name != "id"} | {
            "status": status,
            "updated_at": made["updated_at"],
        }
        assert a_time(made["created_at"]) < a_time(made["updated_at"])
        assert an_event(notified.json, type_=event, serial_no=command["serial_no"]) == made
        assert notified.routing_key == event.removesuffix(".v1")
        assert (again["duplicate"], again["result"]) == (True, made | {"object": "account"})
        assert (detail["outcome"]["result"], detail["order"], detail["entries"]) == (
            made | {"object": "account"},
            None,
            [],
        )
        assert {name: value for name, value in (await upstream.account(user)).items() if name != "id"} == made


async def test_an_account_that_is_as_asked_stays_so_and_is_told_again(upstream: Upstream) -> None:
    user = await upstream.opened()

    for command, status in ((unfreeze(user), "active"), (freeze(user), "frozen"), (freeze(user), "frozen")):
        made = await upstream.applied(command)
        notified = await upstream.events.first_about(command["serial_no"])

        assert (made["status"], notified.json["data"]) == (status, made)
    assert await upstream.code(close(user)) == "OK"


async def test_nothing_leaves_a_frozen_account_and_money_still_arrives(upstream: Upstream) -> None:
    user, other = await upstream.opened(), await upstream.funded()
    original = await upstream.paid(user)
    holding, waiting = hold(user, "10.00"), recharge(user, "5.00")
    await upstream.applied(holding)
    await upstream.applied(waiting)
    await upstream.applied(freeze(user))

    refused = {
        "withdraw": await upstream.code(withdraw(user, "1.00")),
        "transfer": await upstream.code(transfer(user, other, "1.00")),
        "refund": await upstream.code(refund(original, "1.00")),
        "hold": await upstream.code(hold(user, "1.00")),
        "capture": await upstream.code(capture(holding["serial_no"], other, "1.00")),
    }
    await upstream.processed(result(waiting["serial_no"], amount="5.00"))
    await upstream.paid(user, "7.00")
    arrived = await upstream.code(transfer(other, user, "1.00"))

    assert refused == dict.fromkeys(refused, "ACCOUNT_FROZEN")
    assert arrived == "OK"
    assert await upstream.balances(user) == ("113.00", "103.00")
    await upstream.applied(unfreeze(user))
    assert await upstream.code(transfer(user, other, "103.00")) == "OK"


@pytest.mark.parametrize(
    ("status", "leaves"), [("succeeded", ("60.00", "60.00")), ("failed", ("100.00", "100.00"))]
)
async def test_a_payout_that_was_sent_before_the_freeze_ends_as_the_gateway_says(
    upstream: Upstream, status: str, leaves: tuple[str, str]
) -> None:
    user = await upstream.funded()
    command = withdraw(user, "40.00")
    await upstream.applied(command)
    await upstream.applied(freeze(user))

    answer = await upstream.processed(result(command["serial_no"], status, amount="40.00"))

    assert answer["processing_status"] == "processed"
    assert await upstream.balances(user) == leaves


async def test_only_an_empty_account_is_closed(upstream: Upstream) -> None:
    """Each row takes one more hindrance away."""
    user, other = await upstream.funded(), await upstream.opened()
    waiting, payout, holding = recharge(user, "5.00"), withdraw(user, "40.00"), hold(user, "60.00")
    for command in (waiting, payout, holding):
        await upstream.applied(command)

    codes = [await upstream.code(close(user))]
    await upstream.processed(result(payout["serial_no"], amount="40.00"))
    codes.append(await upstream.code(close(user)))
    await upstream.applied(release(holding["serial_no"]))
    codes.append(await upstream.code(close(user)))
    await upstream.applied(transfer(user, other, "60.00"))
    codes.append(await upstream.code(close(user)))
    await upstream.processed(result(waiting["serial_no"], "failed", amount="5.00"))
    codes.append(await upstream.code(close(user)))
    codes.append(await upstream.code(close(user)))

    assert codes == [
        "BALANCE_NOT_ZERO",
        "BALANCE_NOT_ZERO",
        "BALANCE_NOT_ZERO",
        "ORDERS_PENDING",
        "OK",
        "ACCOUNT_CLOSED",
    ]


async def test_an_account_that_is_not_there_or_closed_is_neither_frozen_nor_thawed_nor_closed(
    upstream: Upstream,
) -> None:
    nobody, closed = fresh("nobody"), await upstream.opened()
    await upstream.applied(close(closed))

    for command in (freeze, unfreeze, close):
        assert await upstream.code(command(nobody)) == "ACCOUNT_NOT_FOUND"
        assert await upstream.code(command(closed)) == "ACCOUNT_CLOSED"
        refused = await upstream.outcome({**command(closed), "currency": "XQQ"})
        assert refused["code"] == "CURRENCY_NOT_SUPPORTED"


async def test_nothing_happens_to_a_closed_account(upstream: Upstream) -> None:
    user, other = await upstream.opened(), await upstream.funded()
    await upstream.applied(close(user))

    codes = [
        await upstream.code(recharge(user)),
        await upstream.code(withdraw(user)),
        await upstream.code(transfer(user, other)),
        await upstream.code(transfer(other, user)),
        await upstream.code(hold(user)),
    ]

    assert codes == ["ACCOUNT_CLOSED"] * 5


async def test_opening_again_makes_another_account_and_lookups_mean_the_newest(upstream: Upstream) -> None:
    user = fresh("user")
    opening = open_account(user)
    first = await upstream.applied(opening)
    await upstream.paid(user, "10.00")
    payout = withdraw(user, "10.00")
    await upstream.applied(payout)
    await upstream.processed(result(payout["serial_no"], amount="10.00"))
    await upstream.applied(close(user))

    second = await upstream.applied(open_account(user))
    repeated = await upstream.outcome(opening)
    exists = await upstream.code(open_account(user))
    statement = await upstream.query({"type": "statement.get.v1", "user_id": user, "currency": "TWD"})
    await upstream.paid(user, "3.00")

    assert first["account_no"] != second["account_no"]
    assert (repeated["duplicate"], repeated["result"]) == (True, {**first, "object": "account_opened"})
    assert exists == "ACCOUNT_EXISTS"
    assert (statement["account"]["account_no"], statement["entries"]) == (second["account_no"], [])
    account = await upstream.account(user)
    assert (account["account_no"], account["balance"]) == (second["account_no"], "3.00")
    assert (await upstream.order(payout["serial_no"]))["order"]["account_no"] == first["account_no"]


async def test_money_that_comes_after_the_account_was_closed_is_a_dead_letter(upstream: Upstream) -> None:
    user = await upstream.opened()
    order = recharge(user)
    await upstream.applied(order)
    await upstream.processed(result(order["serial_no"], "failed"))
    await upstream.applied(close(user))
    await upstream.opened(user)

    answer = await upstream.processed(result(order["serial_no"]))
    letter = await upstream.dead_letters.first_about(order["serial_no"])

    assert (answer["processing_status"], answer["code"]) == ("refused", "ACCOUNT_CLOSED")
    assert letter.headers["x-wallet-reason"] == "ACCOUNT_CLOSED"
    assert await upstream.balances(user) == ("0.00", "0.00")
    assert await upstream.status(order["serial_no"]) == "failed"


async def test_a_refund_of_money_in_a_closed_account_is_refused(upstream: Upstream) -> None:
    user, other = await upstream.opened(), await upstream.opened()
    original = await upstream.paid(user)
    await upstream.applied(transfer(user, other))
    await upstream.applied(close(user))
    await upstream.opened(user)
    await upstream.paid(user)

    assert await upstream.code(refund(original)) == "ACCOUNT_CLOSED"


async def test_a_freeze_that_races_a_close_never_brings_the_account_back(pair: Wallet) -> None:
    upstream = pair.upstream
    users = [await upstream.opened() for _ in range(ROUNDS)]

    outcomes = await upstream.at_once(
        *(command(user) for user in users for command in (freeze, close, unfreeze, freeze))
    )
    await upstream.settled(pair.owner)

    for number, user in enumerate(users):
        mine = outcomes[4 * number : 4 * number + 4]
        closed = mine[1]["code"] == "OK"
        account = await upstream.account(user)
        assert {outcome["code"] for outcome in mine} <= {"OK", "ACCOUNT_FROZEN", "ACCOUNT_CLOSED"}
        assert (account["status"] == "closed") == closed
        if closed:
            # Whatever came after it was refused, so the closing is the last that was done to the account.
            times = [outcome["result"]["updated_at"] for outcome in mine if outcome["code"] == "OK"]
            assert max(times) == mine[1]["result"]["updated_at"] == account["updated_at"]
    assert any(outcome["code"] == "ACCOUNT_CLOSED" for outcome in outcomes)
    await assert_sound(pair.owner)


async def test_a_recharge_that_races_a_close_is_refused_or_hinders_it(pair: Wallet) -> None:
    upstream = pair.upstream
    users = [await upstream.opened() for _ in range(ROUNDS)]

    outcomes = await upstream.at_once(*(item for user in users for item in (close(user), recharge(user))))

    for number in range(ROUNDS):
        closed, recharged = (outcome["code"] for outcome in outcomes[2 * number : 2 * number + 2])
        assert (closed, recharged) in {("OK", "ACCOUNT_CLOSED"), ("ORDERS_PENDING", "OK")}


async def test_money_that_races_a_close_is_never_lost(pair: Wallet) -> None:
    upstream = pair.upstream
    payer = await upstream.funded("1000.00")
    users = [await upstream.opened() for _ in range(ROUNDS)]

    outcomes = await upstream.at_once(
        *(item for user in users for item in (close(user), transfer(payer, user, "1.00")))
    )
    await upstream.settled(pair.owner)

    arrived = 0
    for number in range(ROUNDS):
        closed, sent = (outcome["code"] for outcome in outcomes[2 * number : 2 * number + 2])
        assert (closed, sent) in {("OK", "ACCOUNT_CLOSED"), ("BALANCE_NOT_ZERO", "OK")}
        arrived += sent == "OK"
    assert await upstream.balances(payer) == (f"{1000 - arrived}.00", f"{1000 - arrived}.00")
    await assert_sound(pair.owner)


async def test_openings_at_once_after_a_closing_open_one(pair: Wallet) -> None:
    upstream = pair.upstream
    users = [await upstream.opened() for _ in range(ROUNDS)]

    outcomes = await upstream.at_once(
        *(item for user in users for item in (close(user), *(open_account(user) for _ in range(4))))
    )
    again = await upstream.at_once(*(open_account(user) for user in users for _ in range(4)))

    for number, user in enumerate(users):
        closed, *opened = (outcome["code"] for outcome in outcomes[5 * number : 5 * number + 5])
        opened += [outcome["code"] for outcome in again[4 * number : 4 * number + 4]]
        assert closed == "OK"
        assert Counter(opened) == {"OK": 1, "ACCOUNT_EXISTS": 7}
        assert (await upstream.account(user))["status"] == "active"
    kept = "SELECT count(*) FROM accounts WHERE user_id = ANY ($1::text[]) AND status <> 'closed'"
    assert await pair.owner.fetchval(kept, users) == ROUNDS
