"""The faults of three brokers and two databases. When one returns, everything is whole again, as with those of one."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from tests.faults.faults import Fault, Weather, all_workers_killed, worker_dies_at_failpoint, worker_killed
from tests.faults.world import World
from tests.journeys.upstream import COMMANDS
from tests.servers.management import Management
from tests.servers.rabbitmq import Cluster, RabbitMQ
from tests.servers.several import SeveralServers


async def node_killed(world: World, weather: Weather) -> None:
    """SIGKILL a broker, and start it again."""
    node = _node(world, weather)
    await asyncio.to_thread(node.kill)
    await asyncio.sleep(weather.seconds())
    await asyncio.to_thread(node.start)


async def node_frozen(world: World, weather: Weather) -> None:
    """Freeze a broker, for longer than the others wait for it or not."""
    node = _node(world, weather)
    await asyncio.to_thread(node.freeze)
    await asyncio.sleep(weather.draw.uniform(1, 20))
    await asyncio.to_thread(node.thaw)


async def two_nodes_killed(world: World, weather: Weather) -> None:
    """SIGKILL two of three brokers, so that nothing can be done, and start them again."""
    nodes = weather.draw.sample(_cluster(world).nodes, 2)
    for node in nodes:
        await asyncio.to_thread(node.kill)
    await asyncio.sleep(weather.seconds())
    for node in nodes:
        await asyncio.to_thread(node.launch)
    for node in nodes:
        await asyncio.to_thread(node.wait_until_up)


async def primary_killed(world: World, weather: Weather) -> None:
    """SIGKILL the primary, promote its standby, and have the other follow it."""
    pair = _servers(world).pair
    await asyncio.to_thread(pair.primary.kill)
    await asyncio.sleep(weather.seconds())
    await pair.promote()
    await world.healed()
    await pair.rejoin()


async def primary_frozen(world: World, weather: Weather) -> None:
    """Freeze the primary, promote its standby, thaw the old one, and have it follow after a while."""
    pair = _servers(world).pair
    await asyncio.to_thread(pair.primary.freeze)
    await asyncio.sleep(weather.seconds())
    await pair.promote()
    await world.healed()
    await asyncio.to_thread(pair.standby.thaw)
    await asyncio.sleep(weather.seconds())
    await pair.rejoin()


async def standby_killed(world: World, weather: Weather) -> None:
    """SIGKILL the standby, so that commits wait, and start it again."""
    pair = _servers(world).pair
    await asyncio.to_thread(pair.standby.kill)
    await asyncio.sleep(weather.draw.uniform(1, 15))
    await asyncio.to_thread(pair.standby.start)


async def standby_killed_and_promoted(world: World, weather: Weather) -> None:
    """SIGKILL the standby, and after a while the primary; promote what the standby had, and have the other follow."""
    pair = _servers(world).pair
    await asyncio.to_thread(pair.standby.kill)
    await asyncio.sleep(weather.draw.uniform(1, 15))
    await asyncio.to_thread(pair.primary.kill)
    await asyncio.to_thread(pair.standby.start)
    await pair.promote()
    await world.healed()
    await pair.rejoin()


OF_SEVERAL: Final = frozenset(
    {
        node_killed,
        node_frozen,
        two_nodes_killed,
        primary_killed,
        primary_frozen,
        standby_killed,
        standby_killed_and_promoted,
    }
)

WEIGHTS: Final[Mapping[Fault, int]] = MappingProxyType(
    {**dict.fromkeys(OF_SEVERAL, 10), worker_killed: 10, all_workers_killed: 4, worker_dies_at_failpoint: 10}
)

ALONE: Final = (OF_SEVERAL | {worker_dies_at_failpoint},)
"""One at a time: two of them may be more than can be survived, and a worker comes to no place meanwhile."""


async def leading_node(world: World) -> RabbitMQ:
    """Return the node that leads the queue of commands."""
    vhost = quote(world.amqp_url.split()[0].rpartition("/")[2], safe="")
    found = await Management(world.servers.management_url).get(f"/api/queues/{vhost}/{COMMANDS}")
    return next(node for node in _cluster(world).nodes if node.nodename == found["leader"])


def _servers(world: World) -> SeveralServers:
    assert isinstance(world.servers, SeveralServers)
    return world.servers


def _cluster(world: World) -> Cluster:
    cluster = _servers(world).cluster
    assert cluster is not None
    return cluster


def _node(world: World, weather: Weather) -> RabbitMQ:
    return weather.draw.choice(_cluster(world).nodes)
