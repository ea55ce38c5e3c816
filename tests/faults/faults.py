"""The faults, each as what it does to a world. When one returns, its cause is over, and the recovery begins.

That is so too when it is cut off in the middle: whatever was done is undone before the cancellation goes on.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import asyncpg

from tests.faults.fleet import Slot
from tests.faults.operating import disk_alarm, memory_alarm, to_its_end
from tests.faults.proxy import Proxy, Way
from tests.faults.world import DATABASE_LOST, World
from tests.journeys.upstream import DEAD_LETTERS, QUERIES
from tests.servers import Server
from tests.workers import KEYS
from wallet_schemas.names import WALLET_COMMANDS
from wallet_worker.broker import topology
from wallet_worker.broker.entities import BINDING_KEY
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import BusyError, NotPossibleError, StaleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.failpoints import Failpoint
from wallet_worker.settings.operators import ApprovalLimits, Role
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE
from wallet_worker.store.errors import StoreError

PAST_THE_HEARTBEAT: Final = 40.0
"""A peer that says nothing is given up after three heartbeats of 10 s, and a little."""

UNNOTICED_SECONDS: Final = 8.0
"""So long a topology may be wrong: a worker ends itself after 30 s, and what finds no way waits longer each time."""

DEATH_SECONDS: Final = 15.0
"""So long a worker has time to come to the place where it is to die."""

REPLAYED: Final = 20
"""Letters that are replayed at once: two in a second, so that a worker that has just started comes in time."""

OPERATOR: Final = Actor("storm", Role.OPERATOR, "tests")


OF_A_BATCH: Final = (
    Failpoint.BEFORE_COMMIT,
    Failpoint.AFTER_COMMIT,
    Failpoint.AFTER_ACKNOWLEDGE,
    Failpoint.AFTER_PUBLISH,
)
"""Where a worker can die; the other places are the keeper's."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it may become: the longest that a fault lasts. `draw` is one fault's own, and nobody else's."""

    longest_seconds: float = 8.0
    draw: random.Random = field(default_factory=lambda: random.Random(0))

    def seconds(self, least: float = 0.5) -> float:
        """Return how long a fault lasts: mostly short, sometimes past every time limit."""
        if self.longest_seconds >= PAST_THE_HEARTBEAT and self.draw.random() < 0.08:
            return PAST_THE_HEARTBEAT
        return self.draw.uniform(least, min(self.longest_seconds, 8.0))

    def slot(self, world: World) -> Slot:
        """Return one of the workers' places."""
        return self.draw.choice(world.fleet.slots)

    def way(self) -> Way:
        """Return a direction."""
        return self.draw.choice((Way.BOTH, Way.TO_SERVER, Way.TO_CLIENT))

    def server(self, world: World) -> Proxy:
        """Return one of the networks."""
        return self.draw.choice((world.broker, world.database))


Fault: TypeAlias = Callable[[World, Weather], Coroutine[Any, Any, None]]


async def worker_killed(world: World, weather: Weather) -> None:
    """SIGKILL one worker."""
    await world.fleet.kill(weather.slot(world))


async def all_workers_killed(world: World, _: Weather) -> None:
    """SIGKILL all workers at once."""
    await asyncio.gather(*(world.fleet.kill(slot) for slot in world.fleet.slots))


async def worker_dies_at_failpoint(world: World, weather: Weather) -> None:
    """Have a worker kill itself in a named place, of a batch's life or of a dead letter's."""
    slot, place = weather.slot(world), weather.draw.choice(tuple(Failpoint))
    times = weather.draw.randint(1, 10)
    if place is Failpoint.AFTER_REPLAY:
        times = 1  # another worker's keeper may publish the rest
        await _replay(world)
    await world.fleet.dies_at(slot, f"{place}:{times}", DEATH_SECONDS)


async def worker_frozen(world: World, weather: Weather) -> None:
    """SIGSTOP one worker, then SIGCONT."""
    worker, seconds = weather.slot(world).worker, weather.seconds()
    if worker is None or worker.process.returncode is not None:
        return
    try:
        with suppress(ProcessLookupError):  # a fault beside this one may have killed it
            worker.freeze()
        await asyncio.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            worker.thaw()


async def worker_replaced(world: World, weather: Weather) -> None:
    """SIGTERM one worker: a rolling restart. It must end well."""
    await world.fleet.replace(weather.slot(world))


