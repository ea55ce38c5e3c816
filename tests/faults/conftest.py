"""Servers that may be broken: their own, so that no other test meets them in pieces."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
import pytest_asyncio

from tests.faults.world import World, world
from tests.servers import Servers, start_servers
from wallet_worker.store.migrate import migrate

MakeWorld: TypeAlias = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture(scope="session")
def breakable() -> Iterator[Servers]:
    """Give servers that tests may kill."""
    with start_servers(controlled=True, durable=False) as servers:
        yield servers


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def breakable_migrated_url(breakable: Servers) -> AsyncIterator[str]:
    """Give a migrated database on them that nobody connects to."""
    async with breakable.database() as url:
        await migrate(url)
        yield url


@pytest.fixture
def make_world(breakable: Servers, breakable_migrated_url: str, tmp_path: Path) -> MakeWorld:
    """Give what makes a world; its arguments are `world`'s."""
    return partial(world, breakable, breakable_migrated_url, tmp_path)
