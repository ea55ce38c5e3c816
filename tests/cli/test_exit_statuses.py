"""The table of exit statuses: every command has a row, and every cell is reached with real servers.

Each command is run as its help says it is: with the arguments of its example.
"""

import asyncio
import json
import os
import pwd
import shlex
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import asyncpg
import pytest
from typer.testing import CliRunner

from tests.audit import ledger
from tests.cli.forked import Output, run_all
from tests.cli.terminal import CommandResult, environment, wallet
from tests.client import gateway
from tests.dead_letters.people import key_file, know
from tests.servers import Servers
from tests.servers.ports import free_ports
from tests.workers import KEYS, Workers
from wallet_schemas.commands import OpenAccount
from wallet_schemas.settlement import COLUMNS
from wallet_worker.cli import app, exit_table
from wallet_worker.cli.exit_table import CommandEvent
from wallet_worker.cli.exits import Exit
from wallet_worker.client import WalletClient, new_serial_no

COMMANDS = exit_table.every_command()
# They end when they are told to, or with 1, as tests/journeys/test_starting.py and those of the console show.
SERVICES = ("worker", "keeper", "console", "api", "webhooks")

pytestmark = pytest.mark.usefixtures("folder")


def those_with(event: CommandEvent) -> list[str]:
    """Return the commands to which it may happen."""
    return [command for command in COMMANDS if event in (exit_table.row_of(command) or {})]


def wanted(event: CommandEvent, commands: list[str]) -> dict[str, int]:
    """Return what the table says of these commands."""
    return {command: int((exit_table.row_of(command) or {})[event]) for command in commands}


def example(command: str) -> list[str]:
    """Return the words of a command and the arguments of the example in its help."""
    shown = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*command.split(), "--help"], prog_name="wallet")
    lines = [line.strip() for line in shown.output.splitlines() if line.strip().startswith("Example: ")]
    is_group = any(other.startswith(f"{command} ") for other in COMMANDS)
    if not lines or is_group:
        return command.split()
    words = shlex.split(lines[0])
    words = words[words.index("wallet") + 1 :]
    ends = [at for at, word in enumerate(words) if word in {"||", "&&", ">", "|"} or word.startswith("#")]
    return words[: min(ends, default=len(words))]


EXAMPLES = {command: example(command) for command in COMMANDS}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder in which commands run, with the files that examples name."""
    (tmp_path / "settlement.csv").write_text(",".join(COLUMNS) + "\n")
    (tmp_path / "mended.json").write_text(json.dumps(OpenAccount.examples()[0]))
    for name in ("ann", "bob"):
        key_file(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(amqp_url: str, database_url: str) -> dict[str, str]:
    """Return the environment that every command can run with."""
    return {
        "WALLET_AMQP_URL": amqp_url,
        "WALLET_DATABASE_URL": database_url,
        "WALLET_PAYMENT_KEYS": json.dumps(KEYS),
        "WALLET_HTTP_PORT": "0",
        "WALLET_CONSOLE_PORT": "0",
        "WALLET_API_PORT": "0",
    }


def assert_spoken(results: dict[str, CommandResult]) -> None:
    """What went wrong is said in sentences: no traceback, no class, nothing of Python's own."""
    for command, result in results.items():
        assert "Traceback" not in result.err, (command, result.err)
        assert "Exception ignored" not in result.err, (command, result.err)


def statuses(results: dict[str, CommandResult]) -> dict[str, int]:
    return {command: int(result.status) for command, result in results.items()}


async def test_every_command_has_a_row_and_the_page_is_the_table() -> None:
    assert [command for command in COMMANDS if exit_table.row_of(command) is None] == []
    assert exit_table.PAGE.read_text() == exit_table.page(COMMANDS)
    assert all(
        any(status in row.values() for row in exit_table.TABLE.values()) for status in Exit if status != 6
    )


