"""Money that comes back: what stands, by the highest number; what the account makes of it; and what is told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from tests.rules.core.world import (
    NOW,
    SIGNED_AT_UNIX,
    World,
    capture,
    close,
    events,
    freeze,
    hold,
    open_account,
    recharge,
    refund,
    release,
    replies,
    result,
    reversal,
    told,
    transfer,
    withdraw,
)
from wallet_schemas.codes import Code
from wallet_schemas.values import OrderStatus, OrderType, ReversalStatus
from wallet_worker.core import debts
from wallet_worker.core.changes import Decision
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.debts import OwnOrders
from wallet_worker.core.endings import Ending
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds
from wallet_worker.core.ledger import BALANCE_MAX_MINOR, BalanceOverflowError
from wallet_worker.core.payment_results import PARK_DELAYS
from wallet_worker.core.reversals import MADE, REVERSAL, Recency, ReversalEffect

NUMBERS = (f"S-{number}" for number in range(1, 1_000_000))


def fresh() -> str:
    """Return a serial number of its own."""
    return next(NUMBERS)


def _world(*, paid: str = "100.00", spent: str | None = None) -> World:
    """Return a wallet in which u-1 was recharged by R-1, and has given u-2 what is spent."""
    world = World()
    world.tell(open_account(serial_no="O-1"), open_account(serial_no="O-2", user_id="u-2"))
    world.tell(recharge(amount=paid), result(amount=paid))
    if spent:
        world.tell(transfer(serial_no="T-1", user_id="u-1", to_user_id="u-2", amount=spent))
    world.outgoing.clear()
    world.now = NOW + timedelta(seconds=10)
    return world


def lines(world: World, user_id: str = "u-1") -> list[tuple[str, int, int]]:
    """Return the type, the change and the balance after of each line of a user."""
    account, orders = world.user(user_id), {order.order_id: order for order in world.orders.values()}
    return [
        (orders[entry.order_id].order_type.value, world.signed(entry), entry.balance_after_minor)
        for entry in world.entries
        if entry.account_id == account.account_id
    ]


def standing(world: World, user_id: str = "u-1") -> tuple[int, int, int]:
    """Return balance, reserve and debt of a user, in minor units."""
    account = world.user(user_id)
    return account.balance_minor, account.reserved_minor, account.debt_minor


# What the user sees (the table of the contract)


def test_a_dispute_on_money_already_spent_is_a_debt_that_the_next_money_pays() -> None:
    world = _world(spent="70.00")

    world.tell_one(reversal(status="opened", sequence=1))
    assert len(lines(world)) == 2
    world.tell_one(reversal(status="moved", sequence=2))
    assert standing(world) == (0, 0, 7_000)
    world.tell(recharge(serial_no="R-2", amount="50.00"), result(payment_order_no="R-2", amount="50.00"))
    assert standing(world) == (0, 0, 2_000)
    world.tell_one(reversal(status="dropped", sequence=3))

    assert standing(world) == (8_000, 0, 0)
    assert lines(world) == [
        ("recharge", 10_000, 10_000),
        ("transfer", -7_000, 3_000),
        ("advance", 7_000, 10_000),
        ("chargeback", -10_000, 0),
        ("recharge", 5_000, 5_000),
        ("repayment", -5_000, 0),
        ("chargeback_reversal", 10_000, 10_000),
        ("repayment", -2_000, 8_000),
    ]


def test_what_is_held_stays_held_and_the_debt_is_the_greater() -> None:
    world = _world(spent="70.00")
    world.tell(hold(serial_no="H-1", amount="30.00"))

    world.tell_one(reversal())

    assert standing(world) == (3_000, 3_000, 10_000)
    world.tell(capture(serial_no="C-1", hold_serial_no="H-1", amount="10.00", to_user_id="u-2"))
    assert standing(world) == (2_000, 2_000, 10_000)
    world.tell(release(serial_no="L-1", hold_serial_no="H-1"))
    assert standing(world) == (0, 0, 8_000)


@pytest.mark.parametrize("owes_before", [False, True])
def test_a_reserve_that_returns_pays_the_debt(*, owes_before: bool) -> None:
    world = _world(spent="40.00")
    world.tell(withdraw(serial_no="W-1", amount="60.00"))
    arrived = [reversal(), result(payment_order_no="W-1", amount="60.00", status="failed")]

    for message in arrived if owes_before else arrived[::-1]:
        world.tell_one(message)

    assert standing(world) == (0, 0, 4_000)


def test_a_hold_that_is_over_pays_the_debt() -> None:
    world = _world()
    world.tell(hold(serial_no="H-1", amount="100.00", expires_in_seconds=60))
    world.tell_one(reversal(amount="30.00"))
    assert standing(world) == (10_000, 10_000, 3_000)

    world.sweep(world.now + timedelta(seconds=61))

    assert standing(world) == (7_000, 0, 0)


def test_a_transfer_to_somebody_who_owes_pays_the_debt() -> None:
    world = _world(spent="100.00")
    world.tell_one(reversal())

    decision = world.tell_one(transfer(serial_no="T-2", user_id="u-2", to_user_id="u-1", amount="30.00"))

    assert standing(world) == (0, 0, 7_000)
    assert [(event["type"], event["serial_no"] == "T-2") for event in events(decision)] == [
        ("order.succeeded.v1", True),
        ("order.succeeded.v1", False),
        ("account.debt_changed.v1", False),
    ]
    assert [event["data"].get("original_serial_no") for event in events(decision)[:2]] == [None, "T-2"]


@pytest.mark.parametrize("ask", [withdraw, hold])
def test_whoever_owes_has_nothing_to_spend(ask: Any) -> None:
    world = _world(spent="100.00")
    world.tell_one(reversal())

    assert world.tell_one(ask(serial_no="S-x", amount="0.01")).code is Code.INSUFFICIENT_BALANCE
    assert world.tell_one(close(serial_no="S-y")).code is Code.BALANCE_NOT_ZERO


def test_a_frozen_account_is_charged_and_credited_like_an_active_one() -> None:
    world = _world(spent="70.00")
    world.tell(freeze(serial_no="S-f"))

    world.tell_one(reversal())
    assert standing(world) == (0, 0, 7_000)
    world.tell_one(reversal(sequence=2, status="dropped"))

    assert standing(world) == (3_000, 0, 0)


# Closed accounts


def _closed() -> World:
    world = _world(spent="100.00")
    assert world.tell_one(close(serial_no="S-close")).code is Code.OK
    return world


def test_a_closed_account_may_owe_and_is_then_not_opened_again() -> None:
    world = _closed()

    world.tell_one(reversal())

    assert standing(world) == (0, 0, 10_000)
    assert [kind for kind, *_ in lines(world)][-2:] == ["advance", "chargeback"]
    assert world.tell_one(open_account(serial_no="O-3")).code is Code.DEBT_OUTSTANDING
    world.tell_one(reversal(sequence=2, status="dropped"))
    assert standing(world) == (0, 0, 0)
    assert world.tell_one(open_account(serial_no="O-4")).code is Code.OK


def test_a_closed_account_is_credited_only_with_what_it_owes() -> None:
    world = _world(paid="200.00", spent="50.00")
    world.tell_one(reversal(amount="80.00"))  # while something is there
    world.tell(transfer(serial_no="T-2", user_id="u-1", to_user_id="u-2", amount="70.00"))
    assert world.tell_one(close(serial_no="S-close")).code is Code.OK
    world.tell_one(reversal(reversal_ref="dp-2", amount="40.00"))
    before = standing(world)
    assert before == (0, 0, 4_000)

    decision = world.tell_one(reversal("gateway", sequence=2, status="dropped", amount="80.00"))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.ACCOUNT_CLOSED)
    assert standing(world) == before
    assert world.tell_one(reversal(sequence=3, status="moved", amount="40.00")).ending is Ending.APPLIED
    assert standing(world) == (0, 0, 0)


@pytest.mark.parametrize(("owes", "code"), [("100.00", Code.OK), ("60.00", Code.ACCOUNT_CLOSED)])
def test_a_late_success_reaches_a_closed_account_only_into_its_debt(owes: str, code: Code) -> None:
    world = _world(spent="100.00")
    world.tell(recharge(serial_no="R-late"), result(payment_order_no="R-late", status="failed"))
    world.tell(close(serial_no="S-close"))
    world.tell_one(reversal(amount=owes))

    decision = world.tell_one(result(payment_order_no="R-late"))

    assert decision.code is code
    assert standing(world) == (0, 0, 0 if code is Code.OK else 6_000)


# T5: one message, the highest number


STORY: list[dict[str, Any]] = [
    {"sequence": 1, "status": "opened"},
    {"sequence": 2, "status": "moved"},
    {"sequence": 4, "status": "moved", "amount": "60.00"},
    {"sequence": 7, "status": "settled", "amount": "60.00"},
]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_highest_number_counts_in_whatever_order_and_however_often(order: tuple[int, ...]) -> None:
    world = _world(spent="70.00")

    for index in [*order, *order]:
        decision = world.tell_one(reversal(**STORY[index]))
        assert decision.ending in {Ending.APPLIED, Ending.REPEATED}

    assert standing(world) == (0, 0, 3_000)
    (stored,) = world.reversals["R-1"].values()
    assert (stored.status, stored.sequence, stored.moved_minor) == (ReversalStatus.SETTLED, 7, 6_000)


def test_a_dispute_that_was_dropped_before_its_first_message_came_makes_no_line() -> None:
    world = _world()

    world.tell_one(reversal(sequence=3, status="dropped"))
    assert world.tell_one(reversal(sequence=2, status="moved")).ending is Ending.REPEATED

    assert len(lines(world)) == 1


def test_lost_and_won_the_next_day() -> None:
    world = _world()

    world.tell_one(reversal(sequence=1, status="settled"))
    assert standing(world) == (0, 0, 0)
    world.tell_one(reversal(sequence=2, status="dropped"))

    assert standing(world) == (10_000, 0, 0)


def test_the_same_number_with_other_content_contradicts() -> None:
    world = _world()
    world.tell_one(reversal(sequence=2))

    decision = world.tell_one(reversal("gateway", sequence=2, amount="99.00"))

    assert (decision.ending, decision.code) == (Ending.REJECTED, Code.CONTRADICTING_RESULT)
    assert replies(decision) == [
        {
            "type": "payment.processed.v1",
            "payment_order_no": "R-1",
            "reversal_ref": "dp-1",
            "processing_status": "refused",
            "code": "CONTRADICTING_RESULT",
        }
    ]
    assert standing(world) == (0, 0, 0)


def test_a_kind_that_is_another_than_at_first_contradicts() -> None:
    world = _world()
    world.tell_one(reversal(sequence=1))

    assert world.tell_one(reversal(sequence=2, kind="recall")).code is Code.CONTRADICTING_RESULT


def test_the_table_answers_for_every_state() -> None:
    assert {recency for _, recency in REVERSAL} == set(Recency)
    assert all(REVERSAL[status, Recency.HIGHER] is ReversalEffect.APPLY for status in (None, *ReversalStatus))
    assert set(MADE) == {OrderType.RECHARGE, OrderType.WITHDRAW, OrderType.REFUND}


# What is told


def test_a_dispute_tells_its_orders_the_debt_and_itself_in_this_order() -> None:
    world = _world(spent="70.00")

    decision = world.tell_one(reversal("gateway", reason_code="10.4", respond_by="2026-02-01T00:00:00Z"))

    advance, chargeback, debt, moved = events(decision)
    assert [event["type"] for event in (advance, chargeback, debt, moved)] == [
        "order.succeeded.v1",
        "order.succeeded.v1",
        "account.debt_changed.v1",
        "reversal.moved.v1",
    ]
    for event, kind, amount in ((advance, "advance", "70.00"), (chargeback, "chargeback", "100.00")):
        data = event["data"]
        assert (data["order_type"], data["amount"], data["status"], data["code"]) == (
            kind,
            amount,
            "succeeded",
            "OK",
        )
        assert (data["original_serial_no"], data["reversal_ref"]) == ("R-1", "dp-1")
        assert event["serial_no"] == data["serial_no"]
        assert len(data["entries"]) == 1
    assert (debt["serial_no"], debt["data"]["debt"]) == (advance["serial_no"], "70.00")
    assert (debt["data"]["balance"], debt["data"]["available"]) == ("100.00", "100.00")
    (stored,) = world.reversals["R-1"].values()
    assert moved["serial_no"] == "R-1"
    assert moved["data"] == {
        "reversal_id": str(stored.reversal_id),
        "serial_no": "R-1",
        "order_type": "recharge",
        "user_id": "u-1",
        "account_no": world.user().account_no,
        "reversal_ref": "dp-1",
        "kind": "dispute",
        "status": "moved",
        "sequence": 1,
        "amount": "100.00",
        "moved_amount": "100.00",
        "currency": "TWD",
        "created_at": "2026-01-02T03:04:15.000006Z",
        "updated_at": "2026-01-02T03:04:15.000006Z",
        "reason_code": "10.4",
        "respond_by": "2026-02-01T00:00:00.000000Z",
    }
    assert replies(decision)[0]["processing_status"] == "processed"
    ids = [json.loads(out.body).get("event_id") for out in decision.outgoing]
    assert len(set(ids)) == len(ids)


def test_a_status_is_told_also_where_nothing_moves_and_a_repeat_tells_nothing() -> None:
    world = _world()

    first = world.tell_one(reversal(sequence=1))
    again = world.tell_one(reversal(sequence=1))
    settled = world.tell_one(reversal(sequence=2, status="settled"))
    same = world.tell_one(reversal(sequence=3, status="settled"))

    assert [event["type"] for event in events(first)] == ["order.succeeded.v1", "reversal.moved.v1"]
    assert events(again) == events(same) == []
    assert [event["type"] for event in events(settled)] == ["reversal.settled.v1"]
    assert same.ending is Ending.APPLIED


def test_a_debt_that_is_paid_is_told_as_nought() -> None:
    world = _world(spent="100.00")
    world.tell_one(reversal())

    decision = world.tell_one(reversal(sequence=2, status="dropped"))

    (debt,) = [event for event in events(decision) if event["type"] == "account.debt_changed.v1"]
    assert debt["data"]["debt"] == "0.00"
    (repayment,) = [e for e in events(decision) if e["data"].get("order_type") == "repayment"]
    assert debt["serial_no"] == repayment["serial_no"]


def test_the_orders_that_the_wallet_makes_have_commands_of_their_own() -> None:
    world = _world()

    world.tell_one(reversal())

    (made,) = [order for order in world.orders.values() if order.order_type is OrderType.CHARGEBACK]
    command = world.commands[made.serial_no]
    assert command.command_type == "wallet.order.v1"
    assert json.loads(command.content) == {
        "type": "wallet.order.v1",
        "serial_no": made.serial_no,
        "order_type": "chargeback",
        "account_no": world.user().account_no,
        "amount": "100.00",
        "currency": "TWD",
        "original_serial_no": "R-1",
        "reversal_ref": "dp-1",
    }
    assert json.loads(command.result)["order_type"] == "chargeback"
    assert world.tell_one(recharge("upstream", serial_no=made.serial_no)).code is Code.SERIAL_CONFLICT


# What comes before what it speaks of


def _waiting(world: World, message: Any) -> list[tuple[Ending, Code]]:
    """Return how a message ends, and how it ends each time that it is looked at again."""
    decision: Decision = world.tell_one(message)
    found = [(decision.ending, decision.code)]
    for delay in PARK_DELAYS:
        found += [(swept.ending, swept.code) for swept in world.sweep(world.now + delay)]
    return found


def test_a_reversal_before_its_order_waits_and_is_given_up_in_the_end() -> None:
    world = World()

    ended = _waiting(world, reversal())

    assert ended == [(Ending.PARKED, Code.ORDER_NOT_FOUND)] * 3 + [(Ending.REJECTED, Code.ORDER_NOT_FOUND)]


def test_a_reversal_before_the_success_waits_for_it() -> None:
    world = World()
    world.tell(open_account(), recharge())

    assert world.tell_one(reversal()).ending is Ending.PARKED
    world.tell_one(result())
    world.sweep(world.now + PARK_DELAYS[0])

    assert lines(world) == [("recharge", 10_000, 10_000), ("chargeback", -10_000, 0)]


@pytest.mark.parametrize(
    ("status", "waits"), [("failed", False), ("unknown", True)], ids=["it failed", "it is pending"]
)
def test_a_return_of_a_payout_waits_only_while_the_payout_may_succeed(status: str, *, waits: bool) -> None:
    world = _world()
    world.tell(withdraw(serial_no="W-1"), result(payment_order_no="W-1", status=status))

    decision = world.tell_one(reversal(payment_order_no="W-1", kind="return"))

    assert decision.ending is (Ending.PARKED if waits else Ending.REJECTED)
    assert decision.code is Code.ORDER_NOT_REVERSIBLE


def test_a_reversal_of_a_recharge_that_failed_waits_because_its_money_may_still_come() -> None:
    world = World()
    world.tell(open_account(), recharge(), result(status="failed"))

    ended = _waiting(world, reversal())

    assert ended[-1] == (Ending.REJECTED, Code.ORDER_NOT_REVERSIBLE)
    assert [ending for ending, _ in ended[:-1]] == [Ending.PARKED] * 3


# Bounds


def test_an_order_has_a_hundred_reversals_at_most() -> None:
    world = _world()

    for number in range(100):
        assert world.tell_one(reversal(status="opened", reversal_ref=f"dp-{number}")).ending is Ending.APPLIED

    assert world.tell_one(reversal(status="opened", reversal_ref="dp-x")).code is Code.ORDER_NOT_REVERSIBLE
    assert world.tell_one(reversal(sequence=2, reversal_ref="dp-7")).ending is Ending.APPLIED


def test_an_order_that_is_made_paid_spent_and_disputed_in_one_batch() -> None:
    world = World()

    decisions = world.tell(
        open_account(),
        open_account(serial_no="O-2", user_id="u-2"),
        recharge(),
        result(),
        transfer(amount="70"),
        reversal(),
    )

    assert [decision.ending for decision in decisions] == [Ending.APPLIED] * 6
    assert (world.user().balance_minor, world.user().debt_minor) == (0, 7_000)


def test_all_reversals_together_stand_up_to_what_came() -> None:
    world = _world()
    world.tell_one(reversal(amount="60.00"))

    decision = world.tell_one(reversal(reversal_ref="dp-2", amount="40.01"))

    assert decision.code is Code.AMOUNT_EXCEEDS_ORIGINAL
    assert world.tell_one(reversal(reversal_ref="dp-2", amount="40.00")).ending is Ending.APPLIED
    assert standing(world) == (0, 0, 0)


def test_a_debt_that_would_leave_64_bits_moves_nothing() -> None:
    world = _world(spent="100.00")
    account = world.user()
    facts = world.facts(reversal())
    facts.accounts[account.account_id] = replace(account, debt_minor=BALANCE_MAX_MINOR - 1)
    own = OwnOrders(facts, _context(world))

    with pytest.raises(BalanceOverflowError):
        debts.charge(own, OrderType.CHARGEBACK, account.account_id, 2, "R-1")


def _context(world: World) -> DecisionContext:
    return DecisionContext(world.rules, reversal(), FreshIds(b"\1" * ENTROPY_BYTES), world.now)


# Written off


def _write_off(world: World, amount_minor: int) -> None:
    """Do to the books what operators' write-off does."""
    own = OwnOrders(world.facts(reversal()), _context(world))
    debts.write_off(own, world.user().account_id, amount_minor)
    world.do(
        Decision(
            Ending.APPLIED,
            orders=tuple(own.orders),
            postings=tuple(own.postings),
            own_commands=tuple(own.commands),
            outgoing=own.outgoing,
        )
    )


