"""The schema's revisions: from nothing to the newest, once, however often and by however many at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic import command

from tests.rules.core.world import result
from tests.servers import Servers
from tests.worker.rig import open_rig
from tests.worker.tables import let_pass
from wallet_worker.store.api_keys import API_ROLE
from wallet_worker.store.database import READONLY_ROLE, WORKER_ROLE, Database
from wallet_worker.store.dead_letters.letters import KEEPER_ROLE, OPERATOR_ROLE
from wallet_worker.store.errors import StoreError
from wallet_worker.store.migrate import Revisions, migrate
from wallet_worker.store.schema_version import current_revision, newest_revision
from wallet_worker.store.webhooks import WEBHOOKS_ROLE

HEAD = newest_revision()


@pytest.fixture
async def empty_url(servers: Servers) -> AsyncIterator[str]:
    """Give a database in which nothing is."""
    async with servers.database() as url:
        yield url


@pytest.fixture
async def connection(empty_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give the owner's connection to it."""
    found = await asyncpg.connect(empty_url, server_settings={"search_path": "wallet, public"})
    yield found
    await found.close()


_CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, identity_generation
        FROM information_schema.columns WHERE table_schema = 'wallet' ORDER BY 1, 2""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'wallet'::regnamespace ORDER BY 1, 2""",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'wallet' ORDER BY 1",
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2""",
    "privileges": """
        SELECT relname, relacl::text, reloptions::text
        FROM pg_class WHERE relnamespace = 'wallet'::regnamespace ORDER BY 1""",
}


async def _catalog(connection: asyncpg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [tuple(row) for row in await connection.fetch(query)] for name, query in _CATALOG.items()}


async def test_from_nothing_to_the_newest_revision(
    empty_url: str, connection: asyncpg.Connection, owner: asyncpg.Connection
) -> None:
    assert await current_revision(connection) is None

    revisions = await migrate(empty_url)

    assert revisions == Revisions(None, HEAD)
    assert await current_revision(connection) == HEAD
    assert await _catalog(connection) == await _catalog(owner)


async def test_migrating_again_changes_nothing(empty_url: str, connection: asyncpg.Connection) -> None:
    await migrate(empty_url)
    before = await _catalog(connection)

    again = await migrate(empty_url)

    assert again == Revisions(HEAD, HEAD)
    assert await _catalog(connection) == before


async def test_two_migrations_at_once_take_turns(empty_url: str, connection: asyncpg.Connection) -> None:
    revisions = await asyncio.gather(*(migrate(empty_url) for _ in range(4)))

    assert sorted(revisions, key=str) == sorted(
        [Revisions(None, HEAD), *([Revisions(HEAD, HEAD)] * 3)], key=str
    )
    assert await current_revision(connection) == HEAD