async def test_help() -> None:
    commands = those_with(CommandEvent.HELP)

    results = {command: await wallet(*command.split(), "--help") for command in commands}

    assert statuses(results) == wanted(CommandEvent.HELP, commands)


async def test_bad_usage() -> None:
    commands = those_with(CommandEvent.BAD_USAGE)

    results = {command: await wallet(*EXAMPLES[command], "--no-such-option") for command in commands}

    assert statuses(results) == wanted(CommandEvent.BAD_USAGE, commands)
    assert {command for command, result in results.items() if "--no-such-option" not in result.err} == set()
    assert_spoken(results)


async def test_bad_settings() -> None:
    commands = those_with(CommandEvent.BAD_SETTING)
    nonsense = settings("nowhere", "nowhere")

    missing = {command: await wallet(*EXAMPLES[command]) for command in commands}
    wrong = {command: await wallet(*EXAMPLES[command], **nonsense) for command in commands}

    assert statuses(missing) == statuses(wrong) == wanted(CommandEvent.BAD_SETTING, commands)
    assert {command for command, item in missing.items() if "is not set" not in item.err} == set()
    assert_spoken(wrong)


async def test_the_database_is_away() -> None:
    commands = those_with(CommandEvent.DATABASE_AWAY)
    (port,) = free_ports(1)
    variables = settings("amqp://nobody@127.0.0.1:1/", f"postgresql://u:secret@127.0.0.1:{port}/d")

    results = {command: await wallet(*EXAMPLES[command], **variables) for command in commands}

    assert statuses(results) == wanted(CommandEvent.DATABASE_AWAY, commands)
    assert {
        c: result.err for c, result in results.items() if "the database cannot be used: " not in result.err
    } == {}
    assert_spoken(results)


async def test_the_database_does_not_let_it_look(database_url: str, owner: asyncpg.Connection) -> None:
    commands = those_with(CommandEvent.DATABASE_DENIES)
    name = f"powerless_{new_serial_no().replace('-', '_').lower()}"
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    url = urlsplit(database_url)
    variables = settings(
        "amqp://nobody@127.0.0.1:1/",
        urlunsplit(url._replace(netloc=f"{name}:secret@{url.netloc.rpartition('@')[2]}")),
    )

    results = {command: await wallet(*EXAMPLES[command], **variables) for command in commands}

    await owner.execute(f"DROP ROLE {name}")
    assert statuses(results) == wanted(CommandEvent.DATABASE_DENIES, commands)
    assert_spoken(results)


async def test_the_database_is_locked(folder: Path, database_url: str, owner: asyncpg.Connection) -> None:
    commands = those_with(CommandEvent.DATABASE_LOCKED)
    variables = settings("amqp://nobody@127.0.0.1:1/", database_url)
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'wallet'")

    async with owner.transaction():
        for (table,) in tables:
            await owner.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        found = await run_all(
            [EXAMPLES[item] for item in commands],
            Output.KEPT,
            folder=folder,
            variables=variables,
            at_once=True,
        )

    results = dict(zip(commands, found, strict=True))
    assert statuses(results) == wanted(CommandEvent.DATABASE_LOCKED, commands)
    assert {
        command: result.err for command, result in results.items() if "the database " not in result.err
    } == {}
    assert_spoken(results)


async def test_the_broker_is_away() -> None:
    commands = those_with(CommandEvent.BROKER_AWAY)
    (port,) = free_ports(1)
    variables = settings(f"amqp://u:secret@127.0.0.1:{port}/", "postgresql://nobody@127.0.0.1:1/d")

    results = {command: await wallet(*EXAMPLES[command], **variables) for command in commands}

    assert statuses(results) == wanted(CommandEvent.BROKER_AWAY, commands)
    assert {command for command, result in results.items() if "cannot be reached" not in result.err} == set()
    assert_spoken(results)


