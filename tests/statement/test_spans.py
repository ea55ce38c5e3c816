"""The balances around a span of a statement are those of its entries, whatever is asked for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rules.core.world import open_account, recharge, result
from tests.worker.rig import Rig, open_rig
from wallet_schemas.encode import encode
from wallet_schemas.events import EntryView
from wallet_schemas.names import BODY_BYTES_MAX
from wallet_schemas.queries import GetStatement, Statement
from wallet_worker.queries.answers import answer
from wallet_worker.store.database import READONLY_ROLE, Database

BATCHES = 8
LINES_A_BATCH = 60  # all lines together are more than a message can hold
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
async def wallet(database_url: str) -> AsyncIterator[Rig]:
    """Give a worker on the test's database."""
    async with open_rig(database_url) as found:
        yield found


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[Database]:
    """Give the way to the database that queries have."""
    database = Database(database_url, role=READONLY_ROLE, application="wallet tests")
    await database.open()
    yield database
    await database.close()


async def statement_of(connection: asyncpg.Connection, **fields: object) -> Statement:
    """Return the answer to a statement.get.v1."""
    query = GetStatement.model_validate({"user_id": "u-1", "currency": "TWD", **fields})
    page = await answer(connection, query)
    assert isinstance(page, Statement)
    assert len(encode(page)) <= BODY_BYTES_MAX
    return page


async def whole(connection: asyncpg.Connection, **fields: object) -> list[EntryView]:
    """Return all entries of all pages, each of which begins where the one before it ended."""
    pages = [await statement_of(connection, **fields)]
    while pages[-1].next_after_line_no is not None:
        pages.append(
            await statement_of(connection, **fields | {"after_line_no": pages[-1].next_after_line_no})
        )
        assert pages[-1].opening_balance == pages[-2].closing_balance
    return [entry for page in pages for entry in page.entries]


@dataclass(frozen=True, slots=True)
class Ledger:
    """One user's statement, read whole, and the snapshot that it was read from."""

    connection: asyncpg.Connection
    entries: list[EntryView]


@pytest.fixture
async def ledger(wallet: Rig, reader: Database) -> AsyncIterator[Ledger]:
    """Give the statement of a user whose lines have several times, and are more than a message can hold."""
    await wallet.settle(open_account(serial_no="O-1", user_id="u-1"))
    for batch in range(BATCHES):
        numbers = [f"R-{batch}-{line}" for line in range(LINES_A_BATCH)]
        await wallet.settle(
            *(recharge(serial_no=number, user_id="u-1", amount="1.00", currency="TWD") for number in numbers)
        )
        await wallet.settle(
            *(result(payment_order_no=number, amount="1.00", currency="TWD") for number in numbers)
        )
    async with reader.snapshot() as connection:
        yield Ledger(connection, await whole(connection, limit=1_000))


def test_every_line_is_on_one_page(ledger: Ledger) -> None:
    assert [entry.line_no for entry in ledger.entries] == list(range(1, BATCHES * LINES_A_BATCH + 1))
    assert len({entry.created_at for entry in ledger.entries}) == BATCHES


# A moment: that of a batch, or a microsecond before or after it; or none.
MOMENTS = st.none() | st.tuples(st.integers(0, BATCHES - 1), st.sampled_from([-1, 0, 1]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    from_moment=MOMENTS,
    to_moment=MOMENTS,
    after=st.integers(0, BATCHES * LINES_A_BATCH + 2),
    limit=st.one_of(st.integers(1, 10), st.just(1_000)),
)
async def test_balances_are_those_of_the_entries_whatever_is_asked_for(
    ledger: Ledger,
    from_moment: tuple[int, int] | None,
    to_moment: tuple[int, int] | None,
    after: int,
    limit: int,
) -> None:
    times = sorted({entry.created_at for entry in ledger.entries})
    since, before = (
        None if moment is None else times[moment[0]] + moment[1] * MICROSECOND
        for moment in (from_moment, to_moment)
    )

    page = await statement_of(
        ledger.connection, from_time=since, to_time=before, after_line_no=after, limit=limit
    )

    def is_earlier(entry: EntryView) -> bool:
        return entry.line_no <= after or (since is not None and entry.created_at < since)

    earlier = [entry for entry in ledger.entries if is_earlier(entry)]
    wanted = [
        entry
        for entry in ledger.entries
        if not is_earlier(entry) and (before is None or entry.created_at < before)
    ]
    assert page.entries == wanted[: len(page.entries)]
    assert page.entries or not wanted
    assert page.opening_balance == (earlier[-1].balance_after if earlier else "0.00")
    assert page.closing_balance == (page.entries[-1].balance_after if page.entries else page.opening_balance)
    assert (page.next_after_line_no is None) == (len(page.entries) == len(wanted))


async def test_the_balance_at_a_moment_is_that_of_an_empty_span_there(ledger: Ledger) -> None:
    moment = ledger.entries[LINES_A_BATCH * 3].created_at
    after = moment + MICROSECOND

    at_once = await statement_of(ledger.connection, from_time=moment, to_time=moment)
    just_after = await statement_of(ledger.connection, from_time=after, to_time=after)

    assert (at_once.entries, just_after.entries) == ([], [])
    assert (at_once.opening_balance, at_once.closing_balance) == ("180.00", "180.00")
    assert (just_after.opening_balance, just_after.closing_balance) == ("240.00", "240.00")
