"""What is true whatever arrives, in whatever order, however often, and whatever the clock says."""

import json
from collections import defaultdict
from copy import deepcopy
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from tests.rules.core.mixtures import BEFORE, BEFORE_SERIAL_NOS, LIMITED, MOMENTS, RULES, UNHURRIED, mixtures
from tests.rules.core.world import (
    NOW,
    World,
    close,
    hold,
    open_account,
    recharge,
    release,
    result,
    reversal,
    transfer,
)
from tests.workers import KEYS
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core.context import DecisionContext, Policy
from wallet_worker.core.debts import OWN_ORDER
from wallet_worker.core.decide import decide
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds
from wallet_worker.core.inbound import InboundMessage, InvalidMessage, read
from wallet_worker.core.orders import ORDER_SPECS

SAID = st.sampled_from(["succeeded", "failed", "unknown"])
# PostgreSQL's clock as a machine may set it, an hour or a year off.
CLOCKS = st.datetimes(
    min_value=datetime(2025, 1, 1),  # noqa: DTZ001 - Hypothesis wants them naive
    max_value=datetime(2027, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def _world(rules: Policy | None = None, now: datetime = NOW) -> World:
    world = World(rules=rules or Policy(), now=now)
    world.tell(*BEFORE)
    return world


@UNHURRIED
@given(arrived=mixtures(with_ticks=True), rules=RULES, moments=st.sets(st.sampled_from(MOMENTS), max_size=3))
@example(
    [
        recharge(serial_no="S-1", user_id="u-hot"),
        result(payment_order_no="S-1"),
        open_account(currency="XYZ"),
    ],
    Policy(),
    set(),
)
@example([open_account(serial_no="S-1", currency="XYZ"), result(payment_order_no="S-1")], Policy(), set())
@example(
    [hold(serial_no="S-1", user_id="u-hot"), release(serial_no="S-2", hold_serial_no="S-1")],
    LIMITED,
    set(MOMENTS),
)
@example(
    [open_account(serial_no="S-1", user_id="u-2"), close(serial_no="S-2", user_id="u-2")], Policy(), set()
)
def test_a_batch_equals_the_same_messages_one_by_one(
    arrived: list[InboundMessage], rules: Policy, moments: set[timedelta]
) -> None:
    at_once, one_by_one = _world(rules), _world(rules)

    decided = at_once.tell(*arrived)

    assert decided == one_by_one.tell_each(*arrived)
    assert at_once == one_by_one
    for moment in sorted(moments):
        swept = at_once.sweep(NOW + moment)
        assert swept == one_by_one.sweep(NOW + moment, one_by_one=True)
        assert at_once == one_by_one


@UNHURRIED
@given(arrived=mixtures(with_ticks=True), rules=RULES, data=st.data())
def test_it_does_not_matter_where_batches_are_cut(
    arrived: list[InboundMessage], rules: Policy, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(arrived)), max_size=5)))
    at_once, in_parts = _world(rules), _world(rules)

    at_once.tell(*arrived)
    for start, end in zip([0, *cuts], [*cuts, len(arrived)], strict=True):
        in_parts.tell(*arrived[start:end])

    assert at_once == in_parts


@UNHURRIED
@given(arrived=mixtures(), moment=st.sampled_from(MOMENTS), rules=RULES)
def test_a_serial_number_has_one_outcome_for_ever(
    arrived: list[InboundMessage], moment: timedelta, rules: Policy
) -> None:
    world = _world(rules)
    heard = [InboundMessage(item.source, item.body, "upstream", signature=item.signature) for item in arrived]

    world.tell(*heard)
    world.sweep(NOW + moment)
    world.tell(*heard)

    outcomes: defaultdict[str, list[tuple[bool, str]]] = defaultdict(list)
    for out in world.outgoing:
        body = json.loads(out.body)
        if body["type"] == "command.outcome.v1" and not body.keys() & {"different", "faults"}:
            duplicate = body.pop("duplicate")
            outcomes[body["serial_no"]].append((duplicate, json.dumps(body, sort_keys=True)))
    for repeats in outcomes.values():
        assert len({body for _, body in repeats}) == 1
        assert [duplicate for duplicate, _ in repeats] == [False] + [True] * (len(repeats) - 1)
    asked_for = {number for number, command in world.commands.items() if command.command_type != OWN_ORDER}
    assert outcomes.keys() == asked_for - BEFORE_SERIAL_NOS


@UNHURRIED
@given(arrived=mixtures(), rules=RULES)
def test_everything_a_second_time_moves_nothing(arrived: list[InboundMessage], rules: Policy) -> None:
    world = _world(rules)
    world.tell(*arrived)
    # What came before its order is applied now, and not when it is repeated.
    world.sweep(NOW)
    before = (dict(world.orders), dict(world.accounts), dict(world.commands), list(world.entries))

    repeated = [item for item in arrived if not any(item.body == waiting.body for waiting, _ in world.parked)]
    world.tell(*repeated)

    assert (world.orders, world.accounts, world.commands, world.entries) == before


