"""The benchmark's own smoke test: everything runs once, on a few messages, and its checks can fail."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import asyncpg
import psutil
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractIncomingMessage

from tests.benchmarks import contest, hotspots, latency, locks, place, plot, report, verdict, workloads
from tests.benchmarks.__main__ import FIGURES
from tests.benchmarks.__main__ import RESULTS as RESULTS_FOLDER
from tests.benchmarks.contest import PROGRAMS, Contestant
from tests.benchmarks.contestants.one_by_one import Out
from tests.benchmarks.contestants.usual import Exchanges, handler
from tests.benchmarks.kept import Kept
from tests.benchmarks.place import Site
from tests.benchmarks.plan import FULL, QUICK
from tests.benchmarks.record import Record, commit
from tests.benchmarks.runs import (
    BACKLOG,
    DATABASE,
    FUNCTIONS,
    LATENCY,
    LOCKS,
    LONG,
    PEAK,
    PROFILE,
    RATE,
    Part,
    Runs,
)
from tests.benchmarks.verdict import WrongResultError
from tests.benchmarks.workloads import RESULTS, USERS, Kind, Load, Workload
from tests.servers import Servers

MESSAGES = 84


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def template(servers: Servers) -> AsyncIterator[str]:
    """Give a database with users, each with some history."""
    async with place.furnished(servers, users=100, orders_each=2) as url:
        yield url


@pytest.fixture
async def site(servers: Servers, template: str) -> AsyncIterator[Site]:
    """Give a database and a vhost of the test's own."""
    async with place.fresh_site(servers, template) as site:
        yield site


@pytest.fixture
def load() -> Load:
    """Give a few messages of every kind."""
    return workloads.load(Workload.MIX, MESSAGES, prefix="S", users=100)


@pytest.mark.parametrize("contestant", list(Contestant))
async def test_contestant_does_all_of_the_mix(
    servers: Servers, site: Site, load: Load, contestant: Contestant
) -> None:
    await place.stock(site, load)

    drain = await asyncio.to_thread(contest.drain, servers, site, PROGRAMS[contestant], MESSAGES)

    assert drain.rate > 0
    assert drain.peak_bytes > 0
    if contestant is Contestant.ECHO:
        await verdict.assert_echoed(site, load)
    else:
        await verdict.assert_done(site, load)


async def test_our_worker_does_every_kind_of_order(servers: Servers, site: Site) -> None:
    load = workloads.load(Workload.EVERY, MESSAGES, prefix="E", users=100)
    assert set(load.kinds) == set(Kind) - {Kind.OPEN}
    await place.stock(site, load)

    await asyncio.to_thread(contest.drain, servers, site, PROGRAMS[Contestant.OURS], MESSAGES)

    await verdict.assert_done(site, load)


async def test_verdict_misses_what_was_not_done(site: Site, load: Load) -> None:
    await place.stock(site, load)

    with pytest.raises(WrongResultError, match="rows"):
        await verdict.assert_done(site, load)
    with pytest.raises(WrongResultError, match="messages left"):
        await verdict.assert_echoed(site, load)


async def test_verdict_sees_a_balance_that_is_not_its_entries(site: Site) -> None:
    nothing = Load([], "")
    await verdict.assert_done(site, nothing)
    connection = await asyncpg.connect(site.database_url)
    await connection.execute("UPDATE accounts SET balance = balance + 1 WHERE user_id = 'u-7'")
    await connection.close()

    with pytest.raises(WrongResultError, match="accounts"):
        await verdict.assert_done(site, nothing)


async def test_server_that_could_forget_is_not_measured(servers: Servers, template: str) -> None:
    async with servers.database(template=template) as url:
        connection = await asyncpg.connect(url)
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        await connection.close()

        with pytest.raises(place.UnsafeServerError):
            await place.assert_durable(url)


async def test_plan_runs_and_is_reported(servers: Servers) -> None:
    """All parts of a plan, as small as they can be, with page and picture."""
    record = Record("Smoke", {"machine": "any"})
    plan = replace(
        QUICK,
        contests={
            Workload.MIX: (Contestant.OURS, Contestant.OURS_TWO),
            Workload.HOT: (Contestant.OURS,),
        },
        backlog_seconds=0.05,
        database_count=32,
        broker_count=1_000,
        latency_seconds={50: 0.5},
        latency_contestants=(Contestant.OURS,),
        mix_users=100,
        grown_users=100,
        grown_orders_each=2,
        long_backlog=500,
        profile_seconds=1,
    )

    for part in Part:
        await Runs(plan, servers, record, lambda _: None).run(part)

    assert record.median(RATE, Contestant.OURS, Workload.HOT)
    assert record.median(DATABASE, "pgbench, 16 clients", Workload.MIX)
    assert record.median(LATENCY, Contestant.OURS, "50/s p99")
    assert record.rounds(BACKLOG, LONG, PEAK)
    assert record.rounds(LOCKS, Contestant.OURS_TWO, Workload.MIX)
    page = report.page(record)
    assert "10 million entries : empty" in page
    assert "## What a second process gives" in page
    assert all(f"### {what}" in page for what in (Workload.MIX, Workload.HOT, "growth: the mix, grown"))
    # Where one may not look into other processes, it says so.
    assert (record.whos(PROFILE) and record.whos(FUNCTIONS)) or "There is no profile" in page
    assert plot.svg(record).count("<rect") > 5


