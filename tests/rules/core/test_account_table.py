"""What becomes of an account that is frozen, unfrozen or closed, row by row."""

from datetime import timedelta

import pytest

from tests.rules.core.world import (
    NOW,
    World,
    close,
    events,
    freeze,
    open_account,
    recharge,
    replies,
    result,
    unfreeze,
    withdraw,
)
from wallet_schemas.codes import Code
from wallet_schemas.values import AccountStatus, OrderType
from wallet_worker.core.accounts import ACCOUNT_TRANSITIONS, StatusChange, diagram
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.core.orders import ORDER_SPECS

ACTIVE, FROZEN, CLOSED = AccountStatus.ACTIVE, AccountStatus.FROZEN, AccountStatus.CLOSED

# account is, what is asked: account becomes, the code, the event
TABLE = [
    (ACTIVE, StatusChange.FREEZE, FROZEN, Code.OK, "account.frozen.v1"),
    (ACTIVE, StatusChange.UNFREEZE, ACTIVE, Code.OK, "account.unfrozen.v1"),
    (ACTIVE, StatusChange.CLOSE, CLOSED, Code.OK, "account.closed.v1"),
    (FROZEN, StatusChange.FREEZE, FROZEN, Code.OK, "account.frozen.v1"),
    (FROZEN, StatusChange.UNFREEZE, ACTIVE, Code.OK, "account.unfrozen.v1"),
    (FROZEN, StatusChange.CLOSE, CLOSED, Code.OK, "account.closed.v1"),
    *((CLOSED, turn, CLOSED, Code.ACCOUNT_CLOSED, "command.refused.v1") for turn in StatusChange),
]
SAID: dict[StatusChange, InboundMessage] = {
    StatusChange.FREEZE: freeze("upstream", serial_no="S-1"),
    StatusChange.UNFREEZE: unfreeze("upstream", serial_no="S-1"),
    StatusChange.CLOSE: close("upstream", serial_no="S-1"),
}


def test_the_table_here_has_a_row_for_every_status_and_every_turn() -> None:
    assert len(TABLE) == len(ACCOUNT_TRANSITIONS)
    assert {(status, turn) for status, turn, *_ in TABLE} == set(ACCOUNT_TRANSITIONS)


@pytest.mark.parametrize(("status", "turn", "becomes", "code", "event"), TABLE)
def test_an_account_becomes_what_was_asked_for_unless_it_is_closed(
    status: AccountStatus, turn: StatusChange, becomes: AccountStatus, code: Code, event: str
) -> None:
    world = World()
    before = world.with_account(status)

    decision = world.tell_one(SAID[turn])

    assert decision.code is code
    assert [item["type"] for item in events(decision)] == [event]
    after = world.user()
    assert (after.account_no, after.status) == (before.account_no, becomes)
    if code is Code.OK:
        (notified,) = events(decision)
        (reply,) = replies(decision)
        assert reply["result"] == {"object": "account", **notified["data"]}
        assert (notified["data"]["status"], notified["data"]["account_no"]) == (becomes, after.account_no)
        assert after.updated_at == NOW
    else:
        assert after == before


def test_the_diagram_has_an_arrow_for_every_turn_that_leads_somewhere() -> None:
    lines = diagram().splitlines()

    assert lines[:2] == ["stateDiagram-v2", "    [*] --> active: account.open"]
    assert len(lines) == 2 + sum(to is not None for to in ACCOUNT_TRANSITIONS.values())


@pytest.mark.parametrize(
    ("balance_minor", "order_type", "code"),
    [
        (1, None, Code.BALANCE_NOT_ZERO),
        (10_000, OrderType.WITHDRAW, Code.BALANCE_NOT_ZERO),  # reserved, and waiting too
        (0, OrderType.RECHARGE, Code.ORDERS_PENDING),
        (0, None, Code.OK),
    ],
)
@pytest.mark.parametrize("status", [ACTIVE, FROZEN])
def test_only_what_is_empty_and_waits_for_nothing_is_closed(
    status: AccountStatus, balance_minor: int, order_type: OrderType | None, code: Code
) -> None:
    world = World()
    account = world.with_account(status, balance_minor=balance_minor)
    if order_type is not None:
        world.with_order(ORDER_SPECS[order_type].initial_status, account, order_type=order_type)

    assert world.tell_one(close()).code is code


def test_in_one_batch_an_account_is_closed_when_its_last_order_has_ended() -> None:
    world = World()
    world.tell(open_account())

    decisions = world.tell(
        recharge(),
        close(serial_no="X-1"),
        result(status="failed"),
        recharge(serial_no="R-2"),
        result(payment_order_no="R-2"),
        close(serial_no="X-2"),
        withdraw(),
        close(serial_no="X-3"),
        result(payment_order_no="W-1"),
        close(serial_no="X-4"),
        recharge(serial_no="R-3"),
        open_account(serial_no="O-2"),
        close(serial_no="X-5"),
        unfreeze(),
    )

    assert [decision.code for decision in decisions] == [
        Code.OK,
        Code.ORDERS_PENDING,
        Code.OK,
        Code.OK,
        Code.OK,
        Code.BALANCE_NOT_ZERO,
        Code.OK,
        Code.BALANCE_NOT_ZERO,
        Code.OK,
        Code.OK,
        Code.ACCOUNT_CLOSED,
        Code.OK,
        Code.OK,
        Code.ACCOUNT_CLOSED,
    ]


def test_an_account_that_is_opened_again_is_another_one() -> None:
    world = World()
    world.tell(open_account(), close())
    first = world.user()
    world.now += timedelta(days=1)

    world.tell(open_account(serial_no="O-2"), recharge())

    again = world.user()
    assert first.status is CLOSED
    assert (again.status, again.account_no == first.account_no) == (ACTIVE, False)
    assert world.orders["R-1"].account_id == again.account_id
    assert world.accounts[first.account_id] == first


def test_what_was_frozen_stays_frozen_when_money_arrives_and_pays_when_it_is_unfrozen() -> None:
    world = World()
    world.tell(open_account(), recharge())

    decisions = world.tell(freeze(), result(), withdraw(), unfreeze(), withdraw(serial_no="W-2"))

    assert [decision.code for decision in decisions] == [
        Code.OK,
        Code.OK,
        Code.ACCOUNT_FROZEN,
        Code.OK,
        Code.OK,
    ]
    assert (world.user().balance_minor, world.user().reserved_minor) == (10_000, 10_000)


def test_a_reason_is_for_a_person_and_says_nothing_to_the_wallet() -> None:
    world = World()
    world.with_account()

    decision = world.tell_one(freeze("upstream", reason="a" * 500))

    assert decision.code is Code.OK
    assert "reason" not in replies(decision)[0]["result"]
