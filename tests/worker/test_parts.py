"""A part of a batch is being written while the next is decided: whatever fails then, nothing is written by halves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.rules.core.world import open_account, recharge
from tests.worker import tables
from tests.worker.rig import Rig
from tests.workers import until
from wallet_worker.core import batch as core_batch
from wallet_worker.core.changes import Decision
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.decide import decide
from wallet_worker.core.facts import Facts
from wallet_worker.core.inbound import InvalidMessage, Message

USERS = [f"u-{number}" for number in range(5)]
RECHARGED = [recharge(serial_no=f"R-{user}", user_id=user) for user in USERS]

# The first part waits for whoever has this.
_TAKE_NUMBER = """
INSERT INTO commands VALUES ('R-u-0', '', decode(repeat('ab', 32), 'hex'), '{}', 'applied', 'OK', '{}', now())
"""


@pytest.fixture
async def opened(rig: Rig) -> Rig:
    """Give a worker on a database with an account for each user."""
    await rig.settle(*(open_account(serial_no=f"O-{user}", user_id=user) for user in USERS))
    return rig


@asynccontextmanager
async def held(database_url: str) -> AsyncIterator[None]:
    """Have the first part hang as soon as it is written, until the block is left."""
    holder = await asyncpg.connect(database_url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute(_TAKE_NUMBER)
    try:
        yield
    finally:
        await transaction.rollback()
        await holder.close()


async def _until_it_hangs(owner: asyncpg.Connection) -> None:
    await until(owner, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted", 1)


async def _numbers(owner: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await owner.fetch("SELECT serial_no FROM orders ORDER BY serial_no")]


async def test_later_messages_are_decided_while_a_part_hangs(
    opened: Rig, owner: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[str] = []

    def noted(message: Message | InvalidMessage, facts: Facts, context: DecisionContext) -> Decision:
        decided.append(getattr(message, "serial_no", ""))
        return decide(message, facts, context)

    monkeypatch.setattr(core_batch, "decide", noted)
    async with held(database_url):
        settling = asyncio.create_task(opened.settle(*RECHARGED))
        await _until_it_hangs(owner)

        assert decided == ["R-u-0", "R-u-1", "R-u-2", "R-u-3"]  # the third part waits for the first
        assert await _numbers(owner) == []
    await settling

    assert await _numbers(owner) == [f"R-{user}" for user in USERS]
    await tables.assert_sound(owner)


async def test_a_message_that_fails_while_a_part_hangs_is_set_aside_and_the_others_apply(
    opened: Rig, owner: asyncpg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    def decide_or_fail(message: Message | InvalidMessage, facts: Facts, context: DecisionContext) -> Decision:
        if getattr(message, "serial_no", "") == "R-u-3":
            failed.set()
            raise ZeroDivisionError
        return decide(message, facts, context)

    monkeypatch.setattr(core_batch, "decide", decide_or_fail)
    async with held(database_url):
        settling = asyncio.create_task(opened.settle(*RECHARGED))
        await _until_it_hangs(owner)
        await failed.wait()
        await asyncio.sleep(0.1)
        assert not settling.done()  # the connection is in use: the batch cannot be rolled back yet
    await settling

    assert await _numbers(owner) == [f"R-{user}" for user in USERS if user != "u-3"]
    assert [reason for _, reason, _ in await tables.dead_letters(owner)] == ["INTERNAL"]
    await tables.assert_sound(owner)


async def test_a_worker_that_is_cut_off_while_a_part_hangs_writes_nothing_and_can_go_on(
    opened: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    async with held(database_url):
        settling = asyncio.create_task(opened.settle(*RECHARGED))
        await _until_it_hangs(owner)
        settling.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await settling
        assert await _numbers(owner) == []

    await opened.settle(*RECHARGED)

    assert await _numbers(owner) == [f"R-{user}" for user in USERS]
    await tables.assert_sound(owner)
