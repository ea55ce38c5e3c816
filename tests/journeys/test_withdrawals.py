"""Withdrawals: reserved at once, debited or given back when the gateway says so, and never guessed."""

import itertools
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.letters import assert_dead_letter
from tests.journeys.messages import Json, encoded, fresh, result, signed, withdraw
from tests.journeys.shapes import a_line, a_time, an_event, an_order
from tests.journeys.upstream import RESULTS, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROCESSED, DUPLICATE = ("processed", "OK"), ("duplicate", "OK")
CONTRADICTION = ("refused", "CONTRADICTING_RESULT")
ROUNDS = 20


def status_and_code(answer: Json) -> tuple[str, str]:
    return answer["processing_status"], answer["code"]


async def test_a_withdrawal_is_reserved_at_once_and_debited_when_it_was_paid_out(upstream: Upstream) -> None:
    user = await upstream.funded()
    command = withdraw(user, "40.00")

    order = await upstream.applied(command)
    reserved = await upstream.balances(user)
    request = (await upstream.requests.first_about(command["serial_no"])).json
    processed = await upstream.processed(result(command["serial_no"], amount="40.00"))
    moved = await upstream.balances(user)
    detail = await upstream.order(command["serial_no"])
    pending = await upstream.events.first_about(command["serial_no"], "order.pending.v1")
    succeeded = await upstream.events.first_about(command["serial_no"], "order.succeeded.v1")

    what = {
        "serial_no": command["serial_no"],
        "user_id": user,
        "order_type": "withdraw",
        "amount": "40.00",
    }
    an_order(order, **what, status="pending")
    assert (reserved, moved) == (("100.00", "60.00"), ("60.00", "60.00"))
    a_time(request.pop("requested_at"))
    assert (request.pop("user_id"), request.pop("account_no")) == (user, order["account_no"])
    assert request == {
        "type": "payment.request.v1",
        "payment_order_no": command["serial_no"],
        "kind": "payout",
        "amount": "40.00",
        "currency": "TWD",
        "channel": "bank_transfer",
        "expires_at": None,
    }
    assert status_and_code(processed) == PROCESSED
    assert an_event(pending.json, type_="order.pending.v1", serial_no=command["serial_no"]) == order
    body = an_event(succeeded.json, type_="order.succeeded.v1", serial_no=command["serial_no"])
    (line,) = body.pop("entries")
    a_line(line, line_no=2, order_type="withdraw", direction="debit", amount="40.00", balance_after="60.00")
    an_order(body, **what, status="succeeded", transacted_at=True)
    assert detail["order"].pop("gateway_ref")
    assert (detail["order"], detail["entries"]) == (body, [line])
    assert detail["outcome"]["result"] == {**order, "object": "order"}


async def test_a_withdrawal_that_failed_gives_the_reserve_back(upstream: Upstream) -> None:
    user = await upstream.funded()
    command = withdraw(user, "40.00")
    await upstream.applied(command)

    processed = await upstream.processed(result(command["serial_no"], "failed", amount="40.00"))
    notified = await upstream.events.first_about(command["serial_no"], "order.failed.v1")

    assert status_and_code(processed) == PROCESSED
    assert await upstream.balances(user) == ("100.00", "100.00")
    assert "entries" not in notified.json["data"]
    assert (await upstream.order(command["serial_no"]))["entries"] == []


@dataclass(frozen=True, slots=True)
class Row:
    """What a result does to a withdrawal of 40.00 from 100.00 (docs/contract.md, section 6)."""

    order: str
    says: str
    answer: tuple[str, str]
    becomes: str
    leaves: tuple[str, str]


RESERVED, PAID, BACK = ("100.00", "60.00"), ("60.00", "60.00"), ("100.00", "100.00")

TABLE = [
    Row("pending", "succeeded", PROCESSED, "succeeded", PAID),
    Row("pending", "failed", PROCESSED, "failed", BACK),
    Row("pending", "unknown", DUPLICATE, "pending", RESERVED),
    Row("succeeded", "succeeded", DUPLICATE, "succeeded", PAID),
    Row("succeeded", "failed", CONTRADICTION, "succeeded", PAID),
    Row("succeeded", "unknown", DUPLICATE, "succeeded", PAID),
    Row("failed", "succeeded", CONTRADICTION, "failed", BACK),
    Row("failed", "failed", DUPLICATE, "failed", BACK),
    Row("failed", "unknown", DUPLICATE, "failed", BACK),
]


async def test_the_table_has_a_row_for_every_status_and_result() -> None:
    rows = [(row.order, row.says) for row in TABLE]

    assert rows == list(
        itertools.product(("pending", "succeeded", "failed"), ("succeeded", "failed", "unknown"))
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.order}-{row.says}")
async def test_a_result_does_to_a_withdrawal_what_the_contract_says(row: Row, shared: Wallet) -> None:
    upstream = shared.upstream
    user = await upstream.funded()
    command = withdraw(user, "40.00")
    await upstream.applied(command)
    if row.order != "pending":
        await upstream.processed(result(command["serial_no"], row.order, amount="40.00"))
    saying = result(command["serial_no"], row.says, amount="40.00", gateway_ref="another one")

    answer = await upstream.processed(saying)
    await upstream.settled(shared.owner)

    assert status_and_code(answer) == row.answer
    assert await upstream.status(command["serial_no"]) == row.becomes
    assert await upstream.balances(user) == row.leaves
    letters = upstream.dead_letters.about(command["serial_no"])
    if row.answer == CONTRADICTION:
        (letter,) = letters
        assert_dead_letter(
            letter,
            encoded(saying),
            reason="CONTRADICTING_RESULT",
            source=RESULTS,
            routing_key="payment.result",
            headers={"x-signature": signed(encoded(saying))},
        )
    else:
        assert letters == []


