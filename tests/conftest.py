"""Servers for the whole run; a migrated database and a vhost with the topology for each test."""

import logging
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import structlog

from tests.servers import Servers, start_servers
from tests.words import assert_for_people
from tests.workers import Workers
from wallet_worker.broker import topology
from wallet_worker.broker.amqp.codec import patch_pamqp
from wallet_worker.client import WalletError
from wallet_worker.store.migrate import migrate

LONG = (
    "faults",
    "tools",
    "dead_letters/test_faults.py",
    "journeys/test_every_task_waits.py",
    "journeys/test_changed_database.py",
    "cli/test_exit_statuses.py",
    "test_packages.py",
    "api/test_other_languages.py",
)
"""Where tests mostly wait, for servers that were killed and for whole stories."""
BETWEEN = 3

patch_pamqp()  # as the wallet's processes do: many tests run parts of them in this one


def pytest_configure() -> None:
    """Let processes that the tests start hear Ctrl-C, also where a shell runs the tests in the background.

    Such a shell has what it starts ignore SIGINT, and who is started inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the long files early and one at a time, so that others compute while they wait.

    `--dist loadfile` hands out the files in this order; else they are run in it.
    """
    files: defaultdict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    here = Path(__file__).parent
    long = [path for path in files if path.relative_to(here).as_posix().startswith(LONG)]
    short = [path for path in files if path not in long]
    mixed: list[Path] = []
    for number, path in enumerate(short):
        mixed += [long.pop(0)] if long and number % BETWEEN == 0 else []
        mixed.append(path)
    items[:] = [item for path in mixed + long for item in files[path]]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Give a broker and a database server that live as long as the run."""
    with start_servers(durable=False) as servers:
        yield servers


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_url(servers: Servers) -> AsyncIterator[str]:
    """Give a migrated database that nobody connects to: what each test's own is copied from."""
    async with servers.database() as url:
        await migrate(url)
        yield url


@pytest.fixture
async def database_url(servers: Servers, migrated_url: str) -> AsyncIterator[str]:
    """Give a migrated database of the test's own."""
    async with servers.database(template=migrated_url) as url:
        yield url


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection of the database's owner, to look at what was written."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def bare_url(servers: Servers) -> AsyncIterator[str]:
    """Give the URL of an empty vhost."""
    async with servers.vhost() as url:
        yield url


@pytest.fixture
async def amqp_url(bare_url: str) -> str:
    """Give the URL of a vhost with the wallet's topology."""
    await topology.apply(bare_url)
    return bare_url


@pytest.fixture
async def workers(servers: Servers, amqp_url: str, database_url: str) -> AsyncIterator[Workers]:
    """Give a starter of worker processes on the test's own vhost and database; all are ended afterwards."""
    async with Workers(amqp_url, database_url, servers.management_url) as workers:
        yield workers


@pytest.fixture(autouse=True)
def _errors_of_the_client_are_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each error of the client judged where it is made, in whatever test that is."""
    original = WalletError.__init__

    def judged(self: WalletError, *texts: object) -> None:
        assert_for_people(" ".join(map(str, texts)))
        original(self, *texts)

    monkeypatch.setattr(WalletError, "__init__", judged)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Have each test begin with logs that nobody configured, and end so."""
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()
