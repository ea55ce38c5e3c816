"""Two database servers: what a failover may take away is not acknowledged, and an old primary is not gone back to."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
import pytest_asyncio

from tests.servers.pair import Pair, start_pair
from wallet_worker.store import replication, servers
from wallet_worker.store.database import Database
from wallet_worker.store.errors import UnavailableError
from wallet_worker.store.servers import OldPrimaryError, Servers, split

GIVEN_UP_SECONDS = 1.0
SOON_SECONDS = 15.0

ADD = "INSERT INTO kept SELECT coalesce(max(number), 0) + 1 FROM kept"
COUNT = "SELECT count(*) FROM kept"


@pytest.fixture(scope="session")
def both_servers() -> Iterator[Pair]:
    """Give two servers of these tests alone."""
    with start_pair() as pair:
        yield pair


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def following(both_servers: Pair) -> Pair:
    """Give a primary with a table, and a synchronous standby."""
    await both_servers.be_synchronous()
    connection = await asyncpg.connect(both_servers.primary.url)
    await connection.execute("CREATE TABLE kept (number int PRIMARY KEY)")
    await connection.close()
    return both_servers


@pytest.fixture
async def pair(following: Pair, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    """Give a primary and a synchronous standby, which they are again afterwards."""
    monkeypatch.setattr(servers, "_servers", {})
    primary = following.primary
    yield following
    following.standby.thaw()
    if following.primary is not primary:
        await following.rejoin()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication, "COMMIT_SECONDS", GIVEN_UP_SECONDS)


@asynccontextmanager
async def opened(pair: Pair, *, primary_last: bool = False) -> AsyncIterator[Database]:
    """Give a pool of connections to the pair."""
    url = pair.url(primary_last=primary_last)
    database = Database(url, role="postgres", application="tests", statement_seconds=2)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def looking(pair: Pair) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection of somebody else's to the primary."""
    connection = await asyncpg.connect(pair.primary.url)
    try:
        yield connection
    finally:
        connection.terminate()


async def add(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(ADD)


async def look(database: Database, *, with_record: bool) -> None:
    async with database.transaction() as connection:
        await connection.fetchval(COUNT)
        if with_record:
            await replication.write_record(connection)


async def until_done(database: Database) -> None:
    """Add a row, trying again as the worker does."""
    async with asyncio.timeout(SOON_SECONDS):
        while True:
            with suppress(UnavailableError):
                return await add(database)
            await database.forget_connections()


async def waiting_commit(owner: asyncpg.Connection) -> int:
    """Return the process of a commit that waits for the standby."""
    async with asyncio.timeout(SOON_SECONDS):
        while True:
            pid = await owner.fetchval("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            if pid is not None:
                return int(pid)
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("_impatient")
async def test_a_commit_whose_standby_is_away_is_given_up_and_nobody_sees_its_row(pair: Pair) -> None:
    async with opened(pair) as database, looking(pair) as somebody:
        before = await somebody.fetchval(COUNT)
        pair.standby.freeze()

        with pytest.raises(UnavailableError):
            async with asyncio.timeout(2 * GIVEN_UP_SECONDS):  # before the driver would cancel it
                await add(database)

        assert await somebody.fetchval(COUNT) == before
        pair.standby.thaw()
        await until_done(database)
        assert await somebody.fetchval(COUNT) == before + 2  # the first was unknown, and is there


async def test_a_task_that_is_cancelled_while_it_commits_shows_nobody_its_row(pair: Pair) -> None:
    async with opened(pair) as database, looking(pair) as somebody:
        before = await somebody.fetchval(COUNT)
        pair.standby.freeze()
        task = asyncio.create_task(add(database))
        await waiting_commit(somebody)

        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.5)  # a cancel would have come by now
        assert await waiting_commit(somebody)
        assert await somebody.fetchval(COUNT) == before


async def test_a_wait_that_somebody_cancels_at_the_server_is_not_taken_for_a_commit(pair: Pair) -> None:
    async with opened(pair) as database, looking(pair) as somebody:
        pair.standby.freeze()
        task = asyncio.create_task(add(database))

        await somebody.execute("SELECT pg_cancel_backend($1)", await waiting_commit(somebody))

        with pytest.raises(UnavailableError, match="may not be on the standby"):
            await task


@pytest.mark.usefixtures("_impatient")
async def test_what_was_only_read_is_confirmed_by_a_record_and_not_without(pair: Pair) -> None:
    async with opened(pair) as database:
        pair.standby.freeze()

        await look(database, with_record=False)
        with pytest.raises(UnavailableError):
            await look(database, with_record=True)


@pytest.mark.parametrize("primary_last", [False, True])
async def test_a_primary_that_is_killed_is_followed_to_the_standby(pair: Pair, *, primary_last: bool) -> None:
    async with opened(pair, primary_last=primary_last) as database:
        await add(database)
        pair.primary.kill()

        await pair.promote()
        await until_done(database)

        async with database.connection() as connection:
            assert await connection.fetchval("SHOW port") == str(pair.primary.port)


async def test_a_silent_primary_is_given_up_and_not_gone_back_to_when_it_speaks_again(pair: Pair) -> None:
    url = pair.url()
    async with opened(pair) as database, opened(pair) as idle:
        pair.primary.freeze()
        await pair.promote()
        await until_done(database)
        pair.standby.thaw()  # which was the primary, and says that it still is

        for pool in (database, idle):
            async with pool.connection() as connection:
                assert await connection.fetchval("SHOW port") == str(pair.primary.port)
        fresh = await Servers(url).connect()
        assert await fresh.fetchval("SHOW port") == str(pair.primary.port)
        fresh.terminate()
        pair.primary.freeze()
        await database.forget_connections()
        try:
            with pytest.raises(UnavailableError, match="is an old primary: it is on timeline"):
                await add(database)
        finally:
            pair.primary.thaw()


def test_an_old_primary_is_an_error_of_the_infrastructure() -> None:
    assert issubclass(OldPrimaryError, asyncpg.InternalClientError)


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://u:p@h/d", ("postgresql://u:p@h/d",)),
        (
            "postgresql://u:p,q@h:1,[::1]:2/d",
            (
                "postgresql://u:p,q@h:1/d?target_session_attrs=primary",
                "postgresql://u:p,q@[::1]:2/d?target_session_attrs=primary",
            ),
        ),
        (
            "postgresql://h,g/d?target_session_attrs=read-write",
            (
                "postgresql://h/d?target_session_attrs=read-write",
                "postgresql://g/d?target_session_attrs=read-write",
            ),
        ),
        (
            "postgresql://h,g/d?target_session_attrs=prefer-standby",
            ("postgresql://h,g/d?target_session_attrs=prefer-standby",),
        ),
    ],
)
def test_each_server_has_an_address_of_its_own_where_the_primary_is_wanted(
    dsn: str, found: tuple[str, ...]
) -> None:
    assert split(dsn) == found
