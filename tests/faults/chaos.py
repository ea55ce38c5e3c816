"""A random mix of all faults under load, from a seed, and a verdict.

make chaos MINUTES=5 SEED=7
python -m tests.faults --minutes 5 --seed 7
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.checker import Violation
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
    recovery: str = ""
    worst_seconds: float = 0.0
    median_seconds: float = 0.0
    redelivered: int = 0
    told_again: int = 0
    commands: int = 0
    orders: int = 0
    dead_letters: int = 0
    sendings: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report for a person."""
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        verdict = [f"VIOLATION of {violation}" for violation in self.violations] or [
            "no violation: nothing lost, nothing twice, nobody else harmed"
        ]
        return [
            f"seed {self.seed}, {self.minutes:g} minutes",
            f"{self.kills} kills and {self.stops} ordered restarts; {sum(self.faults.values())} faults: {faults}",
            f"time to recover: {self.recovery}",
            f"{self.commands} commands with an outcome, {self.orders} orders, {self.dead_letters} dead letters",
            f"publishes: {', '.join(f'{count} {answer}' for answer, count in self.sendings.items())}",
            f"{self.redelivered} redeliveries by the broker, {self.told_again} events published again",
            *verdict,
        ]


async def run(
    servers: Servers,
    migrated_url: str,
    folder: Path,
    *,
    seed: int,
    minutes: float,
    rate: float = 40.0,
    say: Say = lambda _line: None,
) -> Report:
    """Return the report of a run of so many minutes. The servers are whole again afterwards."""
    draw = random.Random(seed)
    long = minutes >= 3  # a short run has no time for faults past the heartbeat
    weather = Weather(PAST_THE_HEARTBEAT if long else 4.0, draw)
    report = Report(seed, minutes)
    async with world(servers, migrated_url, folder, seed=seed, workers=2, rate=rate) as made:
        watching = asyncio.create_task(_watch(made), name="watch")
        broken: list[Violation] = []
        await made.under_load(lambda: _storm(made, weather, minutes * 60, broken, say))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        say("all faults are over: waiting for everything to come to rest")
        report.violations = broken + await made.judge()
        model, found = made.model(), await made.stored()
        report.kills, report.stops = made.fleet.kills, made.fleet.stops
        report.faults = dict(made.faults)
        report.recovery = made.recovery()
        report.worst_seconds = max(made.recoveries, default=0.0)
        report.redelivered = made.redelivered
        report.told_again = made.heard.times.total() - len(made.heard.times)
        report.commands, report.orders = len(found.commands), len(found.orders)
        report.dead_letters = len(made.heard.dead_letters)
        report.sendings = {answer: model.sendings[answer] for answer in Answer}
    return report


async def _storm(made: World, weather: Weather, seconds: float, broken: list[Violation], say: Say) -> None:
    """Make one fault after the other, and wait for the recovery from each."""
    begun = time.monotonic()
    await asyncio.sleep(1)
    while time.monotonic() - begun < seconds:
        faults = _choose(weather.draw)
        for fault in faults:
            made.faults[fault.__name__] += 1
        names = " and ".join(fault.__name__ for fault in faults)
        try:
            await asyncio.gather(*(fault(made, weather) for fault in faults))
            recovered = await made.healed()
        except NotQuietError as exc:
            broken.append(Violation(8, f"after {names}: {exc}"))
            say(f"after {names}: {exc}")
            return
        say(
            f"{time.monotonic() - begun:6.1f} s  {names.replace('_', ' '):<52} back after {recovered:4.1f} s; "
            f"{made.fleet.kills} kills, {len(made.heard.events)} events, "
            f"{len(made.heard.dead_letters)} dead letters, {len(made.fleet.surprises)} surprises"
        )
        await asyncio.sleep(weather.draw.uniform(0.2, 1.5))


def _choose(draw: random.Random) -> list[Fault]:
    """Return one fault, or two at once."""
    chosen = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
    if draw.random() < TWO_AT_ONCE:
        others = [
            fault
            for fault in WEIGHTS
            if fault is not chosen[0] and not any({fault, chosen[0]} <= group for group in ALONE)
        ]
        chosen += draw.choices(others, [WEIGHTS[fault] for fault in others])
    return chosen


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
