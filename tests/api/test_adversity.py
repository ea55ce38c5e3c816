"""What breaks behind the HTTP API, on real servers: what a client is told is what is true, and money moves once.

The table of it is in docs/http-api.md, "What breaks, and what a client is told".
"""

import asyncio
import signal
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.money import RESULTS, depth, opened, recharge, signed, word
from tests.api.process import ApiProcess, Apis
from tests.client.gateway import send_result
from tests.faults.proxy import Proxy, Way
from tests.servers import Servers
from tests.workers import WorkerProcess, Workers
from wallet_worker.broker import topology
from wallet_worker.client import WalletClient

ACCEPTED, UNKNOWN, NOT_SENT = 202, 504, 503


def numbered(serial_no: str, **more: str) -> dict[str, str]:
    return {"Idempotency-Key": serial_no} | more


def opening(user_id: str) -> dict[str, str]:
    return {"user_id": user_id, "currency": "TWD"}


async def until_outcome(http: httpx.AsyncClient, serial_no: str, seconds: float = 60.0) -> dict[str, Any]:
    async with asyncio.timeout(seconds):
        while True:
            found = await http.get(f"/v1/outcomes?serial_no={serial_no}", headers={"Prefer": "wait=10"})
            if found.status_code == 200:
                return dict(found.json())


async def waiting(api: ApiProcess, count: int) -> None:
    async with asyncio.timeout(30):
        while await api.metric("wallet_api_waiting") < count:  # noqa: ASYNC110 -- the metric of another process
            await asyncio.sleep(0.05)


async def missing(api: ApiProcess, part: str, *, there: bool = True) -> None:
    async with asyncio.timeout(30):
        while (f'"{part}"' in (await api.get("/readyz"))[1]) != there:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.05)


async def test_connection_lost_while_they_wait_is_202_where_the_broker_has_it(
    worker: WorkerProcess, apis: Apis, key: str, amqp_url: str, owner: asyncpg.Connection
) -> None:
    """Fifty POSTs are confirmed and wait; the broker's end of the connection goes away."""
    async with Proxy(amqp_url) as proxy:
        api = await apis.start(WALLET_AMQP_URL=proxy.url)
        worker.freeze()
        async with api.client(key) as http:
            posts = [
                asyncio.create_task(
                    http.post(
                        "/v1/accounts", json=opening(f"u-{n}"), headers=numbered(f"O-{n}", Prefer="wait=25")
                    )
                )
                for n in range(50)
            ]
            await waiting(api, 50)
            async with asyncio.timeout(30):
                while await depth(amqp_url, "wallet.commands") > 0:  # noqa: ASYNC110 -- the broker's count
                    await asyncio.sleep(0.1)

            lost = time.monotonic()
            proxy.reset()
            answers = await asyncio.gather(*posts)
            took = time.monotonic() - lost
            worker.thaw()
            outcomes = [await until_outcome(http, f"O-{n}") for n in range(50)]

    assert Counter(answer.status_code for answer in answers) == {ACCEPTED: 50}
    assert took < 3.0
    assert {outcome["status"] for outcome in outcomes} == {"applied"}
    assert answers[0].json() == {"type": "command.accepted.v1", "serial_no": "O-0"}
    assert answers[0].headers["location"] == "/v1/outcomes?serial_no=O-0"
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 50


async def test_lost_confirm_is_504_and_the_same_again_is_the_truth(
    worker: WorkerProcess, apis: Apis, key: str, amqp_url: str, owner: asyncpg.Connection
) -> None:
    """Published, and the confirm never arrives. Nobody may say 201, 202 or 503 then."""
    del worker
    async with Proxy(amqp_url) as proxy:
        api = await apis.start(WALLET_AMQP_URL=proxy.url)
        async with api.client(key) as http:
            assert (await http.get("/v1/client")).status_code == 200
            proxy.black_hole(Way.TO_CLIENT)
            unknown = await http.post(
                "/v1/accounts", json=opening("alice"), headers=numbered("O-1", Prefer="wait=1")
            )
            proxy.heal()
            proxy.reset()
            again = await http.post("/v1/accounts", json=opening("alice"), headers=numbered("O-1"))
            while again.status_code == NOT_SENT:
                again = await http.post("/v1/accounts", json=opening("alice"), headers=numbered("O-1"))

    assert (unknown.status_code, unknown.json()["code"]) == (UNKNOWN, "OUTCOME_UNKNOWN")
    assert unknown.json()["retry"] == "same"
    assert unknown.headers["location"] == "/v1/outcomes?serial_no=O-1"
    assert again.status_code in {201, ACCEPTED}
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 1