def test_load_is_the_mix_it_says_it_is() -> None:
    load = workloads.load(Workload.MIX, 2_100, prefix="T")

    kinds = load.kinds
    assert (kinds.total(), sum(kinds[kind] for kind in RESULTS)) == (2_100, 1_000)
    assert len(load.events) == 2_100
    assert all(1 <= user <= USERS for user in load.paid_users)


def test_mix_has_many_users_and_stands_beside_one_of_few() -> None:
    assert {FULL.users(workload) for workload in Workload if workload is not Workload.MIX} == {10_000}
    assert FULL.users(Workload.MIX) == 400_000
    assert FULL.contests[Workload.MIX_FEW] == (Contestant.OURS, Contestant.OURS_TWO)
    many, few = (workloads.load(workload, 2_100, prefix="T") for workload in (Workload.MIX, Workload.MIX_FEW))
    assert many == few


def test_p99_at_100_a_second_is_of_3000_commands() -> None:
    assert 100 * FULL.latency_seconds[100] >= 3_000


def test_profile_is_grouped_by_who_is_at_work() -> None:
    stacks = [
        "run (uvloop/__init__.py);decide (wallet_worker/core/decide.py) 30",
        "run (uvloop/__init__.py);decide (wallet_worker/core/decide.py);encode (wallet_schemas/encode.py) 20",
        "run (uvloop/__init__.py);get_frame (aiormq/connection.py) 50",
        "run (threading.py);_worker (concurrent/futures/thread.py) 900",
        "run (uvloop/__init__.py);__init__ (<string>) 60",
        "run (uvloop/__init__.py);uuid4 (lib/python3.11/uuid.py) 40",
    ]

    seen = hotspots.summary(stacks)

    assert dict(seen.groups)["aiormq"] == 0.25
    assert dict(seen.groups)["what dataclasses generates"] == 0.3
    assert dict(seen.groups)["the rest"] == 0.2
    assert seen.rest == [("python3.11/uuid.py uuid4", 0.2)]
    assert dict(seen.functions)["wallet_worker/core/decide.py decide"] == 0.25


def figures(rate: float, commit: str) -> Record:
    record = Record("any", {"code": commit, "machine": "two cores"})
    record.add(RATE, Contestant.OURS, Workload.MIX, rate)
    record.add(RATE, Contestant.USUAL, Workload.MIX, rate / 10)
    return record


def test_a_part_that_is_measured_again_takes_the_place_of_what_was_kept_of_it(tmp_path: Path) -> None:
    path = tmp_path / "day.json"
    latency = Record("any", {"code": "a", "machine": "two cores"}, notes=["slow"])
    latency.add(LATENCY, Contestant.OURS, "100/s p99", 7.5)
    kept = Kept(path)
    kept.put(Part.LATENCY, latency)
    kept.put(Part.RATES, figures(4_000, "a"))

    Kept(path).put(Part.RATES, figures(5_000, "b"))

    whole = Kept(path).whole
    assert whole.rounds(RATE, Contestant.OURS, Workload.MIX) == [5_000]
    assert whole.rounds(LATENCY, Contestant.OURS, "100/s p99") == [7.5]
    assert (whole.notes, whole.machine) == (["slow"], {"machine": "two cores"})
    assert whole.apart == {"code": {"rates": "b", "latency": "a"}}


def test_the_table_goes_between_the_markers_of_the_readme_and_nowhere_else() -> None:
    text = "# Wallet\n<!-- benchmark -->\nold\n<!-- end -->\nmore <!-- end -->\n"

    written = report.on_page(text, figures(5_000, "a"), "results/day.md")

    assert written.startswith("# Wallet\n<!-- benchmark -->\n| figure |")
    assert written.endswith("<!-- end -->\nmore <!-- end -->\n")
    assert "| ours : usual worker, mix | 10.00 |" in written
    assert "(results/day.svg)" in written
    assert "old" not in written
    assert report.on_page(written, figures(5_000, "a"), "results/day.md") == written


def test_what_all_parts_have_alike_is_said_once_and_the_rest_by_part() -> None:
    whole = figures(5_000, "")
    whole.machine = {
        "machine": "two cores",
        "servers": "PostgreSQL 18",
        "client": "Python 3.11",
        "code": "abc",
    }
    whole.apart = {"date": {"rates": "May 1", "alone": "May 1", "growth": "May 2"}}

    page = report.page(whole)
    written = report.on_page("<!-- benchmark -->\n<!-- end -->", whole, "day.md")

    text = "Measured on May 1 (growth: May 2): two cores; PostgreSQL 18; Python 3.11; commit abc."
    assert text in written
    assert page.count("two cores") == 1
    assert "| part | date |\n|---|---|\n| rates | May 1 |\n| alone | May 1 |\n| growth | May 2 |\n" in page


