"""Two workers with the same thing in hand at the same time: one effect, and the other gets the stored outcome."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from structlog.typing import EventDict

from tests.rules.core.mixtures import BEFORE, mixtures
from tests.rules.core.world import open_account, recharge, result
from tests.worker import tables
from tests.worker.rig import Rig
from tests.workers import until
from wallet_worker.core import batch as core_batch
from wallet_worker.core.decide import decide
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.store import load, save

ROUNDS = 15

Meet = Callable[[str], None]


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Meet:
    """Give a switch by which the next two transactions wait for each other before they load or save."""

    def meet(place: str) -> None:
        module, name = {"load": (load, "facts"), "save": (save, "changes")}[place]
        step, both = getattr(module, name), asyncio.Barrier(2)
        met = 0

        async def wait_and_step(*arguments: Any, **options: Any) -> Any:
            nonlocal met
            met += 1
            if met <= 2:
                await both.wait()
            return await step(*arguments, **options)

        monkeypatch.setattr(module, name, wait_and_step)

    return meet


async def _at_once(rig: Rig, other: Rig, mine: list[InboundMessage], theirs: list[InboundMessage]) -> None:
    async with asyncio.timeout(30):
        await asyncio.gather(rig.settle(*mine), other.settle(*theirs))


async def _codes(owner: asyncpg.Connection) -> list[tuple[str, bool]]:
    """Return code and duplicate of each outcome that was told, sorted."""
    return sorted((reply["code"], reply["duplicate"]) for reply in await tables.replies(owner))


@pytest.mark.parametrize("place", ["load", "save"])
async def test_the_same_command_on_two_workers_has_one_effect(
    rig: Rig, other: Rig, owner: asyncpg.Connection, meet: Meet, place: str
) -> None:
    meet(place)

    await _at_once(rig, other, [open_account("one")], [open_account("other")])

    assert await _codes(owner) == [("OK", False), ("OK", True)]
    assert len({reply["result"]["account_no"] for reply in await tables.replies(owner)}) == 1
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 1
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE routing_key = 'account.opened'") == 1


@pytest.mark.parametrize("place", ["load", "save"])
async def test_the_same_account_opened_by_two_workers_is_there_once(
    rig: Rig, other: Rig, owner: asyncpg.Connection, meet: Meet, place: str
) -> None:
    meet(place)

    await _at_once(rig, other, [open_account("one")], [open_account("other", serial_no="O-2")])

    assert await _codes(owner) == [("ACCOUNT_EXISTS", False), ("OK", False)]
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 1


@pytest.mark.parametrize("place", ["load", "save"])
async def test_a_serial_number_used_twice_at_once_is_a_conflict_for_one(
    rig: Rig, other: Rig, owner: asyncpg.Connection, meet: Meet, place: str
) -> None:
    meet(place)

    await _at_once(rig, other, [open_account("one")], [open_account("other", user_id="u-2")])

    assert await _codes(owner) == [("OK", False), ("SERIAL_CONFLICT", False)]
    assert len(await tables.dead_letters(owner)) == 1
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == 1


async def test_the_same_recharge_on_two_workers_makes_one_order(
    rig: Rig, other: Rig, owner: asyncpg.Connection, meet: Meet
) -> None:
    await rig.settle(open_account())
    meet("load")

    await _at_once(rig, other, [recharge("one")], [recharge("other")])

    assert await _codes(owner) == [("OK", False), ("OK", True)]
    assert await owner.fetchval("SELECT count(*) FROM orders") == 1
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE exchange = 'payment.requests'") == 1


async def test_the_same_result_on_two_workers_is_credited_once(
    rig: Rig, other: Rig, owner: asyncpg.Connection, meet: Meet
) -> None:
    await rig.settle(open_account(), recharge())
    meet("load")

    await _at_once(rig, other, [result("one")], [result("other", gateway_ref="gw-2")])

    answers = sorted((reply["processing_status"], reply["code"]) for reply in await tables.replies(owner))
    assert answers == [("duplicate", "OK"), ("processed", "OK")]
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 10_000
    assert await owner.fetchval("SELECT count(*) FROM entries") == 2


async def test_contradicting_results_on_two_workers_end_as_one_after_the_other(
    rig: Rig, other: Rig, owner: asyncpg.Connection, meet: Meet
) -> None:
    await rig.settle(open_account(), recharge())
    meet("load")

    await _at_once(rig, other, [result("one")], [result("other", status="failed")])

    answers = Counter((reply["processing_status"], reply["code"]) for reply in await tables.replies(owner))
    late = await owner.fetchval("SELECT late FROM orders")
    assert answers == Counter(
        [("processed", "OK"), ("processed", "OK") if late else ("refused", "CONTRADICTING_RESULT")]
    )
    assert len(await tables.dead_letters(owner)) == (0 if late else 1)
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 10_000


async def test_the_same_batch_on_two_workers_round_after_round(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    """Commands and results of five users, a third of them hot, told to both workers in the same breath."""
    for number in range(ROUNDS):
        opened = [
            open_account("upstream", serial_no=f"O-{number}-{user}", user_id=f"u-{number}-{user}")
            for user in range(5)
        ]
        recharges = [
            recharge("upstream", serial_no=f"R-{number}-{user}", user_id=f"u-{number}-{user % 3}")
            for user in range(5)
        ]
        results = [result("gateway", payment_order_no=f"R-{number}-{user}") for user in range(5)]
        for arrived in (opened, recharges, results):
            await _at_once(rig, other, arrived, arrived[::-1])

    answers = Counter((reply["code"], reply.get("duplicate")) for reply in await tables.replies(owner))
    each = 5 * ROUNDS
    assert answers == Counter({("OK", False): 2 * each, ("OK", True): 2 * each, ("OK", None): 2 * each})
    assert await owner.fetchval("SELECT sum(balance) FROM accounts WHERE kind = 'user'") == each * 10_000
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE exchange = 'wallet.events'") == 3 * each
    assert await tables.dead_letters(owner) == []
    await tables.assert_sound(owner)


async def test_one_account_credited_by_two_workers_at_once_has_no_gaps(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    numbers = [f"R-{number}" for number in range(2 * 10 * ROUNDS)]
    await rig.settle(open_account())
    await rig.settle(*(recharge(serial_no=number, amount="1") for number in numbers))

    async def credit(wallet: Rig, mine: list[str]) -> None:
        for start in range(0, len(mine), 10):
            await wallet.settle(
                *(result(payment_order_no=number, amount="1") for number in mine[start : start + 10])
            )

    await asyncio.gather(credit(rig, numbers[::2]), credit(other, numbers[1::2]))

    await tables.assert_sound(owner)
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == len(numbers) * 100


async def test_a_result_and_its_command_at_once_find_each_other(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    await rig.settle(open_account())
    for number in range(ROUNDS):
        await _at_once(
            rig, other, [recharge(serial_no=f"R-{number}")], [result(payment_order_no=f"R-{number}")]
        )
    # Those that looked before the order was there, and were parked after it had woken what was there, wait 5 s.
    await owner.execute("UPDATE parked_results SET due_at = now()")

    await asyncio.gather(rig.sweep(), other.sweep())

    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == ROUNDS * 10_000
    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 0
    await tables.assert_sound(owner)


@given(arrived=mixtures(max_size=20), theirs=mixtures(max_size=20))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_whatever_two_workers_are_told_at_once_the_ledger_is_sound(
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    arrived: list[InboundMessage],
    theirs: list[InboundMessage],
) -> None:
    await tables.empty(owner)
    await rig.settle(*BEFORE)

    await _at_once(rig, other, arrived, arrived[::-1] + theirs)
    await asyncio.gather(rig.sweep(), other.sweep())

    await tables.assert_sound(owner)
    first = Counter(
        reply["serial_no"] for reply in await tables.replies(owner) if reply.get("duplicate") is False
    )
    refused = Counter(
        reply["serial_no"] for reply in await tables.replies(owner) if reply.keys() & {"different", "faults"}
    )
    assert max((first - refused).values(), default=0) <= 1
    assert "INTERNAL" not in {reason for _, reason, _ in await tables.dead_letters(owner)}


# Locks are taken in one order, so nobody waits in a circle.


def lost_races(logged: list[EventDict]) -> Counter[str]:
    """Return how often which race was lost."""
    return Counter(line["reason"] for line in logged if line["event"] == "batch.race_lost")


USERS = [f"u-{number}" for number in range(9)]
OPENED = [open_account(serial_no=f"O-{user}", user_id=user) for user in USERS]
OPENED_OTHERWISE = [open_account(serial_no=f"P-{user}", user_id=user) for user in USERS]
RECHARGED = [recharge(serial_no=f"R-{user}", user_id=user) for user in USERS]
RECHARGED_TOO = [recharge(serial_no=f"S-{user}", user_id=user) for user in USERS]
PAID = [result(payment_order_no=f"R-{user}") for user in USERS]
PAID_TOO = [result(payment_order_no=f"S-{user}") for user in USERS]

_INSERT_COMMAND = """
INSERT INTO commands VALUES ('O-u-4', '', decode(repeat('ab', 32), 'hex'), '{}', 'applied', 'OK', '{}', now())
"""
_INSERT_ACCOUNT = """
INSERT INTO accounts (kind, account_no, user_id, account_type, currency, status, balance, reserved, line_no,
                      created_at, updated_at)
