"""Who may do what: keys that open, keys that do not, scopes, users and prefixes, quotas."""

import asyncio
import time

import httpx2 as httpx
import pytest

from tests.api.money import opened, paid, recharge
from tests.api.process import ApiProcess, Apis
from wallet_schemas.http import OPERATIONS, ROLES, SCOPE_OF, HttpOperation, Scope
from wallet_worker.api import keys


def test_key_is_read_with_its_check_and_nothing_else_is() -> None:
    made = keys.make()

    assert keys.read(made.text) == keys.Claim(made.key_id, made.digest)
    for place in range(len(made.text)):
        other = "x" if made.text[place] != "x" else "y"
        assert keys.read(made.text[:place] + other + made.text[place + 1 :]) is None, place
    for spoiled in ("", "wk_", made.text + "a", made.text[:-1], made.text.upper(), made.text + "\n"):
        assert keys.read(spoiled) is None


async def test_nothing_is_open_without_a_key_that_opens(api: ApiProcess, apis: Apis) -> None:
    unknown = keys.make().text
    expired = await apis.key("add", "late", "--role", "reader", "--expires", "1s")
    await asyncio.sleep(1.1)

    async with api.client() as nobody:
        for shown in (
            None,
            "Bearer",
            f"Bearer {unknown}",
            f"Basic {unknown}",
            f"Bearer {expired}",
            "Bearer x",
        ):
            headers = {"authorization": shown} if shown else {}
            answer = await nobody.get("/v1/accounts?user_id=u", headers=headers)
            assert answer.status_code == 401, shown
            assert answer.json()["code"] == "UNAUTHENTICATED"
            assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "operation", [item for item in OPERATIONS if item.scopes], ids=lambda value: value.name
)
async def test_every_operation_refuses_a_key_without_its_scope(
    operation: HttpOperation, shared_api: ApiProcess, shared: Apis
) -> None:
    others = sorted({item.value for item in Scope} - operation.scopes)
    without = await shared.key("add", "other", *(f"--scope={scope}" for scope in others))

    async with shared_api.client(without) as http:
        answer = await http.request(
            operation.method, operation.path, json={} if operation.method == "POST" else None
        )

    assert answer.status_code == 403
    assert answer.json()["code"] == "FORBIDDEN"


async def test_any_command_needs_the_scope_of_its_own_type(api: ApiProcess, apis: Apis) -> None:
    key = await apis.key("add", "opener", "--scope", "accounts:open")
    body = recharge("u") | {"type": "order.recharge.v1", "serial_no": "R-1"}

    async with api.client(key) as http:
        answer = await http.post("/v1/commands", json=body)

    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


def test_every_message_has_a_scope_and_every_role_only_known_ones() -> None:
    assert {message for operation in OPERATIONS for message in operation.takes} == set(SCOPE_OF)
    # Where its events are posted, a key may only say if it was given just that.
    assert {scope for scopes in ROLES.values() for scope in scopes} == set(Scope) - {Scope.WEBHOOKS_MANAGE}


@pytest.mark.usefixtures("worker")
async def test_limited_key_reaches_its_own_users_only(api: ApiProcess, apis: Apis) -> None:
    whole = await apis.key("add", "whole", "--role", "upstream")
    limited = await apis.key("add", "shop", "--role", "upstream", "--users", "s7:", "--serial-prefix", "S7-")
    async with api.client(whole) as all_users, api.client(limited) as shop:
        await opened(all_users, "s8:eve")
        await paid(all_users, "s8:eve", "R-EVE")
        held = await all_users.post(
            "/v1/holds",
            json={"user_id": "s8:eve", "amount": "1", "currency": "TWD", "expires_in_seconds": 60},
            headers={"Idempotency-Key": "H-EVE"},
        )
        assert held.status_code == 201

        async def post(path: str, number: str, **body: object) -> httpx.Response:
            return await shop.post(path, json=body, headers={"Idempotency-Key": number})

        money = {"amount": "1.00", "currency": "TWD"}
        own = await post("/v1/accounts", "S7-O", user_id="s7:ann", currency="TWD")
        refused = [
            await post("/v1/accounts", "S7-1", user_id="s8:eve", currency="USD"),
            await post("/v1/recharges", "S7-2", user_id="s8:eve", recharge_type="card", **money),
            await post("/v1/transfers", "S7-3", user_id="s8:eve", to_user_id="s7:ann", **money),
            await post("/v1/transfers", "S7-4", user_id="s7:ann", to_user_id="s8:eve", **money),
            await post("/v1/refunds", "S7-5", original_serial_no="R-EVE", **money),
            await post("/v1/refunds", "S7-6", original_serial_no="R-DUMMY_USER", **money),
            await post("/v1/releases", "S7-7", hold_serial_no="H-EVE"),
            await post("/v1/captures", "S7-8", hold_serial_no="H-EVE", to_user_id="s7:ann", **money),
            await shop.get("/v1/accounts?user_id=s8:eve"),
            await shop.get("/v1/statements?user_id=s8:eve&currency=TWD"),
        ]
        prefix = await post("/v1/accounts", "S8-1", user_id="s7:bob", currency="TWD")
        foreign_order = await shop.get("/v1/orders?serial_no=R-EVE")
        unknown_order = await shop.get("/v1/orders?serial_no=R-DUMMY_USER")
        foreign_outcome = await shop.get("/v1/outcomes?serial_no=OPEN-s8:eve-TWD")
        own_outcome = await shop.get("/v1/outcomes?serial_no=S7-O")

    assert own.status_code == own_outcome.status_code + 1 == 201
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert {answer.json()["code"] for answer in refused} == {"USER_OUT_OF_REACH"}
    assert (prefix.status_code, prefix.json()["code"]) == (403, "SERIAL_NO_PREFIX")
    assert foreign_outcome.status_code == foreign_order.status_code == unknown_order.status_code == 404
    hidden = {**foreign_order.json(), "request_id": "", "serial_no": "", "instance": ""}
    assert hidden == {**unknown_order.json(), "request_id": "", "serial_no": "", "instance": ""}


