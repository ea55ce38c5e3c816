"""A life by HTTP alone: every command, every look, and what a repeat and a conflict are answered."""

import asyncio
from typing import Any

import httpx2 as httpx
import pytest

from tests.api.money import RESULTS, depth, how_to_pay, opened, paid, recharge, reversal, signed, word
from wallet_schemas.http import ApiClient
from wallet_worker.client import WalletClient


def numbered(serial_no: str) -> dict[str, str]:
    return {"Idempotency-Key": serial_no}


@pytest.mark.usefixtures("worker")
async def test_account_is_opened_once_and_found(http: httpx.AsyncClient) -> None:
    body = {"user_id": "alice", "currency": "TWD"}

    first = await http.post("/v1/accounts", json=body, headers=numbered("OPEN-1"))
    again = await http.post("/v1/accounts", json=body, headers=numbered("OPEN-1"))

    assert first.status_code == 201, first.text
    assert first.json()["duplicate"] is False
    assert "idempotent-replayed" not in first.headers
    assert again.status_code == 201
    assert again.json() == {**first.json(), "duplicate": True}
    assert again.headers["idempotent-replayed"] == "true"
    found = await http.get(first.headers["location"])
    assert [account["account_no"] for account in found.json()["accounts"]] == [
        first.json()["result"]["account_no"]
    ]


@pytest.mark.usefixtures("worker")
async def test_every_command_and_every_look_has_its_path(http: httpx.AsyncClient) -> None:
    for user_id in ("alice", "bob"):
        await opened(http, user_id)
    await paid(http, "alice", "R-1")

    async def post(path: str, number: str, **body: Any) -> httpx.Response:
        return await http.post(path, json=body, headers=numbered(number))

    money = {"amount": "10.00", "currency": "TWD"}
    account = {"user_id": "alice", "currency": "TWD"}
    transferred = await post("/v1/transfers", "T-1", user_id="alice", to_user_id="bob", **money)
    withdrawn = await post("/v1/withdrawals", "W-1", user_id="alice", payout_type="bank_transfer", **money)
    refunded = await post("/v1/refunds", "RF-1", original_serial_no="R-1", **money)
    held = await post("/v1/holds", "H-1", user_id="alice", expires_in_seconds=600, **money)
    captured = await post(
        "/v1/captures", "C-1", hold_serial_no="H-1", to_user_id="bob", amount="4.00", currency="TWD"
    )
    released = await post("/v1/releases", "L-1", hold_serial_no="H-1")
    frozen = await post("/v1/accounts/freeze", "F-1", reason="chargeback", **account)
    unfrozen = await post("/v1/accounts/unfreeze", "U-1", reason="settled", **account)
    closed = await post("/v1/accounts/close", "X-1", reason="leaves", **account)

    for answer in (transferred, withdrawn, refunded, held, captured, released):
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"] == f"/v1/orders?serial_no={answer.json()['serial_no']}"
    for answer in (frozen, unfrozen):
        assert answer.status_code == 200, answer.text
    assert frozen.json()["result"]["status"] == "frozen"
    assert closed.status_code == 422
    assert closed.json()["code"] == "BALANCE_NOT_ZERO"
    order = (await http.get("/v1/orders", params={"serial_no": "T-1"})).json()
    assert [entry["direction"] for entry in order["entries"]] == ["debit", "credit"]
    outcome = await http.get("/v1/outcomes", params={"serial_no": "X-1"})
    assert outcome.status_code == 200, "a refused outcome is an answer, too"
    assert outcome.json()["status"] == "refused"
    client = ApiClient.model_validate_json((await http.get("/v1/client")).content)
    assert client.client == "shop"


