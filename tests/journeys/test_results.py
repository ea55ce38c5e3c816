"""Payment results: each row of the contract's table, every bad one, and what the gateway is told of each."""

import itertools
import time
from dataclasses import dataclass
from typing import Any

import pytest
from pamqp.common import FieldValue

from tests.journeys.conftest import Wallet
from tests.journeys.letters import assert_dead_letter
from tests.journeys.messages import Json, account_command, encoded, fresh, recharge, result, signed
from tests.journeys.upstream import RESULTS, Upstream
from tests.workers import KEYS, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATUSES = ("pending", "succeeded", "failed", "expired")


async def an_order(wallet: Wallet, status: str = "pending", **fields: Any) -> Json:
    """Return the command of an order of a new user that has come to this status."""
    upstream = wallet.upstream
    order = recharge(await upstream.opened(currency=fields.get("currency", "TWD")), **fields)
    assert (await upstream.outcome(order))["code"] == "OK"
    match status:
        case "succeeded" | "failed":
            answer = await upstream.processed(
                result(order["serial_no"], status, amount=order["amount"], currency=order["currency"])
            )
            assert answer["processing_status"] == "processed"
        case "expired":
            # As the clock leaves it; what makes orders expire is tried elsewhere.
            await wallet.owner.execute(
                "UPDATE orders SET status = 'expired', due_at = NULL WHERE serial_no = $1", order["serial_no"]
            )
        case _:
            pass
    return order


async def detail(upstream: Upstream, order: Json) -> Json:
    return await upstream.query({"type": "order.get.v1", "serial_no": order["serial_no"]})


async def balance(upstream: Upstream, order: Json) -> str:
    listed = await upstream.query({"type": "account.get.v1", "user_id": order["user_id"]})
    (account,) = listed["accounts"]
    found: str = account["balance"]
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """What a result does to an order (docs/contract.md, section 6)."""

    order: str
    says: str
    answer: tuple[str, str]
    becomes: str
    credits: bool = False
    late: bool = False


PROCESSED, DUPLICATE = ("processed", "OK"), ("duplicate", "OK")
CONTRADICTION = ("refused", "CONTRADICTING_RESULT")

TABLE = [
    Row("pending", "succeeded", PROCESSED, "succeeded", credits=True),
    Row("pending", "failed", PROCESSED, "failed"),
    Row("pending", "unknown", DUPLICATE, "pending"),
    Row("succeeded", "succeeded", DUPLICATE, "succeeded"),
    Row("succeeded", "failed", CONTRADICTION, "succeeded"),
    Row("succeeded", "unknown", DUPLICATE, "succeeded"),
    Row("failed", "succeeded", PROCESSED, "succeeded", credits=True, late=True),
    Row("failed", "failed", DUPLICATE, "failed"),
    Row("failed", "unknown", DUPLICATE, "failed"),
    Row("expired", "succeeded", PROCESSED, "succeeded", credits=True, late=True),
    Row("expired", "failed", DUPLICATE, "expired"),
    Row("expired", "unknown", DUPLICATE, "expired"),
]


async def test_the_table_has_a_row_for_every_status_and_result() -> None:
    rows = [(row.order, row.says) for row in TABLE]

    assert rows == list(itertools.product(STATUSES, ("succeeded", "failed", "unknown")))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.order}-{row.says}")
