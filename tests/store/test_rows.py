"""What a batch reads is locked, what it writes is guarded by what it read."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.rules.contract.bodies import RESULT
from wallet_schemas.codes import Code
from wallet_schemas.payments import PaymentResult
from wallet_schemas.values import AccountStatus, OrderStatus, OrderType, OutcomeStatus, ProcessingStatus
from wallet_worker.core.accounts import Account, AccountKey, opened
from wallet_worker.core.changes import StoredCommand, StoredResult
from wallet_worker.core.ids import account_no
from wallet_worker.core.orders import Order
from wallet_worker.store import accounts, commands, orders, payment_results
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, InvariantBrokenError

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
KEY = AccountKey("u-1", "basic", "TWD")
COMMAND = StoredCommand(
    "R-1",
    "order.recharge.v1",
    bytes(32),
    '{"b":  "é🎉", "a": "1"}',  # a text that jsonb would not give back as it was
    OutcomeStatus.APPLIED,
    Code.OK,
    '{"z": 1,  "a": "2"}',
    AT,
)


def account(number: int, key: AccountKey = KEY) -> Account:
    return opened(number, account_no(AT, number), key, AT)


def order(number: int, serial_no: str, account_id: int = 1) -> Order:
    return Order(
        order_id=UUID(int=number),
        serial_no=serial_no,
        order_type=OrderType.RECHARGE,
        account_id=account_id,
        amount_minor=100,
        currency="TWD",
        status=OrderStatus.PENDING,
        code=Code.OK,
        channel="card",
        created_at=AT,
        updated_at=AT,
        expires_at=AT + timedelta(days=1),
        due_at=AT + timedelta(minutes=1),
    )


async def _with_order(database: Database) -> None:
    async with database.transaction() as connection:
        await commands.insert(connection, [COMMAND])
        await accounts.insert(connection, [account(1)])
        await orders.insert(connection, [order(1, "R-1")])


# Commands


async def test_an_outcome_comes_back_as_it_was_written(database: Database) -> None:
    async with database.transaction() as connection:
        await commands.insert(connection, [COMMAND])

    async with database.transaction() as connection:
        now, known = await commands.find(connection, ["R-1", "R-2"])

    assert known == {"R-1": COMMAND}
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


async def test_the_time_is_known_where_nothing_else_is(database: Database) -> None:
    async with database.transaction() as connection:
        now, known = await commands.find(connection, [])
        later, _ = await commands.find(connection, ["R-9"])

    assert known == {}
    assert now < later  # the clock, and not the beginning of the transaction


# Accounts


async def test_an_account_comes_back_as_it_was_written(database: Database) -> None:
    written = replace(
        account(7), balance_minor=500, reserved_minor=200, line_no=3, status=AccountStatus.FROZEN
    )
    async with database.transaction() as connection:
        await accounts.insert(connection, [written])

    async with database.transaction() as connection:
        by_key = await accounts.find(connection, [], [KEY], lock=True)
        by_id = await accounts.find(connection, [7], [], lock=True)
        by_both = await accounts.find(connection, [7, 7], [KEY, KEY], lock=True)

    assert by_key == by_id == by_both == [written]


async def test_accounts_are_found_by_their_whole_key(database: Database) -> None:
    others = [
        account(number, AccountKey(*key))
        for number, key in enumerate(
            [("u-2", "basic", "TWD"), ("u-1", "bonus", "TWD"), ("u-1", "basic", "JPY")], start=1
        )
    ]
    async with database.transaction() as connection:
        await accounts.insert(connection, others)

    async with database.transaction() as connection:
        assert await accounts.find(connection, [], [KEY], lock=True) == []
        assert await accounts.find(connection, [], [other.key for other in others], lock=True) == others


@pytest.mark.parametrize("open_id", [1, 5, 9])
async def test_of_several_accounts_of_a_key_the_one_that_is_not_closed_is_meant(
    database: Database, open_id: int
) -> None:
    found = [
        account(number)
        if number == open_id
        else replace(account(number), status=AccountStatus.CLOSED, created_at=AT + timedelta(days=number))
        for number in (1, 5, 9)
    ]
    async with database.transaction() as connection:
        await accounts.insert(connection, found)

    async with database.transaction() as connection:
        assert [item.account_id for item in await accounts.find(connection, [], [KEY], lock=True)] == [
            open_id
        ]


async def test_of_several_closed_accounts_the_last_that_was_opened_is_meant(database: Database) -> None:
    # Ids are handed out ahead of time, so the highest need not be the newest.
    found = [
        replace(account(number), status=AccountStatus.CLOSED, created_at=AT - timedelta(days=number))
        for number in (1, 5, 9)
    ]
    async with database.transaction() as connection:
        await accounts.insert(connection, found)

    async with database.transaction() as connection:
        assert [item.account_id for item in await accounts.find(connection, [], [KEY], lock=True)] == [1]


async def test_what_a_batch_has_read_nobody_else_changes(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _with_order(database)

    async with database.transaction() as connection:
        await orders.find(connection, ["R-1"], lock=True)
        await accounts.find(connection, [1], [], lock=True)
        for statement in ("SELECT FROM orders FOR UPDATE NOWAIT", "SELECT FROM accounts FOR UPDATE NOWAIT"):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await sweeper.execute(statement)
        # A line or an order that only names the account waits for nobody.
        await sweeper.execute("SELECT FROM accounts FOR KEY SHARE NOWAIT")


async def test_an_account_that_has_moved_since_it_was_read_is_a_broken_invariant(database: Database) -> None:
    async with database.transaction() as connection:
        await accounts.insert(connection, [account(1), account(2, AccountKey("u-2", "basic", "TWD"))])
        first, two = await accounts.find(connection, [1, 2], [], lock=True)
    changes = [(each, replace(each, balance_minor=100, line_no=1)) for each in (first, two)]
    async with database.transaction() as connection:
        await accounts.update(connection, changes[:1])

    with pytest.raises(InvariantBrokenError, match="UPDATE 1"):
        async with database.transaction() as connection:
            await accounts.update(connection, changes)

    async with database.transaction() as connection:
        assert [each.balance_minor for each in await accounts.find(connection, [1, 2], [], lock=True)] == [
            100,
            0,
        ]


async def test_ids_are_reserved_once_however_many_ask_at_once(database: Database) -> None:
    async def reserve() -> list[int]:
        async with database.transaction() as connection:
            return await accounts.reserve_ids(connection, 500)

    found = await asyncio.gather(*(reserve() for _ in range(4)))

    assert len({number for numbers in found for number in numbers}) == 2_000


async def test_the_newest_account_of_each_kind_is_shown(database: Database) -> None:
    closed = replace(account(1), status=AccountStatus.CLOSED)
    again = replace(account(2), created_at=AT + timedelta(days=1))
    yen = account(3, AccountKey("u-1", "basic", "JPY"))
    bonus = account(4, AccountKey("u-1", "bonus", "TWD"))
    somebody = account(5, AccountKey("u-2", "basic", "TWD"))
    async with database.transaction() as connection:
        await accounts.insert(connection, [closed, again, yen, bonus, somebody])

    async with database.snapshot() as connection:
        assert await accounts.of_user(connection, "u-1", None, None) == [yen, again, bonus]
        assert await accounts.of_user(connection, "u-1", "basic", "TWD") == [again]
        assert await accounts.of_user(connection, "u-9", None, None) == []
        assert await accounts.by_id(connection, [1, 999]) == {1: closed}


# Orders


async def test_an_order_comes_back_as_it_was_written(database: Database) -> None:
    await _with_order(database)

    async with database.transaction() as connection:
        found = await orders.find(connection, ["R-1", "R-9"], lock=True)
        assert await orders.by_serial_no(connection, "R-1") == found["R-1"]
        assert await orders.by_serial_no(connection, "R-9") is None

    assert found == {"R-1": order(1, "R-1")}


async def test_an_order_advances_only_from_the_status_that_was_read(database: Database) -> None:
    await _with_order(database)
    succeeded = replace(order(1, "R-1"), status=OrderStatus.SUCCEEDED, transacted_at=AT, late=True)
    succeeded = replace(succeeded, due_at=None, inquiries=2)
    async with database.transaction() as connection:
        await orders.advance(connection, [(order(1, "R-1"), succeeded)])

    with pytest.raises(InvariantBrokenError, match="UPDATE 0"):
        async with database.transaction() as connection:
            await orders.advance(connection, [(order(1, "R-1"), order(1, "R-1"))])

    async with database.transaction() as connection:
        assert await orders.find(connection, ["R-1"], lock=True) == {"R-1": succeeded}


async def test_the_loser_of_a_race_for_a_serial_number_has_written_nothing(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    await _with_order(database)

    async def lose() -> None:
        async with database.transaction() as connection:
            await accounts.insert(connection, [account(2, AccountKey("u-2", "basic", "TWD"))])
            await commands.insert(connection, [COMMAND])

    with pytest.raises(ConflictError, match="commands_pkey"):
        await lose()

    assert await sweeper.fetchval("SELECT count(*) FROM accounts") == 1


# Results


async def test_of_a_result_that_comes_again_the_first_receipt_is_kept(
    database: Database, sweeper: asyncpg.Connection
) -> None:
    result = PaymentResult.model_validate(RESULT)
    first = StoredResult(result, bytes(32), ProcessingStatus.PROCESSED, Code.OK, AT)
    again = first._replace(processing=ProcessingStatus.DUPLICATE, received_at=AT + timedelta(days=1))
    other = again._replace(fingerprint=bytes(31) + b"\1", code=Code.AMOUNT_MISMATCH)

    async with database.transaction() as connection:
        await payment_results.insert(connection, [first, again])
        await payment_results.insert(connection, [again, other])

    found = await sweeper.fetch(
        "SELECT processing, code, received_at FROM payment_results ORDER BY received_at"
    )
    assert [tuple(row) for row in found] == [
        ("processed", "OK", AT),
        ("duplicate", "AMOUNT_MISMATCH", AT + timedelta(days=1)),
    ]
