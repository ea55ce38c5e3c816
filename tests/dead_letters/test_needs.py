"""What operators need, by the numbers of the design: all that needs the database and no broker.

1 and 8 are in `test_replaying.py`, 14 in `test_command_line.py`, 15 in `test_alarms.py`, 16 in `test_faults.py`; 13 and
17 have a part in the console.
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pamqp.commands import Basic
from pamqp.common import FieldValue

from tests.cli.terminal import wallet
from tests.dead_letters.conftest import ANNA, OTTO, VERA, Desk, a_desk
from tests.dead_letters.letters import arrived, headers, properties
from tests.journeys.messages import encoded, open_account, recharge, result, signed
from tests.workers import until
from wallet_worker.broker.amqp.properties import unmarshal
from wallet_worker.cli.dlq import options
from wallet_worker.dead_letters.intake.record import take_in
from wallet_worker.dead_letters.model.records import (
    Action,
    Actor,
    ApprovalNeededError,
    AuditFilter,
    BusyError,
    Filter,
    InvalidEditError,
    LetterState,
    NotAllowedError,
    NotFoundError,
    NotPossibleError,
    OperationState,
    Plan,
    PlanState,
    PredictedOutcome,
    StaleError,
)
from wallet_worker.dead_letters.reasons import REASONS
from wallet_worker.dead_letters.runbook import RUNBOOK
from wallet_worker.settings.operators import ApprovalLimits, Role
from wallet_worker.store import database
from wallet_worker.store.dead_letters import replays
from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE

OLGA = Actor("olga", Role.OPERATOR, "tests")


async def one_letter(desk: Desk, content: object = None) -> int:
    """Take one letter in, and return its number."""
    before = set(await desk.ids())
    await desk.take_in(arrived(recharge("user-1") if content is None else content))  # type: ignore[arg-type]
    (letter_id,) = set(await desk.ids()) - before
    return letter_id


# 1. It never loses or doubles anything itself.


async def test_need_1_one_outstanding_replay_a_letter_whoever_orders_it(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    which = Filter(ids=(letter_id,))
    plans = [await desk.operations.plan(who, Action.REPLAY, which, reason="mine") for who in (OTTO, OLGA)]

    ended = await asyncio.gather(
        *(desk.operations.execute(who, plan.token) for who, plan in zip((OTTO, OLGA), plans, strict=True)),
        return_exceptions=True,
    )

    (late,) = [one for one in ended if isinstance(one, BaseException)]
    (first,) = [one for one in ended if not isinstance(one, BaseException)]
    assert isinstance(late, StaleError)
    assert f"letter {letter_id} is being replayed already: {first.actor} ordered it" in str(late)
    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_replays") == 1


async def test_need_1_the_database_itself_allows_no_second_outstanding_replay(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="a test")
    await desk.operations.execute(OTTO, plan.token)

    with pytest.raises(asyncpg.UniqueViolationError, match="dead_letter_replays_outstanding"):
        await desk.owner.execute(
            """
            INSERT INTO dead_letter_replays (replay_id, letter_id, operation_id, position, number, verdict,
                                             verdict_code, body_digest, ordered_at)
            SELECT gen_random_uuid(), letter_id, operation_id, 1, 2, verdict, verdict_code, body_digest, ordered_at
            FROM dead_letter_replays
            """
        )


async def test_need_1_the_same_token_is_executed_once_and_the_second_is_told_who_and_when(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.DISCARD, Filter(ids=(letter_id,)), reason="a test")

    ended = await asyncio.gather(
        *(desk.operations.execute(who, plan.token) for who in (OTTO, OLGA)), return_exceptions=True
    )

    (late,) = [one for one in ended if isinstance(one, StaleError)]
    assert "has executed this plan already at" in str(late)
    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_operations") == 1


# 2. It takes everything in, also what cannot be decoded. Taking in twice makes one record.


async def test_need_2_bytes_headers_and_properties_are_kept_as_they_came(desk: Desk) -> None:
    body = bytes(range(256)) * 300
    said = headers("MALFORMED", "no JSON", x_theirs=bytearray(b"\xff\x00"))
    await desk.take_in(arrived(body, said, message_id="M-1", app_id="them"))

    (letter_id,) = await desk.ids()
    whole = (await desk.operations.letter(OTTO, letter_id)).whole

    kept: Basic.Properties = unmarshal(
        await desk.owner.fetchval("SELECT properties FROM dead_letters WHERE letter_id = $1", letter_id)
    )
    assert whole.body == body
    assert (kept.message_id, kept.app_id, kept.headers) == ("M-1", "them", properties(said).headers)
    assert whole.headers["x-theirs"] == r"\xff\x00"
    assert (whole.exchange, whole.routing_key) == ("wallet.commands", "order.recharge")


async def test_need_2_taking_in_twice_makes_one_record(desk: Desk) -> None:
    letter = arrived(recharge("user-1"))

    await desk.take_in(letter, letter)
    taken = await desk.take_in(letter)

    assert (taken.new, taken.known) == ((), 1)
    assert len(await desk.ids()) == 1
    assert await desk.owner.fetchval("SELECT times FROM dead_letter_attempts") == 3


async def test_need_2_two_keepers_at_once_make_one_record(desk: Desk) -> None:
    letters = [arrived(recharge("user-1")) for _ in range(20)]

    ended = await asyncio.gather(
        *(desk.take_in(*several) for several in (letters, reversed(letters))), return_exceptions=True
    )

    assert len(await desk.ids()) == 20
    assert sum(isinstance(one, BaseException) for one in ended) <= 1  # who lost the race begins again


async def test_need_2_the_brokers_own_marks_make_no_other_letter(desk: Desk) -> None:
    said = headers()
    body = encoded(recharge("user-1"))

    await desk.take_in(
        arrived(body, said), arrived(body, said | {"x-delivery-count": 3, "x-acquired-count": 4})
    )

    assert len(await desk.ids()) == 1


async def test_need_2_two_letters_of_the_same_bytes_are_two(desk: Desk) -> None:
    body = encoded(recharge("user-1"))

    await desk.take_in(arrived(body, headers()), arrived(body, headers()))

    assert len(await desk.ids()) == 2


async def test_need_2_what_was_closed_waits_again_when_it_is_sent_once_more(desk: Desk) -> None:
    letter = arrived(recharge("user-1"))
    again = arrived(letter.body, {}, redelivered=False)
    crash = arrived(letter.body, {}, redelivered=True)
    await desk.take_in(again)
    (letter_id,) = await desk.ids()
    plan = await desk.operations.plan(OTTO, Action.DISCARD, Filter(), reason="a test")
    await desk.operations.execute(OTTO, plan.token)

    await desk.take_in(crash)
    after_crash = await desk.state(letter_id)
    await desk.take_in(again)

    assert (after_crash, await desk.state(letter_id)) == ("discarded", "waiting")


# 3. It says why.


async def test_need_3_reason_detail_attempts_worker_and_trace(desk: Desk) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    said = headers(
        "AMOUNT_MISMATCH", "the amount is not that of the order", source="payment.results", traceparent=trace
    )
    await desk.take_in(arrived(result("R-1"), said))

    (letter_id,) = await desk.ids()
    found = await desk.operations.letter(OTTO, letter_id)

    assert (found.whole.line.reason, found.whole.line.detail) == (
        "AMOUNT_MISMATCH",
        "the amount is not that of the order",
    )
    assert (found.whole.worker, found.whole.trace_id) == ("0.0.0 test:1", trace.split("-")[1])
    (attempt,) = found.attempts
    assert attempt.first_seen.isoformat().startswith("2026-01-02T03:04:05")


# 4 needs an order and an account: `test_replaying.py`. What no facts are needed for:


async def test_need_4_what_a_replay_would_do_is_predicted_and_nothing_is_written(desk: Desk) -> None:
    letters = {
        PredictedOutcome.WILL_BE_REFUSED: arrived(recharge("user-1")),
        PredictedOutcome.WILL_APPLY: arrived(open_account("user-1")),
        PredictedOutcome.STILL_MALFORMED: arrived(b"no JSON"),
        PredictedOutcome.WILL_WAIT: arrived(
            body := encoded(result("R-1")), headers(source="payment.results", x_signature=_signed(body))
        ),
        PredictedOutcome.NOWHERE: arrived(
            {"type": "payment.request.v1"}, {"x-death": [_death("payment.requests", "rejected")]}
        ),
    }
    for verdict, letter in letters.items():
        letter_id = await one_letter_of(desk, letter)
        assert (await desk.operations.letter(OTTO, letter_id)).prediction.verdict is verdict

    for table in (
        "commands",
        "orders",
        "accounts WHERE kind = 'user'",
        "payment_results",
        "parked_results",
        "outbox",
    ):
        assert await desk.owner.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608 -- names of ours


async def one_letter_of(desk: Desk, letter: object) -> int:
    before = set(await desk.ids())
    await desk.take_in(letter)  # type: ignore[arg-type]
    (letter_id,) = set(await desk.ids()) - before
    return letter_id


def _signed(body: bytes) -> str:
    return signed(body)


def _death(queue: str, reason: str) -> dict[str, FieldValue]:
    return {"queue": queue, "reason": reason, "exchange": queue, "routing-keys": ["a.key"], "count": 1}


# 5. Groups by reason and source. An action on a group acts on what was seen.


async def test_need_5_groups_have_counts_times_and_arrivals(desk: Desk) -> None:
    await desk.take_in(
        *(arrived(recharge("user-1")) for _ in range(3)), arrived(b"x", headers("MALFORMED", "x"))
    )

    groups = await desk.operations.groups(OTTO, Filter(), span=timedelta(hours=1), buckets=4)

    assert [(one.reason, one.source, one.count, one.waiting) for one in groups] == [
        ("INTERNAL", "wallet.commands", 3, 3),
        ("MALFORMED", "wallet.commands", 1, 1),
    ]
    assert groups[0].series == (0, 0, 0, 3)
    assert groups[0].first_seen <= groups[0].last_seen


async def test_need_5_an_action_on_a_group_leaves_alone_what_came_later(desk: Desk) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
    (group,) = await desk.operations.groups(OTTO, Filter())
    plan = await desk.operations.plan(OTTO, Action.REPLAY, group.seen, reason="a test")
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(2)))

    operation = await desk.operations.execute(OTTO, plan.token)

    assert operation.total == 3
    states = await desk.owner.fetch("SELECT state FROM dead_letters ORDER BY letter_id")
    assert [row["state"] for row in states] == ["replaying"] * 3 + ["waiting"] * 2


# 6. Filter and search; links; stable paging.


async def test_need_6_letters_are_found_by_everything_that_they_have(desk: Desk) -> None:
    await desk.take_in(
        arrived(recharge("user-1", serial_no="R-1")),
        arrived(open_account("user-2", serial_no="O-1"), headers("SERIAL_CONFLICT", "x")),
        arrived(result("R-3"), headers("AMOUNT_MISMATCH", "x", source="payment.results")),
    )
    one, two, three = await desk.ids()
    arrived_at = (await desk.operations.letters(OTTO, Filter(ids=(three,)))).letters[0].arrived_at

    for which, wanted in (
        (Filter(serial_no="R-1"), [one]),
        (Filter(serial_no="R-3"), [three]),
        (Filter(user_id="user-2"), [two]),
        (Filter(message_type="account.open.v1"), [two]),
        (Filter(reason="AMOUNT_MISMATCH"), [three]),
        (Filter(source="wallet.commands"), [one, two]),
        (Filter(states=(LetterState.DISCARDED,)), []),
        (Filter(states=(LetterState.WAITING,), reason="INTERNAL"), [one]),
        (Filter(until=arrived_at + timedelta(days=1)), [one, two, three]),
        (Filter(since=arrived_at + timedelta(days=1)), []),
        (Filter(ids=(one, three)), [one, three]),
        (Filter(serial_no="\0"), []),
    ):
        assert await desk.ids(which) == wanted
        assert await desk.operations.count(OTTO, which) == len(wanted)


def test_need_6_a_filter_is_a_link_that_can_be_sent() -> None:
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


async def test_need_6_pages_are_stable_while_letters_arrive(desk: Desk) -> None:
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


# 7. Plan before execution.


async def test_need_7_a_plan_has_counts_by_prediction_a_sample_and_a_token(desk: Desk) -> None:
    await desk.take_in(
        *(arrived(open_account(f"user-{number}")) for number in range(8)),
        arrived(recharge("user-1")),
        arrived(b"x"),
    )

    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")

    assert [(prediction.label, count) for prediction, count in plan.counts] == [
        ("will apply", 8),
        ("will be refused with ACCOUNT_NOT_FOUND", 1),
        ("is still unreadable (MALFORMED)", 1),
    ]
    assert plan.total == 10
    assert {one.prediction.verdict for one in plan.sample} == {
        PredictedOutcome.WILL_APPLY,
        PredictedOutcome.WILL_BE_REFUSED,
        PredictedOutcome.STILL_MALFORMED,
    }
    assert plan.state is PlanState.READY
    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_replays") == 0


async def test_need_7_execution_refuses_when_a_prediction_has_changed(desk: Desk) -> None:
    letter_id = await one_letter(desk, open_account("user-1", serial_no="O-1"))
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
    await desk.owner.execute(
        """
        INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
        VALUES ('O-1', 'account.open.v1', sha256('another'), '{}', 'applied', 'OK', '{}', now())
        """
    )

    with pytest.raises(StaleError, match="was 'will apply' and now 'conflict"):
        await desk.operations.execute(OTTO, plan.token)

    assert await desk.state(letter_id) == "waiting"


async def test_need_7_execution_refuses_when_a_letter_has_changed(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
    other = await desk.operations.plan(OLGA, Action.DISCARD, Filter(), reason="a test")
    await desk.operations.execute(OLGA, other.token)

    with pytest.raises(StaleError, match=f"letter {letter_id} is discarded now"):
        await desk.operations.execute(OTTO, plan.token)


async def test_need_7_an_old_token_executes_nothing(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(plan_life_seconds=0)) as desk:
        letter_id = await one_letter(desk)
        plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")

        with pytest.raises(StaleError, match="too old"):
            await desk.operations.execute(OTTO, plan.token)
        with pytest.raises(NotFoundError):
            await desk.operations.execute(OTTO, "beefbeefbeef")

        assert await desk.state(letter_id) == "waiting"
        assert (await desk.operations.plan_of(OTTO, plan.token)).state is PlanState.EXPIRED


# 9. A limit to loops. The rest of it is in `test_replaying.py`.


async def test_need_9_a_letter_is_not_replayed_for_ever(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    await desk.owner.execute("UPDATE dead_letters SET replays = $1", desk.operations.limits.replays_max)

    with pytest.raises(NotPossibleError, match=f"letter {letter_id} was replayed 10 times"):
        await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="again")


# 10. Discard and restore, with a reason; notes.


async def test_need_10_discard_and_restore_want_a_reason_and_keep_the_letter(desk: Desk) -> None:
    letter_id = await one_letter(desk)

    with pytest.raises(NotPossibleError, match="say why"):
        await desk.operations.plan(OTTO, Action.DISCARD, Filter(), reason=" ")
    for action, state in ((Action.DISCARD, "discarded"), (Action.RESTORE, "waiting")):
        plan = await desk.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="paid back")
        assert plan.states == ((LetterState(await desk.state(letter_id)), 1),)
        done = await desk.operations.execute(OTTO, plan.token)
        assert (done.state, done.resolved) == (OperationState.DONE, 1)
        assert await desk.state(letter_id) == state

    assert (await desk.operations.letter(OTTO, letter_id)).whole.body is not None


async def test_need_10_notes_stay_with_the_letter(desk: Desk) -> None:
    letter_id = await one_letter(desk)

    await desk.operations.note(OTTO, letter_id, "asked the gateway")

    (row,) = (await desk.operations.letter(VERA, letter_id)).audit
    assert (row.action, row.reason, row.actor) == ("note", "asked the gateway", "otto")
    with pytest.raises(NotPossibleError):
        await desk.operations.note(OTTO, letter_id, " ")
    with pytest.raises(NotFoundError):
        await desk.operations.note(OTTO, letter_id + 1, "x")


async def test_need_10_nobody_can_delete_a_letter_under_the_operators_role(desk: Desk) -> None:
    await one_letter(desk)

    for table in ("dead_letters", "dead_letter_attempts", "dead_letter_replays", "dead_letter_audit"):
        async with desk.database.connection() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"DELETE FROM {table}")  # noqa: S608 -- names of ours


# 11. Edit makes a new message.


async def an_edit(desk: Desk, **changes: object) -> tuple[int, bytes]:
    """Return a letter with three digits of TWD, and a message to be sent in its place."""
    order = recharge("user-1", "1.001")
    letter_id = await one_letter_of(desk, arrived(order, headers("MALFORMED", "TWD has 2 digits")))
    return letter_id, encoded(order | {"amount": "1.00", "serial_no": f"{order['serial_no']}-b"} | changes)


async def test_need_11_an_edit_is_a_new_message_and_closes_the_old_one_in_the_same_step(desk: Desk) -> None:
    letter_id, body = await an_edit(desk)

    plan = await desk.operations.plan_edit(OTTO, letter_id, body, reason="three digits")
    await desk.operations.approve(ANNA, plan.token, reason="seen")
    await desk.operations.execute(OTTO, plan.token)

    assert next((one.field, one.before, one.after) for one in plan.differences) == ("amount", "1.001", "1.00")
    found = await desk.operations.letter(OTTO, letter_id)
    (replay,) = found.replays
    assert found.whole.line.state is LetterState.EDITED
    assert (replay.is_edit, replay.serial_no) == (True, json.loads(body)["serial_no"])
    for action in (Action.REPLAY, Action.DISCARD, Action.RESTORE):
        with pytest.raises(NotPossibleError):
            await desk.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="both versions")


async def test_need_11_an_edit_is_checked_and_never_has_a_used_serial_number(desk: Desk) -> None:
    letter_id, body = await an_edit(desk)
    own = encoded(json.loads(body) | {"serial_no": json.loads(body)["serial_no"].removesuffix("-b")})
    malformed = encoded(json.loads(body) | {"amount": "1.001"})

    for wrong, sentence in (
        (own, "is used already"),
        (malformed, "none that the wallet takes"),
        (b"no JSON", "none that the wallet takes"),
        (encoded(result("R-1")), "none that the wallet takes"),
    ):
        with pytest.raises(InvalidEditError, match=sentence):
            await desk.operations.plan_edit(OTTO, letter_id, wrong, reason="x")


async def test_need_11_two_edits_cannot_take_the_same_new_number(desk: Desk) -> None:
    one, body = await an_edit(desk)
    two, _ = await an_edit(desk)
    plans = [await desk.operations.plan_edit(OTTO, number, body, reason="x") for number in (one, two)]
    for plan in plans:
        await desk.operations.approve(ANNA, plan.token, reason="x")
    await desk.operations.execute(OTTO, plans[0].token)

    with pytest.raises(InvalidEditError, match="is used already"):
        await desk.operations.execute(OTTO, plans[1].token)

    assert await desk.state(two) == "waiting"


async def test_need_11_a_payment_result_cannot_be_edited(desk: Desk) -> None:
    letter_id = await one_letter_of(desk, arrived(result("R-1"), headers(source="payment.results")))

    with pytest.raises(NotPossibleError, match="nobody else can sign"):
        await desk.operations.plan_edit(OTTO, letter_id, encoded(recharge("user-1")), reason="x")


# 12. Audit.


async def test_need_12_one_row_for_the_operation_and_one_for_each_message(desk: Desk) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
    ids = await desk.ids()
    plan = await desk.operations.plan(OTTO, Action.DISCARD, Filter(reason="INTERNAL"), reason="a test of it")

    operation = await desk.operations.execute(OTTO, plan.token)

    page = await desk.operations.audit(VERA, AuditFilter(operation_id=operation.operation_id))
    whole = [row for row in page.rows if row.action == "execute discard"]
    each = [row for row in page.rows if row.action == "discard"]
    (one,) = whole
    assert (one.actor, one.role, one.via, one.reason) == ("otto", "operator", "tests", "a test of it")
    assert (one.detail["filter"], one.detail["token"], one.detail["letters"]) == (
        {"reason": "INTERNAL"},
        plan.token,
        3,
    )
    assert sorted(row.letter_id or 0 for row in each) == ids
    exported = [row async for row in desk.operations.export_audit(VERA, AuditFilter())]
    assert [row.action for row in exported] == [
        "plan discard",
        "execute discard",
        "discard",
        "discard",
        "discard",
        "export audit",
    ]


@pytest.mark.parametrize(
    "attempt",
    [
        "UPDATE dead_letter_audit SET actor = 'x'",
        "DELETE FROM dead_letter_audit",
        "TRUNCATE dead_letter_audit",
    ],
)
async def test_need_12_not_even_the_owner_can_change_the_audit(desk: Desk, attempt: str) -> None:
    await desk.operations.note(OTTO, await one_letter(desk), "x")

    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await desk.owner.execute(attempt)


# 13. Roles, and the second person.


async def test_need_13_a_viewer_looks_and_does_nothing(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="x")
    operation = await desk.operations.execute(OTTO, plan.token)
    did = await desk.owner.fetchval("SELECT count(*) FROM dead_letter_audit")

    for attempt in (
        desk.operations.plan(VERA, Action.REPLAY, Filter(), reason="x"),
        desk.operations.plan_edit(VERA, letter_id, b"{}", reason="x"),
        desk.operations.execute(VERA, plan.token),
        desk.operations.approve(VERA, plan.token, reason="x"),
        desk.operations.approve(OTTO, plan.token, reason="x"),
        desk.operations.note(VERA, letter_id, "x"),
        desk.operations.pause(VERA, operation.operation_id, reason="x"),
        desk.operations.resume(VERA, operation.operation_id, reason="x"),
        desk.operations.stop(VERA, operation.operation_id, reason="x"),
    ):
        with pytest.raises(NotAllowedError, match=r"vera is a viewer|otto is an operator"):
            await attempt

    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_audit") == did


async def test_need_13_a_viewer_sees_no_personal_data(desk: Desk) -> None:
    order = recharge("somebody-real", metadata={"phone": "0912345678"})
    letter_id = await one_letter_of(
        desk, arrived(order, headers(x_customer="somebody-real"), app_id="somebody-real")
    )

    seen = [
        repr(await desk.operations.letter(VERA, letter_id)),
        repr(await desk.operations.letters(VERA, Filter())),
        repr([one async for one in desk.operations.export(VERA, Filter())]),
    ]

    assert all("somebody-real" not in text and "0912345678" not in text for text in seen)
    assert all("so…" in text for text in seen)
    assert "0912345678" in repr(await desk.operations.letter(OTTO, letter_id))


async def test_need_13_a_viewer_sees_no_personal_data_in_plans_operations_and_audit(desk: Desk) -> None:
    order = recharge("somebody-real", "1.001")
    letter_id = await one_letter_of(desk, arrived(order, headers("MALFORMED", "TWD has 2 digits")))
    other = await one_letter_of(desk, arrived(recharge("somebody-real")))
    mended = order | {"user_id": "somebody-else", "amount": "1.00", "serial_no": f"{order['serial_no']}-b"}
    edit = await desk.operations.plan_edit(OTTO, letter_id, encoded(mended), reason="x")
    which = Filter(ids=(other,), user_id="somebody-real")
    plan = await desk.operations.plan(OTTO, Action.DISCARD, which, reason="x")
    await desk.operations.execute(OTTO, plan.token)

    seen = repr(
        [
            await desk.operations.plan_of(VERA, edit.token),
            await desk.operations.plans(VERA),
            await desk.operations.operations(VERA),
            await desk.operations.audit(VERA, AuditFilter()),
            [row async for row in desk.operations.export_audit(VERA, AuditFilter())],
        ]
    )

    assert "somebody" not in seen
    assert "so…" in seen
    assert "somebody-else" in repr(await desk.operations.plan_of(OTTO, edit.token))


async def test_need_13_many_letters_at_once_need_a_second_person_who_is_somebody_else(
    database_url: str,
) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=2)) as desk:
        await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
        boss = Actor("boss", Role.APPROVER, "tests")
        plan = await desk.operations.plan(boss, Action.REPLAY, Filter(), reason="a test")
        assert plan.state is PlanState.NEEDS_APPROVAL
        assert [one.token for one in await desk.operations.plans(ANNA, awaiting_approval=True)] == [
            plan.token
        ]

        with pytest.raises(ApprovalNeededError, match="a second person must approve"):
            await desk.operations.execute(boss, plan.token)
        for same, why in (
            (boss, "your own"),
            (Actor(" Boss", Role.APPROVER, "another way"), "is no name"),
            (Actor("b\u043ess", Role.APPROVER, "another way"), "is no name"),
            (Actor("bob\udcff", Role.APPROVER, "another way"), "is no name"),
        ):
            with pytest.raises(NotAllowedError, match=why):
                await desk.operations.approve(same, plan.token, reason="x")
        approved = await desk.operations.approve(ANNA, plan.token, reason="looked at them")
        with pytest.raises(StaleError, match="anna has approved"):
            await desk.operations.approve(ANNA, plan.token, reason="again")
        operation = await desk.operations.execute(boss, plan.token)

        assert (approved.state, approved.approved_by) == (PlanState.READY, "anna")
        assert (operation.total, operation.approved_by) == (3, "anna")
        assert await desk.operations.plans(ANNA) == []


async def test_need_13_the_operators_role_can_touch_no_money(desk: Desk) -> None:
    for attempt in (
        "UPDATE accounts SET balance = 0",
        "INSERT INTO commands DEFAULT VALUES",
        "UPDATE orders SET status = 'failed'",
        "INSERT INTO entries DEFAULT VALUES",
        "INSERT INTO outbox DEFAULT VALUES",
        "UPDATE dead_letters SET body = ''",
        "UPDATE dead_letter_audit SET actor = 'x'",
        "UPDATE dead_letter_plans SET letter_ids = '{}'",
    ):
        async with desk.database.connection() as connection:
            assert await connection.fetchval("SELECT current_user") == OPERATOR_ROLE
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(attempt)


# 18. A line of runbook for each reason.


def test_need_18_every_reason_has_a_line_that_says_what_is_safe() -> None:
    assert set(RUNBOOK) == set(REASONS)
    assert all(line.meaning and line.safe and line.ask for line in RUNBOOK.values())


async def test_a_group_of_letters_can_be_given_up_when_no_outcome_comes(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="x")
    await desk.operations.execute(OTTO, plan.token)
    replay_id = await desk.owner.fetchval("SELECT replay_id FROM dead_letter_replays")
    async with desk.database.transaction() as connection:
        now = await connection.fetchval("SELECT clock_timestamp()")
        await replays.published(connection, [replay_id], now)

    with pytest.raises(NotPossibleError, match="is being replayed already"):
        await desk.operations.plan(OTTO, Action.RESTORE, Filter(ids=(letter_id,)), reason="x")
    await desk.owner.execute(
        "UPDATE dead_letter_replays SET published_at = published_at - interval '16 minutes'"
    )
    plan = await desk.operations.plan(OTTO, Action.RESTORE, Filter(ids=(letter_id,)), reason="lost")
    await desk.operations.execute(OTTO, plan.token)

    assert await desk.state(letter_id) == "waiting"
    (replay,) = (await desk.operations.letter(OTTO, letter_id)).replays
    assert (replay.state, replay.detail) == ("cancelled", "given up: lost")


async def test_need_13_another_name_at_the_same_login_is_no_second_person(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        one, other = (Actor(name, Role.APPROVER, "cli, root") for name in ("one", "other"))
        plan = await desk.operations.plan(one, Action.REPLAY, Filter(), reason="a test")

        with pytest.raises(NotAllowedError, match="made by the same login, root"):
            await desk.operations.approve(other, plan.token, reason="x")
        with pytest.raises(NotAllowedError, match="made by the same login, root"):
            await desk.operations.approve(Actor("root", Role.APPROVER, "console"), plan.token, reason="x")

        assert (await desk.operations.plan_of(one, plan.token)).approved_by is None


@pytest.mark.parametrize(
    ("made_via", "approved_via"),
    [
        ("cli, root", "cli, anna"),
        ("cli, root", "console"),
        ("console", "cli, root"),
        ("console", "console"),
    ],
)
async def test_need_13_a_second_person_approves_from_wherever_they_are(
    database_url: str, made_via: str, approved_via: str
) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        plan = await desk.operations.plan(
            Actor("one", Role.APPROVER, made_via), Action.REPLAY, Filter(), reason="a test"
        )
        with pytest.raises(NotAllowedError, match="this plan is your own"):
            await desk.operations.approve(Actor("one", Role.APPROVER, approved_via), plan.token, reason="x")

        approved = await desk.operations.approve(
            Actor("other", Role.APPROVER, approved_via), plan.token, reason="x"
        )

        assert (approved.state, approved.approved_by) == (PlanState.READY, "other")


async def test_need_13_whoever_planned_in_the_console_cannot_approve_at_a_shell_by_another_name(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_login", lambda: "one")
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        one = Actor("one", Role.OPERATOR, "console")
        plan = await desk.operations.plan(one, Action.REPLAY, Filter(), reason="a test")

        said = [
            await wallet(
                *("dlq", "approve", plan.token, "--as", "other", "--why", "x"),
                WALLET_DATABASE_URL=database_url,
                WALLET_DLQ_ROLES=roles,
            )
            for roles in ("{}", '{"one": "operator", "other": "approver"}')
        ]

        assert "nobody can approve here while WALLET_DLQ_ROLES is empty" in said[0].err
        assert "this login is one, and not other" in said[1].err
        assert (await desk.operations.plan_of(one, plan.token)).approved_by is None


async def test_need_13_many_letters_in_small_plans_need_a_second_person_too(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=3)) as desk:
        ids = [await one_letter(desk) for _ in range(6)]

        async def planned(who: Actor, *several: int) -> Plan:
            return await desk.operations.plan(who, Action.DISCARD, Filter(ids=several), reason="a test")

        first = await planned(OTTO, ids[0], ids[1])
        second = await planned(OTTO, ids[2], ids[3])
        await desk.operations.execute(OTTO, first.token)
        third = await planned(OTTO, ids[2], ids[3])

        assert (first.state, second.state, third.state) == (
            PlanState.READY,
            PlanState.READY,
            PlanState.NEEDS_APPROVAL,
        )
        with pytest.raises(StaleError, match="otto has acted on 2 letters alone within the hour"):
            await desk.operations.execute(OTTO, second.token)
        assert (await planned(OLGA, ids[2], ids[3])).state is PlanState.READY
        await desk.operations.approve(ANNA, third.token, reason="seen")
        await desk.operations.execute(OTTO, third.token)
        assert (await planned(OTTO, ids[4])).state is PlanState.READY  # what was approved is not his alone


async def test_need_7_an_approval_refuses_when_a_prediction_has_changed(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk, open_account("user-1", serial_no="O-1"))
        plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
        await desk.owner.execute(
            """
            INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
            VALUES ('O-1', 'account.open.v1', sha256('another'), '{}', 'applied', 'OK', '{}', now())
            """
        )

        with pytest.raises(StaleError, match="was 'will apply' and now 'conflict"):
            await desk.operations.approve(ANNA, plan.token, reason="x")

        assert (await desk.operations.plan_of(OTTO, plan.token)).approved_by is None


async def test_need_1_letters_that_somebody_else_holds_are_tried_again_and_then_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(database._LIMITS, "lock_timeout", "200ms")
    async with a_desk(database_url) as desk:
        letter_id = await one_letter(desk)
        plan = await desk.operations.plan(OTTO, Action.DISCARD, Filter(), reason="a test")
        async with desk.owner.transaction():
            await desk.owner.execute("SELECT FROM dead_letters FOR UPDATE")
            with pytest.raises(BusyError, match="somebody else is at these letters; nothing was done"):
                await desk.operations.execute(OTTO, plan.token)
        assert await desk.state(letter_id) == "waiting"
        other = await asyncpg.connect(database_url)
        held = other.transaction()
        await held.start()
        await other.execute("SELECT FROM dead_letters FOR UPDATE")

        doing = asyncio.create_task(desk.operations.execute(OTTO, plan.token))
        waits = """
            SELECT EXISTS (
                SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
            )
        """
        await until(desk.owner, waits, True)  # noqa: FBT003 -- what the query says
        await held.rollback()
        await doing
        await other.close()

        assert await desk.state(letter_id) == "discarded"


async def test_need_12_an_export_and_a_download_are_in_the_audit_before_the_first_row(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    which = Filter(reason="INTERNAL")

    exported = desk.operations.export(VERA, which)
    await anext(exported)
    body = await desk.operations.payload(OTTO, letter_id)
    await anext(desk.operations.export_audit(OTTO, AuditFilter(actor="vera")))

    assert body == (await desk.operations.letter(OTTO, letter_id)).whole.body
    with pytest.raises(NotAllowedError):
        await desk.operations.payload(VERA, letter_id)
    rows = (await desk.operations.audit(OTTO, AuditFilter())).rows
    assert [(row.actor, row.action, row.letter_id, row.detail) for row in reversed(rows)] == [
        ("vera", "export", None, {"filter": {"reason": "INTERNAL"}, "letters": 1}),
        ("otto", "download", letter_id, {"bytes": len(body)}),
        ("otto", "export audit", None, {"filter": {"actor": "vera"}}),
    ]


async def test_need_5_no_letter_appears_below_one_that_was_seen(desk: Desk) -> None:
    locked = """
        SELECT EXISTS (
            SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
        )
    """
    async with desk.database.transaction() as connection:
        now = await connection.fetchval("SELECT clock_timestamp()")
        await take_in(connection, [arrived(recharge("user-1")) for _ in range(3)], now)
        later = [arrived(recharge("user-2")) for _ in range(2)]
        second = asyncio.create_task(desk.take_in(*later))
        waiting = asyncio.create_task(until(desk.owner, locked, True))  # noqa: FBT003 -- what the query says
        await asyncio.wait({second, waiting}, return_when=asyncio.FIRST_COMPLETED)
        seen = await desk.operations.count(OTTO, Filter())
    await second
    waiting.cancel()
    await asyncio.wait({waiting})

    first, last = [await desk.ids(Filter(user_id=user_id)) for user_id in ("user-1", "user-2")]
    assert seen == 0
    assert max(first) < min(last)


async def test_need_5_a_plan_of_what_was_seen_leaves_alone_what_arrived_before_it(desk: Desk) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
    (group,) = await desk.operations.groups(OTTO, Filter())
    seen = await desk.ids()
    await desk.take_in(arrived(recharge("user-1")))

    plan = await desk.operations.plan(OTTO, Action.REPLAY, group.seen, reason="a test")

    assert (plan.total, group.seen_up_to) == (3, seen[-1])
    assert await desk.ids(Filter(seen_up_to=seen[1])) == seen[:2]
    assert Filter.from_query(group.seen.to_query()) == group.seen
