"""A batch is written in parts: what nobody else can be writing at once, and the rest in the end, in order."""

from collections.abc import Sequence

import pytest

from tests.rules.core.world import (
    World,
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
from wallet_schemas.values import AccountStatus, OrderStatus
from wallet_worker.core.changes import StoredCommand
from wallet_worker.core.inbound import InboundMessage


@pytest.fixture
def world() -> World:
    """Give a wallet with alice and bob, each with money, in which each message is a part of its own."""
    world = World(flush_every=1)
    for user_id in ("alice", "bob"):
        world.with_account(user_id=user_id, balance_minor=100_00)
    return world


def of(user_id: str, serial_no: str, **changes: str) -> dict[str, str]:
    return {"user_id": user_id, "serial_no": serial_no, "amount": "10.00", **changes}


def early(world: World, *arrived: InboundMessage) -> list[str]:
    """Return the serial numbers that were written before the last message of the batch was decided."""
    world.written.clear()
    world.tell(*arrived, freeze(user_id="bob", serial_no="LAST"))
    *parts, end = world.written
    assert "LAST" in _serial_nos(end.commands)
    return [number for part in parts for number in _serial_nos(part.commands)]


def _serial_nos(commands: Sequence[StoredCommand]) -> list[str]:
    return [command.serial_no for command in commands]


def test_what_locked_an_account_is_written_at_once(world: World) -> None:
    held = hold(**of("alice", "H-1"))
    taken = capture(hold_serial_no="H-1", to_user_id="bob", serial_no="C-1", amount="4.00")
    arrived = [
        recharge(**of("alice", "R-1")),
        withdraw(**of("alice", "W-1")),
        transfer(**of("alice", "T-1", to_user_id="bob")),
        held,
        taken,
        release(hold_serial_no="H-1", serial_no="L-1"),
    ]

    assert early(world, *arrived) == ["R-1", "W-1", "T-1", "H-1", "C-1", "L-1"]


@pytest.mark.parametrize(
    "unlocked",
    [
        open_account(user_id="carol", serial_no="O-1"),
        recharge(**of("nobody", "R-1")),
        recharge(**of("alice", "R-1", currency="XAF")),
        transfer(**of("alice", "T-1", to_user_id="nobody")),
        release(hold_serial_no="nothing", serial_no="L-1"),
    ],
    ids=["opening", "no account", "no such currency", "no payee", "no hold"],
)
def test_what_had_nothing_to_lock_waits_for_the_end(world: World, unlocked: InboundMessage) -> None:
    assert early(world, unlocked, recharge(**of("bob", "R-2"))) == ["R-2"]


def test_what_stands_on_an_account_that_is_opened_waits_with_it(world: World) -> None:
    arrived = [
        open_account(user_id="carol", serial_no="O-1"),
        recharge(**of("carol", "R-1")),
        result(payment_order_no="R-1", amount="10.00"),
        transfer(**of("alice", "T-1", to_user_id="carol")),
        refund(original_serial_no="R-1", serial_no="F-1", amount="1.00"),
        recharge(**of("alice", "R-2")),
    ]

    assert early(world, *arrived) == ["R-2"]
    assert world.user("carol").balance_minor == 20_00
    assert world.orders["R-1"].status is OrderStatus.SUCCEEDED


@pytest.mark.parametrize("part_max", [1, 2, 3, 100])
def test_an_order_is_moved_on_by_later_parts_wherever_these_begin(world: World, part_max: int) -> None:
    """By one that waits too: it stands on a payee who is opened in the same batch."""
    world.flush_every = part_max
    arrived = [
        hold(**of("alice", "H-1")),
        open_account(user_id="carol", serial_no="O-1"),
        capture(hold_serial_no="H-1", to_user_id="carol", serial_no="C-1", amount="4.00"),
        release(hold_serial_no="H-1", serial_no="L-1"),
    ]

    early(world, *arrived)

    assert (world.orders["H-1"].status, world.orders["H-1"].remaining_minor) == (OrderStatus.RELEASED, 0)
    assert world.user("alice").balance_minor == 96_00


def test_an_account_that_was_closed_in_a_part_is_opened_again_in_the_end(world: World) -> None:
    world.with_account(user_id="carol")

    arrived = [close(user_id="carol", serial_no="X-1"), open_account(user_id="carol", serial_no="O-1")]

    early(world, *arrived)

    assert [after.status for _, after in world.written[0].accounts_moved.values()] == [AccountStatus.CLOSED]
    assert [account.status for account in world.accounts.values() if account.user_id == "carol"] == [
        AccountStatus.CLOSED,
        AccountStatus.ACTIVE,
    ]
