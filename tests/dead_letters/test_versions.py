"""Need 11 (docs/operators-needs.md): of the versions of one command at most one is ever applied."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.dead_letters.conftest import AUTHORITY, LINEAGE, NOWHERE, OTTO, Desk
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed
from tests.journeys.messages import Json, encoded, open_account
from tests.workers import until
from wallet_schemas.fingerprint import canonical, fingerprint
from wallet_schemas.fingerprint import content as content_of
from wallet_worker.dead_letters.desk import executing
from wallet_worker.dead_letters.desk.edits import parse_edit
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.model.errors import InvalidEditError, NotPossibleError, StaleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Operation, Plan
from wallet_worker.dead_letters.model.predictions import PredictedOutcome
from wallet_worker.dead_letters.model.states import Action, ReplayState
from wallet_worker.dead_letters.replay.lineage import Lineage
from wallet_worker.dead_letters.replay.replayer import Replayer
from wallet_worker.store.dead_letters import replays

LOCKED = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
    )
"""


def command(serial_no: str, account_type: str = "basic") -> Json:
    return open_account("user-1", serial_no=serial_no, account_type=account_type)


async def letter_of(desk: Desk, content: Json, **fields: Any) -> int:
    """Take a letter in, and return its number."""
    await desk.take_in(arrived(content, headers(**fields)))
    return (await desk.ids())[-1]


async def approved(desk: Desk, letter_id: int, new: Json) -> Plan:
    """Return an edit that a second person has agreed to."""
    plan = await desk.operations.plan_edit(OTTO, letter_id, encoded(new), reason="a test")
    return await agreed(desk.operations, desk.owner, plan)


async def edited(desk: Desk, letter_id: int, new: Json) -> None:
    """Order the edit of a letter."""
    await desk.operations.execute(OTTO, (await approved(desk, letter_id, new)).token)


async def done(desk: Desk, action: Action, letter_id: int) -> None:
    """Do something else with a letter."""
    plan = await desk.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="a test")
    await desk.operations.execute(OTTO, plan.token)


async def sent_and_back(desk: Desk, letter_id: int) -> int:
    """Have the edit of a letter published and come back; return the letter that it is now."""
    ((replay_id, body),) = await desk.owner.fetch(
        "SELECT replay_id, body FROM dead_letter_replays WHERE letter_id = $1", letter_id
    )
    async with desk.database.transaction() as connection:
        await replays.begin(connection, [replay_id])
        now = await connection.fetchval("SELECT clock_timestamp()")
        await replays.published(connection, [replay_id], now)
    return await letter_of(desk, json.loads(body), x_wallet_replay_id=str(replay_id))


async def applied(desk: Desk, content: Json, status: str = "applied", code: str = "OK") -> None:
    """Have a command its outcome, as if it had come straight to a worker."""
    message = parse_edit(encoded(content))
    await desk.owner.execute(
        """
        INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at)
        VALUES ($1, 'account.open.v1', $2, $3, $4, $5, '{}', now())
        """,
        message.serial_no,
        fingerprint(content_of(message)),
        canonical(content_of(message)).decode(),
        status,
        code,
    )


async def keeper_step(desk: Desk) -> None:
    """Have a keeper publish what it can, without a broker."""
    await Replayer(desk.database, NOWHERE, DeadLetterMetrics(CollectorRegistry()), LINEAGE, AUTHORITY).step()


@pytest.mark.need(11)
async def test_a_letter_is_not_edited_while_another_of_its_command_may_be_applied(desk: Desk) -> None:
    first, twin = await letter_of(desk, command("O-1")), await letter_of(desk, command("O-1"))
    new = command("O-1b", "savings")

    assert (await desk.operations.letter(OTTO, first)).same_number == 1
    with pytest.raises(
        NotPossibleError,
        match=f"letter {twin} is the same command as letter {first}, .*Discard letter {twin} first",
    ):
        await desk.operations.plan_edit(OTTO, first, encoded(new), reason="x")
    await done(desk, Action.DISCARD, twin)
    await edited(desk, first, new)

    await done(desk, Action.RESTORE, twin)
    with pytest.raises(NotPossibleError, match=f"cannot be replayed: edited as O-1b in letter {first}"):
        await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(twin,)), reason="both versions")


