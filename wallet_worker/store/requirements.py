"""What the wallet needs of PostgreSQL: one list, for `wallet migrate`, `wallet doctor`, workers and keepers.

A requirement that is not met is a sentence for a person: what was found, and what to do next. What a session can set
for itself is not here but in `store.session`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

import asyncpg
import structlog

from wallet_worker.backoff import Backoff
from wallet_worker.store import schema_check
from wallet_worker.store.database import COMMAND_SECONDS
from wallet_worker.store.errors import StoreError, UnfitError, waited_for
from wallet_worker.store.privileges import FUNCTIONS, ROLES_OF, all_roles, granted
from wallet_worker.store.schema_version import (
    DatabaseNotReadyError,
    newest_revision,
    why_not_current,
    works_with_in,
)
from wallet_worker.store.servers import CONNECT_SECONDS, connect
from wallet_worker.store.session import TABLES_IN, quoted

VERSION_MIN: Final = 15
VERSION_TESTED_MAX: Final = 18
CONNECTIONS_MIN: Final = 13  # of one worker with its keeper, at the most
POOLER_PROBES: Final = 5
LOCK_SECONDS: Final = 3.0  # a person waits for `wallet doctor`
NAMED_MAX: Final = 5  # of several things that are missing, so that a sentence stays one


log = structlog.get_logger(__name__)


class Grade(StrEnum):
    """What it means that a requirement is not met."""

    REQUIRED = "required"
    """Nothing starts and nothing is migrated: money or messages would be at risk, or nothing would work."""
    WAITED_FOR = "waited for"
    """It passes: a process that starts waits for it."""
    ADVISED = "advised"
    """It works, and somebody ought to know: a warning."""


class Stage(StrEnum):
    """From when on a requirement can be met."""

    SERVER = "server"
    """Before the first migration."""
    SCHEMA = "schema"
    """After it."""


class Look(NamedTuple):
    """A database that is looked at: a connection of the login's own, in a transaction, and the wallet's schema."""

    dsn: str
    connection: asyncpg.Connection
    roles: Sequence[str] = ()
    """Those that the login has to be able to be."""
    schema: str | None = None
    revision: str | None = None


Looks: TypeAlias = Callable[[Look], Awaitable[list[str] | None]]


class Requirement(NamedTuple):
    """One thing that is needed; `look` returns a sentence for each way in which it is not met.

    It returns None where nothing is there to look at: no tables, or those of another revision.
    """

    name: str
    grade: Grade
    stage: Stage
    look: Looks


class CheckedRequirement(NamedTuple):
    """A requirement, and the sentences that say why it is not met: none, if it is or could not be looked at."""

    requirement: Requirement
    sentences: tuple[str, ...]
    was_seen: bool = True

    @property
    def is_met(self) -> bool | None:
        """Whether nothing is missing; None if nothing was there to look at."""
        return not self.sentences if self.was_seen else None


async def _look_for(requirement: Requirement, look: Look) -> CheckedRequirement:
    sentences = await requirement.look(look)
    return CheckedRequirement(requirement, tuple(sentences or ()), was_seen=sentences is not None)


class UnmetError(Exception):
    """The database is not what the wallet needs. Its sentences are for a person."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__(" ".join(self.sentences))


async def check(
    dsn: str, *stages: Stage, process: str = "worker", waits_for_locks: bool = False
) -> list[CheckedRequirement]:
    """Return what was found of each requirement of these stages, or of all; raises a StoreError.

    `process` is what the login is for: a key of `ROLES_OF`. A lock on `alembic_version` is waited for, or after
    `LOCK_SECONDS` a ConflictError.

    What concerns the tables is not looked at before there are any, but for the revision. Behind a pooler that cannot be
    worked with, nothing else is looked at: what it answers may be anybody's.
    """
    with waited_for():
        # No prepared statements and one transaction, so that a pooler can be asked too.
        connection = await connect(
            dsn,
            command_timeout=None if waits_for_locks else COMMAND_SECONDS,
            statement_cache_size=0,
        )
        try:
            look = Look(dsn, connection, ROLES_OF[process])
            if sentences := await _pooler(look):
                return [CheckedRequirement(REQUIREMENTS[0], tuple(sentences))]
            async with connection.transaction():
                limit = 0 if waits_for_locks else round(LOCK_SECONDS * 1000)
                await connection.execute(f"SET LOCAL lock_timeout = {limit}; SET LOCAL statement_timeout = 0")
                schema = await connection.fetchval(TABLES_IN)
                # What the server is does not depend on it, and a lock on it is not waited for then.
                is_asked = not stages or Stage.SCHEMA in stages
                revision = await _revision_of(connection, schema) if is_asked else None
                look = Look(dsn, connection, ROLES_OF[process], schema, revision)
                return [
                    await _look_for(requirement, look)
                    for requirement in REQUIREMENTS
                    if not stages or requirement.stage in stages
                ]
        finally:
            connection.terminate()


