"""What was measured, on which machine, with what: the figures of all rounds, and their medians and ratios."""

import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import psutil

from tests.benchmarks.wire import RawChannel
from tests.servers import Servers

_LIBRARIES: Final = ("aio-pika", "aiormq", "asyncpg", "faststream", "pydantic", "uvloop")
_SYNCS: Final = 200
_WRITTEN: Final = (":(top,exclude)tests/benchmarks/results", ":(top,exclude)docs/benchmarks.md")


class Key(NamedTuple):
    """What a figure is of: a section of the report, who did it, and what it was."""

    section: str
    who: str
    what: str


class Ratio(NamedTuple):
    """One figure over another: of the medians, and the least and greatest of so many rounds."""

    value: float
    low: float
    high: float
    rounds: int


@dataclass(slots=True)
class Record:
    """The figures of a benchmark, one value a round each.

    `machine` is what they depend on, and `apart` what of it was not the same for all parts: by name, then by part.
    """

    title: str
    machine: Mapping[str, str]
    apart: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    values: defaultdict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, who: str, what: str, value: float) -> None:
        """Note one round's value."""
        self.values[Key(section, who, what)].append(value)

    def rounds(self, section: str, who: str, what: str) -> Sequence[float]:
        """Return the values of all rounds, none if it was not measured."""
        return self.values.get(Key(section, who, what), ())

    def median(self, section: str, who: str, what: str) -> float | None:
        """Return the median of the rounds, absent if it was not measured."""
        values = self.rounds(section, who, what)
        return statistics.median(values) if values else None

    def ratio(self, over: Key, under: Key) -> Ratio | None:
        """Return one figure over another, absent if either was not measured. Rounds are compared in turn."""
        above, below = self.rounds(*over), self.rounds(*under)
        if not above or not below:
            return None
        each = [item / other for item, other in zip(above, below, strict=False)]
        return Ratio(statistics.median(above) / statistics.median(below), min(each), max(each), len(each))

    def whos(self, section: str) -> list[str]:
        """Return who was measured in a section, in order of appearance."""
        return list(dict.fromkeys(key.who for key in self.values if key.section == section))

    def whats(self, section: str) -> list[str]:
        """Return what was measured in a section, in order of appearance."""
        return list(dict.fromkeys(key.what for key in self.values if key.section == section))


async def machine(servers: Servers) -> dict[str, str]:
    """Return what the figures depend on, in words."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        postgres = str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()
    with RawChannel(servers.amqp_url) as channel:
        rabbitmq = channel.server_version
    now = datetime.now(UTC)
    return {
        "date": now.strftime("%Y-%m-%d"),
        "begun at": now.strftime("%H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release()}",
        "8 KiB written to the disk": f"{_sync_milliseconds():.2f} ms (median)",
        "servers": f"PostgreSQL {postgres}, RabbitMQ {rabbitmq}",
        "settings": "servers on the same machine, by default: fsync, full_page_writes and synchronous_commit are on, "
        "queues are quorum queues",
        "client": f"Python {platform.python_version()}, "
        + ", ".join(f"{library} {version(library)}" for library in _LIBRARIES),
        "code": commit(Path(__file__).parent),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _sync_milliseconds() -> float:
    """Return how long a small write takes to be safe on the disk where temporary folders are."""
    times = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(_SYNCS):
            begun = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 8192, 0)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1000


def commit(folder: Path) -> str:
    """Return the commit of the tree that a folder is in, and that its code differs from it if it does.

    What a benchmark writes while it runs, its results and a table in docs/benchmarks.md, is no code.
    """
    git = ["git", "-C", str(folder)]
    try:
        name = subprocess.run(
            [*git, "describe", "--always"], check=True, capture_output=True, text=True
        ).stdout.strip()
        differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":/", *_WRITTEN], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if differs.returncode else name
