"""The wallet's tables are in a schema of their own: moved there, and beside other applications; and whose they are."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection, text

from tests.audit import ledger
from tests.rules.core.world import open_account, recharge, result
from tests.servers import Servers
from tests.worker.rig import open_rig
from wallet_worker.audit.report import audit
from wallet_worker.store import migrate as migrate_module
from wallet_worker.store.database import WORKER_ROLE, Database
from wallet_worker.store.errors import UnavailableError
from wallet_worker.store.migrate import Revisions, migrate
from wallet_worker.store.requirements import Grade, UnmetError, check, unmet
from wallet_worker.store.schema_version import newest_revision
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health


@pytest.fixture
async def empty_url(servers: Servers) -> AsyncIterator[str]:
    """Give a database in which nothing is."""
    async with servers.database() as url:
        yield url


def _old_schema(connection: Connection) -> str:
    """Have the tables made where the releases before revision 0008 made them."""
    connection.execute(text("SET search_path TO public"))
    connection.commit()
    return "public"


async def _as_of_0007(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = command.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0007"))
        patched.setattr(migrate_module, "_schema", _old_schema)
        with suppress(UnmetError):  # of what is newer
            await migrate(url)


async def _rows(connection: asyncpg.Connection, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    return {
        name: sorted(
            (tuple(row) for row in await connection.fetch(f'SELECT * FROM {schema}."{name}"')),  # noqa: S608
            key=str,
        )
        for (name,) in tables
        if name != "alembic_version"
    }


async def test_tables_of_an_older_release_are_moved_out_of_public_with_their_rows(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _as_of_0007(empty_url, monkeypatch)
    owner = await asyncpg.connect(empty_url)
    await owner.execute("CREATE TABLE settings (of_another text); INSERT INTO settings VALUES ('stays')")
    await ledger.write(owner)
    before = await _rows(owner, "public")

    assert await migrate(empty_url) == Revisions("0007", newest_revision())

    after = await _rows(owner, "wallet")
    moved = before.keys() - {"settings"}
    columns = {name: len(rows[0]) for name, rows in before.items() if rows}
    assert {name: [row[: columns[name]] for row in after[name]] for name in moved if before[name]} == {
        name: before[name] for name in moved if before[name]
    }
    assert await _rows(owner, "public") == {"settings": [("stays",)]}
    functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    assert await owner.fetchval(functions) == 0
    assert unmet(await check(empty_url), Grade.REQUIRED) == []
    async with open_rig(empty_url) as wallet:
        await wallet.settle(open_account(user_id="u-new", serial_no="O-new"))
        await wallet.settle(recharge(user_id="u-new", serial_no="R-new"))
        await wallet.settle(result(payment_order_no="R-new"))
    assert await owner.fetchval("SELECT status FROM wallet.orders WHERE serial_no = 'R-new'") == "succeeded"
    assert (await audit(empty_url, shown_max=5)).clean
    assert (await migrate(empty_url)).before == newest_revision()
    await owner.close()


async def test_a_process_that_runs_while_the_tables_are_moved_waits_and_goes_on(
    database_url: str, owner: asyncpg.Connection
) -> None:
    database = Database(database_url, role=WORKER_ROLE, application="wallet tests")
    await database.open()

    async def work() -> None:
        async with database.transaction() as connection:
            assert await connection.fetchval("SELECT count(*) FROM commands") == 0

    await work()
    await owner.execute(
        "ALTER SCHEMA wallet RENAME TO elsewhere; GRANT USAGE ON SCHEMA elsewhere TO wallet_worker"
    )

    with pytest.raises(UnavailableError, match='relation "commands" does not exist'):
        await work()
    assert await Waiting("database", database, Health()).done(work)
    await database.close()


async def test_another_application_of_the_database_is_left_alone(empty_url: str) -> None:
    """It has tables of the same names, and a history of its own with the same tool."""
    owner = await asyncpg.connect(empty_url)
    await owner.execute(
        """
        CREATE TABLE alembic_version (version_num varchar(32) NOT NULL);
        INSERT INTO alembic_version VALUES ('0001');
        CREATE TABLE orders (of_a_shop text);
        CREATE TABLE commands (of_a_robot text);
        """
    )

    assert await migrate(empty_url) == Revisions(None, newest_revision())

    assert await owner.fetchval("SELECT version_num FROM public.alembic_version") == "0001"
    assert await owner.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 3
    await owner.close()
    database = Database(empty_url, role=WORKER_ROLE, application="wallet tests")
    await database.open()
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM commands WHERE serial_no = ''") == 0
        assert await connection.fetchval("SHOW search_path") == "wallet, pg_temp"
    await database.close()


async def test_a_temporary_table_takes_the_place_of_no_table(database_url: str) -> None:
    database = Database(database_url, role=WORKER_ROLE, application="wallet tests")
    await database.open()
    async with database.connection() as connection:
        await connection.execute("CREATE TEMPORARY TABLE commands (serial_no text)")
        assert await connection.fetchval("SELECT 'commands'::regclass = 'wallet.commands'::regclass")
    await database.close()


@pytest.mark.parametrize(
    ("table", "trigger"),
    [("entries", "the ledger is append-only"), ("dead_letter_audit", "the audit is append-only")],
)
async def test_not_even_a_session_without_triggers_changes_what_is_append_only(
    owner: asyncpg.Connection, table: str, trigger: str
) -> None:
    await owner.execute("SET session_replication_role = replica")

    for attempt in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):  # noqa: S608 -- names of ours
        with pytest.raises(asyncpg.RestrictViolationError, match=trigger):
            await owner.execute(attempt)


# Logins


@pytest.fixture
async def logins(empty_url: str) -> AsyncIterator[tuple[asyncpg.Connection, dict[str, str]]]:
    """Give a superuser's connection, and addresses by the names of fresh logins."""
    admin = await asyncpg.connect(empty_url)
    parts = urlsplit(empty_url)
    run = parts.path.rpartition("_")[2]
    urls = {}
    for name in ("keeper", "console", "worker", "owner"):
        login = f"{name}_{run}"
        await admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'hush'")
        urls[login] = parts._replace(netloc=f"{login}:hush@{parts.netloc.rpartition('@')[2]}").geturl()
    yield admin, urls
    for login in urls:
        await admin.execute(f"DROP OWNED BY {login} CASCADE; DROP ROLE {login}")
    await admin.close()


