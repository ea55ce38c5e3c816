"""Two workers with the same payment in hand: what the gateway says meets commands, the time, and itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import permutations

import asyncpg
import pytest

from tests.rules.core.world import (
    cancel,
    instructions,
    open_account,
    recharge,
    refund,
    result,
    reversal,
    transfer,
    withdraw,
)
from tests.worker import tables
from tests.worker.rig import Rig, open_rig
from wallet_worker.audit.report import audit
from wallet_worker.core.context import Policy
from wallet_worker.core.inbound import InboundMessage

ROUNDS = 12
HUNDRED = 10_000


async def _at_once(rig: Rig, other: Rig, mine: InboundMessage, theirs: InboundMessage) -> None:
    async with asyncio.timeout(30):
        await asyncio.gather(rig.settle(mine), other.settle(theirs))


async def _accounts(owner: asyncpg.Connection) -> dict[str, tuple[int, int, int]]:
    """Return balance, reserve and debt of each user."""
    rows = await owner.fetch("SELECT user_id, balance, reserved, debt FROM accounts WHERE kind = 'user'")
    return {row[0]: tuple(row)[1:] for row in rows}


async def _is_clean(database_url: str) -> None:
    assert (await audit(database_url, shown_max=20)).findings == []


async def test_row_38_a_chargeback_that_is_delivered_again_after_its_commit_is_a_duplicate(
    rig: Rig, other: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    await rig.settle(
        open_account(), open_account(serial_no="O-2", user_id="u-2"), recharge(), result(), transfer()
    )

    await rig.settle(reversal("gateway"))
    await other.settle(reversal("gateway"), deliveries=1)

    assert [reply["processing_status"] for reply in await tables.replies(owner)] == ["processed", "duplicate"]
    assert await owner.fetchval("SELECT count(*) FROM orders WHERE order_type = 'advance'") == 1
    assert (await _accounts(owner))["u-1"] == (0, 0, HUNDRED)
    await _is_clean(database_url)


async def test_row_39_a_reversal_before_its_order_and_before_its_success_waits_and_is_never_lost(
    rig: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    early = reversal("gateway")

    await rig.settle(early)
    await rig.settle(open_account(), recharge())
    await rig.sweep()  # its order is there and is not paid
    await rig.settle(result())
    await tables.let_pass(owner, timedelta(minutes=5))
    await rig.sweep()

    assert await owner.fetchval("SELECT count(*) FROM parked_results") == 0
    assert await owner.fetchval("SELECT moved FROM reversals") == HUNDRED
    assert [reply["processing_status"] for reply in await tables.replies(owner)] == ["processed"]
    await _is_clean(database_url)


async def test_row_40_a_chargeback_and_a_transfer_at_once_make_no_overdraft(
    rig: Rig, other: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    await rig.settle(open_account(serial_no="O-0", user_id="u-0"))
    for number in range(ROUNDS):
        user = f"u-{number + 1}"
        await rig.settle(
            open_account(serial_no=f"O-{user}", user_id=user),
            recharge(serial_no=f"R-{user}", user_id=user),
            result(payment_order_no=f"R-{user}"),
        )
        await _at_once(
            rig,
            other,
            reversal(payment_order_no=f"R-{user}"),
            transfer(serial_no=f"T-{user}", user_id=user, to_user_id="u-0"),
        )

    found = await _accounts(owner)
    debts = [found[f"u-{number + 1}"] for number in range(ROUNDS)]
    # First the transfer, and the dispute is lent; or first the dispute, and the transfer is refused.
    assert set(debts) <= {(0, 0, HUNDRED), (0, 0, 0)}
    assert sum(debt for _, _, debt in debts) == found["u-0"][0]
    await _is_clean(database_url)


async def test_row_42_a_payout_fails_while_a_chargeback_comes_and_what_returns_is_recovered(
    rig: Rig, other: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    for number in range(ROUNDS):
        user = f"u-{number}"
        await rig.settle(
            open_account(serial_no=f"O-{user}", user_id=user),
            recharge(serial_no=f"R-{user}", user_id=user),
            result(payment_order_no=f"R-{user}"),
            withdraw(serial_no=f"W-{user}", user_id=user),
        )
        await _at_once(
            rig,
            other,
            reversal(payment_order_no=f"R-{user}"),
            result(payment_order_no=f"W-{user}", status="failed"),
        )

    assert set((await _accounts(owner)).values()) == {(0, 0, 0)}
    await _is_clean(database_url)


async def test_row_43_two_refunds_and_a_chargeback_of_one_recharge_at_once_give_back_what_the_table_says(
    rig: Rig, other: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    await rig.settle(
        open_account(),
        recharge(serial_no="R-rich", amount="5000"),
        result(payment_order_no="R-rich", amount="5000"),
    )
    for number in range(ROUNDS):
        original = f"R-{number}"
        await rig.settle(recharge(serial_no=original), result(payment_order_no=original))
        parts = [
            refund(serial_no=f"RF-{number}-{part}", original_serial_no=original, amount="60") for part in "ab"
        ]
        async with asyncio.timeout(30):
            await asyncio.gather(
                rig.settle(parts[0]),
                other.settle(parts[1], reversal(payment_order_no=original, amount="60")),
            )

    refunded = await owner.fetch(
        "SELECT about_serial_no, sum(amount) FROM orders WHERE order_type = 'refund' GROUP BY 1"
    )
    assert all(row[1] == 6_000 for row in refunded)  # never both
    assert await owner.fetchval("SELECT count(*) FROM reversals WHERE moved = 6000") == ROUNDS
    told = await owner.fetch("SELECT body FROM outbox WHERE routing_key = 'reversal.moved'")
    assert len(told) == ROUNDS
    await _is_clean(database_url)


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
async def test_row_44_of_instructions_on_two_workers_the_highest_revision_is_kept_and_none_after_the_end(
    rig: Rig, other: Rig, owner: asyncpg.Connection, order: tuple[int, ...]
) -> None:
    await rig.settle(open_account(), recharge())
    first, second, third = [instructions(revision=number, bank_code=str(number)) for number in order]

    await asyncio.gather(rig.settle(first, second, first), other.settle(third, second, third))
    await asyncio.gather(rig.settle(result()), other.settle(instructions(revision=9)))

    (kept,) = await owner.fetch("SELECT revision FROM payment_instructions")
    assert kept["revision"] in {3, 9}
    await rig.settle(instructions("gateway", revision=10))
    assert await owner.fetchval("SELECT revision FROM payment_instructions") == kept["revision"]
    assert await owner.fetchval("SELECT status FROM orders") == "succeeded"


@asynccontextmanager
async def _impatient(database_url: str) -> AsyncIterator[Rig]:
    """Give a worker whose recharges expire as soon as somebody looks."""
    async with open_rig(database_url, Policy(recharge_expires_after=timedelta(microseconds=1))) as found:
        yield found


async def test_row_45_an_expiry_races_instructions_and_late_money_is_credited(
    database_url: str, owner: asyncpg.Connection
) -> None:
    later = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    async with _impatient(database_url) as rig, _impatient(database_url) as other:
        await rig.settle(open_account())
        for number in range(ROUNDS):
            serial_no = f"R-{number}"
            await rig.settle(recharge(serial_no=serial_no))
            async with asyncio.timeout(30):
                await asyncio.gather(
                    rig.sweep(), other.settle(instructions(payment_order_no=serial_no, expires_at=later))
                )
            row = await owner.fetchrow(
                "SELECT status, expires_at > now() FROM orders WHERE serial_no = $1", serial_no
            )
            assert row is not None
            assert tuple(row) in {("pending", True), ("expired", False)}
            await other.settle(result(payment_order_no=serial_no, gateway_ref=f"gw-{number}"))

    assert (await _accounts(owner))["u-1"] == (ROUNDS * HUNDRED, 0, 0)
    await _is_clean(database_url)


async def test_row_46_a_cancel_races_the_success_and_the_money_is_credited_once(
    rig: Rig, other: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    await rig.settle(open_account())
    for number in range(ROUNDS):
        serial_no = f"R-{number}"
        await rig.settle(recharge(serial_no=serial_no))
        await _at_once(
            rig,
            other,
            cancel(serial_no=f"X-{number}", target_serial_no=serial_no),
            result(payment_order_no=serial_no),
        )

    assert await owner.fetchval("SELECT count(*) FROM orders WHERE status = 'succeeded'") == ROUNDS
    assert (await _accounts(owner))["u-1"] == (ROUNDS * HUNDRED, 0, 0)
    late = await owner.fetchval("SELECT count(*) FROM orders WHERE late")
    cancelled = await owner.fetchval(
        "SELECT count(*) FROM commands WHERE serial_no LIKE 'X-%' AND status = 'applied'"
    )
    assert late == cancelled
    await _is_clean(database_url)
