"""One contestant draining one backlog: started when everything waits in the queues, timed in the steady middle."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

import psutil

from tests.benchmarks.effort import Component, Meter
from tests.benchmarks.place import EVENTS_QUEUE, Site
from tests.benchmarks.wire import RawChannel
from tests.servers import Servers

STALLED_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
SAMPLE_SECONDS: Final = 0.1
_STEADY: Final = (0.15, 0.9)
"""The part of a drain that counts: started up and warm, and not yet running out of messages."""


class Contestant(StrEnum):
    """Who takes part, by the name in the table."""

    OURS = "wallet worker"
    OURS_TWO = "wallet worker, 2 processes"
    USUAL = "usual worker, aio-pika"
    FASTSTREAM = "usual worker, FastStream"
    ECHO = "echo, no database"


@dataclass(frozen=True, slots=True)
class Program:
    """How a contestant is started: what Python runs. `rate` is a guess, to size its backlog."""

    arguments: Sequence[str]
    rate: int


_WORKER: Final = ("-m", "wallet_worker", "worker")
_BESIDE: Final = "tests.benchmarks.contestants"

PROGRAMS: Final = MappingProxyType(
    {
        Contestant.OURS: Program(_WORKER, 5_000),
        Contestant.OURS_TWO: Program((*_WORKER, "--processes=2"), 7_000),
        Contestant.USUAL: Program(("-m", f"{_BESIDE}.usual"), 900),
        Contestant.FASTSTREAM: Program(("-m", f"{_BESIDE}.usual_faststream"), 700),
        Contestant.ECHO: Program(("-m", f"{_BESIDE}.echo"), 2_500),
    }
)


class ContestantFailed(Exception):  # noqa: N818 -- named as what happened
    """A contestant ended, stalled, or did not do its work; the text says which and ends with its log."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: how many messages were done by then, and what that had cost."""

    at: float
    done: int
    cpu_seconds: dict[Component, float]
    worker_bytes: int


@dataclass(frozen=True, slots=True)
class Drain:
    """How one backlog went. `cpu_us` is processor time for each message, in microseconds.

    `steady` is when the part that counts began and ended, by the monotonic clock.
    """

    rate: float
    cpu_us: dict[Component, float]
    peak_bytes: int
    steady: tuple[float, float]
    samples: Sequence[Sample]

    @property
    def cores(self) -> float:
        """How many processors the worker and both servers kept busy together."""
        return self.rate * sum(self.cpu_us.values()) / 1e6

    def rate_between(self, low: float, high: float) -> float:
        """Return messages a second between two shares of the whole."""
        count = self.samples[-1].done
        first = next(sample for sample in self.samples if sample.done >= low * count)
        last = next(sample for sample in self.samples if sample.done >= high * count)
        return (last.done - first.done) / max(last.at - first.at, SAMPLE_SECONDS)


class Running:
    """The process of a contestant, with those that it started, and their log."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.process = process
        self._log = log

    @property
    def pids(self) -> list[int]:
        """Who works."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children())]
        return []

    def assert_alive(self) -> None:
        """Return while it runs; raises ContestantFailed."""
        if self.process.poll() is not None:
            raise self.failed(f"it ended with status {self.process.returncode}")

    def failed(self, what: str) -> ContestantFailed:
        """Return the exception that says what happened, with the end of the log."""
        tail = Path(self._log.name).read_text(errors="replace").splitlines()[-15:]
        return ContestantFailed("\n".join([what, *tail]))

    def stop(self) -> None:
        """Have it end in order; raises ContestantFailed if it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise self.failed("it did not stop on SIGTERM") from None
        if self.process.returncode not in {0, -signal.SIGTERM}:
            raise self.failed(f"it stopped with status {self.process.returncode}")


@contextmanager
def running(program: Program, site: Site) -> Iterator[Running]:
    """Give a contestant at work. It is ended in order, or killed if the block was left by an exception."""
    with tempfile.NamedTemporaryFile(prefix="benchmark-", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, *program.arguments], env=site.environment, stdout=log, stderr=log
        )
        contestant = Running(process, log)
        try:
            yield contestant
            contestant.stop()
        finally:
            for pid in contestant.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def await_begun(site: Site, contestant: Running) -> None:
    """Return once a contestant has done its first messages; raises ContestantFailed."""
    begun = time.monotonic()
    with RawChannel(site.amqp_url) as watching:
        while not watching.depth(EVENTS_QUEUE):
            contestant.assert_alive()
            if time.monotonic() - begun > STALLED_SECONDS:
                raise contestant.failed("it did nothing")
            time.sleep(SAMPLE_SECONDS)


def meter(servers: Servers, contestant: Running) -> Meter:
    """Return what measures a contestant and both servers."""
    return Meter(
        {
            Component.WORKER: lambda: contestant.pids,
            Component.BROKER: lambda: servers.broker.processes,
            Component.DATABASE: lambda: servers.database_server.processes,
        }
    )


def drain(servers: Servers, site: Site, program: Program, count: int, *, events: int | None = None) -> Drain:
    """Start a contestant on its backlog of `count` messages and return how it went once all is done.

    Done is a message whose event the broker has confirmed to the contestant: it waits in the events' queue. Where
    some messages have more than one, `events` is how many there will be. Raises ContestantFailed.
    """
    share = count / (events or count)
    samples: list[Sample] = []
    with RawChannel(site.amqp_url) as watching, running(program, site) as contestant:
        measuring = meter(servers, contestant)
        measuring.look()
        moved_at, looked_at = time.monotonic(), time.monotonic()
        while not samples or samples[-1].done < count:
            time.sleep(SAMPLE_SECONDS)
            done, at = round(watching.depth(EVENTS_QUEUE) * share), time.monotonic()
            if not samples or done > samples[-1].done:
                moved_at = at
            elif at - moved_at > STALLED_SECONDS:
                raise contestant.failed(f"it stalled at {done} of {count}")
            if at - looked_at > 1:
                contestant.assert_alive()
                measuring.look()
                looked_at = at
            samples.append(Sample(at, done, measuring.cpu_seconds(), measuring.worker_bytes()))
    return _summary(samples, count)


def _summary(samples: Sequence[Sample], count: int) -> Drain:
    low, high = (share * count for share in _STEADY)
    first = next(sample for sample in samples if sample.done >= low)
    last = next(sample for sample in samples if sample.done >= high)
    done = last.done - first.done
    if done <= 0:
        first, last = samples[0], samples[-1]  # too short to have a middle: a smoke test
        done = last.done - first.done
    return Drain(
        rate=done / max(last.at - first.at, SAMPLE_SECONDS),
        cpu_us={
            component: (seconds - first.cpu_seconds[component]) / max(done, 1) * 1e6
            for component, seconds in last.cpu_seconds.items()
        },
        peak_bytes=max(sample.worker_bytes for sample in samples),
        steady=(first.at, last.at),
        samples=samples,
    )
