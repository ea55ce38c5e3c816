"""A short chaos run: all faults at random under load. The long ones are `make chaos MINUTES=10`.

And what such a run rests on: that its seed makes it again, that every fault cleans up, and that it reports in any case.
"""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import NoReturn, cast

import asyncpg
import pytest
import typer

from tests.faults import __main__ as command
from tests.faults import chaos, faults, operating
from tests.faults import world as worlds
from tests.faults.chaos import Report, Step, make, run, schedule, storm
from tests.faults.checker import Violation
from tests.faults.conftest import MakeWorld
from tests.faults.faults import ALONE, WEIGHTS, Fault, Weather
from tests.faults.proxy import Proxy, Way
from tests.faults.world import NotQuietError, World, sabotaged
from tests.servers import Servers, ServersUnavailable
from wallet_worker.audit.findings import Invariant
from wallet_worker.broker import topology

SEED = 20266424
MINUTES = 1.75
"""Its first faults are of every sort: to workers and keepers, networks, servers, and what a broker must have."""
FAULTS_MIN = 10  # it makes about twenty: with fewer, something else takes the time
PATIENCE_SECONDS = 5.0


async def test_a_random_mix_of_all_faults_under_load_breaks_nothing(
    breakable: Servers, breakable_migrated_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await run(breakable, breakable_migrated_url, tmp_path, seed=SEED, minutes=MINUTES)

    with capsys.disabled():
        print("\n" + "\n".join(report.lines()))  # noqa: T201 -- the report of the run
    assert report.failures == []
    assert report.violations == []
    assert sum(report.faults.values()) >= FAULTS_MIN
    assert report.kills
    assert report.died_at


# The seed makes it again


def drawn(step: Step) -> list[tuple[str, float, Way]]:
    return [(fault.__name__, weather.seconds(), weather.way()) for fault, weather in step.faults]


def test_the_same_seed_gives_the_same_faults_with_the_same_choices() -> None:
    first, again, other = (
        [(drawn(step), step.pause_seconds) for step in islice(schedule(seed, 40.0), 100)]
        for seed in (7, 7, 8)
    )

    assert first == again
    assert first != other
    assert max(len(each) for each, _ in first) == 2


def test_what_a_fault_draws_changes_nothing_for_the_one_beside_it_and_for_those_after_it() -> None:
    """A fault draws when its time has come, and not at all where there is nothing to do."""
    calm, wild = schedule(7, 40.0), schedule(7, 40.0)

    for number, (quiet, loud) in enumerate(islice(zip(calm, wild, strict=True), 100)):
        for place, (_, weather) in reversed(list(enumerate(loud.faults))):
            if (number + place) % 2:  # this one draws as often as it likes, and before the others do
                for _ in range(number):
                    weather.draw.random()
        kept = [place for place in range(len(loud.faults)) if not (number + place) % 2]
        expected, found = drawn(quiet), drawn(loud)
        assert [found[place] for place in kept] == [expected[place] for place in kept]
        assert (loud.names, loud.pause_seconds) == (quiet.names, quiet.pause_seconds)


def test_a_weather_of_nobody_in_particular_is_its_own_too() -> None:
    first, second = Weather(), Weather()

    assert first.seconds() == second.seconds()


def test_every_fault_comes_and_none_beside_one_that_it_does_not_go_with() -> None:
    steps = [{fault for fault, _ in step.faults} for step in islice(schedule(7, 40.0), 3_000)]

    assert set().union(*steps) == set(WEIGHTS)
    assert not [group for group in ALONE for step in steps if len(step & group) > 1]


# Every fault cleans up


@dataclass
class FakeServer:
    """A server that only remembers how it is."""

    is_up: bool = True
    is_frozen: bool = False
    is_ending: bool = False

    def kill(self) -> None:
        self.stop()

    def stop(self) -> None:
        self.is_up, self.is_ending = False, True
        time.sleep(0.05)  # it takes a while, in a thread that nobody can cancel
        self.is_ending = False

    def start(self) -> None:
        assert not self.is_up
        assert not self.is_ending
        self.is_up = True

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False


class FakeWorker(FakeServer):
    """A worker that only remembers how it is."""

    process = SimpleNamespace(returncode=None)


@dataclass
class FakeWorld:
    """Everything that a fault lays its hands on. What rabbitmqctl and the topology were told is kept too."""

    monkeypatch: pytest.MonkeyPatch
    broker: Proxy = field(default_factory=lambda: Proxy("amqp://127.0.0.1:1"))
    database: Proxy = field(default_factory=lambda: Proxy("postgresql://127.0.0.1:1"))
    faults: Counter[str] = field(default_factory=Counter)
    limits: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    defaults: set[str] = field(default_factory=set)
    amqp_url: str = ""
    database_url: str = "postgresql://127.0.0.1:1/wallet"

    def __post_init__(self) -> None:
        self.servers = SimpleNamespace(broker=FakeServer(), database_server=FakeServer())
        self.worker = FakeWorker()
        self.fleet = SimpleNamespace(kills=0, stops=0, slots=[SimpleNamespace(worker=self.worker)])
        self.requests_heard = SimpleNamespace(deaf=asyncio.Event())
        self.monkeypatch.setattr(operating, "_control", self._control)
        self.monkeypatch.setattr(topology, "apply", self._apply)
        self.monkeypatch.setattr(faults, "_session", self._session)

    def is_whole(self) -> bool:
        servers = (self.servers.broker, self.servers.database_server, self.worker)
        return (
            all(server.is_up and not server.is_frozen for server in servers)
            and all(_is_whole(proxy) for proxy in (self.broker, self.database))
            and set(self.limits.items()) <= USUAL_LIMITS
            and not self.missing
            and not self.defaults
            and not self.requests_heard.deaf.is_set()
        )

    @asynccontextmanager
    async def channel(self) -> AsyncIterator["FakeWorld"]:
        yield self

    async def queue_unbind(self, queue: str, *_: object, **__: object) -> None:
        self.missing.add(queue)

    async def queue_delete(self, queue: str, **_: object) -> None:
        self.missing.add(queue)

    @asynccontextmanager
    async def _session(self, _: World) -> AsyncIterator["FakeWorld"]:
        yield self

    async def execute(self, statement: str) -> None:
        _, _, setting = statement.partition('ALTER DATABASE "wallet" SET ')
        if setting:
            self.defaults.add(setting.split()[0])
        _, _, setting = statement.partition('ALTER DATABASE "wallet" RESET ')
        self.defaults.discard(setting)

    async def _apply(self, _: str) -> None:
        self.missing.clear()

    def _control(self, _: Servers, arguments: tuple[str, str]) -> CompletedProcess[str]:
        name, limit = arguments
        self.limits[name] = limit
        return CompletedProcess(arguments, 0, "", "")


USUAL_LIMITS = {
    ("set_vm_memory_high_watermark", operating.USUAL_WATERMARK),
    ("set_disk_free_limit", operating.USUAL_FREE_BYTES),
}


def _is_whole(proxy: Proxy) -> bool:
    return not (proxy._closed or proxy._refusing or proxy.delay_seconds or proxy.cut_at)


WITH_A_CAUSE = [
    fault
    for fault in WEIGHTS
    if fault
    not in {
        faults.worker_killed,
        faults.all_workers_killed,
        faults.worker_dies_at_failpoint,
        faults.worker_replaced,
        faults.network_reset,
        faults.sessions_terminated,
        faults.rows_locked,
        faults.table_locked,
        faults.column_added,
        faults.backends_terminated,
    }
]
"""The faults that must undo what they do; the others happen once, or end with their session."""


@pytest.mark.parametrize("fault", WITH_A_CAUSE)
async def test_a_fault_that_is_cut_off_leaves_the_world_whole(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = FakeWorld(monkeypatch)
    running = asyncio.create_task(fault(cast("World", world), Weather()))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while world.is_whole():  # noqa: ASYNC110 -- it breaks things in a thread
            await asyncio.sleep(0.001)

    running.cancel()
    with suppress(asyncio.CancelledError):
        await running

    assert world.is_whole()
    assert running.cancelled()


async def test_a_fault_that_raises_cuts_the_other_off_which_cleans_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = FakeWorld(monkeypatch)

    async def failing(_: World, __: Weather) -> None:
        while not world.servers.broker.is_frozen:  # noqa: ASYNC110 -- it freezes in a thread
            await asyncio.sleep(0.001)
        msg = "a fault of the fault's own"
        raise OSError(msg)

    with pytest.raises(ExceptionGroup) as raised:
        await make(Step(((faults.broker_frozen, Weather()), (failing, Weather())), 0.0), cast("World", world))

    assert raised.group_contains(OSError, match="own")
    assert world.is_whole()


# It reports in any case


async def test_a_fault_that_raises_ends_the_storm_and_is_a_line_of_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def failing(_: World, __: Weather) -> None:
        msg = "a fault of the fault's own"
        raise OSError(msg)

    report, answer = Report(seed=7, minutes=1.0), list[str]()
    steps = [Step(((failing, Weather()),), 0.0)] * 2
    await storm(cast("World", FakeWorld(monkeypatch)), steps, 60, report, answer.append)

    assert not report.is_clean
    (failure,) = answer
    assert failure.startswith("failing: ")
    assert "OSError: a fault of the fault's own" in failure
    assert report.lines()[0].startswith("seed 7,")
    assert f"THE HARNESS FAILED: {failure}" in report.lines()
    assert not any(line.startswith("no violation") for line in report.lines())


async def test_a_run_that_cannot_even_begin_has_a_report_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_world(*_: object, **__: object) -> NoReturn:
        raise ServersUnavailable("nobody there")

    monkeypatch.setattr(chaos, "world", no_world)

    report = await run(cast("Servers", None), "", tmp_path, seed=7, minutes=1.0)

    assert report.seed == 7
    (failure,) = report.failures
    assert "nobody there" in failure


@pytest.mark.parametrize("violations", [[], [Violation(1, "something was lost")]])
def test_what_was_sent_and_the_logs_are_kept_of_a_run_that_was_not_clean(
    violations: list[Violation],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run_briefly(folder: Path, seed: int, minutes: float, _: float) -> Report:
        (folder / "notebook.jsonl").write_text("what was sent")
        return Report(seed, minutes, violations=violations)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(command, "_run", run_briefly)

    with pytest.raises(typer.Exit) as ended:
        command.main(seed=7)

    assert ended.value.exit_code == len(violations)
    kept = [path.parent for path in tmp_path.rglob("notebook.jsonl")]
    assert len(kept) == len(violations)
    assert [folder for folder in kept if f"are in {folder}\n" not in capsys.readouterr().err] == []


# What it looks at


async def test_a_worker_that_applies_commands_and_tells_nobody_is_not_back(
    monkeypatch: pytest.MonkeyPatch, make_world: MakeWorld
) -> None:
    async with make_world(workers=1, accounts=1, program=sabotaged("mute")) as world:
        monkeypatch.setattr(worlds, "QUIET_SECONDS", PATIENCE_SECONDS)

        # Two events, and a reply to whichever of the two commands wants one.
        with pytest.raises(NotQuietError, match=r"ready: \[True\]; [2-4] rows in the outbox"):
            await world.healed()


async def test_what_only_the_audit_finds_is_a_violation_too(make_world: MakeWorld) -> None:
    async with make_world(workers=1, accounts=1) as world:
        (paid,) = world.load.some(1)
        await world.sender.send_until_confirmed([paid])
        await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 1)
        owner = await asyncpg.connect(world.database_url)
        await owner.execute("DELETE FROM payment_results")
        await owner.close()

        (violation,) = await world.judge()

        assert violation.invariant == 4
        assert Invariant.RESULT.meaning in violation.what
        assert paid.note.serial_no in violation.what
