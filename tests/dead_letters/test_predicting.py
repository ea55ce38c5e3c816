"""Within one plan, each message is predicted once, and what is predicted is said truly."""

from collections import Counter
from typing import Any

import pytest

from tests.dead_letters.conftest import OTTO, Desk, one_letter
from tests.dead_letters.people import agreed
from tests.journeys.messages import encoded, open_account
from wallet_worker.core.decide import decide
from wallet_worker.dead_letters.desk.plan_checks import STUCK_AFTER
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.replay import predict
from wallet_worker.store.clock import database_time
from wallet_worker.store.dead_letters import replays


@pytest.mark.need(7)
async def test_a_plan_predicts_each_message_once_however_many_checks_want_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter_id = await given_up_edit(desk)
    other = await one_letter(desk, open_account("user-2", serial_no="O-2"))
    decided: Counter[str] = Counter()

    def counting(message: Any, *rest: Any) -> Any:
        decided[message.serial_no] += 1
        return decide(message, *rest)

    monkeypatch.setattr(predict, "decide", counting)

    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")

    assert [planned.letter_id for planned in plan.sample] == [other]
    # The letter for itself and as the origin of the edit; the edit as a version and as a copy in flight.
    assert decided == {"O-1": 1, "O-1b": 1, "O-2": 1}
    prediction = (await desk.operations.letter(OTTO, letter_id)).prediction
    assert prediction.verdict is PredictedOutcome.NOT_REPLAYABLE


@pytest.mark.need(7)
async def test_a_prediction_that_meets_a_bug_says_so_without_a_class_name(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter_id = await one_letter(desk, open_account("user-1", serial_no="O-1"))

    def fails(*_: object) -> None:
        msg = "a bug"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(predict, "decide", fails)

    prediction = (await desk.operations.letter(OTTO, letter_id)).prediction
    assert (prediction.verdict, prediction.detail) == (
        PredictedOutcome.WOULD_CRASH,
        "the wallet's own code has a fault",
    )


async def given_up_edit(desk: Desk) -> int:
    """Return a letter O-1 that waits again, because its edit O-1b was published and had no outcome for long."""
    letter_id = await one_letter(desk, open_account("user-1", serial_no="O-1"))
    new = encoded(open_account("user-1", serial_no="O-1b", account_type="savings"))
    edit = await desk.operations.plan_edit(OTTO, letter_id, new, reason="a test")
    await agreed(desk.operations, desk.owner, edit)
    await desk.operations.execute(OTTO, edit.token)
    replay_id = await desk.owner.fetchval("SELECT replay_id FROM dead_letter_replays")
    async with desk.database.transaction() as connection:
        await replays.begin(connection, [replay_id])
        await replays.published(connection, [replay_id], await database_time(connection))
    await desk.owner.execute(
        "UPDATE dead_letter_replays SET published_at = published_at - $1::interval", 2 * STUCK_AFTER
    )
    restore = await desk.operations.plan(OTTO, Action.RESTORE, Filter(), reason="a test")
    await desk.operations.execute(OTTO, restore.token)
    return letter_id


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("MALFORMED", "is still unreadable (MALFORMED)"),
        ("UNSUPPORTED_TYPE", "is still unreadable (UNSUPPORTED_TYPE)"),
        ("BAD_SIGNATURE", "is still rejected (BAD_SIGNATURE)"),
        ("NOT_ALLOWED", "is still rejected (NOT_ALLOWED)"),
    ],
)
def test_only_what_cannot_be_read_is_called_unreadable(code: str, label: str) -> None:
    assert Prediction(PredictedOutcome.STILL_MALFORMED, code).label == label