def test_a_figure_of_one_run_has_no_spread() -> None:
    record = figures(5_000, "a")
    record.add(BACKLOG, LONG, PEAK, 87.5)

    spreads = {title: spread for title, _, spread, _, _ in report.aims(record)}

    assert spreads["peak memory of the worker, a backlog of a million, MB"] == "one run"
    assert spreads["ours : usual worker, mix"] == "one run"
    record.add(BACKLOG, LONG, PEAK, 90.0)
    assert "87.50 to 90.00" in str(report.aims(record))


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [
        (100, 50, 50),
        (100, 99, 99),
        (1_000, 99, 990),
        (1_000, 99.9, 999),
        (3_000, 99.9, 2_997),
        (41_000, 99.9, 40_959),
        (3, 50, 2),
        (1, 99, 1),
    ],
)
def test_percentile_is_the_nearest_rank(count: int, percent: float, rank: int) -> None:
    waits = [float(wait) for wait in range(count, 0, -1)]

    assert latency.percentile(waits, percent) == rank


def test_commit_is_dirty_by_code_and_not_by_what_a_benchmark_writes(tmp_path: Path) -> None:
    results = tmp_path / "tests" / "benchmarks" / "results"
    results.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    kept, page, code = results / "day.json", tmp_path / "docs" / "benchmarks.md", tmp_path / "code.py"
    for path in (kept, page, code):
        path.write_text("before")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=any", "-c", "user.email=any@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=All"]):
        subprocess.run([*git, *arguments], check=True)
    clean = commit(results.parent)

    kept.write_text("after")
    page.write_text("after")
    assert commit(results.parent) == clean != "unknown"
    code.write_text("after")
    assert commit(results.parent) == f"{clean}-dirty"


async def test_usual_worker_has_so_many_messages_in_hand_of_both_queues_together() -> None:
    at_once = asyncio.Semaphore(2)
    in_hand: list[int] = []
    now = 0

    async def apply(_: AbstractIncomingMessage) -> list[Out]:
        nonlocal now
        now += 1
        in_hand.append(now)
        await asyncio.sleep(0)
        now -= 1
        return []

    handles = [handler(apply, cast("Exchanges", None), at_once) for _ in range(2)]
    messages = [Acknowledged() for _ in range(8)]
    await asyncio.gather(
        *(handles[number % 2](cast("AbstractIncomingMessage", item)) for number, item in enumerate(messages))
    )

    assert max(in_hand) == 2
    assert all(message.done for message in messages)


class Acknowledged:
    """A message that notes its acknowledgement."""

    done = False

    async def ack(self) -> None:
        """Note it."""
        self.done = True


async def test_wait_for_a_lock_is_seen(site: Site) -> None:
    update = "UPDATE accounts SET updated_at = now() WHERE user_id = 'u-1'"
    holding, wanting = await asyncpg.connect(site.database_url), await asyncpg.connect(site.database_url)
    async with locks.watched(site.database_url) as waiting, holding.transaction():
        await holding.execute(update)
        await wanting.execute("SET lock_timeout = '300ms'")
        begun = time.monotonic()

        with pytest.raises(asyncpg.LockNotAvailableError):
            await wanting.execute(update)
        ended = time.monotonic()
    await holding.close()
    await wanting.close()

    assert (waiting.share(begun, ended) or 0) > 0.5
    assert waiting.share(ended + 60, ended + 70) is None


_MEASURING = """
import asyncio
from tests.benchmarks import contest
from tests.benchmarks.__main__ import end_on_sigterm
from tests.benchmarks.place import Site

async def measure():
    end_on_sigterm()
    program = contest.Program(("-c", "import time; time.sleep(600)"), rate=1)
    with contest.running(program, Site("", "", "")) as contestant:
        print(contestant.process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(measure())
"""


def test_contestant_ends_with_whoever_measures_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _MEASURING],
        cwd=FIGURES.parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as measuring:
        assert measuring.stdout is not None
        contestant = psutil.Process(int(measuring.stdout.readline()))
        measuring.send_signal(signal.SIGTERM)
        measuring.wait(30)

    left = contestant.is_running()
    if left:
        contestant.kill()
    assert not left


def test_the_page_shows_the_newest_figures_that_were_kept() -> None:
    text = FIGURES.read_text()
    kept = max(RESULTS_FOLDER.glob("*.json"), default=None)
    page = "" if kept is None else os.path.relpath(kept.with_suffix(".md"), FIGURES.parent)

    shown = report.on_page(text, Record("", {}) if kept is None else Kept(kept).whole, page)

    assert (text == shown) is (kept is not None)
