"""Transfers: one order, two users, at once, whichever way the money goes."""

from collections import Counter

import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import Json, account_command, fresh, transfer
from tests.journeys.shapes import a_line, an_event, an_order
from tests.journeys.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUNDS = 100


async def statement(upstream: Upstream, user: str) -> Json:
    return await upstream.query(
        {"type": "statement.get.v1", "user_id": user, "currency": "TWD", "limit": 1_000}
    )


async def test_a_transfer_moves_money_at_once_and_both_users_see_it(upstream: Upstream) -> None:
    payer, payee = await upstream.funded(), await upstream.opened()
    command = transfer(payer, payee, "25.5", metadata={"note": "lunch"})

    order = await upstream.applied(command)
    event = await upstream.events.first_about(command["serial_no"])
    detail = await upstream.order(command["serial_no"])
    sent, received = await statement(upstream, payer), await statement(upstream, payee)

    payee_account = await upstream.account(payee)
    an_order(
        order,
        serial_no=command["serial_no"],
        user_id=payer,
        order_type="transfer",
        amount="25.50",
        status="succeeded",
        transacted_at=True,
        to_user_id=payee,
        to_account_no=payee_account["account_no"],
    )
    debit, credit = sent["entries"][-1], received["entries"][-1]
    a_line(debit, line_no=2, order_type="transfer", direction="debit", amount="25.50", balance_after="74.50")
    a_line(credit, line_no=1, order_type="transfer", direction="credit", balance_after="25.50")
    assert (debit["account_no"], credit["account_no"]) == (order["account_no"], payee_account["account_no"])
    body = an_event(event.json, type_="order.succeeded.v1", serial_no=command["serial_no"])
    assert body.pop("entries") == [debit, credit]
    assert body == {**order, "metadata": {"note": "lunch"}} == detail["order"]
    assert detail["entries"] == [debit, credit]
    assert (sent["closing_balance"], received["closing_balance"]) == ("74.50", "25.50")


async def test_a_transfer_is_applied_once(upstream: Upstream) -> None:
    payer, payee = await upstream.funded(), await upstream.opened()
    command = transfer(payer, payee, "30.00")

    outcomes = await upstream.at_once(*[command] * 4)
    changed = await upstream.outcome({**command, "to_user_id": payer, "amount": "31.00"})

    assert [outcome["duplicate"] for outcome in outcomes] == [False, True, True, True]
    assert [outcome["result"] for outcome in outcomes] == [outcomes[0]["result"]] * 4
    assert (changed["code"], changed["different"]) == ("SERIAL_CONFLICT", ["amount", "to_user_id"])
    assert await upstream.balances(payee) == ("30.00", "30.00")


async def test_a_user_may_move_money_between_accounts_of_his_own(upstream: Upstream) -> None:
    user = await upstream.funded()
    await upstream.opened(user, account_type="savings")

    saved = await upstream.code(transfer(user, user, "60.00", to_account_type="savings"))
    back = await upstream.code(transfer(user, user, "10.00", account_type="savings"))
    in_a_circle = await upstream.code(transfer(user, user, "1.00"))

    assert (saved, back, in_a_circle) == ("OK", "OK", "SAME_ACCOUNT")
    assert await upstream.balances(user, account_type="basic") == ("50.00", "50.00")
    assert await upstream.balances(user, account_type="savings") == ("50.00", "50.00")


async def test_a_refusal_says_what_stands_first(upstream: Upstream) -> None:
    """Each row mends one more fault than the row before."""
    nobody, payer, payee = fresh("nobody"), await upstream.opened(), await upstream.opened()

    codes = [
        await upstream.code(transfer(nobody, nobody, "9" * 30, currency="XQQ")),
        await upstream.code(transfer(nobody, nobody, "9" * 30)),
        await upstream.code(transfer(nobody, nobody, "1.00")),
        await upstream.code(transfer(payer, nobody, "1.00")),
        await upstream.code(transfer(payer, payer, "1.00")),
        await upstream.code(transfer(payer, payee, "1.00")),
    ]
    await upstream.paid(payer)
    codes += [
        await upstream.code(transfer(payer, payee, "100.01")),
        await upstream.code(transfer(payer, payee, "100.00")),
    ]

    assert codes == [
        "CURRENCY_NOT_SUPPORTED",
        "AMOUNT_OUT_OF_RANGE",
        "ACCOUNT_NOT_FOUND",
        "ACCOUNT_NOT_FOUND",
        "SAME_ACCOUNT",
        "INSUFFICIENT_BALANCE",
        "INSUFFICIENT_BALANCE",
        "OK",
    ]


