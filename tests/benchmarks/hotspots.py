"""Where the worker's time goes: py-spy looks at it from outside while it drains a backlog."""

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SAMPLES_PER_SECOND: Final = 200

_IDLE: Final = "concurrent/futures/thread.py"
_REST: Final = "the rest"

# The first that fits names who is at work, by the file of the innermost Python function.
_GROUPS: Final = (
    ("wallet_worker/broker/", "wallet_worker.broker"),
    ("wallet_worker/store/", "wallet_worker.store, and asyncpg's C below it"),
    ("wallet_worker/core/", "wallet_worker.core, and pydantic's Rust below it"),
    ("wallet_worker/", "wallet_worker, the rest"),
    ("wallet_schemas/", "schemas, and pydantic's Rust below it"),
    ("json/", "json"),
    ("pamqp/", "pamqp"),
    ("aiormq/", "aiormq"),
    ("aio_pika/", "aio-pika"),
    ("asyncpg/", "asyncpg"),
    ("uvloop/", "uvloop: waiting calls and sockets"),
    ("asyncio/", "asyncio"),
    ("dataclasses.py", "dataclasses"),
    ("(<string>", "what dataclasses generates"),
    ("structlog/", "structlog"),
    ("prometheus_client/", "prometheus_client"),
)


@dataclass(frozen=True, slots=True)
class Hotspots:
    """Shares of the samples in which the worker did something: by group, and by function with what it calls.

    `rest` says what is in the group that has no name, by innermost function.
    """

    groups: list[tuple[str, float]]
    rest: list[tuple[str, float]]
    functions: list[tuple[str, float]]


class ProfilerFailed(Exception):  # noqa: N818 -- named as what happened
    """py-spy could not look; most often it may not without being root."""


def profile(pid: int, *, seconds: float) -> Hotspots:
    """Return what a process did for so long; raises ProfilerFailed."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "stacks.txt"
        command = [
            str(Path(sys.executable).with_name("py-spy")),
            "record",
            f"--pid={pid}",
            f"--duration={max(1, round(seconds))}",
            "--format=raw",
        ]
        command += ["--function", f"--rate={_SAMPLES_PER_SECOND}", f"--output={path}"]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        except OSError as exc:
            raise ProfilerFailed(str(exc)) from exc
        if done.returncode != 0 or not path.exists():
            raise ProfilerFailed((done.stderr or done.stdout).strip())
        return summary(path.read_text().splitlines())


def summary(stacks: Iterable[str]) -> Hotspots:
    """Return the shares of py-spy's raw lines: frames from the outermost, each `function (file)`, and a count."""
    groups: Counter[str] = Counter()
    rest: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if _IDLE in frames[-1]:
            continue  # a thread of the pool that waits for something to do, which py-spy takes for work
        group = _group(frames[-1])
        groups[group] += int(count)
        if group == _REST:
            rest[_short(frames[-1])] += int(count)
        for frame in {
            _short(frame) for frame in frames if "wallet_worker/" in frame or "wallet_schemas/" in frame
        }:
            functions[frame] += int(count)
    total = max(groups.total(), 1)
    return Hotspots(
        [(name, count / total) for name, count in groups.most_common()],
        [(name, count / total) for name, count in rest.most_common(15)],
        [(name, count / total) for name, count in functions.most_common(30)],
    )


def _group(frame: str) -> str:
    file = f"({frame.rpartition(' (')[2]}"
    return next((name for part, name in _GROUPS if part in file), _REST)


def _short(frame: str) -> str:
    name, _, path = frame.rpartition(" (")
    file = path.rstrip(")").rpartition(":")[0] or path.rstrip(")")
    for root in ("wallet_worker/", "wallet_schemas/"):
        if root in file:
            return f"{root}{file.rpartition(root)[2]} {name}"
    return " ".join(filter(None, ("/".join(file.split("/")[-2:]), name)))
