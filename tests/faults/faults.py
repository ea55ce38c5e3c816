"""The faults, each as what it does to a world. When one returns, its cause is over, and the recovery begins."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import asyncpg

from tests.faults.fleet import Slot
from tests.faults.operating import memory_alarm
from tests.faults.proxy import Proxy, Way
from tests.faults.world import DATABASE_LOST, World
from wallet_worker.failpoints import Failpoint

PAST_THE_HEARTBEAT: Final = 40.0
"""A peer that says nothing is given up after three heartbeats of 10 s, and a little."""


OF_A_BATCH: Final = (
    Failpoint.BEFORE_COMMIT,
    Failpoint.AFTER_COMMIT,
    Failpoint.AFTER_ACKNOWLEDGE,
    Failpoint.AFTER_PUBLISH,
)
"""Where a worker can die; the other places are the keeper's."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it may become: the longest that a fault lasts."""

    longest_seconds: float = 8.0
    draw: random.Random = random.Random(0)  # noqa: RUF009 -- replaced in every run that has a seed

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


Fault: TypeAlias = Callable[[World, Weather], Awaitable[None]]


async def worker_killed(world: World, weather: Weather) -> None:
    """SIGKILL one worker."""
    await world.fleet.kill(weather.slot(world))


async def all_workers_killed(world: World, _: Weather) -> None:
    """SIGKILL all workers at once."""
    await asyncio.gather(*(world.fleet.kill(slot) for slot in world.fleet.slots))


async def worker_dies_at_failpoint(world: World, weather: Weather) -> None:
    """Have a worker kill itself in a named place."""
    place = weather.draw.choice(OF_A_BATCH)
    await world.fleet.dies_at(weather.slot(world), f"{place}:{weather.draw.randint(1, 10)}", 15)


async def worker_frozen(world: World, weather: Weather) -> None:
    """SIGSTOP one worker, then SIGCONT."""
    worker = weather.slot(world).worker
    if worker is None or worker.process.returncode is not None:
        return
    worker.freeze()
    await asyncio.sleep(weather.seconds())
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
    proxy = weather.server(world)
    proxy.black_hole(weather.way())
    await asyncio.sleep(weather.seconds())
    proxy.heal()


async def network_slow(world: World, weather: Weather) -> None:
    """Delay every packet to and from one of the servers."""
    proxy = weather.server(world)
    proxy.slow_down(weather.draw.uniform(0.02, 0.2))
    await asyncio.sleep(weather.seconds())
    proxy.heal()


async def network_refused(world: World, weather: Weather) -> None:
    """Have one of the servers unreachable."""
    proxy = weather.server(world)
    proxy.refuse()
    await asyncio.sleep(weather.seconds())
    proxy.heal()


async def connection_lost_in_commit(world: World, weather: Weather) -> None:
    """Cut the connection that says COMMIT: the database heard it, or not."""
    proxy = world.database
    proxy.cut.clear()
    proxy.cut_before_it_arrives = weather.draw.random() < 0.5
    proxy.cut_at = b"COMMIT;"
    with suppress(TimeoutError):
        await asyncio.wait_for(proxy.cut.wait(), 5)
    proxy.heal()


async def broker_killed(world: World, weather: Weather) -> None:
    """SIGKILL the broker, and start it again."""
    world.fleet.kills += 1
    await asyncio.to_thread(world.servers.broker.kill)
    await asyncio.sleep(weather.draw.uniform(0, 2))
    await asyncio.to_thread(world.servers.broker.start)


async def broker_restarted(world: World, _: Weather) -> None:
    """Restart the broker in order."""
    world.fleet.stops += 1
    await asyncio.to_thread(world.servers.broker.stop)
    await asyncio.to_thread(world.servers.broker.start)


async def broker_frozen(world: World, weather: Weather) -> None:
    """SIGSTOP the broker, then SIGCONT."""
    await asyncio.to_thread(world.servers.broker.freeze)
    await asyncio.sleep(weather.seconds())
    await asyncio.to_thread(world.servers.broker.thaw)


async def broker_alarmed(world: World, weather: Weather) -> None:
    """Raise the broker's memory alarm for a while."""
    async with memory_alarm(world.servers):
        await asyncio.sleep(weather.seconds())


async def database_killed(world: World, weather: Weather) -> None:
    """SIGKILL the database server, and start it again."""
    world.fleet.kills += 1
    await asyncio.to_thread(world.servers.database_server.kill)
    await asyncio.sleep(weather.draw.uniform(0, 2))
    await asyncio.to_thread(world.servers.database_server.start)


async def database_restarted(world: World, _: Weather) -> None:
    """Restart the database server in order."""
    world.fleet.stops += 1
    await asyncio.to_thread(world.servers.database_server.stop)
    await asyncio.to_thread(world.servers.database_server.start)


async def database_frozen(world: World, weather: Weather) -> None:
    """SIGSTOP the database server, then SIGCONT."""
    await asyncio.to_thread(world.servers.database_server.freeze)
    await asyncio.sleep(weather.seconds())
    await asyncio.to_thread(world.servers.database_server.thaw)


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
    with suppress(*DATABASE_LOST):
        async with _session(world) as session, session.transaction():
            await session.execute("SET LOCAL lock_timeout = '10s'")
            await session.execute("SELECT 1 FROM accounts ORDER BY account_id LIMIT 60 FOR UPDATE")
            await asyncio.sleep(weather.seconds())


async def gateway_away(world: World, weather: Weather) -> None:
    """Have no gateway for a while."""
    world.requests_heard.deaf.set()
    await asyncio.sleep(weather.seconds())
    world.requests_heard.deaf.clear()


@asynccontextmanager
async def _session(world: World) -> AsyncIterator[asyncpg.Connection]:
    """Give a session with the database itself, past the proxy."""
    session = await asyncpg.connect(world.database_url, timeout=5)
    try:
        yield session
    finally:
        session.terminate()


WEIGHTS: Final[Mapping[Fault, int]] = MappingProxyType(
    {
        worker_killed: 14,
        all_workers_killed: 8,
        worker_dies_at_failpoint: 14,
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
        broker_alarmed: 3,
        database_killed: 5,
        database_restarted: 2,
        database_frozen: 4,
        sessions_terminated: 4,
        rows_locked: 4,
        gateway_away: 2,
    }
)
"""All faults, and how often each comes."""

ALONE: Final = (
    frozenset({broker_killed, broker_restarted, broker_frozen, broker_alarmed}),
    frozenset({database_killed, database_restarted, database_frozen}),
    frozenset({worker_frozen, worker_replaced}),
)
"""Of each of these sets, one at a time: what is frozen can't be stopped in order."""
