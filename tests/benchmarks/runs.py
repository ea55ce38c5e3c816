"""The runs of a plan, contestants in turns, each figure noted in the record."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import assert_never

from tests.benchmarks import (
    broker_alone,
    contest,
    database_alone,
    hotspots,
    latency,
    locks,
    place,
    verdict,
    workloads,
)
from tests.benchmarks.contest import PROGRAMS, Contestant, Drain
from tests.benchmarks.database_alone import Script
from tests.benchmarks.place import Site
from tests.benchmarks.plan import Plan
from tests.benchmarks.record import Record
from tests.benchmarks.workloads import USERS, Load, Workload
from tests.servers import Servers

Say = Callable[[str], None]

RATE, CPU, CORES, LOCKS, MEMORY, DATABASE, BROKER, LATENCY, GROWTH, BACKLOG, PROFILE, REST, FUNCTIONS = (
    "messages/s",
    "CPU µs a message",
    "cores in use",
    "time waited for locks, %",
    "peak memory, MB",
    "database alone, transactions/s",
    "broker alone, messages/s",
    "latency, ms",
    "growth, messages/s",
    "backlog",
    "profile, share of time",
    "profile, what the rest is",
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
_PROFILED_AT = 1.75  # times what is thought to be done meanwhile, so that it does not end before


def cpu(what: str) -> str:
    """Return the section of the record with the processor time of each message of a workload."""
    return f"{CPU}, {what}"


class Templates:
    """Databases to copy from, each furnished when it is first wanted."""

    def __init__(self, servers: Servers, kept: AsyncExitStack) -> None:
        self._servers = servers
        self._kept = kept
        self._urls: dict[tuple[int, int], str] = {}

    async def url(self, users: int, *, orders_each: int = 0) -> str:
        """Return the URL of a database with so many users, each with so much history."""
        key = (users, orders_each)
        if key not in self._urls:
            furnished = place.furnished(self._servers, users=users, orders_each=orders_each)
            self._urls[key] = await self._kept.enter_async_context(furnished)
        return self._urls[key]


class Runs:
    """Runs what a plan says, on given servers, and notes it."""

    def __init__(self, plan: Plan, servers: Servers, record: Record, say: Say) -> None:
        self._plan = plan
        self._servers = servers
        self._record = record
        self._say = say

    async def run(self, part: Part) -> None:
        """Run one part of the plan, if it has it; raises ContestantFailed or WrongResultError."""
        async with AsyncExitStack() as kept:
            templates = Templates(self._servers, kept)
            match part:
                case Part.RATES:
                    await self._rates(templates)
                case Part.ALONE:
                    await self._alone(templates)
                case Part.LATENCY:
                    await self._latencies(templates)
                case Part.PROFILE:
                    await self._profile(templates)
                case Part.BACKLOG:
                    await self._long_backlog(templates)
                case Part.GROWTH:
                    await self._growth(templates)
                case _:
                    assert_never(part)

    @property
    def _rounds(self) -> range:
        return range(1, self._plan.rounds + 1)

    async def _rates(self, templates: Templates) -> None:
        for number in self._rounds:
            for workload, contestants in self._plan.contests.items():
                # Every kind of order spends money: its users have some.
                orders_each = 1 if workload is Workload.EVERY else 0
                template = await templates.url(self._plan.users(workload), orders_each=orders_each)
                for contestant in contestants:
                    await self._contest(template, workload, contestant, number)

    async def _contest(self, template: str, workload: Workload, contestant: Contestant, number: int) -> None:
        program = PROGRAMS[contestant]
        count = int(program.rate * self._plan.backlog_seconds)
        load = workloads.load(workload, count, prefix=f"B{number}", users=self._plan.users(workload))
        async with place.fresh_site(self._servers, template) as site:
            await place.stock(site, load)
            events = len(load.events)
            async with locks.watched(site.database_url) as waiting:
                drain = await asyncio.to_thread(
                    contest.drain, self._servers, site, program, count, events=events
                )
            await _assert_done(contestant, site, load)
        self._note(RATE, contestant, workload, drain)
        share = waiting.share(*drain.steady)
        if share is not None and contestant is not Contestant.ECHO:
            self._record.add(LOCKS, contestant, workload, 100 * share)
            self._say(f"somebody waited for a lock in {100 * share:.0f} % of the time")

    def _note(self, section: str, who: str, what: str, drain: Drain) -> None:
        self._record.add(section, who, what, drain.rate)
        for component, microseconds in drain.cpu_us.items():
            self._record.add(cpu(what), who, component, microseconds)
        self._record.add(CORES, who, what, drain.cores)
        self._record.add(MEMORY, who, what, drain.peak_bytes / _MEGABYTE)
        spent = ", ".join(f"{component} {us:.0f} µs" for component, us in drain.cpu_us.items())
        self._say(f"{what}: {who}: {drain.rate:,.0f}/s ({spent})")

    async def _alone(self, templates: Templates) -> None:
        for _ in self._rounds:
            await self._alone_once(templates)

    async def _alone_once(self, templates: Templates) -> None:
        for script in self._plan.database_scripts:
            users = self._plan.mix_users if script is Script.MIX else USERS
            template = await templates.url(users)
            for clients in self._plan.database_clients:
                count = self._plan.database_count
                pace = await database_alone.run(
                    self._servers, template, script, clients=clients, count=count, users=users
                )
                self._record.add(DATABASE, _clients(clients), script, pace.rate)
                self._say(f"database alone, {script}, {_clients(clients)}: {pace.rate:,.0f}/s")
        async with place.fresh_site(self._servers, await templates.url(USERS)) as site:
            broker = await asyncio.to_thread(broker_alone.run, site, self._plan.broker_count)
        self._record.add(BROKER, "quorum queue", PUBLISHED, broker.published)
        self._record.add(BROKER, "quorum queue", CONSUMED, broker.consumed)
        self._say(f"broker alone: {broker.published:,.0f}/s in, {broker.consumed:,.0f}/s out")

    async def _latencies(self, templates: Templates) -> None:
        template = await templates.url(USERS)
        for number in self._rounds:
            for contestant in self._plan.latency_contestants:
                await self._latency(template, contestant, number)

    async def _latency(self, template: str, contestant: Contestant, number: int) -> None:
        program, seconds = PROGRAMS[contestant], self._plan.latency_seconds
        async with place.fresh_site(self._servers, template) as site:
            measured = await asyncio.to_thread(
                lambda: latency.run(site, program, seconds, prefix=f"L{number}")
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

    async def _growth(self, templates: Templates) -> None:
        """Compare the empty database with one that has years in it, in turns.

        The empty one has as few users as the mix with few of them: as near to empty as can be.
        """
        plan = self._plan
        if not plan.grown_users:
            return
        self._say(
            f"filling a database with {plan.grown_users:,} accounts, {plan.grown_orders_each} orders each"
        )
        template = await templates.url(USERS)
        grown = await templates.url(plan.grown_users, orders_each=plan.grown_orders_each)
        program = PROGRAMS[Contestant.OURS]
        count = int(program.rate * plan.backlog_seconds)
        for number in self._rounds:
            for what in (EMPTY, GROWN):
                users = plan.grown_users if what == GROWN else USERS
                prefix = f"{what[0].upper()}{number}"
                load = workloads.load(Workload.MIX, count, prefix=prefix, users=users)
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

    async def _long_backlog(self, templates: Templates) -> None:
        count, program = self._plan.long_backlog, PROGRAMS[Contestant.OURS]
        if not count:
            return
        load = workloads.load(Workload.RECHARGE, count, prefix="LB")
        async with place.fresh_site(self._servers, await templates.url(USERS)) as site:
            await place.stock(site, load)
            self._say(f"{count:,} messages wait")
            drain = await asyncio.to_thread(contest.drain, self._servers, site, program, count)
            await verdict.assert_done(site, load)
        for what, (low, high) in {FIRST_FIFTH: (0.02, 0.2), LAST_FIFTH: (0.8, 0.98)}.items():
            self._record.add(BACKLOG, LONG, what, drain.rate_between(low, high))
        self._record.add(BACKLOG, LONG, PEAK, drain.peak_bytes / _MEGABYTE)
        self._say(f"drained at {drain.rate:,.0f}/s, at most {drain.peak_bytes / _MEGABYTE:.0f} MB")

    async def _profile(self, templates: Templates) -> None:
        program, seconds = PROGRAMS[Contestant.OURS], self._plan.profile_seconds
        users = self._plan.mix_users
        if not seconds:
            return
        count = int(program.rate * seconds * _PROFILED_AT)
        load = workloads.load(Workload.MIX, count, prefix="PR", users=users)
        async with place.fresh_site(self._servers, await templates.url(users)) as site:
            await place.stock(site, load)
            try:
                seen = await asyncio.to_thread(_profiled, site, seconds)
            except hotspots.ProfilerFailed as exc:
                self._record.notes.append(f"There is no profile: {exc}")
                return
        for section, shares in ((PROFILE, seen.groups), (REST, seen.rest), (FUNCTIONS, seen.functions)):
            for name, share in shares:
                self._record.add(section, name, "", share)
        self._say("profiled")


def _profiled(site: Site, seconds: float) -> hotspots.Hotspots:
    with contest.running(PROGRAMS[Contestant.OURS], site) as worker:
        contest.await_begun(site, worker)
        return hotspots.profile(worker.pids[0], seconds=seconds)


async def _assert_done(contestant: Contestant, site: Site, load: Load) -> None:
    if contestant is Contestant.ECHO:
        await verdict.assert_echoed(site, load)
    else:
        await verdict.assert_done(site, load)


def _clients(count: int) -> str:
    return f"pgbench, {count} client{'s' if count > 1 else ''}"
