"""A worker that cannot work says why in a plain sentence, and ends with 1; one whose servers are away waits."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from tests.journeys.conftest import Wallet
from tests.servers import Servers
from tests.workers import READY_SECONDS, WorkerProcess, Workers
from wallet_worker.broker import topology
from wallet_worker.store.schema_version import newest_revision


async def ends(worker: WorkerProcess) -> tuple[int, list[str]]:
    """Return the exit status of a worker that cannot work, and the sentences in its log that say why."""
    status = await asyncio.wait_for(worker.process.wait(), READY_SECONDS)
    return status, [str(line["reason"]) for line in worker.events("worker.cannot_run")]


@pytest.fixture
async def channel(wallet: Wallet) -> AsyncIterator[AbstractChannel]:
    """Give a channel to hurt the topology with."""
    async with aiormq.connect(wallet.amqp_url) as connection:
        yield await connection.channel()


async def test_a_worker_does_not_start_on_a_wrong_topology_and_says_all_that_is_wrong(
    wallet: Wallet, channel: AbstractChannel
) -> None:
    await channel.queue_delete("wallet.commands")
    await channel.exchange_delete("wallet.dead-letters")

    status, reasons = await ends(await wallet.workers.launch())

    assert status == 1
    for sentence in (
        "The queue wallet.commands does not exist.",
        "The exchange wallet.dead-letters does not exist.",
    ):
        assert all(sentence in reason for reason in reasons)


async def test_a_worker_does_not_start_without_a_topology(
    servers: Servers, bare_url: str, database_url: str
) -> None:
    async with Workers(bare_url, database_url, servers.management_url) as workers:
        status, reasons = await ends(await workers.launch())

    assert status == 1
    for name in ("wallet.commands", "payment.requests", "payment.results", "wallet.events"):
        assert f"The exchange {name} does not exist." in reasons[0]


async def test_commands_go_on_without_the_queue_of_queries(wallet: Wallet) -> None:
    async with aiormq.connect(wallet.amqp_url) as connection:
        await (await connection.channel()).queue_delete("wallet.queries")

    worker = await wallet.workers.launch()
    opened = await wallet.upstream.opened()

    assert opened
    assert await worker.get("/readyz") == (503, '{"ready":false,"waiting_for":["queries"]}')
    await topology.apply(wallet.amqp_url)
    await worker.until_ready()


async def test_a_worker_asks_no_management_api_and_tells_nobody_its_password(wallet: Wallet) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1_000))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await wallet.workers.start(WALLET_MANAGEMENT_URL=f"http://127.0.0.1:{port}")
        assert await wallet.upstream.opened()

    assert heard == []


async def test_a_worker_whose_broker_is_away_says_why_in_its_log_and_shows_no_secret(wallet: Wallet) -> None:
    worker = await wallet.workers.launch(WALLET_AMQP_URL="amqp://u:guess@me@127.0.0.1:1/")

    async with asyncio.timeout(READY_SECONDS):
        while not worker.events("consumer.waiting"):  # noqa: ASYNC110 -- a log file sends no signal
            await asyncio.sleep(0.05)
    _, page = await worker.get("/readyz")

    assert "127.0.0.1:1" in str(worker.events("consumer.waiting")[0]["reason"])
    assert not {"guess", "me"} & set(page.split('"'))
    assert "guess" not in worker.log()
    assert "127.0.0.1" not in page


async def test_a_worker_does_not_start_on_a_database_that_was_never_migrated(
    servers: Servers, wallet: Wallet
) -> None:
    async with servers.database() as empty:
        status, reasons = await ends(await wallet.workers.launch(WALLET_DATABASE_URL=empty))

    assert status == 1
    needs = newest_revision()
    assert reasons == [f"the database is at revision none, this worker needs {needs}: run `wallet migrate`"]


async def test_a_worker_does_not_start_on_a_port_that_is_taken(wallet: Wallet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        status, reasons = await ends(await wallet.workers.launch(WALLET_HTTP_PORT=str(port)))

    assert status == 1
    assert reasons == [f"the port {port} for /healthz, /readyz and /metrics cannot be opened"]


async def test_a_worker_does_not_start_with_an_address_that_is_none_and_shows_no_password(
    wallet: Wallet,
) -> None:
    worker = await wallet.workers.launch(WALLET_AMQP_URL="http://wallet:guess-me@127.0.0.1/")

    status, _ = await ends(worker)

    assert status == 2
    assert "WALLET_AMQP_URL" in worker.log()
    assert "guess-me" not in worker.log()
    assert "Traceback" not in worker.log()