def unmet(findings: Iterable[CheckedRequirement], grade: Grade) -> list[str]:
    """Return the sentences of what is not met, of one grade."""
    return [
        sentence
        for finding in findings
        if finding.requirement.grade is grade
        for sentence in finding.sentences
    ]


async def check_but_revision(
    dsn: str, process: str, *, waits_for_locks: bool = False
) -> list[CheckedRequirement]:
    """Return what was found of each requirement but the revision; raises a StoreError."""
    found = await check(dsn, process=process, waits_for_locks=waits_for_locks)
    return [item for item in found if item.requirement.look is not _revision]


async def ready_to_start(dsn: str, process: str) -> str:
    """Return why no process can work on this database, in sentences; empty if it can.

    What is advised is logged. Raises UnfitError for what passes, or another StoreError. The revision is the caller's
    to judge.
    """
    findings = await check_but_revision(dsn, process)
    if not_met := unmet(findings, Grade.REQUIRED):
        return " ".join(not_met)
    if waited_for := unmet(findings, Grade.WAITED_FOR):
        raise UnfitError(" ".join(waited_for))
    for sentence in unmet(findings, Grade.ADVISED):
        log.warning("database.advice", detail=sentence)
    return ""


async def ensure_fit(dsn: str, process: str) -> None:
    """Return if a process that serves people can work on this database.

    Raises DatabaseNotReadyError, or a StoreError for what passes.
    """
    if why_not := await ready_to_start(dsn, process):
        raise DatabaseNotReadyError(why_not)
    for item in await check(dsn, Stage.SCHEMA, process=process):
        if item.requirement.look is _revision and item.sentences:
            raise DatabaseNotReadyError(" ".join(item.sentences))


async def until_fit(dsn: str, process: str, stopping: asyncio.Event) -> None:
    """Return once `ensure_fit` does, or when `stopping` is set; raises DatabaseNotReadyError."""
    pause = Backoff()
    while not stopping.is_set():
        try:
            await ensure_fit(dsn, process)
        except StoreError as exc:
            log.debug("database.waiting", reason=str(exc))
            await pause.wait(stopping)
        else:
            return


# Of the server


async def _pooler(look: Look) -> list[str]:
    """Whoever answers for the server with another process id than its own is not the server."""
    if await _is_direct(look.connection):
        return []
    why = await _why_not_behind(look.dsn)
    return (
        [f"A pooler stands before PostgreSQL, and {why}: connect the wallet to PostgreSQL itself."]
        if why
        else []
    )


async def _is_direct(connection: asyncpg.Connection) -> bool:
    pid = connection.get_server_pid()
    # Its tag says how many rows it found, so that neither a transaction nor a prepared statement is needed.
    return await connection.execute(f"SELECT WHERE pg_backend_pid() = {pid}") == "SELECT 1"


async def _why_not_behind(dsn: str) -> str | None:
    """Return why a pooler cannot be worked with, or None if it keeps a session together with its settings."""
    settings = {"lock_timeout": "4321ms"}
    try:
        with waited_for():
            connection = await connect(dsn, statement_cache_size=0, server_settings=settings)
    except StoreError:
        return "it refuses the settings that each session of the wallet needs"
    try:
        with waited_for():
            other = await connect(dsn, statement_cache_size=0)
    except StoreError:
        connection.terminate()
        return "it gives the wallet no second connection"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if await _in_a_transaction(connection, "SELECT current_setting('lock_timeout')") != "4321ms":
                return "it drops the settings that each session of the wallet needs"
            backends: set[object] = set()
            others: set[object] = set()
            for _ in range(POOLER_PROBES):
                backends.add(await _in_a_transaction(connection, "SELECT pg_backend_pid()"))
                others.add(await _in_a_transaction(other, "SELECT pg_backend_pid()"))
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return "it does not keep a session together"
    else:
        return "it gives each transaction another session" if backends & others or len(backends) > 1 else None
    finally:
        connection.terminate()
        other.terminate()


