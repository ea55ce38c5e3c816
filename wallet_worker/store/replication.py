"""That what is acknowledged for a commit is on the synchronous standby, too.

A commit waits for the standby only if its transaction has written something to the log. One that has only read commits
at once, also if it has read a row that the standby does not have: the wait of whoever wrote that row was cut off, and
PostgreSQL shows it to everybody.
"""

import asyncio
from contextlib import suppress
from typing import Final

import asyncpg
from asyncpg.transaction import Transaction

from wallet_worker.store.errors import UnavailableError

COMMIT_SECONDS: Final = 9.0
"""How long a commit may take, the standby's confirm with it; below the driver's limit, which would cancel it."""

# Transactional, and so as durable as a row would be. No table is touched, and no privilege is needed.
_RECORD: Final = "SELECT pg_logical_emit_message(true, 'wallet', '')"


async def write_record(connection: asyncpg.Connection) -> None:
    """Make the commit of a transaction wait for the standby, though nothing was written.

    It then confirms what the transaction has read, too: the log is confirmed in order.
    """
    await connection.execute(_RECORD)


async def commit(connection: asyncpg.Connection, transaction: Transaction) -> None:
    """Commit, and return when the server and its synchronous standby have it; raises UnavailableError.

    The wait is never cancelled, neither by a time limit nor with the task: a cancelled wait shows rows that the
    standby does not have. The connection is closed instead, and the server goes on waiting with nobody looking.
    """
    warnings: list[str] = []

    def note(_: object, message: asyncpg.PostgresLogMessage) -> None:
        warnings.append(message.message)

    connection.add_log_listener(note)
    closing = asyncio.get_running_loop().call_later(COMMIT_SECONDS, connection.terminate)
    try:
        await transaction.commit()
    except asyncio.CancelledError:
        connection.terminate()  # before the driver's own cancel is on its way
        raise
    finally:
        closing.cancel()
        with suppress(asyncpg.InterfaceError):  # it was closed
            connection.remove_log_listener(note)
    if warnings:  # somebody has cancelled the wait at the server
        connection.terminate()
        msg = f"the commit may not be on the standby: {warnings[0]}"
        raise UnavailableError(msg)
