"""What every session with the database is set to, whatever the defaults of the database, the login or a pooler are.

Settings that arrive with the connection go before `ALTER DATABASE … SET` and `ALTER ROLE … SET`. That they have arrived
is checked for each new connection, because a pooler may drop them, and with them the role and every time limit.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import asyncpg

from wallet_worker.store.errors import UnfitError

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "default_transaction_isolation": "read committed",  # every guard of the store is made for it
        "default_transaction_deferrable": "off",
        "row_security": "off",  # rows that a policy would hide are an error: never a part of the ledger for the whole
        "exit_on_error": "off",
        "idle_session_timeout": "0",  # a pool keeps connections that nobody uses
        # Values travel in binary, and these change what some expressions make of them.
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "array_nulls": "on",
    }
)
"""As `SHOW` shows them. `default_transaction_read_only` is not here: who sets it wants nothing to be written."""

SCHEMA: Final = "wallet"
"""The schema that `wallet migrate` makes for the tables, so that other applications may share the database."""

TABLES_IN: Final = f"""
SELECT n.nspname, has_schema_privilege(n.oid, 'USAGE')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')
  AND c.relname IN (
      'alembic_version', 'accounts', 'commands', 'entries', 'orders', 'outbox', 'parked_results', 'suspects'
  )
GROUP BY n.oid, n.nspname
HAVING count(*) >= 5
ORDER BY n.nspname = '{SCHEMA}' DESC, array_position(current_schemas(false), n.nspname), n.nspname
"""  # noqa: S608 -- static text
"""The schemas that hold the wallet's tables, and whether each may be used: its own first, then by the search path.

Anybody may read this. Where somebody has dropped a table the others are still the wallet's; another application may
have a table of orders.
"""

# Not weaker than `on`, and what is stronger stays. Before PostgreSQL 17 there is no `transaction_timeout`.
_AFTERWARDS: Final = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
UNION ALL
SELECT set_config('transaction_timeout', '0', false)
WHERE current_setting('transaction_timeout', true) <> '0'
"""


def settings_of(application: str, role: str, limits: Mapping[str, str]) -> dict[str, str]:
    """Return the settings to connect with; `limits` go before those that stand here, in the form that `SHOW` has."""
    return {**SETTINGS, "application_name": application, "role": role, **limits}


async def prepare(
    connection: asyncpg.Connection, settings: Mapping[str, str], schema: str | None = None
) -> str | None:
    """Set a new session as the wallet needs it; return the schema of its tables, or None before the first migration.

    `schema` is the one that was found before: a search path that was changed meanwhile leads to no other ledger.
    Raises UnfitError, or what the driver raises.
    """
    await _check_arrived(connection, settings)
    await connection.execute(_AFTERWARDS)
    return await look_at_tables(connection, schema)


async def look_at_tables(connection: asyncpg.Connection, schema: str | None = None) -> str | None:
    """Set a session to find the wallet's tables and nothing else; return their schema, or None if there are none.

    The search path is the schema alone. Temporary tables come last in it, so that none takes the place of a table.
    Raises UnfitError, or what the driver raises.
    """
    usable = {str(name): may_use for name, may_use in await connection.fetch(TABLES_IN)}
    found = list(usable)
    if not found:
        return None
    chosen = schema if schema is not None and schema in found else found[0]
    if len(found) > 1 and chosen not in {schema, SCHEMA}:
        on_path = await connection.fetchval("SELECT $1 = ANY (current_schemas(false))", chosen)
        if not on_path:
            msg = (
                f"the wallet's tables are in several schemas ({', '.join(found)}), and the search path names none: "
                "add ?options=-csearch_path%3Dname to WALLET_DATABASE_URL"
            )
            raise UnfitError(msg)
    if not usable[chosen]:
        # Else each table would seem not to exist.
        msg = f"its login or role may not use the schema {chosen}, in which the wallet's tables are"
        raise UnfitError(msg)
    await connection.execute(f"SET search_path TO {search_path(chosen)}")
    return chosen


def search_path(schema: str) -> str:
    """Return the search path of the wallet's sessions and functions, as SQL takes it."""
    return f"{quoted(schema)}, pg_temp"


def quoted(name: str) -> str:
    """Return an identifier as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


async def _check_arrived(connection: asyncpg.Connection, settings: Mapping[str, str]) -> None:
    """Raise UnfitError if the server has other settings than those that were sent to it.

    Without prepared statements, which a pooler may send elsewhere: a statement's tag says how many rows it found.
    """
    conditions = {
        name: f"current_setting({_text(name)}) = {_text(value)}" for name, value in settings.items()
    }
    if await connection.execute(f"SELECT WHERE {' AND '.join(conditions.values())}") == "SELECT 1":
        return
    dropped = [
        name
        for name, condition in conditions.items()
        if await connection.execute(f"SELECT WHERE {condition}") != "SELECT 1"
    ]
    msg = (
        f"a pooler before PostgreSQL drops settings of the session ({', '.join(sorted(dropped))}): "
        "the wallet needs a direct connection"
    )
    raise UnfitError(msg)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
