"""Worker processes, as operators start them: `wallet worker` with its settings in the environment."""

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from tests import worker_keys
from tests.servers.ports import free_ports

KEYS = {"k1": "a secret of the tests"}
READY_SECONDS = 30.0
STOP_SECONDS = 40.0


class WorkerProcess:
    """One running `wallet worker`. Its log is in `log_path`, a line of JSON each."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log_path: Path) -> None:
        self.process = process
        self.port = port
        self.log_path = log_path

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    async def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a page of the worker's; raises OSError while nobody listens."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    async def is_ready(self) -> bool:
        """Return what `/readyz` says; False while nobody listens."""
        try:
            status, _ = await self.get("/readyz")
        except OSError:
            return False
        return status == 200

    async def until_ready(self, *, ready: bool = True, seconds: float = READY_SECONDS) -> None:
        """Wait until the worker says that it is ready, or that it is not; fails if the process ends first."""
        async with asyncio.timeout(seconds):
            while await self.is_ready() != ready:
                if self.process.returncode is not None:
                    msg = f"the worker ended with {self.process.returncode}:\n{self.log()}"
                    raise AssertionError(msg)
                await asyncio.sleep(0.05)

    def log(self) -> str:
        """Return everything that the worker has logged."""
        return self.log_path.read_text()

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the log lines of one event."""
        whole, _, _ = self.log().rpartition("\n")  # the last line may be half written
        found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in found if line.get("event") == name]

    async def until_event(self, name: str, count: int = 1) -> list[dict[str, object]]:
        """Return the log lines of one event as soon as there are so many: a line may follow what it tells of."""
        async with asyncio.timeout(READY_SECONDS):
            # What another process writes to a file sends no signal here.
            while len(found := self.events(name)) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return found

    async def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)

    async def kill(self) -> None:
        """Send SIGKILL, and wait until the process is gone."""
        self.process.kill()
        await self.process.wait()

    def freeze(self) -> None:
        """Send SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


class Workers:
    """Starts worker processes on one vhost and one database, and ends those that still run in the end.

    `program` is what Python runs, as its arguments. Their logs are left in `folder`, or are gone with them without one.
    """

    def __init__(
        self,
        amqp_url: str,
        database_url: str,
        management_url: str | None,
        program: Sequence[str] = ("-m", "wallet_worker", "worker"),
        folder: Path | None = None,
    ) -> None:
        self.program = program
        self.amqp_url = amqp_url
        self.database_url = database_url
        self._management_url = management_url
        self._started: list[WorkerProcess] = []
        self._numbers = itertools.count()
        self._gone_in_the_end = ExitStack()
        self._folder = folder or Path(
            self._gone_in_the_end.enter_context(tempfile.TemporaryDirectory(prefix="wallet-workers-"))
        )

    @property
    def started(self) -> list[WorkerProcess]:
        """All of them, also those that have ended."""
        return list(self._started)

    @property
    def environment(self) -> dict[str, str]:
        """The settings of a worker, beside the environment of the tests."""
        settings = {
            "WALLET_AMQP_URL": self.amqp_url,
            "WALLET_DATABASE_URL": self.database_url,
            "WALLET_PAYMENT_KEYS": json.dumps(KEYS),
            "WALLET_HTTP_HOST": "127.0.0.1",
            "WALLET_KEEPER": "false",  # the tests look into the queue; those of the keeper switch it on
            "WALLET_LOG_FORMAT": "json",
            "WALLET_ACCOUNT_TYPES": "basic,savings,third",
            **worker_keys.settings(),
        }
        if self._management_url:
            settings["WALLET_MANAGEMENT_URL"] = self._management_url
        return os.environ | settings

    async def launch(self, **settings: str) -> WorkerProcess:
        """Start a worker, with further WALLET_… settings, and do not wait for it."""
        (port,) = free_ports(1)
        log_path = self._folder / f"worker-{next(self._numbers)}.log"  # two may be starting at once
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.program,
                env=self.environment | {"WALLET_HTTP_PORT": str(port)} | settings,
                stdout=log,
                stderr=log,
            )
        started = WorkerProcess(process, port, log_path)
        self._started.append(started)
        return started

    async def start(self, **settings: str) -> WorkerProcess:
        """Start a worker and return it ready."""
        worker = await self.launch(**settings)
        await worker.until_ready()
        return worker

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._started:
            if worker.process.returncode is None:
                worker.thaw()
                await worker.kill()
        self._gone_in_the_end.close()


async def until(connection: asyncpg.Connection, query: str, wanted: object, *arguments: object) -> None:
    """Wait until a query's one value is the wanted one; fails after a minute, saying what it was."""
    found: object = None
    try:
        async with asyncio.timeout(60):
            # What another process commits sends no signal here.
            while (found := await connection.fetchval(query, *arguments)) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        msg = f"{query} stayed {found!r} and did not become {wanted!r}"
        raise AssertionError(msg) from None
