"""Two PostgreSQL servers, a primary and a synchronous standby, and what a failover manager does to them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from tests.servers.ports import free_ports
from tests.servers.postgres import DATABASE, Postgres, Standby
from tests.servers.private import Folder

CONNECT_SECONDS = 5
FOLLOW_SECONDS = 30


class Pair:
    """A primary and a standby. After `promote` they have changed places."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._copies = 0
        first, second = free_ports(2)
        self.primary: Postgres = Postgres(folder, port=first, durable=False)
        self.primary.start()
        self._ports = (first, second)
        self.standby: Postgres = self._copy(second)

    def url(self, database: str = DATABASE, *, primary_last: bool = False) -> str:
        """Return the address of both servers, in the order in which they were made, or the other way round."""
        login = self.primary.url.partition("://")[2].rpartition("@")[0]
        ports = self._ports[::-1] if primary_last else self._ports
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://{login}@{hosts}/{database}?target_session_attrs=primary"

    async def be_synchronous(self, *, synchronous: bool = True) -> None:
        """Have each commit of the primary wait for the standby, which follows when this returns."""
        await self._set("ANY 1 (*)" if synchronous else "")
        wanted = "quorum" if synchronous else "async"
        async with asyncio.timeout(FOLLOW_SECONDS):
            while await self._value("SELECT sync_state FROM pg_stat_replication") != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def promote(self) -> None:
        """The standby is primary, and waits for nobody; the other server is left as it is."""
        self.primary, self.standby = self.standby, self.primary
        await self._value("SELECT pg_promote()")
        await self._set("")

    async def rejoin(self) -> None:
        """The server that is not primary follows again, as a fresh copy, and commits wait for it."""
        port = self.standby.port
        await asyncio.to_thread(self.standby.thaw)
        await asyncio.to_thread(self.standby.kill)
        self.standby = await asyncio.to_thread(self._copy, port)
        await self.be_synchronous()

    def _copy(self, port: int) -> Standby:
        self._copies += 1
        standby = Standby(
            self._folder, port=port, name=f"standby-{self._copies}", of=self.primary, via=self.primary.port
        )
        standby.start()
        return standby

    async def execute(self, statement: str) -> None:
        """Do something on the primary, as its owner."""
        await self._value(statement)

    async def _set(self, names: str) -> None:
        await self._value(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        await self._value("SELECT pg_reload_conf()")

    async def _value(self, statement: str) -> object:
        connection = await asyncpg.connect(self.primary.url, timeout=CONNECT_SECONDS)
        try:
            return await connection.fetchval(statement)
        finally:
            connection.terminate()


@contextmanager
def start_pair() -> Iterator[Pair]:
    """Give a primary and a standby that follows it; they are gone afterwards. Raises ServersUnavailable."""
    folder = Folder()
    try:
        yield Pair(folder)
    finally:
        folder.remove()
