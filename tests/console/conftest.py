"""A console and its users, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tests.console.stage import Stage, make_users
from tests.dead_letters.conftest import wallet
from wallet_worker.console.app import close_databases, open_databases
from wallet_worker.console.security import users as users_file

__all__ = ["wallet"]  # a fixture


@pytest.fixture(scope="session")
def users_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the file of the three people, with hashes that are quick to check."""
    path = tmp_path_factory.mktemp("users") / "users.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users_file, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        make_users(path)
    return path.read_text()


@pytest.fixture
def users(tmp_path: Path, users_text: str) -> Path:
    """Return a users file of the test's own."""
    path = tmp_path / "users.json"
    path.write_text(users_text)
    return path


@pytest.fixture
async def stage(users: Path) -> AsyncIterator[Stage]:
    """Return a console with nothing behind it."""
    stage = Stage(users)
    await open_databases(stage.parts)
    yield stage
    await close_databases(stage.parts)
