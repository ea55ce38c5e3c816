"""What the server must be: looked at before anything is done, said in sentences, and met by what is set up in order."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.cli.terminal import wallet_process
from tests.servers import Servers
from tests.servers.pgbouncer import PgBouncer, ensure_available
from tests.servers.ports import free_ports
from tests.servers.private import Folder
from tests.workers import Workers
from wallet_worker.cli.exits import Exit
from wallet_worker.store import requirements
from wallet_worker.store.database import WORKER_ROLE, Database
from wallet_worker.store.errors import UnavailableError
from wallet_worker.store.migrate import migrate
from wallet_worker.store.requirements import (
    REQUIREMENTS,
    Grade,
    Stage,
    UnmetError,
    check,
    ready_to_start,
    unmet,
)


class Harm(NamedTuple):
    """What makes a requirement unmet, and words of its sentence. `{database}` is the database's name."""

    statements: tuple[str, ...]
    says: str
    undo: tuple[str, ...] = ()


HARMS = {
    "triggers fire": Harm(
        ("ALTER DATABASE {database} SET session_replication_role = replica",),
        "session_replication_role = replica",
    ),
    "writable": Harm(
        ("ALTER DATABASE {database} SET default_transaction_read_only = on",), "read-only by default"
    ),
    "enough connections": Harm(("ALTER DATABASE {database} CONNECTION LIMIT 5",), "leaves 5 connections"),
    "revision": Harm(("UPDATE alembic_version SET version_num = '0000'",), "revision 0000"),
    "use of the schema": Harm(
        (
            "REVOKE ALL ON SCHEMA wallet FROM PUBLIC",
            "REVOKE ALL ON SCHEMA wallet FROM wallet_worker, wallet_readonly, wallet_operator, wallet_keeper",
        ),
        "may not use the schema wallet",
    ),
    "nobody else's names": Harm(
        ("GRANT CREATE ON SCHEMA wallet TO PUBLIC",), "PUBLIC may create in the schema wallet"
    ),
    "privileges of the roles": Harm(
        ("REVOKE INSERT ON commands FROM wallet_worker",), "INSERT on commands to wallet_worker"
    ),
    "functions of the roles": Harm(
        ("ALTER FUNCTION dead_letter_execute SET search_path = public",),
        "The function dead_letter_execute does not look at the wallet's schema alone",
    ),
    "no other privileges": Harm(
        ("GRANT INSERT ON dead_letter_audit TO wallet_operator",),
        "INSERT on dead_letter_audit by wallet_operator",
    ),
    "no row security": Harm(
        ("ALTER TABLE entries ENABLE ROW LEVEL SECURITY",), "Row security is on for entries"
    ),
    "append-only triggers": Harm(
        # As it was up to revision 0007: it slept in a session that is a replica's.
        ("ALTER TABLE entries ENABLE TRIGGER entries_append_only",),
        "keeps entries append-only does not fire in every session",
    ),
}
ELSEWHERE = {
    "a direct connection",  # below, behind a real pooler
    "encoding UTF8",  # below, of a LATIN1 database
    "roles of the login",  # below, of a login that may be nobody
    "confirmed is on the disk",  # below: the tests' own server is without fsync
    "no superuser",  # as the tests are
    f"PostgreSQL {requirements.VERSION_MIN} or newer",  # of a server that is not here: below, by another bound
    "a version that is tested",
    "collation as it was",
    # In test_schema_check.py, each in several ways.
    *(f"every {part}" for part in ("table", "column", "constraint", "trigger", "unique index", "index")),
}


OF_THE_TESTS = {"confirmed is on the disk", "no superuser"}
"""What the tests' own server and login do not meet."""


def _name(url: str) -> str:
    return f'"{urlsplit(url).path.removeprefix("/")}"'


def test_each_requirement_is_unmet_in_a_test() -> None:
    assert {requirement.name for requirement in REQUIREMENTS} == set(HARMS) | ELSEWHERE


