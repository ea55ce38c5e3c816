"""Finding or starting the two servers, and ending what was started."""

import asyncio
import os
import secrets
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.servers import containers
from tests.servers.management import Management
from tests.servers.ports import free_ports
from tests.servers.postgres import Postgres
from tests.servers.postgres import find_binaries as find_postgres
from tests.servers.private import Folder
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.rabbitmq import find_script as find_rabbitmq
from tests.servers.server import GivenServer, Say, Server, ServersUnavailable

CONNECT_SECONDS = 10
MANAGEMENT_PORT = 15672


COPIED_SETTINGS = """
DO $$
DECLARE
    found text;
BEGIN
    FOR found IN
        SELECT setting
        FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
        WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = '{source}')
          AND s.setrole = current_user::regrole
    LOOP
        EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE "{name}" SET %I = %s',
                       split_part(found, '=', 1), substr(found, strpos(found, '=') + 1));
    END LOOP;
END
$$
"""


class Origin(StrEnum):
    """Where servers come from, in the order in which it is tried."""

    ENVIRONMENT = "environment"
    DOCKER = "docker"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """A broker and a database server that answer."""

    amqp_url: str
    database_url: str
    management_url: str
    origin: Origin
    broker: Server
    database_server: Server
    stop_command: str  # what a person types to end servers that outlive their starter; "" where that can't be

    @asynccontextmanager
    async def vhost(self) -> AsyncIterator[str]:
        """Give the AMQP URL of a new, empty vhost; it is deleted afterwards."""
        management = Management(self.management_url)
        name = f"test-{secrets.token_hex(6)}"
        await management.create_vhost(name)
        try:
            yield urlunsplit(urlsplit(self.amqp_url)._replace(path=f"/{name}"))
        finally:
            await management.delete_vhost(name)

    @asynccontextmanager
    async def database(self, *, template: str | None = None) -> AsyncIterator[str]:
        """Give the URL of a new database, empty or a copy of that at `template`; dropped afterwards."""
        name = f"test_{secrets.token_hex(6)}"
        source = urlsplit(template).path.removeprefix("/") if template else "template0"
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        if template:  # what logins are set to in a database is not copied with it
            await self._execute(COPIED_SETTINGS.format(source=source, name=name))
        try:
            yield urlunsplit(urlsplit(self.database_url)._replace(path=f"/{name}"))
        finally:
            await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def primary(self, database_url: str) -> str:
        """Return the address of the server that is written to now, of a database on these servers."""
        return database_url

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.database_url, timeout=CONNECT_SECONDS)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class ServerRun:
    """Servers for the length of a block, `with` or `async with`."""

    def __init__(self, *, controlled: bool, durable: bool, outlive: bool, say: Say) -> None:
        self._controlled = controlled
        self._durable = durable
        self._outlive = outlive
        self._say = say
        self._undo = ExitStack()  # ends what was started
        self._leave = ExitStack()  # lets it go on

    def __enter__(self) -> Servers:
        """Give servers that answer. Raises ServersUnavailable, ServerFailed."""
        try:
            return self._find()
        except BaseException:
            self._undo.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What this run started has ended and left nothing, or was to outlive a block that ended well."""
        if self._outlive and error is None:
            self._leave.close()
        else:
            self._undo.close()

    async def __aenter__(self) -> Servers:
        """Do as `with` does, in a thread."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do as `with` does, in a thread."""
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _find(self) -> Servers:
        only = os.environ.get("WALLET_SERVERS_FROM")
        if only and only not in set(Origin):
            raise ServersUnavailable(f"WALLET_SERVERS_FROM is {only!r}; it may be {', '.join(Origin)}")
        ways: dict[Origin, Callable[[], Servers]] = {
            Origin.ENVIRONMENT: self._given,
            Origin.DOCKER: self._contained,
            Origin.PRIVATE: self._private,
        }
        tried = []
        for origin, way in ways.items():
            if only in {None, origin.value}:
                try:
                    return way()
                except ServersUnavailable as why:
                    tried.append(f"{origin}: {why}")
                    self._undo.close()  # a database without its broker is of no use
        raise ServersUnavailable("\n".join(["no servers to run against:", *tried]))

    def _given(self) -> Servers:
        amqp_url, database_url = os.environ.get("WALLET_AMQP_URL"), os.environ.get("WALLET_DATABASE_URL")
        if not amqp_url and not database_url:
            raise ServersUnavailable("WALLET_AMQP_URL and WALLET_DATABASE_URL are not set")
        if not amqp_url or not database_url:
            missing = "WALLET_DATABASE_URL" if amqp_url else "WALLET_AMQP_URL"
            raise ServersUnavailable(f"{missing} is not set, though the other of the two is")
        if self._controlled:
            raise ServersUnavailable("servers given by their URLs can't be killed")
        parts = urlsplit(amqp_url)
        credentials = parts.netloc.rpartition("@")[0]
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        guess = f"http://{credentials + '@' if credentials else 'guest:guest@'}{host}:{MANAGEMENT_PORT}"
        return Servers(
            amqp_url=amqp_url,
            database_url=database_url,
            management_url=os.environ.get("WALLET_MANAGEMENT_URL") or guess,
            origin=Origin.ENVIRONMENT,
            broker=GivenServer(amqp_url),
            database_server=GivenServer(database_url),
            stop_command="",
        )

    def _contained(self) -> Servers:
        containers.check_engine()
        run = containers.ContainerRun(outlive=self._outlive, say=self._say)
        self._undo.callback(run.remove)
        broker, database_server = run.start(durable=self._durable)
        return Servers(
            amqp_url=broker.url,
            database_url=database_server.url,
            management_url=broker.management_url,
            origin=Origin.DOCKER,
            broker=broker,
            database_server=database_server,
            stop_command=run.stop_command,
        )

    def _private(self) -> Servers:
        find_rabbitmq()  # both first, so that a machine without the one does not start the other
        find_postgres()
        folder = Folder()
        self._undo.callback(folder.remove)
        self._leave.callback(folder.leave)
        self._say("starting PostgreSQL and RabbitMQ in a temporary folder, which takes about ten seconds")
        database_port, *broker_ports = free_ports(5)
        broker = RabbitMQ(folder, ports=broker_ports)
        broker.launch()  # takes the longest: the database is made meanwhile
        database_server = Postgres(folder, port=database_port, durable=self._durable)
        database_server.start()
        broker.wait_until_up()
        return Servers(
            amqp_url=broker.url,
            database_url=database_server.url,
            management_url=broker.management_url,
            origin=Origin.PRIVATE,
            broker=broker,
            database_server=database_server,
            stop_command=_stop_command(folder.path),
        )


def start_servers(
    *, controlled: bool = False, durable: bool = True, outlive: bool = False, say: Say = lambda _line: None
) -> ServerRun:
    """Give a context manager, plain or async, whose value is a broker and a database server that answer.

    `controlled`: only servers that may be killed. `durable=False`: without fsync. `outlive`: they go on after
    the block. `say` is told in one line what takes long. Entering raises ServersUnavailable or ServerFailed.
    """
    return ServerRun(controlled=controlled, durable=durable, outlive=outlive, say=say)


def _stop_command(folder: Path) -> str:
    return shlex.join([sys.executable, "-m", "tests.servers", "stop", str(folder)])