async def test_nobody_answers(amqp_url: str) -> None:
    variables = settings(amqp_url, "postgresql://nobody@127.0.0.1:1/d")
    for event in (CommandEvent.NO_ANSWER, CommandEvent.OUTCOME_UNKNOWN):
        commands = those_with(event)

        results = {c: await wallet(*EXAMPLES[c], "--timeout", "0.3", **variables) for c in commands}

        assert statuses(results) == wanted(event, commands)
        assert_spoken(results)


async def test_it_is_interrupted(folder: Path) -> None:
    commands = [command for command in those_with(CommandEvent.INTERRUPTED) if command not in SERVICES]
    variables = settings("amqp://nobody@127.0.0.1:1/", "postgresql://nobody@127.0.0.1:1/d")

    found = await run_all(
        [EXAMPLES[item] for item in commands], Output.INTERRUPTED, folder=folder, variables=variables
    )

    results = dict(zip(commands, found, strict=True))
    assert statuses(results) == wanted(CommandEvent.INTERRUPTED, commands)
    assert {
        c: result.err
        for c, result in results.items()
        if not {"interrupted", "goes"} & set(result.err.replace(";", "").split())
    } == {}
    assert_spoken(results)


@pytest.fixture
async def running(amqp_url: str, database_url: str, workers: Workers, servers: Servers) -> dict[str, str]:
    """Give the settings of a wallet at work, in which alice has money and a hold, and bob and a shop have accounts."""
    await workers.start()
    async with WalletClient(amqp_url) as client:
        for user in ("alice", "bob", "shop", "carol"):
            await client.open_account(user, "TWD")
        for number in ("R-20260102-000001", "R-2", "R-3"):
            await client.recharge("alice", "100.00", "TWD", "card", serial_no=number)
            await gateway.send_result(amqp_url, number)
            await client.wait_until_settled(number)
        await client.recharge("alice", "1.00", "TWD", "card", serial_no="R-PENDING")
        await client.hold("alice", "50.00", "TWD", 3_600, serial_no="H-20260102-000001")
    return settings(amqp_url, database_url) | {"WALLET_MANAGEMENT_URL": servers.management_url}


# Whose success is shown where there is what it is about: in tests/dead_letters/test_command_line.py, tests/api and
# tests/webhooks.
SHOWN_ELSEWHERE = {
    "api key revoke",
    *(f"webhooks {name}" for name in ("add", "rotate", "enable", "disable", "deliveries", "replay")),
    *(f"operators {verb}" for verb in ("add", "role", "revoke", "key make", "key add", "key revoke")),
    *(f"dlq {verb}" for verb in ("show", "replay", "discard", "restore", "edit", "sign", "approve", "note")),
    *(f"dlq {verb}" for verb in ("progress", "pause", "resume", "stop")),
}


def succeeding(command: str) -> list[str]:
    """Return the example of a command, with what lets it succeed in a test."""
    arguments = [word for word in EXAMPLES[command] if word not in {"--until-settled", "--wait"}]
    if command.startswith("console user") and command.endswith(("add", "passwd")):
        arguments.append("--password-stdin")
    if command == "keys rotate":
        arguments = [word.replace("acme.json", "acme-again.json") for word in arguments]
    if command == "migrate":
        arguments = ["migrate"]  # the logins of the example are not there
    if command == "send cancel":
        arguments[2] = "R-PENDING"
    if command == "send open":
        arguments[2] = f"user-{new_serial_no()}"
    if command == "send close":
        arguments[2] = "carol"
    return arguments


# A hold is captured before it is released, an account frozen before it is unfrozen, a person made before all else.
IN_TURN = (
    "console user add",
    "console user",
    "send open",
    "send freeze",
    "send unfreeze",
    "send capture",
    "send",
)
LAST = ("send release", "send close", "console user remove")


def in_turn(commands: list[str]) -> list[str]:
    """Return the commands in an order in which each can succeed."""
    first = [
        command
        for begin in IN_TURN
        for command in commands
        if command.startswith(begin) and command not in LAST
    ]
    ordered = list(dict.fromkeys(first))
    rest = [command for command in commands if command not in ordered and command not in LAST]
    return ordered + rest + [item for item in LAST if item in commands]


