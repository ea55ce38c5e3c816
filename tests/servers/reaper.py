"""Ends what was started in a temporary folder, and removes the folder, when the process that asked for it is
gone.

Runs as a process of its own, `python reaper.py FOLDER`, in a session of its own, so that neither Ctrl-C nor
SIGKILL of the caller reaches it. The caller holds the other end of its standard input: when that closes, for
whatever reason, the work begins. The single word `leave` on it says that the servers shall go on.

What belongs to the folder is found by one rule: a process whose working directory lies in it. Process groups
would not do (each PostgreSQL backend and each Erlang port program makes its own), nor would the kernel's
parent-death signal (it is sent at the end of the *thread* that forked).

Needs nothing but the standard library and psutil: it must work when the project's files have been taken away.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

LEAVE = b"leave"
GENTLE_SECONDS = 10  # an immediate shutdown of PostgreSQL takes well under one
GONE_SECONDS = 30
POLL_SECONDS = 0.02


def members(folder: Path) -> list[psutil.Process]:
    """Give the living processes whose working directory is the folder or lies in it, oldest first."""
    root = folder.resolve()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            directory = process.cwd()
            if directory and Path(directory).is_relative_to(root) and _is_alive(process):
                found.append(process)
    return sorted(found, key=lambda process: (process.create_time(), process.pid))


def reap(folder: Path) -> None:
    """Nothing that was started in the folder runs, and the folder is not there."""
    _ask_postgres(folder)
    kill_members(folder)
    shutil.rmtree(folder, ignore_errors=True)


def kill_members(folder: Path) -> None:
    """Nothing that was started in the folder runs: SIGKILL, until nobody is found twice in a row."""
    deadline = time.monotonic() + GONE_SECONDS
    quiet_rounds = 0
    while quiet_rounds < 2:
        living = members(folder)
        quiet_rounds = 0 if living else quiet_rounds + 1
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if time.monotonic() > deadline:
            raise TimeoutError(f"still alive after {GONE_SECONDS} s of SIGKILL: {living}")
        time.sleep(POLL_SECONDS)


def _ask_postgres(folder: Path) -> None:
    """PostgreSQL has given its shared memory back, which it can't do after SIGKILL."""
    servers = []
    for pid_file in folder.glob("*/data/postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            server = psutil.Process(int(pid_file.read_text().splitlines()[0]))
            if Path(server.cwd()).is_relative_to(folder.resolve()):
                servers.append(server)
    for server in servers:
        for process in [server, *server.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)  # a frozen process hears nothing else
        with contextlib.suppress(psutil.Error):
            server.send_signal(signal.SIGQUIT)
    deadline = time.monotonic() + GENTLE_SECONDS
    while any(_is_alive(server) for server in servers) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not, it waits for its parent, who may be waiting for us."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Wait for the caller's end; then reap, if it did not say `leave`."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    os.chdir("/")
    if sys.stdin.buffer.read().strip() != LEAVE:
        reap(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
