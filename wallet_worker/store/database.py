"""One pool of connections, with a time limit on everything that could wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import asyncpg
from asyncpg.transaction import Transaction

from wallet_worker.store import replication
from wallet_worker.store.errors import (
    CommitUnknownError,
    UnavailableError,
    UnfitError,
    translate_errors,
    waited_for,
)
from wallet_worker.store.servers import CONNECT_SECONDS, servers_of
from wallet_worker.store.session import prepare, settings_of

STATEMENT_SECONDS = 20
STATEMENT_SECONDS_SHORT = 8
"""For those whose statements take milliseconds: a server that falls silent is given up soon."""

SILENCE_SECONDS = 2.0
"""How much longer a statement may take before the server counts as silent: it speaks first while it can."""

COMMAND_SECONDS = STATEMENT_SECONDS + SILENCE_SECONDS
ROLLBACK_SECONDS = 1.0  # a server that does not roll back in time rolls back when the connection is closed
ACQUIRE_SECONDS = 10.0
POOL_SIZE_MAX = 6  # the batch, the relay, the sweeper, and three for queries

WORKER_ROLE = "wallet_worker"
READONLY_ROLE = "wallet_readonly"

_LIMITS = {
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",  # a stopped worker's locks do not outlive this
}


class Database:
    """A pool that connects when it is first used, under one role, to the primary of the servers that `dsn` names.

    Every failure comes out as one of `store.errors`; none is retried here.
    """

    def __init__(
        self,
        dsn: str,
        *,
        role: str,
        application: str,
        size_max: int = POOL_SIZE_MAX,
        statement_seconds: int = STATEMENT_SECONDS,
    ) -> None:
        self._dsn = dsn
        self._servers = servers_of(dsn)
        self._generation = 0
        self._size_max = size_max
        self._command_seconds = statement_seconds + SILENCE_SECONDS
        limits = {"statement_timeout": f"{statement_seconds}s", **_LIMITS}
        self._settings = settings_of(application, role, limits)
        self._schema: str | None = None
        self._pool: asyncpg.Pool | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Connect once, so that a wrong address or password is said at once; raises UnavailableError."""
        with waited_for():
            if self._pool is None or self._is_closed:  # who tries again leaves no pools behind
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._size_max,
                    connect=self._servers.connect,
                    command_timeout=self._command_seconds,
                    server_settings=self._settings,
                    init=self._prepare,
                    reset=_keep,
                )
                self._is_closed = False
            async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
                await connection.execute("SELECT 1")

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        """Set each new session as the wallet needs it, with the tables that the first session found."""
        self._schema = await prepare(connection, self._settings, self._schema)

    async def close(self) -> None:
        """Leave no connection open, also if the server no longer answers."""
        if self._pool is None:
            return
        self._is_closed = True
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection outside any transaction."""
        if self._pool is None:
            msg = "the database was not opened"
            raise RuntimeError(msg)
        if self._generation != self._servers.generation:  # another pool has seen a failover
            self._generation = self._servers.generation
            await self._pool.expire_connections()
        with translate_errors():
            async with AsyncExitStack() as stack:
                with waited_for():
                    connection = await stack.enter_async_context(self._pool.acquire(timeout=ACQUIRE_SECONDS))
                try:
                    # A proxy that gives the connection back; its type says less than it can.
                    yield cast("asyncpg.Connection", connection)
                except BaseException as exc:
                    if _is_silence(exc):
                        connection.terminate()  # to give it back would wait for a cancel that nobody answers
                    raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection inside a transaction, READ COMMITTED; committed on return, else rolled back.

        Raises CommitUnknownError where the commit may or may not have happened; after any other error, it has not.
        """
        async with self.connection() as connection, committed(connection):
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.Connection]:
        """Give a connection that sees one state of the database, whatever commits meanwhile, and only reads."""
        async with (
            self.connection() as connection,
            _begun(connection, connection.transaction(isolation="repeatable_read", readonly=True)),
        ):
            yield connection

    async def forget_connections(self) -> None:
        """Expire the connections, so that later calls connect anew: after a failover they lead to the old primary."""
        self._servers.doubt()
        if self._pool is not None:
            await self._pool.expire_connections()


@asynccontextmanager
async def committed(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Give a transaction of a connection, READ COMMITTED; committed on return, else rolled back.

    Raises CommitUnknownError where the database was lost during the commit.
    """
    done = False
    try:
        async with _begun(connection, connection.transaction()):
            yield
            done = True
    except UnavailableError as exc:
        # After a sentence of the server's that it is not fit, it has rolled back.
        if not done or isinstance(exc, UnfitError):
            raise
        raise CommitUnknownError(str(exc)) from exc


@asynccontextmanager
async def _begun(connection: asyncpg.Connection, transaction: Transaction) -> AsyncIterator[None]:
    """Give a transaction that is committed on return, else rolled back.

    That it cannot begin, or be committed, is no message's fault.
    """
    with waited_for():
        await transaction.start()
    try:
        yield
    except BaseException as exc:
        if _is_silence(exc):
            connection.terminate()
        else:
            await _roll_back(connection, transaction)
        raise
    with waited_for():
        await replication.commit(connection, transaction)


async def _roll_back(connection: asyncpg.Connection, transaction: Transaction) -> None:
    """Roll back, or close the connection of a server that does not answer."""
    closing = asyncio.get_running_loop().call_later(ROLLBACK_SECONDS, connection.terminate)
    try:
        await transaction.rollback()
    finally:
        closing.cancel()


def _is_silence(exc: BaseException | None) -> bool:
    """Return whether an error came of waiting for the server, and not from it."""
    while exc is not None:
        if isinstance(exc, TimeoutError):
            return True
        exc = exc.__cause__
    return False


async def _keep(_: asyncpg.Connection) -> None:
    """Return a connection to the pool as it is: nobody here changes a session, and a reset is a round trip."""