async def test_a_migrated_database_lacks_nothing(database_url: str) -> None:
    found = await check(database_url)

    assert [item for item in found if not item.is_met and item.requirement.grade is not Grade.ADVISED] == []


@pytest.mark.parametrize("name", HARMS)
async def test_what_is_missing_is_said_and_nothing_else(
    database_url: str, owner: asyncpg.Connection, name: str
) -> None:
    for statement in HARMS[name].statements:
        await owner.execute(statement.format(database=_name(database_url)))

    found = await check(database_url)

    not_met = {item.requirement.name for item in found if item.sentences} - OF_THE_TESTS
    assert not_met == {name}
    (sentence, *_) = (item.sentences[0] for item in found if item.requirement.name == name)
    assert HARMS[name].says in sentence


async def test_what_passes_is_waited_for_and_what_does_not_is_refused(
    database_url: str, owner: asyncpg.Connection
) -> None:
    assert await ready_to_start(database_url, "worker") == ""
    await owner.execute(f"ALTER DATABASE {_name(database_url)} SET default_transaction_read_only = on")
    with pytest.raises(UnavailableError, match="read-only by default"):
        await ready_to_start(database_url, "worker")
    await owner.execute("ALTER TABLE entries ENABLE ROW LEVEL SECURITY")
    assert "Row security is on for entries" in await ready_to_start(database_url, "worker")


@pytest.mark.parametrize(
    ("bound", "value", "name"),
    [
        ("VERSION_MIN", 99, f"PostgreSQL {requirements.VERSION_MIN} or newer"),
        ("VERSION_TESTED_MAX", 9, "a version that is tested"),
        ("_COLLATION", "SELECT '1', '2'", "collation as it was"),
    ],
)
async def test_a_server_of_another_version_is_said(
    database_url: str, monkeypatch: pytest.MonkeyPatch, bound: str, value: object, name: str
) -> None:
    monkeypatch.setattr(requirements, bound, value)

    not_met = {item.requirement.name for item in await check(database_url, Stage.SERVER) if not item.is_met}

    assert not_met == {name, "confirmed is on the disk"}


async def test_a_server_that_may_lose_what_it_confirmed_is_advised_against(database_url: str) -> None:
    advised = unmet(await check(database_url, Stage.SERVER), Grade.ADVISED)

    assert [sentence.partition(" is off")[0] for sentence in advised] == ["fsync", "full_page_writes"]


