"""Whatever the driver raises comes out as one of the four kinds that the wallet acts on."""

import asyncio
import socket
from typing import Any

import asyncpg
import pytest

from tests.servers import Servers
from tests.servers.ports import free_ports
from wallet_worker.store.database import READONLY_ROLE, WORKER_ROLE, Database
from wallet_worker.store.errors import (
    ConflictError,
    InvariantBrokenError,
    StatementRejectedError,
    StoreError,
    UnavailableError,
    UnfitError,
    translate_errors,
)

A_USER = """
INSERT INTO accounts (kind, account_no, user_id, account_type, currency, status,
                      balance, reserved, line_no, created_at, updated_at)
VALUES ('user', $1, $2, 'basic', 'TWD', 'active', $3, 0, 0, now(), now())
"""


async def _execute(database: Database, statement: str, *arguments: Any, first: str = "SELECT 1") -> None:
    async with database.transaction() as connection:
        await connection.execute(first)
        await connection.execute(statement, *arguments)


async def _raised(database: Database, statement: str, *arguments: Any, first: str = "SELECT 1") -> StoreError:
    """Return what a transaction of one statement, and perhaps one before it, ends with."""
    with pytest.raises(StoreError) as raised:
        await _execute(database, statement, *arguments, first=first)
    return raised.value


# By constraint


async def test_a_race_for_an_account_is_lost_by_the_name_of_its_constraint(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(A_USER, "1" * 19, "u-1", 0)

    same_key = await _raised(database, A_USER, "2" * 19, "u-1", 0)
    same_number = await _raised(database, A_USER, "1" * 19, "u-2", 0)

    for raised, constraint in ((same_key, "accounts_open_key"), (same_number, "accounts_account_no_key")):
        assert type(raised) is ConflictError
        assert constraint in str(raised)
    assert isinstance(same_key.__cause__, asyncpg.UniqueViolationError)


async def test_another_unique_violation_is_no_race(database: Database) -> None:
    outbox = "INSERT INTO outbox VALUES ($1, '', '', NULL, NULL, NULL, '', 0, now(), now())"
    message_id = "019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e"
    async with database.transaction() as connection:
        await connection.execute(outbox, message_id)

    refused = await _raised(database, outbox, message_id)

    assert type(refused) is StatementRejectedError
    assert "outbox_pkey" in str(refused)


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        (A_USER, ("1" * 19, "u-1", -1)),  # a CHECK
        (A_USER, ("1" * 19, "u\0", 0)),  # what PostgreSQL cannot store
        (A_USER, ("1" * 19, "u\ud800", 0)),  # what the driver cannot encode
        (A_USER, ("1" * 19, "u-1", 2**63)),  # what does not fit
        ("SELECT 1 / 0", ()),
        ("INSERT INTO entries SELECT 1, 1, gen_random_uuid(), 'credit', 1, 0, 1, now()", ()),  # a foreign key
    ],
)
async def test_what_no_repetition_mends_is_refused(
    database: Database, statement: str, arguments: tuple[object, ...]
) -> None:
    assert type(await _raised(database, statement, *arguments)) is StatementRejectedError


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1 FROM no_such_table",
        "SELECT no_such_column FROM accounts",
        "UPDATE entries SET amount = 1",  # the worker has no privilege for this
        "SELECT no_such_function()",
        "SELECT 1 FROM no_such_schema.accounts",
    ],
)
async def test_a_database_that_is_not_the_one_we_were_written_for_is_waited_for(
    database: Database, statement: str
) -> None:
    assert type(await _raised(database, statement)) is UnfitError


async def test_a_statement_that_no_schema_can_mend_is_our_bug(database: Database) -> None:
    assert type(await _raised(database, "SELEC 1")) is InvariantBrokenError


# Locks


