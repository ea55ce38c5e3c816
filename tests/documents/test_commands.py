"""The command lines that the documents show: all of them are taken, and those that can be are run."""

import asyncio
import itertools
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer._click.core import Command
from typer._click.exceptions import UsageError
from typer.core import TyperGroup
from typer.main import get_command
from typing_extensions import override

from payment_simulator.cli import app as simulator
from tests.cli.terminal import wallet
from tests.client import gateway
from tests.documents.pages import ROOT, pages
from tests.workers import Workers
from wallet_schemas.parse import COMMANDS
from wallet_schemas.settlement import COLUMNS
from wallet_worker.cli import app

PROGRAMS: dict[str, Command] = {"wallet": get_command(app), "payment-simulator": get_command(simulator)}
INTEGRATORS, OPERATORS, ACCOUNTANTS = (
    ROOT / "docs" / f"{name}.md" for name in ("integrators", "operators", "accountants")
)
_SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def command_lines() -> Iterator[tuple[str, str]]:
    """Yield each line of a shell block that calls a program of ours, with its page."""
    for path, text in pages().items():
        for block in _SHELL.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                if line.partition(" ")[0] in PROGRAMS:
                    yield path.relative_to(ROOT).as_posix(), line


def example(path: Path, name: str) -> list[list[str]]:
    """Return the words of each line of an example that calls `wallet`, without `wallet`."""
    found = re.search(
        rf"<!-- example: {name} -->\n```sh\n(.*?)```\n<!-- end -->", path.read_text(), re.DOTALL
    )
    assert found is not None, f"{path} has no example {name}"
    lines = [shlex.split(line, comments=True) for line in found[1].splitlines()]
    return [words[1:] for words in lines if words and words[0] == "wallet"]


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_every_command_line_of_the_documents_is_one_that_the_program_takes(page: str, line: str) -> None:
    program, *words = itertools.takewhile(
        lambda word: word not in {">", "|", "||"}, shlex.split(line, comments=True)
    )
    command = PROGRAMS[program]
    path = program

    try:
        # Groups here take no options of their own before the name of a command.
        while isinstance(command, TyperGroup) and words and words[0] in command.commands:
            path, command = f"{path} {words[0]}", command.commands[words.pop(0)]
        # Making the context reads the words and runs nothing.
        command.make_context(path, words)
    except UsageError as exc:
        pytest.fail(f"{page}: {line}: {exc.format_message()}")


async def test_the_first_commands_of_the_readme_can_be_repeated(
    amqp_url: str, database_url: str, workers: Workers
) -> None:
    await workers.start()

    async with gateway.everything_is_paid(amqp_url):
        for words in 2 * example(ROOT / "README.md", "shell"):
            ended = await wallet(*words, WALLET_AMQP_URL=amqp_url, WALLET_DATABASE_URL=database_url)

            assert ended.status == 0, (words, ended)


async def test_every_command_of_the_integrators_does_what_it_says(
    amqp_url: str, database_url: str, workers: Workers
) -> None:
    await workers.start()

    async with gateway.everything_is_paid(amqp_url):
        for words in example(INTEGRATORS, "commands"):
            ended = await wallet(*words, WALLET_AMQP_URL=amqp_url, WALLET_DATABASE_URL=database_url)

            assert ended.status == 0, (words, ended)


async def test_every_command_of_the_accountants_does_what_it_says(
    amqp_url: str, database_url: str, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workers.start()
    async with gateway.everything_is_paid(amqp_url):
        for words in example(INTEGRATORS, "commands")[:3]:
            await wallet(*words, WALLET_AMQP_URL=amqp_url)
    (tmp_path / "settlement.csv").write_text(",".join(COLUMNS) + "\n")
    monkeypatch.chdir(tmp_path)

    for words in example(ACCOUNTANTS, "accounting"):
        ended = await wallet(*words, WALLET_DATABASE_URL=database_url)

        assert ended.status == 0, (words, ended)
    written = await asyncio.to_thread(lambda: sorted(path.name for path in tmp_path.iterdir()))
    assert written == ["carol.csv", "differences.csv", "settlement.csv", "waiting.csv"]


class AsShown(Workers):
    """Workers with the settings of the documents and no others."""

    shown: Mapping[str, str]

    @property
    @override
    def environment(self) -> dict[str, str]:
        """The environment of the tests, without settings of theirs, and the settings that are shown."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
        return inherited | dict(self.shown) | {"WALLET_HTTP_HOST": "127.0.0.1"}


async def test_the_setup_that_the_documents_show_makes_a_worker_ready(
    bare_url: str, database_url: str
) -> None:
    page = OPERATORS.read_text().split("<!-- example: setup -->")[1].split("<!-- end -->")[0]
    exported = dict(
        word.split("=", 1) for word in re.findall(r"^export (\S+=(?:'[^']*'|\S+))", page, re.MULTILINE)
    )
    settings = {name: value.strip("'") for name, value in exported.items()}
    settings |= {"WALLET_AMQP_URL": bare_url, "WALLET_DATABASE_URL": database_url}
    lines = example(OPERATORS, "setup")

    assert lines[-1] == ["worker"]
    for words in lines[:-1]:
        ended = await wallet(*words, **settings)
        assert ended.status == 0, (words, ended)
    AsShown.shown = settings
    async with AsShown(bare_url, database_url, None) as workers:
        await workers.start()


async def test_what_only_looks_at_dead_letters_works_where_there_are_none(database_url: str) -> None:
    for words in example(OPERATORS, "dead letters"):
        if words[1] in {"groups", "list", "runbook"}:
            ended = await wallet(*words, WALLET_DATABASE_URL=database_url)

            assert ended.status == 0, (words, ended)


def test_the_integrators_have_every_command_with_its_fields() -> None:
    rows = dict(
        re.findall(
            r"^\| `((?:account|order)\.\w+\.v[12])` \| ([^|]+) \|", INTEGRATORS.read_text(), re.MULTILINE
        )
    )

    assert rows.keys() == COMMANDS.keys()
    for type_, shown in rows.items():
        fields = {*COMMANDS[type_].model_fields} - {"type", "serial_no", "metadata", "valid_until"}
        listed = shown.replace("… and", "user_id, account_type, currency,").replace(" ", "").split(",")
        assert set(listed) == fields, type_