async def _in_a_transaction(connection: asyncpg.Connection, query: str) -> object:
    async with connection.transaction():
        return await connection.fetchval(query)


async def _version(look: Look) -> list[str]:
    number = int(await look.connection.fetchval("SELECT current_setting('server_version_num')"))
    if number // 10_000 >= VERSION_MIN:
        return []
    return [
        f"The server is PostgreSQL {number // 10_000}; the wallet needs {VERSION_MIN} or newer: upgrade the server."
    ]


async def _untested_version(look: Look) -> list[str]:
    number = int(await look.connection.fetchval("SELECT current_setting('server_version_num')"))
    if number // 10_000 <= VERSION_TESTED_MAX:
        return []
    return [
        f"The server is PostgreSQL {number // 10_000}; the wallet is tested with {VERSION_TESTED_MAX} at the newest."
    ]


async def _encoding(look: Look) -> list[str]:
    encoding = await look.connection.fetchval("SELECT current_setting('server_encoding')")
    if encoding == "UTF8":
        return []
    name = await look.connection.fetchval("SELECT current_database()")
    return [
        (
            f"The database {name} is encoded in {encoding}, which cannot hold every text that a message may have: make "
            f"another with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in WALLET_DATABASE_URL."
        )
    ]


async def _writable(look: Look) -> list[str]:
    if await look.connection.fetchval("SELECT pg_is_in_recovery()"):
        return [
            "The server is a standby, which takes no writes: name the primary in WALLET_DATABASE_URL, or promote it."
        ]
    if await look.connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        return [
            (
                "The database is read-only by default: find out who has set default_transaction_read_only, and why "
                "(a full disk, a switch-over), and reset it with ALTER DATABASE … RESET."
            )
        ]
    return []


async def _triggers(look: Look) -> list[str]:
    role = await look.connection.fetchval("SELECT current_setting('session_replication_role')")
    if role == "origin":
        return []
    return [
        (
            f"Sessions of this login have session_replication_role = {role}, so that no trigger keeps the ledger "
            "append-only and no foreign key is checked: ALTER ROLE (or DATABASE) … RESET session_replication_role."
        )
    ]


_DURABLE: Final = ("fsync", "full_page_writes")


async def _durable(look: Look) -> list[str]:
    return [
        f"{name} is off: a crash of the machine can lose what was confirmed, or the whole database. Set it to on in "
        "postgresql.conf."
        for name in _DURABLE
        if await look.connection.fetchval("SELECT current_setting($1)", name) != "on"
    ]


_COLLATION: Final = """
SELECT datcollversion, pg_database_collation_actual_version(oid)
FROM pg_database
WHERE datname = current_database()
"""


async def _collation(look: Look) -> list[str]:
    created_with, there = await look.connection.fetchrow(_COLLATION) or (None, None)
    if created_with == there:
        return []
    return [
        (
            f"The database was sorted by version {created_with} of the system's collation, and the system has {there}: "
            "a unique index may take the same text twice. REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION "
            "VERSION."
        )
    ]


_CONNECTIONS: Final = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user)
"""


async def _connections(look: Look) -> list[str]:
    limits = await look.connection.fetchrow(_CONNECTIONS)
    names = ("max_connections", "the database's CONNECTION LIMIT", "the login's CONNECTION LIMIT")
    return [
        f"{name} leaves {limit} connections, and one worker may need {CONNECTIONS_MIN}: raise it."
        for name, limit in zip(names, limits or (), strict=True)
        if limit is not None and 0 <= limit < CONNECTIONS_MIN
    ]


# Of the schema


UNREADABLE: Final = "?"
"""In place of a revision: the login may not read it, which other requirements report."""


async def _revision_of(connection: asyncpg.Connection, schema: str | None) -> str | None:
    if schema is None:
        return None
    try:
        async with connection.transaction():
            return await connection.fetchval(  # type: ignore[no-any-return]
                f"SELECT string_agg(version_num, ' and ' ORDER BY version_num) FROM {quoted(schema)}.alembic_version"  # noqa: S608 -- quoted
            )
    except asyncpg.UndefinedTableError:
        return None
    except asyncpg.InsufficientPrivilegeError:
        return UNREADABLE


async def _revision(look: Look) -> list[str] | None:
    if look.revision == UNREADABLE:
        return None
    note = look.schema and await look.connection.fetchval(
        "SELECT obj_description(to_regclass($1), 'pg_class')", f"{quoted(look.schema)}.alembic_version"
    )
    has_tables = look.schema is not None
    why = why_not_current(look.revision, "program", works_with_in(note), has_tables=has_tables)
    return [f"{why[0].upper()}{why[1:]}."] if why else []


_LOGIN: Final = """
SELECT r.name, p.oid IS NOT NULL,
       p.oid IS NOT NULL AND pg_has_role(
           session_user, p.oid,
           CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END
       )
