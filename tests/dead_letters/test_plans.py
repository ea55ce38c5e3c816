"""A plan says what would be done to exactly which letters; executing it does that once, or nothing."""

import asyncio

import asyncpg
import pytest
from pamqp.common import FieldValue

from tests.dead_letters.conftest import OLGA, OTTO, Desk, a_desk, one_letter
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed
from tests.journeys.messages import encoded, open_account, recharge, result, signed
from tests.workers import until
from wallet_worker.dead_letters.model.errors import BusyError, NotFoundError, NotPossibleError, StaleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import Action, LetterState, OperationState, PlanState
from wallet_worker.settings.operators import ApprovalLimits
from wallet_worker.store import database
from wallet_worker.store.dead_letters import replays


@pytest.mark.need(1)
async def test_one_outstanding_replay_a_letter_whoever_orders_it(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    which = Filter(ids=(letter_id,))
    plans = [await desk.operations.plan(who, Action.REPLAY, which, reason="mine") for who in (OTTO, OLGA)]

    ended = await asyncio.gather(
        *(desk.operations.execute(who, plan.token) for who, plan in zip((OTTO, OLGA), plans, strict=True)),
        return_exceptions=True,
    )

    (late,) = [item for item in ended if isinstance(item, BaseException)]
    (first,) = [item for item in ended if not isinstance(item, BaseException)]
    assert isinstance(late, StaleError)
    assert f"letter {letter_id} is being replayed already: {first.actor} ordered it" in str(late)
    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_replays") == 1


@pytest.mark.need(1)
async def test_the_database_itself_allows_no_second_outstanding_replay(desk: Desk) -> None:
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


@pytest.mark.need(1)
async def test_the_same_token_is_executed_once_and_the_second_is_told_who_and_when(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.DISCARD, Filter(ids=(letter_id,)), reason="a test")

    ended = await asyncio.gather(
        *(desk.operations.execute(who, plan.token) for who in (OTTO, OLGA)), return_exceptions=True
    )

    (late,) = [item for item in ended if isinstance(item, StaleError)]
    assert "has executed this plan already at" in str(late)
    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_operations") == 1


@pytest.mark.need(4)
async def test_what_a_replay_would_do_is_predicted_and_nothing_is_written(desk: Desk) -> None:
    letters = {
        PredictedOutcome.WILL_BE_REFUSED: arrived(recharge("user-1")),
        PredictedOutcome.WILL_APPLY: arrived(open_account("user-1")),
        PredictedOutcome.STILL_MALFORMED: arrived(b"no JSON"),
        PredictedOutcome.WOULD_PARK: arrived(
            body := encoded(result("R-1")), headers(source="payment.results", x_signature=_signed(body))
        ),
        PredictedOutcome.NOT_REPLAYABLE: arrived(
            {"type": "payment.request.v1"}, {"x-death": [_death("payment.requests", "rejected")]}
        ),
    }
    for verdict, letter in letters.items():
        letter_id = await one_letter(desk, letter)
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


def _signed(body: bytes) -> str:
    return signed(body)


def _death(queue: str, reason: str) -> dict[str, FieldValue]:
    return {"queue": queue, "reason": reason, "exchange": queue, "routing-keys": ["a.key"], "count": 1}


@pytest.mark.need(7)
async def test_a_plan_has_counts_by_prediction_a_sample_and_a_token(desk: Desk) -> None:
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
    assert {item.prediction.verdict for item in plan.sample} == {
        PredictedOutcome.WILL_APPLY,
        PredictedOutcome.WILL_BE_REFUSED,
        PredictedOutcome.STILL_MALFORMED,
    }
    assert plan.state is PlanState.READY
    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_replays") == 0


@pytest.mark.need(7)
async def test_execution_refuses_when_a_prediction_has_changed(desk: Desk) -> None:
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


@pytest.mark.need(7)
async def test_execution_refuses_when_a_letter_has_changed(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
    other = await desk.operations.plan(OLGA, Action.DISCARD, Filter(), reason="a test")
    await desk.operations.execute(OLGA, other.token)

    with pytest.raises(StaleError, match=f"letter {letter_id} is discarded now"):
        await desk.operations.execute(OTTO, plan.token)


@pytest.mark.need(7)
async def test_an_old_token_executes_nothing(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(plan_life_seconds=0)) as desk:
        letter_id = await one_letter(desk)
        plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")

        with pytest.raises(StaleError, match="too old"):
            await desk.operations.execute(OTTO, plan.token)
        with pytest.raises(NotFoundError):
            await desk.operations.execute(OTTO, "beefbeefbeef")

        assert await desk.state(letter_id) == "waiting"
        assert (await desk.operations.plan_of(OTTO, plan.token)).state is PlanState.EXPIRED


@pytest.mark.need(9)
async def test_a_letter_is_not_replayed_for_ever(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    await desk.owner.execute("UPDATE dead_letters SET replays = $1", desk.operations.limits.replays_max)

    with pytest.raises(NotPossibleError, match=f"letter {letter_id} was replayed 10 times"):
        await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="again")


@pytest.mark.need(10)
async def test_discard_and_restore_want_a_reason_and_keep_the_letter(desk: Desk) -> None:
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


@pytest.mark.need(7)
async def test_an_approval_refuses_when_a_prediction_has_changed(database_url: str) -> None:
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
            await agreed(desk.operations, desk.owner, plan)

        assert (await desk.operations.plan_of(OTTO, plan.token)).approved_by is None


@pytest.mark.need(1)
async def test_letters_that_somebody_else_holds_are_tried_again_and_then_refused(
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
