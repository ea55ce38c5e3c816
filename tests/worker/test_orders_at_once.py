"""Two workers, or one batch, with orders and accounts that get in each other's way: as one after the other."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from structlog.typing import EventDict

from tests.rules.core.world import (
    capture,
    close,
    freeze,
    hold,
    open_account,
    recharge,
    refund,
    release,
    result,
    transfer,
    withdraw,
)
from tests.worker import tables
from tests.worker.rig import Rig
from tests.worker.test_races import ROUNDS, Meet, lost_races, meet
from tests.workers import until
from wallet_worker.core.inbound import InboundMessage

__all__ = ["meet"]  # a fixture

PAIR = (
    open_account(serial_no="O-1"),
    open_account(serial_no="O-2", user_id="u-2"),
    recharge(serial_no="R-1"),
    result(payment_order_no="R-1"),
    recharge(serial_no="R-2", user_id="u-2"),
    result(payment_order_no="R-2"),
)
"""Two users, with 100.00 each."""


def _pays(number: int, payer: str, payee: str, amount: str = "1") -> InboundMessage:
    return transfer(
        "upstream", serial_no=f"T-{payer}-{number}", user_id=payer, to_user_id=payee, amount=amount
    )


async def _at_once(rig: Rig, other: Rig, mine: list[InboundMessage], theirs: list[InboundMessage]) -> None:
    async with asyncio.timeout(30):
        await asyncio.gather(rig.settle(*mine), other.settle(*theirs))


async def _codes(owner: asyncpg.Connection) -> dict[str, str]:
    """Return the code of each serial number's one outcome."""
    return {row[0]: row[1] for row in await owner.fetch("SELECT serial_no, code FROM commands")}