FROM unnest($1::text[]) AS r (name)
LEFT JOIN pg_roles p ON p.rolname = r.name
ORDER BY r.name
"""


async def _roles(look: Look) -> list[str] | None:
    if look.schema is None:
        return None
    login = await look.connection.fetchval("SELECT session_user")
    return [
        f"The login {login} may not be {name}: as the database's owner, GRANT {name} TO {quoted(login)}."
        if is_there
        else f"The role {name} does not exist: run `wallet migrate` as a login that may create roles."
        for name, is_there, may_be in await look.connection.fetch(_LOGIN, list(look.roles))
        if not may_be
    ]


async def _existing_roles(look: Look) -> list[str]:
    return [name for name, is_there, _ in await look.connection.fetch(_LOGIN, list(all_roles())) if is_there]


async def _schema_usage(look: Look) -> list[str] | None:
    if look.schema is None:
        return None
    return [
        f"The role {role} may not use the schema {look.schema}, in which the wallet's tables are: run "
        f"`wallet migrate`, or GRANT USAGE ON SCHEMA {quoted(look.schema)} TO {role}."
        for role in await _existing_roles(look)
        if not await look.connection.fetchval(
            "SELECT has_schema_privilege($1, $2, 'USAGE')", role, look.schema
        )
    ]


_MAY_CREATE: Final = """
SELECT coalesce(r.rolname, 'PUBLIC')
FROM pg_namespace n
CROSS JOIN aclexplode(n.nspacl) AS a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE n.oid = to_regnamespace($1) AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
  AND NOT coalesce(r.rolsuper, false)
ORDER BY 1
"""


async def _schema_own(look: Look) -> list[str] | None:
    """Whoever may create in the schema can plant a function or an operator that the wallet's sessions would take."""
    if look.schema is None:
        return None
    schema = quoted(look.schema)
    return [
        f"{role} may create in the schema {look.schema}, where a name could take the place of one of the wallet's: "
        f"REVOKE CREATE ON SCHEMA {schema} FROM {role if role == 'PUBLIC' else quoted(role)}."
        for (role,) in await look.connection.fetch(_MAY_CREATE, schema)
    ]


_SUPERUSERS: Final = """
SELECT r.rolname, r.rolname = session_user
FROM pg_roles r
WHERE r.rolsuper AND (r.rolname = session_user OR r.oid = (
    SELECT relowner FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relname = 'entries'
))
ORDER BY 2 DESC
"""


async def _no_superuser(look: Look) -> list[str]:
    """No trigger and no privilege holds a superuser: neither the process nor the owner of the tables should be one."""
    return [
        f"The login {name} is a superuser, whom no privilege and no trigger stops: give each process its own login."
        if is_login
        else f"The tables belong to the superuser {name}: `wallet migrate --owner LOGIN` gives them to another."
        for name, is_login in await look.connection.fetch(_SUPERUSERS, look.schema and quoted(look.schema))
    ]


_MISSING: Final = """
SELECT g.number
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
     WITH ORDINALITY AS g (role, privilege, target, column_name, is_sequence, number)
JOIN pg_roles r ON r.rolname = g.role
JOIN pg_class c ON c.relname = g.target AND c.relnamespace = to_regnamespace($1)
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = g.column_name AND NOT a.attisdropped
WHERE (g.column_name IS NULL) = (a.attnum IS NULL)  -- else it is of a revision that is still to come
  AND NOT CASE
      WHEN g.is_sequence THEN has_sequence_privilege(r.oid, c.oid, g.privilege)
      WHEN a.attnum IS NULL THEN has_table_privilege(r.oid, c.oid, g.privilege)
      ELSE has_column_privilege(r.oid, c.oid, a.attnum, g.privilege)
  END
ORDER BY g.number
"""