@UNHURRIED
@given(
    status=st.sampled_from(sorted(ORDER_SPECS[OrderType.RECHARGE].statuses)),
    answer=st.lists(SAID, max_size=6),
    repeated=st.lists(st.integers(0, 5), max_size=6),
    data=st.data(),
)
def test_any_order_and_repetition_of_results_ends_in_the_same_ledger(
    status: OrderStatus, answer: list[str], repeated: list[int], data: st.DataObject
) -> None:
    again = [answer[place % len(answer)] for place in repeated] if answer else []
    shuffled = data.draw(st.permutations(answer + again))
    worlds = []
    for results in (answer, shuffled):
        world = World()
        world.with_order(status, world.with_account())
        world.tell(*(result(status=item) for item in results))
        worlds.append(world)

    first, other = worlds

    assert first.orders["R-1"].status == other.orders["R-1"].status == _end(status, answer)
    assert first.user().balance_minor == other.user().balance_minor
    assert {account.balance_minor for account in first.accounts.values()} == {
        account.balance_minor for account in other.accounts.values()
    }
    moved = status is not OrderStatus.SUCCEEDED and "succeeded" in answer
    assert len(first.entries) == len(other.entries) == (2 if moved else 0)


@UNHURRIED
@given(
    order_type=st.sampled_from([OrderType.WITHDRAW, OrderType.REFUND]),
    status=st.sampled_from(sorted(ORDER_SPECS[OrderType.WITHDRAW].statuses)),
    answer=st.lists(SAID, max_size=6),
    repeated=st.lists(st.integers(0, 5), max_size=6),
    data=st.data(),
)
def test_the_first_thing_that_is_said_of_a_payout_counts_whatever_comes_before_and_after(
    order_type: OrderType, status: OrderStatus, answer: list[str], repeated: list[int], data: st.DataObject
) -> None:
    """A second, different result contradicts: only the first that says anything is asked to stay the first."""
    first = next((place for place, each in enumerate(answer) if each != "unknown"), None)
    again = [answer[place % len(answer)] for place in repeated] if answer else []
    others = answer + again
    if first is not None:
        others = [*others[:first], *others[first + 1 :]]
    shuffled: list[str] = data.draw(st.permutations(others))
    if first is not None:
        unknown = data.draw(st.integers(0, shuffled.count("unknown")))
        shuffled = ["unknown"] * unknown + [answer[first]] + shuffled
    worlds = []
    for results in (answer, shuffled):
        world = World()
        account = world.with_account(balance_minor=50_000)
        world.with_order(OrderStatus.SUCCEEDED, account, "R-1", "500.00")
        about = "R-1" if order_type is OrderType.REFUND else None
        world.with_order(status, account, "W-1", order_type=order_type, about=about)
        world.tell(*(result(payment_order_no="W-1", status=item) for item in results))
        worlds.append(world)

    ended = status
    if status is OrderStatus.PENDING and first is not None:
        ended = OrderStatus(answer[first])
    moved = status is OrderStatus.PENDING and ended is OrderStatus.SUCCEEDED
    for world in worlds:
        assert world.orders["W-1"].status is ended
        assert world.user().balance_minor == 50_000 - 10_000 * moved
        assert world.user().reserved_minor == 10_000 * (ended is OrderStatus.PENDING)
        assert len(world.entries) == 2 * moved


@UNHURRIED
@given(arrived=mixtures(), again=st.lists(st.sampled_from(MOMENTS), min_size=1, max_size=4))
def test_what_the_time_has_done_it_does_not_do_again(
    arrived: list[InboundMessage], again: list[timedelta]
) -> None:
    world = _world()
    world.tell(*arrived)
    for moment in sorted(again):
        world.sweep(NOW + moment)

        assert world.sweep(NOW + moment) == []


def _end(status: OrderStatus, answer: list[str]) -> OrderStatus:
    """Return where an order ends, by the contract: money that arrived counts, whatever else was said."""
    if "succeeded" in answer:
        return OrderStatus.SUCCEEDED
    if status is OrderStatus.PENDING and "failed" in answer:
        return OrderStatus.FAILED
    return status