async def network_reset(world: World, weather: Weather) -> None:
    """Reset every connection to one of the servers, several times."""
    proxy = weather.server(world)
    for _ in range(weather.draw.randint(1, 4)):
        proxy.reset()
        await asyncio.sleep(weather.draw.uniform(0, 1))


async def network_black_hole(world: World, weather: Weather) -> None:
    """Lose every packet to one of the servers, or from it, or both; the connections stay."""
    with _spoilt(weather.server(world)) as proxy:
        proxy.black_hole(weather.way())
        await asyncio.sleep(weather.seconds())


async def network_slow(world: World, weather: Weather) -> None:
    """Delay every packet to and from one of the servers."""
    with _spoilt(weather.server(world)) as proxy:
        proxy.slow_down(weather.draw.uniform(0.02, 0.2))
        await asyncio.sleep(weather.seconds())


async def network_refused(world: World, weather: Weather) -> None:
    """Have one of the servers unreachable."""
    with _spoilt(weather.server(world)) as proxy:
        proxy.refuse()
        await asyncio.sleep(weather.seconds())


async def connection_lost_in_commit(world: World, weather: Weather) -> None:
    """Cut the connection that says COMMIT: the database heard it, or not."""
    with _spoilt(world.database) as proxy:
        proxy.cut.clear()
        proxy.cut_before_it_arrives = weather.draw.random() < 0.5
        proxy.cut_at = b"COMMIT;"
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await proxy.cut.wait()


async def broker_killed(world: World, weather: Weather) -> None:
    """SIGKILL the broker, and start it again."""
    await _killed(world, world.servers.broker, weather)


async def broker_restarted(world: World, _: Weather) -> None:
    """Restart the broker in order."""
    await _restarted(world, world.servers.broker)


async def broker_frozen(world: World, weather: Weather) -> None:
    """SIGSTOP the broker, then SIGCONT."""
    await _frozen(world.servers.broker, weather)


async def broker_out_of_memory(world: World, weather: Weather) -> None:
    """Raise the broker's memory alarm for a while."""
    async with memory_alarm(world.servers):
        await asyncio.sleep(weather.seconds())


async def broker_out_of_disk(world: World, weather: Weather) -> None:
    """Raise the broker's disk alarm for a while."""
    async with disk_alarm(world.servers):
        await asyncio.sleep(weather.seconds())


async def dead_letters_unbound(world: World, weather: Weather) -> None:
    """Take away the binding that leads dead letters to their queue, then apply the topology again."""
    seconds = weather.draw.uniform(0.5, UNNOTICED_SECONDS)
    async with _topology_spoilt(world):
        async with world.channel() as channel:
            await channel.queue_unbind(DEAD_LETTERS, DEAD_LETTERS, BINDING_KEY, timeout=10)
        await asyncio.sleep(seconds)


async def queue_deleted(world: World, weather: Weather) -> None:
    """Delete a queue under its consumers, then apply the topology again.

    It is the queries': what is in a deleted queue is lost with it, and of queries nothing was promised.
    """
    seconds = weather.draw.uniform(0.5, UNNOTICED_SECONDS)
    async with _topology_spoilt(world):
        async with world.channel() as channel:
            await channel.queue_delete(QUERIES, timeout=10)
        await asyncio.sleep(seconds)


async def database_killed(world: World, weather: Weather) -> None:
    """SIGKILL the database server, and start it again."""
    await _killed(world, world.servers.database_server, weather)


async def database_restarted(world: World, _: Weather) -> None:
    """Restart the database server in order."""
    await _restarted(world, world.servers.database_server)


async def database_frozen(world: World, weather: Weather) -> None:
    """SIGSTOP the database server, then SIGCONT."""
    await _frozen(world.servers.database_server, weather)


async def sessions_terminated(world: World, _: Weather) -> None:
    """Have the database end every session of the wallet's, as an operator or a failover does."""
    with suppress(*DATABASE_LOST):  # a fault beside this one may have taken the server
        async with _session(world) as session:
            await session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


async def rows_locked(world: World, weather: Weather) -> None:
    """Hold locks that the workers need, past their time limit."""
    seconds = weather.seconds()
    with suppress(*DATABASE_LOST):
        async with _session(world) as session, session.transaction():
            await session.execute("SET LOCAL lock_timeout = '10s'")
            await session.execute("SELECT 1 FROM accounts ORDER BY account_id LIMIT 60 FOR UPDATE")
            await asyncio.sleep(seconds)