async def test_it_is_done(running: dict[str, str]) -> None:
    commands = [
        item for item in in_turn(those_with(CommandEvent.DONE)) if item not in {*SERVICES, *SHOWN_ELSEWHERE}
    ]

    fields = {command: await on_success(command, running) for command in commands}

    assert {c: (field.status, field.err) for c, field in fields.items() if field.status != Exit.DONE} == {}
    assert wanted(CommandEvent.DONE, commands) == dict.fromkeys(commands, 0)


async def on_success(command: str, variables: dict[str, str]) -> CommandResult:
    """Run a command as it succeeds; a password is given to those that ask for one."""
    result = await asyncio.to_thread(
        CliRunner(env={"COLUMNS": "120"}).invoke,
        app,
        succeeding(command),
        input="a password of some length\n",
        env=variables,
        prog_name="wallet",
    )
    return CommandResult(result.exit_code, result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("event", "output", "is_said"),
    [(CommandEvent.OUTPUT_FULL, Output.FULL, True), (CommandEvent.OUTPUT_CLOSED, Output.CLOSED, False)],
)
async def test_the_output_cannot_be_written(
    event: CommandEvent,
    output: Output,
    *,
    is_said: bool,
    folder: Path,
    running: dict[str, str],
) -> None:
    """Of every command its help, and of those that print something when they succeed, that, as JSON and as tables."""
    commands = those_with(event)
    printing = [item for item in those_with(CommandEvent.DONE) if prints(item)]
    runs = [(command, [*command.split(), "--help"]) for command in commands]
    runs += [(item, [*without_file(succeeding(item)), *form]) for item in printing for form in forms_of(item)]

    found = await run_all([arguments for _, arguments in runs], output, folder=folder, variables=running)

    fields = {" ".join(arguments): field for (_, arguments), field in zip(runs, found, strict=True)}
    assert {
        run: (field.status, field.err) for run, field in fields.items() if field.status != Exit.UNWRITTEN
    } == {}
    assert wanted(event, commands) == dict.fromkeys(commands, Exit.UNWRITTEN)
    assert {
        run: field.err for run, field in fields.items() if ("cannot be written" in field.err) is not is_said
    } == {}
    assert_spoken(fields)


def prints(command: str) -> bool:
    """Whether a command prints something as it succeeds, also where there are no letters, and asks no password."""
    return command not in {
        *SERVICES,
        *SHOWN_ELSEWHERE,
        "send close",
        "dlq export",
        "dlq plan",
    } and not command.startswith("console user")


def without_file(arguments: list[str]) -> list[str]:
    """Return arguments that print what they would write to a file; each command in it is another one."""
    if "-o" in arguments and arguments[0] == "export":
        at = arguments.index("-o")
        arguments = arguments[:at] + arguments[at + 2 :]
    if arguments[0] == "send":
        arguments = [*arguments, "--serial", f"S-{new_serial_no()}"]
    return arguments


def takes(command: str, option: str) -> bool:
    """Whether a command has an option."""
    return option in CliRunner(env={"COLUMNS": "300"}).invoke(app, [*command.split(), "--help"]).output


def forms_of(command: str) -> list[list[str]]:
    """Return the options for each form in which a command prints."""
    return [["--json"], ["--table"]] if takes(command, "--json") else [[]]


async def test_output_that_is_closed_from_the_beginning_is_unwritten_too(folder: Path) -> None:
    for words in (["--help"], ["dlq", "runbook"], ["dlq", "runbook", "--json"], ["--version"]):
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "wallet_worker", *words,
            cwd=folder, env=environment({}), stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

        _, err = await process.communicate()

        assert (process.returncode, err) == (
            Exit.UNWRITTEN,
            b"wallet: standard output cannot be written: it is closed\n",
        )


