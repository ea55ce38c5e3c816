"""`wallet webhooks` as a process: events reach an endpoint signed, are tried again, and replayed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx2 as httpx
import pytest
import pytest_asyncio

from tests.api.money import opened
from tests.api.other_python import other_python, run
from tests.api.process import ApiProcess, Apis
from tests.documents.pages import ROOT
from tests.servers import Servers
from tests.webhooks.receiver import Posted, Receiver, certificate
from tests.workers import WorkerProcess, Workers
from wallet_worker.broker import topology

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]
ENDPOINTS, DELIVERIES = "/v1/webhook-endpoints", "/v1/webhook-deliveries"


class Place(NamedTuple):
    """Everything but the receiver: servers, a worker, an API, `wallet webhooks`, and a key."""

    workers: Workers
    apis: Apis
    api: ApiProcess
    webhooks: WorkerProcess
    key: str
    certificate: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    servers: Servers, migrated_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    certificate_file = await certificate(tmp_path_factory.mktemp("webhooks"))
    allowed = {"WALLET_WEBHOOKS_NETWORKS": "127.0.0.0/8,::1/128"}
    async with servers.vhost() as amqp_url, servers.database(template=migrated_url) as database_url:
        await topology.apply(amqp_url, events=True)
        program = ("-m", "wallet_worker", "webhooks")
        async with (
            Workers(amqp_url, database_url, servers.management_url) as workers,
            Workers(amqp_url, database_url, None, program) as posting,
            Apis.beside(workers) as apis,
        ):
            await workers.start()
            key = await apis.key(
                "add",
                "shop",
                "--role",
                "upstream",
                "--scope",
                "webhooks:manage",
                "--users",
                "shop7:",
                "--rate",
                "100000",
            )
            webhooks = await posting.start(WALLET_WEBHOOKS_CA=str(certificate_file), **allowed)
            yield Place(workers, apis, await apis.start(**allowed), webhooks, key, certificate_file)


@pytest_asyncio.fixture(loop_scope="module")
async def http(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """Give an HTTP client with the key."""
    async with place.api.client(place.key) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def receiver(place: Place) -> AsyncIterator[Receiver]:
    """Give a running receiver."""
    async with Receiver(place.certificate) as receiver:
        yield receiver


@pytest_asyncio.fixture(loop_scope="module")
async def connection(place: Place) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection as whoever owns the database."""
    connection = await asyncpg.connect(place.workers.database_url)
    yield connection
    await connection.close()


async def said(http: httpx.AsyncClient, path: str, **body: object) -> dict[str, Any]:
    answer = await http.post(path, json=body)
    assert answer.status_code in {200, 201}, answer.text
    return dict(answer.json())


async def deliveries(http: httpx.AsyncClient, name: str, state: str) -> list[dict[str, Any]]:
    """Return the deliveries of an endpoint in this state, once one of them was answered."""
    async with asyncio.timeout(30):
        while True:
            answer = await http.get(f"{DELIVERIES}?name={name}&state={state}")
            assert answer.status_code == 200, answer.text
            if any(item["answer"] is not None for item in answer.json()["deliveries"]):
                return list(answer.json()["deliveries"])


VERIFIES = """
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

def verified(secret, headers, body):
    try:
        return Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return None

print(json.dumps([verified(*item) for item in json.load(sys.stdin)]))
"""


async def verified(*items: tuple[Posted, str]) -> list[Any]:
    """Return the events that the specification's own package finds signed with these secrets; None for the others."""
    given = [(secret, posted.headers, posted.body.decode()) for posted, secret in items]
    python = str(await other_python() / "python")
    return list(json.loads(await run([python, "-c", VERIFIES], ROOT, json.dumps(given).encode())))


async def due_now(connection: asyncpg.Connection) -> None:
    """Have every delivery that waits tried now: the time that passes between attempts is the schedule's."""
    await connection.execute("UPDATE webhook_deliveries SET next_at = now() WHERE state = 'waiting'")