async def test_a_login_without_any_power_owns_everything_and_migrates_from_then_on(
    empty_url: str, logins: tuple[asyncpg.Connection, dict[str, str]]
) -> None:
    admin, urls = logins
    (owner,) = (name for name in urls if name.startswith("owner"))

    await migrate(empty_url, owner=owner)

    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'wallet'"
    assert [row[0] for row in await admin.fetch(owners)] == [owner]
    assert (await migrate(urls[owner])).before == newest_revision()
    assert unmet(await check(urls[owner], process="owner"), Grade.REQUIRED) == []
    told = [found.requirement.name for found in await check(urls[owner], process="owner") if not found.is_met]
    assert "no superuser" not in told
    mine = await asyncpg.connect(urls[owner])
    assert await mine.fetchval("SELECT count(*) FROM orders") == 0
    with pytest.raises(asyncpg.RestrictViolationError):
        await mine.execute("DELETE FROM entries")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await mine.execute("SET session_replication_role = replica")
    await mine.close()


async def test_a_superuser_is_no_owner(empty_url: str) -> None:
    with pytest.raises(UnmetError, match="The login postgres is a superuser"):
        await migrate(empty_url, owner="postgres")
    with pytest.raises(UnmetError, match='CREATE ROLE "nobody_there" LOGIN'):
        await migrate(empty_url, owner="nobody_there")


async def test_each_login_has_the_roles_of_its_process_and_no_other(
    empty_url: str, logins: tuple[asyncpg.Connection, dict[str, str]]
) -> None:
    """As of an older release, whose migrations gave a worker's login the roles of a keeper and of the API too."""
    admin, urls = logins
    names = {name.partition("_")[0]: name for name in urls}
    await migrate(empty_url)
    await admin.execute(f"GRANT wallet_worker, wallet_operator, wallet_api TO {names['worker']}")

    await migrate(
        empty_url,
        owner=names["owner"],
        logins={names["worker"]: "worker-without-keeper", names["console"]: "console"},
    )

    members = """
        SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
        WHERE m.member = $1::regrole ORDER BY 1
    """
    found = {name: [row[0] for row in await admin.fetch(members, login)] for name, login in names.items()}
    assert found["worker"] == ["wallet_readonly", "wallet_worker"]
    assert found["console"] == ["wallet_operator", "wallet_readonly"]
    assert found["keeper"] == []
    with pytest.raises(UnmetError, match="There is no login nobody_there"):
        await migrate(empty_url, logins={"nobody_there": "worker"})