async def test_a_lock_that_is_not_given_in_time_is_a_lost_race(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    async with database.transaction() as connection:
        await connection.execute(A_USER, "1" * 19, "u-1", 0)

    async with sweeper.transaction():
        await sweeper.execute("SELECT FROM accounts FOR UPDATE")
        lost = await _raised(database, "SELECT FROM accounts FOR UPDATE", first="SET LOCAL lock_timeout = 50")

    assert type(lost) is ConflictError
    assert str(lost) == (
        "a lock was not given in time: canceling statement due to lock timeout (SQLSTATE 55P03)"
    )


async def test_a_deadlock_is_a_lost_race_for_one_and_no_matter_for_the_other(
    database: Database,
) -> None:
    async with database.transaction() as connection:
        await connection.execute(A_USER, "1" * 19, "u-1", 0)
        await connection.execute(A_USER, "2" * 19, "u-2", 0)
    lock = "SELECT FROM accounts WHERE user_id = $1 FOR UPDATE"
    both_hold_one = asyncio.Barrier(2)

    async def take(first: str, then: str) -> None:
        async with database.transaction() as connection:
            await connection.execute(lock, first)
            await both_hold_one.wait()
            await connection.execute(lock, then)

    ended = await asyncio.gather(take("u-1", "u-2"), take("u-2", "u-1"), return_exceptions=True)

    (lost,) = (item for item in ended if item is not None)
    assert type(lost) is ConflictError
    assert "deadlock detected" in str(lost)


async def test_a_serialization_failure_is_a_lost_race(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(A_USER, "1" * 19, "u-1", 0)

    async def change_what_another_has_changed_since() -> None:
        async with database.connection() as connection, connection.transaction(isolation="repeatable_read"):
            await connection.execute("SELECT FROM accounts")
            await _execute(database, "UPDATE accounts SET balance = 1")
            await connection.execute("UPDATE accounts SET balance = 2")

    with pytest.raises(ConflictError, match="could not serialize access"):
        await change_what_another_has_changed_since()


# Away


async def test_nobody_listening_is_unavailable(shared_url: str) -> None:
    (port,) = free_ports(1)
    credentials, _, rest = shared_url.rpartition("@")
    nowhere = f"{credentials}@127.0.0.1:{port}/{rest.rpartition('/')[2]}"

    with pytest.raises(UnavailableError):
        await Database(nowhere, role=WORKER_ROLE, application="wallet tests").open()


async def test_somebody_listening_who_does_not_answer_is_unavailable(
    shared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallet_worker.store.database.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{shared_url.rpartition('@')[0]}@127.0.0.1:{mute.getsockname()[1]}/wallet"

        with pytest.raises(UnavailableError):
            await Database(url, role=WORKER_ROLE, application="wallet tests").open()


async def test_a_wrong_password_and_a_database_that_is_not_there_are_unavailable(servers: Servers) -> None:
    user = servers.database_url.partition("//")[2].partition(":")[0]
    host = servers.database_url.rpartition("@")[2]
    wrong_password = f"postgresql://{user}:wrong@{host}"
    no_database = servers.database_url.rpartition("/")[0] + "/no_such_database"

    for url in (wrong_password, no_database):
        with pytest.raises(UnavailableError):
            await Database(url, role=WORKER_ROLE, application="wallet tests").open()


async def test_a_statement_that_takes_too_long_is_unavailable(database: Database) -> None:
    raised = await _raised(database, "SELECT pg_sleep(30)", first="SET LOCAL statement_timeout = 50")

    assert type(raised) is UnavailableError
    assert "the server has cancelled a statement" in str(raised)


async def test_a_server_that_falls_silent_is_unavailable(database: Database) -> None:
    with pytest.raises(UnavailableError, match="the database does not answer in time"):
        async with database.connection() as connection:
            await connection.execute("SELECT pg_sleep(30)", timeout=0.1)


async def test_a_transaction_that_was_left_alone_too_long_is_unavailable(database: Database) -> None:
    async def say_nothing_until_the_server_ends_it() -> None:
        closed = asyncio.Event()
        async with database.transaction() as connection:
            connection.add_termination_listener(lambda _: closed.set())
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 20")
            await asyncio.wait_for(closed.wait(), 10)

    with pytest.raises(UnavailableError):
        await say_nothing_until_the_server_ends_it()


async def test_a_read_only_database_is_unavailable(database: Database) -> None:
    raised = await _raised(database, A_USER, "1" * 19, "u-1", 0, first="SET LOCAL transaction_read_only = on")

    assert type(raised) is UnavailableError
    assert "the database is read-only" in str(raised)


@pytest.mark.parametrize("turns", range(7))
async def test_a_connection_that_the_server_has_ended_is_unavailable_at_whatever_moment(
    database: Database, sweeper: asyncpg.Connection, turns: int
) -> None:
    """The driver speaks differently of it before, while and after it reads why; each time, the next is good."""
    for _ in range(10):
        async with database.connection() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
        await sweeper.execute("SELECT pg_terminate_backend($1)", pid)
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            async with database.transaction() as connection:
                await connection.execute("SELECT 1")
        except UnavailableError:
            await database.forget_connections()
        async with database.transaction() as connection:
            await connection.execute("SELECT 1")


# The driver's own tree


def _all(kind: type[BaseException]) -> list[type[BaseException]]:
    return [kind, *(item for child in kind.__subclasses__() for item in _all(child))]


@pytest.mark.parametrize(
    "kind",
    [
        *_all(asyncpg.PostgresError),
        *_all(asyncpg.InterfaceError),
        *_all(asyncpg.InternalClientError),
        OSError,
        TimeoutError,
    ],
)
def test_no_error_of_the_driver_passes_unmapped(kind: type[BaseException]) -> None:
    with pytest.raises(StoreError), translate_errors():
        raise kind("as the driver would say")


def test_what_is_ours_passes_as_it_is() -> None:
    for kind in (
        UnavailableError,
        ConflictError,
        StatementRejectedError,
        InvariantBrokenError,
        KeyError,
        asyncio.CancelledError,
    ):
        with pytest.raises(kind), translate_errors():
            raise kind("said")


async def test_each_role_is_the_one_that_was_asked_for(shared_url: str) -> None:
    for role in (WORKER_ROLE, READONLY_ROLE):
        found = Database(shared_url, role=role, application="wallet tests")
        await found.open()
        async with found.connection() as connection:
            assert await connection.fetchval("SELECT current_user") == role
        await found.close()


async def test_a_snapshot_sees_one_state_and_writes_nothing(database: Database) -> None:
    async with database.snapshot() as seen:
        assert await seen.fetchval("SELECT count(*) FROM accounts") == 0
        async with database.transaction() as connection:
            await connection.execute(A_USER, "1" * 19, "u-1", 0)
        assert await seen.fetchval("SELECT count(*) FROM accounts") == 0

    with pytest.raises(UnavailableError, match="the database is read-only"):
        async with database.snapshot() as seen:
            await seen.execute(A_USER, "2" * 19, "u-2", 0)


async def test_a_database_that_was_not_opened_says_so(shared_url: str) -> None:
    with pytest.raises(RuntimeError, match="not opened"):
        async with Database(shared_url, role=WORKER_ROLE, application="wallet tests").connection():
            pass


async def test_every_session_has_its_time_limits(database: Database) -> None:
    async with database.connection() as connection:
        found = {
            name: await connection.fetchval("SELECT current_setting($1)", name)
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        }

    assert found == {
        "statement_timeout": "20s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "30s",
    }