async def test_an_event_arrives_signed_once_it_has_failed_and_only_what_the_client_may_see(
    http: httpx.AsyncClient, place: Place, receiver: Receiver, connection: asyncpg.Connection
) -> None:
    created = await said(http, ENDPOINTS, name="first", url=receiver.url, types=["account.*"])
    receiver.will_answer(500, 302, headers=f"location: {receiver.url}\r\n")
    async with place.api.client(await place.apis.key("add", "all", "--role", "upstream")) as other:
        await opened(other, "foreign")
    await opened(http, "shop7:ann")

    (first,) = await receiver.until(1)
    (waiting,) = await deliveries(http, "first", "waiting")
    await due_now(connection)
    await receiver.until(2)
    while (await deliveries(http, "first", "waiting"))[0]["status"] != 302:
        pass
    await due_now(connection)
    tries = await receiver.until(3)
    (delivered,) = await deliveries(http, "first", "delivered")

    changed = first._replace(body=first.body.replace(b"TWD", b"USD"))
    assert created["endpoint"]["users"] == "shop7:"
    assert await verified((first, created["secret"]), (changed, created["secret"])) == [first.event, None]
    assert first.event["serial_no"] == "OPEN-shop7:ann-TWD"
    assert [item.headers["webhook-id"] for item in tries] == [first.event["event_id"]] * 3
    assert {item.body for item in tries} == {first.body}
    assert (waiting["attempts"], waiting["status"], waiting["answer"]) == (1, 500, "so")
    assert (delivered["attempts"], delivered["status"]) == (3, 204)
    assert await connection.fetchval("SELECT count(*) FROM webhook_deliveries") == 1


async def test_secrets_rotate_with_both_signing_and_what_arrived_is_replayed_with_its_id(
    http: httpx.AsyncClient, receiver: Receiver
) -> None:
    older = await said(http, ENDPOINTS, name="second", url=receiver.url, types=["account.opened"])
    newer = await said(http, f"{ENDPOINTS}/rotate", name="second", overlap_seconds=3600)
    await opened(http, "shop7:bob")
    (posted,) = await receiver.until(1)
    await deliveries(http, "second", "delivered")

    replayed = await said(http, f"{DELIVERIES}/replay", name="second", event_id=posted.event["event_id"])
    _, again = await receiver.until(2)
    await said(http, f"{ENDPOINTS}/rotate", name="second", overlap_seconds=0)
    await said(http, f"{ENDPOINTS}/test", name="second")
    tried = (await receiver.until(3))[2]

    secrets = older["secret"], newer["secret"]
    found = await verified(*((item, secret) for item in (posted, again, tried) for secret in secrets))
    assert found == [*[posted.event] * 4, None, None]
    assert replayed["replayed"] == 1
    assert tried.event["type"] == "webhook.test.v1"


async def test_an_endpoint_that_is_gone_or_fails_for_days_is_disabled_and_loses_nothing(
    http: httpx.AsyncClient, place: Place, receiver: Receiver, connection: asyncpg.Connection
) -> None:
    await said(http, ENDPOINTS, name="gone", url=receiver.url, types=["account.frozen"])
    receiver.will_answer(410)
    await said(http, f"{ENDPOINTS}/test", name="gone")
    await receiver.until(1)
    async with asyncio.timeout(30):
        while (gone := await named(http, "gone"))["state"] != "disabled":
            pass
    await said(http, ENDPOINTS, name="tired", url=receiver.url, types=["account.closed"])
    receiver.will_answer(503, 503, 503)
    await said(http, f"{ENDPOINTS}/test", name="tired")
    await receiver.until(2)
    while (tired := await named(http, "tired"))["failing_since"] is None:
        pass
    # Five days and nine retries, as the clock of the database would have it.
    await connection.execute(
        "UPDATE webhook_endpoints SET failing_since = now() - interval '121 hours' WHERE name = 'tired'"
    )
    await connection.execute("UPDATE webhook_deliveries SET attempts = 9 WHERE state = 'waiting'")
    await due_now(connection)
    (given_up,) = await deliveries(http, "tired", "given_up")
    disabled = await named(http, "tired")
    while 'ending="given_up"' not in (await place.webhooks.get("/metrics"))[1]:
        pass
    await said(http, f"{ENDPOINTS}/enable", name="tired")
    again = await said(http, f"{DELIVERIES}/replay", name="tired", since="2020-01-01T00:00:00Z")
    receiver.answers.clear()
    (delivered,) = await deliveries(http, "tired", "delivered")

    assert gone["why"] == "it answered 410, gone"
    assert tired["state"] == "enabled"
    assert (given_up["attempts"], given_up["next_at"]) == (10, None)
    assert (disabled["state"], disabled["why"]) == ("disabled", "nothing has arrived there for 5 days")
    assert again["replayed"] == 1
    assert delivered["event_id"] == given_up["event_id"]
    assert place.webhooks.events("webhook.endpoint_disabled")
    assert place.webhooks.events("webhooks.unmeasured") == []
    assert await place.webhooks.get("/readyz") == (200, '{"ready":true,"waiting_for":[]}')


