"""Private servers: programs of this machine, started in a temporary folder that a reaper watches."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.servers import reaper
from tests.servers.server import START_SECONDS, STOP_SECONDS, ServerFailed, wait_until

FOLDER_PREFIX = "wallet-servers-"
LOG_TAIL_LINES = 25


class Program(ABC):
    """One server process with its children, all of them at work in one folder."""

    def __init__(self, folder: "Folder", *, name: str) -> None:
        self._watch = folder.watch
        self._folder = folder.path / name
        self._folder.mkdir()
        self._log = self._folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._user: int | None = None  # another user than the caller, which only root can ask for
        self._group: int | None = None

    @property
    def processes(self) -> tuple[int, ...]:
        """Pids, the main one first; empty when it is not running."""
        return tuple(process.pid for process in reaper.members(self._folder))

    def start(self) -> None:
        """The server answers, on the same port and the same data as before. Raises ServerFailed."""
        self.launch()
        self.wait_until_up()

    def launch(self) -> None:
        """The server's process runs; it may not answer yet."""
        if self._process is not None:
            raise ServerFailed(f"{self._name} is running already")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the caller alone
                user=self._user,
                group=self._group,
                extra_groups=None if self._user is None else [],
            )
        self._watch(self._process)

    def wait_until_up(self) -> None:
        """The launched server answers. Raises ServerFailed."""
        wait_until(self._is_up, timeout_seconds=START_SECONDS, failed=self._failure("did not answer in time"))

    def stop(self) -> None:
        """The server has ended in order. Raises ServerFailed."""
        if self._process is None:
            return
        self.thaw()
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self.processes[0]).send_signal(self._stop_signal())
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as late:
            failure = self._failure("did not stop in time")
            raise failure() from late
        wait_until(
            lambda: not self.processes,
            timeout_seconds=STOP_SECONDS,
            failed=self._failure("left processes behind"),
        )
        self._process = None

    def kill(self) -> None:
        """Every process of the server is gone, by SIGKILL."""
        reaper.kill_members(self._folder)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Every process of the server is stopped. Raises ServerFailed."""
        wait_until(
            self._is_stopped_when_told, timeout_seconds=STOP_SECONDS, failed=self._failure("did not freeze")
        )

    def thaw(self) -> None:
        """Every process of the server goes on."""
        self._signal_all(signal.SIGCONT)

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _environment(self) -> dict[str, str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    @abstractmethod
    def _stop_signal(self) -> signal.Signals: ...

    @property
    def _name(self) -> str:
        return self._folder.name

    def _is_up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            failure = self._failure(f"ended with status {self._process.returncode} instead of starting")()
            self._process = None
            raise failure
        return self._answers()

    def _is_stopped_when_told(self) -> bool:
        """Tell every process to stop, and say whether all had stopped before: it takes them a moment."""
        self._signal_all(signal.SIGSTOP)
        states = set()
        for process in reaper.members(self._folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                states.add(process.status())
        return states == {psutil.STATUS_STOPPED}

    def _signal_all(self, number: signal.Signals) -> None:
        for process in reaper.members(self._folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _failure(self, what: str) -> Callable[[], ServerFailed]:
        def failure() -> ServerFailed:
            tail = (
                self._log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
                if self._log.exists()
                else []
            )
            return ServerFailed("\n".join([f"{self._name} {what}; the end of its log:", *tail]))

        return failure


class Folder:
    """A temporary folder, watched by a reaper from the first moment."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX)).resolve()
        if os.geteuid() == 0:
            self.path.chmod(
                0o711
            )  # the database's user must pass through to its own folder; nobody may list it
        self._started: list[subprocess.Popen[bytes]] = []
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", reaper.__file__, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """The process, started in this folder, is waited for when it has ended, so that no zombie stays."""
        self._started.append(process)

    def leave(self) -> None:
        """The reaper is gone and has touched nothing."""
        if self._reaper.poll() is None:
            self._reaper.communicate(reaper.LEAVE)
        for process in self._started:
            process.returncode = 0  # tells Popen that nobody will wait for it, and that this is no mistake

    def remove(self) -> None:
        """What was started in the folder is gone, and the folder too."""
        if self._reaper.poll() is None:
            self._reaper.communicate()
        if self.path.exists():  # the reaper itself was killed
            reaper.reap(self.path)
        for process in self._started:
            process.wait()
