"""PostgreSQL under Patroni with etcd, all three of the system's packages: a failover that nobody makes by hand."""

import asyncio
import json
import os
import pwd
import secrets
import shutil
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import yaml
from typing_extensions import override

from tests.servers import reaper
from tests.servers.ports import free_ports
from tests.servers.postgres import find_system_binaries
from tests.servers.private import Folder, Program
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.server import ServersUnavailable, speaks_http
from tests.servers.start import COPIED_SETTINGS, Origin, Servers

NODES: Final = 3
"""A leader and two standbys: one synchronous standby is left to the next leader, which waits for nobody else."""
ASK_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 5
WHOLE_SECONDS: Final = 90.0

COMPOSE: Final = Path(__file__).parents[2]
LOGINS: Final = ("owner", "worker", "keeper", "console", "api", "audit", "webhooks")


def shipped(file: str, config: str) -> str:
    """Return a file that a compose file puts into a container: what is shipped is what is tried."""
    content: str = yaml.safe_load((COMPOSE / file).read_text())["configs"][config]["content"]
    return content


class Etcd(Program):
    """The store in which Patroni keeps who leads."""

    def __init__(self, folder: Folder, *, ports: tuple[int, int]) -> None:
        super().__init__(folder, name="etcd")
        self.port, self._peer_port = ports

    @override
    def _command(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.port, self._peer_port))
        return [
            _program("etcd"),
            "--name=e1",
            f"--data-dir={self._folder}/state",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=e1={peer}",
        ]

    @override
    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}

    @override
    def _answers(self) -> bool:
        return speaks_http("127.0.0.1", self.port)

    @override
    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM


class PatroniNode(Program):
    """One PostgreSQL server with the Patroni that looks after it: a machine, as far as a failover goes."""

    def __init__(
        self, folder: Folder, *, name: str, port: int, rest_port: int, etcd: Etcd, password: str
    ) -> None:
        super().__init__(folder, name=name)
        self.name = name
        self.port = port
        self._rest_port = rest_port
        self._password = password
        self.url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        self._write_configuration(etcd)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            self._user, self._group = account.pw_uid, account.pw_gid
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, self._user, self._group)

    def leads(self) -> bool:
        """Return whether Patroni says that its server is written to."""
        return self._get("/primary") is not None

    @property
    def state(self) -> dict[str, Any]:
        """What Patroni says of its server; empty if it does not answer."""
        return self._get("/patroni") or {}

    def kill_postgres(self) -> None:
        """Every process of PostgreSQL is killed, and Patroni goes on."""
        for process in reaper.members(self._folder / "data"):
            process.kill()

    def switch_over(self) -> None:
        """Have Patroni give the lead to the synchronous standby, in order. Raises OSError if it refuses."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._rest_port}/switchover",
            data=json.dumps({"leader": self.name}).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310 -- the same
            pass

    def _get(self, path: str) -> dict[str, Any] | None:
        """Return what Patroni answers to a question, or nothing if that is no, or nobody answers."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._rest_port}{path}", timeout=ASK_SECONDS
            ) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return None
        return found

    def _write_configuration(self, etcd: Etcd) -> None:
        """Write the configuration of compose.ha.yaml, with this machine's places and ports in it."""
        logins = self._folder / "logins.sh"
        logins.write_text(shipped("compose.yaml", "logins").replace("$$", "$"))
        content = yaml.safe_load(shipped("compose.ha.yaml", "patroni"))
        content["etcd3"]["hosts"] = [f"127.0.0.1:{etcd.port}"]
        content["restapi"]["listen"] = f"127.0.0.1:{self._rest_port}"
        bootstrap = content["bootstrap"]
        bootstrap["post_bootstrap"] = bootstrap["post_bootstrap"].replace(
            "/etc/patroni/logins.sh", str(logins)
        )
        if os.geteuid() != 0:  # then PostgreSQL's superuser has not the name of the system's user
            bootstrap["pg_hba"] = [line.replace("peer", "trust") for line in bootstrap["pg_hba"]]
        content["postgresql"] |= {
            "listen": f"127.0.0.1:{self.port}",
            "data_dir": str(self._folder / "data"),
            "bin_dir": str(find_system_binaries()),
            "pgpass": str(self._folder / "pgpass"),
            "parameters": {"unix_socket_directories": str(self._folder)},
        }
        (self._folder / "patroni.yml").write_text(yaml.safe_dump(content))

    @override
    def _command(self) -> list[str]:
        return [_program("patroni"), str(self._folder / "patroni.yml")]

    @override
    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PG", "LC_", "LANG", "PYTHON", "PATRONI_", "VIRTUAL_ENV"))
        }
        return kept | {
            "LC_ALL": "C",
            "HOME": str(self._folder),
            "PGHOST": str(self._folder),
            "PGPORT": str(self.port),
            "PATRONI_NAME": self.name,
            "PATRONI_RESTAPI_CONNECT_ADDRESS": f"127.0.0.1:{self._rest_port}",
            "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{self.port}",
            "PATRONI_SUPERUSER_USERNAME": "postgres",
            "PATRONI_SUPERUSER_PASSWORD": self._password,
            "PATRONI_REPLICATION_USERNAME": "replicator",
            "PATRONI_REPLICATION_PASSWORD": self._password,
            **{f"{login.upper()}_DATABASE_PASSWORD": self._password for login in LOGINS},
        }

    @override
    def _answers(self) -> bool:
        return self.state.get("state") == "running"

    @override
    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM


