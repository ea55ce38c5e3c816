"""A wallet for a test or for a whole module: vhost, database, workers, and a client of all of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest
import pytest_asyncio

from tests.journeys.upstream import Upstream
from tests.servers import Servers
from tests.servers.management import Management
from tests.workers import Workers
from wallet_worker.broker import topology


@dataclass(frozen=True, slots=True)
class Wallet:
    """Everything that belongs to one wallet, and its surroundings."""

    servers: Servers
    amqp_url: str
    database_url: str
    owner: asyncpg.Connection
    workers: Workers
    upstream: Upstream
    management: Management

    @property
    def vhost(self) -> str:
        """The name of the vhost."""
        return self.amqp_url.rpartition("/")[2]


@asynccontextmanager
async def a_wallet(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet of one's own, without a worker yet."""
    async with servers.vhost() as amqp_url, servers.database(template=migrated_url) as database_url:
        await topology.apply(amqp_url)
        owner = await asyncpg.connect(database_url)
        try:
            async with (
                Workers(amqp_url, database_url, servers.management_url) as workers,
                Upstream(amqp_url) as upstream,
            ):
                management = Management(servers.management_url)
                yield Wallet(servers, amqp_url, database_url, owner, workers, upstream, management)
        finally:
            await owner.close()


@pytest.fixture
async def wallet(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet of the test's own, without a worker yet."""
    async with a_wallet(servers, migrated_url) as wallet:
        yield wallet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet with one worker that a module's tests share; each uses users and numbers of its own."""
    async with a_wallet(servers, migrated_url) as wallet:
        await wallet.workers.start()
        yield wallet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet with two workers that a module's tests share, so that each race may be one between them."""
    async with a_wallet(servers, migrated_url) as wallet:
        for worker in [await wallet.workers.launch() for _ in range(2)]:
            await worker.until_ready()
        yield wallet


@pytest.fixture
def upstream(shared: Wallet) -> Upstream:
    """Give the shared wallet's client."""
    return shared.upstream
