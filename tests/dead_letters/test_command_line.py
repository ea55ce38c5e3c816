"""Need 14 (docs/operators-needs.md): the command line can do all of it, with plans by default, and JSON."""

import asyncio
import json
import signal
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.cli.terminal import CommandResult, environment, wallet
from tests.dead_letters.conftest import Desk
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import PASSPHRASE, key_file, know
from tests.journeys.messages import recharge
from tests.workers import KEYS
from wallet_worker.cli.dlq import runs
from wallet_worker.cli.exits import Exit
from wallet_worker.dead_letters.model.plans import Operation
from wallet_worker.store.errors import UnavailableError


@pytest.fixture
def url(database_url: str) -> str:
    """Give the database's address; no broker is needed."""
    return database_url


async def dlq(url: str, *arguments: str, who: str = "otto", typed: str = "") -> CommandResult:
    """Run `wallet dlq` as somebody."""
    command = arguments if arguments[0] == "runbook" else (*arguments, "--as", who)
    return await wallet(
        "dlq",
        *command,
        typed=typed,
        WALLET_DATABASE_URL=url,
        WALLET_PAYMENT_KEYS=json.dumps(KEYS),
    )


async def json_of(url: str, *arguments: str, who: str = "otto") -> dict[str, Any]:
    """Return the JSON that `wallet dlq` says as it succeeds."""
    found = await dlq(url, *arguments, "--json", who=who)
    assert found.status == Exit.DONE, found.err
    document: dict[str, Any] = json.loads(found.out)
    return document


@pytest.mark.need(14)
async def test_list_show_groups_and_status(desk: Desk, url: str) -> None:
    order = recharge("user-1")
    await desk.take_in(arrived(order), arrived(b"no JSON", headers("MALFORMED", "no JSON")))

    page = await json_of(url, "list", "--reason", "internal")
    letter = await json_of(url, "show", str(page["letters"][0]["letter_id"]))
    groups = await json_of(url, "groups")
    status = await json_of(url, "status")

    assert [item["serial_no"] for item in page["letters"]] == [order["serial_no"]]
    assert json.loads(b64decode(letter["whole"]["body"])) == order
    assert letter["prediction"]["label"] == "will be refused with ACCOUNT_NOT_FOUND"
    assert letter["runbook"]["safe"]
    assert {(group["reason"], group["count"]) for group in groups["groups"]} == {
        ("INTERNAL", 1),
        ("MALFORMED", 1),
    }
    assert status["states"]["waiting"] == 2


@pytest.mark.need(14)
async def test_a_plan_is_the_default_and_execute_acts(desk: Desk, url: str) -> None:
    await desk.take_in(arrived(recharge("user-1")))
    (letter_id,) = await desk.ids()

    plan = await json_of(url, "replay", "--ids", str(letter_id), "--why", "mended")
    assert await desk.state(letter_id) == "waiting"
    begun = await dlq(url, "replay", "--execute", plan["token"], "--no-wait", "--json")
    done = json.loads(begun.out)

    assert begun.status == Exit.UNKNOWN  # it goes on without this command
    assert await desk.state(letter_id) == "replaying"
    assert (done["ordered"], done["state"], done["actor"]) == (1, "running", "otto")


@pytest.mark.need(14)
async def test_discard_and_restore(desk: Desk, url: str) -> None:
    await desk.take_in(arrived(recharge("user-1")))
    (letter_id,) = await desk.ids()

    for verb, state in (("discard", "discarded"), ("restore", "waiting")):
        plan = await json_of(url, verb, "--ids", str(letter_id), "--why", "a test")
        done = await json_of(url, verb, "--execute", plan["token"])
        assert done["state"] == "done"
        assert await desk.state(letter_id) == state