async def _privileges(look: Look) -> list[str] | None:
    if look.revision not in {newest_revision(), UNREADABLE}:
        return None  # an older revision has granted less, and the next migration grants the rest
    grants = sorted(granted(), key=str)
    rows = await look.connection.fetch(
        _MISSING,
        quoted(look.schema or ""),
        [grant.role for grant in grants],
        [grant.privilege for grant in grants],
        [grant.target for grant in grants],
        [grant.column for grant in grants],
        [grant.is_sequence for grant in grants],
    )
    missing = [grants[row[0] - 1].sentence for row in rows]
    if not missing:
        return []
    more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
    return [
        f"Privileges are missing: {'; '.join(missing[:NAMED_MAX])}{more}. Run `wallet migrate` as the tables' owner."
    ]


_FUNCTIONS_OPEN: Final = """
SELECT g.name, g.role, p.oid IS NULL,
       has_function_privilege(r.oid, p.oid, 'EXECUTE') IS NOT TRUE,
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0),
       p.proconfig IS DISTINCT FROM ARRAY['search_path=' || $4]
FROM unnest($2::text[], $3::text[]) AS g (role, name)
JOIN pg_roles r ON r.rolname = g.role
LEFT JOIN pg_proc p ON p.proname = g.name AND p.pronamespace = to_regnamespace($1) AND p.prosecdef
ORDER BY g.name, g.role
"""


async def _functions(look: Look) -> list[str] | None:
    """Whoever may call a function does what its owner may: it has to be the wallet's own, and look at nothing else."""
    if look.schema is None or look.revision not in {newest_revision(), UNREADABLE}:
        return None
    pairs = [(role, name) for role, names in sorted(FUNCTIONS.items()) for name in names]
    schema = quoted(look.schema)
    path = f"{look.schema if look.schema.isidentifier() and look.schema.islower() else schema}, pg_temp"
    sentences = []
    for name, role, missing, closed, is_open, unpinned in await look.connection.fetch(
        _FUNCTIONS_OPEN, schema, [role for role, _ in pairs], [name for _, name in pairs], path
    ):
        what = f"The function {name}"
        if missing:
            sentences.append(f"{what} does not exist, or not with its owner's rights: restore the schema.")
        elif closed:
            sentences.append(
                f"{what} may not be called by {role}: run `wallet migrate` as the tables' owner."
            )
        elif is_open or unpinned:
            why = "may be called by anybody" if is_open else "does not look at the wallet's schema alone"
            sentences.append(f"{what} {why}: run `wallet migrate` as the tables' owner.")
    return sentences


_EXCESS: Final = """
SELECT r.rolname, c.relname, p.privilege
FROM unnest($2::text[]) AS r (rolname)
CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p (privilege)
JOIN pg_class c ON c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p')
WHERE to_regrole(r.rolname) IS NOT NULL
  AND CASE WHEN p.privilege IN ('INSERT', 'UPDATE') THEN has_any_column_privilege(r.rolname, c.oid, p.privilege)
           ELSE has_table_privilege(r.rolname, c.oid, p.privilege) END
ORDER BY 1, 2, 3
"""


async def _excess(look: Look) -> list[str] | None:
    """A role that may write more than a migration has granted can do what nobody has thought of."""
    if look.schema is None or look.revision not in {newest_revision(), UNREADABLE}:
        return None
    rows = await look.connection.fetch(_EXCESS, quoted(look.schema), list(all_roles()))
    meant = {(grant.role, grant.target, grant.privilege) for grant in granted()}
    excess = [
        f"{privilege} on {table} by {role}"
        for role, table, privilege in rows
        if (role, table, privilege) not in meant
    ]
    if not excess:
        return []
    more = f" and {len(excess) - NAMED_MAX} more" if len(excess) > NAMED_MAX else ""
    return [
        f"Roles may write what they should not: {'; '.join(excess[:NAMED_MAX])}{more}. REVOKE it, or its source."
    ]


_ROW_SECURITY: Final = """
SELECT relname
FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relrowsecurity AND relname = ANY ($2)
ORDER BY relname
"""


