"""Bringing a database to the newest revision of the schema."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from wallet_worker.store.database import CONNECT_SECONDS
from wallet_worker.store.errors import translate_errors
from wallet_worker.store.privileges import all_roles, statements
from wallet_worker.store.requirements import Grade, Stage, UnmetError, check, check_but_revision, unmet
from wallet_worker.store.schema_version import known_revisions, why_not_current
from wallet_worker.store.session import SETTINGS, TABLES_IN, quoted

_LOCK_KEY = 7_239_815_604_411
"""Any number that nobody else locks: two migrations at once take turns."""


# A migration takes as long as it takes, whatever limits the login has.
_SETTINGS: Final[Mapping[str, str]] = {
    **SETTINGS,
    "application_name": "wallet migrate",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}


class Revisions(NamedTuple):
    """The revision before and after; absent before the first."""

    before: str | None
    after: str | None


async def migrate(dsn: str) -> Revisions:
    """Leave the database at the newest revision, all or nothing for each revision, with every privilege granted.

    Raises UnmetError before anything is done if the server is not what the wallet needs, and at the end if a role
    still lacks something; or a StoreError.
    """
    found = await check(dsn, Stage.SERVER, waits_for_locks=True)
    if not_met := unmet(found, Grade.REQUIRED) + unmet(found, Grade.WAITED_FOR):
        raise UnmetError(not_met)
    revisions = await _migrated(dsn)
    if not_met := unmet(await check_but_revision(dsn, "owner", waits_for_locks=True), Grade.REQUIRED):
        raise UnmetError(not_met)
    return revisions


async def _migrated(dsn: str) -> Revisions:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=dict(_SETTINGS)),
        poolclass=NullPool,
    )
    try:
        with translate_errors(), _unwrapped():
            async with engine.connect() as connection:
                return await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise the driver's own error, which `mapped` knows, where SQLAlchemy has wrapped it twice."""
    try:
        yield
    except DBAPIError as exc:
        raise (exc.orig and exc.orig.__cause__) or exc from None


def _upgrade(connection: Connection) -> Revisions:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
    connection.commit()
    try:
        schema = _schema(connection)
        before = _revision(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
        _grant(connection, schema)
        connection.commit()
        after = MigrationContext.configure(connection).get_current_revision()
    finally:
        connection.rollback()  # what a failed revision has begun; else the unlocking would fail, and hide why
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
        connection.commit()
    return Revisions(before, after)


def _revision(connection: Connection) -> str | None:
    """Return the revision to migrate from; raises UnmetError for a database that this program cannot migrate."""
    heads = MigrationContext.configure(connection).get_current_heads()
    if not heads and connection.execute(text(TABLES_IN)).scalar():
        msg = (
            "Nothing was done: the wallet's tables are there, and alembic_version says no revision: find out who has "
            "changed it, or restore the database from a backup."
        )
        raise UnmetError([msg])
    revision = " and ".join(sorted(heads)) or None
    if revision not in {None, *known_revisions()}:
        raise UnmetError([f"Nothing was done: {why_not_current(revision, 'program')}."])
    return revision


def _schema(connection: Connection) -> str:
    """Return the schema of the wallet's tables, on which the search path is set: where they are, or the first that is.

    Raises UnmetError where there is none, or where tables cannot be made in it.
    """
    found = connection.execute(text(TABLES_IN)).scalar()
    schema = found or connection.execute(text("SELECT current_schema()")).scalar()
    login = connection.execute(text("SELECT current_user")).scalar()
    if schema is None:
        path = connection.execute(text("SHOW search_path")).scalar()
        msg = (
            f"No schema of the search path ({path}) exists for the login {login}: CREATE SCHEMA wallet AUTHORIZATION "
            f"{quoted(str(login))}, then ALTER DATABASE … SET search_path = wallet."
        )
        raise UnmetError([msg])
    may_create = text("SELECT has_schema_privilege(CAST(:schema AS text), 'CREATE')")
    if not found and not connection.execute(may_create, {"schema": schema}).scalar():
        msg = (
            f"The login {login} may not make tables in the schema {schema}: as its owner, GRANT CREATE ON SCHEMA "
            f"{quoted(schema)} TO {quoted(str(login))}, or CREATE SCHEMA wallet AUTHORIZATION {quoted(str(login))} "
            "and ALTER DATABASE … SET search_path = wallet."
        )
        raise UnmetError([msg])
    connection.execute(text(f"SET search_path TO {quoted(schema)}"))
    connection.commit()
    return str(schema)


def _grant(connection: Connection, schema: str) -> None:
    """Grant again what was granted once, and the use of the schema: somebody may have taken it."""
    for statement in (
        *(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {role}" for role in all_roles()),
        *statements(),
    ):
        with suppress(DBAPIError), connection.begin_nested():
            connection.execute(text(statement))  # what is missing in the end is said by the check


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
