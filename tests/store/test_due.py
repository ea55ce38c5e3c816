"""Orders that are due are in the hands of one sweeper at a time, and are found without looking at the others."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.store.test_rows import AT, COMMAND, account, order
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core.accounts import AccountKey
from wallet_worker.core.orders import Order
from wallet_worker.store import accounts, commands, orders, parked_results
from wallet_worker.store.database import Database

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_OFF = datetime(2100, 1, 1, tzinfo=UTC)


def due(number: int, due_at: datetime | None = LONG_AGO) -> Order:
    """Return a recharge that waits, due at a time."""
    return replace(order(number, f"R-{number}"), due_at=due_at)


async def _write(database: Database, *made: Order, users: int = 1) -> None:
    """Write orders with their commands, and the accounts 1, 2, … that they are about."""
    async with database.transaction() as connection:
        await commands.insert(connection, [COMMAND._replace(serial_no=item.serial_no) for item in made])
        keys = [AccountKey(f"u-{number}", "basic", "TWD") for number in range(1, users + 1)]
        await accounts.insert(
            connection,
            [
                replace(account(number, key), balance_minor=10_000, reserved_minor=5_000)
                for number, key in enumerate(keys, start=1)
            ],
        )
        await orders.insert(connection, made)


@asynccontextmanager
async def _taken(database: Database, limit: int = 500) -> AsyncIterator[list[str]]:
    """Give what a sweeper takes, which has them until the end of the block."""
    async with database.transaction() as connection:
        yield await orders.take_due(connection, limit)


async def test_only_what_is_due_is_taken_the_longest_overdue_first(database: Database) -> None:
    ended = replace(due(5, None), status=OrderStatus.FAILED)
    await _write(
        database,
        due(1, LONG_AGO + timedelta(days=2)),
        due(2, FAR_OFF),
        due(3),
        due(4, LONG_AGO + timedelta(days=1)),
        ended,
    )

    async with _taken(database) as all_due:
        assert all_due == ["R-3", "R-4", "R-1"]
    async with _taken(database, limit=1) as first:
        assert first == ["R-3"]


async def test_two_sweepers_never_have_the_same_order(database: Database) -> None:
    await _write(database, *(due(number, LONG_AGO + timedelta(number)) for number in range(1, 6)))

    async with _taken(database, limit=2) as mine, _taken(database) as theirs:
        assert (mine, theirs) == (["R-1", "R-2"], ["R-3", "R-4", "R-5"])
        async with _taken(database) as nobody_s:
            assert nobody_s == []


async def test_an_order_that_a_batch_has_locked_is_left_to_it(database: Database) -> None:
    await _write(database, due(1), due(2))

    async with database.transaction() as connection:
        await orders.find(connection, ["R-1"], lock=True)
        async with _taken(database) as found:
            assert found == ["R-2"]


async def test_what_is_due_is_found_by_the_index_whatever_else_waits(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    """A time that is asked again for each row would have every order that waits be looked at, every second."""
    await _write(database, due(1))
    for sql in (orders._TAKE_DUE, parked_results._TAKE_DUE):
        async with sweeper.transaction():
            await sweeper.execute("SET LOCAL enable_seqscan = off")
            plan = "\n".join(row[0] for row in await sweeper.fetch(f"EXPLAIN {sql}", 500))

        assert "Index Cond: (due_at <= " in plan, plan


async def test_an_order_is_put_off_unless_it_has_ended(database: Database) -> None:
    ended = replace(due(2, None), status=OrderStatus.FAILED)
    await _write(database, due(1), ended)

    async with database.transaction() as connection:
        for serial_no in ("R-1", "R-2", "R-9"):
            await orders.reschedule(connection, serial_no, timedelta(hours=1))

    async with _taken(database) as found:
        assert found == []
    async with database.transaction() as connection:
        found_orders = await orders.find(connection, ["R-1", "R-2"], lock=True)
        now = await connection.fetchval("SELECT now()")
    assert found_orders["R-2"] == ended
    put_off_to = found_orders["R-1"].due_at
    assert put_off_to is not None
    assert abs(put_off_to - now - timedelta(hours=1)) < timedelta(minutes=1)
    assert replace(found_orders["R-1"], due_at=LONG_AGO) == due(1)


async def test_an_order_may_be_asked_about_for_years(database: Database) -> None:
    """Every minute for a month is more than 16 bits hold, and a withdrawal never ends by itself."""
    await _write(database, due(1))
    request = replace(due(1), inquiries=1_000_000)

    async with database.transaction() as connection:
        await orders.advance(connection, [(due(1), request)])

    async with database.transaction() as connection:
        assert await orders.find(connection, ["R-1"], lock=True) == {"R-1": request}


# What is summed up of other orders


def _refund(number: int, about: str, amount_minor: int, status: OrderStatus) -> Order:
    return replace(
        order(number, f"F-{number}"),
        order_type=OrderType.REFUND,
        parent_serial_no=about,
        amount_minor=amount_minor,
        status=status,
        expires_at=None,
        due_at=FAR_OFF if status is OrderStatus.PENDING else None,
        transacted_at=AT if status is OrderStatus.SUCCEEDED else None,
    )


def _done(number: int) -> Order:
    return replace(due(number, None), status=OrderStatus.SUCCEEDED, transacted_at=AT)


async def test_the_refunds_of_an_order_that_have_not_failed_are_summed_up(database: Database) -> None:
    await _write(
        database,
        *(_done(number) for number in (1, 2, 3)),
        _refund(4, "R-1", 10, OrderStatus.PENDING),
        _refund(5, "R-1", 20, OrderStatus.SUCCEEDED),
        _refund(6, "R-1", 40, OrderStatus.FAILED),
        _refund(7, "R-2", 80, OrderStatus.FAILED),
        _refund(8, "R-3", 160, OrderStatus.PENDING),
    )

    async with database.transaction() as connection:
        assert await orders.given_back(connection, ["R-1", "R-2", "R-9"]) == (
            {"R-1": 30, "R-2": 0},
            {"R-1": 0, "R-2": 0},
        )
        assert await orders.given_back(connection, []) == ({}, {})


async def test_what_is_captured_of_a_hold_is_no_refund_of_it(database: Database) -> None:
    held = _of_type(1, OrderType.HOLD, OrderStatus.ACTIVE)
    captured = replace(
        _of_type(2, OrderType.CAPTURE, OrderStatus.SUCCEEDED), parent_serial_no="R-1", counter_account_id=2
    )
    await _write(database, held, captured, users=2)

    async with database.transaction() as connection:
        assert await orders.given_back(connection, ["R-1"]) == ({"R-1": 0}, {"R-1": 0})


async def test_orders_that_wait_for_a_result_are_counted_and_none_is_nought(database: Database) -> None:
    await _write(
        database,
        due(1),
        due(2, FAR_OFF),
        _done(3),
        _of_type(4, OrderType.HOLD, OrderStatus.ACTIVE),
        replace(due(5), account_id=2),
        users=3,
    )

    async with database.transaction() as connection:
        assert await orders.waiting(connection, [1, 2, 3]) == {1: 2, 2: 1, 3: 0}
        assert await orders.waiting(connection, []) == {}


def _of_type(number: int, order_type: OrderType, status: OrderStatus, created_at: datetime = AT) -> Order:
    """Return an order of a hundred of the first account, in any status, without what it is about."""
    waits = status in {OrderStatus.PENDING, OrderStatus.ACTIVE}
    return replace(
        order(number, f"R-{number}"),
        order_type=order_type,
        status=status,
        created_at=created_at,
        updated_at=created_at,
        expires_at=None,
        due_at=FAR_OFF if waits else None,
        transacted_at=created_at if status is OrderStatus.SUCCEEDED else None,
        remaining_minor=(100 if waits else 0) if order_type is OrderType.HOLD else None,
    )


def _spent(found: Iterable[tuple[tuple[int, OrderType], int]]) -> list[tuple[int, str, int]]:
    return sorted((account_id, order_type.value, amount) for (account_id, order_type), amount in found)


async def test_what_an_account_has_spent_is_summed_up_by_type_since_a_time(database: Database) -> None:
    withdraw, hold, recharge = OrderType.WITHDRAW, OrderType.HOLD, OrderType.RECHARGE
    just_before = AT - timedelta(microseconds=1)
    await _write(
        database,
        _of_type(1, withdraw, OrderStatus.PENDING),  # at the very time
        _of_type(2, withdraw, OrderStatus.SUCCEEDED, AT + timedelta(hours=1)),
        _of_type(3, withdraw, OrderStatus.FAILED),
        _of_type(4, withdraw, OrderStatus.PENDING, just_before),
        _of_type(5, hold, OrderStatus.ACTIVE),
        _of_type(6, hold, OrderStatus.CAPTURED),
        _of_type(7, hold, OrderStatus.RELEASED),
        _of_type(8, hold, OrderStatus.EXPIRED),
        replace(_of_type(9, recharge, OrderStatus.EXPIRED), account_id=2),
        replace(_of_type(10, recharge, OrderStatus.PENDING), account_id=2),
        replace(_of_type(11, recharge, OrderStatus.PENDING), account_id=3),
        users=3,
    )

    async with database.transaction() as connection:
        found = await orders.spent(connection, [1, 2], OrderType, AT)
        assert await orders.spent(connection, [], OrderType, AT) == {}

    assert _spent(found.items()) == [(1, "hold", 200), (1, "withdraw", 200), (2, "recharge", 100)]


async def test_a_sum_may_be_more_than_one_amount_can_be(database: Database) -> None:
    most = 2**63 - 1
    large = [
        replace(_of_type(number, OrderType.RECHARGE, OrderStatus.PENDING), amount_minor=most)
        for number in (1, 2)
    ]
    await _write(database, *large)

    async with database.transaction() as connection:
        assert await orders.spent(connection, [1], OrderType, AT) == {(1, OrderType.RECHARGE): 2 * most}


# Looking without locking


@pytest.mark.parametrize("lock", [False, True])
async def test_only_who_wants_to_write_locks_what_is_found(
    database: Database,
    sweeper: asyncpg.Connection,
    lock: bool,  # noqa: FBT001
) -> None:
    await _write(database, due(1))

    async with database.transaction() as connection:
        found = await orders.find(connection, ["R-1"], lock=lock)
        await accounts.find(connection, [1], [], lock=lock)
        for statement in ("SELECT FROM orders FOR UPDATE NOWAIT", "SELECT FROM accounts FOR UPDATE NOWAIT"):
            if lock:
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await sweeper.execute(statement)
            else:
                await sweeper.execute(statement)

    assert found == {"R-1": due(1)}


async def test_an_order_of_every_type_comes_back_as_it_was_written(database: Database) -> None:
    made = [
        replace(_done(1), late=True),
        _refund(2, "R-1", 10, OrderStatus.PENDING),
        replace(_of_type(3, OrderType.HOLD, OrderStatus.ACTIVE), expires_at=FAR_OFF, remaining_minor=60),
        replace(
            _of_type(4, OrderType.CAPTURE, OrderStatus.SUCCEEDED),
            amount_minor=40,
            parent_serial_no="R-3",
            counter_account_id=2,
        ),
        replace(
            _of_type(5, OrderType.RELEASE, OrderStatus.SUCCEEDED), parent_serial_no="R-3", transacted_at=None
        ),
        replace(_of_type(6, OrderType.TRANSFER, OrderStatus.SUCCEEDED), counter_account_id=2, channel=""),
        replace(_of_type(7, OrderType.WITHDRAW, OrderStatus.PENDING), inquiries=3),
    ]
    await _write(database, *made, users=2)

    async with database.transaction() as connection:
        assert await orders.find(connection, [item.serial_no for item in made], lock=True) == {
            item.serial_no: item for item in made
        }


async def test_what_is_overdue_and_the_oldest_payout_are_counted(database: Database) -> None:
    async with database.transaction() as connection:
        assert await orders.overdue_stats(connection) == (0, 0)
    payout = replace(_of_type(2, OrderType.WITHDRAW, OrderStatus.PENDING), due_at=FAR_OFF)
    await _write(database, due(1), due(3, FAR_OFF), payout)

    async with database.transaction() as connection:
        overdue, oldest_seconds = await orders.overdue_stats(connection)
        age = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp() - $1)::float8", AT)

    assert overdue == 1
    assert abs(oldest_seconds - max(0, age)) < 60
