"""Rows 10 to 13 of docs/faults.md: the database falls silent, dies, is full, loses a commit's answer, has locks."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import asyncpg
import pytest

from tests.faults import faults
from tests.faults.conftest import MakeWorld
from tests.faults.faults import Weather
from tests.faults.notebook import Kind
from tests.faults.proxy import Way
from tests.faults.scale import FOUND_WITHIN, FULL, PAST_THE_STATEMENT, PROGRAM
from tests.faults.test_broker_faults import handed_out_again, only_worker, until_unready
from tests.faults.test_worker_deaths import one_batch_of
from tests.faults.world import World
from tests.journeys.messages import open_account
from tests.servers.postgres import Postgres
from wallet_worker.worker.app import PREFETCH

SMALL_BYTES = 4 * 2**20


@pytest.mark.parametrize("way", [*Way, Way.BOTH] if FULL else [Way.BOTH])
async def test_row_10_a_database_whose_packets_vanish_is_given_up_and_no_message_with_it(
    make_world: MakeWorld, way: Way
) -> None:
    """Nobody ends the silent connections but the worker; what it said on them, a COMMIT perhaps, arrives afterwards."""
    async with make_world(program=PROGRAM) as world:
        workers = world.fleet.running

        async def fall_silent() -> None:
            world.database.reset()
            await world.healed()
            world.database.black_hole(way)
            await until_unready(world, seconds=FOUND_WITHIN)
            # The batch in hand is given up too by then, and not only what was asked of the database next.
            await asyncio.sleep(PAST_THE_STATEMENT)
            world.database.heal()
            await world.healed()

        await world.under_load(fall_silent)

        assert await world.judge() == []
        assert world.fleet.kills == 0
        assert all(len(worker.events("database.lost")) < 10 for worker in workers), "one line each time"
        begun = [line for worker in workers for line in worker.events("consumer.started")]
        reconnects = sum(line["component"] == "consumer" for line in begun) - len(workers)
        most = 2 * PREFETCH * reconnects
        assert await handed_out_again(world) <= most, "no storm of nacks: of two queues, once each"


async def test_row_11_a_database_that_is_killed_or_restarted_is_found_again_and_no_attempt_is_burned(
    make_world: MakeWorld,
) -> None:
    async with make_world() as world:

        async def break_it() -> None:
            for fault in (faults.database_killed, faults.database_restarted, faults.sessions_terminated):
                await fault(world, Weather())
                await world.healed()

        await world.under_load(break_it)

        assert await world.judge() == []
        assert await handed_out_again(world) == 0


async def test_row_11_a_full_disk_is_waited_for(make_world: MakeWorld, tmp_path: Path) -> None:
    """The table of entries lies on a file system of four megabytes, which another file fills.

    It takes the right to mount, and servers of our own: in a container's file system nothing can be mounted.
    """
    async with (
        make_world(workers=1, accounts=5, program=PROGRAM) as world,
        small_disk(world, tmp_path) as filler,
    ):
        worker = only_worker(world)

        async def fill() -> None:
            await worker.until_ready(ready=False, seconds=60)
            (line, *_) = worker.events("database.lost")
            assert "DiskFullError" in str(line["reason"])
            filler.unlink()
            await world.healed()
            assert only_worker(world) is worker

        await world.under_load(fill)

        assert await world.judge() == []
        assert await handed_out_again(world) == 0
        # The tablespace goes with its disk.
        await world.value("DROP TABLE entries CASCADE")


async def test_row_12_a_connection_lost_during_commit_leaves_it_to_the_redelivery(
    make_world: MakeWorld,
) -> None:
    """In turns the database hears the COMMIT and its answer is lost, and never hears it."""
    async with make_world(workers=1, program=PROGRAM) as world:

        async def lose_commits() -> None:
            for number in range(8):
                world.database.cut.clear()
                world.database.cut_before_it_arrives = bool(number % 2)
                world.database.cut_at = b"COMMIT;"
                await asyncio.wait_for(world.database.cut.wait(), 30)
                await world.healed()

        await world.under_load(lose_commits)

        assert await world.judge() == []


WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


async def test_row_13_a_deadlock_is_tried_again_and_counts_as_no_attempt(make_world: MakeWorld) -> None:
    """With the worker's real limits: it waits for a lock longer than the second after which a deadlock is found."""
    async with make_world(workers=1, accounts=2) as world:
        worker = only_worker(world)
        holder, rival = [await asyncpg.connect(world.database_url) for _ in range(2)]
        first, last = [
            row["account_id"]
            for row in await rival.fetch(
                "SELECT account_id FROM accounts WHERE kind = 'user' ORDER BY account_id"
            )
        ]
        lock = "SELECT 1 FROM accounts WHERE account_id = $1 FOR UPDATE"
        holding, rivalry = holder.transaction(), rival.transaction()
        await holding.start()
        await holder.execute(lock, first)
        await rivalry.start()
        await rival.execute("SET LOCAL deadlock_timeout = '20s'")  # the worker is to find it first
        await rival.execute(lock, last)

        # The worker waits for the first account and the rival behind it. Then the worker has it and wants the last.
        await one_batch_of(world, world.load.some(40))
        await world.until(WAITING, 1)
        wanting = asyncio.create_task(rival.execute(lock, first))
        await world.until(WAITING, 2)
        await holding.rollback()
        await wanting
        await rivalry.rollback()
        await holder.close()
        await rival.close()

        await world.healed()
        assert await world.judge() == []
        reasons = [str(line["reason"]) for line in worker.events("batch.race_lost")]
        assert any("deadlock detected" in reason for reason in reasons)
        assert await handed_out_again(world) == 0