async def test_broker_that_is_away_is_503_at_once_and_looks_and_repeats_go_on(
    worker: WorkerProcess, apis: Apis, key: str, amqp_url: str
) -> None:
    del worker
    async with Proxy(amqp_url) as proxy:
        api = await apis.start(WALLET_AMQP_URL=proxy.url)
        async with api.client(key) as http:
            await opened(http, "alice")
            proxy.refuse()
            await missing(api, "broker")

            began = time.monotonic()
            fresh = await http.post("/v1/accounts", json=opening("bob"), headers=numbered("O-2"))
            took = time.monotonic() - began
            repeat = await http.post(
                "/v1/accounts", json=opening("alice"), headers=numbered("OPEN-alice-TWD")
            )
            look = await http.get("/v1/accounts?user_id=alice")
            ready = await http.get("/readyz")
            proxy.heal()
            await missing(api, "broker", there=False)
            later = await http.post("/v1/accounts", json=opening("bob"), headers=numbered("O-2"))

    assert (fresh.status_code, fresh.json()["code"]) == (NOT_SENT, "NOT_SENT")
    assert fresh.json()["retry"] == "same"
    assert 1 <= int(fresh.headers["retry-after"]) <= 60
    assert took < 1.5
    assert (repeat.status_code, repeat.json()["duplicate"]) == (201, True)
    assert look.status_code == ready.status_code == 200
    assert later.status_code in {201, ACCEPTED}


async def test_topology_that_is_not_there_is_503_and_said_to_operators_only(
    apis: Apis, key: str, servers: Servers, database_url: str
) -> None:
    async with servers.vhost() as empty:
        api = await apis.launch(WALLET_AMQP_URL=empty)
        await api.until_ready()
        async with api.client(key) as http:
            answer = await http.post("/v1/accounts", json=opening("alice"), headers=numbered("O-1"))
            public = await http.get("/readyz")
        await missing(api, "broker")
        await topology.apply(empty)
        await missing(api, "broker", there=False)

    assert database_url
    assert (answer.status_code, answer.json()["code"]) == (NOT_SENT, "NOT_SENT")
    assert public.json() == {"ready": True}
    assert "topology apply" in api.log()


async def test_without_a_worker_a_command_is_accepted_at_once(
    http: httpx.AsyncClient, api: ApiProcess, workers: Workers
) -> None:
    async with asyncio.timeout(10):
        while True:
            began = time.monotonic()
            answer = await http.post(
                "/v1/accounts", json=opening("alice"), headers=numbered("O-1", Prefer="wait=5")
            )
            if time.monotonic() - began < 2.0:
                break

    assert answer.status_code == ACCEPTED
    await workers.start()
    assert (await until_outcome(http, "O-1"))["status"] == "applied"
    assert await api.metric("wallet_api_unknown_total") >= 1


async def test_worker_that_is_stopped_leaves_202_after_the_wait(
    worker: WorkerProcess, http: httpx.AsyncClient
) -> None:
    worker.freeze()
    began = time.monotonic()
    answer = await http.post("/v1/accounts", json=opening("alice"), headers=numbered("O-1", Prefer="wait=2"))
    took = time.monotonic() - began
    worker.thaw()

    assert answer.status_code == ACCEPTED
    assert took >= 2.0
    assert (await until_outcome(http, "O-1"))["status"] == "applied"


async def test_worker_that_dies_after_its_commit_makes_one_outcome(
    workers: Workers, apis: Apis, key: str, owner: asyncpg.Connection
) -> None:
    await workers.start(WALLET_FAILPOINT="after_commit")
    await workers.start()
    api = await apis.start()
    async with api.client(key) as http:
        answers = [
            await http.post(
                "/v1/accounts", json=opening(f"u-{n}"), headers=numbered(f"O-{n}", Prefer="wait=20")
            )
            for n in range(8)
        ]
        outcomes = [await until_outcome(http, f"O-{n}") for n in range(8)]

    assert {answer.status_code for answer in answers} <= {201, ACCEPTED}
    assert {outcome["status"] for outcome in outcomes} == {"applied"}
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 8


