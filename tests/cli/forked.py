"""Many runs of `wallet` as processes, without the second that each would take to begin: forks of one that has begun.

`python -m tests.cli.forked` reads what to run as JSON from standard input and writes how each ended.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from tests.cli.terminal import CommandResult, environment


class Output(StrEnum):
    """Where standard output goes to, or what else happens to a run."""

    KEPT = "kept"
    FULL = "full"
    """A disk that is full."""
    CLOSED = "closed"
    """A pipe that nobody reads."""
    INTERRUPTED = "interrupted"
    """Kept; and as soon as a server, which never answers, was spoken to, Ctrl-C is pressed."""


async def run_all(
    runs: Sequence[Sequence[str]],
    output: Output,
    *,
    folder: Path,
    variables: dict[str, str],
    at_once: bool = False,
) -> list[CommandResult]:
    """Return how each run ended, one after the other or all at once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cli.forked", env=environment(variables) | {"FOLDER": str(folder)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    body = json.dumps({"runs": runs, "output": output, "at_once": at_once})
    answer, _ = await process.communicate(body.encode())
    return [CommandResult(*row) for row in json.loads(answer)]


def main() -> None:
    """Answer what was asked."""
    body = json.loads(sys.stdin.buffer.read())
    _import_all()
    os.chdir(os.environ["FOLDER"])
    output = Output(body["output"])
    if body["at_once"]:
        started = [_Run(arguments, output) for arguments in body["runs"]]
        ended = [run.wait() for run in started]
    else:
        ended = [_Run(arguments, output).wait() for arguments in body["runs"]]
    sys.stdout.write(json.dumps(ended))


def _import_all() -> None:
    """Import what the commands import when they run."""
    import wallet_worker.accounting.export
    import wallet_worker.accounting.reconcile
    import wallet_worker.audit.report
    import wallet_worker.client
    import wallet_worker.console.security.users
    import wallet_worker.dead_letters.operations
    import wallet_worker.store.migrate  # noqa: F401 -- so that a fork has it


class _Run:
    """One run, in a fork of this process."""

    def __init__(self, arguments: list[str], output: Output) -> None:
        self._output = output
        self._files = TemporaryFile(), TemporaryFile()  # noqa: SIM115 -- for as long as the run
        self._server = socket.create_server(("127.0.0.1", 0)) if output is Output.INTERRUPTED else None
        self._pid = os.fork()
        if self._pid == 0:
            self._child(arguments)

    def wait(self) -> tuple[int, str, str]:
        """Return the exit status, and what was written."""
        if self._server is not None:
            self._server.settimeout(20)
            try:
                connection, _ = self._server.accept()
                connection.recv(1)
                os.kill(self._pid, signal.SIGINT)
            except OSError:
                pass  # it has ended without a server, or never asked one
        _, ended = os.waitpid(self._pid, 0)
        texts = [os.pread(file.fileno(), 1_000_000, 0).decode() for file in self._files]
        return os.waitstatus_to_exitcode(ended), texts[0], texts[1]

    def _child(self, arguments: list[str]) -> None:
        """Be the command; never return, and end in any case."""
        status = 99
        signal.alarm(40)
        try:
            self._redirect()
            from wallet_worker.cli import main as wallet

            sys.argv = ["wallet", *arguments]
            wallet()
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else 0
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)

    def _redirect(self) -> None:
        if self._server is not None:
            port = self._server.getsockname()[1]
            os.environ["WALLET_AMQP_URL"] = f"amqp://u:p@127.0.0.1:{port}/"
            os.environ["WALLET_DATABASE_URL"] = f"postgresql://u:p@127.0.0.1:{port}/d"
        out, err = (file.fileno() for file in self._files)
        if self._output is Output.FULL:
            out = os.open("/dev/full", os.O_WRONLY)
        elif self._output is Output.CLOSED:
            reading, out = os.pipe()
            os.close(reading)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        streams: Any = sys
        streams.stdin = streams.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        streams.stdout = streams.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        streams.stderr = streams.__stderr__ = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
