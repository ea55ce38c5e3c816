"""A database of letters without a broker, and a whole wallet with a keeper in its worker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import pytest
from pydantic import TypeAdapter

from tests.dead_letters.letters import arrived, headers, properties, sealed_by_worker
from tests.dead_letters.people import agreed
from tests.journeys.messages import Json, recharge
from tests.journeys.upstream import Upstream
from tests.servers import Servers
from tests.servers.management import Management
from tests.workers import KEYS, WorkerProcess, Workers, until
from wallet_worker.broker import topology
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.intake.record import TakenIn, take_in
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action, PlanState
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.dead_letters.replay.authority import Authority
from wallet_worker.dead_letters.replay.lineage import Lineage
from wallet_worker.dead_letters.replay.predict import Predictor
from wallet_worker.settings.channels import ChannelSettings
from wallet_worker.settings.operators import ApprovalLimits, Role
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters.arrivals import Arrival
from wallet_worker.store.dead_letters.letters import KEEPER_ROLE, OPERATOR_ROLE

VERA = Actor("vera", Role.VIEWER, "tests")
OTTO = Actor("otto", Role.OPERATOR, "tests")
OLGA = Actor("olga", Role.OPERATOR, "tests")
ANNA = Actor("anna", Role.APPROVER, "tests")
LINEAGE = Lineage(Predictor(Policy(), KEYS))
AUTHORITY = Authority(ApprovalLimits(single_person_max=10_000), "default")
NOWHERE = "amqp://nobody@127.0.0.1:1/"


@dataclass
class Desk:
    """What operators sit at, under the role that they have; and the database as a keeper has it."""

    database: Database
    operating: Database
    operations: DeadLetterDesk
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
async def a_desk(database_url: str, limits: ApprovalLimits | None = None) -> AsyncIterator[Desk]:
    """Give a desk on a migrated database."""
    database = Database(database_url, role=KEEPER_ROLE, application="wallet tests: keeper")
    operating = Database(database_url, role=OPERATOR_ROLE, application="wallet tests")
    await database.open()
    await operating.open()
    owner = await asyncpg.connect(database_url)
    try:
        yield Desk(database, operating, DeadLetterDesk(operating, Policy(), KEYS, limits), owner)
    finally:
        await owner.close()
        await operating.close()
        await database.close()


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    """Give a desk on a database of the test's own."""
    async with a_desk(database_url) as desk:
        yield desk


async def one_letter(desk: Desk, content: Arrival | Json | bytes | None = None) -> int:
    """Take in one letter, a recharge if nothing else is given; return its number."""
    letter = (
        content
        if isinstance(content, Arrival)
        else arrived(recharge("user-1") if content is None else content)
    )
    before = set(await desk.ids())
    await desk.take_in(letter)
    (letter_id,) = set(await desk.ids()) - before
    return letter_id


class _Upstream(Upstream):
    """An upstream that leaves the dead letters, and what has no route, to the keeper. There is no gateway."""

    def __init__(self, amqp_url: str) -> None:
        super().__init__(amqp_url, keeper=False, gateway=False)
        self._boxes.remove(self.unrouted)