@pytest.mark.need(11)
async def test_a_letter_is_not_edited_while_another_of_its_command_is_replayed(desk: Desk) -> None:
    first, twin = await letter_of(desk, command("O-1")), await letter_of(desk, command("O-1"))
    await done(desk, Action.REPLAY, twin)

    with pytest.raises(NotPossibleError, match=f"when the outcome of letter {twin} is known"):
        await desk.operations.plan_edit(OTTO, first, encoded(command("O-1b", "savings")), reason="x")


@pytest.mark.need(11)
async def test_a_command_that_is_repeated_after_its_edit_is_sent_in_neither_version(
    desk: Desk,
) -> None:
    first = await letter_of(desk, command("O-1"))
    await edited(desk, first, command("O-1b", "savings"))

    again = await letter_of(desk, command("O-1"))

    assert (await desk.operations.letter(OTTO, again)).prediction.verdict is PredictedOutcome.NOT_REPLAYABLE
    with pytest.raises(NotPossibleError, match=f"cannot be replayed: edited as O-1b in letter {first}"):
        await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(again,)), reason="x")
    with pytest.raises(
        NotPossibleError, match=f"was sent as O-1b in the place of letter {first}: an edit would"
    ):
        await desk.operations.plan_edit(OTTO, again, encoded(command("O-1c", "third")), reason="x")
    await done(desk, Action.DISCARD, again)


@pytest.mark.need(11)
async def test_an_edit_is_refused_when_its_command_was_repeated_since_it_was_approved(
    desk: Desk,
) -> None:
    first = await letter_of(desk, command("O-1"))
    plan = await approved(desk, first, command("O-1b", "savings"))
    twin = await letter_of(desk, command("O-1"))

    with pytest.raises(NotPossibleError, match=f"letter {twin} is the same command"):
        await desk.operations.execute(OTTO, plan.token)


@pytest.mark.need(11)
async def test_an_edit_that_can_never_be_applied_holds_up_no_other_letter(desk: Desk) -> None:
    first, twin = await letter_of(desk, command("O-1")), await letter_of(desk, command("O-1"))
    await done(desk, Action.DISCARD, twin)
    await edited(desk, first, command("O-1b", "savings"))
    await applied(desk, command("O-1b", "another"))

    await done(desk, Action.RESTORE, twin)

    await done(desk, Action.REPLAY, twin)


@pytest.mark.need(11)
async def test_what_an_edit_has_sent_can_be_replayed_and_edited_and_nothing_else_of_it(
    desk: Desk,
) -> None:
    first, twin = await letter_of(desk, command("O-1")), await letter_of(desk, command("O-1"))
    await done(desk, Action.DISCARD, twin)
    await edited(desk, first, command("O-1b", "savings"))
    second = await sent_and_back(desk, first)
    assert (await desk.operations.letter(OTTO, second)).prediction.verdict is PredictedOutcome.WILL_APPLY
    await edited(desk, second, command("O-1c", "third"))
    third = await sent_and_back(desk, second)
    again = await letter_of(desk, command("O-1b", "savings"))
    await done(desk, Action.RESTORE, twin)

    fields = {
        number: (await desk.operations.letter(OTTO, number)).prediction for number in (third, again, twin)
    }

    assert fields[third].verdict is PredictedOutcome.WILL_APPLY
    assert fields[again].label == f"cannot be replayed: edited as O-1c in letter {second}"
    assert fields[twin].verdict is PredictedOutcome.NOT_REPLAYABLE


@pytest.mark.need(11)
async def test_a_number_that_belongs_to_something_else_holds_up_no_edit(desk: Desk) -> None:
    await applied(desk, command("O-1", "another"))
    first, twin = await letter_of(desk, command("O-1")), await letter_of(desk, command("O-1"))

    await edited(desk, first, command("O-1b", "savings"))

    assert (await desk.state(first), await desk.state(twin)) == ("edited", "waiting")


@pytest.mark.need(11)
async def test_what_an_edit_has_sent_is_not_sent_again_once_the_older_version_was_applied(
    desk: Desk,
) -> None:
    first = await letter_of(desk, command("O-1"))
    await edited(desk, first, command("O-1b", "savings"))
    second = await sent_and_back(desk, first)
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(second,)), reason="a test")

    await applied(desk, command("O-1"))

    answer = (await desk.operations.letter(OTTO, second)).prediction
    assert answer.label == f"cannot be replayed: applied as O-1, letter {first}"
    with pytest.raises(StaleError, match=f"applied as O-1, letter {first}"):
        await desk.operations.execute(OTTO, plan.token)
    with pytest.raises(
        NotPossibleError, match=f"was applied as O-1, letter {first}: an edit would send both"
    ):
        await desk.operations.plan_edit(OTTO, second, encoded(command("O-1c", "third")), reason="x")