def test_a_dispute_won_after_its_debt_was_written_off_makes_the_loss_good_first() -> None:
    world = _world(spent="70.00")
    world.tell_one(reversal(sequence=1))
    world.tell(recharge(serial_no="R-2", amount="50.00"), result(payment_order_no="R-2", amount="50.00"))
    _write_off(world, 2_000)
    assert standing(world) == (0, 0, 0)

    world.tell_one(reversal(sequence=2, status="dropped"))

    assert standing(world) == (8_000, 0, 0)
    assert [kind for kind, *_ in lines(world)][-2:] == ["chargeback_reversal", "write_off_recovery"]


# Keys


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        ({"kinds": frozenset({"result"})}, Code.KEY_NOT_ALLOWED),
        ({"kinds": frozenset({"reversal"})}, Code.OK),
        ({"channels": frozenset({"line_pay"})}, Code.KEY_NOT_ALLOWED),
        ({"at_unix": 0}, Code.KEY_NOT_ALLOWED),
    ],
)
def test_a_key_speaks_of_its_kinds_and_channels_only(signed: dict[str, Any], code: Code) -> None:
    from tests.workers import KEYS
    from wallet_schemas.signature import Signed
    from wallet_worker.core.decide import decide
    from wallet_worker.core.inbound import read

    world = _world()
    arrived = reversal()
    message = read(arrived, KEYS)
    message.sign(Signed("k", **{"at_unix": SIGNED_AT_UNIX, **signed}))  # type: ignore[union-attr]

    decision = decide(message, world.facts(arrived), _context(world))

    assert decision.code is code
    assert told(decision) is not None


