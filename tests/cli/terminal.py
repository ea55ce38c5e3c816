"""Running `wallet` as people and programs do, and reading what it says."""

import asyncio
import os
import pty
import struct
import sys
import termios
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

from typer.testing import CliRunner

from tests.words import assert_for_people
from wallet_worker.cli import app

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    def __post_init__(self) -> None:
        """It is in the words of people; what a program reads as JSON has the texts of others in it."""
        assert_for_people(self.err)
        if not self.out.lstrip().startswith(("{", "[")):
            assert_for_people(self.out)

    @property
    def err_lines(self) -> list[str]:
        """Its lines on standard error."""
        return self.err.splitlines()


async def wallet(*arguments: str, typed: str = "", **settings: str) -> CommandResult:
    """Run `wallet` with these settings and no others, as a program does: in this process, which is quick."""
    variables: dict[str, str | None] = {name: None for name in os.environ if name.startswith("WALLET_")}
    # In a thread, because a command has an event loop of its own.
    result = await asyncio.to_thread(
        CliRunner(env={"COLUMNS": "120"}).invoke,
        app,
        arguments,
        input=typed,
        env=variables | settings,
        catch_exceptions=False,
        prog_name="wallet",
    )
    return CommandResult(result.exit_code, result.stdout, result.stderr)


async def wallet_process(*arguments: str, **settings: str) -> CommandResult:
    """Run `wallet` in a process, whose every word is seen, those of libraries too."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wallet_worker",
        *arguments,
        cwd=ROOT,
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    return CommandResult(process.returncode or 0, out.decode(), err.decode())


async def wallet_on_a_terminal(*arguments: str, **settings: str) -> CommandResult:
    """Run `wallet` on a terminal of 120 columns; what is written to it is all in `out`, errors too."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wallet_worker",
        *arguments,
        cwd=ROOT,
        env=environment(settings) | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    async with asyncio.timeout(PATIENCE_SECONDS):
        written = await asyncio.to_thread(_read_all, ours)
        status = await process.wait()
    return CommandResult(status, written.decode(), "")


def environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment of a process that has these settings of the wallet's, and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    return inherited | {"COLUMNS": "120"} | settings


def _read_all(terminal: int) -> bytes:
    """Return everything that is written to a terminal, until nobody has it open any more."""
    written = b""
    try:
        while chunk := os.read(terminal, 65_536):
            written += chunk
    except OSError:
        pass  # how Linux says that the other side is closed
    finally:
        os.close(terminal)
    return written
