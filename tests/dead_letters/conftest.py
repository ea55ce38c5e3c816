"""A database of letters without a broker, and a whole wallet with a keeper in its worker."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest

from tests.dead_letters.letters import headers, properties
from tests.journeys.messages import Json
from tests.journeys.upstream import Upstream
from tests.servers import Servers
from tests.servers.management import Management
from tests.workers import KEYS, WorkerProcess, Workers, until
from wallet_worker.core.circumstances import Rules
from wallet_worker.dead_letters.operations import Operations
from wallet_worker.dead_letters.records import Action, Actor, Filter, Limits, Role
from wallet_worker.dead_letters.taking_in import TakenIn, take_in
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters import OPERATOR_ROLE, Arrival

VERA = Actor("vera", Role.VIEWER, "tests")
OTTO = Actor("otto", Role.OPERATOR, "tests")
ANNA = Actor("anna", Role.APPROVER, "tests")


@dataclass
class Desk:
    """What operators sit at: the operations, on one database, under the role that they have."""

    database: Database
    operations: Operations
    owner: asyncpg.Connection
    everything: Filter = field(default_factory=Filter)

    async def take_in(self, *arrivals: Arrival) -> TakenIn:
        """Take letters in as a keeper does."""
        async with self.database.transaction() as connection:
            now = await connection.fetchval("SELECT clock_timestamp()")
            return await take_in(connection, arrivals, now)

    async def ids(self, which: Filter | None = None) -> list[int]:
        """Return the letters that fit, oldest first."""
        page = await self.operations.letters(OTTO, which or self.everything, limit=500)
        return sorted(line.letter_id for line in page.letters)

    async def state(self, letter_id: int) -> str:
        """Return where a letter stands."""
        return str(
            await self.owner.fetchval("SELECT state FROM dead_letters WHERE letter_id = $1", letter_id)
        )


@asynccontextmanager
async def a_desk(database_url: str, limits: Limits | None = None) -> AsyncIterator[Desk]:
    """Give a desk on a migrated database."""
    database = Database(database_url, role=OPERATOR_ROLE, application="wallet tests")
    await database.open()
    owner = await asyncpg.connect(database_url)
    try:
        yield Desk(database, Operations(database, Rules(), KEYS, limits), owner)
    finally:
        await owner.close()
        await database.close()


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    """Give a desk on a database of the test's own."""
    async with a_desk(database_url) as desk:
        yield desk


class _Upstream(Upstream):
    """An upstream that leaves the dead letters, and what has no route, to the keeper."""

    def __init__(self, amqp_url: str) -> None:
        super().__init__(amqp_url, keeper=False)
        self._boxes.remove(self.unrouted)


@dataclass
class Wallet(Desk):
    """A desk with everything around it: broker, workers, and their surroundings."""

    servers: Servers = field(kw_only=True)
    workers: Workers = field(kw_only=True)
    upstream: Upstream = field(kw_only=True)
    management: Management = field(kw_only=True)

    async def start(self, **settings: str) -> WorkerProcess:
        """Start a worker that keeps dead letters, and return it ready."""
        return await self.workers.start(WALLET_KEEPER="true", **settings)

    async def set_aside(self, *contents: Json | bytes, **said: str) -> list[int]:
        """Have messages at the dead letters as if a worker had failed on them; return the letters, taken in."""
        before = set(await self.ids())
        for content in contents:
            await self.upstream.publish(
                "wallet.dead-letters",
                content,
                routing_key="order.recharge",
                properties=properties(headers(**said)),
            )
        await self.until_letters(len(before) + len(contents))
        return sorted(set(await self.ids()) - before)

    async def until_letters(self, count: int) -> None:
        """Wait until there are so many letters."""
        await until(self.owner, "SELECT count(*) FROM dead_letters", count)

    async def until_state(self, letter_id: int, state: str) -> None:
        """Wait until a letter stands there."""
        await until(self.owner, "SELECT state FROM dead_letters WHERE letter_id = $1", state, letter_id)

    async def replayed(self, letter_ids: Sequence[int]) -> None:
        """Plan and execute the replay of letters."""
        plan = await self.operations.plan(OTTO, Action.REPLAY, Filter(ids=tuple(letter_ids)), reason="a test")
        await self.operations.execute(OTTO, plan.token)


@pytest.fixture
async def wallet(servers: Servers, amqp_url: str, database_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet of the test's own, whose workers keep dead letters; none is started yet."""
    async with (
        Workers(amqp_url, database_url, servers.management_url) as workers,
        _Upstream(amqp_url) as upstream,
        a_desk(database_url) as desk,
    ):
        yield Wallet(
            desk.database,
            desk.operations,
            desk.owner,
            servers=servers,
            workers=workers,
            upstream=upstream,
            management=Management(servers.management_url),
        )