@pytest.mark.usefixtures("worker")
async def test_limited_key_sees_only_its_own_lines_of_an_order_and_nothing_of_another_first_command(
    api: ApiProcess, apis: Apis
) -> None:
    whole = await apis.key("add", "whole", "--role", "upstream")
    limited = await apis.key("add", "shop", "--role", "upstream", "--users", "s7:")
    async with api.client(whole) as all_users, api.client(limited) as shop:
        for user_id in ("s7:ann", "s8:eve"):
            await opened(all_users, user_id)
        await paid(all_users, "s8:eve", "R-EVE")
        moved = await all_users.post(
            "/v1/transfers",
            json={"user_id": "s8:eve", "to_user_id": "s7:ann", "amount": "1", "currency": "TWD"},
            headers={"Idempotency-Key": "T-1"},
        )
        assert moved.status_code == 201
        seen = await shop.get("/v1/orders?serial_no=T-1")
        conflict = await shop.post(
            "/v1/recharges", json=recharge("s7:ann"), headers={"Idempotency-Key": "R-EVE"}
        )

    assert seen.status_code == 200
    assert [entry["direction"] for entry in seen.json()["entries"]] == ["credit"]
    assert conflict.status_code == 422
    assert conflict.json()["code"] == "SERIAL_CONFLICT"
    assert "different" not in conflict.json()


async def test_revoked_key_opens_nothing_within_five_seconds(api: ApiProcess, apis: Apis) -> None:
    key = await apis.key("add", "shop", "--role", "reader")
    claim = keys.read(key)
    assert claim is not None
    async with api.client(key) as http:
        assert (await http.get("/v1/client")).status_code == 200

        await apis.key("revoke", claim.key_id, "--why", "it stood in a log")
        revoked_at = time.monotonic()
        while (await http.get("/v1/client")).status_code == 200:
            assert time.monotonic() - revoked_at < 5.0
            await asyncio.sleep(0.05)
        after = await http.get("/v1/client")

    assert (after.status_code, after.json()["code"]) == (401, "UNAUTHENTICATED")


async def test_rotated_key_opens_until_the_overlap_is_over(api: ApiProcess, apis: Apis) -> None:
    old = await apis.key("add", "shop", "--role", "reader", "--users", "s7:")

    new = await apis.key("rotate", "shop", "--overlap", "3s")

    async with api.client(old) as before, api.client(new) as after:
        both = [await before.get("/v1/client"), await after.get("/v1/client")]
        assert [answer.status_code for answer in both] == [200, 200]
        assert both[1].json()["users"] == "s7:"
        await asyncio.sleep(3.1)
        assert (await before.get("/v1/client")).status_code == 401
        assert (await after.get("/v1/client")).status_code == 200


async def test_quota_of_one_client_is_its_own(api: ApiProcess, apis: Apis) -> None:
    slow = await apis.key("add", "slow", "--role", "reader", "--rate", "20")
    other = await apis.key("add", "other", "--role", "reader")
    async with api.client(slow) as burst, api.client(other) as unharmed:
        await asyncio.gather(burst.get("/v1/client"), unharmed.get("/v1/client"))

        answers = await asyncio.gather(*(burst.get("/v1/client") for _ in range(100)))
        fine = await unharmed.get("/v1/client")

    refused = [answer for answer in answers if answer.status_code == 429]
    assert 60 <= len(refused) < 100
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].json()["code"] == "QUOTA_EXCEEDED"
    assert refused[0].json()["violated-policies"] == ["client"]
    assert refused[0].headers["ratelimit-policy"] == '"client";q=20;w=1'
    assert refused[0].headers["retry-after"] == "1"
    assert fine.status_code == 200


async def test_who_tries_keys_is_held_up_and_a_good_key_from_there_is_not(api: ApiProcess, key: str) -> None:
    async with api.client(key) as good, api.client(keys.make().text) as guessing:
        assert (await good.get("/v1/client")).status_code == 200
        statuses = [(await guessing.get("/v1/client")).status_code for _ in range(25)]
        still = await good.get("/v1/client")

    assert statuses == [401] * 20 + [429] * 5
    assert still.status_code == 200


async def test_unit_of_requests_at_once_is_bounded(api: ApiProcess, apis: Apis) -> None:
    """Nobody works: each POST waits for its outcome, and the second client's are not in its way."""
    key = await apis.key("add", "narrow", "--role", "reader", "--in-flight", "2")
    async with api.client(key) as http:
        waiting = {"Prefer": "wait=2"}
        answers = await asyncio.gather(
            *(http.get(f"/v1/outcomes?serial_no=N-{n}", headers=waiting) for n in range(5))
        )

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [404, 404, 429, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["violated-policies"] == ["in-flight"]
