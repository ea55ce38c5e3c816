"""`wallet operators`: who may do what is the database's word, and its changes are vouched for and logged."""

import json
from pathlib import Path

import asyncpg
import pytest

from tests.cli.terminal import CommandResult, wallet
from tests.dead_letters.people import PASSPHRASE, key_file, public_of
from wallet_worker.cli.exits import Exit
from wallet_worker.core.proofs import public_text


@pytest.fixture
def url(database_url: str) -> str:
    """Return the address of the database's owner."""
    return database_url


async def operators(url: str, *arguments: str, typed: str = "") -> CommandResult:
    """Run `wallet operators`."""
    return await wallet("operators", *arguments, typed=typed, WALLET_DATABASE_URL=url)


async def known(url: str, name: str, role: str, *more: str) -> CommandResult:
    """Add a person and their key."""
    added = await operators(
        url, "add", name, "--role", role, "--why", "a test", *more, typed=f"{PASSPHRASE}\n"
    )
    if added.status != Exit.DONE:
        return added
    return await operators(
        url,
        *("key", "add", name, public_text(public_of(name)), "--why", "a test", *more),
        typed=f"{PASSPHRASE}\n",
    )


async def test_people_are_added_listed_changed_and_revoked_and_each_change_is_logged(url: str) -> None:
    assert (await known(url, "ann", "operator")).status == Exit.DONE
    changed = await operators(url, "role", "ann", "viewer", "--why", "on leave")
    revoked = await operators(url, "revoke", "ann", "--why", "left")
    listed = json.loads((await operators(url, "list", "--json")).out)["operators"]
    log = json.loads((await operators(url, "log", "--json")).out)["log"]

    assert (changed.out, revoked.out) == ("ann is viewer now\n", "ann may do nothing any more\n")
    assert [(row["name"], row["role"], row["revoked_at"] is None) for row in listed] == [
        ("ann", "viewer", False)
    ]
    assert [(key["key_id"], key["revoked"]) for key in listed[0]["keys"]] == [(public_of("ann").key_id, True)]
    assert [(row["action"], row["name"], row["reason"]) for row in log] == [
        ("revoke", "ann", "left"),
        ("role", "ann", "on leave"),
        ("key add", "ann", "a test"),
        ("add", "ann", "a test"),
    ]
    assert all(row["login"] and row["via"].startswith("cli, ") for row in log)


async def test_once_there_are_two_approvers_another_one_vouches(url: str, tmp_path: Path) -> None:
    for name in ("bob", "anna"):
        assert (await known(url, name, "approver")).status == Exit.DONE
    voucher = str(key_file(tmp_path, "bob"))

    alone = await known(url, "mallory", "approver")
    own_key = await operators(
        url,
        "key",
        "add",
        "bob",
        public_text(public_of("bob again")),
        "--why",
        "x",
        "--voucher",
        voucher,
        "--passphrase-stdin",
        typed=f"{PASSPHRASE}\n",
    )
    wrong = await operators(
        url,
        "add",
        "cora",
        "--role",
        "approver",
        "--why",
        "x",
        "--voucher",
        voucher,
        "--passphrase-stdin",
        typed="not the passphrase\n",
    )
    operator = await operators(url, "add", "otto", "--role", "operator", "--why", "joined")
    promoted = await operators(url, "role", "otto", "approver", "--why", "x")
    vouched = await known(url, "cora", "approver", "--voucher", voucher, "--passphrase-stdin")
    log = json.loads((await operators(url, "log", "--json")).out)["log"]

    assert (alone.status, own_key.status, wrong.status, promoted.status) == (Exit.FOUND,) * 4
    assert "one of them other than mallory vouches for this" in alone.err
    assert "is not that of another approver" in own_key.err
    assert "the passphrase is wrong" in wrong.err
    assert (operator.status, vouched.status) == (Exit.DONE, Exit.DONE)
    assert [(row["name"], row["action"], row["vouched_by"]) for row in log[:2]] == [
        ("cora", "key add", "bob"),
        ("cora", "add", "bob"),
    ]


async def test_a_key_is_made_for_its_owner_alone_and_belongs_to_one_person(url: str, tmp_path: Path) -> None:
    path = tmp_path / "bob.key"
    short = await wallet(
        "operators", "key", "make", "bob", "-o", str(path), "--passphrase-stdin", typed="short\n"
    )
    common = await wallet(
        "operators", "key", "make", "bob", "-o", str(path), "--passphrase-stdin", typed="iloveyouiloveyou\n"
    )
    assert (common.status, path.exists()) == (Exit.MISUSED, False)
    assert "would be guessed soon" in common.err
    made = await wallet(
        "operators", "key", "make", "bob", "-o", str(path), "--passphrase-stdin", typed=f"{PASSPHRASE}\n"
    )
    over = await wallet(
        "operators", "key", "make", "bob", "-o", str(path), "--passphrase-stdin", typed=f"{PASSPHRASE}\n"
    )
    for name in ("bob", "bob2"):
        await operators(url, "add", name, "--role", "operator", "--why", "a test")
    added = await operators(url, "key", "add", "bob", made.out.strip(), "--why", "his laptop")
    twice = await operators(url, "key", "add", "bob2", made.out.strip(), "--why", "the same")
    nonsense = await operators(url, "key", "add", "bob2", "ed25519:AAAA", "--why", "x")
    nobody = await operators(url, "key", "add", "cora", public_text(public_of("cora")), "--why", "x")

    assert (short.status, over.status, nonsense.status) == (Exit.MISUSED,) * 3
    assert path.stat().st_mode & 0o077 == 0
    assert PASSPHRASE not in path.read_text()
    assert added.status == Exit.DONE
    assert (twice.status, "is bob's already: one key is one person" in twice.err) == (Exit.FOUND, True)
    assert (nobody.status, "there is no operator cora" in nobody.err) == (Exit.FOUND, True)


@pytest.mark.parametrize("table", ["operator_log", "dead_letter_signatures"])
async def test_what_was_logged_and_signed_stays_for_the_owner_too(
    owner: asyncpg.Connection, table: str
) -> None:
    for mode in ("origin", "replica"):
        await owner.execute(f"SET session_replication_role = {mode}")
        with pytest.raises(asyncpg.RestrictViolationError, match="what was signed or logged stays"):
            await owner.execute(f"DELETE FROM {table}")  # noqa: S608 -- names of ours
