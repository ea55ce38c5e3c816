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


class Key(NamedTuple):
    """What a figure is of: a section of the report, who did it, and what it was."""

    section: str
    who: str
    what: str


class Ratio(NamedTuple):
    """One figure over another: of the medians, and the least and greatest of the rounds."""

    value: float
    low: float
    high: float


@dataclass(slots=True)
class Record:
    """The figures of a benchmark, one value a round each."""

    title: str
    machine: Mapping[str, str]
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
        each = [one / other for one, other in zip(above, below, strict=False)]
        return Ratio(statistics.median(above) / statistics.median(below), min(each), max(each))

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
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"{platform.system()} {platform.release()}",
        "disk": f"a write of 8 KiB is on the disk after {_sync_milliseconds():.2f} ms (median)",
        "servers": f"PostgreSQL {postgres}, RabbitMQ {rabbitmq}, on the same machine, their default settings: "
        "fsync, full_page_writes and synchronous_commit are on, queues are quorum queues",
        "client": f"Python {platform.python_version()}, "
        + ", ".join(f"{library} {version(library)}" for library in _LIBRARIES),
        "code": _commit(),
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


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
