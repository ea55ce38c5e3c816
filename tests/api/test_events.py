"""The feed of events: as pages and as server-sent events, on a real stream of the broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, cast

import aiormq
import httpx2 as httpx
import pytest
import pytest_asyncio
from aiormq.channel import Channel

from tests.api.money import opened, paid
from tests.api.process import ApiProcess, Apis
from tests.servers import Servers
from tests.workers import Workers
from wallet_schemas.http import EventPage
from wallet_schemas.names import EVENT_LOG
from wallet_worker.broker import topology

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


class Place(NamedTuple):
    """A worker and an API process beside a broker with the log of events, shared by a file's tests, and a key."""

    apis: Apis
    api: ApiProcess
    key: str
    amqp_url: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(servers: Servers, migrated_url: str) -> AsyncIterator[Place]:
    async with servers.vhost() as amqp_url, servers.database(template=migrated_url) as database_url:
        await topology.apply(amqp_url, events=True)
        async with Workers(amqp_url, database_url, servers.management_url) as workers:
            await workers.start()
            async with Apis.beside(workers) as apis:
                key = await apis.key("add", "shop", "--role", "upstream", "--rate", "10000")
                yield Place(apis, await apis.start(), key, amqp_url)


@pytest_asyncio.fixture(loop_scope="module")
async def http(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """Give an HTTP client with the key."""
    async with place.api.client(place.key) as client:
        yield client


class Sent(NamedTuple):
    """One server-sent event."""

    cursor: str
    kind: str
    data: dict[str, Any]


async def sent(lines: AsyncIterator[str]) -> Sent:
    """Return the next event of a stream; comments are passed over."""
    found: dict[str, str] = {}
    async with asyncio.timeout(30):
        async for line in lines:
            if not line and "data" in found:
                return Sent(found.get("id", ""), found["event"], json.loads(found["data"]))
            name, mark, value = line.partition(": ")
            if mark and name:
                found[name] = value
    raise EOFError


async def page(http: httpx.AsyncClient, query: str, wait: int = 0) -> dict[str, Any]:
    headers = {"prefer": f"wait={wait}"} if wait else {}
    answer = await http.get(f"/v1/events?{query}".strip("?&"), headers=headers)
    assert answer.status_code == 200, answer.text
    EventPage.model_validate_json(answer.content)
    return cast("dict[str, Any]", answer.json())


async def until(http: httpx.AsyncClient, after: str, query: str, count: int) -> list[dict[str, Any]]:
    """Return so many events after a cursor, page by page."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            got = await page(http, f"after={after}&{query}", wait=5)
            found += got["events"]
            after = got["next_after"]
    return [item["event"] for item in found]


async def code(http: httpx.AsyncClient, query: str) -> tuple[int, str]:
    answer = await http.get(f"/v1/events?{query}")
    return answer.status_code, answer.json()["code"]


async def transfer(http: httpx.AsyncClient, serial_no: str, to_user_id: str) -> None:
    answer = await http.post(
        "/v1/transfers",
        json={"user_id": "shop7:a", "to_user_id": to_user_id, "amount": "1.00", "currency": "TWD"},
        headers={"Idempotency-Key": serial_no},
    )
    assert answer.status_code == 201, answer.text


async def test_pages_have_each_event_once_in_order_and_a_key_sees_only_its_users(
    place: Place, http: httpx.AsyncClient
) -> None:
    limited = await place.apis.key("add", "shop7", "--scope", "events:read", "--users", "shop7:")
    begin = (await page(http, ""))["next_after"]
    for user_id in ("shop7:a", "shop7:b", "other"):
        await opened(http, user_id)
    await paid(http, "shop7:a", "R-1")
    await transfer(http, "T-1", "other")
    await http.post("/v1/accounts", json={"user_id": "other", "currency": "TWD", "serial_no": "TWICE"})

    everything = await until(http, begin, "limit=2", 7)
    after_nothing = await page(http, f"after={begin}")
    chosen = await until(http, begin, "types=account.*,command.refused&limit=1", 4)
    of_other = await until(http, begin, "user_id=other", 2)
    numbered = await until(http, begin, "serial_no=R-1", 2)
    async with place.api.client(limited) as shop:
        own = await until(shop, begin, "", 5)
        foreign = await code(shop, "user_id=other")
    wrong = [
        await code(http, query) for query in ("types=orders.*", "after=7", "after=1-12345678x", "limit=501")
    ]

    kinds = [event["type"] for event in everything]
    assert kinds == [
        *["account.opened.v1"] * 3,
        "order.pending.v1",
        "order.succeeded.v1",
        "order.succeeded.v1",
        "command.refused.v1",
    ]
    assert [item["event"] for item in after_nothing["events"]] == everything
    assert [event["type"] for event in chosen] == [*["account.opened.v1"] * 3, "command.refused.v1"]
    assert [event["serial_no"] for event in of_other] == ["OPEN-other-TWD", "T-1"]
    assert [event["type"] for event in numbered] == ["order.pending.v1", "order.succeeded.v1"]
    assert [event["serial_no"] for event in own] == [
        "OPEN-shop7:a-TWD",
        "OPEN-shop7:b-TWD",
        "R-1",
        "R-1",
        "T-1",
    ]
    assert len(everything[5]["data"]["entries"]) == 2
    (entry,) = own[4]["data"]["entries"]
    assert entry["account_no"] == own[0]["data"]["account_no"]
    assert foreign == (403, "USER_OUT_OF_REACH")
    assert wrong == [(400, "MALFORMED")] * 4


async def test_a_page_waits_for_its_event_and_another_process_goes_on_from_its_cursor(
    place: Place, http: httpx.AsyncClient
) -> None:
    begin = (await page(http, ""))["next_after"]
    await opened(http, "alice")
    first = await page(http, f"after={begin}&limit=1", wait=10)
    now = await page(http, "")

    waiting = asyncio.create_task(page(http, f"after={now['next_after']}&types=account.opened", wait=20))
    await paid(http, "alice", "R-2")
    await opened(http, "bob")
    (woken,) = (await waiting)["events"]
    other = await place.apis.start()
    async with other.client(place.key) as there:
        rest = await until(there, begin, "types=order.*", 2)
        on = await page(there, f"after={first['next_after']}&types=account.*", wait=5)

    assert woken["event"]["serial_no"] == "OPEN-bob-TWD"
    assert [event["serial_no"] for event in rest] == ["R-2", "R-2"]
    assert [item["event"]["serial_no"] for item in on["events"]] == ["OPEN-bob-TWD"]
    assert await place.api.metric("wallet_api_events_total") >= 2


async def test_a_stream_goes_on_where_it_ended_and_ends_with_its_key_and_with_the_process(
    place: Place, http: httpx.AsyncClient
) -> None:
    apis, api = place.apis, await place.apis.start()
    key = await apis.key("add", "reader", "--scope", "events:read")
    accept = {"accept": "text/event-stream"}
    async with api.client(key) as reader:
        async with reader.stream("GET", "/v1/events", headers=accept) as stream:
            lines = stream.aiter_lines()
            await opened(http, "erin")
            await opened(http, "frank")
            first = await sent(lines)
        from_there = accept | {"last-event-id": first.cursor}
        async with reader.stream("GET", "/v1/events", headers=from_there) as stream:
            lines = stream.aiter_lines()
            second = await sent(lines)
            media = stream.headers["content-type"]
            await apis.key("revoke", key.split("_")[1], "--why", "a test")
            closed = await sent(lines)
    async with (
        api.client(await apis.key("add", "again", "--scope", "events:read")) as reader,
        AsyncExitStack() as stack,
    ):
        streams = [reader.stream("GET", "/v1/events", headers=accept) for _ in range(5)]
        responses = [await stack.enter_async_context(stream) for stream in streams]
        one_more = await reader.get("/v1/events", headers=accept)
        api.process.terminate()
        rests = [[line async for line in response.aiter_lines()] for response in responses]

    assert media.startswith("text/event-stream")
    assert (first.kind, first.data["serial_no"]) == ("account.opened.v1", "OPEN-erin-TWD")
    assert second.data["serial_no"] == "OPEN-frank-TWD"
    assert (closed.kind, closed.data) == ("closed", {"code": "UNAUTHENTICATED"})
    assert (one_more.status_code, one_more.json()["violated-policies"]) == (429, ["streams"])
    assert all("retry: 2000" in rest for rest in rests)
    assert await asyncio.wait_for(api.process.wait(), 30) == 0


async def test_a_cursor_of_a_log_that_is_gone_is_told_so_and_everything_else_goes_on(
    place: Place, http: httpx.AsyncClient
) -> None:
    amqp_url = place.amqp_url
    begin = (await page(http, ""))["next_after"]
    await opened(http, "grace")
    (first,) = (await page(http, f"after={begin}", wait=10))["events"]
    async with aiormq.connect(amqp_url) as connection:
        channel = cast("Channel", await connection.channel())
        await channel.queue_delete(EVENT_LOG)
    await opened(http, "carol")  # of which no event is kept
    async with asyncio.timeout(30):
        while (away := await http.get("/v1/events?after=oldest")).status_code != 503:
            pass
    await topology.apply(amqp_url, events=True)
    await opened(http, "dave")
    async with asyncio.timeout(30):
        while (back := await http.get("/v1/events?after=oldest")).status_code == 503:
            pass

    assert away.json()["code"] == "EVENTS_AWAY"
    assert away.json()["retry"] == "same"
    assert [item["event"]["serial_no"] for item in back.json()["events"]] == ["OPEN-dave-TWD"]
    for cursor in (begin, first["cursor"]):
        assert await code(http, f"after={cursor}") == (410, "CURSOR_EXPIRED")
