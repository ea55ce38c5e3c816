"""Letters are grouped, filtered and listed; pages and actions keep to what was seen."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.dead_letters.conftest import OTTO, Desk
from tests.dead_letters.letters import arrived, headers
from tests.journeys.messages import open_account, recharge, result
from wallet_worker.dead_letters import runbook
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action, LetterState
from wallet_worker.dead_letters.reasons import REASONS


@pytest.mark.need(5)
async def test_groups_have_counts_times_and_arrivals(desk: Desk) -> None:
    await desk.take_in(
        *(arrived(recharge("user-1")) for _ in range(3)), arrived(b"x", headers("MALFORMED", "x"))
    )

    groups = await desk.operations.groups(OTTO, Filter(), span=timedelta(hours=1), buckets=4)

    assert [(group.reason, group.source, group.count, group.waiting) for group in groups] == [
        ("INTERNAL", "wallet.commands", 3, 3),
        ("MALFORMED", "wallet.commands", 1, 1),
    ]
    assert groups[0].series == (0, 0, 0, 3)
    assert groups[0].first_seen <= groups[0].last_seen


@pytest.mark.need(5)
async def test_an_action_on_a_group_leaves_alone_what_came_later(desk: Desk) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
    (group,) = await desk.operations.groups(OTTO, Filter())
    plan = await desk.operations.plan(OTTO, Action.REPLAY, group.seen, reason="a test")
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(2)))

    operation = await desk.operations.execute(OTTO, plan.token)

    assert operation.total == 3
    states = await desk.owner.fetch("SELECT state FROM dead_letters ORDER BY letter_id")
    assert [row["state"] for row in states] == ["replaying"] * 3 + ["waiting"] * 2


@pytest.mark.need(6)
async def test_letters_are_found_by_everything_that_they_have(desk: Desk) -> None:
    await desk.take_in(
        arrived(recharge("user-1", serial_no="R-1")),
        arrived(open_account("user-2", serial_no="O-1"), headers("SERIAL_CONFLICT", "x")),
        arrived(result("R-3"), headers("AMOUNT_MISMATCH", "x", source="payment.results")),
    )
    first, two, three = await desk.ids()
    arrived_at = (await desk.operations.letters(OTTO, Filter(ids=(three,)))).letters[0].arrived_at

    for which, wanted in (
        (Filter(serial_no="R-1"), [first]),
        (Filter(serial_no="R-3"), [three]),
        (Filter(user_id="user-2"), [two]),
        (Filter(message_type="account.open.v1"), [two]),
        (Filter(reason="AMOUNT_MISMATCH"), [three]),
        (Filter(source="wallet.commands"), [first, two]),
        (Filter(states=(LetterState.DISCARDED,)), []),
        (Filter(states=(LetterState.WAITING,), reason="INTERNAL"), [first]),
        (Filter(until=arrived_at + timedelta(days=1)), [first, two, three]),
        (Filter(since=arrived_at + timedelta(days=1)), []),
        (Filter(ids=(first, three)), [first, three]),
        (Filter(serial_no="\0"), []),
    ):
        assert await desk.ids(which) == wanted
        assert await desk.operations.count(OTTO, which) == len(wanted)


@pytest.mark.need(6)
def test_a_filter_is_a_link_that_can_be_sent() -> None:
    which = Filter(
        states=(LetterState.WAITING, LetterState.RESOLVED),
        reason="INTERNAL",
        user_id="user-1",
        since=datetime(2026, 1, 2, tzinfo=UTC),
        ids=(1, 2),
    )

    assert Filter.from_query(which.to_query()) == which
    assert Filter.from_query({"reason": "", "page": "7"}) == Filter()
    for wrong in ({"states": "lost"}, {"ids": "1;2"}, {"ids": "0"}, {"since": "soon"}):
        with pytest.raises(ValueError, match=r"state|id|time"):
            Filter.from_query(wrong)


@pytest.mark.need(6)
async def test_pages_are_stable_while_letters_arrive(desk: Desk) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(7)))
    ids = await desk.ids()
    seen: list[int] = []
    after: int | None = None

    while True:
        page = await desk.operations.letters(OTTO, Filter(), after=after, limit=3)
        seen += [line.letter_id for line in page.letters]
        await desk.take_in(arrived(recharge("user-1")))
        after = page.next_after
        if after is None:
            break

    assert seen == sorted(ids, reverse=True)


@pytest.mark.need(18)
def test_every_reason_has_a_line_that_says_what_is_safe() -> None:
    for reason in REASONS:
        lines = runbook.lines(reason)
        assert lines
        assert all(line.meaning and line.safe and line.ask and line.when for line in lines)


@pytest.mark.need(5)
async def test_a_plan_of_what_was_seen_leaves_alone_what_arrived_before_it(desk: Desk) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
    (group,) = await desk.operations.groups(OTTO, Filter())
    seen = await desk.ids()
    await desk.take_in(arrived(recharge("user-1")))

    plan = await desk.operations.plan(OTTO, Action.REPLAY, group.seen, reason="a test")

    assert (plan.total, group.seen_up_to) == (3, seen[-1])
    assert await desk.ids(Filter(seen_up_to=seen[1])) == seen[:2]
    assert Filter.from_query(group.seen.to_query()) == group.seen
