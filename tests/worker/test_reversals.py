"""Money that comes back, in the tables: two workers, reordered and repeated, end in the same books."""

import asyncio
from itertools import permutations
from typing import Any

import asyncpg
import pytest

from tests.rules.core.world import (
    close,
    hold,
    open_account,
    recharge,
    refund,
    release,
    result,
    reversal,
    transfer,
    withdraw,
)
from tests.worker.rig import Rig
from wallet_schemas.queries import FindOrders, GetAccount, GetHistory, GetOrder
from wallet_worker.audit.report import audit
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.queries.answers import answer

BEGUN = (
    open_account(serial_no="O-1"),
    open_account(serial_no="O-2", user_id="u-2"),
    recharge(serial_no="R-1"),
    result(payment_order_no="R-1"),
    transfer(serial_no="T-1", user_id="u-1", to_user_id="u-2", amount="70.00"),
)
"""u-1 was recharged by 100.00, and has given u-2 70.00."""

STORY: list[dict[str, Any]] = [
    {"sequence": 1, "status": "opened"},
    {"sequence": 2, "status": "moved"},
    {"sequence": 3, "status": "settled", "amount": "60.00"},
]


async def _standing(owner: asyncpg.Connection) -> dict[str, tuple[int, int, int]]:
    """Return balance, reserve and debt of each user."""
    rows = await owner.fetch("SELECT user_id, balance, reserved, debt FROM accounts WHERE kind = 'user'")
    return {row[0]: tuple(row)[1:] for row in rows}


async def test_a_dispute_is_stored_answered_and_audited(
    rig: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    await rig.settle(*BEGUN, reversal(reason="not mine", respond_by="2026-02-01T00:00:00Z"))

    async with rig.database.snapshot() as connection:
        detail = (await answer(connection, GetOrder(serial_no="R-1"))).model_dump(mode="json")
        accounts = (await answer(connection, GetAccount(user_id="u-1"))).model_dump(mode="json")
        history = (
            await answer(connection, GetHistory(user_id="u-1", account_type="basic", currency="TWD"))
        ).model_dump(mode="json")
        listed = (await answer(connection, FindOrders(user_id="u-1"))).model_dump(mode="json")
        made = listed["orders"][0]
        own = (await answer(connection, GetOrder(serial_no=made["serial_no"]))).model_dump(mode="json")
    assert await _standing(owner) == {"u-1": (0, 0, 7_000), "u-2": (7_000, 0, 0)}
    (dispute,) = detail["reversals"]
    assert (dispute["status"], dispute["moved_amount"], dispute["reason"]) == ("moved", "100.00", "not mine")
    assert detail["order"]["reversed_amount"] == "100.00"
    assert (accounts["accounts"][0]["debt"], accounts["accounts"][0]["available"]) == ("70.00", "0.00")
    assert [line["order"]["order_type"] for line in history["lines"]] == [
        "chargeback",
        "advance",
        "transfer",
        "recharge",
    ]
    assert history["lines"][0]["order"]["original_serial_no"] == "R-1"
    assert history["lines"][0]["order"]["reversal_ref"] == "dp-1"
    assert {order["serial_no"]: order.get("reversed_amount") for order in listed["orders"]}["R-1"] == "100.00"
    assert (own["order"], own["outcome"]["status"]) == (made, "applied")
    assert (await audit(database_url)).clean


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (0, 1, 2)])
async def test_row_37_two_workers_with_the_messages_in_any_order_and_repeated_end_in_the_same_books(
    rig: Rig, other: Rig, owner: asyncpg.Connection, database_url: str, order: tuple[int, ...]
) -> None:
    await rig.settle(*BEGUN)
    mine = [reversal(**STORY[index]) for index in order] * 5
    theirs = [reversal(**STORY[index]) for index in reversed(order)] * 5

    async with asyncio.timeout(30):
        await asyncio.gather(rig.settle(*mine), other.settle(*theirs))

    assert await _standing(owner) == {"u-1": (0, 0, 3_000), "u-2": (7_000, 0, 0)}
    assert await owner.fetchval("SELECT count(*) FROM reversals") == 1
    assert (await audit(database_url)).clean


LATER: tuple[InboundMessage, ...] = (
    reversal(sequence=1, status="moved"),
    recharge(serial_no="R-2", amount="50.00"),
    result(payment_order_no="R-2", amount="50.00"),
    reversal(sequence=2, status="dropped"),
)


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5])
async def test_balance_less_debt_does_not_depend_on_the_order_of_arrival(
    rig: Rig, owner: asyncpg.Connection, database_url: str, order: tuple[int, ...]
) -> None:
    await rig.settle(*BEGUN)

    for index in order:
        await rig.settle(LATER[index])
    await rig.sweep()

    (balance, _, debt) = (await _standing(owner))["u-1"]
    assert (balance - debt, debt) == (8_000, 0)
    assert (await audit(database_url)).clean


async def test_every_way_in_which_money_becomes_available_pays_in_the_same_commit(
    rig: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    await rig.settle(
        *BEGUN,
        recharge(serial_no="R-2", amount="500.00"),
        result(payment_order_no="R-2", amount="500.00"),
        withdraw(serial_no="W-1", amount="100.00"),
        hold(serial_no="H-1", amount="100.00"),
        refund(serial_no="F-1", original_serial_no="R-2", amount="100.00"),
        hold(serial_no="H-2", amount="230.00"),
        reversal(amount="100.00"),
    )
    assert (await _standing(owner))["u-1"] == (53_000, 53_000, 10_000)

    await rig.settle(
        result(payment_order_no="W-1", status="failed"),  # pays all of it
        release(serial_no="L-1", hold_serial_no="H-1"),
        result(payment_order_no="F-1", amount="100.00"),
        reversal(payment_order_no="F-1", kind="return", status="settled"),
    )

    assert (await _standing(owner))["u-1"] == (43_000, 23_000, 0)
    assert (await audit(database_url)).clean


async def test_row_41_a_chargeback_races_the_closing_of_its_account(
    rig: Rig, other: Rig, owner: asyncpg.Connection, database_url: str
) -> None:
    """Either the account owes and stays open, or it is closed and owes: then it is not opened again."""
    await rig.settle(*BEGUN[:-1], transfer(serial_no="T-1", user_id="u-1", to_user_id="u-2", amount="100.00"))

    async with asyncio.timeout(30):
        await asyncio.gather(rig.settle(close(serial_no="S-close")), other.settle(reversal()))
    await rig.settle(open_account(serial_no="O-3"))

    codes = {row[0]: row[1] for row in await owner.fetch("SELECT serial_no, code FROM commands")}
    assert (codes["S-close"], codes["O-3"]) in {
        ("OK", "DEBT_OUTSTANDING"),
        ("BALANCE_NOT_ZERO", "ACCOUNT_EXISTS"),
    }
    assert (await _standing(owner))["u-1"] == (0, 0, 10_000)
    assert (await audit(database_url)).clean