async def test_a_result_does_to_an_order_what_the_contract_says(row: Row, shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared, row.order)
    await upstream.settled(shared.owner)  # the order's own events come after its outcome
    told_before = len(upstream.events.about(order["serial_no"]))
    saying = result(order["serial_no"], row.says, gateway_ref="another one")

    answer = await upstream.processed(saying)
    found = await detail(upstream, order)
    await upstream.settled(shared.owner)

    assert (answer["processing_status"], answer["code"]) == row.answer
    assert found["order"]["status"] == row.becomes
    assert found["order"].get("late") == (True if row.late else None)
    paid = row.credits or row.order == "succeeded"
    assert await balance(upstream, order) == ("100.00" if paid else "0.00")
    assert len(found["entries"]) == int(paid)
    events = upstream.events.about(order["serial_no"])[told_before:]
    assert [event.json["type"] for event in events] == (
        [f"order.{row.becomes}.v1"] if row.answer == PROCESSED else []
    )
    for event in events:
        assert ("entries" in event.json["data"]) == row.credits
        assert event.json["data"].get("late") == (True if row.late else None)
    letters = upstream.dead_letters.about(order["serial_no"])
    if row.answer == CONTRADICTION:
        (letter,) = letters
        body = encoded(saying)
        assert_dead_letter(
            letter,
            body,
            reason="CONTRADICTING_RESULT",
            source=RESULTS,
            routing_key="payment.result",
            headers={"x-signature": signed(body)},
        )
    else:
        assert letters == []


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A result that does not fit an order of 100.00 TWD."""

    name: str
    code: str
    fields: Json
    says: str = "succeeded"


MISMATCHES = [
    Mismatch("too little", "AMOUNT_MISMATCH", {"amount": "99.99"}),
    Mismatch("too much", "AMOUNT_MISMATCH", {"amount": "100.01"}),
    Mismatch("30 digits", "AMOUNT_MISMATCH", {"amount": "1" * 30}),
    Mismatch("failed, of another amount", "AMOUNT_MISMATCH", {"amount": "1.00"}, "failed"),
    Mismatch("unknown, of another amount", "AMOUNT_MISMATCH", {"amount": "1.00"}, "unknown"),
    Mismatch("another currency", "CURRENCY_MISMATCH", {"currency": "USD"}),
    Mismatch("a currency that is none", "CURRENCY_MISMATCH", {"currency": "XQQ"}),
    Mismatch("another currency and amount", "CURRENCY_MISMATCH", {"currency": "JPY", "amount": "5"}),
]


@pytest.mark.parametrize("bad", MISMATCHES, ids=lambda bad: bad.name)
async def test_a_result_that_does_not_fit_its_order_moves_nothing(bad: Mismatch, shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared)
    saying = result(order["serial_no"], bad.says, **bad.fields)

    refused = await upstream.processed(saying)
    found = await detail(upstream, order)
    letter = await upstream.dead_letters.first_about(order["serial_no"])
    then = await upstream.processed(result(order["serial_no"]))

    assert (refused["processing_status"], refused["code"]) == ("refused", bad.code)
    assert (found["order"]["status"], found["entries"]) == ("pending", [])
    assert_dead_letter(
        letter,
        encoded(saying),
        reason=bad.code,
        source=RESULTS,
        routing_key="payment.result",
        headers={"x-signature": signed(encoded(saying))},
    )
    assert (then["processing_status"], then["code"]) == PROCESSED
    assert await balance(upstream, order) == "100.00"


async def test_an_amount_spelt_otherwise_fits(shared: Wallet) -> None:
    order = await an_order(shared)

    answer = await shared.upstream.processed(result(order["serial_no"], amount="0100.0"))

    assert (answer["processing_status"], answer["code"]) == PROCESSED


FORGERIES: dict[str, FieldValue] = {
    "of other bytes": signed(b"{}"),
    "by an unknown key": signed(b"", key_id="k9"),
    "with another secret": signed(b"", secret="guessed"),
    "without a time": "kid=k1,v1=" + "0" * 64,
    "without a key": "t=1,v1=" + "0" * 64,
    "without a digest": "t=1,kid=k1",
    "in another scheme": "t=1,kid=k1,v2=" + "0" * 64,
    "that is nonsense": "ÿ\0=,,;",
    "of 100 KB": "v1=" + "0" * 100_000,
    "that is a number": 7,
    "that is a table": {"t": "1", "kid": "k1", "v1": "0" * 64},
    "that is an array": ["t=1"],
    "that is bytes": bytearray(b"t=1,kid=k1,v1=\xff"),
    "that is true": True,
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_result_with_a_bad_signature_moves_nothing(name: str, shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared)
    saying = result(order["serial_no"])

    refused = await upstream.processed(saying, signature=FORGERIES[name])
    letter = await upstream.dead_letters.first_about(order["serial_no"])
    found = await detail(upstream, order)

    assert (refused["processing_status"], refused["code"]) == ("refused", "BAD_SIGNATURE")
    assert (found["order"]["status"], found["entries"]) == ("pending", [])
    assert letter.headers["x-wallet-reason"] == "BAD_SIGNATURE"
    assert letter.body == encoded(saying)


async def test_an_edited_body_does_not_fit_its_signature(shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared)
    signature = signed(encoded(result(order["serial_no"], amount="99.00")))

    refused = await upstream.processed(result(order["serial_no"]), signature=signature)

    assert refused["code"] == "BAD_SIGNATURE"
    assert await balance(upstream, order) == "0.00"


async def test_a_result_without_a_signature_moves_nothing(shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared)
    body = encoded(result(order["serial_no"]))

    await upstream.publish(RESULTS, body)
    letter = await upstream.dead_letters.first_about(order["serial_no"])

    assert_dead_letter(letter, body, reason="BAD_SIGNATURE", source=RESULTS)
    assert await balance(upstream, order) == "0.00"


async def test_one_good_signature_among_several_is_enough_while_keys_rotate(shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared)
    body = encoded(result(order["serial_no"]))
    new = signed(body, key_id="k2", secret="the gateway's next").partition(",")[2]

    answer = await upstream.processed(body, signature=f"{signed(body, secret=KEYS['k1'])},{new}")

    assert (answer["processing_status"], answer["code"]) == PROCESSED


async def test_a_result_is_as_old_as_its_order_at_most(shared: Wallet) -> None:
    upstream = shared.upstream
    order, early = await an_order(shared), await an_order(shared)
    now = int(time.time())

    bodies = [encoded(result(item["serial_no"])) for item in (order, early)]
    good, bad = [
        await upstream.processed(body, signature=signed(body, at=at))
        for body, at in zip(bodies, (now - 200, now - 400), strict=True)
    ]

    assert (good["processing_status"], good["code"]) == PROCESSED
    assert (bad["processing_status"], bad["code"]) == ("refused", "KEY_NOT_ALLOWED")


MALFORMED: dict[str, tuple[str, Json | bytes, bool]] = {
    "no JSON": ("MALFORMED", b"<xml/>", False),
    "no order number": ("MALFORMED", {"payment_order_no": ...}, False),
    "no gateway_ref": ("MALFORMED", {"gateway_ref": ...}, True),
    "an empty gateway_ref": ("MALFORMED", {"gateway_ref": ""}, True),
    "a gateway_ref of 65 characters": ("MALFORMED", {"gateway_ref": "g" * 65}, True),
    "NUL in the reason": ("MALFORMED", {"reason": "a\0b"}, True),
    "a number as amount": ("MALFORMED", {"amount": 100}, True),
    "an unknown status": ("MALFORMED", {"status": "maybe"}, True),
    "an extra field": ("MALFORMED", {"fee": "1.00"}, True),
    "a local time": ("MALFORMED", {"occurred_at": "2026-01-02T03:04:05"}, True),
    "no day of any year": ("MALFORMED", {"occurred_at": "2026-02-30T00:00:00Z"}, True),
    "a command": ("UNSUPPORTED_TYPE", {"type": "order.recharge.v1"}, True),
    "an unknown version": ("UNSUPPORTED_TYPE", {"type": "payment.result.v2"}, True),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_result_is_a_dead_letter_however_well_signed(name: str, shared: Wallet) -> None:
    upstream = shared.upstream
    code, change, answered = MALFORMED[name]
    order = await an_order(shared)
    body = change if isinstance(change, bytes) else encoded(result(order["serial_no"], **change))

    request = await upstream.result(body)
    letters = await upstream.dead_letters.until(lambda value: value.properties.correlation_id == request)
    then = await upstream.processed(result(order["serial_no"]))

    (letter,) = letters
    assert_dead_letter(
        letter,
        body,
        reason=code,
        source=RESULTS,
        routing_key="payment.result",
        headers={"x-signature": signed(body)},
    )
    replies = [item.json for item in upstream.replies.received if item.properties.correlation_id == request]
    assert replies == (
        [
            {
                "type": "payment.processed.v1",
                "payment_order_no": order["serial_no"],
                "processing_status": "refused",
                "code": code,
            }
        ]
        if answered
        else []
    )
    assert (then["processing_status"], then["code"]) == PROCESSED


@pytest.mark.parametrize(
    ("change", "code"), [({"fee": "1.00"}, "MALFORMED"), ({"type": "payment.result.v2"}, "UNSUPPORTED_TYPE")]
)
async def test_what_cannot_be_read_is_told_before_what_is_not_signed(
    change: Json, code: str, shared: Wallet
) -> None:
    order = await an_order(shared)

    answer = await shared.upstream.processed(result(order["serial_no"], **change), signature="t=1")

    assert (answer["processing_status"], answer["code"]) == ("refused", code)


async def test_a_result_that_comes_twice_or_ten_times_credits_once(shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared)
    saying = result(order["serial_no"])

    heard = [await upstream.result(saying) for _ in range(10)]
    answers = [(await upstream.answer(item))["processing_status"] for item in heard]

    assert answers == ["processed"] + ["duplicate"] * 9
    assert await balance(upstream, order) == "100.00"


async def make_due(wallet: Wallet, number: str, attempts: int) -> None:
    """Have a result that was parked this often looked at now, instead of in up to five minutes."""
    parked = "SELECT attempts FROM parked_results WHERE payment_order_no = $1"
    await until(wallet.owner, parked, attempts, number)
    await wallet.owner.execute(
        "UPDATE parked_results SET due_at = clock_timestamp() WHERE payment_order_no = $1", number
    )


async def test_a_result_of_an_unknown_order_waits_three_times_and_is_a_dead_letter_then(
    shared: Wallet,
) -> None:
    upstream, number = shared.upstream, fresh("nobody")
    body = encoded(result(number))

    request = await upstream.result(body, headers={"tenant": "north"})
    for attempts in (1, 2, 3):
        await make_due(shared, number, attempts)
    answer = await upstream.answer(request)
    letter = await upstream.dead_letters.first_about(number)

    assert (answer["processing_status"], answer["code"]) == ("refused", "ORDER_NOT_FOUND")
    assert_dead_letter(
        letter,
        body,
        reason="ORDER_NOT_FOUND",
        source=RESULTS,
        routing_key="payment.result",
        attempts=4,
        headers={"x-signature": signed(body), "tenant": "north"},
    )
    assert letter.properties.correlation_id == request
    assert (
        await shared.owner.fetchval("SELECT count(*) FROM parked_results WHERE payment_order_no = $1", number)
        == 0
    )


async def test_a_parked_result_is_due_after_5_seconds_30_seconds_and_5_minutes(shared: Wallet) -> None:
    number, waits = fresh("nobody"), []

    await shared.upstream.result(result(number))
    for attempts in (1, 2, 3):
        parked = "SELECT attempts FROM parked_results WHERE payment_order_no = $1"
        await until(shared.owner, parked, attempts, number)
        waits.append(
            await shared.owner.fetchval(
                "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM parked_results"
                " WHERE payment_order_no = $1",
                number,
            )
        )
        await make_due(shared, number, attempts)

    assert [wanted - 3 < wait <= wanted for wait, wanted in zip(waits, (5, 30, 300), strict=True)] == [
        True
    ] * 3


async def test_a_result_before_its_order_is_applied_when_the_order_comes(shared: Wallet) -> None:
    upstream, user = shared.upstream, await shared.upstream.opened()
    order = recharge(user)
    await upstream.result(result(order["serial_no"]))
    parked = "SELECT attempts FROM parked_results WHERE payment_order_no = $1"
    await until(shared.owner, parked, 1, order["serial_no"])
    await shared.owner.execute(
        "UPDATE parked_results SET attempts = 3, due_at = due_at + interval '5 minutes' WHERE payment_order_no = $1",
        order["serial_no"],
    )

    outcome = await upstream.outcome(order)
    event = await upstream.events.first_about(order["serial_no"], "order.succeeded.v1")

    assert outcome["result"]["order_status"] == "pending"
    assert event.json["data"]["entries"][0]["balance_after"] == "100.00"
    assert await balance(upstream, order) == "100.00"
    assert upstream.dead_letters.about(order["serial_no"]) == []


async def test_a_forged_result_of_an_unknown_order_is_not_parked(shared: Wallet) -> None:
    upstream, number = shared.upstream, fresh("nobody")

    answer = await upstream.processed(result(number), signature="t=1,kid=k1,v1=" + "0" * 64)

    assert answer["code"] == "BAD_SIGNATURE"
    assert (
        await shared.owner.fetchval("SELECT count(*) FROM parked_results WHERE payment_order_no = $1", number)
        == 0
    )


async def test_a_mismatch_of_a_contradicting_result_has_the_code_that_stands_first(shared: Wallet) -> None:
    order = await an_order(shared, "succeeded")

    both = await shared.upstream.processed(result(order["serial_no"], "failed", currency="USD", amount="1"))
    amount = await shared.upstream.processed(result(order["serial_no"], "failed", amount="1"))
    neither = await shared.upstream.processed(result(order["serial_no"], "failed"))

    assert [item["code"] for item in (both, amount, neither)] == [
        "CURRENCY_MISMATCH",
        "AMOUNT_MISMATCH",
        "CONTRADICTING_RESULT",
    ]


async def test_a_late_success_for_a_closed_account_is_a_dead_letter(shared: Wallet) -> None:
    upstream = shared.upstream
    order = await an_order(shared, "failed")
    await upstream.applied(account_command("close", order["user_id"]))

    answer = await upstream.processed(result(order["serial_no"], currency="USD"))
    letter = await upstream.dead_letters.first_about(order["serial_no"])

    assert (answer["processing_status"], answer["code"]) == ("refused", "ACCOUNT_CLOSED")
    assert letter.headers["x-wallet-reason"] == "ACCOUNT_CLOSED"
    assert (await detail(upstream, order))["order"]["status"] == "failed"