async def test_database_that_is_away_stops_looks_and_not_commands(
    worker: WorkerProcess, apis: Apis, key: str, database_url: str
) -> None:
    """The API's way to it alone, so that the worker goes on."""
    del worker
    async with Proxy(database_url) as proxy:
        api = await apis.start(WALLET_DATABASE_URL=proxy.url)
        unseen = await apis.key("add", "unseen", "--role", "reader")
        async with api.client(key) as http, api.client(unseen) as stranger:
            assert (await http.get("/v1/client")).status_code == 200
            proxy.refuse()
            await missing(api, "database")

            command = await http.post("/v1/accounts", json=opening("alice"), headers=numbered("O-1"))
            look = await http.get("/v1/accounts?user_id=alice")
            unknown_key = await stranger.get("/v1/client")
            await asyncio.sleep(6)  # longer than a key is fresh
            known_key = await http.get("/v1/client")
            proxy.heal()
            await missing(api, "database", there=False)
            back = await http.get("/v1/accounts?user_id=alice")
            known_again = await stranger.get("/v1/client")

    assert command.status_code == 201, command.text
    assert (look.status_code, look.json()["code"]) == (503, "DATABASE_AWAY")
    assert (unknown_key.status_code, unknown_key.json()["code"]) == (503, "DATABASE_AWAY")
    assert known_key.status_code == 200
    assert len(back.json()["accounts"]) == 1
    assert known_again.status_code == 200


async def test_database_that_is_slow_is_not_waited_for_before_sending(
    http: httpx.AsyncClient, amqp_url: str, owner: asyncpg.Connection
) -> None:
    """The table of outcomes is locked, so nobody can look a number up."""
    assert (await http.get("/v1/client")).status_code == 200
    async with owner.transaction():
        await owner.execute("LOCK TABLE commands IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        answer = await http.post(
            "/v1/accounts", json=opening("alice"), headers=numbered("O-1", Prefer="wait=0")
        )
        took = time.monotonic() - began

    assert answer.status_code == ACCEPTED
    assert took < 2.0
    assert await depth(amqp_url, "wallet.commands") == 1


async def test_same_command_at_two_processes_has_one_effect(
    worker: WorkerProcess, apis: Apis, key: str, owner: asyncpg.Connection
) -> None:
    """A hundred pairs, each at once."""
    del worker
    first, second = await apis.start(), await apis.start()
    async with first.client(key) as near, second.client(key) as other:
        pairs = await asyncio.gather(
            *(
                asyncio.gather(
                    near.post(
                        "/v1/accounts", json=opening(f"u-{n}"), headers=numbered(f"O-{n}", Prefer="wait=30")
                    ),
                    other.post(
                        "/v1/accounts", json=opening(f"u-{n}"), headers=numbered(f"O-{n}", Prefer="wait=30")
                    ),
                )
                for n in range(100)
            )
        )

    for pair in pairs:
        assert [answer.status_code for answer in pair] == [201, 201]
        assert sorted(answer.json()["duplicate"] for answer in pair) == [False, True]
        assert pair[0].json()["result"] == pair[1].json()["result"]
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 100


@pytest.fixture
async def two(worker: WorkerProcess, apis: Apis, key: str) -> list[httpx.AsyncClient]:
    """Give clients of two API processes, and an account with money."""
    del worker
    clients = [(await apis.start()).client(key) for _ in range(2)]
    await opened(clients[0], "alice")
    return clients


async def test_any_order_of_equal_and_other_commands_under_one_number_applies_one(
    two: list[httpx.AsyncClient], amqp_url: str
) -> None:
    """As a property: N equal and M other bodies under one number, at two processes and by AMQP."""
    wallet = WalletClient(amqp_url)
    await wallet.__aenter__()
    numbers = iter(range(1_000))

    async def tried(roads: list[tuple[int, str]]) -> None:
        number = f"R-{next(numbers)}"

        async def by(road: int, amount: str) -> tuple[str, bool]:
            if road == 2:
                outcome = await wallet.recharge(
                    "alice", amount, "TWD", "card", serial_no=number, timeout_seconds=30
                )
                return outcome.code.value, outcome.duplicate
            answer = await two[road].post(
                "/v1/recharges", json=recharge("alice", amount), headers=numbered(number, Prefer="wait=30")
            )
            body = answer.json()
            assert answer.status_code in {201, 422}, answer.text
            return body["code"], body.get("duplicate", False)

        found = await asyncio.gather(*(by(*road) for road in roads))
        by_amount: dict[Decimal, list[tuple[str, bool]]] = {}  # 100 and 100.00 are the same content
        for (_, amount), item in zip(roads, found, strict=True):
            by_amount.setdefault(Decimal(amount), []).append(item)
        winners = [body for body in by_amount.values() if ("OK", False) in body]
        assert len(winners) == 1, (roads, found)
        assert Counter(winners[0]) == Counter([("OK", False)] + [("OK", True)] * (len(winners[0]) - 1))
        for body in by_amount.values():
            if body is not winners[0]:
                assert {code for code, _ in body} == {"SERIAL_CONFLICT"}

    roads = st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["100", "100.00", "7.5", "8"])), min_size=2, max_size=6
    )
    loop = asyncio.get_running_loop()

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(roads)
    def holds(sent: list[tuple[int, str]]) -> None:
        asyncio.run_coroutine_threadsafe(tried(sent), loop).result(60)

    await asyncio.to_thread(holds)
    await wallet.__aexit__(None, None, None)
    for client in two:
        await client.aclose()


