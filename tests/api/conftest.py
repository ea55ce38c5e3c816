"""An API process beside the test's own broker and database, and a key that may do what an upstream may."""

from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest
import pytest_asyncio

from tests.api.process import ApiProcess, Apis
from tests.servers import Servers
from tests.workers import WorkerProcess, Workers
from wallet_worker.broker import topology


@pytest.fixture
async def apis(workers: Workers) -> AsyncIterator[Apis]:
    """Give a starter of API processes."""
    async with Apis.beside(workers) as apis:
        yield apis


@pytest.fixture
async def worker(workers: Workers) -> WorkerProcess:
    """Give a running worker; a test names it before the API, which else has seen that nobody reads its commands."""
    return await workers.start()


@pytest.fixture
async def api(apis: Apis) -> ApiProcess:
    """Give a running API process."""
    return await apis.start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(servers: Servers, migrated_url: str) -> AsyncIterator[Apis]:
    """Give a starter of API processes on servers that a file's tests share, who change nothing for each other."""
    async with servers.vhost() as amqp_url, servers.database(template=migrated_url) as database_url:
        await topology.apply(amqp_url)
        program = ("-m", "wallet_worker", "api")
        async with Apis(amqp_url, database_url, None, program) as apis:
            yield apis


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_api(shared: Apis) -> ApiProcess:
    """Give an API process that a file's tests share, before which nobody works."""
    return await shared.start()


@pytest.fixture
async def key(apis: Apis) -> str:
    """Give a key of an upstream and a back office in one, whose quota nobody meets by chance."""
    return await apis.key(
        "add", "shop", "--role", "upstream", "--scope", "accounts:freeze", "--scope", "accounts:close",
        "--rate", "100000", "--in-flight", "10000",
    )  # fmt: skip


@pytest.fixture
async def http(api: ApiProcess, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give an HTTP client with the key."""
    async with api.client(key) as client:
        yield client
