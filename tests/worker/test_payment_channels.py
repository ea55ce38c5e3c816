"""What is kept of payments beside their orders, in the database, and which of two workers is first."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.rules.core.world import instructions, open_account, recharge, refund, result, reversal
from tests.worker import tables
from tests.worker.rig import Rig, open_rig
from wallet_worker.audit.report import audit
from wallet_worker.core.channels import Channel
from wallet_worker.core.context import Policy

UNIQUE = Policy(channels={"card": Channel(refs_unique=True, any_amount=True)})
ROUNDS = 5


async def test_the_latest_instructions_are_kept_and_move_the_orders_end(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    until = datetime.now(UTC) + timedelta(days=9)

    await rig.settle(
        open_account(),
        recharge(),
        instructions("gateway", revision=2, expires_at=until.isoformat()),
        instructions("gateway", revision=1),
        instructions("gateway", revision=3, bank_code="1"),
    )
    await rig.settle(instructions("gateway", revision=4, bank_code="2"), instructions("gateway", revision=3))

    row = await owner.fetchrow(
        "SELECT revision, body, expires_at, due_at FROM payment_instructions JOIN orders USING (order_id)"
    )
    assert row is not None
    assert (row["revision"], json.loads(row["body"])["bank_code"]) == (4, "2")
    assert row["expires_at"] == until
    assert row["due_at"] < until
    statuses = [reply["processing_status"] for reply in await tables.replies(owner)]
    assert sorted(statuses) == ["duplicate"] * 2 + ["processed"] * 3


async def test_what_came_is_kept_and_the_books_are_right(
    database_url: str, owner: asyncpg.Connection
) -> None:
    async with open_rig(database_url, UNIQUE) as rig:
        await rig.settle(open_account(), recharge(), result(amount="90.00"))
        await rig.settle(recharge(serial_no="R-2"))
        await rig.settle(result(payment_order_no="R-2", gateway_ref="gw-2", amount="110.00"))
        await rig.settle(refund(original_serial_no="R-2", amount="110.00"))
        await rig.settle(result(payment_order_no="RF-1", amount="110.00", gateway_ref="gw-3"))
        await rig.settle(reversal(amount="90.00"))

    rows = await owner.fetch(
        "SELECT serial_no, amount, received FROM orders WHERE received IS NOT NULL ORDER BY serial_no"
    )
    assert [tuple(row) for row in rows] == [("R-1", 10_000, 9_000), ("R-2", 10_000, 11_000)]
    assert await owner.fetchval("SELECT count(*) FROM gateway_refs") == 2
    report = await audit(database_url, shown_max=10)
    assert report.findings == []


@pytest.mark.parametrize("together", [True, False])
async def test_one_payment_that_two_workers_meet_is_of_one_order(
    database_url: str, owner: asyncpg.Connection, *, together: bool
) -> None:
    async with open_rig(database_url, UNIQUE) as rig, open_rig(database_url, UNIQUE) as other:
        await rig.settle(open_account(), open_account(serial_no="O-2", user_id="u-2"))
        for number in range(ROUNDS):
            mine, theirs, ref = f"R-{number}", f"S-{number}", f"gw-{number}"
            await rig.settle(recharge(serial_no=mine), recharge(serial_no=theirs, user_id="u-2"))
            results = [result(payment_order_no=each, gateway_ref=ref) for each in (mine, theirs)]
            if together:
                await asyncio.gather(rig.settle(results[0]), other.settle(results[1]))
            else:
                await rig.settle(results[0])
                await other.settle(results[1])

    assert (
        await owner.fetchval("SELECT sum(balance)::bigint FROM accounts WHERE kind = 'user'")
        == ROUNDS * 10_000
    )
    letters = await tables.dead_letters(owner)
    assert len(letters) == ROUNDS
    assert await owner.fetchval("SELECT count(*) FROM gateway_refs") == ROUNDS
    report = await audit(database_url, shown_max=10)
    assert report.findings == []
