"""Long looks at a live database: one moment of it, under the role that can only read, row by row."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

import asyncpg

from wallet_worker.store.database import READONLY_ROLE
from wallet_worker.store.servers import CONNECT_SECONDS, connect
from wallet_worker.store.session import prepare, settings_of

CHUNK_ROWS: Final = 2_000  # more is no faster, and progress bars move in these steps
WORK_MEMORY: Final = "64MB"  # of the database, for each sort
STATEMENT_LIMIT: Final = "1h"  # of the database, as STATEMENT_SECONDS
STATEMENT_SECONDS: Final = 3_600  # the first rows may come only after a sort, of perhaps a billion lines
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@asynccontextmanager
async def snapshot(
    dsn: str, application: str, settings: Mapping[str, str] = _NONE
) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection that sees one moment. Not from the pool, whose time limits are those of short statements.

    `settings` are of the database, for this connection only; they go before those that stand here.
    """
    wanted = settings_of(
        application,
        READONLY_ROLE,
        {
            "statement_timeout": STATEMENT_LIMIT,
            "lock_timeout": "5s",
            "idle_in_transaction_session_timeout": "0",  # whoever reads may be slow with what it has read
            "work_mem": WORK_MEMORY,
            "jit": "off",  # compiling takes longer than all that it could save here
            "max_parallel_workers_per_gather": "0",  # rows that are fetched in chunks are never made in parallel
            **settings,
        },
    )
    connection = await connect(
        dsn,
        command_timeout=STATEMENT_SECONDS,
        server_settings=wanted,
    )
    try:
        await prepare(connection, wanted)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield connection
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def chunks(
    connection: asyncpg.Connection, query: str, *arguments: Any
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield the rows of a query, `CHUNK_ROWS` at a time, and hold no more of them."""
    cursor = await connection.cursor(query, *arguments)
    while rows := await cursor.fetch(CHUNK_ROWS):
        yield rows
