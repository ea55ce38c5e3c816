"""A wallet at work, which the tests of a module share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.servers import Servers
from tests.workers import Workers
from wallet_worker.broker import topology
from wallet_worker.client import new_serial_no


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_url(servers: Servers, migrated_url: str) -> AsyncIterator[str]:
    """Give the AMQP URL of a wallet at work; each test uses users and serial numbers of its own."""
    async with servers.vhost() as amqp_url, servers.database(template=migrated_url) as database_url:
        await topology.apply(amqp_url)
        async with Workers(amqp_url, database_url, servers.management_url) as workers:
            await workers.start()
            yield amqp_url


@pytest.fixture
def user() -> str:
    """Give a user that no other test has."""
    return f"user-{new_serial_no()}"


@pytest.fixture
def serial_no() -> str:
    """Give a serial number that no other test has."""
    return f"R-{new_serial_no()}"
