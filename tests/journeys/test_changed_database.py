"""Somebody changes the database under a running wallet: it waits or begins again, and no message pays for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import fresh, recharge, result, transfer
from tests.journeys.upstream import Upstream
from tests.workers import WorkerProcess, Workers, until

READY_AGAIN_SECONDS = 60.0


async def _round(wallet: Wallet, user: str) -> None:
    """Do once whatever touches a table: every outcome is the one that was due."""
    upstream = wallet.upstream
    early = recharge(user)
    # Parked: its order is not there yet.
    answer = asyncio.create_task(upstream.processed(result(early["serial_no"])))
    await until(
        wallet.owner,
        "SELECT count(*) FROM parked_results WHERE payment_order_no = $1",
        1,
        early["serial_no"],
    )
    assert (await upstream.outcome(early))["code"] == "OK"
    assert (await answer)["processing_status"] == "processed"
    other = await upstream.opened()
    await upstream.applied(transfer(user, other, "1.00"))
    assert await upstream.status(early["serial_no"]) == "succeeded"
    assert await upstream.balances(other) == ("1.00", "1.00")
    statement = {"type": "statement.get.v1", "user_id": user, "account_type": "basic", "currency": "TWD"}
    assert (await upstream.query(statement))["type"] == "statement.v1"


async def _tables(owner: asyncpg.Connection) -> list[str]:
    rows = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'wallet' ORDER BY 1")
    return [row[0] for row in rows]


def _assert_alive(worker: WorkerProcess) -> None:
    assert worker.process.returncode is None, worker.log()
    assert "Traceback" not in worker.log()


COLUMNS = ("note text", "mark integer NOT NULL DEFAULT 7")


async def test_a_column_added_to_any_table_while_workers_run_makes_no_dead_letter_and_ends_nobody(
    wallet: Wallet,
) -> None:
    workers = [await wallet.workers.start() for _ in range(2)]
    user = await wallet.upstream.opened()
    await _round(wallet, user)  # so that every plan is there, which the column then makes invalid

    for table in await _tables(wallet.owner):
        for number, column in enumerate(COLUMNS):
            await wallet.owner.execute(f"ALTER TABLE {table} ADD COLUMN added_{number}_{column}")
        await _round(wallet, user)

    for worker in workers:
        _assert_alive(worker)
        assert await worker.is_ready()
    assert wallet.upstream.dead_letters.received == []
    await wallet.upstream.settled(wallet.owner)
    await assert_sound(wallet.owner)


async def test_a_column_added_to_any_table_holds_up_no_dead_letter(
    workers: Workers, amqp_url: str, owner: asyncpg.Connection
) -> None:
    worker = await workers.start(WALLET_KEEPER="true")
    async with Upstream(amqp_url, keeper=False) as upstream:
        for number, table in enumerate(["", *await _tables(owner)]):
            if table:
                await owner.execute(f"ALTER TABLE {table} ADD COLUMN added text")
            await upstream.command(f"{fresh('nobody')} can read it".encode())
            await until(owner, "SELECT count(*) FROM dead_letters", number + 1)

    _assert_alive(worker)
    assert await worker.is_ready()


class Change(NamedTuple):
    """What somebody does to the database, and how it is undone. `{database}` is its name."""

    do: str
    undo: str
    waits: bool = True
    """Whether nothing can go on before it is undone."""


UPDATED_OF_ORDERS = (
    "status, code, late, transacted_at, updated_at, remaining, due_at, asked, gateway_ref, failure_code, "
    "failure_reason, received, cancelling, expires_at"
)
"""Every column that a worker may change: who may change none may lock none."""

CHANGES = {
    "a column that has to be given": Change(
        "ALTER TABLE outbox ADD COLUMN more text NOT NULL", "ALTER TABLE outbox DROP COLUMN more"
    ),
    "a privilege taken": Change(
        "REVOKE INSERT ON commands FROM wallet_worker", "GRANT INSERT ON commands TO wallet_worker"
    ),
    "the privilege to lock orders taken": Change(
        "REVOKE SELECT, UPDATE ON orders FROM wallet_worker",
        f"GRANT SELECT, UPDATE ({UPDATED_OF_ORDERS}) ON orders TO wallet_worker",
    ),
    "a table renamed": Change(
        "ALTER TABLE commands RENAME TO commands_away", "ALTER TABLE commands_away RENAME TO commands"
    ),
    "a column renamed": Change(
        "ALTER TABLE outbox RENAME COLUMN body TO content", "ALTER TABLE outbox RENAME COLUMN content TO body"
    ),
    "a type changed": Change(
        "ALTER TABLE outbox ALTER COLUMN attempts TYPE text USING attempts::text",
        "ALTER TABLE outbox ALTER COLUMN attempts DROP DEFAULT; "
        "ALTER TABLE outbox ALTER COLUMN attempts TYPE integer USING attempts::integer; "
        "ALTER TABLE outbox ALTER COLUMN attempts SET DEFAULT 0",
        waits=False,  # until the relay looks
    ),
    "the schema closed": Change(
        "REVOKE ALL ON SCHEMA wallet FROM PUBLIC, wallet_worker",
        "GRANT USAGE ON SCHEMA wallet TO wallet_worker",
    ),
    "a trigger that raises": Change(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not today'; END $$; "
        "CREATE TRIGGER no BEFORE INSERT ON commands EXECUTE FUNCTION no()",
        "DROP TRIGGER no ON commands",
    ),
    "row security": Change(
        "ALTER TABLE commands ENABLE ROW LEVEL SECURITY", "ALTER TABLE commands DISABLE ROW LEVEL SECURITY"
    ),
    "read-only": Change(
        "ALTER DATABASE {database} SET default_transaction_read_only = on",
        "ALTER DATABASE {database} RESET default_transaction_read_only",
    ),
}


@asynccontextmanager
async def _other_sessions_ended(owner: asyncpg.Connection) -> AsyncIterator[None]:
    """End all sessions but this one afterwards, so that those that follow have the settings of now."""
    yield
    await owner.execute(
        """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """
    )


async def _change(wallet: Wallet, statements: str) -> None:
    database = urlsplit(wallet.database_url).path.removeprefix("/")
    async with _other_sessions_ended(wallet.owner):
        await wallet.owner.execute(statements.format(database=f'"{database}"'))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_what_somebody_changes_is_waited_for_and_no_message_s_fault(
    wallet: Wallet, change: Change
) -> None:
    worker = await wallet.workers.start()
    user = await wallet.upstream.opened()
    await _round(wallet, user)
    await wallet.upstream.settled(wallet.owner)

    await _change(wallet, change.do)
    heard = [await wallet.upstream.command(recharge(user)) for _ in range(20)]
    if change.waits:
        await worker.until_ready(ready=False)
    await _change(wallet, change.undo)
    outcomes = [await wallet.upstream.answer(item) for item in heard]
    await worker.until_ready(seconds=READY_AGAIN_SECONDS)
    await _round(wallet, user)

    _assert_alive(worker)
    assert {outcome["code"] for outcome in outcomes} == {"OK"}
    assert wallet.upstream.dead_letters.received == []
    if change.waits:
        assert worker.events("database.lost")
    await wallet.upstream.settled(wallet.owner)
    await assert_sound(wallet.owner)


@pytest.mark.parametrize("table", ["accounts", "orders", "commands", "outbox", "parked_results", "suspects"])
async def test_a_table_that_is_locked_for_long_is_waited_for_by_those_that_start_and_those_that_work(
    wallet: Wallet, table: str
) -> None:
    running = await wallet.workers.start()
    user = await wallet.upstream.opened()

    holder = await asyncpg.connect(wallet.database_url)
    await holder.execute(f"BEGIN; LOCK TABLE {table}")
    starting = await wallet.workers.launch()
    heard = [await wallet.upstream.command(recharge(user)) for _ in range(20)]
    if table == "accounts":
        await until(wallet.owner, "SELECT count(*) >= 2 FROM pg_locks WHERE NOT granted", wanted=True)
        async with asyncio.timeout(READY_AGAIN_SECONDS):
            while not starting.events("database.waiting"):  # noqa: ASYNC110 -- a log sends no signal
                await asyncio.sleep(0.05)
    await holder.close()
    outcomes = [await wallet.upstream.answer(item) for item in heard]
    for worker in (running, starting):
        await worker.until_ready(seconds=READY_AGAIN_SECONDS)

    for worker in (running, starting):
        _assert_alive(worker)
    assert {outcome["code"] for outcome in outcomes} == {"OK"}
    assert wallet.upstream.dead_letters.received == []