async def test_result_posted_five_times_at_once_and_once_by_amqp_is_credited_once(
    worker: WorkerProcess, http: httpx.AsyncClient, amqp_url: str, owner: asyncpg.Connection
) -> None:
    del worker
    await opened(http, "alice")
    await http.post("/v1/recharges", json=recharge("alice"), headers=numbered("R-1"))
    body = word("R-1")

    answers = await asyncio.gather(
        *(http.post(RESULTS, content=body, headers=signed(body)) for _ in range(5))
    )
    await send_result(amqp_url, "R-1")

    assert Counter(answer.json()["processing_status"] for answer in answers) == {
        "processed": 1,
        "duplicate": 4,
    }
    order = (await http.get("/v1/orders?serial_no=R-1")).json()
    assert order["order"]["status"] == "succeeded"
    assert await owner.fetchval("SELECT balance FROM accounts WHERE user_id = 'alice'") == 100_00


async def test_queue_that_is_full_is_503_until_it_is_drained(
    apis: Apis, key: str, workers: Workers, amqp_url: str
) -> None:
    api = await apis.start(WALLET_API_QUEUE_MAX="20")
    async with api.client(key) as http:
        statuses: list[int] = []
        answer = await http.get("/v1/client")
        while NOT_SENT not in statuses:
            answer = await http.post(
                "/v1/accounts",
                json=opening("u"),
                headers=numbered(f"O-{len(statuses)}", Prefer="respond-async"),
            )
            statuses.append(answer.status_code)
            await asyncio.sleep(0.02)
            assert len(statuses) < 500
        await workers.start()
        async with asyncio.timeout(30):
            while await depth(amqp_url, "wallet.commands") > 0:  # noqa: ASYNC110 -- the broker's count
                await asyncio.sleep(0.1)
            while (  # noqa: ASYNC110 -- the other process looks once a second
                drained := await http.post("/v1/accounts", json=opening("v"), headers=numbered("V-1"))
            ).status_code == NOT_SENT:
                await asyncio.sleep(0.1)

    assert set(statuses) == {ACCEPTED, NOT_SENT}
    assert answer.json()["code"] == "OVERLOADED"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert drained.status_code in {201, ACCEPTED}


async def test_waits_shrink_before_requests_are_refused(worker: WorkerProcess, apis: Apis, key: str) -> None:
    api = await apis.start(WALLET_API_IN_FLIGHT="40")
    worker.freeze()
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(
        base_url=api.url, headers={"authorization": f"Bearer {key}"}, timeout=60, limits=limits
    ) as http:
        began = time.monotonic()

        async def post(number: int) -> tuple[int, float]:
            answer = await http.post(
                "/v1/accounts", json=opening(f"u-{number}"), headers=numbered(f"O-{number}", Prefer="wait=10")
            )
            return answer.status_code, time.monotonic() - began

        found = await asyncio.gather(*(post(number) for number in range(120)))
        worker.thaw()
        accepted = [number for number, (status, _) in enumerate(found) if status == ACCEPTED]
        outcomes = [await until_outcome(http, f"O-{number}") for number in accepted[:10]]

    statuses = Counter(status for status, _ in found)
    assert set(statuses) == {ACCEPTED, NOT_SENT}
    assert statuses[ACCEPTED] >= 40
    waits = sorted(seconds for status, seconds in found if status == ACCEPTED)
    assert waits[0] < 5.0 < waits[-1], "those that came when half was taken waited less"
    assert {outcome["status"] for outcome in outcomes} == {"applied"}