async def test_standard_error_that_cannot_be_written_changes_no_status(folder: Path) -> None:
    for redirected in ("2>/dev/full", "2>&-"):
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "wallet_worker", "audit",
            cwd=folder, env=environment({}), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

        out, _ = await process.communicate()

        assert (process.returncode, out) == (Exit.MISUSED, b"")


async def test_something_is_found(
    folder: Path, bare_url: str, database_url: str, owner: asyncpg.Connection
) -> None:
    await ledger.write(owner)
    await ledger.corrupt(owner, "UPDATE accounts SET line_no = line_no + 1")
    (folder / "settlement.csv").write_text(
        ",".join(COLUMNS) + "\nR-99,charge,1.00,TWD,succeeded,g,2026-01-02T00:00:00Z\n"
    )
    connection = await aio_pika.connect(bare_url)
    await (await connection.channel()).declare_queue(
        "wallet.commands", durable=True
    )  # classic, and not quorum
    await connection.close()
    commands = [item for item in those_with(CommandEvent.FOUND) if item not in SERVICES]
    variables = settings(bare_url, database_url)

    results = {command: await wallet(*EXAMPLES[command], **variables) for command in commands}

    assert statuses(results) == wanted(CommandEvent.FOUND, commands)
    assert_spoken(results)


async def test_it_is_refused(running: dict[str, str]) -> None:
    commands = those_with(CommandEvent.REFUSED)
    login = pwd.getpwuid(os.getuid()).pw_name
    refused = {
        # In a currency that is not allowed, or about what is not there.
        **{command: [word.replace("TWD", "XTS") for word in EXAMPLES[command]] for command in commands},
        "send release": ["send", "release", "H-nobody"],
        "operators add": ["operators", "add", login, "--role", "viewer", "--why", "there already"],
    }
    owner = await asyncpg.connect(running["WALLET_DATABASE_URL"])
    try:
        await know(owner, {login: "viewer"})
    finally:
        await owner.close()

    results = {command: await wallet(*refused[command], **running) for command in commands}

    assert statuses(results) == wanted(CommandEvent.REFUSED, commands)
    assert_spoken(results)


async def test_there_is_no_such_thing(folder: Path, running: dict[str, str]) -> None:
    (folder / "settlement.csv").unlink()
    commands = those_with(CommandEvent.NOT_FOUND)
    absent = {
        command: [word.replace("alice", "nobody") for word in EXAMPLES[command]] for command in commands
    } | {
        "show order": ["show", "order", "nobody-sent-this"],
        "dlq plan": ["dlq", "plan", "beefbeefbeef"],
    }
    for verb in ("replay", "discard", "restore", "edit"):
        absent[f"dlq {verb}"] = ["dlq", verb, "--execute", "beefbeefbeef"]

    fields = {}
    for command in commands:
        arguments = absent[command] + (["--password-stdin"] if command.endswith("passwd") else [])
        fields[command] = await wallet(*arguments, **running)

    assert {c: (field.status, field.err) for c, field in fields.items() if not field.err} == {}
    assert statuses(fields) == wanted(CommandEvent.NOT_FOUND, commands)
    assert_spoken(fields)


def test_every_event_of_the_table_has_its_test() -> None:
    """So that a cell that nobody has reached cannot stand in the table."""
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))

    assert [event.name for event in CommandEvent if f"Event.{event.name}" not in source] == []


async def test_a_fault_of_the_program_is_a_sentence_and_status_6(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("wallet_worker.accounting.export.orders", broken)

    result = await wallet("export", "orders", **settings("amqp://nobody@127.0.0.1:1/", database_url))

    assert (result.status, result.out) == (Exit.BROKEN, "")
    (sentence,) = result.err_lines
    assert sentence.startswith(
        "wallet: this is a fault of the program; whether anything was done is not known."
    )
    assert "KeyError" not in sentence