@pytest.mark.need(14)
async def test_an_edit_needs_a_second_person_here_too(desk: Desk, url: str, tmp_path: Path) -> None:
    order = recharge("user-1", "1.001")
    await desk.take_in(arrived(order, headers("MALFORMED", "TWD has 2 digits")))
    (letter_id,) = await desk.ids()
    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps(order | {"amount": "1.00", "serial_no": f"{order['serial_no']}-mended"}))

    await know(desk.owner)
    keys = {name: str(key_file(tmp_path, name)) for name in ("otto", "anna")}

    async def signs(verb: str, name: str, typed: str = PASSPHRASE) -> CommandResult:
        return await wallet(
            *(
                "dlq",
                verb,
                plan["token"],
                "--key",
                keys[name],
                "--why",
                "fine",
                "--passphrase-stdin",
                "--json",
            ),
            typed=f"{typed}\n",
            WALLET_DATABASE_URL=url,
        )

    plan = await json_of(url, "edit", str(letter_id), "--body", str(mended), "--why", "three digits")
    unsigned = await dlq(url, "edit", "--execute", plan["token"])
    too_early, not_mine = await signs("approve", "anna"), await signs("sign", "anna")
    wrong = await signs("sign", "otto", typed="not the passphrase")
    own = await signs("sign", "otto")
    too_soon = await dlq(url, "edit", "--execute", plan["token"])
    self_approved = await signs("approve", "otto")
    other = await signs("approve", "anna")
    begun = await dlq(url, "edit", "--execute", plan["token"], "--no-wait", "--json")
    done = json.loads(begun.out)

    assert "otto must sign the plan" in unsigned.err
    assert "otto has not signed this plan yet" in too_early.err
    assert "otto has made this plan and signs it; you can approve it" in not_mine.err
    assert "the passphrase is wrong" in wrong.err
    assert "the plan is otto's own: another person approves it" in self_approved.err
    assert (own.status, json.loads(own.out)["state"]) == (Exit.DONE, "needs_approval")
    assert (other.status, json.loads(other.out)["approved_by"]) == (Exit.DONE, "anna")
    assert begun.status == Exit.UNKNOWN
    assert "second person" in too_soon.err
    assert done["approved_by"] == "anna"
    assert await desk.state(letter_id) == "edited"


@pytest.mark.need(14)
async def test_notes_audit_and_exports(desk: Desk, url: str) -> None:
    order = recharge("user-1")
    await desk.take_in(arrived(order))
    (letter_id,) = await desk.ids()

    await json_of(url, "note", str(letter_id), "asked the gateway")
    audit = await json_of(url, "audit", "--letter", str(letter_id))
    exported = await dlq(url, "export")
    lines = await dlq(url, "audit", "--export")

    assert [(item["actor"], item["action"], item["reason"]) for item in audit["rows"]] == [
        ("otto", "note", "asked the gateway")
    ]
    assert json.loads(b64decode(json.loads(exported.out)["body"])) == order
    assert [json.loads(line)["action"] for line in lines.out.splitlines()] == [
        "note",
        "export",
        "export audit",
    ]


@pytest.mark.need(14)
async def test_pause_resume_stop_and_progress(desk: Desk, url: str) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
    plan = await json_of(url, "replay", "--why", "all")
    begun = await dlq(url, "replay", "--execute", plan["token"], "--no-wait", "--json")
    number = json.loads(begun.out)["operation_id"]
    paused = await json_of(url, "pause", number, "--why", "a test")
    still = await dlq(url, "progress", number, "--wait")  # nobody goes on with it
    resumed = await json_of(url, "resume", number, "--why", "a test")
    running = await dlq(url, "progress", number)

    states = [
        (await json_of(url, verb, number, "--why", "a test"))["state"] for verb in ("pause", "resume", "stop")
    ]
    again = await dlq(url, "resume", number, "--why", "a test")
    shown = await dlq(url, "progress", number, "--json")
    progress = json.loads(shown.out)

    assert (paused["state"], resumed["state"]) == ("paused", "running")
    assert (begun.status, still.status, running.status) == (Exit.UNKNOWN,) * 3
    assert shown.status == Exit.FOUND
    assert states == ["paused", "running", "stopped"]
    assert (again.status, progress["cancelled"]) == (Exit.FOUND, 3)
    assert [await desk.state(item) for item in await desk.ids()] == ["waiting"] * 3


