"""Which revision of the schema a database has, and from which to which this program works.

A migration may say in its module that programs of the release before go on working on what it leaves (`works_with`): it
expands, and what nobody uses any more is removed a release later. `wallet migrate` writes that down in the database, so
that a program which has never heard of the revision knows whether it may work. So releases are mixed while they are
rolled out, and the program is rolled back without the schema.

Apart from `migrate.py`, because the worker asks it too and has no use for the tools that migrate, which would be a
third of its memory and most of the time that it takes to start.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import asyncpg

from wallet_worker.store.session import TABLES_IN
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


OLDEST_SCHEMA: Final[str | None] = None
"""The oldest revision of a database that this program works on; None for the newest alone.

Set it in a release that needs nothing of its own newest migrations, so that they may run after the roll-out.
"""

_WORKS_WITH: Final = re.compile(r'^works_with = "([0-9]{4})"$', re.MULTILINE)
_TITLE: Final = re.compile(r'^"""(.*?)(?:"""|$)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PlannedRevision:
    """A revision that is to come: what it does, and the newest revision that a program must know to go on after it."""

    revision: str
    title: str
    works_with: str


@cache
def planned(revision: str) -> PlannedRevision:
    """Return what a revision's module says of itself, read as text: the tools that migrate are not loaded."""
    (path,) = VERSIONS_FOLDER.glob(f"{revision}_*.py")
    text = path.read_text(encoding="utf-8")
    works_with, title = _WORKS_WITH.search(text), _TITLE.search(text)
    return PlannedRevision(
        revision, title[1] if title else path.stem, works_with[1] if works_with else revision
    )


def to_come(revision: str | None) -> list[PlannedRevision]:
    """Return the revisions that a database of this revision lacks, in their order."""
    return [planned(item) for item in sorted(known_revisions()) if revision is None or item > revision]


def oldest_program(revisions: Iterable[str]) -> str:
    """Return the newest revision that a program must know to work on a database with all these revisions."""
    return max(planned(revision).works_with for revision in revisions)


NO_REVISION: Final = (
    "the wallet's tables are there, and alembic_version says no revision: find out who has changed it, or restore the "
    "database from a backup"
)


def why_not_current(
    revision: str | None, program: str, works_with: str | None = None, *, has_tables: bool = False
) -> str:
    """Return why `program` cannot work on a database of this revision, as a clause with what to do; empty if it can.

    `works_with` is what the database says: the newest revision that a program must know. `has_tables`: the wallet's
    tables are there, whatever the revision.
    """
    if revision is None and has_tables:
        return NO_REVISION
    newest = newest_revision()
    if revision == newest:
        return ""
    if revision is not None and OLDEST_SCHEMA is not None and revision in known_revisions():
        if revision >= OLDEST_SCHEMA:
            return ""
    elif is_newer(revision) and works_with is not None and works_with <= newest:
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


def is_newer(revision: str | None) -> bool:
    """Return whether a revision is one of a release to come."""
    return (
        revision is not None
        and re.fullmatch(r"[0-9]{4}", revision) is not None
        and revision > newest_revision()
    )


_HAS_REVISIONS = "SELECT to_regclass('alembic_version') IS NOT NULL"
_REVISION = """
SELECT string_agg(version_num, ' and ' ORDER BY version_num) FROM alembic_version
"""

NOTE: Final = "programs that know revision {} or a newer one work on these tables"
_NOTE: Final = re.compile(NOTE.format("([0-9]{4})"))


_COMMENT: Final = "SELECT obj_description(to_regclass('alembic_version'), 'pg_class')"


def works_with_in(note: object) -> str | None:
    """Return what the comment on the table of revisions says of programs; nothing if it says nothing."""
    found = _NOTE.fullmatch(note) if isinstance(note, str) else None
    return found[1] if found else None


async def current_revision(connection: asyncpg.Connection) -> str | None:
    """Return the revision that the database has; nothing if it was never migrated."""
    # Not by trying: a statement that fails ends the caller's transaction.
    if not await connection.fetchval(_HAS_REVISIONS):
        return None
    revision = await connection.fetchval(_REVISION)
    return None if revision is None else str(revision)


async def works_with(connection: asyncpg.Connection) -> str | None:
    """Return what the database says of programs: the newest revision that one must know. Nothing if it says nothing."""
    return works_with_in(await connection.fetchval(_COMMENT))


async def ensure_current(connection: asyncpg.Connection, program: str) -> None:
    """Raise DatabaseNotReadyError unless the database has a schema that `program` works on."""
    has_tables = await connection.fetchval(TABLES_IN) is not None
    revision = await current_revision(connection)
    if why := why_not_current(revision, program, await works_with(connection), has_tables=has_tables):
        raise DatabaseNotReadyError(why)