@dataclass
class Wallet(Desk):
    """A desk with everything around it: broker, workers, and their surroundings."""

    servers: Servers = field(kw_only=True)
    workers: Workers = field(kw_only=True)
    upstream: Upstream = field(kw_only=True)
    management: Management = field(kw_only=True)

    async def start(self, **settings: str) -> WorkerProcess:
        """Start a worker that keeps dead letters, and return it ready; the desk knows the same channels."""
        if "WALLET_CHANNELS" in settings:
            channels = TypeAdapter(dict[str, ChannelSettings]).validate_json(settings["WALLET_CHANNELS"])
            rules = Policy(channels={name: channel.channel for name, channel in channels.items()})
            self.operations = DeadLetterDesk(self.operating, rules, KEYS)
        return await self.workers.start(WALLET_KEEPER="true", **settings)

    async def set_aside(self, *contents: Json | bytes, **fields: str) -> list[int]:
        """Have messages at the dead letters as if a worker had failed on them; return the letters, taken in."""
        before = set(await self.ids())
        for content in contents:
            await self.upstream.publish(
                "wallet.dead-letters",
                content,
                routing_key="order.recharge",
                properties=sealed_by_worker(content, properties(headers(**fields))),
            )
        await self.until_letters(len(before) + len(contents))
        return sorted(set(await self.ids()) - before)

    async def until_letters(self, count: int) -> None:
        """Wait until there are so many letters."""
        await until(self.owner, "SELECT count(*) FROM dead_letters", count)

    async def until_state(self, letter_id: int, state: str) -> None:
        """Wait until a letter stands there."""
        await until(self.owner, "SELECT state FROM dead_letters WHERE letter_id = $1", state, letter_id)

    async def until_letter(self, serial_no: str) -> int:
        """Return the newest letter about a number, once it is taken in."""
        query = "SELECT coalesce(max(letter_id), 0) > 0 FROM dead_letters WHERE serial_no = $1"
        await until(self.owner, query, True, serial_no)  # noqa: FBT003 -- what the query says
        return int(
            await self.owner.fetchval(
                "SELECT max(letter_id) FROM dead_letters WHERE serial_no = $1", serial_no
            )
        )

    async def until_operation(self, operation_id: UUID, state: str, *, seconds: float = 60.0) -> None:
        """Wait until an operation stands there, and has ended."""
        query = "SELECT state FROM dead_letter_operations WHERE operation_id = $1 AND ended_at IS NOT NULL"
        async with asyncio.timeout(seconds):
            while await self.owner.fetchval(query, operation_id) != state:  # noqa: ASYNC110 -- see tests.workers.until
                await asyncio.sleep(0.05)

    async def until_empty(self, queue: str) -> None:
        """Wait until nothing is ready in a queue."""
        channel = await self.upstream.new_channel()
        async with asyncio.timeout(60):
            while (await channel.queue_declare(queue, passive=True)).message_count:  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.05)
        await channel.close()

    async def start_keeper(self, *, ready: bool = True, **settings: str) -> WorkerProcess:
        """Start a keeper alone; it is ended with the workers."""
        program, self.workers.program = self.workers.program, ("-m", "wallet_worker", "keeper")
        try:
            return await (self.workers.start if ready else self.workers.launch)(**settings)
        finally:
            self.workers.program = program

    async def until_beat(self) -> None:
        """Wait until a keeper has said once more that it is at work: it has gone through everything meanwhile."""
        seen = await self.owner.fetchval("SELECT max(seen_at) FROM dead_letter_keepers")
        query = "SELECT max(seen_at) > coalesce($1, '-infinity'::timestamptz) FROM dead_letter_keepers"
        await until(self.owner, query, True, seen)  # noqa: FBT003 -- what the query says

    async def replayed(self, letter_ids: Sequence[int]) -> None:
        """Plan and execute the replay of letters; two people sign it where a letter is not sealed."""
        plan = await self.operations.plan(OTTO, Action.REPLAY, Filter(ids=tuple(letter_ids)), reason="a test")
        if plan.state is PlanState.NEEDS_SIGNATURE:
            await agreed(self.operations, self.owner, plan)
        await self.operations.execute(OTTO, plan.token)


@asynccontextmanager
async def a_wallet(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet of one's own, without a worker yet."""
    async with (
        servers.vhost() as amqp_url,
        servers.database(template=migrated_url) as database_url,
    ):
        await topology.apply(amqp_url)
        async with (
            Workers(amqp_url, database_url, servers.management_url) as workers,
            _Upstream(amqp_url) as upstream,
            a_desk(database_url) as desk,
        ):
            yield Wallet(
                desk.database,
                desk.operating,
                desk.operations,
                desk.owner,
                servers=servers,
                workers=workers,
                upstream=upstream,
                management=Management(servers.management_url),
            )


@pytest.fixture
async def wallet(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet of the test's own, without a worker yet."""
    async with a_wallet(servers, migrated_url) as wallet:
        yield wallet