async def named(http: httpx.AsyncClient, name: str) -> dict[str, Any]:
    found = (await http.get(ENDPOINTS)).json()["endpoints"]
    return next(dict(item) for item in found if item["name"] == name)


async def test_a_slow_endpoint_holds_up_only_itself(
    http: httpx.AsyncClient, place: Place, receiver: Receiver
) -> None:
    async with Receiver(place.certificate) as quick:
        await said(http, ENDPOINTS, name="slow", url=receiver.url, types=["order.*"])
        await said(http, ENDPOINTS, name="quick", url=quick.url, types=["order.*"])
        receiver.gate.clear()
        for _ in range(8):
            await said(http, f"{ENDPOINTS}/test", name="slow")
        await receiver.until(4)
        await said(http, f"{ENDPOINTS}/test", name="quick")
        await quick.until(1)
        at_once = receiver.connections
        receiver.gate.set()
        await receiver.until(8)

    assert at_once == 4


async def test_the_client_is_told_what_is_wrong_and_sees_only_its_own(
    http: httpx.AsyncClient, place: Place, receiver: Receiver
) -> None:
    await said(http, ENDPOINTS, name="mine", url=receiver.url)
    other = await place.apis.key("add", "other", "--scope", "webhooks:manage")
    refusals = [
        (ENDPOINTS, {"name": "mine", "url": receiver.url}, 422, "WEBHOOK_EXISTS"),
        (ENDPOINTS, {"name": "bad", "url": "http://shop.example/"}, 400, "MALFORMED"),
        (ENDPOINTS, {"name": "bad", "url": "https://10.0.0.1/"}, 400, "MALFORMED"),
        (ENDPOINTS, {"name": "bad", "url": receiver.url, "types": ["orders.*"]}, 400, "MALFORMED"),
        (f"{ENDPOINTS}/disable", {"name": "nobody"}, 404, "WEBHOOK_NOT_FOUND"),
        (f"{DELIVERIES}/replay", {"name": "mine"}, 400, "MALFORMED"),
    ]
    for path, body, status, code in refusals:
        answer = await http.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (path, body)
    async with place.api.client(other) as stranger:
        listed = await stranger.get(ENDPOINTS)
        looked = await stranger.get(f"{DELIVERIES}?name=mine")
        taken = await stranger.post(f"{ENDPOINTS}/rotate", json={"name": "mine"})

    assert listed.json()["endpoints"] == []
    assert (looked.status_code, taken.status_code) == (404, 404)
    assert "secret" not in (await http.get(ENDPOINTS)).text.replace("older_secret_until", "")


async def test_nothing_is_posted_inside_and_nothing_for_a_client_without_a_key(
    place: Place, receiver: Receiver, connection: asyncpg.Connection
) -> None:
    program = ("-m", "wallet_worker", "webhooks")
    closed = await place.apis.key("add", "closed", "--scope", "webhooks:manage")
    async with place.api.client(closed) as http:
        await said(http, ENDPOINTS, name="late", url=receiver.url)
        await place.apis.key("revoke", closed.split("_")[1], "--why", "a test")
        place.webhooks.process.terminate()
        await asyncio.wait_for(place.webhooks.process.wait(), 30)
    async with place.api.client(place.key) as http:
        await said(http, ENDPOINTS, name="inside", url=receiver.url, types=["account.opened"])
        async with Workers(place.workers.amqp_url, place.workers.database_url, None, program) as posting:
            await posting.start(WALLET_WEBHOOKS_CA=str(place.certificate))
            await opened(http, "shop7:carl")
            while not (waiting := await deliveries(http, "inside", "waiting"))[0]["answer"]:
                pass

    assert waiting[0]["answer"] == "its host has an address that is not public"
    assert receiver.connections == 0
    late = "SELECT count(*) FROM webhook_deliveries JOIN webhook_endpoints USING (endpoint_id) WHERE name = 'late'"
    assert await connection.fetchval(late) == 0
