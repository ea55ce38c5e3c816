"""`wallet keys` and `wallet topology users`: files for their owner's eyes, and nothing secret on a terminal."""

import json
import stat
from pathlib import Path

import pytest

from tests.cli.terminal import wallet
from wallet_schemas.keys import read_seal_key, read_signing_key, read_verifying_keys
from wallet_schemas.signature import SigningDirection, verify
from wallet_worker.cli.exits import Exit

BODY = b'{"type":"payment.result.v1"}'
AT = 1_767_323_045


async def test_a_gateways_key_is_made_in_two_files_of_which_one_cannot_sign(tmp_path: Path) -> None:
    signer, verifier = tmp_path / "acme.json", tmp_path / "keys.json"

    made = await wallet(
        "keys", "make", "gateway", "acme-1", "-o", str(signer), "--keys", str(verifier), "--channel", "card"
    )

    assert made.status == Exit.DONE
    key = read_signing_key(signer.read_text())
    keys = read_verifying_keys(verifier.read_text())
    assert verify(key.sign(BODY, AT, SigningDirection.RESULTS), BODY, keys).channels == frozenset({"card"})
    assert "private" not in verifier.read_text()
    assert json.loads(signer.read_text())["private"] not in made.out + made.err
    assert [stat.S_IMODE(path.stat().st_mode) for path in (signer, verifier)] == [0o600, 0o600]


async def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    signer, verifier = tmp_path / "acme.json", tmp_path / "keys.json"
    words = ("keys", "make", "gateway", "acme-1", "-o", str(signer), "--keys", str(verifier))
    await wallet(*words)
    before = signer.read_text(), verifier.read_text()

    again = await wallet(*words)
    other = await wallet("keys", "make", "request", "wallet-1", "-o", str(signer))

    assert (again.status, other.status) == (Exit.MISUSED, Exit.MISUSED)
    assert (signer.read_text(), verifier.read_text()) == before


async def test_a_rotation_leaves_both_keys_good_and_ends_the_old_one(tmp_path: Path) -> None:
    old, new, verifier = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "keys.json"
    bounds = ("--channel", "card", "--kind", "result")
    await wallet("keys", "make", "gateway", "acme-1", "-o", str(old), "--keys", str(verifier), *bounds)

    rotated = await wallet("keys", "rotate", str(verifier), "acme-1", "acme-2", "-o", str(new))
    listed = await wallet("keys", "list", str(verifier), "--json")

    assert (rotated.status, listed.status) == (Exit.DONE, Exit.DONE)
    keys = read_verifying_keys(verifier.read_text())
    for path in (old, new):
        verify(read_signing_key(path.read_text()).sign(BODY, AT, SigningDirection.RESULTS), BODY, keys)
    assert keys["acme-1"].not_after is not None
    assert keys["acme-2"].not_after is None
    assert (keys["acme-2"].channels, keys["acme-2"].kinds) == (frozenset({"card"}), frozenset({"result"}))
    rows = [json.loads(line) for line in listed.out.splitlines()]
    assert [(row["key"], row["state"]) for row in rows] == [("acme-1", "good"), ("acme-2", "good")]


async def test_a_seal_is_a_secret_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "seal.json"

    made = await wallet("keys", "make", "seal", "seal-1", "-o", str(path))

    assert made.status == Exit.DONE
    assert read_seal_key(path.read_text())[0] == "seal-1"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("make", "gateway", "a b", "-o", "x"), "the key id 'a b'"),
        (("make", "gateway", "k", "-o", "/not/there/x"), "cannot be made"),
        (("make", "gateway", "k", "-o", "x", "--kind", "refund"), "kinds are"),
        (("list", "/not/there"), "cannot be read"),
        (("rotate", "/not/there", "a", "b", "-o", "x"), "cannot be read"),
    ],
)
async def test_what_cannot_be_made_is_said_in_one_line(
    words: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    ended = await wallet("keys", *words)

    assert ended.status == Exit.MISUSED
    (line,) = ended.err_lines
    assert sentence in line
    assert not any(tmp_path.glob("*"))  # noqa: ASYNC240 -- a folder of the test


PASSWORDS = {
    name: f"a password of {name}"
    for name in ("setup", "worker", "keeper", "console", "monitor", "up-shop", "gateway-acme", "sub-audit")
}


async def test_the_brokers_users_are_printed_with_hashes_only(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))

    printed = await wallet(
        *("topology", "users", "--upstream", "shop=account.open,order.*", "--gateway", "acme"),
        *("--subscriber", "audit=order.*"),
        WALLET_BROKER_PASSWORDS_FILE=str(passwords),
    )

    assert printed.status == Exit.DONE
    document = json.loads(printed.out)
    assert {user["name"] for user in document["users"]} == PASSWORDS.keys()
    assert {tag for user in document["users"] for tag in user["tags"]} == {"monitoring"}
    assert "a password" not in printed.out
    (topic,) = [
        item
        for item in document["topic_permissions"]
        if (item["user"], item["exchange"]) == ("up-shop", "wallet.commands")
    ]
    assert topic["write"] == r"^(account\.open|order\..*)$"
    assert {
        item["configure"] for item in document["permissions"] if item["user"] in {"worker", "keeper"}
    } == {"^$"}


@pytest.mark.parametrize(
    ("words", "settings", "sentence"),
    [
        ((), {}, "WALLET_BROKER_PASSWORDS is not set"),
        ((), {"WALLET_BROKER_PASSWORDS": "hush-hush"}, "no JSON object"),
        ((), {"WALLET_BROKER_PASSWORDS": '{"worker": "hush-hush"}'}, "setup has no usable password"),
        (("--upstream", "shop"), {"WALLET_BROKER_PASSWORDS": "{}"}, "should look like NAME=VALUE"),
        (("--upstream", "shop=order.x"), {"WALLET_BROKER_PASSWORDS": "{}"}, "no type of command or query"),
        (("--gateway", "a", "--gateway", "a"), {"WALLET_BROKER_PASSWORDS": "{}"}, "given twice"),
    ],
)
async def test_users_that_cannot_be_made_are_said_without_a_password(
    words: tuple[str, ...], settings: dict[str, str], sentence: str
) -> None:
    ended = await wallet("topology", "users", *words, **settings)

    assert ended.status == Exit.MISUSED
    (line,) = ended.err_lines
    assert sentence in line
    assert "hush-hush" not in line