async def test_a_database_that_cannot_hold_every_text_is_refused_before_anything_is_done(
    servers: Servers,
) -> None:
    admin = await asyncpg.connect(servers.database_url)
    await admin.execute(
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    url = servers.database_url.rpartition("/")[0] + "/latin"
    try:
        ended = await wallet_process("migrate", WALLET_DATABASE_URL=url)
        connection = await asyncpg.connect(url)
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'wallet'")
        await connection.close()
    finally:
        await admin.execute("DROP DATABASE latin WITH (FORCE)")
        await admin.close()

    assert ended.status == Exit.FOUND
    assert ended.err.startswith(
        "wallet: The database latin is encoded in LATIN1, which cannot hold every text"
    )
    assert tables == 0


# Schemas


@pytest.fixture
async def bare_database(servers: Servers) -> AsyncIterator[str]:
    """Give the URL of a database that was never migrated."""
    async with servers.database() as url:
        yield url


async def _works(url: str) -> None:
    """Read and write as the worker does."""
    database = Database(url, role=WORKER_ROLE, application="wallet tests")
    await database.open()
    async with database.transaction() as connection:
        assert await connection.fetchval("SELECT count(*) FROM commands") == 0
        await connection.execute("INSERT INTO suspects VALUES (sha256(''), 1, now())")
        await connection.execute("DELETE FROM suspects")
    await database.close()
    assert await ready_to_start(url, "worker") == ""


@pytest.mark.parametrize(
    "statements",
    [
        ("REVOKE ALL ON SCHEMA public FROM PUBLIC",),
        ("DROP SCHEMA public",),
        ("GRANT ALL ON SCHEMA public TO PUBLIC",),  # as in a cluster that was upgraded from PostgreSQL 14
        ("CREATE SCHEMA books", "ALTER DATABASE {database} SET search_path = books"),
        (
            "DROP SCHEMA public",
            'CREATE SCHEMA "Our Books"',
            "ALTER DATABASE {database} SET search_path = 'Our Books'",
        ),
        ("CREATE SCHEMA postgres",),  # named as the login, so that "$user" of the search path finds it
    ],
    ids=[
        "public closed",
        "no public",
        "public open",
        "a schema of its own",
        "no public at all",
        "the login's schema",
    ],
)
async def test_whatever_the_schema_the_roles_may_use_it_once_it_is_migrated(
    bare_database: str, statements: tuple[str, ...]
) -> None:
    connection = await asyncpg.connect(bare_database)
    for statement in statements:
        await connection.execute(statement.format(database=_name(bare_database)))

    await migrate(bare_database)
    await _works(bare_database)
    await connection.execute(f"ALTER DATABASE {_name(bare_database)} SET search_path = nowhere")
    await _works(bare_database)
    assert (await migrate(bare_database)).before is not None

    await connection.close()


async def test_migrating_again_gives_back_what_was_taken(
    database_url: str, owner: asyncpg.Connection
) -> None:
    for harm in ("privileges of the roles", "use of the schema"):
        for statement in HARMS[harm].statements:
            await owner.execute(statement)

    await migrate(database_url)

    assert await ready_to_start(database_url, "worker") == ""


async def test_a_login_that_may_make_no_schema_is_told_what_to_ask_for(
    bare_database: str,
) -> None:
    owner = await asyncpg.connect(bare_database)
    await owner.execute("CREATE ROLE guest LOGIN PASSWORD 'hush'")
    parts = urlsplit(bare_database)
    url = parts._replace(netloc=f"guest:hush@{parts.netloc.rpartition('@')[2]}").geturl()
    try:
        with pytest.raises(
            UnmetError, match=r'may not make a schema .* CREATE SCHEMA wallet AUTHORIZATION "guest"'
        ):
            await migrate(url)
        await owner.execute("CREATE SCHEMA wallet")
        with pytest.raises(UnmetError, match='GRANT CREATE ON SCHEMA "wallet" TO "guest"'):
            await migrate(url)
    finally:
        await owner.execute("DROP ROLE guest")
        await owner.close()


async def test_a_login_that_may_be_nobody_is_told_which_roles_it_lacks(
    database_url: str, owner: asyncpg.Connection
) -> None:
    await owner.execute("CREATE ROLE stranger LOGIN PASSWORD 'hush'")
    parts = urlsplit(database_url)
    try:
        url = parts._replace(netloc=f"stranger:hush@{parts.netloc.rpartition('@')[2]}").geturl()
        ended = await wallet_process("doctor", "--json", WALLET_DATABASE_URL=url)
        refused = await ready_to_start(url, "worker")
    finally:
        await owner.execute("DROP ROLE stranger")

    assert ended.status == Exit.FOUND
    assert 'GRANT wallet_worker TO \\"stranger\\"' in ended.out
    assert "The login stranger may not be wallet_keeper: as the database's owner, GRANT" in refused


# Sessions


async def test_a_session_is_the_wallet_s_own_whatever_the_defaults_are(
    database_url: str, owner: asyncpg.Connection
) -> None:
    wrong = {
        "default_transaction_isolation": "serializable",
        "synchronous_commit": "off",
        "lock_timeout": "1ms",
        "statement_timeout": "1ms",
        "idle_session_timeout": "1ms",
        "idle_in_transaction_session_timeout": "1ms",
        "search_path": "nowhere",
        "TimeZone": "Asia/Taipei",
        "DateStyle": "SQL, DMY",
        "bytea_output": "escape",
        "row_security": "on",
        "transform_null_equals": "on",
    }
    for name, value in wrong.items():
        await owner.execute(f"ALTER DATABASE {_name(database_url)} SET {name} = '{value}'")

    database = Database(database_url, role=WORKER_ROLE, application="wallet tests")
    await database.open()
    async with database.connection() as connection:
        found = {
            name: await connection.fetchval("SELECT current_setting($1)", name) for name in sorted(wrong)
        }
    await database.close()

    assert found == {
        "DateStyle": "ISO, YMD",
        "TimeZone": "UTC",
        "bytea_output": "hex",
        "default_transaction_isolation": "read committed",
        "idle_in_transaction_session_timeout": "30s",
        "idle_session_timeout": "0",
        "lock_timeout": "5s",
        "row_security": "off",
        "search_path": "wallet, pg_temp",
        "statement_timeout": "20s",
        "synchronous_commit": "on",
        "transform_null_equals": "off",
    }


async def test_stronger_durability_than_the_wallet_s_is_kept(
    database_url: str, owner: asyncpg.Connection
) -> None:
    await owner.execute(f"ALTER DATABASE {_name(database_url)} SET synchronous_commit = remote_apply")

    database = Database(database_url, role=WORKER_ROLE, application="wallet tests")
    await database.open()
    async with database.connection() as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "remote_apply"
    await database.close()


# Poolers

ALL_OF_THEM = (
    "role,statement_timeout,lock_timeout,idle_in_transaction_session_timeout,idle_session_timeout,exit_on_error,"
    "default_transaction_isolation,default_transaction_deferrable,row_security,intervalstyle,bytea_output,"
    "transform_null_equals,array_nulls"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Folder]:
    """Give a folder for poolers; PgBouncer is installed where it is missing."""
    ensure_available(say=lambda _line: None)
    folder = Folder()
    yield folder
    folder.remove()


@pytest.mark.parametrize("ignored", ["", "role", ALL_OF_THEM], ids=["none", "role", "all"])
@pytest.mark.parametrize("mode", ["transaction", "statement", "session"])
async def test_a_pooler_is_refused_in_a_sentence(
    folder: Folder, database_url: str, mode: str, ignored: str
) -> None:
    settings = {"pool_mode": mode, "ignore_startup_parameters": ignored}
    pooler = PgBouncer(folder, server_url=database_url, port=free_ports(1)[0], settings=settings)
    pooler.start()
    try:
        findings = [item for item in await check(pooler.url, Stage.SERVER) if not item.is_met]
        database = Database(pooler.url, role=WORKER_ROLE, application="wallet tests")
        with pytest.raises(UnavailableError, match="direct connection"):
            await database.open()
        await database.close()
        migrated = await wallet_process("migrate", WALLET_DATABASE_URL=pooler.url)
    finally:
        pooler.kill()

    assert findings[0].requirement.name == "a direct connection"
    assert "connect the wallet to PostgreSQL itself" in findings[0].sentences[0]
    assert migrated.status == Exit.FOUND
    assert "Traceback" not in migrated.err


@pytest.mark.parametrize("ignored", ["", ALL_OF_THEM], ids=["none", "all"])
async def test_a_worker_behind_a_pooler_ends_with_a_sentence(
    folder: Folder, workers: Workers, database_url: str, ignored: str
) -> None:
    settings = {"pool_mode": "transaction", "ignore_startup_parameters": ignored}
    pooler = PgBouncer(folder, server_url=database_url, port=free_ports(1)[0], settings=settings)
    pooler.start()
    try:
        worker = await workers.launch(WALLET_DATABASE_URL=pooler.url, WALLET_KEEPER="true")
        status = await asyncio.wait_for(worker.process.wait(), 30)
    finally:
        pooler.kill()

    assert status == 1
    assert "A pooler stands before PostgreSQL" in str(worker.events("worker.cannot_run")[0]["reason"])
    assert "Traceback" not in worker.log()
