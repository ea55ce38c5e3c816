"""Faults of the broker, of a command and of a clock; and that the tests of the API see an API that does wrong.

They take longer than others, or change the whole broker: `make rows` runs them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import aiormq
import asyncpg
import httpx2 as httpx
import pytest
from aiormq.channel import Channel
from pamqp.commands import Basic

from tests.api import test_adversity, test_keys
from tests.api.money import opened, paid, recharge
from tests.api.process import Apis
from tests.api.test_adversity import numbered, opening, until_outcome
from tests.faults.operating import memory_alarm
from tests.servers import Servers
from tests.workers import WorkerProcess, Workers
from wallet_schemas.http import OPERATIONS
from wallet_schemas.names import WALLET_COMMANDS, WALLET_DEAD_LETTERS

pytestmark = pytest.mark.timeout(180)


async def test_a_broker_without_memory_is_503_at_once_and_over_when_it_has_some(
    worker: WorkerProcess, http: httpx.AsyncClient, servers: Servers
) -> None:
    """The broker reads no more from connections that publish: nothing is sent, and nobody waits for it."""
    del worker
    await opened(http, "alice")
    loop = asyncio.get_running_loop()
    async with memory_alarm(servers):
        # The broker says so when something is published: what is on its way then is not confirmed.
        last = await http.post(
            "/v1/accounts", json=opening("bob"), headers=numbered("O-BOB", Prefer="wait=1")
        )
        began = loop.time()
        refused = await http.post(
            "/v1/accounts", json=opening("carol"), headers=numbered("O-CAROL", Prefer="wait=30")
        )
        took = loop.time() - began
        looked = await http.get("/v1/accounts?user_id=alice")
        repeated = await http.post("/v1/accounts", json=opening("alice"), headers=numbered("OPEN-alice-TWD"))
    again = await http.post(
        "/v1/accounts", json=opening("carol"), headers=numbered("O-CAROL", Prefer="wait=30")
    )
    while again.status_code == 503:
        again = await http.post(
            "/v1/accounts", json=opening("carol"), headers=numbered("O-CAROL", Prefer="wait=30")
        )
    bob = await http.post("/v1/accounts", json=opening("bob"), headers=numbered("O-BOB", Prefer="wait=30"))

    assert last.status_code in {503, 504}
    assert (refused.status_code, refused.json()["code"]) == (503, "NOT_SENT")
    assert refused.json()["retry"] == "same"
    assert took < 3.0  # of the thirty seconds that it would have waited for the outcome
    assert (looked.status_code, repeated.status_code) == (200, 201)
    assert (again.status_code, bob.status_code) == (201, 201)


async def test_a_command_on_which_the_worker_fails_is_accepted_and_has_its_outcome_when_it_is_replayed(
    workers: Workers, apis: Apis, key: str, amqp_url: str
) -> None:
    """The wallet's own fault: nobody knows an outcome until an operator sends the letter again."""
    async with Workers(
        amqp_url, workers.database_url, None, ("-m", "tests.faults.sabotaged_worker", "fails")
    ) as failing:
        await failing.start()
        api = await apis.start()
        async with api.client(key) as http:
            await opened(http, "alice")
            accepted = await http.post(
                "/v1/recharges", json=recharge("alice"), headers=numbered("FAILS-1", Prefer="wait=1")
            )
            letter = await dead_letter(amqp_url)
            unknown = await http.get("/v1/outcomes?serial_no=FAILS-1")
    await workers.start()
    async with api.client(key) as http, aiormq.connect(amqp_url) as connection:
        channel = cast("Channel", await connection.channel())
        await channel.basic_publish(
            letter[1],
            exchange=WALLET_COMMANDS,
            routing_key="order.recharge",
            properties=Basic.Properties(headers={"x-wallet-client": letter[0]["x-wallet-client"]}),
        )
        outcome = await until_outcome(http, "FAILS-1")

    assert accepted.status_code == 202
    assert letter[0]["x-wallet-reason"] == "INTERNAL"
    assert str(letter[0]["x-wallet-client"]).startswith("shop/")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "OUTCOME_NOT_KNOWN")
    assert (outcome["status"], outcome["code"]) == ("applied", "OK")


async def dead_letter(amqp_url: str) -> tuple[Mapping[str, Any], bytes]:
    """Return the headers and the body of the next dead letter."""
    async with aiormq.connect(amqp_url) as connection:
        channel = cast("Channel", await connection.channel())
        async with asyncio.timeout(30):
            while True:
                got = await channel.basic_get(WALLET_DEAD_LETTERS, no_ack=True)
                if not isinstance(got.delivery, Basic.GetEmpty):
                    return got.header.properties.headers or {}, got.body