class Patroni:
    """Several PostgreSQL servers of which Patroni chooses the leader."""

    def __init__(self, folder: Folder) -> None:
        client, peer, *ports = free_ports(2 + 2 * NODES)
        self.etcd = Etcd(folder, ports=(client, peer))
        password = secrets.token_urlsafe(16)
        self.nodes = [
            PatroniNode(
                folder,
                name=f"d{number + 1}",
                port=ports[2 * number],
                rest_port=ports[2 * number + 1],
                etcd=self.etcd,
                password=password,
            )
            for number in range(NODES)
        ]
        self.leader = self.nodes[0]
        self._password = password

    def start(self) -> None:
        """There is a leader, and the others follow it."""
        self.etcd.start()
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_until_up()

    def url(self, database: str, *, login: str = "postgres") -> str:
        """Return the address of all servers."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://{login}:{self._password}@{hosts}/{database}?target_session_attrs=primary"

    async def until_led(self, *, other_than: PatroniNode | None = None) -> None:
        """`leader` is the server that is written to now, another than this one."""
        async with asyncio.timeout(WHOLE_SECONDS):
            while True:
                for node in self.nodes:
                    if node is not other_than and await asyncio.to_thread(node.leads):
                        self.leader = node
                        return
                await asyncio.sleep(0.05)

    async def until_whole(self) -> None:
        """Every server but the leader follows it, and one of them is its synchronous standby."""
        async with asyncio.timeout(WHOLE_SECONDS):
            while True:
                await self.until_led()
                followers = await self._followers()
                if len(followers) == NODES - 1 and "sync" in followers:
                    return
                await asyncio.sleep(0.2)

    async def _followers(self) -> list[str]:
        try:
            connection = await asyncpg.connect(self.leader.url, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return []
        try:
            rows = await connection.fetch(
                "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'",
                timeout=CONNECT_SECONDS,
            )
        finally:
            connection.terminate()
        return [row["sync_state"] for row in rows]

    async def execute(self, statement: str) -> None:
        """Do something on the leader, as its owner."""
        connection = await asyncpg.connect(self.leader.url, timeout=CONNECT_SECONDS)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class PatroniServers(Servers):
    """A broker, and the servers of Patroni. Nothing is dropped on them: they go with the run."""

    patroni: Patroni

    @override
    @asynccontextmanager
    async def database(self, *, template: str | None = None) -> AsyncIterator[str]:
        """Give the address of a new database on all servers."""
        name = f"test_{secrets.token_hex(6)}"
        source = urlsplit(template).path.removeprefix("/") if template else "template0"
        await self.patroni.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        if template:
            await self.patroni.execute(COPIED_SETTINGS.format(source=source, name=name))
        yield self.patroni.url(name)

    @override
    def primary(self, database_url: str) -> str:
        """Return the address of the leader alone."""
        return urlunsplit(urlsplit(self.patroni.leader.url)._replace(path=urlsplit(database_url).path))


@contextmanager
def start_with_patroni() -> Iterator[PatroniServers]:
    """Give a broker, and PostgreSQL under Patroni; they are gone afterwards.

    Raises ServersUnavailable or ServerFailed.
    """
    folder = Folder()
    try:
        broker = RabbitMQ(folder, ports=free_ports(4))
        broker.launch()
        patroni = Patroni(folder)
        patroni.start()
        broker.wait_until_up()
        yield PatroniServers(
            amqp_url=broker.url,
            database_url=patroni.url("postgres"),
            management_url=broker.management_url,
            origin=Origin.PRIVATE,
            broker=broker,
            database_server=patroni.nodes[0],
            stop_command="",
            patroni=patroni,
        )
    finally:
        folder.remove()


def find_programs() -> None:
    """Etcd, Patroni and PostgreSQL are there. Raises ServersUnavailable."""
    _program("etcd")
    _program("patroni")
    find_system_binaries()


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if found is None:
        raise ServersUnavailable(f"{name} is not on this machine: `make failover` installs it")
    return found
