"""Worker, keeper, audit, console and simulated gateway, as operators start them, and `wallet` run to its end."""

import http.client
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from typing_extensions import override

from tests.demo import cast, fates
from tests.servers.private import Folder, Program
from wallet_worker.console.security.users import Users, change
from wallet_worker.settings.operators import Role

HTTP_SECONDS: Final = 2
COMMAND_SECONDS: Final = 120  # a migration on a machine that is busy with something else


class CommandFailed(Exception):  # noqa: N818 - named as what happened
    """A command of the wallet's did not do what it was asked; the text has its last words."""


class Member(Program):
    """A process of the house that tells its health over HTTP; its log is `server.log` in its own folder."""

    def __init__(
        self,
        folder: Folder,
        *,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        port: int,
        pages: Sequence[str],
    ) -> None:
        """`pages` are what it shows on its port; the first one says with 200 that it is ready."""
        super().__init__(folder, name=name)
        self._arguments = arguments
        self._settings = environment
        self._port = port
        self._pages = pages

    @property
    def name(self) -> str:
        """What it is called, and its folder."""
        return self._name

    @property
    def pages(self) -> list[str]:
        """The addresses of what it shows."""
        return [f"http://127.0.0.1:{self._port}{page}" for page in self._pages]

    def check(self) -> None:
        """It has not ended; raises ServerFailed with the end of its log."""
        if self._process is not None and self._process.poll() is not None:
            ended = self._failure(f"ended with status {self._process.returncode} in the middle of the demo")
            raise ended()

    def health(self) -> tuple[int, str]:
        """Return status and body of its page of health; the status is 0 while nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HTTP_SECONDS)
        try:
            connection.request("GET", self._pages[0])
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    @override
    def _command(self) -> list[str]:
        return [sys.executable, "-m", *self._arguments]

    @override
    def _environment(self) -> dict[str, str]:
        return dict(self._settings)

    @override
    def _answers(self) -> bool:
        return self.health()[0] == http.HTTPStatus.OK

    @override
    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM


def worker(folder: Folder, *, name: str, environment: Mapping[str, str], port: int) -> Member:
    """Return a worker that is not started yet; ready when `/readyz` says so."""
    return Member(
        folder,
        name=name,
        arguments=["wallet_worker", "worker"],
        environment={
            **environment,
            "WALLET_HTTP_HOST": "127.0.0.1",
            "WALLET_HTTP_PORT": str(port),
            "WALLET_KEEPER": "false",  # the story looks into the queue of the dead letters
            "WALLET_LIMITS": cast.LIMITS,
            **fates.SETTINGS,
        },
        port=port,
        pages=("/readyz", "/metrics"),
    )


def keeper(folder: Folder, *, environment: Mapping[str, str], port: int) -> Member:
    """Return what takes the dead letters in and replays them, not started yet."""
    return Member(
        folder,
        name="keeper",
        arguments=["wallet_worker", "keeper"],
        environment={**environment, "WALLET_HTTP_HOST": "127.0.0.1", "WALLET_HTTP_PORT": str(port)},
        port=port,
        pages=("/readyz", "/metrics"),
    )


def audit(folder: Folder, *, environment: Mapping[str, str], port: int) -> Member:
    """Return the audit that goes on, for the alarm about the ledger; not started yet."""
    return Member(
        folder,
        name="audit",
        arguments=["wallet_worker", "audit", "--follow", "--metrics-port", str(port)],
        environment=environment,
        port=port,
        pages=("/metrics",),
    )


class Console(Member):
    """The operators' web page, with two people who may sign in: one who acts, and one who approves."""

    def __init__(self, folder: Folder, *, environment: Mapping[str, str], port: int) -> None:
        self.people = {role: secrets.token_urlsafe(9) for role in (Role.OPERATOR, Role.APPROVER)}
        users = folder.path / "console-users.json"
        for role, password in self.people.items():
            change(users, partial(Users.added, name=role.name, role=role, password=password))
        super().__init__(
            folder,
            name="console",
            arguments=["wallet_worker", "console"],
            environment={
                **environment,
                "WALLET_CONSOLE_HOST": "127.0.0.1",
                "WALLET_CONSOLE_PORT": str(port),
                "WALLET_CONSOLE_USERS": str(users),
            },
            port=port,
            pages=("/healthz",),
        )

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self._port}/"


class Gateway(Member):
    """The simulated payment gateway; without chance of its own: a channel alone decides what happens."""

    def __init__(self, folder: Folder, *, environment: Mapping[str, str], port: int, seed: int) -> None:
        self._place = folder
        self._books = folder.path / "payments.sqlite3"
        scenario = folder.path / "scenario.toml"
        scenario.write_text(fates.SCENARIO)
        options = {
            "--scenario": str(scenario),
            "--seed": str(seed),
            "--state": str(self._books),
            "--http-port": str(port),
        }
        super().__init__(
            folder,
            name="gateway",
            arguments=["payment_simulator", *(word for option in options.items() for word in option)],
            environment=environment,
            port=port,
            pages=("/healthz",),
        )

    def answers_waiting(self) -> int:
        """Return how many results it is going to publish that it has not published yet."""
        with closing(sqlite3.connect(f"{self._books.as_uri()}?mode=ro", uri=True)) as connection:
            (waiting,) = connection.execute(
                "SELECT count(*) FROM answers WHERE sent_at_us IS NULL AND due_at_us IS NOT NULL"
            ).fetchone()
        return int(waiting)

    def settle(self) -> Path:
        """Return its settlement file, written now."""
        file = self._place.path / "settlement.csv"
        arguments = ("settlement", "--state", str(self._books), "-o", str(file))
        status, result = run(self._place, self._settings, "payment_simulator", *arguments)
        if status:
            raise CommandFailed(f"`payment-simulator settlement` ended with status {status}:\n{result}")
        return file


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings, and no others of the wallet's."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    return {**others, **settings}


def wallet(folder: Folder, environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Return exit status and all that `wallet …` said, when it has ended."""
    return run(folder, environment, "wallet_worker", *arguments)


def run(folder: Folder, environment: Mapping[str, str], module: str, *arguments: str) -> tuple[int, str]:
    """Return exit status and all that a command of the house said, when it has ended."""
    # In the folder: should this process be killed, its reaper ends the command too.
    try:
        ended = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=folder.path,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo alone
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise CommandFailed(
            f"`{module} {' '.join(arguments)}` took more than {COMMAND_SECONDS} seconds"
        ) from late
    return ended.returncode, ended.stdout.decode(errors="replace").strip()


def do(folder: Folder, environment: Mapping[str, str], *arguments: str) -> None:
    """`wallet …` has done it; raises CommandFailed with what it said."""
    status, result = wallet(folder, environment, *arguments)
    if status:
        raise CommandFailed(f"`wallet {' '.join(arguments)}` ended with status {status}:\n{result}")
