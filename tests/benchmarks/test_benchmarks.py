"""The benchmark's own smoke test: everything runs once, on a few messages, and its checks can fail."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.benchmarks import contest, hotspots, place, plot, report, verdict, workloads
from tests.benchmarks.__main__ import README
from tests.benchmarks.__main__ import RESULTS as RESULTS_FOLDER
from tests.benchmarks.contest import PROGRAMS, Contestant
from tests.benchmarks.kept import Kept
from tests.benchmarks.place import Site
from tests.benchmarks.plan import QUICK
from tests.benchmarks.record import Record
from tests.benchmarks.runs import DATABASE, LATENCY, RATE, Part, Runs
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
    """The rest of a plan, as small as it can be: pgbench, raw broker, latency, growth, page and picture."""
    record = Record("Smoke", {"machine": "any"})
    plan = replace(
        QUICK,
        contests={Workload.HOT: (Contestant.OURS,)},
        backlog_seconds=0.05,
        database_count=32,
        broker_count=1_000,
        latency_rates=(50,),
        latency_contestants=(Contestant.OURS,),
        latency_seconds=0.5,
        grown_users=100,
        grown_orders_each=2,
    )

    for part in (Part.RATES, Part.ALONE, Part.LATENCY, Part.GROWTH):
        await Runs(plan, servers, record, lambda _: None).run(part)

    assert record.median(RATE, Contestant.OURS, Workload.HOT)
    assert record.median(DATABASE, "pgbench, 16 clients", Workload.MIX)
    assert record.median(LATENCY, Contestant.OURS, "50/s p99")
    assert "10 million entries : empty" in report.page(record)
    assert plot.svg(record).count("<rect") > 5


def test_load_is_the_mix_it_says_it_is() -> None:
    load = workloads.load(Workload.MIX, 2_100, prefix="T")

    kinds = load.kinds
    assert (kinds.total(), sum(kinds[kind] for kind in RESULTS)) == (2_100, 1_000)
    assert len(load.events) == 2_100
    assert all(1 <= user <= USERS for user in load.paid_users)


def test_profile_is_grouped_by_who_is_at_work() -> None:
    stacks = [
        "run (uvloop/__init__.py);decide (wallet_worker/core/decide.py) 30",
        "run (uvloop/__init__.py);decide (wallet_worker/core/decide.py);encode (schemas/encode.py) 20",
        "run (uvloop/__init__.py);get_frame (aiormq/connection.py) 50",
        "run (threading.py);_worker (concurrent/futures/thread.py) 900",
    ]

    seen = hotspots.summary(stacks)

    assert dict(seen.groups)["aiormq"] == 0.5
    assert dict(seen.functions)["wallet_worker/core/decide.py decide"] == 0.5


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
    assert (whole.notes, whole.machine) == (
        ["slow"],
        {"code": "rates: b; latency: a", "machine": "two cores"},
    )


def test_the_table_goes_between_the_markers_of_the_readme_and_nowhere_else() -> None:
    text = "# Wallet\n<!-- benchmark -->\nold\n<!-- end -->\nmore <!-- end -->\n"

    written = report.in_readme(text, figures(5_000, "a"), "results/day.md")

    assert written.startswith("# Wallet\n<!-- benchmark -->\n| figure |")
    assert written.endswith("<!-- end -->\nmore <!-- end -->\n")
    assert "| ours : usual worker, mix | 10.00 |" in written
    assert "(results/day.svg)" in written
    assert "old" not in written
    assert report.in_readme(written, figures(5_000, "a"), "results/day.md") == written


def test_the_readme_shows_the_newest_figures_that_were_kept() -> None:
    text = README.read_text()
    kept = max(RESULTS_FOLDER.glob("*.json"), default=None)
    page = "" if kept is None else kept.with_suffix(".md").relative_to(README.parent).as_posix()

    shown = report.in_readme(text, Record("", {}) if kept is None else Kept(kept).whole, page)

    assert (text == shown) is (kept is not None)