async def test_stop_answers_everything_that_was_taken(worker: WorkerProcess, apis: Apis, key: str) -> None:
    """Under load, with a long poll, and with a worker that says nothing for a while."""
    api = await apis.start()
    async with api.client(key) as http:
        await opened(http, "alice")
        await http.post("/v1/recharges", json=recharge("alice"), headers=numbered("R-1"))
        poll = asyncio.create_task(http.get("/v1/outcomes?serial_no=NEVER", headers={"Prefer": "wait=25"}))
        look = asyncio.create_task(http.get("/v1/orders?serial_no=R-1", headers={"Prefer": "wait=25"}))
        worker.freeze()
        posts = [
            asyncio.create_task(
                http.post(
                    "/v1/accounts", json=opening(f"u-{n}"), headers=numbered(f"O-{n}", Prefer="wait=25")
                )
            )
            for n in range(30)
        ]
        await waiting(api, 30)
        began = time.monotonic()
        status = await api.stop()
        took = time.monotonic() - began
        answers = await asyncio.gather(*posts)
        polled = await poll
        looked = await look

    worker.thaw()
    assert status == 0
    assert took < 12.0
    assert Counter(answer.status_code for answer in answers) == {ACCEPTED: 30}
    assert {answer.headers.get("connection") for answer in answers} == {"close"}
    assert polled.status_code == 404
    assert (looked.status_code, looked.headers["connection"]) == (200, "close")
    assert looked.json()["order"]["status"] == "pending"
    assert api.events("api.stopped")


async def test_process_that_is_killed_loses_connections_and_nothing_else(
    worker: WorkerProcess, apis: Apis, key: str, owner: asyncpg.Connection
) -> None:
    """The client repeats at another process."""
    first, second = await apis.start(), await apis.start()
    async with first.client(key) as near, second.client(key) as other:
        worker.freeze()
        posts = [
            asyncio.create_task(
                near.post(
                    "/v1/accounts", json=opening(f"u-{n}"), headers=numbered(f"O-{n}", Prefer="wait=25")
                )
            )
            for n in range(20)
        ]
        await waiting(first, 20)
        first.process.send_signal(signal.SIGKILL)
        cut = await asyncio.gather(*posts, return_exceptions=True)
        worker.thaw()
        again = [
            await other.post(
                "/v1/accounts", json=opening(f"u-{n}"), headers=numbered(f"O-{n}", Prefer="wait=25")
            )
            for n in range(20)
        ]

    assert all(isinstance(item, httpx.TransportError) for item in cut)
    assert {answer.status_code for answer in again} == {201}
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 20


async def test_many_idle_connections_are_in_nobodys_way(api: ApiProcess, http: httpx.AsyncClient) -> None:
    """With as many as this process may open; idle ones cost little."""
    before = await api.metric("process_resident_memory_bytes")
    idle = [await asyncio.open_connection("127.0.0.1", api.public_port) for _ in range(900)]
    fresh = await http.get("/v1/client")
    after = await api.metric("process_resident_memory_bytes")
    for _, writer in idle:
        writer.close()

    assert fresh.status_code == 200
    assert (after - before) / len(idle) < 40_000, "bytes for each idle connection"


@pytest.mark.timeout(180)
async def test_broker_that_is_killed_is_waited_for_and_nothing_is_lost(
    worker: WorkerProcess, apis: Apis, key: str, servers: Servers, owner: asyncpg.Connection
) -> None:
    """A real SIGKILL of the broker, under load."""
    del worker
    api = await apis.start()
    statuses: Counter[int] = Counter()
    pending = {f"O-{n}" for n in range(60)}
    async with api.client(key) as http:

        async def drive(number: str) -> None:
            while number in pending:
                answer = await http.post(
                    "/v1/accounts", json=opening(number), headers=numbered(number, Prefer="wait=2")
                )
                statuses[answer.status_code] += 1
                if answer.status_code in {200, 201}:
                    pending.discard(number)
                else:
                    await asyncio.sleep(0.5)

        drivers = [asyncio.create_task(drive(number)) for number in sorted(pending)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(servers.broker.kill)
        await asyncio.to_thread(servers.broker.start)
        await asyncio.gather(*drivers)

    assert set(statuses) <= {201, ACCEPTED, NOT_SENT, UNKNOWN}, statuses
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 60


async def test_number_is_never_one_of_the_servers(worker: WorkerProcess, http: httpx.AsyncClient) -> None:
    """A number of the server's own would be another at each repeat, and protect nobody."""
    del worker
    await opened(http, "alice")

    without = await http.post("/v1/recharges", json=recharge("alice"))

    assert (without.status_code, without.json()["code"]) == (400, "SERIAL_NO_MISSING")