async def table_locked(world: World, weather: Weather) -> None:
    """Hold one table, whichever, so that nobody can read it: as a migration of somebody's does, or a dump."""
    seconds = weather.seconds()
    with suppress(*DATABASE_LOST):
        async with _session(world) as session, session.transaction():
            tables = await session.fetch(_TABLES)
            await session.execute(f'LOCK TABLE "{weather.draw.choice(tables)[0]}" IN ACCESS EXCLUSIVE MODE')
            await asyncio.sleep(seconds)


async def column_added(world: World, weather: Weather) -> None:
    """Add a column to one table, whichever, and sometimes take it away again: every plan becomes invalid."""
    name = f"added_{weather.draw.getrandbits(32):08x}"
    kind = weather.draw.choice(("text", "integer NOT NULL DEFAULT 7", "timestamptz DEFAULT now()"))
    with suppress(*DATABASE_LOST):
        async with _session(world) as session:
            table = weather.draw.choice(await session.fetch(_TABLES))[0]
            await session.execute(f'ALTER TABLE "{table}" ADD COLUMN {name} {kind}')
            await asyncio.sleep(weather.draw.uniform(0, 2))
            if weather.draw.random() < 0.5:
                await session.execute(f'ALTER TABLE "{table}" DROP COLUMN {name}')


async def backends_terminated(world: World, weather: Weather) -> None:
    """End one session after the other, in whatever it is doing."""
    with suppress(*DATABASE_LOST):
        async with _session(world) as session:
            for _ in range(weather.draw.randint(3, 12)):
                await session.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
                )
                await asyncio.sleep(weather.draw.uniform(0, 0.5))


DEFAULTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "default_transaction_isolation": ("serializable", "repeatable read"),
        "default_transaction_read_only": ("on",),
        "synchronous_commit": ("off", "remote_apply"),
        "statement_timeout": ("1ms",),
        "lock_timeout": ("1ms",),
        "idle_in_transaction_session_timeout": ("1ms",),
        "idle_session_timeout": ("1ms",),
        "search_path": ("nowhere", "pg_catalog"),
        "TimeZone": ("Asia/Taipei", "America/St_Johns"),
        "DateStyle": ("SQL, DMY",),
        "IntervalStyle": ("iso_8601",),
        "bytea_output": ("escape",),
        "row_security": ("off", "on"),
        "session_replication_role": ("origin",),
        "transform_null_equals": ("on",),
    }
)
"""What somebody may set for a database, and to what. Other than `session_replication_role`, none of it may matter for
long: what the wallet does not set itself, it waits for."""


async def defaults_changed(world: World, weather: Weather) -> None:
    """Change a default of the database, end every session so that it holds, and reset it."""
    name = weather.draw.choice(tuple(DEFAULTS))
    value, seconds = weather.draw.choice(DEFAULTS[name]), weather.seconds()
    database = f'"{urlsplit(world.database_url).path.removeprefix("/")}"'
    with suppress(*DATABASE_LOST):
        try:
            async with _session(world) as session:
                await session.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")
            await sessions_terminated(world, weather)
            await asyncio.sleep(seconds)
        finally:
            await _done_in_the_end(world, f"ALTER DATABASE {database} RESET {name}")
            await sessions_terminated(world, weather)


async def gateway_away(world: World, weather: Weather) -> None:
    """Have no gateway for a while."""
    try:
        world.requests_heard.deaf.set()
        await asyncio.sleep(weather.seconds())
    finally:
        world.requests_heard.deaf.clear()


# What several faults have in common


@contextmanager
def _spoilt(proxy: Proxy) -> Iterator[Proxy]:
    """Give a proxy that is healed in the end."""
    try:
        yield proxy
    finally:
        proxy.heal()


async def _killed(world: World, server: Server, weather: Weather) -> None:
    world.fleet.kills += 1
    try:
        await to_its_end(server.kill)
        await asyncio.sleep(weather.draw.uniform(0, 2))
    finally:
        await to_its_end(server.start)


async def _restarted(world: World, server: Server) -> None:
    world.fleet.stops += 1
    try:
        await to_its_end(server.stop)
    finally:
        await to_its_end(server.start)


async def _frozen(server: Server, weather: Weather) -> None:
    try:
        await to_its_end(server.freeze)
        await asyncio.sleep(weather.seconds())
    finally:
        await to_its_end(server.thaw)


