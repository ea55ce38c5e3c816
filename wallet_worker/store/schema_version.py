"""Which revision of the schema a database has, and which one this program needs.

Apart from `migrate.py`, because the worker asks it too and has no use for the tools that migrate, which would be a
third of its memory and most of the time that it takes to start.
"""

import re
from functools import cache
from pathlib import Path

import asyncpg

from wallet_worker.text import printable


class DatabaseNotReadyError(Exception):
    """The database is not set up for this program: another schema, or a role that is missing."""


VERSIONS_FOLDER = Path(__file__).parent / "migrations" / "versions"


@cache
def known_revisions() -> frozenset[str]:
    """Return the revisions that this program knows."""
    return frozenset(path.stem.partition("_")[0] for path in VERSIONS_FOLDER.glob("[0-9]*.py"))


def newest_revision() -> str:
    """Return the revision that this program was written for: the highest number that a module of it has."""
    return max(known_revisions())


def why_not_current(revision: str | None, program: str) -> str:
    """Return why `program` cannot work on a database of this revision, as a clause with what to do; empty if it can."""
    newest = newest_revision()
    if revision == newest:
        return ""
    if revision is None or revision in known_revisions():
        return f"the database is at revision {revision or 'none'}, this {program} needs {newest}: run `wallet migrate`"
    if re.fullmatch(r"[0-9]{4}", revision) and revision > newest:
        return (
            f"the database is at revision {revision}, this {program} is older and knows {newest} at the newest: "
            "upgrade the program to the release that has migrated the database"
        )
    return (
        f"the database is at revision {printable(revision)[:64]}, which no release of the wallet has made: find out "
        "who has changed alembic_version"
    )


_REVISION = """
SELECT string_agg(version_num, ' and ' ORDER BY version_num) FROM alembic_version
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
    if why := why_not_current(await current_revision(connection), program):
        raise DatabaseNotReadyError(why)
