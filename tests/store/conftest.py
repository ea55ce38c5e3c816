"""One database for the tests that leave nothing behind, or only what can be swept away."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from tests.servers import Servers
from tests.worker import tables
from wallet_worker.store.database import WORKER_ROLE, Database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_url(servers: Servers, migrated_url: str) -> AsyncIterator[str]:
    """Give a migrated database that is empty whenever a test begins."""
    async with servers.database(template=migrated_url) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def rolled_back(shared_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give the owner's connection in a transaction that is rolled back after the test."""
    connection = await asyncpg.connect(shared_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.fixture
async def sweeper(shared_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give the owner's connection, and sweep away afterwards what the test has left in the shared database."""
    connection = await asyncpg.connect(shared_url)
    yield connection
    await tables.empty(connection)
    await connection.execute("DELETE FROM accounts")
    await connection.close()


@pytest.fixture
async def holder(shared_url: str, sweeper: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:  # noqa: ARG001
    """Give a connection in a transaction, to hold what others want; what it has not committed is undone."""
    connection = await asyncpg.connect(shared_url)
    await connection.execute("BEGIN")
    yield connection
    await connection.close()


@pytest.fixture
async def database(shared_url: str, sweeper: asyncpg.Connection) -> AsyncIterator[Database]:  # noqa: ARG001
    """Give the worker's way to the shared database."""
    found = Database(shared_url, role=WORKER_ROLE, application="wallet tests")
    await found.open()
    yield found
    await found.close()