@asynccontextmanager
async def _topology_spoilt(world: World) -> AsyncIterator[None]:
    """Leave the broker with everything that the wallet needs in the end."""
    try:
        yield
    finally:
        await topology.apply(world.amqp_url)


_OWN_SETTINGS: Final = MappingProxyType(
    {
        "default_transaction_read_only": "off",
        "default_transaction_isolation": "read committed",
        "statement_timeout": "0",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "0",
        "idle_session_timeout": "0",
        "search_path": "wallet",
    }
)
"""Of the storm's own sessions, whatever a default is just now."""


@asynccontextmanager
async def _session(world: World) -> AsyncIterator[asyncpg.Connection]:
    """Give a session with the database itself, past the proxy."""
    session = await asyncpg.connect(world.database_url, timeout=5, server_settings=dict(_OWN_SETTINGS))
    try:
        yield session
    finally:
        session.terminate()


_TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'wallet' ORDER BY tablename"


async def _done_in_the_end(world: World, statement: str) -> None:
    """Execute a statement, again and again while a fault beside this one is in the way."""
    while True:
        try:
            async with _session(world) as session:
                await session.execute(statement)
        except DATABASE_LOST:
            await asyncio.sleep(0.2)
        else:
            return


_NEWEST_LETTERS: Final = """
SELECT letter_id
FROM dead_letters
WHERE state = 'waiting' AND source = $1
ORDER BY letter_id DESC
LIMIT $2
"""


async def _replay(world: World) -> None:
    """Order what an operator may order: the replay of some commands that nobody can read, which all come back."""
    database = Database(world.database_url, role=OPERATOR_ROLE, application="wallet storm")
    operations = DeadLetterDesk(
        database, Policy(), KEYS, ApprovalLimits(single_person_max=1_000_000, replays_max=1_000_000)
    )
    pace = ReplayPace(rate_per_second=2, stop_ratio=1)
    # A fault beside this one may be in the way, or a replay that is not over.
    with suppress(StoreError, BusyError, NotPossibleError, StaleError, *DATABASE_LOST):
        try:
            await database.open()
            async with database.connection() as connection:
                rows = await connection.fetch(_NEWEST_LETTERS, WALLET_COMMANDS, REPLAYED)
            which = Filter(ids=tuple(row["letter_id"] for row in rows))
            if which.ids:
                plan = await operations.plan(OPERATOR, Action.REPLAY, which, reason="a storm", pace=pace)
                await operations.execute(OPERATOR, plan.token)
        finally:
            await database.close()


WEIGHTS: Final[Mapping[Fault, int]] = MappingProxyType(
    {
        worker_killed: 14,
        all_workers_killed: 8,
        worker_dies_at_failpoint: 18,
        worker_frozen: 6,
        worker_replaced: 8,
        network_reset: 8,
        network_black_hole: 8,
        network_slow: 4,
        network_refused: 4,
        connection_lost_in_commit: 6,
        broker_killed: 5,
        broker_restarted: 2,
        broker_frozen: 4,
        broker_out_of_memory: 3,
        broker_out_of_disk: 3,
        dead_letters_unbound: 4,
        queue_deleted: 3,
        database_killed: 5,
        database_restarted: 2,
        database_frozen: 4,
        sessions_terminated: 4,
        rows_locked: 4,
        table_locked: 5,
        column_added: 6,
        backends_terminated: 5,
        defaults_changed: 6,
        gateway_away: 2,
    }
)
"""All faults, and how often each comes."""

OF_THE_TOPOLOGY: Final = frozenset({dead_letters_unbound, queue_deleted})
OF_WORKERS: Final = frozenset(
    {worker_killed, all_workers_killed, worker_dies_at_failpoint, worker_frozen, worker_replaced}
)

ALONE: Final = (
    frozenset({broker_killed, broker_restarted, broker_frozen, broker_out_of_memory, broker_out_of_disk})
    | OF_THE_TOPOLOGY,
    frozenset({database_killed, database_restarted, database_frozen}),
    frozenset({network_black_hole, network_slow, network_refused, connection_lost_in_commit}),
    frozenset({worker_frozen, worker_replaced}),
    frozenset({table_locked, column_added, rows_locked}),
    *(frozenset(pair) for pair in product(OF_THE_TOPOLOGY, OF_WORKERS)),
)
"""Of each of these sets, one at a time.

What is frozen can't be stopped in order, a worker that starts while something is missing ends, and rightly so, and of
two faults of one network the first to end would end both.
"""
