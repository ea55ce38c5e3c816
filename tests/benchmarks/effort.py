"""How much processor time each component has used, and how much memory a worker holds."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

import psutil


class Component(StrEnum):
    """Who works."""

    WORKER = "worker"
    BROKER = "RabbitMQ"
    DATABASE = "PostgreSQL"


class Meter:
    """Adds up the processor time of components whose processes come and go."""

    def __init__(self, processes: Mapping[Component, Callable[[], Iterable[int]]]) -> None:
        self._processes = processes
        self._known: dict[tuple[Component, int], psutil.Process] = {}
        self._seconds: dict[tuple[Component, int], float] = {}

    def look(self) -> None:
        """Find processes that began since; costs some milliseconds."""
        for component, pids in self._processes.items():
            for pid in pids():
                if (component, pid) not in self._known:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        self._known[component, pid] = psutil.Process(pid)

    def cpu_seconds(self) -> dict[Component, float]:
        """Return the time that each component has used since its processes began, ended ones included."""
        for key, process in self._known.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._seconds[key] = times.user + times.system
        totals = dict.fromkeys(self._processes, 0.0)
        for (component, _), seconds in self._seconds.items():
            totals[component] += seconds
        return totals

    def worker_bytes(self) -> int:
        """Return how much memory the largest of the worker's processes holds (resident set)."""
        sizes = [0]
        for (component, _), process in self._known.items():
            if component is Component.WORKER:
                with contextlib.suppress(psutil.NoSuchProcess):
                    sizes.append(process.memory_info().rss)
        return max(sizes)
