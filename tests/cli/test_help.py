"""What the command says of itself."""

from collections.abc import Iterator
from importlib.metadata import version

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from tests.cli.terminal import wallet, wallet_on_a_terminal, wallet_process
from wallet_worker.cli import app
from wallet_worker.cli.exits import EXIT_STATUSES, Exit


def _commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name)


def every_command() -> list[tuple[str, ...]]:
    """Return the words of each command that does something."""
    root = get_command(app)
    assert isinstance(root, TyperGroup)
    return list(_commands(root))


def test_there_are_commands() -> None:
    assert {("migrate",), ("worker",), ("audit",), ("send", "recharge"), ("show", "statement")} <= set(
        every_command()
    )


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_each_command_has_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*words, "--help"], prog_name="wallet")

    assert result.exit_code == 0
    (example,) = [line.strip() for line in result.output.splitlines() if line.strip().startswith("Example: ")]
    assert f"wallet {' '.join(words)}" in example


def test_every_exit_status_is_documented() -> None:
    assert all(f"{status.value} " in EXIT_STATUSES for status in Exit)
    assert EXIT_STATUSES in CliRunner(env={"COLUMNS": "300"}).invoke(app, ["--help"]).output


async def test_the_version_is_printed() -> None:
    result = await wallet_process("--version")

    assert (result.status, result.out) == (0, f"wallet {version('wallet-worker')}\n")


async def test_without_a_command_there_is_help_and_status_2() -> None:
    result = await wallet()

    assert result.status == Exit.MISUSED
    assert "Usage: wallet" in result.out + result.err


async def test_help_on_a_terminal_is_readable() -> None:
    result = await wallet_on_a_terminal("--help")

    assert result.status == 0
    assert "topology" in result.out
