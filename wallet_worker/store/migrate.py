"""Bringing a database to the newest revision of the schema."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from wallet_worker.store.errors import CommitUnknownError, UnavailableError, UnfitError, translate_errors
from wallet_worker.store.logins import assign_roles, give_to_owner
from wallet_worker.store.privileges import FUNCTIONS, all_roles, granted, statements
from wallet_worker.store.requirements import Grade, Stage, UnmetError, check, check_but_revision, unmet
from wallet_worker.store.schema_version import (
    NO_REVISION,
    NOTE,
    is_newer,
    known_revisions,
    oldest_program,
    why_not_current,
    works_with_in,
)
from wallet_worker.store.servers import connect
from wallet_worker.store.session import SCHEMA, SETTINGS, TABLES_IN, quoted, search_path

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


_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})


class Revisions(NamedTuple):
    """The revision before and after; absent before the first."""

    before: str | None
    after: str | None


async def migrate(dsn: str, *, owner: str | None = None, logins: Mapping[str, str] = _NOBODY) -> Revisions:
    """Leave the database at the newest revision, all or nothing for each revision, with every privilege granted.

    With `owner`, everything belongs to that login then. `logins` are kinds of processes by the login that each has: it
    has their roles then, and no other of the wallet's. Raises UnmetError before anything is done if the server is not
    what the wallet needs, and at the end if a role still lacks something; or a StoreError.
    """
    found = await check(dsn, Stage.SERVER, waits_for_locks=True)
    if not_met := unmet(found, Grade.REQUIRED) + unmet(found, Grade.WAITED_FOR):
        raise UnmetError(not_met)
    revisions = await _migrated(dsn, owner, logins)
    with _done_before():
        found = await check_but_revision(dsn, "owner", waits_for_locks=True)
    if not_met := unmet(found, Grade.REQUIRED):
        raise UnmetError(not_met)
    return revisions


@contextmanager
def _done_before() -> Iterator[None]:
    """Raise CommitUnknownError where the database is lost after something of the migration may have been committed."""
    try:
        yield
    except UnfitError:
        raise
    except UnavailableError as exc:
        raise CommitUnknownError(str(exc)) from exc


async def _migrated(dsn: str, owner: str | None, logins: Mapping[str, str]) -> Revisions:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(dsn, server_settings=dict(_SETTINGS)),
        poolclass=NullPool,
    )
    try:
        with translate_errors():
            async with engine.connect() as connection:
                with _done_before(), translate_errors(), _unwrapped():
                    return await connection.run_sync(_upgrade, owner, logins)
    finally:
        await engine.dispose()


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise the driver's own error, which `translate_errors` knows, where SQLAlchemy has wrapped it twice."""
    try:
        yield
    except DBAPIError as exc:
        raise (exc.orig and exc.orig.__cause__) or exc from None


def _upgrade(connection: Connection, owner: str | None, logins: Mapping[str, str]) -> Revisions:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
    connection.commit()
    try:
        schema = _schema(connection)
        before = _revision(connection)
        if is_newer(before):
            return Revisions(before, before)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        note = NOTE.format(oldest_program(known_revisions()))
        connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{note}'"))
        connection.commit()
        _grant(connection, schema)
        if owner is not None:
            give_to_owner(connection, schema, owner)
        assign_roles(connection, logins)
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
        raise UnmetError([f"Nothing was done: {NO_REVISION}."])
    revision = " and ".join(sorted(heads)) or None
    if revision not in {None, *known_revisions()}:
        note = connection.execute(text("SELECT obj_description(to_regclass('alembic_version'), 'pg_class')"))
        if why := why_not_current(revision, "program", works_with_in(note.scalar())):
            raise UnmetError([f"Nothing was done: {why}."])
    return revision


def _schema(connection: Connection) -> str:
    """Return the schema of the wallet's tables, on which the search path is set; those in `public` are moved.

    A new database has them in the first schema of the login's search path that is not `public`, else in `wallet`, which
    is made. Raises UnmetError where tables cannot be made.
    """
    found = connection.execute(text(TABLES_IN)).scalar()
    schema = found or connection.execute(text("SELECT current_schema()")).scalar()
    if schema is None or schema == _SHARED:
        _make_schema(connection)
        if found:
            _move_tables(connection)
        schema = SCHEMA
    login = connection.execute(text("SELECT current_user")).scalar()
    may_create = text("SELECT has_schema_privilege(CAST(:schema AS text), 'CREATE')")
    if not connection.execute(may_create, {"schema": schema}).scalar():
        msg = (
            f"The login {login} may not make tables in the schema {schema}: as its owner, GRANT CREATE ON SCHEMA "
            f"{quoted(schema)} TO {quoted(str(login))}."
        )
        raise UnmetError([msg])
    _show_to_people(connection, schema)
    connection.execute(text(f"SET search_path TO {search_path(schema)}"))
    connection.commit()
    return str(schema)


