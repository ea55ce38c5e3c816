"""Who sees what over HTTP where a policy of senders keeps clients apart: the same as over AMQP."""

import asyncio
import json
from typing import Any

import httpx2 as httpx
import pytest

from tests.api.money import opened, paid, recharge
from tests.api.process import ApiProcess, Apis
from tests.api.test_adversity import numbered
from tests.workers import Workers

pytestmark = pytest.mark.timeout(180)

BY_NUMBER = ("/v1/orders", "/v1/outcomes")


@pytest.fixture
def login(amqp_url: str) -> str:
    """Give the API's own login at the broker."""
    return amqp_url.partition("://")[2].partition(":")[0]


@pytest.fixture
def policy(login: str) -> str:
    """Give a policy: clients of the API do everything, support sees everything, and the kiosk has users of its own."""
    return json.dumps(
        {
            login: {"types": ["*"], "clients": True},
            f"{login}/support": {"any_order": True},
            f"{login}/kiosk": {"users": "s7:", "account_types": ["basic"]},
        }
    )


@pytest.fixture
async def parted(workers: Workers, apis: Apis, policy: str) -> ApiProcess:
    """Give an API that goes by the policy, with a worker that does, too."""
    await workers.start(WALLET_SENDERS=policy, WALLET_ACCOUNT_TYPES="basic,merchant")
    return await apis.start(WALLET_SENDERS=policy)


async def sent(shop: httpx.AsyncClient) -> None:
    """The shop has a paid recharge R-1, and a refused one, R-NO."""
    await opened(shop, "s7:ann")
    await paid(shop, "s7:ann", "R-1")
    refused = await shop.post("/v1/recharges", json=recharge("nobody"), headers=numbered("R-NO"))
    assert refused.status_code == 422


def text(answer: httpx.Response, number: str) -> tuple[int, dict[str, Any], set[str]]:
    """Return all of an answer that does not differ with each request."""
    body = json.loads(answer.text.replace(number, "NUMBER"))
    del body["request_id"]
    return answer.status_code, body, set(answer.headers)


async def test_what_another_client_has_sent_is_as_if_it_did_not_exist(parted: ApiProcess, apis: Apis) -> None:
    key = await apis.key("add", "shop", "--role", "upstream")
    stranger = await apis.key("add", "stranger", "--role", "upstream")
    loop = asyncio.get_running_loop()
    async with parted.client(key) as shop, parted.client(stranger) as other:
        await sent(shop)
        hidden, missing, shown, waited = [], [], [], []
        for path in BY_NUMBER:
            for number in ("R-1", "R-NO"):
                shown.append(await shop.get(path, params={"serial_no": number}))
                hidden.append(text(await other.get(path, params={"serial_no": number}), number))
                missing.append(text(await other.get(path, params={"serial_no": "NONE"}), "NONE"))
            began = loop.time()
            late = await other.get(path, params={"serial_no": "R-1"}, headers={"Prefer": "wait=1"})
            waited.append((late.status_code, loop.time() - began))
        listed = await other.get("/v1/orders?user_id=s7:ann")
        async with parted.client(await apis.key("rotate", "shop")) as later:
            rotated = await later.get("/v1/orders?serial_no=R-1")

    assert [answer.status_code for answer in shown] == [200] * 4
    assert hidden == missing
    assert {status for status, _, _ in hidden} == {404}
    for status, seconds in waited:  # an early answer would say that there is something
        assert status == 404
        assert seconds >= 1.0
    assert [order["serial_no"] for order in listed.json()["orders"]] == ["R-1"]
    assert "sent_by" not in listed.text
    assert rotated.json()["sent_by"] == shown[0].json()["sent_by"]


async def test_a_client_with_the_right_to_any_order_sees_what_others_have_sent(
    parted: ApiProcess, apis: Apis, login: str
) -> None:
    key = await apis.key("add", "shop", "--role", "upstream")
    whole = await apis.key("add", "support", "--role", "back-office")
    limited = await apis.key("add", "support", "--role", "reader", "--users", "s7:")
    async with (
        parted.client(key) as shop,
        parted.client(whole) as support,
        parted.client(limited) as junior,
    ):
        await sent(shop)
        order = await support.get("/v1/orders?serial_no=R-1")
        outcomes = [await support.get(f"/v1/outcomes?serial_no={number}") for number in ("R-1", "R-NO")]
        partly = await junior.get("/v1/orders?serial_no=R-1")

    assert order.json()["sent_by"].startswith(f"{login}/shop/")
    assert [answer.json()["status"] for answer in outcomes] == ["applied", "refused"]
    assert partly.status_code == 200
    assert "sent_by" not in partly.json()


async def test_lists_and_accounts_end_at_the_users_and_the_account_types_of_the_policy(
    parted: ApiProcess, apis: Apis
) -> None:
    key = await apis.key("add", "shop", "--role", "upstream")
    other = await apis.key("add", "kiosk", "--role", "reader")
    async with parted.client(key) as shop, parted.client(other) as kiosk:
        await sent(shop)
        await opened(shop, "s8:eve")
        merchant = await shop.post(
            "/v1/accounts",
            json={"user_id": "s7:ann", "currency": "TWD", "account_type": "merchant"},
            headers=numbered("O-2"),
        )
        paths = (
            "/v1/accounts?user_id={}",
            "/v1/orders?user_id={}",
            "/v1/history?user_id={}&currency=TWD",
            "/v1/statements?user_id={}&currency=TWD",
        )
        own = [await kiosk.get(path.format("s7:ann")) for path in paths]
        foreign = [await kiosk.get(path.format("s8:eve")) for path in paths]
        typed = [await kiosk.get(f"{path.format('s7:ann')}&account_type=merchant") for path in paths]

    assert merchant.status_code == 201
    assert [answer.status_code for answer in own] == [200] * 4
    assert [account["account_type"] for account in own[0].json()["accounts"]] == ["basic"]
    assert [(answer.status_code, answer.json()["code"]) for answer in foreign] == [
        (403, "USER_OUT_OF_REACH")
    ] * 4
    assert [(answer.status_code, answer.json()["code"]) for answer in typed] == [(403, "FORBIDDEN")] * 4


async def test_without_a_policy_a_limited_key_is_not_told_which_other_client_has_sent_an_order(
    workers: Workers, apis: Apis, policy: str, login: str
) -> None:
    await workers.start(WALLET_SENDERS=policy)
    api = await apis.start()
    key = await apis.key("add", "shop", "--role", "upstream")
    kept = {
        "own": await apis.key("add", "shop", "--role", "reader", "--users", "s7:"),
        "whole": await apis.key("add", "office", "--role", "back-office"),
        "users": await apis.key("add", "other", "--role", "reader", "--users", "s7:"),
        "numbers": await apis.key("add", "third", "--role", "reader", "--serial-prefix", "S7-"),
    }
    async with api.client(key) as shop:
        await sent(shop)
    seen = {}
    for name, reader in kept.items():
        async with api.client(reader) as http:
            answer = await http.get("/v1/orders?serial_no=R-1")
            outcome = await http.get("/v1/outcomes?serial_no=R-1")
        assert (answer.status_code, outcome.status_code) == (200, 200)
        seen[name] = answer.json().get("sent_by", "").rpartition("/")[0]

    assert seen == {"own": f"{login}/shop", "whole": f"{login}/shop", "users": "", "numbers": ""}