async def test_a_migration_that_fails_leaves_nothing_and_can_be_run_again(
    empty_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE SCHEMA wallet; CREATE TABLE wallet.orders (somebody_s text)")

    with pytest.raises(StoreError, match='relation "orders" already exists'):
        await asyncio.wait_for(migrate(empty_url), 20)

    assert await current_revision(connection) is None
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'wallet'")
    assert {row[0] for row in tables} <= {"orders", "alembic_version"}
    await connection.execute("DROP TABLE wallet.orders")
    assert await asyncio.wait_for(migrate(empty_url), 20) == Revisions(None, HEAD)


_BEFORE_ORDERS = """
INSERT INTO accounts (kind, account_no, user_id, account_type, currency, status, balance, reserved, line_no,
                      created_at, updated_at)
VALUES ('user', '1111111111111111111', 'u-1', 'basic', 'TWD', 'active', 0, 0, 0, now(), now());
INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
SELECT 'R-' || number, 'order.recharge.v1', decode(repeat('ab', 32), 'hex'), '{}', 'applied', 'OK', '{}', now()
FROM generate_series(1, 4) AS number;
INSERT INTO orders (order_id, serial_no, order_type, account_id, amount, currency, status, code, channel,
                    late, expires_at, transacted_at, created_at, updated_at)
SELECT gen_random_uuid(), n.serial_no, 'recharge', a.account_id, 10000, 'TWD', n.status, 'OK', 'card',
       false, now() + n.until, NULL, now() - interval '3 days', now() - interval '3 days'
FROM accounts a, (VALUES ('R-1', 'pending', interval '1 day'), ('R-2', 'pending', interval '-2 days'),
                         ('R-3', 'failed', interval '1 day'), ('R-4', 'expired', interval '-2 days'))
     AS n (serial_no, status, until)
"""


async def test_recharges_that_wait_are_asked_about_after_the_migration(
    empty_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were made when the wallet did not know how to ask: none is forgotten, and what has ended is as it was."""
    upgrade = command.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        assert await migrate(empty_url) == Revisions(None, "0001")
    await connection.execute(_BEFORE_ORDERS)
    before = [tuple(row) for row in await connection.fetch("SELECT * FROM orders ORDER BY serial_no")]

    assert await migrate(empty_url) == Revisions("0001", HEAD)

    after = await connection.fetch("SELECT * FROM orders ORDER BY serial_no")
    assert [tuple(row)[: len(before[0])] for row in after] == before
    assert [row["due_at"] is not None for row in after] == [True, True, False, False]
    assert {row["asked"] for row in after} == {0}
    async with open_rig(empty_url) as wallet:
        await let_pass(connection, timedelta(minutes=1))
        await wallet.sweep()
        await wallet.settle(result(payment_order_no="R-1"))
    found = await connection.fetch("SELECT status, asked, due_at IS NULL FROM orders ORDER BY serial_no")
    assert [tuple(row) for row in found] == [
        ("succeeded", 1, True),
        ("expired", 1, True),
        ("failed", 0, True),
        ("expired", 0, True),
    ]


async def test_a_database_without_revisions_says_so(connection: asyncpg.Connection) -> None:
    assert await current_revision(connection) is None
    await connection.execute("CREATE TABLE alembic_version (version_num varchar(32) NOT NULL)")
    assert await current_revision(connection) is None


async def test_a_database_of_another_revision_says_which(
    connection: asyncpg.Connection, empty_url: str
) -> None:
    await migrate(empty_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")

    assert await current_revision(connection) == "9999" != newest_revision()


async def test_the_worker_may_read_the_revision(migrated_url: str, database_url: str) -> None:
    assert migrated_url != database_url
    for role in (WORKER_ROLE, READONLY_ROLE, OPERATOR_ROLE, KEEPER_ROLE, API_ROLE, WEBHOOKS_ROLE):
        database = Database(database_url, role=role, application="wallet tests")
        await database.open()
        async with database.connection() as found:
            assert await current_revision(found) == HEAD
        await database.close()


async def test_a_migrator_that_is_no_superuser_can_run_everything_under_its_own_login(
    empty_url: str, connection: asyncpg.Connection
) -> None:
    """As on a managed PostgreSQL. From 16 on, who makes a role may administrate it and not yet be it."""
    parts = urlsplit(empty_url)
    name = f"migrator_{parts.path.rpartition('_')[2]}"
    option = "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
    if await connection.fetchval("SELECT current_setting('server_version_num')::int < 160000"):
        option = "WITH ADMIN OPTION"
    url = urlunsplit(parts._replace(netloc=f"{name}:secret@{parts.netloc.rpartition('@')[2]}"))
    await connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'secret'")
    await connection.execute(
        f"GRANT {WORKER_ROLE}, {READONLY_ROLE}, {OPERATOR_ROLE}, {KEEPER_ROLE}, {API_ROLE}, {WEBHOOKS_ROLE} "
        f"TO {name} {option}"
    )
    await connection.execute(f'GRANT CREATE ON DATABASE "{parts.path.removeprefix("/")}" TO {name}')
    try:
        assert await migrate(url) == Revisions(None, HEAD)
        for role in (WORKER_ROLE, READONLY_ROLE, OPERATOR_ROLE, KEEPER_ROLE):
            database = Database(url, role=role, application="wallet tests")
            await database.open()
            await database.close()
    finally:
        await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
