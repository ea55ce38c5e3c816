"""The runs of a plan, contestants in turns, each figure noted in the record."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import assert_never

from tests.benchmarks import (
    broker_alone,
    contest,
    database_alone,
    hotspots,
    latency,
    place,
    verdict,
    workloads,
)
from tests.benchmarks.contest import PROGRAMS, Contestant, Drain
from tests.benchmarks.place import Site
from tests.benchmarks.plan import Plan
from tests.benchmarks.record import Record
from tests.benchmarks.workloads import USERS, Load, Workload
from tests.servers import Servers

Say = Callable[[str], None]

RATE, CPU, MEMORY, DATABASE, BROKER, LATENCY, GROWTH, BACKLOG, PROFILE, FUNCTIONS = (
    "messages/s",
    "CPU µs a message",
    "peak memory, MB",
    "database alone, transactions/s",
    "broker alone, messages/s",
    "latency, ms",
    "growth, messages/s",
    "backlog",
    "profile, share of time",
    "functions, share of time",
)
"""Sections of the record."""


class Part(StrEnum):
    """What can be measured by itself, and again. What is compared with each other is in one part, in turns."""

    RATES = "rates"
    ALONE = "alone"
    LATENCY = "latency"
    PROFILE = "profile"
    BACKLOG = "backlog"
    GROWTH = "growth"


PUBLISHED, CONSUMED = "published, confirmed", "consumed, acknowledged"
EMPTY, GROWN = "empty", "grown"
LONG = "a backlog"
FIRST_FIFTH, LAST_FIFTH, PEAK = "messages/s, first fifth", "messages/s, last fifth", "peak memory, MB"
_MEGABYTE = 1_000_000


class Runs:
    """Runs what a plan says, on given servers, and notes it."""

    def __init__(self, plan: Plan, servers: Servers, record: Record, say: Say) -> None:
        self._plan = plan
        self._servers = servers
        self._record = record
        self._say = say

    async def run(self, part: Part) -> None:
        """Run one part of the plan, if it has it; raises ContestantFailed or WrongResultError."""
        if part is Part.GROWTH:
            await self._growth()
            return
        async with place.furnished(self._servers) as template:
            match part:
                case Part.RATES:
                    await self._rates(template)
                case Part.ALONE:
                    await self._alone(template)
                case Part.LATENCY:
                    await self._latencies(template)
                case Part.PROFILE:
                    await self._profile(template)
                case Part.BACKLOG:
                    await self._long_backlog(template)
                case _:
                    assert_never(part)

    @property
    def _rounds(self) -> range:
        return range(1, self._plan.rounds + 1)

    async def _rates(self, template: str) -> None:
        for number in self._rounds:
            for workload, contestants in self._plan.contests.items():
                async with self._with_money(template, workload) as furnished:
                    for contestant in contestants:
                        await self._contest(furnished, workload, contestant, number)

    @asynccontextmanager
    async def _with_money(self, template: str, workload: Workload) -> AsyncIterator[str]:
        """Give the template, or one whose users have money, for a workload that spends it."""
        if workload is not Workload.EVERY:
            yield template
            return
        async with place.furnished(self._servers, orders_each=1) as rich:
            yield rich

    async def _contest(self, template: str, workload: Workload, contestant: Contestant, number: int) -> None:
        program = PROGRAMS[contestant]
        count = int(program.rate * self._plan.backlog_seconds)
        load = workloads.load(workload, count, prefix=f"B{number}")
        async with place.fresh_site(self._servers, template) as site:
            await place.stock(site, load)
            events = len(load.events)
            drain = await asyncio.to_thread(contest.drain, self._servers, site, program, count, events=events)
            await _assert_done(contestant, site, load)
        self._note(RATE, contestant, workload, drain)

    def _note(self, section: str, who: str, what: str, drain: Drain) -> None:
        self._record.add(section, who, what, drain.rate)
        for component, microseconds in drain.cpu_us.items():
            # The page shows that of the mix; the others are kept beside it.
            self._record.add(CPU if what == Workload.MIX else f"{CPU}, {what}", who, component, microseconds)
        self._record.add(MEMORY, who, what, drain.peak_bytes / _MEGABYTE)
        spent = ", ".join(f"{component} {us:.0f} µs" for component, us in drain.cpu_us.items())
        self._say(f"{what}: {who}: {drain.rate:,.0f}/s ({spent})")

    async def _alone(self, template: str) -> None:
        for _ in self._rounds:
            await self._alone_once(template)

    async def _alone_once(self, template: str) -> None:
        for script in self._plan.database_scripts:
            for clients in self._plan.database_clients:
                count = self._plan.database_count
                pace = await database_alone.run(self._servers, template, script, clients=clients, count=count)
                self._record.add(DATABASE, _clients(clients), script, pace.rate)
                self._say(f"database alone, {script}, {_clients(clients)}: {pace.rate:,.0f}/s")
        async with place.fresh_site(self._servers, template) as site:
            broker = await asyncio.to_thread(broker_alone.run, site, self._plan.broker_count)
        self._record.add(BROKER, "quorum queue", PUBLISHED, broker.published)
        self._record.add(BROKER, "quorum queue", CONSUMED, broker.consumed)
        self._say(f"broker alone: {broker.published:,.0f}/s in, {broker.consumed:,.0f}/s out")

    async def _latencies(self, template: str) -> None:
        for number in self._rounds:
            for contestant in self._plan.latency_contestants:
                await self._latency(template, contestant, number)

    async def _latency(self, template: str, contestant: Contestant, number: int) -> None:
        program, rates, seconds = PROGRAMS[contestant], self._plan.latency_rates, self._plan.latency_seconds
        async with place.fresh_site(self._servers, template) as site:
            measured = await asyncio.to_thread(
                lambda: latency.run(site, program, rates, seconds=seconds, prefix=f"L{number}")
            )
        for waits in measured:
            shown = []
            for percent in (50, 99, 99.9):
                milliseconds = latency.percentile(waits.seconds, percent) * 1000
                self._record.add(LATENCY, contestant, f"{waits.rate}/s p{percent}", milliseconds)
                shown.append(f"p{percent} {milliseconds:.1f} ms")
            late = f", {waits.unanswered} unanswered" if waits.unanswered else ""
            self._say(f"latency at {waits.rate}/s: {contestant}: {', '.join(shown)}{late}")
            if waits.unanswered:
                self._record.notes.append(
                    f"{contestant} at {waits.rate}/s left {waits.unanswered} commands without an outcome for "
                    f"{latency.LATE_SECONDS:.0f} s; they are not in its percentiles."
                )

    async def _growth(self) -> None:
        """Compare the empty database with one that has years in it, in turns."""
        plan = self._plan
        if not plan.grown_users:
            return
        self._say(
            f"filling a database with {plan.grown_users:,} accounts, {plan.grown_orders_each} orders each"
        )
        async with (
            place.furnished(self._servers) as template,
            place.furnished(
                self._servers, users=plan.grown_users, orders_each=plan.grown_orders_each
            ) as grown,
        ):
            for number in self._rounds:
                for what in (EMPTY, GROWN):
                    users = plan.grown_users if what == GROWN else USERS
                    program = PROGRAMS[Contestant.OURS]
                    count = int(program.rate * plan.backlog_seconds)
                    load = workloads.load(
                        Workload.MIX, count, prefix=f"{what[0].upper()}{number}", users=users
                    )
                    async with self._grown_site(what, template, grown) as site:
                        await place.stock(site, load)
                        drain = await asyncio.to_thread(contest.drain, self._servers, site, program, count)
                        await verdict.assert_done(site, load)
                    self._note(GROWTH, Contestant.OURS, what, drain)

    @asynccontextmanager
    async def _grown_site(self, what: str, template: str, grown: str) -> AsyncIterator[Site]:
        chosen = (
            place.site_on(self._servers, grown)
            if what == GROWN
            else place.fresh_site(self._servers, template)
        )
        async with chosen as site:
            yield site

    async def _long_backlog(self, template: str) -> None:
        count, program = self._plan.long_backlog, PROGRAMS[Contestant.OURS]
        if not count:
            return
        load = workloads.load(Workload.RECHARGE, count, prefix="LB")
        async with place.fresh_site(self._servers, template) as site:
            await place.stock(site, load)
            self._say(f"{count:,} messages wait")
            drain = await asyncio.to_thread(contest.drain, self._servers, site, program, count)
            await verdict.assert_done(site, load)
        for what, (low, high) in {FIRST_FIFTH: (0.02, 0.2), LAST_FIFTH: (0.8, 0.98)}.items():
            self._record.add(BACKLOG, LONG, what, drain.rate_between(low, high))
        self._record.add(BACKLOG, LONG, PEAK, drain.peak_bytes / _MEGABYTE)
        self._say(f"drained at {drain.rate:,.0f}/s, at most {drain.peak_bytes / _MEGABYTE:.0f} MB")

    async def _profile(self, template: str) -> None:
        program, seconds = PROGRAMS[Contestant.OURS], self._plan.profile_seconds
        if not seconds:
            return
        count = int(program.rate * (seconds + 6))
        load = workloads.load(Workload.MIX, count, prefix="PR")
        async with place.fresh_site(self._servers, template) as site:
            await place.stock(site, load)
            try:
                seen = await asyncio.to_thread(_profiled, site, seconds)
            except hotspots.ProfilerFailed as exc:
                self._record.notes.append(f"There is no profile: {exc}")
                return
        for name, share in seen.groups:
            self._record.add(PROFILE, name, "", share)
        for name, share in seen.functions:
            self._record.add(FUNCTIONS, name, "", share)
        self._say("profiled")


def _profiled(site: Site, seconds: float) -> hotspots.Hotspots:
    with contest.running(PROGRAMS[Contestant.OURS], site) as worker:
        threading.Event().wait(2)  # started, connected, and at work
        return hotspots.profile(worker.pids[0], seconds=seconds)


async def _assert_done(contestant: Contestant, site: Site, load: Load) -> None:
    if contestant is Contestant.ECHO:
        await verdict.assert_echoed(site, load)
    else:
        await verdict.assert_done(site, load)


def _clients(count: int) -> str:
    return f"pgbench, {count} client{'s' if count > 1 else ''}"
