"""Orders that are due go the road of messages: each once, however many sweep, and no neighbour pays for another."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.faults.proxy import Proxy
from tests.rules.core.world import hold, open_account, recharge, result, withdraw
from tests.worker import tables
from tests.worker.rig import Rig
from tests.worker.test_poison import Fails, fails_on
from tests.worker.test_unavailable import Waiting, far, proxy, waiting
from wallet_worker.store.waiting import Waiting as DatabaseWaiting
from wallet_worker.worker.bounds import TIMINGS

__all__ = ["fails_on", "far", "proxy", "waiting"]  # fixtures

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


async def _inquiries(owner: asyncpg.Connection) -> Counter[str]:
    """Return how often the gateway was asked what became of each order."""
    found = await owner.fetch(
        """
        SELECT convert_from(body, 'UTF8')::json ->> 'payment_order_no'
        FROM outbox
        WHERE exchange = 'payment.requests' AND convert_from(body, 'UTF8')::json ->> 'kind' = 'status'
        """
    )
    return Counter(row[0] for row in found)


async def _statuses(owner: asyncpg.Connection) -> Counter[str]:
    return Counter(row[0] for row in await owner.fetch("SELECT status FROM orders"))


async def _with_recharges(wallet: Rig, count: int) -> list[str]:
    numbers = [f"R-{number:03}" for number in range(count)]
    await wallet.settle(open_account(), *(recharge(serial_no=number) for number in numbers))
    return numbers


async def test_what_is_not_due_is_left_alone(rig: Rig, owner: asyncpg.Connection) -> None:
    await _with_recharges(rig, 3)
    before = await tables.snapshot(owner)

    await rig.sweep()

    assert await tables.snapshot(owner) == before


async def test_two_sweepers_ask_about_each_order_once(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    numbers = await _with_recharges(rig, 60)
    await tables.let_pass(owner, MINUTE)

    await asyncio.gather(*(wallet.sweeper.sweep_orders(4) for wallet in (rig, other) for _ in range(5)))
    await asyncio.gather(rig.sweep(), other.sweep())

    assert await _inquiries(owner) == dict.fromkeys(numbers, 1)
    assert await owner.fetchval("SELECT count(*) FROM orders WHERE asked = 1 AND due_at > now()") == 60


async def test_two_sweepers_expire_each_hold_once_and_all_is_available_again(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    await rig.settle(open_account(), recharge(), result())
    await rig.settle(*(hold(serial_no=f"H-{number}", amount="2") for number in range(40)))
    assert await owner.fetchval("SELECT reserved FROM accounts WHERE kind = 'user'") == 8_000
    await tables.let_pass(owner, DAY)

    await asyncio.gather(*(wallet.sweeper.sweep_orders(3) for wallet in (rig, other) for _ in range(8)))
    await asyncio.gather(rig.sweep(), other.sweep())

    assert await _statuses(owner) == {"expired": 40, "succeeded": 1}
    assert await owner.fetchval("SELECT reserved FROM accounts WHERE kind = 'user'") == 0
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE routing_key = 'order.expired'") == 40
    await tables.assert_sound(owner)


async def test_a_worker_that_was_away_for_long_asks_once(rig: Rig, owner: asyncpg.Connection) -> None:
    await rig.settle(open_account(), recharge(), result(), withdraw(), recharge(serial_no="R-2"))
    await tables.let_pass(owner, 30 * DAY)

    await rig.sweep()
    await rig.sweep()

    assert await _inquiries(owner) == {"W-1": 1, "R-2": 1}
    assert await _statuses(owner) == {"succeeded": 1, "pending": 1, "expired": 1}


async def test_a_result_and_the_sweep_at_once_end_a_recharge_once(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    """Whichever is first: the money is there in the end, late or not."""
    numbers = await _with_recharges(rig, 30)
    await tables.let_pass(owner, DAY)

    async with asyncio.timeout(30):
        await asyncio.gather(
            rig.sweep(), *(other.settle(result(payment_order_no=number)) for number in numbers)
        )

    assert await _statuses(owner) == {"succeeded": 30}
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 300_000
    await tables.assert_sound(owner)


async def test_an_order_that_a_batch_has_in_hand_is_left_to_it_until_the_next_sweep(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    await _with_recharges(rig, 2)
    await tables.let_pass(owner, MINUTE)
    held = owner.transaction()
    await held.start()
    await owner.execute("SELECT FROM orders WHERE serial_no = 'R-000' FOR UPDATE")

    await other.sweep()
    await held.rollback()
    assert await _inquiries(owner) == {"R-001": 1}
    await other.sweep()

    assert await _inquiries(owner) == {"R-000": 1, "R-001": 1}


# An order on which the wallet fails


@pytest.mark.parametrize("poisoned", [[0], [3], [6], [0, 6], [1, 2, 3]])
async def test_an_order_that_fails_is_put_off_and_its_neighbours_are_looked_at(
    rig: Rig,
    owner: asyncpg.Connection,
    fails_on: Fails,
    poisoned: list[int],
) -> None:
    numbers = await _with_recharges(rig, 7)
    await tables.let_pass(owner, MINUTE)
    bad = [numbers[place] for place in poisoned]
    for number in bad:
        fails_on(number)

    async with asyncio.timeout(30):
        await rig.sweep()

    assert await _inquiries(owner) == {number: 1 for number in numbers if number not in bad}
    off = await owner.fetch(
        "SELECT serial_no, due_at - now() AS by, asked FROM orders WHERE due_at > now() + interval '50 minutes'"
    )
    assert [row["serial_no"] for row in off] == bad
    assert all(abs(row["by"] - TIMINGS.retry_after) < MINUTE and row["asked"] == 0 for row in off)
    # It is no letter of anybody's, so there is nothing to keep for an operator but the log.
    assert await tables.dead_letters(owner) == []


async def test_an_order_that_was_put_off_is_looked_at_again_when_the_fault_is_mended(
    rig: Rig,
    owner: asyncpg.Connection,
    fails_on: Fails,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (number,) = await _with_recharges(rig, 1)
    await tables.let_pass(owner, MINUTE)
    fails_on(number)
    await rig.sweep()

    monkeypatch.undo()
    await rig.sweep()
    assert await _inquiries(owner) == {}
    await tables.let_pass(owner, TIMINGS.retry_after)
    await rig.sweep()

    assert await _inquiries(owner) == {number: 1}


async def test_an_order_that_the_database_refuses_is_put_off_and_its_neighbours_are_looked_at(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    await _with_recharges(rig, 5)
    await owner.execute("ALTER TABLE orders ADD CONSTRAINT none CHECK (serial_no <> 'R-002' OR asked = 0)")
    await tables.let_pass(owner, MINUTE)

    async with asyncio.timeout(30):
        await rig.sweep()

    assert await _inquiries(owner) == {"R-000": 1, "R-001": 1, "R-003": 1, "R-004": 1}
    assert await owner.fetchval(
        "SELECT due_at > now() + interval '50 minutes' FROM orders WHERE serial_no = 'R-002'"
    )


async def test_an_order_that_ended_before_it_could_be_put_off_stays_ended(
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    fails_on: Fails,
) -> None:
    (number,) = await _with_recharges(rig, 1)
    await tables.let_pass(owner, MINUTE)
    fails_on(f"{number}")
    set_aside = rig.dead_lettering.set_aside

    async def set_aside_too_late(*arguments: Any) -> Any:
        monkeypatch.undo()
        await other.settle(result(payment_order_no=number))
        return await set_aside(*arguments)

    monkeypatch.setattr(rig.dead_lettering, "set_aside", set_aside_too_late)

    await rig.sweep()

    row = await owner.fetchrow("SELECT status, due_at FROM orders")
    assert row is not None
    assert tuple(row) == ("succeeded", None)


# The database is away


async def test_the_sweep_of_orders_waits_for_the_database_and_asks_once(
    far: Rig,
    owner: asyncpg.Connection,
    waiting: Waiting,
    proxy: Proxy,
) -> None:
    numbers = await _with_recharges(far, 3)
    await tables.let_pass(owner, MINUTE)
    proxy.refuse()
    stopping = asyncio.Event()

    sweeping = asyncio.create_task(far.sweeper.run(stopping), name="sweep")
    await waiting.begun.wait()
    assert await _inquiries(owner) == {}
    assert set(far.health.reasons) == {"sweep database"}
    proxy.heal()
    waiting.over.set()
    stopping.set()
    async with asyncio.timeout(30):
        await sweeping

    assert await _inquiries(owner) == dict.fromkeys(numbers, 1)
    assert await _statuses(owner) == {"pending": 3}


@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_sweep_whose_commit_is_lost_asks_once_all_the_same(
    far: Rig,
    owner: asyncpg.Connection,
    waiting: Waiting,
    proxy: Proxy,
    is_committed: bool,  # noqa: FBT001
) -> None:
    numbers = await _with_recharges(far, 3)
    await tables.let_pass(owner, DAY)
    proxy.cut_at, proxy.cut_before_it_arrives = b"COMMIT", not is_committed
    stopping = asyncio.Event()

    async def sweep_orders() -> None:
        await far.sweeper.sweep_orders(500)

    waits = DatabaseWaiting("sweep database", far.database, far.health)
    # Orders only: the first commit of a whole sweep is that of the parked results, which are none.
    sweeping = asyncio.create_task(waits.done(sweep_orders, stopping), name="sweep")
    await waiting.begun.wait()
    assert await _statuses(owner) == ({"expired": 3} if is_committed else {"pending": 3})
    proxy.heal()
    waiting.over.set()
    async with asyncio.timeout(30):
        await sweeping

    assert await _inquiries(owner) == dict.fromkeys(numbers, 1)
    assert await _statuses(owner) == {"expired": 3}
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE routing_key = 'order.expired'") == 3
