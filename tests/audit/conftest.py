"""A ledger in which everything is right."""

import asyncpg
import pytest

from tests.audit import ledger


@pytest.fixture
async def clean_url(database_url: str, owner: asyncpg.Connection) -> str:
    """Give a database with a ledger in which everything is right."""
    await ledger.write(owner)
    return database_url
