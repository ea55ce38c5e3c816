"""Three brokers that are a cluster, and two databases that are a primary and its standby: for those who break them."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from typing_extensions import override

from tests.servers.management import Management
from tests.servers.pair import Pair
from tests.servers.ports import free_ports
from tests.servers.private import Folder
from tests.servers.rabbitmq import Cluster, RabbitMQ
from tests.servers.start import COPIED_SETTINGS, Origin, Servers

NODES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralServers(Servers):
    """A cluster of brokers or one, and a pair of databases. Nothing is dropped on them: they go with the run."""

    cluster: Cluster | None
    pair: Pair

    @override
    @asynccontextmanager
    async def vhost(self) -> AsyncIterator[str]:
        """Give the addresses of a new, empty vhost; all nodes must be up."""
        name = f"test-{secrets.token_hex(6)}"
        await Management(self.management_url).create_vhost(name)
        if self.cluster is not None:
            yield self.cluster.urls(name)
        else:
            yield urlunsplit(urlsplit(self.amqp_url)._replace(path=f"/{name}"))

    @override
    @asynccontextmanager
    async def database(self, *, template: str | None = None) -> AsyncIterator[str]:
        """Give the address of a new database on both servers."""
        name = f"test_{secrets.token_hex(6)}"
        source = urlsplit(template).path.removeprefix("/") if template else "template0"
        await self.pair.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        if template:
            await self.pair.execute(COPIED_SETTINGS.format(source=source, name=name))
        yield self.pair.url(name)

    @override
    def primary(self, database_url: str) -> str:
        """Return the address of the primary alone."""
        return urlunsplit(urlsplit(self.pair.primary.url)._replace(path=urlsplit(database_url).path))


@contextmanager
def start_several(*, brokers: int = NODES) -> Iterator[SeveralServers]:
    """Give so many brokers, and a primary with a standby that does not hold up commits yet.

    They are gone afterwards. Raises ServersUnavailable or ServerFailed.
    """
    folder = Folder()
    try:
        if brokers == 1:
            cluster = None
            node = RabbitMQ(folder, ports=free_ports(4))
            node.launch()
        else:
            cluster = Cluster(folder, brokers)
            cluster.launch()
            node = cluster.nodes[0]
        pair = Pair(folder)
        if cluster is None:
            node.wait_until_up()
        else:
            cluster.wait_until_up()
        yield SeveralServers(
            amqp_url=node.url if cluster is None else cluster.urls(),
            database_url=pair.url(),
            management_url=node.management_url,
            origin=Origin.PRIVATE,
            broker=node,
            database_server=pair.primary,
            stop_command="",
            cluster=cluster,
            pair=pair,
        )
    finally:
        folder.remove()