async def test_no_money_goes_to_a_closed_account_or_out_of_a_closed_or_frozen_one(upstream: Upstream) -> None:
    payer, closed, frozen = await upstream.funded(), await upstream.opened(), await upstream.funded()
    await upstream.applied(account_command("close", closed))
    await upstream.applied(account_command("freeze", frozen))

    codes = [
        await upstream.code(transfer(payer, closed, "1.00")),
        await upstream.code(transfer(closed, payer, "1.00")),
        await upstream.code(transfer(frozen, payer, "1.00")),
        await upstream.code(transfer(frozen, closed, "1.00")),
        await upstream.code(transfer(payer, frozen, "1.00")),
    ]

    assert codes == ["ACCOUNT_CLOSED", "ACCOUNT_CLOSED", "ACCOUNT_FROZEN", "ACCOUNT_CLOSED", "OK"]
    assert await upstream.balances(frozen) == ("101.00", "101.00")


async def test_accounts_of_other_currencies_are_other_accounts(upstream: Upstream) -> None:
    payer = await upstream.funded(currency="JPY", amount="100")
    payee = await upstream.opened()

    assert await upstream.code(transfer(payer, payee, "1", currency="JPY")) == "ACCOUNT_NOT_FOUND"
    assert await upstream.code(transfer(payer, payee, "1.00")) == "ACCOUNT_NOT_FOUND"


async def test_money_goes_both_ways_at_once_on_two_workers_without_a_deadlock(pair: Wallet) -> None:
    upstream = pair.upstream
    first, other = await upstream.funded("1000.00"), await upstream.funded("1000.00")

    outcomes = await upstream.at_once(
        *(
            command
            for _ in range(ROUNDS)
            for command in (transfer(first, other, "3.00"), transfer(other, first, "2.00"))
        )
    )
    await upstream.settled(pair.owner)

    assert Counter(outcome["code"] for outcome in outcomes) == {"OK": 2 * ROUNDS}
    assert await upstream.balances(first) == ("900.00", "900.00")
    assert await upstream.balances(other) == ("1100.00", "1100.00")
    lines = (await statement(upstream, first))["entries"]
    assert [line["line_no"] for line in lines] == list(range(1, 2 * ROUNDS + 2))
    await assert_sound(pair.owner)


async def test_money_goes_round_in_a_ring_on_two_workers(pair: Wallet) -> None:
    upstream = pair.upstream
    ring = [await upstream.funded() for _ in range(5)]
    commands = [
        transfer(payer, payee, "1.00")
        for _ in range(ROUNDS // 2)
        for payer, payee in zip(ring, [*ring[1:], ring[0]], strict=True)
    ]

    outcomes = await upstream.at_once(*commands)
    await upstream.settled(pair.owner)

    assert Counter(outcome["code"] for outcome in outcomes) == {"OK": len(commands)}
    assert {await upstream.balances(user) for user in ring} == {("100.00", "100.00")}
    await assert_sound(pair.owner)


async def test_transfers_at_once_never_take_more_than_there_is(pair: Wallet) -> None:
    upstream = pair.upstream
    payer = await upstream.funded()
    payees = [await upstream.opened() for _ in range(10)]

    outcomes = await upstream.at_once(*(transfer(payer, payee, "30.00") for payee in payees))

    codes = Counter(outcome["code"] for outcome in outcomes)
    assert codes == {"OK": 3, "INSUFFICIENT_BALANCE": 7}
    assert await upstream.balances(payer) == ("10.00", "10.00")
    await upstream.settled(pair.owner)
    await assert_sound(pair.owner)
