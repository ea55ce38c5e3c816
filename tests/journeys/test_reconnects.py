"""Servers that come and go: a worker waits for them, says for which, and goes on by itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.journeys.conftest import Wallet, a_wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import recharge, result
from tests.journeys.upstream import Upstream
from tests.servers import Server, Servers, start_servers
from tests.workers import WorkerProcess
from wallet_worker.store.migrate import migrate

BACK_SECONDS = 60.0  # promised, whatever happened to a server
PARTS = ("database", "publisher", "consumer", "queries")


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """Give servers of this module's own, which may be stopped."""
    with start_servers(controlled=True, durable=False) as servers:
        yield servers


@pytest_asyncio.fixture
async def own_wallet(own_servers: Servers) -> AsyncIterator[Wallet]:
    """Give a wallet on servers that may be stopped."""
    async with own_servers.database() as migrated:
        await migrate(migrated)
        async with a_wallet(own_servers, migrated) as wallet:
            yield wallet


async def waiting_for(worker: WorkerProcess) -> set[str]:
    """Return the parts of a worker that do not work; it is alive all the same."""
    status, page = await worker.get("/readyz")
    alive, _ = await worker.get("/healthz")
    found = json.loads(page)["waiting_for"]
    assert (status == 200, alive) == (not found, 200)
    return set(found)


@asynccontextmanager
async def away(server: Server) -> AsyncIterator[None]:
    """Have a server stopped for a while."""
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


async def test_a_database_is_waited_for_by_those_that_start_and_those_that_work_and_nothing_is_set_aside(
    own_wallet: Wallet,
) -> None:
    upstream = own_wallet.upstream
    running = await own_wallet.workers.start()
    user = await upstream.opened()
    await own_wallet.owner.close()

    async with away(own_wallet.servers.database_server):
        heard = [await upstream.command(recharge(user)) for _ in range(20)]
        await until_it_waits_for(running, "database")
        refused = await upstream.query({"type": "account.get.v1", "user_id": user})
        starting = await own_wallet.workers.launch()
        await until_it_waits_for(starting, *PARTS)
    for worker in (running, starting):
        await worker.until_ready(seconds=BACK_SECONDS)
    outcomes = [await upstream.answer(item) for item in heard]

    assert (refused["type"], refused["code"]) == ("query.refused.v1", "INTERNAL")
    assert {(outcome["code"], outcome["duplicate"]) for outcome in outcomes} == {("OK", False)}
    assert upstream.dead_letters.received == []


async def test_a_broker_is_waited_for_by_those_that_start_and_those_that_work(own_wallet: Wallet) -> None:
    running = await own_wallet.workers.start()
    user = await own_wallet.upstream.opened()
    order = recharge(user)
    assert (await own_wallet.upstream.outcome(order))["code"] == "OK"

    async with away(own_wallet.servers.broker):
        starting = await own_wallet.workers.launch()
        for worker in (running, starting):
            await until_it_waits_for(worker, "publisher", "consumer", "queries")
    for worker in (running, starting):
        await worker.until_ready(seconds=BACK_SECONDS)
    async with Upstream(own_wallet.amqp_url) as upstream:
        outcome = await upstream.outcome(recharge(user))
        answer = await upstream.processed(result(order["serial_no"]))
        await upstream.settled(own_wallet.owner)

    assert (outcome["code"], answer["processing_status"]) == ("OK", "processed")
    await assert_sound(own_wallet.owner)


async def until_it_waits_for(worker: WorkerProcess, *parts: str) -> None:
    """Wait until a worker, alive, says that it waits for these, of which each task may add its own."""
    async with asyncio.timeout(BACK_SECONDS):
        while worker.process.returncode is None:
            try:
                if await waiting_for(worker) >= set(parts):
                    return
            except OSError:
                pass  # not listening yet
            await asyncio.sleep(0.05)
    raise AssertionError(worker.log())


async def test_connections_that_an_operator_closes_are_made_anew(wallet: Wallet) -> None:
    worker = await wallet.workers.start()
    upstream = wallet.upstream
    user = await upstream.opened()

    heard = [await upstream.command(recharge(user)) for _ in range(50)]
    closed = await close_connections(wallet, "wallet worker: ")
    heard += [await upstream.command(recharge(user)) for _ in range(50)]
    outcomes = [await upstream.answer(item) for item in heard]
    await worker.until_ready(seconds=BACK_SECONDS)
    await upstream.settled(wallet.owner)

    assert closed == 3
    assert {outcome["code"] for outcome in outcomes} == {"OK"}
    assert await wallet.owner.fetchval("SELECT count(*) FROM orders") == 100
    assert {line["component"] for line in worker.events("consumer.lost")} == {"consumer", "queries"}
    assert upstream.dead_letters.received == []


async def close_connections(wallet: Wallet, named: str) -> int:
    """Close a worker's connections, as an operator would; return how many there were."""
    async with asyncio.timeout(BACK_SECONDS):
        found: list[str] = []
        while len(found) < 3:  # the management API learns of connections some seconds later
            listed = await wallet.management.get(f"/api/vhosts/{wallet.vhost}/connections")
            names = {
                item["name"]: (item.get("client_properties") or {}).get("connection_name", "")
                for item in listed
            }
            found = [name for name, ours in names.items() if ours.startswith(named)]
            await asyncio.sleep(0.1)
    for name in found:
        await wallet.management.delete(f"/api/connections/{quote(name, safe='')}")
    return len(found)
