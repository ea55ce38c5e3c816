"""Where a run happens: a database and a vhost of its own, on servers that write through to the disk."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg

from tests import worker_keys
from tests.benchmarks import state
from tests.benchmarks.wire import RawChannel, framed, login
from tests.benchmarks.workloads import GATEWAY_KEY, USERS, Load, parcels
from tests.servers import Servers
from wallet_schemas.keys import verifying_entry
from wallet_schemas.names import PAYMENT_RESULTS, WALLET_COMMANDS, WALLET_EVENTS
from wallet_worker.broker import topology
from wallet_worker.core.context import Policy
from wallet_worker.store import accounts
from wallet_worker.store.migrate import migrate

EVENTS_QUEUE: Final = "benchmark.events"
"""The one subscriber: each message ends in one event, so the depth of this queue is how far a run is."""

_SAFE: Final = ("fsync", "synchronous_commit", "full_page_writes")


class UnsafeServerError(Exception):
    """The database would not survive a power cut: what is measured on it says nothing."""


_RIGHTS: Final = {
    "types": ["account.open", "order.*"],
    "queries": ["*"],
    "account_types": ["basic"],
    "any_order": True,  # the orders that refunds give back were there before, sent by nobody
}
"""What the one sender of a benchmark may do, as in a deployment: not everybody may do everything."""


@cache
def _gateway_keys() -> Path:
    """Return the file with the public half of the key that results are signed with."""
    file = worker_keys.folder() / "gateway-keys.json"
    file.write_text(json.dumps({GATEWAY_KEY.key_id: verifying_entry(GATEWAY_KEY)}))
    return file


@dataclass(frozen=True, slots=True)
class Site:
    """A database and a vhost for one run."""

    amqp_url: str
    database_url: str
    management_url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a contestant's process is told."""
        return os.environ | {
            "WALLET_AMQP_URL": self.amqp_url,
            "WALLET_DATABASE_URL": self.database_url,
            "WALLET_MANAGEMENT_URL": self.management_url,
            "WALLET_PAYMENT_KEYS_FILE": str(_gateway_keys()),
            "WALLET_HTTP_HOST": "127.0.0.1",
            "WALLET_KEEPER": "false",  # the verdict looks into the queue
            "WALLET_PAYMENT_INQUIRY_SECONDS": "86400",  # nobody else asks the gateway about orders that wait
            "WALLET_HTTP_PORT": "0",
            "WALLET_LOG_FORMAT": "json",
            **worker_keys.settings(senders=json.dumps({login(self.amqp_url): _RIGHTS})),
        }


async def assert_durable(database_url: str) -> None:
    """Return if the server keeps what it has committed through a power cut; raises UnsafeServerError."""
    connection = await asyncpg.connect(database_url)
    try:
        for name in _SAFE:
            if await connection.fetchval("SELECT current_setting($1)", name) != "on":
                msg = f"the database server has {name} off"
                raise UnsafeServerError(msg)
    finally:
        await connection.close()


@asynccontextmanager
async def furnished(servers: Servers, *, users: int = USERS, orders_each: int = 0) -> AsyncIterator[str]:
    """Give the URL of a migrated database with the system accounts and users with that much history."""
    async with servers.database() as url:
        await migrate(url)
        connection = await asyncpg.connect(url, command_timeout=3_600)
        try:
            await accounts.ensure_lanes(connection, Policy().currencies)
            await state.add_users(connection, users, orders_each=orders_each)
            await state.settle_down(connection)
        finally:
            await connection.close()
        yield url


@asynccontextmanager
async def fresh_site(servers: Servers, template_url: str) -> AsyncIterator[Site]:
    """Give a vhost with the wallet's topology and one subscriber, and a copy of a furnished database."""
    async with servers.database(template=template_url) as url, site_on(servers, url) as site:
        yield site


@asynccontextmanager
async def site_on(servers: Servers, database_url: str) -> AsyncIterator[Site]:
    """Give a vhost with the wallet's topology and one subscriber, beside a database that stays."""
    async with servers.vhost() as amqp_url:
        await topology.apply(amqp_url)
        await asyncio.to_thread(_subscribe, amqp_url)
        yield Site(amqp_url, database_url, servers.management_url)


def _subscribe(amqp_url: str) -> None:
    with RawChannel(amqp_url) as channel:
        channel.declare_queue(EVENTS_QUEUE, WALLET_EVENTS, {"x-queue-type": "quorum"})


async def stock(site: Site, load: Load) -> None:
    """Leave a run's orders in the database and all its messages in the queues; nothing is left to settle."""
    connection = await asyncpg.connect(site.database_url, command_timeout=3_600)
    try:
        if load.paid_users:
            await state.add_waiting(connection, load.waiting, load.paid_users)
        await asyncio.to_thread(_publish, site.amqp_url, load)
        await state.settle_down(connection)
    finally:
        await connection.close()


def _publish(amqp_url: str, load: Load) -> None:
    with RawChannel(amqp_url) as channel:
        channel.publish(framed(parcel, sender=channel.user) for parcel in parcels(load.steps))


def left(site: Site) -> int:
    """Return how many messages wait in the queues that contestants consume."""
    with RawChannel(site.amqp_url) as channel:
        return channel.depth(WALLET_COMMANDS) + channel.depth(PAYMENT_RESULTS)
