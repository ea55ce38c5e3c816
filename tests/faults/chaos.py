"""A random mix of all faults under load, from a seed, and a verdict.

make chaos MINUTES=5 SEED=7
python -m tests.faults --minutes 5 --seed 7

The seed alone says which faults come, in which order, to whom and for how long. What is in a worker's hands at that
moment is another in each run: the load goes on by its own clock.
"""

import asyncio
import itertools
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.checker import Row, Violation
from tests.faults.faults import ALONE, PAST_THE_HEARTBEAT, WEIGHTS, Fault, Weather
from tests.faults.notebook import Answer
from tests.faults.world import NotQuietError, World, world
from tests.servers import Servers, ServersUnavailable
from tests.servers.management import Management

Say = Callable[[str], None]

TWO_AT_ONCE: Final = 0.25  # of the time, a second fault comes while the first is there
WATCH_SECONDS: Final = 2.0


@dataclass(slots=True)
class Report:
    """What a run was, and what it found."""

    seed: int
    minutes: float
    kills: int = 0
    stops: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    died_at: dict[str, int] = field(default_factory=dict)
    recovery: str = ""
    redelivered: int = 0
    told_again: int = 0
    commands: int = 0
    orders: int = 0
    accepted: dict[str, int] = field(default_factory=dict)
    """By order type, how many of a hundred commands were applied: a load that is refused proves little."""
    dead_letters: int = 0
    sendings: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Where the harness itself failed, so that the run proves nothing."""

    @property
    def is_clean(self) -> bool:
        """Whether the run went to its end and found nothing."""
        return not self.violations and not self.failures

    def lines(self) -> list[str]:
        """Return the report for a person."""
        verdict = [f"VIOLATION of {violation}" for violation in self.violations]
        verdict += [f"THE HARNESS FAILED: {failure}" for failure in self.failures]
        return [
            f"seed {self.seed}, {self.minutes:g} minutes",
            f"{self.kills} kills and {self.stops} ordered restarts",
            f"{sum(self.faults.values())} faults: {_listed(self.faults)}",
            f"workers died at: {_listed(self.died_at) or 'no failpoint'}",
            f"time to recover: {self.recovery}",
            f"applied, of a hundred of each kind: {_listed(self.accepted)}",
            f"{self.commands} commands with an outcome, {self.orders} orders, {self.dead_letters} dead letters",
            f"publishes: {', '.join(f'{count} {answer}' for answer, count in self.sendings.items())}",
            f"{self.redelivered} redeliveries by the broker, {self.told_again} events published again",
            *(verdict or ["no violation: nothing lost, nothing twice, nobody else harmed"]),
        ]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


async def run(
    servers: Servers,
    migrated_url: str,
    folder: Path,
    *,
    seed: int,
    minutes: float,
    rate: float = 40.0,
    mix: "Mix | None" = None,
    say: Say = lambda _line: None,
) -> Report:
    """Return the report of a run of so many minutes, also if it failed. The servers are whole again afterwards."""
    report = Report(seed, minutes)
    # A short run has no time for faults past the heartbeat.
    steps = schedule(seed, PAST_THE_HEARTBEAT if minutes >= 3 else 4.0, mix or OF_ONE)
    try:
        async with world(
            servers, migrated_url, folder, seed=seed, workers=2, rate=rate, keepers=True, expiring=True
        ) as made:
            watching = asyncio.create_task(_watch(made), name="watch")
            try:
                await made.under_load(lambda: storm(made, steps, minutes * 60, report, say))
                say("all faults are over: waiting for everything to come to rest")
                report.violations += await made.judge()
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                _note(report, made)
            found = await made.stored()
            report.commands, report.orders = len(found.commands), len(found.orders)
            report.accepted = accepted(found.commands)
    except NotQuietError as exc:
        report.violations.append(Violation(8, str(exc)))
    except Exception as exc:  # noqa: BLE001 -- a run's outermost frame: without its seed nobody could run it again
        report.failures.append(_whole(exc))
    return report


def accepted(commands: Iterable[Row]) -> dict[str, int]:
    """Return how many of a hundred commands with an outcome were applied, by order type."""
    answered: Counter[str] = Counter()
    applied: Counter[str] = Counter()
    for row in commands:
        of, name, _ = row["command_type"].split(".")
        if of == "order":
            answered[name] += 1
            applied[name] += row["status"] == "applied"
    return {name: round(100 * applied[name] / count) for name, count in answered.items()}


def _note(report: Report, made: World) -> None:
    """Note what there is to say without the servers."""
    report.kills, report.stops = made.fleet.kills, made.fleet.stops
    report.faults, report.died_at = dict(made.faults), dict(made.fleet.died_at)
    report.recovery = made.recovery()
    report.redelivered = made.redelivered
    report.told_again = made.heard.times.total() - len(made.heard.times)
    report.dead_letters = len(made.heard.dead_letters)
    sendings = made.model().sendings
    report.sendings = {answer: sendings[answer] for answer in Answer}


# The faults to come


@dataclass(frozen=True, slots=True)
class Step:
    """Faults that come at once, each with a weather of its own, and the pause after the recovery from them."""

    faults: tuple[tuple[Fault, Weather], ...]
    pause_seconds: float

    @property
    def names(self) -> str:
        """What comes, for a person."""
        return " and ".join(fault.__name__ for fault, _ in self.faults)


@dataclass(frozen=True, slots=True)
class Mix:
    """Which faults come, how often each, and of which sets one at a time."""

    weights: Mapping[Fault, int]
    alone: Sequence[AbstractSet[Fault]]


OF_ONE: Final = Mix(WEIGHTS, ALONE)
"""Of one broker and one database."""


def schedule(seed: int, longest_seconds: float, mix: Mix = OF_ONE) -> Iterator[Step]:
    """Give step after step, for ever: by the seed alone, whatever the faults of earlier steps have drawn or not."""
    draw = random.Random(f"{seed}/steps")
    for number in itertools.count():
        weathers = (
            Weather(longest_seconds, random.Random(f"{seed}/{number}/{place}")) for place in itertools.count()
        )
        yield Step(tuple(zip(_choose(draw, mix), weathers, strict=False)), draw.uniform(0.2, 1.5))


def _choose(draw: random.Random, mix: Mix) -> list[Fault]:
    """Return one fault, or two at once."""
    chosen = draw.choices(list(mix.weights), list(mix.weights.values()))
    if draw.random() < TWO_AT_ONCE:
        others = [
            fault
            for fault in mix.weights
            if fault is not chosen[0] and not any({fault, chosen[0]} <= group for group in mix.alone)
        ]
        chosen += draw.choices(others, [mix.weights[fault] for fault in others])
    return chosen


# … and as they come


async def storm(made: World, steps: Iterable[Step], seconds: float, report: Report, say: Say) -> None:
    """Make one step after the other, and wait for the recovery from each; what goes wrong is in the report."""
    begun = time.monotonic()
    await asyncio.sleep(1)
    for step in steps:
        if time.monotonic() - begun >= seconds:
            return
        made.faults.update(fault.__name__ for fault, _ in step.faults)
        try:
            await make(step, made)
            recovered = await made.healed()
        except NotQuietError as exc:
            report.violations.append(Violation(8, f"after {step.names}: {exc}"))
            say(f"after {step.names}: {exc}")
            return
        except Exception as exc:  # noqa: BLE001 -- whatever a fault raises, the run is still judged
            report.failures.append(f"{step.names}: {_whole(exc)}")
            say(report.failures[-1])
            return
        say(
            f"{time.monotonic() - begun:6.1f} s  {step.names.replace('_', ' '):<52} back after {recovered:4.1f} s; "
            f"{made.fleet.kills} kills, {len(made.heard.events)} events, {len(made.fleet.surprises)} surprises"
        )
        await asyncio.sleep(step.pause_seconds)


async def make(step: Step, made: World) -> None:
    """Have the faults of a step come and go; one that raises cuts the other off, which cleans up before it ends."""
    async with asyncio.TaskGroup() as group:
        for fault, weather in step.faults:
            group.create_task(fault(made, weather), name=fault.__name__)


def _whole(exc: BaseException) -> str:
    return "".join(traceback.format_exception(exc))


async def _watch(made: World) -> None:
    """Count the redeliveries, of which the broker's own count begins anew with each restart."""
    management = Management(made.servers.management_url)
    vhost = made.amqp_url.rpartition("/")[2]
    before = 0
    while True:
        with suppress(ServersUnavailable, ValueError, TypeError):
            queues = await management.get(f"/api/queues/{vhost}")
            now = sum(queue.get("message_stats", {}).get("redeliver", 0) for queue in queues)
            made.redelivered += max(0, now - before)
            before = now
        await asyncio.sleep(WATCH_SECONDS)
