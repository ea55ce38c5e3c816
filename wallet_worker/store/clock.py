"""The database's clock: every process and every operator goes by the same time."""

from datetime import datetime

import asyncpg


async def database_time(connection: asyncpg.Connection) -> datetime:
    """Return the database's time now, also within a transaction."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now
