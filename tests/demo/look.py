"""Looking without touching: the queues' lengths, the dead letters, and what stands in the database."""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import asyncpg
from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_schemas.names import (
    PAYMENT_REQUESTS,
    PAYMENT_RESULTS,
    REASON_HEADER,
    WALLET_COMMANDS,
    WALLET_DEAD_LETTERS,
    WALLET_UNROUTED,
)
from wallet_schemas.values import OrderStatus
from wallet_worker.broker.connection import RPC_SECONDS, open_channel, open_connection

WORK_QUEUES: Final = (WALLET_COMMANDS, PAYMENT_REQUESTS, PAYMENT_RESULTS)
BROKERS_REASON: Final = "set aside by the broker"


@dataclass(frozen=True, slots=True)
class Depths:
    """How many messages wait: to be worked on, in the dead letters, and in the queue for what has no route."""

    work: int
    dead_letters: int
    unrouted: int


async def depths(channel: Channel) -> Depths:
    """Return how many messages are ready in each kind of queue."""
    work = [await _depth(channel, queue) for queue in WORK_QUEUES]
    return Depths(
        sum(work), await _depth(channel, WALLET_DEAD_LETTERS), await _depth(channel, WALLET_UNROUTED)
    )


async def _depth(channel: Channel, queue: str) -> int:
    declared = await channel.queue_declare(queue, passive=True, timeout=RPC_SECONDS)
    return declared.message_count or 0


async def dead_letters(amqp_url: str, labels: Collection[str]) -> Counter[tuple[str, str]]:
    """Return the dead letters, by the number that each is about and its reason; all of them stay in the queue.

    A letter whose message_id is one of the labels is about that label: it may say nothing of itself.
    """
    letters: Counter[tuple[str, str]] = Counter()
    async with open_connection(amqp_url, "wallet demo: dead letters") as connection:
        # Never acknowledged: the broker takes all of them back when the channel is closed.
        channel = await open_channel(connection)
        while True:
            message = await channel.basic_get(WALLET_DEAD_LETTERS, timeout=RPC_SECONDS)
            if isinstance(message.delivery, Basic.GetEmpty):
                return letters
            properties = message.header.properties
            reason = (properties.headers or {}).get(REASON_HEADER, BROKERS_REASON)
            message_id = properties.message_id or ""
            number = message_id if message_id in labels else _number(message.body)
            letters[number, str(reason)] += 1


def _number(body: bytes) -> str:
    """Return the number that a letter says it is about, or its beginning."""
    try:
        fields = json.loads(body)
        return str(fields.get("serial_no") or fields["payment_order_no"])
    except (ValueError, KeyError, AttributeError, RecursionError):
        return repr(body[:40])


# The database is read past the wallet's own code, which is what is being judged.

_UNSETTLED = """
SELECT count(*) FROM orders WHERE status = 'pending' AND channel <> ALL ($1)
"""


async def unsettled(connection: asyncpg.Connection, slow_channels: Collection[str]) -> int:
    """Return how many orders wait for the gateway, but for those on channels that do not tell at once."""
    return int(await connection.fetchval(_UNSETTLED, list(slow_channels)))


_DUE = """
SELECT count(*) FROM orders WHERE due_at < now() + interval '1 minute'
"""


async def due(connection: asyncpg.Connection) -> int:
    """Return how many orders the wallet looks at by itself within a minute: to ask, or because they expire."""
    return int(await connection.fetchval(_DUE))


_OUTBOX = """
SELECT count(*) FROM outbox
"""


async def outbox(connection: asyncpg.Connection) -> int:
    """Return how many messages the wallet has promised and not yet published, or not yet crossed out."""
    return int(await connection.fetchval(_OUTBOX))


_STATUSES = """
SELECT status, count(*) FROM orders GROUP BY status
"""


async def statuses(connection: asyncpg.Connection) -> dict[str, int]:
    """Return how many orders there are in each status."""
    rows = await connection.fetch(_STATUSES)
    return {row["status"]: row["count"] for row in rows}


_COMMANDS = """
SELECT serial_no FROM commands
"""


async def commands(connection: asyncpg.Connection) -> frozenset[str]:
    """Return the serial numbers that the wallet remembers."""
    return frozenset(serial_no for (serial_no,) in await connection.fetch(_COMMANDS))


_ORDERS = """
SELECT serial_no, status, late FROM orders
"""


async def orders(connection: asyncpg.Connection) -> tuple[dict[str, OrderStatus], frozenset[str]]:
    """Return the status of each order, by serial number, and which of them are marked as late."""
    rows = await connection.fetch(_ORDERS)
    return (
        {row["serial_no"]: OrderStatus(row["status"]) for row in rows},
        frozenset(row["serial_no"] for row in rows if row["late"]),
    )


_BALANCES = """
SELECT user_id, currency, balance, reserved FROM accounts WHERE kind = 'user'
"""


async def balances_minor(
    connection: asyncpg.Connection,
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """Return the balance of each user in each currency, in minor units, and what of it is reserved."""
    rows = await connection.fetch(_BALANCES)
    return (
        {(row["user_id"], row["currency"]): row["balance"] for row in rows},
        {(row["user_id"], row["currency"]): row["reserved"] for row in rows},
    )
