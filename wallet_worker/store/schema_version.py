"""Which revision of the schema a database has, and which one this program needs.

Apart from `migrate.py`, because the worker asks it too and has no use for the tools that migrate, which would be a
third of its memory and most of the time that it takes to start.
"""

from pathlib import Path

import asyncpg


class DatabaseNotReadyError(Exception):
    """The database is not set up for this program: another schema, or a role that is missing."""


VERSIONS_FOLDER = Path(__file__).parent / "migrations" / "versions"


def newest_revision() -> str:
    """Return the revision that this program was written for: the highest number that a module of it has."""
    return max(path.stem.partition("_")[0] for path in VERSIONS_FOLDER.glob("[0-9]*.py"))


_REVISION = """
SELECT version_num FROM alembic_version
"""


async def current_revision(connection: asyncpg.Connection) -> str | None:
    """Return the revision that the database has; nothing if it was never migrated."""
    try:
        revision = await connection.fetchval(_REVISION)
    except asyncpg.UndefinedTableError:
        return None
    return None if revision is None else str(revision)


async def ensure_current(connection: asyncpg.Connection, program: str) -> None:
    """Raise DatabaseNotReadyError unless the database has the schema that `program` was written for."""
    current, needed = await current_revision(connection), newest_revision()
    if current != needed:
        msg = f"the database is at revision {current or 'none'}, this {program} needs {needed}: run `wallet migrate`"
        raise DatabaseNotReadyError(msg)