@pytest.mark.usefixtures("worker")
async def test_statement_has_every_line_once_over_its_pages(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    for number in range(5):
        await paid(http, "alice", f"R-{number}")

    lines: list[int] = []
    following: str | None = (
        "/v1/statements?user_id=alice&currency=TWD&limit=2&from=2020-01-01T00:00:00%2B08:00"
    )
    while following:
        page = await http.get(following)
        assert page.status_code == 200, page.text
        lines += [entry["line_no"] for entry in page.json()["entries"]]
        following = page.links["next"]["url"] if page.links else None

    assert lines == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("worker")
async def test_conflict_is_refused_at_the_door_and_makes_no_dead_letter(
    http: httpx.AsyncClient, amqp_url: str
) -> None:
    await opened(http, "alice")
    await http.post("/v1/recharges", json=recharge("alice"), headers=numbered("R-1"))

    other = await http.post("/v1/recharges", json=recharge("alice", "7"), headers=numbered("R-1"))

    assert other.status_code == 422
    problem = other.json()
    assert problem["code"] == "SERIAL_CONFLICT"
    assert problem["different"] == ["amount"]
    assert problem["retry"] == "never"
    assert other.headers["content-type"] == "application/problem+json"
    assert await depth(amqp_url) == 0


@pytest.mark.usefixtures("worker")
async def test_refusal_is_final_and_repeated(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    body = {"user_id": "alice", "amount": "5.00", "currency": "TWD", "payout_type": "bank_transfer"}

    first = await http.post("/v1/withdrawals", json=body, headers=numbered("W-1"))
    await paid(http, "alice", "R-1")
    again = await http.post("/v1/withdrawals", json=body, headers=numbered("W-1"))

    assert (first.status_code, again.status_code) == (422, 422)
    assert first.json()["code"] == again.json()["code"] == "INSUFFICIENT_BALANCE"
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    assert first.json()["instance"] == "/v1/outcomes?serial_no=W-1"
    assert first.json()["details"] == again.json()["details"] == {"available": "0.00"}
    assert first.json()["detail"] == again.json()["detail"]


@pytest.mark.usefixtures("worker")
async def test_same_command_by_both_roads_has_one_outcome(http: httpx.AsyncClient, amqp_url: str) -> None:
    async with WalletClient(amqp_url) as wallet:
        by_amqp = await wallet.open_account("alice", "TWD", serial_no="OPEN-1")
        by_http = await http.post(
            "/v1/accounts", json={"user_id": "alice", "currency": "TWD"}, headers=numbered("OPEN-1")
        )
        first = await http.post("/v1/recharges", json=recharge("alice", "100"), headers=numbered("R-1"))
        second = await wallet.recharge("alice", "100.00", "TWD", "card", serial_no="R-1")

    assert by_http.status_code == 201
    assert by_http.json()["duplicate"] is True
    assert by_http.json()["result"]["account_no"] == getattr(by_amqp.result, "account_no", None)
    assert first.json()["duplicate"] is False
    assert second.duplicate is True


@pytest.mark.usefixtures("worker")
async def test_result_by_http_before_its_order_is_applied_later(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    body = word("R-1")

    early = await http.post(RESULTS, content=body, headers=signed(body) | {"Prefer": "wait=1"})
    ordered = await http.post("/v1/recharges", json=recharge("alice"), headers=numbered("R-1"))
    order = await http.get("/v1/orders", params={"serial_no": "R-1"}, headers={"Prefer": "wait=20"})

    assert early.status_code == 202, early.text
    assert early.json() == {
        "type": "payment.accepted.v1",
        "payment_order_no": "R-1",
        "processing_status": "accepted",
    }
    assert ordered.status_code == 201
    assert order.json()["order"]["status"] == "succeeded"
    assert order.headers["preference-applied"] == "wait=20"


@pytest.mark.usefixtures("worker")
async def test_recharge_is_answered_with_the_order_where_that_is_preferred(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")

    first, again = [
        await http.post(
            "/v1/recharges",
            json=recharge("alice"),
            headers=numbered("R-1") | {"Prefer": "return=representation, wait=1"},
        )
        for _ in range(2)
    ]

    for answer in (first, again):
        assert answer.status_code == 201
        assert answer.headers["preference-applied"] == "return=representation"
        assert answer.json()["type"] == "order.detail.v1"
        assert answer.json()["order"]["status"] == "pending"
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.usefixtures("worker")
async def test_order_is_cancelled_and_answered_with_how_it_stands(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    for number in ("R-1", "R-2"):
        await http.post("/v1/recharges", json=recharge("alice"), headers=numbered(number))

    cancelled = await http.post(
        "/v1/orders/cancel", json={"target_serial_no": "R-1", "reason": "left"}, headers=numbered("X-1")
    )
    shown = await http.post(
        "/v1/orders/cancel",
        json={"target_serial_no": "R-2"},
        headers=numbered("X-2") | {"Prefer": "return=representation, wait=20"},
    )
    again = await http.post("/v1/orders/cancel", json={"target_serial_no": "R-1"}, headers=numbered("X-3"))

    assert cancelled.status_code == 200, cancelled.text
    assert cancelled.headers["location"] == "/v1/orders?serial_no=R-1"
    assert cancelled.json()["result"]["status"] == "cancelled"
    assert (shown.json()["type"], shown.json()["order"]["serial_no"]) == ("order.detail.v1", "R-2")
    assert shown.json()["order"]["status"] == "cancelled"
    assert (again.status_code, again.json()["code"]) == (422, "ORDER_NOT_CANCELLABLE")


@pytest.mark.usefixtures("worker")
async def test_dispute_that_the_gateway_posts_is_shown_with_its_order(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    await paid(http, "alice", "R-1")
    await http.post(
        "/v1/withdrawals",
        json={"user_id": "alice", "amount": "70.00", "currency": "TWD", "payout_type": "bank_transfer"},
        headers=numbered("W-1"),
    )
    body = reversal("R-1")

    answers = [await http.post(RESULTS, content=body, headers=signed(body)) for _ in range(2)]
    order = (await http.get("/v1/orders?serial_no=R-1")).json()
    account = (await http.get("/v1/accounts?user_id=alice")).json()["accounts"][0]

    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    assert [answer.json()["processing_status"] for answer in answers] == ["processed", "duplicate"]
    assert [shown["moved_amount"] for shown in order["reversals"]] == ["100.00"]
    assert (order["order"]["status"], order["order"]["reversed_amount"]) == ("succeeded", "100.00")
    assert account["debt"] == "70.00"


@pytest.mark.usefixtures("worker")
async def test_recharge_is_answered_with_how_to_pay_as_soon_as_the_gateway_has_said_it(
    http: httpx.AsyncClient, amqp_url: str
) -> None:
    await opened(http, "alice")
    recharging = asyncio.create_task(
        http.post(
            "/v1/recharges",
            json=recharge("alice"),
            headers=numbered("R-1") | {"Prefer": "return=representation, wait=20"},
        )
    )
    first, second = how_to_pay("R-1"), how_to_pay("R-1", revision=2)

    notified = await http.post(RESULTS, content=first, headers=signed(first) | {"Prefer": "wait=20"})
    answer = await recharging

    assert notified.status_code in {200, 202}, notified.text  # before its order it waits
    assert answer.json()["instructions"] == {
        "revision": 1,
        "action": "store_code",
        "code": "LLL1",
        "expires_at": "2099-01-01T00:00:00.000000Z",
    }
    assert answer.json()["order"]["status"] == "pending"
    renewed = await http.post(RESULTS, content=second, headers=signed(second))
    assert renewed.json()["processing_status"] == "processed"
    found = await http.get("/v1/orders", params={"serial_no": "R-1"}, headers={"Prefer": "wait=20"})
    assert found.json()["instructions"]["code"] == "LLL2"
    async with WalletClient(amqp_url) as wallet:
        payable = await wallet.wait_until_payable("R-1")
    assert payable.instructions is not None
    assert payable.instructions.code == "LLL2"

    settling = asyncio.create_task(
        http.get("/v1/orders", params={"serial_no": "R-1"}, headers={"Prefer": "wait=20, until=settled"})
    )
    paying = word("R-1")
    await http.post(RESULTS, content=paying, headers=signed(paying))
    settled = await settling
    assert settled.headers["preference-applied"] == "wait=20, until=settled"
    assert settled.json()["order"]["status"] == "succeeded"
    assert "instructions" not in settled.json()


@pytest.mark.usefixtures("worker")
async def test_result_signed_but_wrong_is_refused_and_an_operator_has_it(http: httpx.AsyncClient) -> None:
    await opened(http, "alice")
    await http.post("/v1/recharges", json=recharge("alice"), headers=numbered("R-1"))
    wrong, unreadable = word("R-1", amount="7.00"), b'{"type":"payment.result.v1","amount":1}'

    mismatch = await http.post(RESULTS, content=wrong, headers=signed(wrong))
    malformed = await http.post(RESULTS, content=unreadable, headers=signed(unreadable))

    assert (mismatch.status_code, malformed.status_code) == (200, 200)
    assert mismatch.json()["processing_status"] == malformed.json()["processing_status"] == "refused"
    assert mismatch.json()["code"] == "AMOUNT_MISMATCH"
    assert malformed.json()["code"] == "MALFORMED"
    assert malformed.json()["payment_order_no"] is None


@pytest.mark.usefixtures("worker")
async def test_result_that_nobody_signed_is_no_dead_letter(http: httpx.AsyncClient, amqp_url: str) -> None:
    body = word("R-1")

    answers = [
        await http.post(RESULTS, content=body),
        await http.post(RESULTS, content=body + b" ", headers=signed(body)),
        await http.post(RESULTS, content=body, headers=signed(body, {"k9": "a secret of a stranger"})),
        await http.post(RESULTS, content=body, headers={"x-signature": "t=1,kid=k1,v1=00"}),
    ]

    assert [answer.status_code for answer in answers] == [401] * 4
    assert {answer.json()["code"] for answer in answers} == {"BAD_SIGNATURE"}
    assert answers[0].headers["www-authenticate"].startswith("x-signature")
    assert await depth(amqp_url) == 0
