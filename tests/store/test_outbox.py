"""What is promised is taken by one relay at a time, put off when it cannot be published, and then forgotten."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from wallet_worker.core.changes import OutboxMessage
from wallet_worker.store import outbox
from wallet_worker.store.database import Database
from wallet_worker.store.outbox import CLAIMED_FOR, RELAY_AFTER, RELAY_BACKOFF_MAX

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def row(number: int, body: bytes = b"{}") -> OutboxMessage:
    return OutboxMessage(UUID(int=number), "wallet.events", "order.pending", body, f"c-{number}", None)


async def _promised(database: Database, sweeper: asyncpg.Connection, *rows: OutboxMessage) -> None:
    """Write rows that are overdue, the first the longest."""
    async with database.transaction() as connection:
        await outbox.insert(connection, rows, NOW)
    for number, item in enumerate(rows):
        await sweeper.execute(
            "UPDATE outbox SET publish_after = now() - interval '1 hour' + $1 WHERE message_id = $2",
            timedelta(seconds=number),
            item.message_id,
        )


@asynccontextmanager
async def _taken(database: Database, limit: int = 500) -> AsyncIterator[list[int]]:
    """Give the numbers of the rows that a relay claims; the claim is committed with the end of the block."""
    async with database.transaction() as connection:
        yield [item.message_id.int for item in await outbox.claim_due(connection, limit)]


async def test_a_row_comes_back_as_it_was_written(database: Database, sweeper: asyncpg.Connection) -> None:
    rows = [
        OutboxMessage(
            UUID(int=1), "", "amq.rabbitmq.reply-to.x", b"\0\xff", "c\0\udcff", "00-ab-cd-01", b"\x80\0props"
        ),
        OutboxMessage(UUID(int=2), "wallet.events", "é", b""),
    ]

    await _promised(database, sweeper, *rows)

    async with database.transaction() as connection:
        assert await outbox.claim_due(connection, 10) == rows


async def test_a_row_is_left_for_a_while_to_the_worker_that_wrote_it(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    async with database.transaction() as connection:
        await outbox.insert(connection, [row(1)], NOW)

    async with _taken(database) as taken:
        assert taken == []
    left = await sweeper.fetchval("SELECT publish_after - now() FROM outbox")
    assert timedelta() < RELAY_AFTER - left < timedelta(seconds=5)
    assert await sweeper.fetchval("SELECT created_at FROM outbox") == NOW


async def test_the_longest_overdue_are_taken_first(database: Database, sweeper: asyncpg.Connection) -> None:
    await _promised(database, sweeper, row(5), row(3), row(4))

    async with _taken(database, limit=2) as taken:
        assert taken == [5, 3]


async def test_what_one_relay_has_another_passes_over(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _promised(database, sweeper, *(row(number) for number in range(1, 6)))

    async with (
        _taken(database, limit=2) as first,
        _taken(database, limit=2) as other,
        _taken(database) as third,
    ):
        assert (first, other, third) == ([1, 2], [3, 4], [5])


async def test_what_a_relay_has_claimed_is_due_again_when_it_was_not_published_for_long(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _promised(database, sweeper, row(1))
    async with _taken(database) as taken:
        assert taken == [1]

    async with _taken(database) as taken:
        assert taken == []
    left = await sweeper.fetchval("SELECT publish_after - now() FROM outbox")
    assert timedelta() < CLAIMED_FOR - left < timedelta(seconds=5)
    await sweeper.execute("UPDATE outbox SET publish_after = publish_after - $1::interval", CLAIMED_FOR)
    async with _taken(database) as taken:
        assert taken == [1]


async def test_a_relay_that_died_while_it_claimed_leaves_what_it_had(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _promised(database, sweeper, row(1))

    class Killed(Exception):  # noqa: N818 - named as what happened
        pass

    with pytest.raises(Killed):
        async with _taken(database):
            raise Killed

    async with _taken(database) as taken:
        assert taken == [1]


@pytest.fixture
def bytes_max(monkeypatch: pytest.MonkeyPatch) -> int:
    """Give a limit of bytes that is quicker to reach than the real one."""
    monkeypatch.setattr(outbox, "RELAY_BYTES_MAX", 1_000)
    return 1_000


async def test_a_relay_takes_no_more_than_it_can_carry(
    database: Database, sweeper: asyncpg.Connection, bytes_max: int
) -> None:
    large = bytes(bytes_max // 2)
    await _promised(database, sweeper, row(1, large), row(2, large), row(3, b"x"))

    async with _taken(database) as taken:
        assert taken == [1, 2]


async def test_a_row_larger_than_a_relay_s_load_is_taken_alone(
    database: Database, sweeper: asyncpg.Connection, bytes_max: int
) -> None:
    await _promised(database, sweeper, row(1, bytes(bytes_max + 1)), row(2))

    async with _taken(database) as taken:
        assert taken == [1]


async def test_what_cannot_be_published_is_put_off_longer_each_time_up_to_a_minute(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _promised(database, sweeper, row(1), row(2))

    waits = []
    for _ in range(8):
        async with database.transaction() as connection:
            await outbox.put_off(connection, [row(1).message_id])
        waits.append(
            await sweeper.fetchval(
                "SELECT round(extract(epoch FROM publish_after - now())) FROM outbox WHERE attempts > 0"
            )
        )

    assert waits == [1, 2, 4, 8, 16, 32, RELAY_BACKOFF_MAX.seconds, RELAY_BACKOFF_MAX.seconds]
    async with _taken(database) as taken:
        assert taken == [2]


async def test_forgetting_waits_for_nobody_and_minds_nothing_that_is_gone(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _promised(database, sweeper, row(1), row(2))

    async with _taken(database, limit=1):
        async with database.transaction() as connection:
            await outbox.delete(connection, [row(number).message_id for number in (1, 2, 3)])
        assert await sweeper.fetchval("SELECT count(*) FROM outbox") == 1

    async with database.transaction() as connection:
        await outbox.delete(connection, [row(1).message_id])
    assert await sweeper.fetchval("SELECT count(*) FROM outbox") == 0


async def test_what_is_overdue_is_counted_with_the_age_of_the_oldest(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    async with database.transaction() as connection:
        assert await outbox.overdue(connection) == (0, 0.0)
    await _promised(database, sweeper, row(1), row(2))
    async with database.transaction() as connection:
        await outbox.insert(connection, [row(3)], NOW)
        await outbox.put_off(
            connection, [row(2).message_id]
        )  # tried in vain: not due, and overdue all the same

    async with database.transaction() as connection:
        waiting, oldest_seconds = await outbox.overdue(connection)

    assert waiting == 2
    age = await sweeper.fetchval("SELECT extract(epoch FROM now() - $1::timestamptz)::float8", NOW)
    assert oldest_seconds == pytest.approx(age, abs=60)
