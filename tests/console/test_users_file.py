"""The users file, and the commands that write it."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.console.stage import PASSWORDS
from wallet_worker.cli import app
from wallet_worker.cli.exits import Exit
from wallet_worker.console.security.users import Users, UsersError, UsersFile, change
from wallet_worker.settings.operators import Role


def wallet(users: Path, *words: str, typed: str = "") -> Result:
    """Run `wallet console user …`."""
    return CliRunner(env={"WALLET_CONSOLE_USERS": str(users)}).invoke(
        app, ["console", "user", *words], input=typed, prog_name="wallet"
    )


def test_a_user_is_added_listed_given_a_new_password_and_removed(tmp_path: Path) -> None:
    users = tmp_path / "users.json"

    added = wallet(users, "add", "Ann", "--role", "operator", typed="a good password\na good password\n")
    listed = wallet(users, "list", "--json")
    changed = wallet(users, "passwd", "ann", "--password-stdin", typed="another good one\n")
    user = Users.read(users).get("ann")
    removed = wallet(users, "remove", "ann")

    assert (added.exit_code, added.stdout.split("\n")[-2]) == (0, "ann may sign in as operator")
    assert [(each["name"], each["role"]) for each in json.loads(listed.stdout)["users"]] == [
        ("ann", "operator")
    ]
    assert changed.exit_code == 0
    assert user is not None
    assert user.role is Role.OPERATOR
    assert user.knows("another good one")
    assert removed.exit_code == 0
    assert Users.read(users).by_name == {}


def test_the_file_is_readable_by_its_owner_only(users: Path) -> None:
    change(users, lambda everybody: everybody.removed("vera"))

    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert [path.name for path in users.parent.iterdir()] == ["users.json"]


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    result = wallet(
        tmp_path / "users.json", "add", "ann", "--role", "viewer", typed="a good password\na good password\n"
    )

    assert "good password" not in result.output


@pytest.mark.parametrize(
    ("words", "text", "sentence"),
    [
        (("add", "ann", "--role", "viewer"), "a good password\n", "is there already"),
        (("add", "no/name", "--role", "viewer"), "a good password\n", "a name is 1 to 64"),
        (("add", "zoe", "--role", "viewer"), "too short\n", "at least 12 characters"),
        (("add", "zoe", "--role", "viewer"), "x" * 1_025 + "\n", "at most 1024 bytes"),
        (("add", "zoe-zoe-zoe-zoe", "--role", "viewer"), "ZOE-zoe-zoe-zoe\n", "is not the name"),
        (("add", "zoe", "--role", "viewer"), "aaaaaaaaaaaa\n", "would be guessed soon"),
        (("add", "zoe", "--role", "viewer"), "password1234\n", "would be guessed soon"),
        (
            ("add", "zoe-the-controller", "--role", "controller"),
            "zoe-the-controller1\n",
            "would be guessed soon",
        ),
        (("passwd", "ann"), "qwertyuiop123\n", "would be guessed soon"),
        (("passwd", "nobody"), "a good password\n", "there is no nobody"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    users: Path, words: tuple[str, ...], text: str, sentence: str
) -> None:
    before = users.read_text()

    answer = wallet(users, *words, "--password-stdin", typed=text)

    assert answer.exit_code == Exit.MISUSED
    assert sentence in answer.stderr
    assert users.read_text() == before


def test_removing_nobody_is_said(users: Path) -> None:
    answer = wallet(users, "remove", "nobody")

    assert answer.exit_code == Exit.MISUSED
    assert "there is no nobody" in answer.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"users": {}}',
        '{"users": [{"name": "ann"}]}',
        '{"users": [{"name": "A B", "role": "viewer", "hash": "", "added_at": "2026-01-01T00:00:00Z"}]}',
        '{"users": [{"name": "ann", "role": "king", "hash": "x", "added_at": "2026-01-01T00:00:00Z"}]}',
        "\x00",
    ],
)
def test_a_file_that_is_none_is_refused_whole(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(text)

    if text == '{"users": {}}':
        assert Users.read(path).by_name == {}
    else:
        with pytest.raises(UsersError):
            Users.read(path)


def test_changes_at_the_same_time_are_all_kept(users: Path) -> None:
    hashed = Users.read(users).by_name["ann"]

    def add(number: int) -> None:
        from dataclasses import replace

        change(users, lambda everybody: everybody._with(replace(hashed, name=f"user{number}")))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))

    assert len(Users.read(users).by_name) == 24 + len(PASSWORDS)


def test_a_file_that_was_replaced_is_read_again(users: Path) -> None:
    file = UsersFile(users)
    assert file.users().get("vera") is not None

    change(users, lambda everybody: everybody.removed("vera"))

    assert file.users().get("vera") is None


def test_a_password_may_be_typed_with_either_form_of_an_accent(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    change(path, lambda everybody: everybody.added("zoe", Role.VIEWER, "déjà vu déjà vu"))

    user = Users.read(path).get("zoe")

    assert user is not None
    assert user.knows("de\u0301ja\u0300 vu de\u0301ja\u0300 vu")


def test_a_role_is_changed_and_each_change_is_a_line_of_the_log_without_secrets(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    wallet(users, "add", "ann", "--role", "viewer", "--password-stdin", typed="a good password\n")
    hash_before = json.loads(users.read_text())["users"][0]["hash"]

    changed = wallet(users, "role", "Ann", "approver")
    unknown = wallet(users, "role", "nobody", "viewer")
    wrong = wallet(users, "role", "ann", "king")
    password = wallet(users, "passwd", "ann", "--password-stdin", typed="another good one\n")
    removed = wallet(users, "remove", "ann")

    lines = [json.loads(item.stderr.splitlines()[-1]) for item in (changed, password, removed)]
    assert changed.stdout == "ann is approver now\n"
    assert [(line["event"], line["user"], line["change"]) for line in lines] == [
        ("console.user_changed", "ann", "role"),
        ("console.user_changed", "ann", "password"),
        ("console.user_changed", "ann", "removed"),
    ]
    assert lines[0]["role"] == "approver"
    assert "argon2" not in changed.stderr + password.stderr + removed.stderr
    assert hash_before not in changed.stderr
    assert (unknown.exit_code, wrong.exit_code) == (Exit.MISUSED, 2)
    assert "there is no nobody" in unknown.output