@pytest.mark.parametrize(
    ("arguments", "who", "status", "sentence"),
    [
        (("show", "4711"), "otto", Exit.FOUND, "there is no dead letter 4711"),
        (("replay", "--execute", "beefbeefbeef"), "otto", Exit.FOUND, "there is no plan"),
        (("replay", "--why", "x"), "otto", Exit.FOUND, "no letter fits"),
        (("replay", "--why", "x"), "vera", Exit.FOUND, "vera is a viewer; this needs an operator"),
        (("status",), "mallory", Exit.FOUND, "mallory is not in the database's list of operators"),
        (("status",), "bob\udcff", Exit.MISUSED, "is not UTF-8"),
        (("replay", "--why", "x"), "Otto", Exit.MISUSED, "is no name"),
        (("list", "--ids", "one"), "otto", Exit.MISUSED, "ids are numbers"),
        (("list", "--from", "yesterday"), "otto", Exit.MISUSED, "Should be a time such as 2026-01-31"),
        (("runbook", "NO_SUCH"), "otto", Exit.MISUSED, "is not a reason"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.need(14)
async def test_what_is_refused_says_why_and_has_its_status(
    url: str, owner: asyncpg.Connection, arguments: tuple[str, ...], who: str, status: Exit, sentence: str
) -> None:
    await know(owner)

    found = await dlq(url, *arguments, who=who)

    assert (found.status, found.out) == (status, "")
    assert sentence in found.err


@pytest.mark.need(16)
async def test_ctrl_c_once_a_plan_was_executed_leaves_the_end_unknown(desk: Desk, url: str) -> None:
    await desk.take_in(arrived(recharge("user-1")))
    plan = await json_of(url, "replay", "--why", "mended")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wallet_worker", "dlq", "replay", "--execute", plan["token"], "--as", "otto"),
        env=environment({"WALLET_DATABASE_URL": url, "WALLET_PAYMENT_KEYS": json.dumps(KEYS)}),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while b"nobody goes on with it" not in (await process.stderr.readline()):
            assert process.returncode is None
        process.send_signal(signal.SIGINT)
        rest = await process.stderr.read()

    assert (await process.wait(), b"it goes on without you: wallet dlq progress" in rest) == (
        Exit.UNKNOWN,
        True,
    )


@pytest.mark.need(16)
async def test_a_database_that_is_away_is_one_line_and_status_3() -> None:
    found = await dlq("postgresql://nobody@127.0.0.1:1/none", "list")

    assert found.status == Exit.UNAVAILABLE
    assert len(found.err_lines) == 1


@pytest.mark.parametrize("wait", ["--wait", "--no-wait"])
@pytest.mark.need(16)
async def test_a_database_that_goes_away_after_it_was_executed_leaves_the_end_unknown(
    desk: Desk, url: str, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    async def away(*_: object, **__: object) -> Operation:
        msg = "it is away"
        raise UnavailableError(msg)

    monkeypatch.setattr(runs, "watch", away)
    await desk.take_in(arrived(recharge("user-1")))
    plan = await json_of(url, "replay", "--why", "mended")

    begun = await dlq(url, "replay", "--execute", plan["token"], wait)
    number = str(await desk.owner.fetchval("SELECT operation_id FROM dead_letter_operations"))
    looked = await dlq(url, "progress", number)

    assert begun.status == Exit.UNKNOWN
    assert begun.err_lines[-1] == f"wallet: it goes on without you: wallet dlq progress {number}"
    assert looked.status == Exit.UNAVAILABLE


@pytest.mark.parametrize(
    ("letters", "others"), [(2, "1 other letter has it"), (3, "2 other letters have it")]
)
@pytest.mark.need(11)
async def test_a_letter_says_how_many_others_have_its_number(
    desk: Desk, url: str, letters: int, others: str
) -> None:
    order = recharge("user-1")
    await desk.take_in(*(arrived(order) for _ in range(letters)))

    found = await dlq(url, "show", str((await desk.ids())[0]), "--table")

    assert f"({others})" in " ".join(found.out.split())


@pytest.mark.need(17)
async def test_what_is_about_to_be_done_names_the_number_and_the_target(desk: Desk, url: str) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))

    found = await dlq(
        url, "discard", "--reason", "INTERNAL", "--user", "user-1", "--why", "a test", "--table"
    )

    lines = [" ".join(line.split()) for line in found.out.splitlines()]
    assert "plan: discard" in lines
    assert "letters 3" in lines
    assert "which reason INTERNAL, user id user-1" in lines
    assert "state ready" in lines  # in a word, and in no colour
    assert "\x1b" not in found.out
    (last,) = found.err_lines
    assert last.startswith("wallet: nothing is done yet; to do it: wallet dlq discard --execute ")


@pytest.mark.need(18)
async def test_the_runbook_needs_no_server() -> None:
    found = await wallet("dlq", "runbook", "AMOUNT_MISMATCH", "--json")

    lines = json.loads(found.out)["runbook"]
    assert {line["reason"] for line in lines} == {"AMOUNT_MISMATCH"}
    assert [line["advice"] for line in lines] == ["fits-now", "instructions", "mismatch", "refusal"]


HOSTILE = {
    "HTML": b'<script>alert(1)</script><img src=x onerror="alert(1)">',
    "terminal": b'{"type": "order.recharge.v1", "serial_no": "\\u001b]0;owned\\u0007", "x": "\\u001b[2J"}',
    "raw escapes": b"\x1b[2J\x1b]0;owned\x07\x9b31m",
    "invalid UTF-8": b'{"type": "\xff\xfe\xc3\x28"}',
    "one line of 64 KiB": b'{"a": "' + b"x" * 65_500 + b'"}',
    "right to left": '{"user_id": "\u202eecila\u2066", "a": "\u200f"}'.encode(),
    "NUL": b'{"a": "\x00", "b": "\\u0000"}',
    "half a pair": b'{"a": "\\ud800"}',
    "twice": b'{"amount": "1.00", "amount": "100.00"}',
    "deep": b"[" * 60_000,
    "huge number": b'{"a": 1e400, "b": ' + b"9" * 5_000 + b"}",
    "nothing": b"",
    "markup": b'{"a": "[bold red]x[/bold red] [link=http://evil]y[/link]"}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_payloads_are_kept_byte_for_byte_and_shown_harmlessly(
    desk: Desk, url: str, tmp_path: Path, body: bytes
) -> None:
    detail = "\x1b[31m<b>\u202e\ud800\0".encode(errors="surrogatepass").decode(errors="replace")
    await desk.take_in(arrived(body, headers("MALFORMED", detail, x_theirs="\x1b[2J\u202e")))
    (letter_id,) = await desk.ids()
    kept = tmp_path / "body"

    tables = [
        await dlq(url, "show", str(letter_id), "--body", str(kept), "--table"),
        await dlq(url, "list", "--table"),
        await dlq(url, "groups", "--table"),
        await dlq(url, "show", str(letter_id), "--table", who="vera"),
    ]
    documents = [await dlq(url, "show", str(letter_id), "--json"), await dlq(url, "export")]

    assert kept.read_bytes() == body
    for shown in tables:
        assert shown.status == Exit.DONE, shown.err
        assert all(mark.isprintable() or mark == "\n" for mark in shown.out)
    for shown in documents:
        assert shown.status == Exit.DONE
        assert shown.out.isascii()
        assert all(mark.isprintable() or mark == "\n" for mark in shown.out)
    assert b64decode(json.loads(documents[1].out)["body"]) == body
