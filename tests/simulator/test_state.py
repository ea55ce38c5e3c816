"""The memory's file: whose it is, and whose it is not."""

import sqlite3
from pathlib import Path

import pytest

from payment_simulator.state import State, StateUnusable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


def test_a_memory_is_used_by_one_gateway_at_a_time(path: Path) -> None:
    state = State.open(path)

    with pytest.raises(StateUnusable, match="in use by another payment-simulator"):
        State.open(path)

    state.close()
    State.open(path).close()


def test_a_memory_of_another_version_is_not_touched(path: Path) -> None:
    State.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()

    with pytest.raises(StateUnusable, match="schema version 99, and this program knows 1"):
        State.open(path)


def test_another_program_s_database_is_not_touched(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()

    with pytest.raises(StateUnusable, match="another program's database"):
        State.open(path)

    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("recipes",)]
    connection.close()


def test_a_file_that_is_no_database_is_not_touched(path: Path) -> None:
    path.write_text("Dear diary, " * 100)

    with pytest.raises(StateUnusable, match="cannot be used: file is not a database"):
        State.open(path)

    assert path.read_text().startswith("Dear diary")


def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="No such file or directory"):
        State.open(tmp_path / "nowhere" / "state.sqlite3")


def test_what_is_committed_is_on_the_disk(path: Path) -> None:
    """The request is acknowledged next, and then the broker has forgotten it."""
    state = State.open(path)

    settings = [
        state._connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")
    ]
    state.close()

    assert settings == [("wal",), (2,)]  # 2 is FULL