_SHARED: Final = "public"
"""Anybody's schema, in which the tables of the first releases were."""


def _make_schema(connection: Connection) -> None:
    """Make the wallet's own schema, unless it is there. Raises UnmetError where the login may not."""
    if connection.execute(text("SELECT to_regnamespace(:schema)"), {"schema": SCHEMA}).scalar() is not None:
        return
    may_create = text("SELECT has_database_privilege(current_database(), 'CREATE')")
    if not connection.execute(may_create).scalar():
        login, database = connection.execute(text("SELECT current_user, current_database()")).one()
        msg = (
            f"The login {login} may not make a schema in the database {database}: as the database's owner, "
            f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {quoted(login)}."
        )
        raise UnmetError([msg])
    connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))


_TABLES_TO_MOVE = """
SELECT c.relname
FROM pg_class c
WHERE c.relnamespace = to_regnamespace(:shared) AND c.relkind = 'r' AND c.relname = ANY (:names)
ORDER BY c.relname
"""
_FUNCTIONS_TO_MOVE = """
SELECT DISTINCT p.oid::regprocedure::text
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_proc p ON p.oid = t.tgfoid
WHERE c.relnamespace = to_regnamespace(:schema) AND NOT t.tgisinternal AND p.pronamespace = to_regnamespace(:shared)
"""


def _move_tables(connection: Connection) -> None:
    """Move the wallet's tables, with their indexes, sequences and triggers, out of the schema that anybody uses.

    It is committed with the making of the schema: all tables are moved or none. What others have there stays.
    """
    names = sorted({"alembic_version"} | {grant.target for grant in granted() if not grant.is_sequence})
    for (table,) in connection.execute(text(_TABLES_TO_MOVE), {"shared": _SHARED, "names": names}).all():
        connection.execute(text(f"ALTER TABLE {_SHARED}.{quoted(table)} SET SCHEMA {SCHEMA}"))
    parameters = {"schema": SCHEMA, "shared": _SHARED}
    for (function,) in connection.execute(text(_FUNCTIONS_TO_MOVE), parameters).all():
        connection.execute(text(f"ALTER FUNCTION {function} SET SCHEMA {SCHEMA}"))


_SEES = """
SELECT :schema = ANY (current_schemas(false)), current_database(), current_setting('search_path')
"""


def _show_to_people(connection: Connection, schema: str) -> None:
    """Set the search path of later sessions of this login, such as those of psql, to the tables.

    The wallet's own processes do not depend on it.
    """
    sees, database, path = connection.execute(text(_SEES), {"schema": schema}).one()
    if not sees:
        path = f", {path}" if path else ""
        connection.execute(
            text(
                f"ALTER ROLE CURRENT_USER IN DATABASE {quoted(database)} SET search_path = {quoted(schema)}{path}"
            )
        )


def _grant(connection: Connection, schema: str) -> None:
    """Grant again what was granted once, and the use of the schema: somebody may have taken it."""
    for statement in (
        *(f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {role}" for role in all_roles()),
        *statements(),
    ):
        with suppress(DBAPIError), connection.begin_nested():
            connection.execute(text(statement))  # what is missing in the end is said by the check
    for role, names in FUNCTIONS.items():
        found = connection.execute(text(_FUNCTIONS), {"schema": quoted(schema), "names": list(names)})
        for (function,) in found.all():
            with suppress(DBAPIError), connection.begin_nested():
                connection.execute(text(f"ALTER FUNCTION {function} SET search_path = {search_path(schema)}"))
                connection.execute(text(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"))
                connection.execute(text(f"GRANT EXECUTE ON FUNCTION {function} TO {role}"))


_FUNCTIONS = """
SELECT oid::regprocedure::text
FROM pg_proc
WHERE pronamespace = to_regnamespace(:schema) AND proname = ANY (:names)
"""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
