"""The table `dead_letter_keepers`: what each keeper last said of itself, and of the queues."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg
from pydantic_core import to_json

FORGET_AFTER = timedelta(days=1)


class KeeperReport(NamedTuple):
    """The last heartbeat of one keeper."""

    name: str
    standing: str
    """Its status, a sentence."""
    depths: dict[str, int]
    """Messages ready in each queue; empty if the broker was unavailable."""
    seen_at: datetime


_REPORT = """
INSERT INTO dead_letter_keepers AS k (name, standing, depths, seen_at)
VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT ON CONSTRAINT dead_letter_keepers_pkey
    DO UPDATE SET standing = $2, depths = $3, seen_at = clock_timestamp()
"""


async def report(connection: asyncpg.Connection, name: str, standing: str, depths: Mapping[str, int]) -> None:
    """Note that a keeper is at work, how it stands, and how many messages it saw in each queue."""
    await connection.execute(_REPORT, name, standing, to_json(depths).decode())


_FORGET = "DELETE FROM dead_letter_keepers WHERE seen_at < clock_timestamp() - $1::interval"


async def forget(connection: asyncpg.Connection) -> None:
    """Forget keepers that have said nothing for long."""
    await connection.execute(_FORGET, FORGET_AFTER)


_NEWEST = "SELECT name, standing, depths, seen_at FROM dead_letter_keepers ORDER BY seen_at DESC LIMIT 1"


async def newest(connection: asyncpg.Connection) -> KeeperReport | None:
    """Return the newest heartbeat of any keeper; None if no keeper was at work for a day."""
    row = await connection.fetchrow(_NEWEST)
    return None if row is None else KeeperReport(**{**row, "depths": json.loads(row["depths"])})
