"""A result that waits is in the hands of one worker at a time, and is woken by its order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.workers import until
from wallet_worker.store import parked_results
from wallet_worker.store.database import Database
from wallet_worker.store.errors import InvariantBrokenError
from wallet_worker.store.parked_results import ParkedResult

SEEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_OFF = datetime(2100, 1, 1, tzinfo=UTC)


def waiting(number: str, due_at: datetime = LONG_AGO) -> ParkedResult:
    return ParkedResult(
        number, "payment.results", "payment.result", b"\0props", b"\xff body", 1, SEEN, due_at
    )


async def _park(database: Database, *results: ParkedResult) -> None:
    async with database.transaction() as connection:
        await parked_results.insert(connection, results)


@asynccontextmanager
async def _taken(database: Database, limit: int = 500) -> AsyncIterator[list[str]]:
    """Give the numbers of what a worker takes, which has them until the end of the block."""
    async with database.transaction() as connection:
        yield [item.payment_order_no for item in await parked_results.take_due(connection, limit)]


async def test_a_result_comes_back_as_it_was_parked(database: Database) -> None:
    await _park(database, waiting("R-1"))

    async with database.transaction() as connection:
        (found,) = await parked_results.take_due(connection, 10)

    assert found.parked_id > 0
    assert replace(found, parked_id=0) == waiting("R-1")


async def test_only_what_is_due_is_taken_the_longest_overdue_first(database: Database) -> None:
    await _park(
        database,
        waiting("R-1", LONG_AGO + timedelta(days=2)),
        waiting("R-2", FAR_OFF),
        waiting("R-3", LONG_AGO),
        waiting("R-4", LONG_AGO + timedelta(days=1)),
    )

    async with _taken(database) as all_due:
        assert all_due == ["R-3", "R-4", "R-1"]
    async with _taken(database, limit=1) as first:
        assert first == ["R-3"]


async def test_what_one_worker_has_another_passes_over(database: Database) -> None:
    await _park(database, *(waiting(f"R-{number}", LONG_AGO + timedelta(days=number)) for number in range(5)))

    async with (
        _taken(database, limit=2) as first,
        _taken(database, limit=2) as other,
        _taken(database) as third,
    ):
        assert (first, other, third) == (["R-0", "R-1"], ["R-2", "R-3"], ["R-4"])


async def test_what_is_put_off_waits_until_its_next_time(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _park(database, waiting("R-1"), waiting("R-2"))

    async with database.transaction() as connection:
        first, _ = await parked_results.take_due(connection, 10)
        await parked_results.reschedule(connection, [replace(first, attempts=2, due_at=FAR_OFF)])

    async with _taken(database) as taken:
        assert taken == ["R-2"]
    assert await sweeper.fetchval("SELECT attempts FROM parked_results WHERE payment_order_no = 'R-1'") == 2


async def test_an_order_wakes_its_own_results_and_no_other(database: Database) -> None:
    await _park(database, waiting("R-1", FAR_OFF), waiting("R-2", FAR_OFF), waiting("R-1", FAR_OFF))

    async with database.transaction() as connection:
        await parked_results.wake(connection, ["R-1", "R-9"], [])

    async with _taken(database) as taken:
        assert taken == ["R-1", "R-1"]


async def test_a_result_that_is_put_off_while_its_order_is_written_is_woken_all_the_same(
    database: Database, holder: asyncpg.Connection, sweeper: asyncpg.Connection
) -> None:
    """A worker has looked for the order just before it was there, and has the result in hand still."""
    await _park(database, waiting("R-1"))
    (in_hand,) = await parked_results.take_due(holder, 10)
    await parked_results.reschedule(holder, [replace(in_hand, attempts=2, due_at=FAR_OFF)])

    async def wake() -> None:
        async with database.connection() as connection:
            await parked_results.wake(connection, ["R-1"], [])

    waking = asyncio.create_task(wake())
    await until(sweeper, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted", 1)
    await holder.execute("COMMIT")
    await waking

    async with _taken(database) as taken:
        assert taken == ["R-1"]


async def test_what_was_let_go_can_be_held_again_unless_another_has_it(database: Database) -> None:
    await _park(database, waiting("R-1"))
    async with database.transaction() as connection:
        (found,) = await parked_results.take_due(connection, 1)

    async with database.transaction() as first, database.transaction() as other:
        assert await parked_results.lock(first, found.parked_id)
        assert not await parked_results.lock(other, found.parked_id)
        await parked_results.delete(first, [found.parked_id])
    async with database.transaction() as connection:
        assert not await parked_results.lock(connection, found.parked_id)


async def test_changing_what_is_not_there_is_a_broken_invariant(database: Database) -> None:
    gone = replace(waiting("R-1"), parked_id=999_999)

    async with database.connection() as connection:
        with pytest.raises(InvariantBrokenError, match="DELETE 1"):
            await parked_results.delete(connection, [gone.parked_id])
        with pytest.raises(InvariantBrokenError, match="UPDATE 1"):
            await parked_results.reschedule(connection, [gone])


async def test_results_that_are_woken_at_once_are_looked_at_in_the_order_in_which_they_came(
    database: Database,
) -> None:
    """Of two results that contradict each other the first one counts: which that is may not be chance."""
    far_off = [replace(waiting("R-1", FAR_OFF), body=b"%d" % number) for number in range(20)]
    await _park(database, *far_off)
    async with database.connection() as connection:
        # The first one's row is written again, so that it stands behind the others in the table.
        await connection.execute("UPDATE parked_results SET due_at = now() WHERE body = '0'")
        await parked_results.wake(connection, ["R-1"], [])

    async with database.transaction() as connection:
        found = [item.body for item in await parked_results.take_due(connection, 500)]

    assert found == [item.body for item in far_off]