@pytest.mark.need(11)
async def test_what_an_edit_of_a_malformed_letter_has_sent_is_not_sent_again_once_that_was_mended(
    desk: Desk,
) -> None:
    first = await letter_of(desk, command("O-1") | {"surprise": "1"})
    await edited(desk, first, command("O-1b", "savings"))
    second = await sent_and_back(desk, first)

    await applied(desk, command("O-1"))

    answer = (await desk.operations.letter(OTTO, second)).prediction
    assert answer.label == f"cannot be replayed: applied as O-1, letter {first}"


@pytest.mark.parametrize(
    ("account_type", "status", "code"),
    [("basic", "refused", "ACCOUNT_EXISTS"), ("another", "applied", "OK")],
)
@pytest.mark.need(11)
async def test_an_older_version_that_moved_nothing_holds_up_no_edit_that_came_back(
    desk: Desk, account_type: str, status: str, code: str
) -> None:
    first = await letter_of(desk, command("O-1"))
    await edited(desk, first, command("O-1b", "savings"))
    second = await sent_and_back(desk, first)

    await applied(desk, command("O-1", account_type), status, code)

    await desk.operations.plan_edit(OTTO, second, encoded(command("O-1c", "third")), reason="x")
    await done(desk, Action.REPLAY, second)


@pytest.mark.need(11)
async def test_what_an_edit_has_sent_is_not_edited_once_a_twin_of_the_older_version_was_replayed(
    desk: Desk,
) -> None:
    first, twin = await letter_of(desk, command("O-1")), await letter_of(desk, command("O-1"))
    await done(desk, Action.DISCARD, twin)
    await edited(desk, first, command("O-1b", "savings"))
    second = await sent_and_back(desk, first)
    await applied(desk, command("O-1b", "another"))
    await done(desk, Action.RESTORE, twin)
    await done(desk, Action.REPLAY, twin)
    await applied(desk, command("O-1"))
    await desk.owner.execute(
        "UPDATE dead_letter_replays SET state = 'resolved', code = 'OK', ended_at = now() WHERE letter_id = $1",
        twin,
    )
    await desk.owner.execute("UPDATE dead_letters SET state = 'resolved' WHERE letter_id = $1", twin)

    with pytest.raises(
        NotPossibleError, match=f"was applied as O-1, letter {first}: an edit would send both"
    ):
        await desk.operations.plan_edit(OTTO, second, encoded(command("O-1c", "third")), reason="x")


@pytest.mark.parametrize("came_back", [False, True])
@pytest.mark.need(11)
async def test_an_edit_is_not_published_once_the_older_version_was_applied(
    desk: Desk, *, came_back: bool
) -> None:
    first = await letter_of(desk, command("O-1"))
    await edited(desk, first, command("O-1b", "savings"))
    last = first
    if came_back:
        last = await sent_and_back(desk, first)
        await done(desk, Action.REPLAY, last)
    await applied(desk, command("O-1"))

    await keeper_step(desk)

    replay = (await desk.operations.letter(OTTO, last)).replays[-1]
    assert (replay.state, replay.detail) == (
        ReplayState.FAILED,
        f"applied as O-1, letter {first}: both versions would be",
    )
    assert await desk.state(last) == "waiting"


@pytest.mark.need(11)
async def test_a_replay_that_only_repeats_is_published_whatever_was_applied(desk: Desk) -> None:
    first = await letter_of(desk, command("O-1"))
    await edited(desk, first, command("O-1b", "savings"))
    second = await sent_and_back(desk, first)
    await applied(desk, command("O-1"))
    await applied(desk, command("O-1b", "savings"), "refused", "ACCOUNT_EXISTS")
    await done(desk, Action.REPLAY, second)

    await keeper_step(desk)

    replay = (await desk.operations.letter(OTTO, second)).replays[-1]
    assert replay.state is ReplayState.ORDERED  # there is no broker