# Returns of payouts and refunds (T7)


def _paid_out() -> Iterator[tuple[str, Any]]:
    yield "W-1", withdraw(serial_no="W-1", amount="60.00")
    yield "F-1", refund(serial_no="F-1", original_serial_no="R-1", amount="60.00")


@pytest.mark.parametrize(("number", "ask"), list(_paid_out()), ids=["withdrawal", "refund"])
def test_a_payout_that_comes_back_is_credited_and_debited_again_when_that_is_undone(
    number: str, ask: Any
) -> None:
    world = _world()
    world.tell(ask, result(payment_order_no=number, amount="60.00"))
    back: dict[str, Any] = {"payment_order_no": number, "kind": "return", "amount": "60.00"}

    world.tell_one(reversal(**back, status="settled"))
    assert standing(world) == (10_000, 0, 0)
    world.tell(transfer(serial_no="T-1", user_id="u-1", to_user_id="u-2", amount="90.00"))
    world.tell_one(reversal(**back, status="dropped", sequence=2))

    assert standing(world) == (0, 0, 5_000)
    assert [kind for kind, *_ in lines(world)][-4:] == [
        "payout_return",
        "transfer",
        "advance",
        "payout_return_reversal",
    ]
    assert world.orders[number].status is OrderStatus.SUCCEEDED


