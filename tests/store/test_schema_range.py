"""Releases side by side: a program works on older and newer revisions where both say so, and on no other."""

import asyncpg
import pytest

from tests.cli.terminal import wallet_process
from tests.servers import Servers
from tests.workers import Workers
from wallet_worker.cli.exits import Exit
from wallet_worker.store import schema_version
from wallet_worker.store.migrate import Revisions, migrate
from wallet_worker.store.schema_version import (
    DatabaseNotReadyError,
    ensure_current,
    known_revisions,
    newest_revision,
    oldest_program,
    to_come,
    why_not_current,
    works_with_in,
)

NEWEST = newest_revision()
OLDER = sorted(known_revisions())[-2]
TOMORROW = "9998"


def note(revision: str) -> str:
    return schema_version.NOTE.format(revision)


@pytest.mark.parametrize(
    ("revision", "works_with", "why"),
    [
        (NEWEST, None, ""),
        (NEWEST, NEWEST, ""),
        (TOMORROW, NEWEST, ""),
        (TOMORROW, OLDER, ""),
        (TOMORROW, TOMORROW, "this worker is older"),
        (TOMORROW, None, "this worker is older"),
        (OLDER, OLDER, "run `wallet migrate`"),
        (None, None, "run `wallet migrate`"),
        ("mine", NEWEST, "which no release of the wallet has made"),
        ("0001 and 0002", NEWEST, "which no release of the wallet has made"),
    ],
)
def test_a_program_works_on_its_own_revision_and_on_newer_ones_that_say_so(
    revision: str | None, works_with: str | None, why: str
) -> None:
    found = why_not_current(revision, "worker", works_with)

    assert (why in found) if why else found == ""


def test_a_release_may_work_on_older_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_version, "OLDEST_SCHEMA", OLDER)

    assert why_not_current(OLDER, "worker") == ""
    assert "run `wallet migrate`" in why_not_current("0001", "worker")


@pytest.mark.parametrize("text", [None, "", "programs", note("12"), note("0008") + " and more", 8])
def test_a_comment_of_somebody_s_says_nothing_of_programs(text: object) -> None:
    assert works_with_in(text) is None


def test_each_revision_to_come_says_what_it_does() -> None:
    coming = to_come(OLDER)

    assert [item.revision for item in coming] == [NEWEST]
    assert coming[0].title.endswith(".")
    assert [item.revision for item in to_come(None)] == sorted(known_revisions())


def test_the_strictest_of_all_revisions_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"0001": "0001", "0002": "0001", "0003": "0003", "0004": "0002"}
    monkeypatch.setattr(
        schema_version, "planned", lambda item: schema_version.PlannedRevision(item, "", said[item])
    )

    assert oldest_program(["0001", "0002"]) == "0001"
    assert oldest_program(said) == "0003"


async def test_migrating_writes_down_which_programs_work(owner: asyncpg.Connection) -> None:
    assert await schema_version.works_with(owner) == oldest_program(known_revisions())


async def test_a_program_that_is_rolled_back_works_on_a_newer_schema_that_lets_it(
    owner: asyncpg.Connection, database_url: str, workers: Workers
) -> None:
    await owner.execute("UPDATE alembic_version SET version_num = $1", TOMORROW)
    await owner.execute(f"COMMENT ON TABLE alembic_version IS '{note(NEWEST)}'")

    await ensure_current(owner, "worker")
    await workers.start()
    assert await migrate(database_url) == Revisions(TOMORROW, TOMORROW)


async def test_a_program_works_on_no_newer_schema_that_forbids_it(owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE alembic_version SET version_num = $1", TOMORROW)
    await owner.execute(f"COMMENT ON TABLE alembic_version IS '{note(TOMORROW)}'")

    with pytest.raises(DatabaseNotReadyError, match="this worker is older"):
        await ensure_current(owner, "worker")


async def test_migrate_says_whether_it_is_needed_and_what_it_would_do(servers: Servers) -> None:
    async with servers.database() as url:
        before = await wallet_process("migrate", "--check", WALLET_DATABASE_URL=url)
        plan = await wallet_process("migrate", "--plan", WALLET_DATABASE_URL=url)
        still = await wallet_process("migrate", "--check", WALLET_DATABASE_URL=url)
        await migrate(url)
        after = await wallet_process("migrate", "--check", WALLET_DATABASE_URL=url)
        nothing = await wallet_process("migrate", "--plan", WALLET_DATABASE_URL=url)

    assert before.status == still.status == Exit.FOUND
    assert "the database is at revision none" in before.err
    lines = plan.out.splitlines()
    assert plan.status == 0
    assert [line[:4] for line in lines] == sorted(known_revisions())
    assert all(line.endswith(" must be stopped before)") or " go on)" in line for line in lines)
    assert (after.status, after.out) == (
        0,
        f"this program works on the database, which is at revision {NEWEST}\n",
    )
    assert nothing.out == f"nothing: the database is at revision {NEWEST}\n"