@UNHURRIED
@given(
    notified=st.lists(st.tuples(st.sampled_from(["S-1", "S-2", "S-3"]), SAID), max_size=12), data=st.data()
)
def test_results_of_several_orders_of_one_account_can_come_in_any_order(
    notified: list[tuple[str, str]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(notified))
    worlds = []
    for results in (notified, shuffled):
        world = _world()
        for number, amount in (("S-1", "1"), ("S-2", "20"), ("S-3", "300")):
            world.tell(recharge(serial_no=number, user_id="u-hot", amount=amount))
        world.tell(
            *(
                result(
                    payment_order_no=number,
                    status=answer,
                    amount={"S-1": "1", "S-2": "20", "S-3": "300"}[number],
                )
                for number, answer in results
            )
        )
        worlds.append(world)

    first, other = worlds

    assert first.user("u-hot").balance_minor == other.user("u-hot").balance_minor
    assert {key: order.status for key, order in first.orders.items()} == {
        key: order.status for key, order in other.orders.items()
    }
    amounts = [sorted(entry.amount_minor for entry in world.entries) for world in worlds]
    assert amounts[0] == amounts[1]


@UNHURRIED
@given(batches=st.lists(st.tuples(CLOCKS, mixtures(max_size=8)), min_size=1, max_size=6))
def test_times_never_run_backwards_whatever_the_clock_does(
    batches: list[tuple[datetime, list[InboundMessage]]],
) -> None:
    world = _world()
    for now, arrived in batches:
        before = dict(world.orders), dict(world.accounts)

        world.sweep(now)
        world.tell(*arrived)  # World.check looks at the lines of each account

        for number, order in world.orders.items():
            was = before[0].get(number)
            assert was is None or was.updated_at <= order.updated_at
            assert order.created_at <= order.updated_at
            assert order.transacted_at is None or order.created_at <= order.transacted_at <= order.updated_at
        for account_id, account in world.accounts.items():
            held = before[1].get(account_id)
            assert held is None or held.updated_at <= account.updated_at


@UNHURRIED
@given(clocks=st.lists(CLOCKS, min_size=2, max_size=2), arrived=mixtures(max_size=12))
def test_the_clock_decides_nothing(clocks: list[datetime], arrived: list[InboundMessage]) -> None:
    endings = []
    for now in clocks:
        world = _world(now=now)
        endings.append([(item.ending, item.code) for item in world.tell(*arrived)])

    assert endings[0] == endings[1]


@UNHURRIED
@given(before=mixtures(), arrived=mixtures(max_size=1, with_ticks=True))
def test_deciding_changes_nothing_and_always_says_the_same(
    before: list[InboundMessage], arrived: list[InboundMessage]
) -> None:
    world = _world(LIMITED)
    world.tell(*before)
    message = read(arrived[0], KEYS)
    facts = world._load([] if isinstance(message, InvalidMessage) else [message])
    untouched = deepcopy(facts)
    circumstances = DecisionContext(world.rules, arrived[0], FreshIds(bytes(ENTROPY_BYTES), 9_999), NOW)

    decided = decide(message, facts, circumstances)

    assert facts == untouched
    assert decide(message, facts, circumstances) == decided


@UNHURRIED
@given(
    told=st.lists(
        st.tuples(
            st.sampled_from(["dp-1", "dp-2"]),
            st.integers(1, 9),
            st.sampled_from(["opened", "moved", "dropped", "settled"]),
            st.sampled_from(["20", "50"]),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda reversal: reversal[:2],
    ),
    spent=st.sampled_from(["1", "60", "100"]),
    more=st.sampled_from(["30", "200"]),
    data=st.data(),
)
def test_balance_less_debt_does_not_depend_on_the_order_of_what_happens(
    told: list[tuple[str, int, str, str]], spent: str, more: str, data: st.DataObject
) -> None:
    """Of each dispute the highest number stands; what it took is gone, or owed, whatever came in between."""
    happened = [
        *(
            reversal(payment_order_no="R-1", reversal_ref=ref, sequence=number, status=status, amount=amount)
            for ref, number, status, amount in told
        ),
        *(reversal(payment_order_no="R-1", reversal_ref=told[0][0], sequence=10, status="opened"),),
        result(payment_order_no="R-2", amount=more),
    ]
    worlds = []
    for arrived in (happened, data.draw(st.permutations(happened * 2))):
        world = World()
        world.tell(
            open_account(serial_no="O-1"),
            open_account(serial_no="O-2", user_id="u-2"),
            recharge(serial_no="R-1"),
            result(payment_order_no="R-1"),
            recharge(serial_no="R-2", amount=more),
            transfer(serial_no="T-1", user_id="u-1", to_user_id="u-2", amount=spent),
        )
        world.tell_each(*arrived)
        worlds.append(world)

    standing = [
        (account.balance_minor - account.debt_minor, account.debt_minor)
        for account in (world.user("u-1") for world in worlds)
    ]
    highest: dict[str, tuple[int, int]] = {}
    for ref, number, status, amount in told:
        stands = int(amount) * 100 if status in {"moved", "settled"} else 0
        highest[ref] = max(highest.get(ref, (0, 0)), (number, stands))
    highest[told[0][0]] = (10, 0)
    taken = sum(stands for _, stands in highest.values())
    left = 10_000 - int(spent) * 100 + int(more) * 100 - taken
    assert standing == [(left, max(0, -left))] * 2
