"""Two databases, and a worker without a broker on each."""

import logging
from collections.abc import AsyncIterator

import asyncpg
import pytest
import structlog
from structlog.testing import LogCapture
from structlog.typing import EventDict

from tests.servers import Servers
from tests.worker.rig import Rig, open_rig


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> list[EventDict]:
    """Collect what the batch logs, instead of writing it.

    The modules get a logger of the test's own: theirs may be bound for good to a terminal that is gone.
    """
    capture = LogCapture()
    log = structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[capture],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
    )
    for module in ("worker.batch", "worker.reporting", "worker.outbox", "store.waiting"):
        monkeypatch.setattr(f"wallet_worker.{module}.log", log)
    return capture.entries


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    """Give a worker on the test's database."""
    async with open_rig(database_url) as found:
        yield found


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Rig]:
    """Give another worker on the test's database."""
    async with open_rig(database_url) as found:
        yield found


@pytest.fixture
async def second_url(servers: Servers, migrated_url: str) -> AsyncIterator[str]:
    """Give a second migrated database."""
    async with servers.database(template=migrated_url) as url:
        yield url


@pytest.fixture
async def elsewhere(second_url: str) -> AsyncIterator[Rig]:
    """Give a worker on the second database."""
    async with open_rig(second_url) as found:
        yield found


@pytest.fixture
async def second_owner(second_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection of the second database's owner."""
    connection = await asyncpg.connect(second_url)
    yield connection
    await connection.close()