@pytest.mark.need(11)
async def test_an_edit_sees_what_was_applied_while_it_looked_at_the_twins(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await letter_of(desk, command("O-1"))
    plan = await approved(desk, first, command("O-1b", "savings"))
    await done(desk, Action.REPLAY, await letter_of(desk, command("O-1")))
    refuse_another = Lineage.ensure_only_version

    async def just_before(*values: Any) -> None:
        await applied(desk, command("O-1"))
        await refuse_another(*values)

    monkeypatch.setattr(Lineage, "ensure_only_version", just_before)

    with pytest.raises(NotPossibleError, match=r"has an outcome already \(OK\): an edit would send both"):
        await desk.operations.execute(OTTO, plan.token)


@pytest.mark.parametrize(("status", "code"), [("applied", "OK"), ("refused", "ACCOUNT_EXISTS")])
@pytest.mark.need(11)
async def test_a_malformed_letter_is_edited_unless_the_mended_message_was_applied(
    desk: Desk, status: str, code: str
) -> None:
    first = await letter_of(desk, command("R-1") | {"surprise": "1"})
    await applied(desk, command("R-1"), status, code)

    if code == "OK":
        with pytest.raises(
            NotPossibleError, match="the mended message was applied as R-1: an edit would send"
        ):
            await desk.operations.plan_edit(OTTO, first, encoded(command("R-1b", "savings")), reason="x")
        await done(desk, Action.DISCARD, first)
    else:
        await edited(desk, first, command("R-1b", "savings"))


@pytest.mark.need(11)
async def test_of_many_letters_that_hold_up_an_edit_ten_are_named(desk: Desk) -> None:
    first, *twins = [await letter_of(desk, command("O-1")) for _ in range(14)]
    await done(desk, Action.REPLAY, twins[-1])
    named = ", ".join(str(twin) for twin in twins[:10])

    with pytest.raises(NotPossibleError) as refused:
        await desk.operations.plan_edit(OTTO, first, encoded(command("O-1b", "savings")), reason="x")

    assert str(refused.value) == (
        f"letters {named} and 3 more are the same command as letter {first}, and may still be applied: an edit would "
        f"send both versions. Discard letters {named} and 2 more first. It can be edited when the outcome of letter "
        f"{twins[-1]} is known"
    )


class Halted:
    """An edit that stands still between its last check and its writing, until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_there, self.may_go = asyncio.Event(), asyncio.Event()
        self._carry_out = executing.apply_plan
        monkeypatch.setattr(executing, "apply_plan", self._halting)

    async def _halting(self, *values: Any) -> None:
        if not self.is_there.is_set():
            self.is_there.set()
            await self.may_go.wait()
        await self._carry_out(*values)


async def behind(
    desk: Desk, halted: Halted, first: Plan, planned: Callable[[], Awaitable[Plan]]
) -> Operation | BaseException:
    """Execute an edit, and something else while it stands still; return what came of the other."""
    doing = asyncio.create_task(desk.operations.execute(OTTO, first.token))
    await halted.is_there.wait()
    second = await planned()
    other = asyncio.create_task(desk.operations.execute(OTTO, second.token))
    waiting = asyncio.create_task(until(desk.owner, LOCKED, True))  # noqa: FBT003 -- what the query says
    await asyncio.wait({other, waiting}, return_when=asyncio.FIRST_COMPLETED)
    halted.may_go.set()
    await doing
    await asyncio.wait({other})
    waiting.cancel()
    await asyncio.wait({waiting})
    return other.exception() or other.result()


@pytest.mark.need(11)
async def test_a_replay_at_the_same_moment_as_an_edit_of_its_command_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = await approved(desk, await letter_of(desk, command("O-1")), command("O-1b", "savings"))

    async def replay_of_a_twin() -> Plan:
        twin = await letter_of(desk, command("O-1"))
        return await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(twin,)), reason="a test")

    ended = await behind(desk, Halted(monkeypatch), edit, replay_of_a_twin)

    assert isinstance(ended, StaleError)
    assert "cannot be replayed: edited as O-1b in letter" in str(ended)


@pytest.mark.need(11)
async def test_of_two_edits_at_the_same_moment_one_takes_the_new_number(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = command("O-3", "savings")
    first, second = [
        await approved(desk, await letter_of(desk, command(item)), new) for item in ("O-1", "O-2")
    ]

    async def planned() -> Plan:
        return second

    ended = await behind(desk, Halted(monkeypatch), first, planned)

    assert isinstance(ended, InvalidEditError)
    assert "the serial number O-3 is used already" in str(ended)


@pytest.mark.need(11)
async def test_the_number_of_another_letter_is_used_already(desk: Desk) -> None:
    first, _ = await letter_of(desk, command("O-1")), await letter_of(desk, command("O-2"))

    with pytest.raises(InvalidEditError, match="the serial number O-2 is used already"):
        await desk.operations.plan_edit(OTTO, first, encoded(command("O-2", "savings")), reason="x")
