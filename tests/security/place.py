"""A deployment to attack: every user of the broker has the rights of its role, and both sides have keys.

It is what `compose.yaml` starts, without containers: a worker, a keeper and the simulated gateway, each as its own user
of the broker, with requests and results that are signed and dead letters that are sealed.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import aiormq
import asyncpg
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from tests import worker_keys
from tests.servers import Servers
from tests.servers.ports import free_ports
from wallet_schemas.signature import sign
from wallet_worker.broker import topology, users
from wallet_worker.broker.management import Management, management
from wallet_worker.client import WalletClient
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.operations import DeadLetterDesk
from wallet_worker.store.database import Database
from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE
from wallet_worker.store.migrate import migrate

READY_SECONDS = 60.0
SOON_SECONDS = 15.0
GATEWAY_KEYS = {"test-acme": "the simulated gateway's secret", "acme-bank": "speaks of bank transfers only"}
_NUMBERS = itertools.count(1)


def fresh(prefix: str) -> str:
    """Return a number that nobody has used."""
    return f"{prefix}-{next(_NUMBERS)}-{secrets.token_hex(3)}"


@dataclass(slots=True)
class Place:
    """The deployment, and how an attacker reaches it: as a user of the broker, with that user's password."""

    amqp_url: str
    database_url: str
    api: Management
    run: str
    folder: Path
    passwords: dict[str, str]
    owner: asyncpg.Connection
    logins: dict[str, str]
    """The address of the database by the name of a login in compose.yaml."""
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    def login(self, role: str) -> str:
        """Return the name of a role's user: users belong to a broker, which may be somebody's."""
        return f"{role}-{self.run}"

    def login_name(self, login: str) -> str:
        """Return the name of a login of the database, of which a cluster may have several in tests."""
        return f"{login}_{self.run}"

    def url_of(self, role: str) -> str:
        """Return the address by which a role's user logs in."""
        login, parts = self.login(role), urlsplit(self.amqp_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{login}:{self.passwords[login]}@{host}"))

    def client(self, role: str) -> WalletClient:
        """Return a client as a role's user."""
        return WalletClient(self.url_of(role), timeout_seconds=SOON_SECONDS)

    @asynccontextmanager
    async def database(self, login: str, role: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection of a login that looks at the wallet's schema, perhaps as one of its roles."""
        settings = {"search_path": "wallet"} | ({"role": role} if role else {})
        connection = await asyncpg.connect(self.logins[login], server_settings=settings)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def channel(self, role: str) -> AsyncIterator[Channel]:
        """Give a channel of a role's user."""
        async with aiormq.connect(self.url_of(role)) as connection:
            yield cast("Channel", await connection.channel(on_return_raises=True))

    async def publish(
        self,
        role: str,
        exchange: str,
        routing_key: str,
        body: dict[str, Any] | bytes,
        *,
        user_id: str | None = "",
        **properties: Any,
    ) -> None:
        """Publish as a role's user, by default under its own name; raises what the broker refuses it with."""
        async with self.channel(role) as channel:
            await channel.basic_publish(
                body if isinstance(body, bytes) else json.dumps(body).encode(),
                exchange=exchange,
                routing_key=routing_key,
                properties=Basic.Properties(
                    delivery_mode=2, user_id=self.login(role) if user_id == "" else user_id, **properties
                ),
                mandatory=True,
                wait=True,
            )

    async def ask(
        self, role: str, exchange: str, routing_key: str, body: dict[str, Any], **properties: Any
    ) -> dict[str, Any]:
        """Publish something and return its answer, by direct reply-to."""
        async with self.channel(role) as channel:
            answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

            async def on_reply(message: DeliveredMessage) -> None:
                if not answer.done():
                    answer.set_result(message.body)

            await channel.basic_consume("amq.rabbitmq.reply-to", on_reply, no_ack=True)
            given = {"user_id": self.login(role), "correlation_id": "c", "reply_to": "amq.rabbitmq.reply-to"}
            await channel.basic_publish(
                json.dumps(body).encode(),
                exchange=exchange,
                routing_key=routing_key,
                properties=Basic.Properties(delivery_mode=2, **(given | properties)),
                wait=True,
            )
            async with asyncio.timeout(SOON_SECONDS):
                return cast("dict[str, Any]", json.loads(await answer))

    async def letter_of(self, number: str) -> asyncpg.Record:
        """Return the dead letter of a serial number, once a keeper has taken it in."""
        query = "SELECT * FROM dead_letters WHERE serial_no = $1 ORDER BY letter_id DESC LIMIT 1"
        async with asyncio.timeout(SOON_SECONDS):
            while (found := await self.owner.fetchrow(query, number)) is None:  # noqa: ASYNC110 -- see `until`
                await asyncio.sleep(0.05)
        return found

    async def money_of(self, user_id: str) -> int:
        """Return a user's balance in minor units."""
        found = await self.owner.fetchval("SELECT sum(balance) FROM accounts WHERE user_id = $1", user_id)
        return int(found or 0)

    async def paid(self, role: str, user_id: str, amount: str = "100.00") -> None:
        """Open an account of a user and have it recharged, as an honest service does."""
        async with self.client(role) as wallet:
            await wallet.open_account(user_id, "TWD", serial_no=fresh("O"))
            number = fresh("R")
            await wallet.recharge(user_id, amount, "TWD", "card", serial_no=number)
            await wallet.wait_until_settled(number, timeout_seconds=READY_SECONDS)

    def settings(self, role: str, **other: str) -> dict[str, str]:
        """Return the environment of a process of the deployment, which logs in as a role's user."""
        ours = {
            "WALLET_AMQP_URL": self.url_of(role),
            "WALLET_DATABASE_URL": self.logins.get(role, self.database_url),
            "WALLET_PAYMENT_KEYS_FILE": str(self.folder / "gateway-keys.json"),
            "WALLET_DEMO": "1",
            "WALLET_LOG_FORMAT": "json",
            **worker_keys.settings(self.folder, senders=f"@{self.folder / 'senders.json'}"),
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
        return others | ours | other

    async def start(self, role: str, *arguments: str, **settings: str) -> asyncio.subprocess.Process:
        """Start a process of the deployment; its log is in the folder. One that is no role's logs in as the worker."""
        (port,) = free_ports(1)
        name = f"{role}-{len(self.processes)}"
        self.ports[role] = port
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                env=self.settings(
                    role if self.login(role) in self.passwords else "worker",
                    WALLET_HTTP_PORT=str(port),
                    WALLET_SIMULATOR_HTTP_PORT=str(port),
                    **settings,
                ),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def log(self, role: str) -> str:
        """Return everything that the processes of a role have logged."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob(f"{role}-*.log")))

    async def get(self, role: str, path: str) -> tuple[int, str]:
        """Return status and body of a page of a process."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[role])
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(SOON_SECONDS):
                answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    async def until_ready(self, role: str, path: str) -> None:
        """Wait until a process says that it is ready."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                with contextlib.suppress(OSError, IndexError):
                    if (await self.get(role, path))[0] == 200:
                        return
                if self.processes[-1].returncode is not None:
                    raise AssertionError(self.log(role))
                await asyncio.sleep(0.1)


@asynccontextmanager
async def at_the_desk(place: Place) -> AsyncIterator[DeadLetterDesk]:
    """Give the desk as the console has it, with the console's login of the database."""
    database = Database(place.logins["console"], role=OPERATOR_ROLE, application="attack")
    await database.open()
    try:
        yield DeadLetterDesk(database, Policy(), {})
    finally:
        await database.close()


def signed(body: bytes, key_id: str, at_unix: int) -> dict[str, str]:
    """Return the header of a result that one of the gateway's keys has signed."""
    return {"x-signature": sign(body, GATEWAY_KEYS, at_unix, key_ids=[key_id])}


def _policy(run: str) -> dict[str, Any]:
    honest = {"types": ["account.open", "order.*"], "queries": ["*"]}
    return {
        f"up-shop-{run}": {**honest, "users": "shop:", "serial_prefix": ""},
        f"up-evil-{run}": {**honest, "types": ["*"], "users": "evil:"},
        f"keeper-{run}": {"replays": True},
    }


def _gateway_keys() -> dict[str, Any]:
    from base64 import b64encode

    def entry(secret: str, **bounds: Any) -> dict[str, Any]:
        padded = secret.encode().ljust(32, b".")
        return {"algorithm": "hmac-sha256", "secret": b64encode(padded).decode(), **bounds}

    return {
        "test-acme": entry(GATEWAY_KEYS["test-acme"]),
        "acme-bank": entry(GATEWAY_KEYS["acme-bank"], channels=["bank_transfer"]),
    }


for _name, _secret in GATEWAY_KEYS.items():
    GATEWAY_KEYS[_name] = _secret.ljust(32, ".")  # as the file has them, of 32 bytes at least


@asynccontextmanager
async def deployed(servers: Servers) -> AsyncIterator[Place]:
    """Give a deployment whose worker, keeper and gateway are at work; all of it is gone afterwards."""
    run = secrets.token_hex(3)
    types = ["account.*", "order.*", "account.get", "order.get", "statement.get"]
    all_users = [
        *(_renamed(user, run) for user in users.roles()),
        users.gateway(f"acme-{run}"),
        users.upstream(f"shop-{run}", types),
        users.upstream(f"evil-{run}", types, reply_queues=True),
    ]
    passwords = {user.name: secrets.token_urlsafe(16) for user in all_users}
    async with servers.vhost() as amqp_url, servers.database() as database_url:
        logins = await _made_logins(database_url, run)
        await topology.apply(amqp_url)
        api = management(amqp_url, servers.management_url)
        assert api is not None
        await asyncio.to_thread(users.apply, api, all_users, passwords)
        owner = await asyncpg.connect(database_url)
        try:
            with tempfile.TemporaryDirectory(prefix="wallet-attack-") as name:
                folder = Path(name)
                worker_keys.write_keys(folder)
                (folder / "senders.json").write_text(json.dumps(_policy(run)))
                (folder / "gateway-keys.json").write_text(json.dumps(_gateway_keys()))
                place = Place(amqp_url, database_url, api, run, folder, passwords, owner, logins)
                try:
                    await _start_all(place)
                    yield place
                finally:
                    await _end(place)
        finally:
            for user in all_users:
                await asyncio.to_thread(api.call, "DELETE", "users", user.name)
            for url in logins.values():
                login = urlsplit(url).username
                await owner.execute(f"DROP OWNED BY {login} CASCADE; DROP ROLE {login}")
            await owner.close()


LOGINS = {
    "worker": "worker-without-keeper",
    "keeper": "keeper",
    "console": "console",
    "api": "api",
    "audit": "reader",
}
"""What each login of compose.yaml is for; beside them there is the owner."""


async def _made_logins(database_url: str, run: str) -> dict[str, str]:
    """Migrate a database for the logins of compose.yaml; return their addresses by name."""
    parts = urlsplit(database_url)
    urls = {}
    admin = await asyncpg.connect(database_url)
    for name in (*LOGINS, "owner"):
        password = secrets.token_hex(16)
        await admin.execute(f"CREATE ROLE {name}_{run} LOGIN PASSWORD '{password}'")
        netloc = f"{name}_{run}:{password}@{parts.netloc.rpartition('@')[2]}"
        urls[name] = urlunsplit(parts._replace(netloc=netloc))
    await admin.close()
    await migrate(
        database_url, owner=f"owner_{run}", logins={f"{name}_{run}": kind for name, kind in LOGINS.items()}
    )
    return urls


def _renamed(user: users.BrokerUser, run: str) -> users.BrokerUser:
    from dataclasses import replace

    return replace(user, name=f"{user.name}-{run}")


async def _start_all(place: Place) -> None:
    await place.start("worker", "wallet_worker", "worker", WALLET_KEEPER="false")
    await place.until_ready("worker", "/readyz")
    await place.start("keeper", "wallet_worker", "keeper")
    await place.until_ready("keeper", "/readyz")
    await place.start(
        "gateway-acme",
        "payment_simulator",
        WALLET_PAYMENT_KEYS=json.dumps({"test-acme": GATEWAY_KEYS["test-acme"]}),
        WALLET_SIMULATOR_WALLET_KEYS_FILE=str(place.folder / "wallet-keys.json"),
        WALLET_SIMULATOR_DELAY_MIN_SECONDS="0",
        WALLET_SIMULATOR_DELAY_MAX_SECONDS="0.1",
    )
    await place.until_ready("gateway-acme", "/healthz")


async def _end(place: Place) -> None:
    for process in place.processes:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
    for process in place.processes:
        try:
            async with asyncio.timeout(40):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