async def test_a_payout_that_was_unknown_may_still_have_succeeded(upstream: Upstream) -> None:
    user = await upstream.funded()
    command = withdraw(user, "40.00")
    await upstream.applied(command)

    unknown = [await upstream.processed(result(command["serial_no"], "unknown", amount="40.00"))]
    unknown += [await upstream.processed(result(command["serial_no"], "unknown", amount="40.00"))]
    still = await upstream.balances(user)
    known = await upstream.processed(result(command["serial_no"], amount="40.00"))

    assert [status_and_code(answer) for answer in unknown] == [DUPLICATE, DUPLICATE]
    assert still == RESERVED
    assert status_and_code(known) == PROCESSED
    assert await upstream.balances(user) == PAID


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"amount": "39.99"}, "AMOUNT_MISMATCH"),
        ({"amount": "40.01"}, "AMOUNT_MISMATCH"),
        ({"amount": "40.00", "currency": "USD"}, "CURRENCY_MISMATCH"),
        ({"amount": "40", "currency": "JPY"}, "CURRENCY_MISMATCH"),
    ],
)
async def test_a_result_that_does_not_fit_moves_nothing(upstream: Upstream, fields: Json, code: str) -> None:
    user = await upstream.funded()
    command = withdraw(user, "40.00")
    await upstream.applied(command)

    refused = await upstream.processed(result(command["serial_no"], **fields))
    kept = await upstream.balances(user)
    right = await upstream.processed(result(command["serial_no"], amount="40.0"))

    assert status_and_code(refused) == ("refused", code)
    assert kept == RESERVED
    assert status_and_code(right) == PROCESSED


async def test_a_refusal_says_what_stands_first(upstream: Upstream) -> None:
    """Each row mends one more fault than the row before."""
    nobody, user = fresh("nobody"), await upstream.funded()

    codes = [
        await upstream.code(withdraw(nobody, "9" * 30, currency="XQQ")),
        await upstream.code(withdraw(nobody, "9" * 30)),
        await upstream.code(withdraw(nobody, "1000.00")),
        await upstream.code(withdraw(user, "1000.00", account_type="savings")),
        await upstream.code(withdraw(user, "100.01")),
        await upstream.code(withdraw(user, "100.00")),
    ]

    assert codes == [
        "CURRENCY_NOT_SUPPORTED",
        "AMOUNT_OUT_OF_RANGE",
        "ACCOUNT_NOT_FOUND",
        "ACCOUNT_NOT_FOUND",
        "INSUFFICIENT_BALANCE",
        "OK",
    ]
    assert await upstream.balances(user) == ("100.00", "0.00")


async def test_what_is_reserved_cannot_be_withdrawn_again(upstream: Upstream) -> None:
    user = await upstream.funded()
    first = withdraw(user, "60.00")
    await upstream.applied(first)

    while_reserved = await upstream.outcome(withdraw(user, "40.01"))
    await upstream.processed(result(first["serial_no"], "failed", amount="60.00"))
    refused_again = await upstream.outcome({**withdraw(user, "40.01"), "serial_no": first["serial_no"]})
    afterwards = await upstream.code(withdraw(user, "100.00"))

    assert (while_reserved["status"], while_reserved["code"]) == ("refused", "INSUFFICIENT_BALANCE")
    assert while_reserved["result"] == {"object": "none"}
    assert (refused_again["code"], refused_again["different"]) == ("SERIAL_CONFLICT", ["amount"])
    assert afterwards == "OK"


async def test_the_same_withdrawal_twice_is_one(shared: Wallet) -> None:
    upstream = shared.upstream
    user = await upstream.funded()
    command = withdraw(user, "60.00")

    outcomes = await upstream.at_once(*[command] * 3)
    await upstream.settled(shared.owner)

    assert [outcome["duplicate"] for outcome in outcomes] == [False, True, True]
    assert len({str(outcome["result"]) for outcome in outcomes}) == 1
    assert await upstream.balances(user) == ("100.00", "40.00")
    assert len(upstream.requests.about(command["serial_no"])) == 1


async def test_withdrawals_at_once_on_two_workers_never_take_more_than_there_is(pair: Wallet) -> None:
    upstream = pair.upstream
    users = [await upstream.funded() for _ in range(ROUNDS)]
    commands = [withdraw(user, "60.00") for user in users for _ in range(2)]

    outcomes = await upstream.at_once(*commands)

    assert Counter(outcome["code"] for outcome in outcomes) == {"OK": ROUNDS, "INSUFFICIENT_BALANCE": ROUNDS}
    assert {await upstream.balances(user) for user in users} == {("100.00", "40.00")}
    for outcome in outcomes:
        if outcome["code"] == "OK":
            await upstream.processed(result(outcome["serial_no"], amount="60.00"))
    await upstream.settled(pair.owner)
    assert {await upstream.balances(user) for user in users} == {("40.00", "40.00")}
    await assert_sound(pair.owner)


async def test_the_same_result_twice_on_two_workers_debits_once(pair: Wallet) -> None:
    upstream = pair.upstream
    user = await upstream.funded("1000.00")
    commands = [withdraw(user, "10.00") for _ in range(ROUNDS)]
    await upstream.at_once(*commands)

    heard = []
    for command in commands:
        body = encoded(result(command["serial_no"], amount="10.00"))
        heard += [await upstream.result(body) for _ in range(3)]
    answers = [status_and_code(await upstream.answer(item)) for item in heard]
    await upstream.settled(pair.owner)

    assert Counter(answers) == {PROCESSED: ROUNDS, DUPLICATE: 2 * ROUNDS}
    assert await upstream.balances(user) == ("800.00", "800.00")
    await assert_sound(pair.owner)
