"""A system account has several rows, so that two workers write to different ones."""

import asyncio

import asyncpg
import pytest

from tests.workers import until
from wallet_worker.core.accounts import Account, SystemKey, SystemName
from wallet_worker.store import accounts
from wallet_worker.store.accounts import LANES
from wallet_worker.store.database import Database
from wallet_worker.store.errors import InvariantBrokenError

TWD, JPY = SystemKey(SystemName.CLEARING, "TWD"), SystemKey(SystemName.CLEARING, "JPY")


@pytest.fixture
async def lanes(database: Database) -> Database:
    """Give a database with the system accounts of two currencies."""
    async with database.transaction() as connection:
        await accounts.ensure_lanes(connection, ["TWD", "JPY"])
    return database


async def _account(connection: asyncpg.Connection, key: SystemKey = TWD) -> Account:
    ((found, account),) = await accounts.find_lanes(connection, [key], lock=True)
    assert found == key
    return account


async def test_every_system_account_has_all_its_lanes_in_each_currency(
    lanes: Database, sweeper: asyncpg.Connection
) -> None:
    async with lanes.transaction() as connection:
        await accounts.ensure_lanes(connection, ["TWD", "JPY", "KWD"])

    found = await sweeper.fetch(
        "SELECT system_name, currency, array_agg(lane ORDER BY lane) AS lanes FROM accounts GROUP BY 1, 2 ORDER BY 2, 1"
    )

    assert [tuple(row) for row in found] == [
        (name.value, currency, list(range(LANES)))
        for currency in ("JPY", "KWD", "TWD")
        for name in sorted(SystemName)
    ]


async def test_workers_that_start_at_once_make_the_lanes_once(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    async def start() -> None:
        async with database.transaction() as connection:
            await accounts.ensure_lanes(connection, ["USD", "EUR", "TWD"])

    await asyncio.gather(*(start() for _ in range(4)))

    assert await sweeper.fetchval("SELECT count(*) FROM accounts") == 3 * len(SystemName) * LANES


async def test_transactions_at_once_get_different_lanes(lanes: Database) -> None:
    async with lanes.transaction() as first, lanes.transaction() as other:
        mine, theirs, yen = await _account(first), await _account(other), await _account(first, JPY)

    assert mine.account_id != theirs.account_id
    assert (mine.currency, yen.currency) == ("TWD", "JPY")


async def test_a_lane_that_is_let_go_is_taken_again(lanes: Database) -> None:
    async with lanes.transaction() as first:
        before = await _account(first)
    async with lanes.transaction() as other:
        after = await _account(other)

    assert before == after


async def test_lanes_of_several_currencies_come_together(lanes: Database) -> None:
    async with lanes.transaction() as connection:
        found = await accounts.find_lanes(connection, [TWD, JPY, TWD], lock=True)

    assert {key: account.currency for key, account in found} == {JPY: "JPY", TWD: "TWD"}


async def test_with_every_lane_taken_the_next_waits_and_sees_what_was_written(
    lanes: Database, holder: asyncpg.Connection, sweeper: asyncpg.Connection
) -> None:
    await holder.execute("UPDATE accounts SET balance = -1 - lane WHERE currency = 'TWD'")

    async def wait() -> Account:
        async with lanes.transaction() as connection:
            return await _account(connection)

    waiting = asyncio.create_task(wait())
    await until(sweeper, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted", 1)
    await holder.execute("COMMIT")
    found = await waiting

    assert -LANES <= found.balance_minor <= -1  # that of some lane, as it is now


async def test_those_who_wait_do_not_all_wait_for_the_same_lane(
    lanes: Database, holder: asyncpg.Connection, sweeper: asyncpg.Connection
) -> None:
    await holder.execute("SELECT 1 FROM accounts WHERE currency = 'TWD' FOR UPDATE")
    waits = 0

    def count() -> None:
        nonlocal waits
        waits += 1

    async def wait() -> int:
        async with lanes.transaction() as connection:
            ((_, account),) = await accounts.find_lanes(connection, [TWD], lock=True, on_wait=count)
            return account.account_id

    waiting = [asyncio.create_task(wait()) for _ in range(5)]
    await until(sweeper, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted", 5)
    await holder.execute("COMMIT")

    found = await asyncio.gather(*waiting)

    assert waits == 5
    assert len(set(found)) > 1  # with sixteen lanes to choose from, all the same once in 65,000 times


async def test_a_deployment_may_have_more_lanes_and_loses_none(
    lanes: Database, sweeper: asyncpg.Connection
) -> None:
    for wanted in (LANES + 4, 1):
        async with lanes.transaction() as connection:
            await accounts.ensure_lanes(connection, ["TWD"], wanted)

    assert (
        await sweeper.fetchval(
            "SELECT count(*) FROM accounts WHERE currency = 'TWD' AND system_name = 'clearing'"
        )
        == LANES + 4
    )


async def test_a_system_account_without_rows_is_a_broken_invariant(lanes: Database) -> None:
    async with lanes.transaction() as connection:
        with pytest.raises(InvariantBrokenError, match="clearing has no rows for KWD"):
            await accounts.find_lanes(connection, [TWD, SystemKey(SystemName.CLEARING, "KWD")], lock=True)


async def test_no_lanes_are_asked_for_nothing(database: Database) -> None:
    async with database.transaction() as connection:
        assert await accounts.find_lanes(connection, [], lock=True) == []
