"""A command whose commit is lost says that whether it was done is not known, and how to find out."""

import json
import os
import pwd
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.cli.terminal import CommandResult, wallet
from tests.dead_letters.conftest import OTTO, Desk, a_desk, one_letter
from tests.dead_letters.people import PASSPHRASE, key_file, know, public_of
from tests.faults.proxy import Proxy
from tests.journeys.messages import encoded, recharge
from tests.workers import KEYS
from wallet_worker.cli import exit_table
from wallet_worker.cli.exit_table import CommandEvent
from wallet_worker.cli.exits import Exit
from wallet_worker.core.proofs import public_text
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.store import api_keys
from wallet_worker.store.errors import InvariantBrokenError


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    """Give a desk, without the proxy."""
    async with a_desk(database_url) as desk:
        yield desk


# Commits of a command that only end its reading.
READ_BEFORE = {
    "migrate": 1,
    "operators key revoke": 1,  # whose key it is
    **dict.fromkeys(
        ("dlq note", "dlq export", "dlq edit", "dlq replay", "dlq pause", "dlq resume", "dlq stop"), 1
    ),
    **dict.fromkeys(("dlq discard", "dlq restore"), 2),
    **dict.fromkeys(("dlq sign", "dlq approve"), 4),
}


async def lost(proxy: Proxy, command: str, words: list[str]) -> CommandResult:
    """Run a command that loses its connection as the server hears its commit."""
    proxy.cut_after = READ_BEFORE.get(command, 0)
    proxy.cut.clear()
    proxy.cut_at = b"COMMIT;"
    said = await wallet(
        *words,
        typed=f"{PASSPHRASE}\n",
        WALLET_DATABASE_URL=proxy.url,
        WALLET_PAYMENT_KEYS=json.dumps(KEYS),
    )
    assert proxy.cut.is_set(), words
    proxy.heal()
    return said


async def test_a_lost_commit_is_told_as_not_known_by_every_command_that_changes_something(
    desk: Desk, database_url: str, tmp_path: Path
) -> None:
    await know(
        desk.owner, {"otto": "operator", "anna": "approver", pwd.getpwuid(os.getuid()).pw_name: "operator"}
    )
    letter, edited, discarded, restored = [await one_letter(desk, recharge(f"user-{n}")) for n in range(4)]
    new = encoded(recharge("user-1", serial_no="R-new"))
    (tmp_path / "new.json").write_bytes(new)
    by_otto = (await desk.operations.plan_edit(OTTO, edited, new, reason="a test")).token

    async def plan_of(action: Action, letter_id: int) -> str:
        return (await desk.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="a test")).token

    discard = await plan_of(Action.DISCARD, discarded)
    await desk.operations.execute(OTTO, await plan_of(Action.DISCARD, restored))
    restore = await plan_of(Action.RESTORE, restored)
    replay = await desk.operations.execute(OTTO, await plan_of(Action.REPLAY, letter))
    why = ["--why", "a test"]

    def signing(name: str) -> list[str]:
        return ["--key", str(key_file(tmp_path, name)), "--passphrase-stdin"]

    results: dict[str, CommandResult] = {}
    async with Proxy(database_url) as proxy:
        for command, arguments in {
            "migrate": [],
            "api key add": ["shop", "--role", "upstream"],
            "api key rotate": ["shop"],
            "webhooks add": ["shop", "orders", "https://shop.example/wallet"],
            "webhooks rotate": ["shop", "orders"],
            "webhooks disable": ["shop", "orders", *why],
            "webhooks enable": ["shop", "orders"],
            "webhooks replay": ["shop", "orders", "--since", "2026-01-02T00:00:00.000+00:00"],
            "api key revoke": ["", *why],
            "operators add": ["zoe", "--role", "operator", *why],
            "operators role": ["zoe", "viewer", *why],
            "operators key add": ["zoe", public_text(public_of("zoe")), *why],
            "operators key revoke": [public_of("zoe").key_id, *why],
            "operators revoke": ["zoe", *why],
            "dlq note": [str(letter), "a note"],
            "dlq export": [],
            "dlq edit": [str(edited), "--body", str(tmp_path / "new.json"), *why],
            "dlq sign": [by_otto, *signing("otto")],
            "dlq approve": [by_otto, *signing("anna"), *why],
            "dlq replay": ["--ids", str(edited), *why],
            "dlq discard": ["--execute", discard],
            "dlq restore": ["--execute", restore],
            "dlq pause": [str(replay.operation_id), *why],
            "dlq resume": [str(replay.operation_id), *why],
            "dlq stop": [str(replay.operation_id), *why],
        }.items():
            if command == "api key revoke":
                arguments[0] = await desk.owner.fetchval("SELECT min(key_id) FROM api_keys")
            results[command] = await lost(proxy, command, [*command.split(), *arguments])

    commands = [
        command
        for command in exit_table.every_command()
        if CommandEvent.COMMIT_LOST in (exit_table.row_of(command) or {})
    ]
    assert set(results) == set(commands)
    assert {
        command: (result.status, result.err)
        for command, result in results.items()
        if result.status != Exit.UNKNOWN
    } == {}
    assert {
        command: result.err
        for command, result in results.items()
        if "whether it was done is not known: " not in result.err
    } == {}
    assert {command: result.out for command, result in results.items() if result.out} == {}
    assert f"execute {discard} again, which is done once" in results["dlq discard"].err
    assert "run it again, which is safe" in results["migrate"].err
    # What the sentences advise finds out that all of it was done.
    assert await desk.owner.fetchval("SELECT count(*) FROM api_keys WHERE client = 'shop'") == 2
    assert await desk.owner.fetchval("SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL") == 1
    assert await desk.owner.fetchval("SELECT count(*) FROM webhook_secrets") == 2
    assert await desk.owner.fetchval("SELECT state FROM webhook_endpoints") == "enabled"
    assert await desk.state(discarded) == "discarded"
    assert await desk.state(restored) == "waiting"
    assert (await desk.operations.operation(OTTO, replay.operation_id)).state == "stopped"


async def test_what_was_lost_before_its_commit_was_not_done(desk: Desk, database_url: str) -> None:
    async with Proxy(database_url) as proxy:
        proxy.cut_at = b"INSERT INTO api_keys"
        result = await wallet(
            "api", "key", "add", "shop", "--role", "upstream", WALLET_DATABASE_URL=proxy.url
        )

    assert (result.status, result.out) == (Exit.UNAVAILABLE, "")
    assert "the database cannot be used" in result.err
    assert await desk.owner.fetchval("SELECT count(*) FROM api_keys") == 0


async def test_an_invariant_that_is_broken_is_a_fault_of_the_program(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: asyncpg.Connection) -> None:
        msg = "a row was not as it must be"
        raise InvariantBrokenError(msg)

    monkeypatch.setattr(api_keys, "every", broken)

    result = await wallet("api", "key", "list", WALLET_DATABASE_URL=database_url)

    assert result.status == Exit.BROKEN
    assert result.err == (
        "wallet: this is a fault of the program; whether anything was done is not known: "
        "a row was not as it must be\n"
    )