async def _row_security(look: Look) -> list[str] | None:
    if look.schema is None:
        return None
    tables = {grant.target for grant in granted()}
    rows = await look.connection.fetch(_ROW_SECURITY, quoted(look.schema), list(tables))
    return [
        f"Row security is on for {row[0]}, and would hide a part of the ledger from the wallet: "
        f"ALTER TABLE {quoted(look.schema)}.{quoted(row[0])} DISABLE ROW LEVEL SECURITY."
        for row in rows
    ]


_TRIGGERS_OFF: Final = """
SELECT t.tgname, c.relname
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace($1) AND t.tgname LIKE '%append_only' AND t.tgenabled <> 'A'
ORDER BY t.tgname
"""


async def _append_only(look: Look) -> list[str] | None:
    if look.schema is None or look.revision not in {newest_revision(), UNREADABLE}:
        return None
    return [
        f"The trigger that keeps {table} append-only does not fire in every session: "
        f"ALTER TABLE {quoted(look.schema)}.{quoted(table)} ENABLE ALWAYS TRIGGER {trigger}."
        for trigger, table in await look.connection.fetch(_TRIGGERS_OFF, quoted(look.schema))
    ]


def _of_schema(changed: Callable[[asyncpg.Connection, str], Awaitable[list[str]]]) -> Looks:
    """Return what looks for changes of the schema that the newest migration left; an older schema has other parts."""

    async def look_at(look: Look) -> list[str] | None:
        if look.schema is None or look.revision not in {newest_revision(), UNREADABLE}:
            return None
        return await changed(look.connection, look.schema)

    return look_at


REQUIREMENTS: Final = (
    Requirement("a direct connection", Grade.REQUIRED, Stage.SERVER, _pooler),
    Requirement(f"PostgreSQL {VERSION_MIN} or newer", Grade.REQUIRED, Stage.SERVER, _version),
    Requirement("a version that is tested", Grade.ADVISED, Stage.SERVER, _untested_version),
    Requirement("encoding UTF8", Grade.REQUIRED, Stage.SERVER, _encoding),
    Requirement("writable", Grade.WAITED_FOR, Stage.SERVER, _writable),
    Requirement("triggers fire", Grade.REQUIRED, Stage.SERVER, _triggers),
    Requirement("confirmed is on the disk", Grade.ADVISED, Stage.SERVER, _durable),
    Requirement("collation as it was", Grade.ADVISED, Stage.SERVER, _collation),
    Requirement("enough connections", Grade.ADVISED, Stage.SERVER, _connections),
    Requirement("revision", Grade.REQUIRED, Stage.SCHEMA, _revision),
    Requirement("roles of the login", Grade.REQUIRED, Stage.SCHEMA, _roles),
    Requirement("use of the schema", Grade.REQUIRED, Stage.SCHEMA, _schema_usage),
    Requirement("nobody else's names", Grade.REQUIRED, Stage.SCHEMA, _schema_own),
    Requirement("no superuser", Grade.ADVISED, Stage.SCHEMA, _no_superuser),
    Requirement("privileges of the roles", Grade.REQUIRED, Stage.SCHEMA, _privileges),
    Requirement("functions of the roles", Grade.REQUIRED, Stage.SCHEMA, _functions),
    Requirement("no other privileges", Grade.REQUIRED, Stage.SCHEMA, _excess),
    Requirement("no row security", Grade.REQUIRED, Stage.SCHEMA, _row_security),
    Requirement("append-only triggers", Grade.REQUIRED, Stage.SCHEMA, _append_only),
    Requirement("every table", Grade.REQUIRED, Stage.SCHEMA, _of_schema(schema_check.tables_changed)),
    Requirement("every column", Grade.REQUIRED, Stage.SCHEMA, _of_schema(schema_check.columns_changed)),
    Requirement(
        "every constraint", Grade.REQUIRED, Stage.SCHEMA, _of_schema(schema_check.constraints_changed)
    ),
    Requirement("every trigger", Grade.REQUIRED, Stage.SCHEMA, _of_schema(schema_check.triggers_changed)),
    Requirement(
        "every unique index", Grade.REQUIRED, Stage.SCHEMA, _of_schema(schema_check.unique_indexes_changed)
    ),
    Requirement("every index", Grade.ADVISED, Stage.SCHEMA, _of_schema(schema_check.other_indexes_changed)),
)
"""Everything that is needed, in the order in which a person would mend it."""
