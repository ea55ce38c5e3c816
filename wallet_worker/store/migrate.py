"""Bringing a database to the newest revision of the schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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

_LOCK_KEY = 7_239_815_604_411
"""Any number that nobody else locks: two migrations at once take turns."""


class Revisions(NamedTuple):
    """The revision before and after; absent before the first."""

    before: str | None
    after: str | None


async def migrate(dsn: str) -> Revisions:
    """Leave the database at the newest revision, all or nothing for each revision; raises a StoreError."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(dsn, timeout=CONNECT_SECONDS),
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
        before = MigrationContext.configure(connection).get_current_revision()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
        after = MigrationContext.configure(connection).get_current_revision()
    finally:
        connection.rollback()  # what a failed revision has begun; else the unlocking would fail, and hide why
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
        connection.commit()
    return Revisions(before, after)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
