"""While the database is away nothing has an ending: the batch waits, and is applied when it is back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.faults.proxy import Proxy
from tests.rules.core.world import open_account, recharge, result
from tests.servers import Servers
from tests.worker import tables
from tests.worker.rig import Acknowledged, Rig, open_rig
from wallet_worker.store import save
from wallet_worker.store import waiting as waiting_module
from wallet_worker.store.errors import ConflictError, UnavailableError
from wallet_worker.worker.bounds import BOUNDS

ARRIVED = (
    open_account("upstream"),
    recharge("upstream"),
    result("gateway"),
    recharge(amount=1),
)
DEAD = [(recharge(amount=1).body, "MALFORMED")]


class Waiting:
    """Has batches wait for a signal instead of for some time: `begun` is set when one waits."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()

    def __call__(self) -> "Waiting":
        return self

    async def wait(self, stopping: asyncio.Event) -> None:
        """Wait until the test has mended what is broken, or wants the worker to stop."""
        self.begun.set()
        tasks = [asyncio.create_task(item.wait()) for item in (self.over, stopping)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        self.over.clear()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    """Give the signals by which a batch that waits and the test know of each other."""
    found = Waiting()
    monkeypatch.setattr(waiting_module, "Backoff", found)
    return found


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    """Give the network between the worker and the database."""
    async with Proxy(database_url) as found:
        yield found


@pytest.fixture
async def far(proxy: Proxy) -> AsyncIterator[Rig]:
    """Give a worker whose database is behind the proxy."""
    async with open_rig(proxy.url) as found:
        yield found


@pytest.fixture
async def applying(far: Rig) -> AsyncIterator["Applying"]:
    """Give a worker that has just been handed a batch."""
    found = Applying(far)
    yield found
    found.stopping.set()
    await found.task


class Applying:
    """A worker with one batch in hand, which ends when the batch has its endings or the worker is stopped."""

    def __init__(self, wallet: Rig) -> None:
        self.wallet = wallet
        self.channel = Acknowledged()
        self.stopping = asyncio.Event()
        self.task: asyncio.Task[None] = asyncio.create_task(asyncio.sleep(0))

    async def until_it_waits(self, waiting: "Waiting") -> None:
        """Hand over the batch, and return when it waits; fail if it ends."""
        self.task = asyncio.create_task(
            self.wallet.run(*ARRIVED, channel=self.channel, stopping=self.stopping), name="batches"
        )
        begun = asyncio.create_task(waiting.begun.wait())
        await asyncio.wait({self.task, begun}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert begun.done(), self.task

    async def end(self) -> None:
        """Wait until the batch has been acknowledged, or the worker has stopped."""
        async with asyncio.timeout(30):
            await self.task


async def _nothing_is_known(owner: asyncpg.Connection) -> None:
    found = await tables.snapshot(owner)
    assert {name: rows for name, rows in found.items() if rows and name != "accounts"} == {}


async def _everything_is_applied(applying: Applying, owner: asyncpg.Connection) -> None:
    assert applying.channel.tags == [len(ARRIVED)]
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 10_000
    assert await owner.fetchval("SELECT count(*) FROM entries") == 2
    assert [(body, reason) for body, reason, _ in await tables.dead_letters(owner)] == DEAD
    assert applying.wallet.health.reasons == {}


async def _breaks_and_is_mended(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, mend: Callable[[], Awaitable[Any]]
) -> None:
    """Hand over a batch while something is broken, see that it waits, mend it, and see that it is applied."""
    await applying.until_it_waits(waiting)

    assert applying.channel.tags == []
    assert set(applying.wallet.health.reasons) == {"database"}
    await _nothing_is_known(owner)

    await mend()
    waiting.over.set()
    await applying.end()

    await _everything_is_applied(applying, owner)


async def test_a_batch_waits_for_a_database_that_is_gone(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, proxy: Proxy
) -> None:
    proxy.refuse()

    async def mend() -> None:
        proxy.heal()

    await _breaks_and_is_mended(applying, owner, waiting, mend)


async def test_a_batch_waits_for_a_database_that_takes_no_connections(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, database_url: str, servers: Servers
) -> None:
    name = urlsplit(database_url).path.removeprefix("/")
    elsewhere = await asyncpg.connect(servers.database_url)
    await elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await _end_connections(owner)

    async def mend() -> None:
        await elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    try:
        await _breaks_and_is_mended(applying, owner, waiting, mend)
    finally:
        await elsewhere.close()


async def test_a_batch_waits_while_it_is_still_connected_to_the_old_primary(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, database_url: str
) -> None:
    name = urlsplit(database_url).path.removeprefix("/")
    await owner.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await _end_connections(owner)

    async def mend() -> None:
        await owner.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')

    await _breaks_and_is_mended(applying, owner, waiting, mend)


async def _end_connections(owner: asyncpg.Connection) -> None:
    """End all connections to the database but this one."""
    await owner.execute(
        """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """
    )


async def test_a_batch_waits_when_its_connection_is_ended_under_it(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = save.changes

    async def save_without_a_connection(*arguments: Any) -> None:
        await _end_connections(owner)
        await write(*arguments)

    monkeypatch.setattr(save, "changes", save_without_a_connection)

    async def mend() -> None:
        monkeypatch.setattr(save, "changes", write)

    await _breaks_and_is_mended(applying, owner, waiting, mend)


@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_connection_lost_during_commit_decides_nothing(
    applying: Applying,
    owner: asyncpg.Connection,
    waiting: Waiting,
    proxy: Proxy,
    is_committed: bool,  # noqa: FBT001
) -> None:
    proxy.cut_at, proxy.cut_before_it_arrives = b"COMMIT", not is_committed

    await applying.until_it_waits(waiting)
    assert applying.channel.tags == []
    assert await owner.fetchval("SELECT count(*) FROM commands") == (2 if is_committed else 0)
    proxy.heal()
    waiting.over.set()
    await applying.end()

    assert applying.channel.tags == [len(ARRIVED)]
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 10_000
    duplicates = [reply["duplicate"] for reply in await tables.replies(owner) if "duplicate" in reply]
    assert sorted(duplicates) == [False, False] + [True, True] * is_committed
    # Nobody can know that the malformed one stands there already: once more is allowed, never is not.
    assert {(body, reason) for body, reason, _ in await tables.dead_letters(owner)} == set(DEAD)


async def test_a_worker_that_stops_while_the_database_is_away_leaves_the_batch_to_others(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, proxy: Proxy
) -> None:
    proxy.refuse()
    await applying.until_it_waits(waiting)

    applying.stopping.set()
    await applying.end()

    assert applying.channel.tags == []
    await _nothing_is_known(owner)


async def test_a_batch_that_loses_every_race_waits_and_has_no_ending(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, lost = save.changes, 0

    async def lose(*_: Any) -> None:
        nonlocal lost
        lost += 1
        raise ConflictError("commands_pkey")

    monkeypatch.setattr(save, "changes", lose)

    async def mend() -> None:
        monkeypatch.setattr(save, "changes", write)

    await _breaks_and_is_mended(applying, owner, waiting, mend)
    # The batch, its half, and the one message of that.
    assert lost == 2 * BOUNDS.batch_races_max + BOUNDS.races_max == applying.wallet.races()


async def test_a_parked_result_waits_for_the_database_too(
    far: Rig, owner: asyncpg.Connection, waiting: Waiting, proxy: Proxy
) -> None:
    await far.settle(result())
    await far.settle(open_account(), recharge())
    proxy.refuse()
    stopping = asyncio.Event()

    sweeping = asyncio.create_task(far.sweeper.run(stopping), name="sweep")
    await waiting.begun.wait()
    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 1
    proxy.heal()
    waiting.over.set()
    stopping.set()
    await sweeping

    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 0
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 10_000
    assert await tables.dead_letters(owner) == []


async def test_setting_poison_aside_waits_for_the_database_too(
    applying: Applying, owner: asyncpg.Connection, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is begun again; what its other half has done already is repeated, and poison stays poison."""
    set_aside, away = applying.wallet.dead_lettering.set_aside, True
    await owner.execute("ALTER TABLE orders ADD CONSTRAINT none CHECK (false)")

    async def set_aside_later(*arguments: Any) -> Any:
        if away:
            raise UnavailableError("away")
        return await set_aside(*arguments)

    monkeypatch.setattr(applying.wallet.dead_lettering, "set_aside", set_aside_later)
    await applying.until_it_waits(waiting)
    assert applying.channel.tags == []
    assert await tables.dead_letters(owner) == []
    away = False
    waiting.over.set()
    await applying.end()

    assert applying.channel.tags == [len(ARRIVED)]
    assert {(body, reason) for body, reason, _ in await tables.dead_letters(owner)} == {
        (ARRIVED[1].body, "INTERNAL"),
        *DEAD,
    }