async def _balances(owner: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    """Return balance and reserve of each user's accounts together."""
    rows = await owner.fetch(
        "SELECT user_id, sum(balance)::bigint, sum(reserved)::bigint FROM accounts WHERE kind = 'user' GROUP BY 1"
    )
    return {row[0]: (row[1], row[2]) for row in rows}


# Transfers


async def test_two_users_pay_each_other_in_one_batch_and_the_first_is_what_the_second_pays_with(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    await rig.settle(*PAIR)

    await rig.settle(
        _pays(1, "u-1", "u-2", "150"), _pays(2, "u-1", "u-2", "100"), _pays(3, "u-2", "u-1", "200")
    )

    found = await _codes(owner)
    assert (found["T-u-1-1"], found["T-u-1-2"], found["T-u-2-3"]) == ("INSUFFICIENT_BALANCE", "OK", "OK")
    assert await _balances(owner) == {"u-1": (20_000, 0), "u-2": (0, 0)}
    await tables.assert_sound(owner)


async def test_two_users_pay_each_other_on_two_workers_round_after_round(
    rig: Rig, other: Rig, owner: asyncpg.Connection, logged: list[EventDict]
) -> None:
    await rig.settle(*PAIR)

    for number in range(ROUNDS):
        mine = [_pays(10 * number + place, "u-1", "u-2") for place in range(5)]
        theirs = [_pays(10 * number + place, "u-2", "u-1") for place in range(5)]
        await _at_once(rig, other, mine, theirs)

    assert set((await _codes(owner)).values()) == {"OK"}
    assert await _balances(owner) == {"u-1": (10_000, 0), "u-2": (10_000, 0)}
    assert lost_races(logged) == {}
    await tables.assert_sound(owner)


@pytest.mark.parametrize("held", ["u-1", "u-2"])
async def test_payers_that_pay_each_other_never_wait_in_a_circle(
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    database_url: str,
    logged: list[EventDict],
    held: str,
) -> None:
    """Somebody holds one of the two accounts until both workers wait."""
    await rig.settle(*PAIR)
    holder = await asyncpg.connect(database_url)
    holding = holder.transaction()
    await holding.start()
    await holder.execute("SELECT FROM accounts WHERE user_id = $1 FOR UPDATE", held)

    met = asyncio.create_task(_at_once(rig, other, [_pays(1, "u-1", "u-2")], [_pays(1, "u-2", "u-1")]))
    await until(owner, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted", 2)
    await holding.rollback()
    await met

    assert lost_races(logged) == {}
    assert set((await _codes(owner)).values()) == {"OK"}
    await tables.assert_sound(owner)
    await holder.close()


# What only one of two can have


async def _everything(_: Rig) -> None:
    pass


async def _hold(wallet: Rig) -> None:
    await wallet.settle(hold(amount="100"))


ONLY_ONE: dict[
    str, tuple[Callable[[Rig], Awaitable[None]], Callable[..., InboundMessage], dict[str, Any], str]
] = {
    "refunds of more than half": (
        _everything,
        refund,
        {"original_serial_no": "R-1", "amount": "60"},
        "AMOUNT_EXCEEDS_ORIGINAL",
    ),
    "withdrawals of more than half": (_everything, withdraw, {"amount": "60"}, "INSUFFICIENT_BALANCE"),
    "transfers of more than half": (_everything, transfer, {"amount": "60"}, "INSUFFICIENT_BALANCE"),
    "holds of more than half": (_everything, hold, {"amount": "60"}, "INSUFFICIENT_BALANCE"),
    "captures of more than half": (_hold, capture, {"amount": "60"}, "AMOUNT_EXCEEDS_ORIGINAL"),
    "captures of all": (_hold, capture, {"amount": "100"}, "HOLD_NOT_ACTIVE"),
    "releases": (_hold, release, {}, "HOLD_NOT_ACTIVE"),
}


@pytest.mark.parametrize("is_one_batch", [True, False])
@pytest.mark.parametrize(("before", "message", "fields", "refused"), ONLY_ONE.values(), ids=ONLY_ONE)
async def test_of_two_at_once_that_do_not_both_fit_one_is_refused(  # noqa: PLR0917 - columns of the table
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    meet: Meet,
    before: Callable[[Rig], Awaitable[None]],
    message: Callable[..., InboundMessage],
    fields: dict[str, Any],
    refused: str,
    is_one_batch: bool,  # noqa: FBT001
) -> None:
    await rig.settle(*PAIR)
    await before(rig)
    both = [message("upstream", serial_no=f"S-{number}", **fields) for number in range(2)]

    if is_one_batch:
        await rig.settle(*both)
    else:
        meet("load")
        await _at_once(rig, other, both[:1], both[1:])

    found = await _codes(owner)
    assert sorted((found["S-0"], found["S-1"])) == sorted(["OK", refused])
    await tables.assert_sound(owner)


async def test_a_capture_and_a_release_at_once_do_not_both_have_the_rest(
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    meet: Meet,
) -> None:
    await rig.settle(*PAIR, hold(amount="100"))
    meet("load")

    await _at_once(rig, other, [capture(amount="100")], [release()])

    found = await _codes(owner)
    assert sorted((found["C-1"], found["L-1"])) == ["HOLD_NOT_ACTIVE", "OK"]
    await tables.assert_sound(owner)


async def test_refunds_on_two_workers_round_after_round_never_exceed_the_original(
    rig: Rig, other: Rig, owner: asyncpg.Connection, logged: list[EventDict]
) -> None:
    await rig.settle(*PAIR)

    for number in range(ROUNDS):
        mine, theirs = (
            [refund(serial_no=f"F-{who}-{number}", original_serial_no="R-1", amount="9")]
            for who in ("a", "b")
        )
        await _at_once(rig, other, mine, theirs)

    codes = await _codes(owner)
    found = Counter(codes[f"F-{who}-{number}"] for who in "ab" for number in range(ROUNDS))
    assert found == {"OK": 11, "AMOUNT_EXCEEDS_ORIGINAL": 2 * ROUNDS - 11}
    assert (await _balances(owner))["u-1"] == (10_000, 9_900)
    assert lost_races(logged) == {}
    await tables.assert_sound(owner)


# Accounts that are frozen, closed and opened meanwhile

EMPTY = (open_account(serial_no="O-1"), open_account(serial_no="O-2", user_id="u-2"))
RICH = (
    open_account(serial_no="O-3", user_id="u-3"),
    recharge(serial_no="R-3", user_id="u-3"),
    result(payment_order_no="R-3"),
)

# what two workers are told, and the codes that may come of it
MEETINGS: dict[str, tuple[InboundMessage, InboundMessage, set[tuple[str, str]]]] = {
    "freeze and close": (
        freeze(serial_no="S-0"),
        close(serial_no="S-1"),
        {("OK", "OK"), ("ACCOUNT_CLOSED", "OK")},
    ),
    "close and close": (
        close(serial_no="S-0"),
        close(serial_no="S-1"),
        {("OK", "ACCOUNT_CLOSED"), ("ACCOUNT_CLOSED", "OK")},
    ),
    "close and recharge": (
        close(serial_no="S-0"),
        recharge(serial_no="S-1"),
        {("OK", "ACCOUNT_CLOSED"), ("ORDERS_PENDING", "OK")},
    ),
    "close of the payee and transfer": (
        close(serial_no="S-0"),
        transfer(serial_no="S-1", user_id="u-3", to_user_id="u-1", amount="1"),
        {("OK", "ACCOUNT_CLOSED"), ("BALANCE_NOT_ZERO", "OK")},
    ),
    "freeze of the payer and transfer": (
        freeze(serial_no="S-0", user_id="u-3"),
        transfer(serial_no="S-1", user_id="u-3", to_user_id="u-1", amount="1"),
        {("OK", "ACCOUNT_FROZEN"), ("OK", "OK")},
    ),
    "open and open": (
        open_account(serial_no="S-0", user_id="u-new"),
        open_account(serial_no="S-1", user_id="u-new"),
        {("OK", "ACCOUNT_EXISTS"), ("ACCOUNT_EXISTS", "OK")},
    ),
    "close and open": (
        close(serial_no="S-0"),
        open_account(serial_no="S-1"),
        {("OK", "OK"), ("OK", "ACCOUNT_EXISTS")},
    ),
}


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize(("mine", "theirs", "allowed"), MEETINGS.values(), ids=MEETINGS)
async def test_what_meets_an_account_that_is_just_changing_comes_before_or_after_it(
    rig: Rig,
    other: Rig,
    owner: asyncpg.Connection,
    meet: Meet,
    mine: InboundMessage,
    theirs: InboundMessage,
    allowed: set[tuple[str, str]],
    is_turned: bool,  # noqa: FBT001
) -> None:
    await rig.settle(*EMPTY, *RICH)
    meet("load")

    await _at_once(*((other, rig) if is_turned else (rig, other)), [mine], [theirs])

    found = await _codes(owner)
    assert (found["S-0"], found["S-1"]) in allowed
    assert await tables.dead_letters(owner) == []
    await tables.assert_sound(owner)


async def test_a_freeze_that_races_a_close_never_brings_the_account_back(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    for number in range(ROUNDS):
        user = f"u-{number}"
        await rig.settle(open_account(serial_no=f"O-{number}", user_id=user))
        await _at_once(
            rig,
            other,
            [freeze(serial_no=f"F-{number}", user_id=user)],
            [close(serial_no=f"X-{number}", user_id=user)],
        )

    found = await owner.fetch("SELECT DISTINCT status FROM accounts WHERE kind = 'user'")
    assert [row[0] for row in found] == ["closed"]