def test_what_of_a_refund_was_returned_can_be_refunded_again() -> None:
    world = _world()
    world.tell(
        refund(serial_no="F-1", original_serial_no="R-1", amount="60.00"),
        result(payment_order_no="F-1", amount="60.00"),
    )
    assert world.tell_one(refund(serial_no=fresh(), original_serial_no="R-1", amount="60.00")).code is (
        Code.AMOUNT_EXCEEDS_ORIGINAL
    )

    decided = world.tell(
        reversal(payment_order_no="F-1", kind="return", amount="60.00", status="settled"),
        refund(serial_no="F-3", original_serial_no="R-1", amount="100.00"),
    )

    assert [decision.code for decision in decided] == [Code.OK, Code.OK]


@pytest.mark.parametrize(
    ("status", "most"), [("opened", "40.00"), ("moved", "10.00"), ("settled", "10.00"), ("dropped", "40.00")]
)
@pytest.mark.parametrize("in_one_batch", [False, True])
def test_a_refund_may_be_up_to_what_neither_refunds_nor_reversals_gave_back(
    status: str, most: str, *, in_one_batch: bool
) -> None:
    world = _world()
    world.tell(
        recharge(serial_no="R-more", amount="500.00"), result(payment_order_no="R-more", amount="500.00")
    )
    over = f"{float(most) + 0.01:.2f}"
    arrived = [
        refund(serial_no="F-1", original_serial_no="R-1", amount="60.00"),
        reversal(status=status, amount="30.00"),
        refund(serial_no="F-over", original_serial_no="R-1", amount=over),
        refund(serial_no="F-most", original_serial_no="R-1", amount=most),
    ]

    decided = world.tell(*arrived) if in_one_batch else world.tell_each(*arrived)

    assert [decision.code for decision in decided] == [
        Code.OK,
        Code.OK,
        Code.AMOUNT_EXCEEDS_ORIGINAL,
        Code.OK,
    ]


def test_a_reversal_after_a_refund_says_that_more_was_given_back_than_came() -> None:
    world = _world()
    world.tell(
        refund(serial_no="F-1", original_serial_no="R-1", amount="60.00"),
        result(payment_order_no="F-1", amount="60.00"),
    )

    within, over, less = (
        world.tell_one(reversal(sequence=number, amount=amount))
        for number, amount in ((1, "40.00"), (2, "40.01"), (3, "40.00"))
    )

    assert [events(decision)[-1]["data"].get("over_returned") for decision in (within, over, less)] == [
        None,
        True,
        None,
    ]