VALUES ('user', '1111111111111111111', 'u-4', 'basic', 'TWD', 'active', 0, 0, 0, now(), now())
"""


class Meeting(NamedTuple):
    """Two batches that come from opposite ends to a row that somebody holds."""

    before: list[list[InboundMessage]]
    hold: str
    mine: list[InboundMessage]
    theirs: list[InboundMessage]
    lost: dict[str, int]


HOLD_ACCOUNT = "SELECT FROM accounts WHERE user_id = 'u-4' FOR UPDATE"
HOLD_ORDER = "SELECT FROM orders WHERE serial_no = 'R-u-4' FOR UPDATE"
MEETINGS = {
    "commands are inserted": Meeting([], _INSERT_COMMAND, OPENED, OPENED, {"commands_pkey": 1}),
    "accounts are inserted": Meeting([], _INSERT_ACCOUNT, OPENED, OPENED_OTHERWISE, {"accounts_open_key": 1}),
    "what stands on new accounts is inserted": Meeting(
        [],
        _INSERT_ACCOUNT,
        [*OPENED, *RECHARGED, *PAID],
        [*PAID, *RECHARGED[::-1], *OPENED[::-1]],  # only the results are from the other end
        {"commands_pkey": 1},
    ),
    "accounts are locked": Meeting([OPENED], HOLD_ACCOUNT, RECHARGED, RECHARGED_TOO, {}),
    "orders are locked": Meeting([OPENED, RECHARGED], HOLD_ORDER, PAID, PAID, {}),
    "accounts of orders are locked": Meeting(
        [OPENED, RECHARGED, RECHARGED_TOO], HOLD_ACCOUNT, PAID, PAID_TOO, {}
    ),
}


@pytest.mark.parametrize("meeting", MEETINGS.values(), ids=MEETINGS)
async def test_batches_from_opposite_ends_do_not_deadlock(
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    database_url: str,
    logged: list[EventDict],
    meeting: Meeting,
) -> None:
    """Somebody holds the row in the middle until both wait: one for that row, the other for the one."""
    for arrived in meeting.before:
        await rig.settle(*arrived)
    holder = await asyncpg.connect(database_url)
    held = holder.transaction()
    await held.start()
    await holder.execute(meeting.hold)

    met = asyncio.create_task(_at_once(rig, other, meeting.mine, meeting.theirs[::-1]))
    await until(owner, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted", 2)
    await held.rollback()
    await met

    assert lost_races(logged) == meeting.lost
    assert await owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == len(USERS)
    await tables.assert_sound(owner)
    await holder.close()


# Account numbers are drawn: two may be the same.


async def test_an_account_number_that_is_taken_is_drawn_again(
    rig: Rig, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, logged: list[EventDict]
) -> None:
    urandom, drawn = os.urandom, 0

    def same_twice(count: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return bytes(count) if drawn <= 2 else urandom(count)

    monkeypatch.setattr("os.urandom", same_twice)

    await rig.settle(open_account())
    await rig.settle(open_account("upstream", serial_no="O-2", user_id="u-2"))

    assert lost_races(logged) == {"accounts_account_no_key": 1}
    assert await _codes(owner) == [("OK", False)]
    assert await owner.fetchval("SELECT count(DISTINCT account_no) FROM accounts WHERE kind = 'user'") == 2


# Parked results: one worker has them in hand, or another, never both.


async def test_two_workers_that_sweep_at_once_apply_each_parked_result_once(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    numbers = [f"R-{number}" for number in range(40)]
    for number in numbers:
        await rig.settle(result("gateway", payment_order_no=number))
    await rig.settle(open_account(), *(recharge(serial_no=number) for number in numbers))

    await asyncio.gather(*(wallet.sweeper.sweep_parked(3) for wallet in (rig, other) for _ in range(8)))
    await asyncio.gather(rig.sweep(), other.sweep())

    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 400_000
    answers = [reply["processing_status"] for reply in await tables.replies(owner)]
    assert answers == ["processed"] * 40
    await tables.assert_sound(owner)


@pytest.mark.parametrize("is_in_hand", [False, True])
async def test_a_parked_result_that_another_worker_has_taken_meanwhile_is_left_to_it(
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    is_in_hand: bool,  # noqa: FBT001
) -> None:
    """This worker fails on it and lets it go; before it can set it aside, the other has it, or is done with it."""
    await rig.settle(result())
    await rig.settle(open_account(), recharge())
    set_aside = rig.dead_lettering.set_aside
    held = owner.transaction()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async def set_aside_too_late(*arguments: Any) -> Any:
        monkeypatch.setattr(core_batch, "decide", decide)
        if is_in_hand:
            await held.start()
            await owner.execute("SELECT FROM parked_results FOR UPDATE")
        else:
            await other.sweep()
        return await set_aside(*arguments)

    monkeypatch.setattr(core_batch, "decide", fail)
    monkeypatch.setattr(rig.dead_lettering, "set_aside", set_aside_too_late)

    await rig.sweep()
    if is_in_hand:
        assert await owner.fetchval("SELECT count(*) FROM parked_results") == 1
        await held.rollback()
        await other.sweep()

    assert await tables.dead_letters(owner) == []
    assert await owner.fetchval("SELECT balance FROM accounts WHERE kind = 'user'") == 10_000
    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 0
