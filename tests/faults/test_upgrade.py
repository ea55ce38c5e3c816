"""The release before and this one on one database, under load: as `wallet migrate --plan` says.

Either both work side by side through the migration, the roll-out and the way back; or the older one is stopped first.

The release before is the last commit that lacks this release's newest migration, or the tag or commit that
WALLET_UPGRADE_FROM names: `make upgrade FROM=v0.1.0`. It is built as a wheel and runs from there.
"""

import asyncio
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from tests.faults.fleet import Slot
from tests.faults.world import World, world
from tests.servers import Servers
from tests.workers import Workers
from wallet_worker.cli.exits import Exit
from wallet_worker.store.migrate import migrate
from wallet_worker.store.schema_version import (
    VERSIONS_FOLDER,
    known_revisions,
    newest_revision,
    oldest_program,
    planned,
)

ROOT: Final = Path(__file__).parents[2]
WALLET: Final = ("-P", "-m", "wallet_worker")
"""Without -P the working directory would be searched before the wheel's folder."""
RATE: Final = 50.0
LOADED_SECONDS: Final = 3.0
WITHOUT_RANGE: Final = "0008"
"""The releases before this revision know nothing of ranges, and work on their own revision alone."""


def git(*arguments: str) -> bytes:
    """Return what git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def before(revision: str) -> str:
    """Return the last commit that lacks a revision."""
    (migration,) = VERSIONS_FOLDER.glob(f"{revision}_*.py")
    added = (
        git("log", "--diff-filter=A", "--max-count=1", "--format=%H", "--", str(migration)).decode().strip()
    )
    assert added, (
        f"git's history does not reach back to revision {revision}: name a tag in WALLET_UPGRADE_FROM"
    )
    return f"{added}^"


def released(commit: str, folder: Path) -> Mapping[str, str]:
    """Return the environment of a commit's programs: its wheel is built, and unpacked in the folder."""
    source, packages = folder / "source", folder / "packages"
    source.mkdir(parents=True)
    subprocess.run(["tar", "-x"], cwd=source, check=True, input=git("archive", commit))
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(packages)
    return {"PYTHONPATH": str(packages)}


async def wallet(url: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command of `wallet` on a database; return its exit status, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *WALLET,
        *arguments,
        env=os.environ | {"WALLET_DATABASE_URL": url} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Give the environment of the release before."""
    commit = os.environ.get("WALLET_UPGRADE_FROM") or before(newest_revision())
    return released(commit, tmp_path_factory.mktemp("older"))


def goes_on(knows: str) -> bool:
    """Return whether a release that knows a revision works on this release's tables, as the migrations say."""
    return oldest_program(known_revisions()) <= knows


async def roll(world: World, slot: Slot, environment: Mapping[str, str]) -> None:
    """A worker has stopped in order, and one of the release that the environment has works in its place."""
    slot.next_settings = dict(environment)
    await world.fleet.replace(slot)
    await world.healed()


async def stop_and_migrate(world: World) -> None:
    """Every worker has stopped in order, the database is migrated, and then this release's workers start."""
    world.fleet.may_start.clear()
    await asyncio.gather(*(world.fleet.replace(slot) for slot in world.fleet.slots))
    status, text = await wallet(world.database_url, "migrate")
    assert status == 0, text
    world.fleet.may_start.set()
    await world.healed()


async def migrate_and_roll_out_and_back(world: World, older: Mapping[str, str]) -> None:
    """The database is migrated while the older workers run; each is replaced by a newer one, and then the other way."""
    status, text = await wallet(world.database_url, "migrate")
    assert status == 0, text
    await world.healed()
    for environment in ({}, older):
        for slot in world.fleet.slots:
            await roll(world, slot, environment)
    assert await wallet(world.database_url, "migrate", **older) == (
        0,
        f"the database was at revision {newest_revision()} already\n",
    )


async def test_a_release_follows_another_under_load_as_the_plan_says(
    breakable: Servers, tmp_path: Path, older: Mapping[str, str]
) -> None:
    async with breakable.database() as template:
        status, text = await wallet(template, "migrate", **older)
        assert status == 0, text
        knows = text.split()[-1]
        assert knows < newest_revision(), "the release before has this release's tables"
        settings = [older, older]
        async with world(
            breakable, template, tmp_path, rate=RATE, program=(*WALLET, "worker"), settings=settings
        ) as made:

            async def upgrade() -> None:
                await asyncio.sleep(LOADED_SECONDS)
                _, plan = await wallet(made.database_url, "migrate", "--plan")
                assert [line[:4] for line in plan.splitlines()] == [
                    revision for revision in sorted(known_revisions()) if revision > knows
                ]
                assert ("must be stopped" not in plan) == goes_on(knows)
                if goes_on(knows):
                    await migrate_and_roll_out_and_back(made, older)
                else:
                    await stop_and_migrate(made)

            await made.under_load(upgrade)

            assert await made.judge() == []


async def test_a_release_that_knows_nothing_of_ranges_applies_nothing_on_newer_tables(
    breakable: Servers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ancient = released(before(WITHOUT_RANGE), tmp_path_factory.mktemp("ancient"))
    async with breakable.vhost() as amqp_url, breakable.database() as url:
        await migrate(url)
        workers = Workers(amqp_url, url, breakable.management_url, (*WALLET, "worker"))
        async with workers:
            worker = await workers.launch(**ancient)

            status = await asyncio.wait_for(worker.process.wait(), 60)
            log = worker.log()

    assert status != 0
    assert "upgrade the program to the release that has migrated the database" in log


def test_no_revision_lets_a_release_go_on_that_knows_nothing_of_ranges() -> None:
    assert max(planned(revision).works_with for revision in known_revisions()) >= WITHOUT_RANGE


async def test_check_says_whether_the_release_before_may_go_on(
    breakable: Servers, older: Mapping[str, str]
) -> None:
    async with breakable.database() as url, breakable.database() as of_older:
        _, text = await wallet(of_older, "migrate", **older)
        await migrate(url)
        status, said = await wallet(url, "migrate", "--check", **older)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("COMMENT ON TABLE wallet.alembic_version IS NULL")
        finally:
            await connection.close()
        without, why = await wallet(url, "migrate", "--check", **older)

    assert (status == 0) == goes_on(text.split()[-1]), said
    assert without == Exit.FOUND
    assert "upgrade the program to the release that has migrated the database" in why