async def test_an_api_whose_clock_is_an_hour_off_does_all_the_same(
    worker: WorkerProcess, apis: Apis, key: str
) -> None:
    """Keys end by the database's clock, and nothing else of the API goes by the time of day."""
    del worker
    short = await apis.key("add", "short", "--role", "reader", "--expires", "30m")
    async with Apis(
        apis.amqp_url, apis.database_url, None, ("-m", "tests.api.sabotaged_api", "clock_ahead")
    ) as ahead:
        api = await ahead.start()
        async with api.client(key) as http:
            await opened(http, "alice")
            await paid(http, "alice", "R-1")
            statement = await http.get("/v1/statements?user_id=alice&currency=TWD")
        async with api.client(short) as http:
            read = await http.get("/v1/accounts?user_id=alice")

    assert statement.json()["closing_balance"] == "100.00"
    assert read.status_code == 200


@pytest.mark.parametrize("name", ["answers_before_the_confirm", "makes_numbers", "asks_for_no_scope"])
async def test_the_tests_see_an_api_that_does_wrong(
    name: str, worker: WorkerProcess, apis: Apis, key: str, amqp_url: str, owner: asyncpg.Connection
) -> None:
    async with Apis(apis.amqp_url, apis.database_url, None, ("-m", "tests.api.sabotaged_api", name)) as wrong:
        with pytest.raises((AssertionError, KeyError)):  # no problem, and so no code of one
            await CONTROLS[name](worker, wrong, key, amqp_url, owner)


async def unconfirmed(
    worker: WorkerProcess, wrong: Apis, key: str, amqp_url: str, owner: asyncpg.Connection
) -> None:
    await test_adversity.test_lost_confirm_is_504_and_the_same_again_is_the_truth(
        worker, wrong, key, amqp_url, owner
    )


async def unnumbered(worker: WorkerProcess, wrong: Apis, key: str, *_: object) -> None:
    api = await wrong.start()
    async with api.client(key) as http:
        await test_adversity.test_number_is_never_one_of_the_servers(worker, http)


async def unscoped(_: WorkerProcess, wrong: Apis, *__: object) -> None:
    operation = next(item for item in OPERATIONS if item.name == "recharge")
    await test_keys.test_every_operation_refuses_a_key_without_its_scope(
        operation, await wrong.start(), wrong
    )


CONTROLS: Mapping[str, Callable[..., Awaitable[None]]] = {
    "answers_before_the_confirm": unconfirmed,
    "makes_numbers": unnumbered,
    "asks_for_no_scope": unscoped,
}


async def test_with_a_policy_of_senders_clients_are_kept_apart(
    workers: Workers, apis: Apis, key: str, amqp_url: str
) -> None:
    """The wallet believes the API which client it speaks for; what one has ordered, another does not touch or see."""
    login = amqp_url.partition("://")[2].partition(":")[0]
    policy = json.dumps({login: {"types": ["*"], "queries": ["*"], "clients": True}})
    await workers.start(WALLET_SENDERS=policy)
    api = await apis.start(WALLET_SENDERS=policy)
    stranger = await apis.key("add", "stranger", "--role", "upstream")
    held = {"user_id": "alice", "amount": "5.00", "currency": "TWD", "expires_in_seconds": 3600}
    async with api.client(key) as shop, api.client(stranger) as other:
        await opened(shop, "alice")
        await paid(shop, "alice", "R-1")
        hold = await shop.post("/v1/holds", json=held, headers=numbered("H-1"))
        same = await other.post("/v1/holds", json=held, headers=numbered("H-1"))
        else_ = await other.post("/v1/holds", json=held | {"amount": "6.00"}, headers=numbered("H-1"))
        foreign = await other.post("/v1/releases", json={"hold_serial_no": "H-1"}, headers=numbered("L-1"))
        rotated = await apis.key("rotate", "shop")
        async with api.client(rotated) as later:
            repeat = await later.post("/v1/holds", json=held, headers=numbered("H-1"))
            released = await later.post(
                "/v1/releases", json={"hold_serial_no": "H-1"}, headers=numbered("L-2")
            )

    assert hold.status_code == 201
    for conflict in (same, else_):
        assert (conflict.status_code, conflict.json()["code"]) == (422, "SERIAL_CONFLICT")
        assert "different" not in conflict.json()
    assert (foreign.status_code, foreign.json()["code"]) == (403, "NOT_ALLOWED")
    assert (repeat.status_code, repeat.json()["duplicate"]) == (201, True)
    assert released.status_code == 201
