"""The addresses and secrets of one run; how to leave it running, and how to end it later."""

import asyncio
import json
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from tests import worker_keys
from tests.servers import Origin, Servers, ServersUnavailable, reaper
from tests.servers.management import Management
from wallet_worker.broker.addresses import login_of

NOTES: Final = "demo.json"
ENVIRONMENT: Final = "environment"
CONNECT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one run takes place: a vhost, a database, and the key that the gateway signs with.

    `keys` is the folder with the wallet's own keys, once they are made.
    """

    amqp_url: str
    database_url: str
    management_url: str
    payment_keys: str
    keys: Path | None = None

    @property
    def settings(self) -> dict[str, str]:
        """What a program of the house finds in its environment to take part."""
        rights = {
            "types": ["*"],
            "queries": ["*"],
            "replays": True,
            "clients": True,
        }  # one user of the broker plays every part
        proofs = {}
        if self.keys is not None:
            senders = json.dumps({login_of(self.amqp_url): rights})
            proofs = worker_keys.settings(self.keys, senders=senders)
            proofs["WALLET_SIMULATOR_WALLET_KEYS_FILE"] = str(self.keys / "wallet-keys.json")
        return proofs | {
            "WALLET_DEMO": "1",  # the gateway is simulated, and its keys are believed
            "WALLET_AMQP_URL": self.amqp_url,
            "WALLET_DATABASE_URL": self.database_url,
            "WALLET_MANAGEMENT_URL": self.management_url,
            "WALLET_PAYMENT_KEYS": self.payment_keys,
        }

    @property
    def exports(self) -> str:
        """The settings as lines for a shell."""
        return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in self.settings.items())

    @property
    def console(self) -> tuple[str, str, str]:
        """The broker's web page: address, user, password."""
        parts = urlsplit(self.management_url)
        credentials, _, host = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password)


@contextmanager
def place(servers: Servers, *, keep: bool) -> Iterator[Place]:
    """Give an empty place on the servers.

    Servers that are somebody's own get a vhost and a database more, which are removed again, unless `keep` is
    set and the block ends well. Servers of the demo's own are all its own.
    """
    keys = json.dumps({"test-demo": secrets.token_urlsafe(32)})
    if servers.origin is not Origin.ENVIRONMENT:
        yield Place(
            amqp_url=servers.amqp_url,
            database_url=servers.database_url,
            management_url=servers.management_url,
            payment_keys=keys,
        )
        return
    name = f"wallet-demo-{secrets.token_hex(4)}"
    guest = Place(
        amqp_url=_with_path(servers.amqp_url, name),
        database_url=_with_path(servers.database_url, name),
        management_url=servers.management_url,
        payment_keys=keys,
    )
    try:
        asyncio.run(_enter(servers, name))
        yield guest
    except BaseException:
        asyncio.run(_leave(servers.database_url, servers.management_url, name))
        raise
    if not keep:
        asyncio.run(_leave(servers.database_url, servers.management_url, name))


def note(folder: Path, servers: Servers, here: Place) -> None:
    """What `stop` must know is written in the folder, for its owner's eyes alone."""
    guest = None
    if servers.origin is Origin.ENVIRONMENT:
        name = urlsplit(here.amqp_url).path.removeprefix("/")
        guest = {
            "name": name,
            "database_url": servers.database_url,
            "management_url": servers.management_url,
        }
    notes = {"servers_stop_command": shlex.split(servers.stop_command), "guest": guest}
    for name, text in (
        (NOTES, json.dumps(notes, indent=2)),
        (ENVIRONMENT, here.exports),
    ):
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(text + "\n")


def stop_command(folder: Path) -> str:
    """Return what a person types to end what was left running."""
    return shlex.join([sys.executable, "-m", "tests.demo", "stop", str(folder)])


def stop(folder: Path) -> list[str]:
    """What the folder's notes tell of has ended and is gone; returns what went wrong, in sentences."""
    notes: Mapping[str, Any] = json.loads((folder / NOTES).read_text())
    faults = []
    reaper.kill_members(folder)
    if notes["guest"] is not None:
        guest = notes["guest"]
        try:
            asyncio.run(_leave(guest["database_url"], guest["management_url"], guest["name"]))
        except (OSError, asyncpg.PostgresError, ServersUnavailable) as why:
            faults.append(f"the vhost and the database {guest['name']} may still be on your servers: {why}")
    if notes["servers_stop_command"]:
        ended = subprocess.run(
            notes["servers_stop_command"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if ended.returncode:
            faults.append(f"the servers: {ended.stdout.decode(errors='replace').strip()}")
    reaper.reap(folder)
    return faults


def _with_path(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _enter(servers: Servers, name: str) -> None:
    await Management(servers.management_url).create_vhost(name)
    connection = await asyncpg.connect(servers.database_url, timeout=CONNECT_SECONDS)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    finally:
        await connection.close()


async def _leave(database_url: str, management_url: str, name: str) -> None:
    """Neither the vhost nor the database is there, whether they were or not."""
    connection = await asyncpg.connect(database_url, timeout=CONNECT_SECONDS)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()
    management = Management(management_url)
    if any(vhost["name"] == name for vhost in await management.get("/api/vhosts")):
        await management.delete_vhost(name)