async def test_row_13_two_workers_that_race_for_one_account_both_answer(make_world: MakeWorld) -> None:
    """Each has its hundred accounts ready to be written when the other has; then both may."""
    async with make_world(workers=2, accounts=1) as world:
        holder = await asyncpg.connect(world.database_url)
        holding = holder.transaction()
        await holding.start()
        await holder.execute("LOCK TABLE accounts IN SHARE MODE")
        # The same hundred users, opened twice over under numbers of their own: only one of each pair can be applied.
        commands = [
            world.load.command(
                Kind.OPEN,
                open_account(f"twin-{user}", serial_no=f"T-{user}-{twin}"),
                "OK|ACCOUNT_EXISTS",
            )
            for user in range(100)
            for twin in range(2)
        ]
        await one_batch_of(world, commands)
        await world.until(WAITING, 2)
        await holding.rollback()
        await holder.close()
        await world.until("SELECT count(*) FROM commands WHERE serial_no LIKE 'T-%'", 200)

        outcomes = await asyncpg.connect(world.database_url)
        codes = await outcomes.fetch(
            "SELECT code, count(*) FROM commands WHERE serial_no LIKE 'T-%' GROUP BY code"
        )
        await outcomes.close()

        assert {row["code"]: row["count"] for row in codes} == {"OK": 100, "ACCOUNT_EXISTS": 100}
        assert await world.value("SELECT count(*) FROM accounts WHERE user_id LIKE 'twin-%'") == 100
        assert await world.judge() == []
        lost = [
            line["reason"] for worker in world.workers.started for line in worker.events("batch.race_lost")
        ]
        assert lost == ["accounts_open_key"]


@asynccontextmanager
async def small_disk(world: World, folder: Path) -> AsyncIterator[Path]:
    """Have the entries on a small disk that is full; give the file that fills it."""
    server = world.servers.database_server
    if not isinstance(server, Postgres):
        pytest.skip("the database server is not on this machine")
    mount = folder / "disk"
    mount.mkdir()
    refused = await asyncio.to_thread(
        _run, "mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "tmpfs", str(mount)
    )
    if refused:
        pytest.skip(f"nothing can be mounted here: {refused}")
    try:
        yield await _move_entries(world, server, mount)
    finally:
        await asyncio.to_thread(_run, "umount", "--lazy", str(mount))


def _run(*command: str) -> str:
    """Return what a program complains of, nothing if it did its work."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


async def _move_entries(world: World, server: Postgres, mount: Path) -> Path:
    for above in (mount, *mount.parents):
        if above.is_relative_to("/tmp"):  # noqa: S108 -- pytest keeps its folders to itself; the server is another user
            above.chmod(above.stat().st_mode | 0o011)
    place = mount / "entries"
    place.mkdir()
    if server._user is not None:
        os.chown(place, server._user, cast("int", server._group))
    owner = await asyncpg.connect(world.database_url)
    name = f"small_{os.getpid()}"
    await owner.execute(f"CREATE TABLESPACE {name} LOCATION '{place}'")
    await owner.execute(f"ALTER TABLE entries SET TABLESPACE {name}")
    await owner.close()
    filler = mount / "filler"
    stat = os.statvfs(mount)
    filler.write_bytes(b"\0" * (stat.f_bavail * stat.f_frsize - 3 * 8_192))
    return filler
