"""Replays of which nobody knows what has become: no version is sent beside another, nothing is lost (1, 9, 11)."""

import asyncio
from datetime import datetime
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from tests.dead_letters.conftest import AUTHORITY, LINEAGE, NOWHERE, OTTO, Desk, Wallet
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed
from tests.journeys.messages import Json, encoded, fresh, open_account, recharge
from tests.workers import KEYS
from wallet_worker.core.context import Policy
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.model.errors import InvalidEditError, NotPossibleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.letters import Replay
from wallet_worker.dead_letters.model.plans import Operation
from wallet_worker.dead_letters.model.states import Action, LetterState, OperationState, ReplayState
from wallet_worker.dead_letters.replay.outcomes import resolve_outcomes
from wallet_worker.dead_letters.replay.replayer import Replayer
from wallet_worker.store.dead_letters import replays
from wallet_worker.store.dead_letters.replays import PublishFailure, ReplayEnd


async def one_letter(desk: Desk, content: Json | bytes) -> int:
    """Take one letter in, and return its number."""
    await desk.take_in(arrived(content))
    return (await desk.ids())[-1]


async def ordered(desk: Desk, *letter_ids: int) -> Operation:
    """Order the replay of letters; nobody publishes it."""
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=letter_ids), reason="a test")
    return await desk.operations.execute(OTTO, plan.token)


async def edited(desk: Desk, letter_id: int, new: Json) -> Operation:
    """Order the edit of a letter; nobody publishes it."""
    plan = await desk.operations.plan_edit(OTTO, letter_id, encoded(new), reason="a test")
    await agreed(desk.operations, desk.owner, plan)
    return await desk.operations.execute(OTTO, plan.token)


async def restored(desk: Desk, letter_id: int) -> None:
    """Give up what has no outcome."""
    plan = await desk.operations.plan(OTTO, Action.RESTORE, Filter(ids=(letter_id,)), reason="lost")
    await desk.operations.execute(OTTO, plan.token)


async def published(desk: Desk, letter_id: int) -> UUID:
    """Have a letter's replay published, as a keeper does, twenty minutes ago; return which it is."""
    found: UUID = await desk.owner.fetchval(
        "SELECT replay_id FROM dead_letter_replays WHERE letter_id = $1 AND state = 'ordered'", letter_id
    )
    async with desk.database.transaction() as connection:
        assert await replays.begin(connection, [found]) == {found}
        await replays.published(connection, [found], await now(desk))
    await desk.owner.execute(
        """
        UPDATE dead_letter_replays
        SET attempted_at = attempted_at - interval '20 minutes', published_at = published_at - interval '20 minutes'
        WHERE replay_id = $1
        """,
        found,
    )
    return found


async def now(desk: Desk) -> datetime:
    found: datetime = await desk.owner.fetchval("SELECT clock_timestamp()")
    return found


async def resolved(desk: Desk, replay_id: UUID) -> None:
    """Have a replay its outcome, and its letter be closed."""
    async with desk.database.transaction() as connection:
        end = ReplayEnd(replay_id, ReplayState.RESOLVED, "OK")
        assert len(await replays.end(connection, [end], await now(desk))) == 1
    await desk.owner.execute("UPDATE dead_letters SET state = 'resolved'")


async def only_replay(desk: Desk, letter_id: int) -> Replay:
    (replay,) = (await desk.operations.letter(OTTO, letter_id)).replays
    return replay


async def came_back(
    desk: Desk, content: Json | bytes, replay_id: UUID, *, redelivered: bool = False, reason: str = "INTERNAL"
) -> None:
    """Have a copy of a replay back at the keeper."""
    message_headers = headers(reason, "not again", x_wallet_replay_id=str(replay_id))
    await desk.take_in(arrived(content, message_headers, redelivered=redelivered))


# What comes back


@pytest.mark.parametrize("redelivered", [False, True], ids=["delivered once", "redelivered"])
@pytest.mark.need(9)
async def test_a_copy_that_comes_back_after_the_outcome_opens_the_letter_again(
    desk: Desk, *, redelivered: bool
) -> None:
    order = open_account("user-1")
    letter_id = await one_letter(desk, order)
    await ordered(desk, letter_id)
    replay_id = await published(desk, letter_id)
    await resolved(desk, replay_id)

    await came_back(desk, order, replay_id, redelivered=redelivered, reason="SERIAL_CONFLICT")

    found = await desk.operations.letter(OTTO, letter_id)
    assert (found.whole.line.state, found.whole.line.reason) == (LetterState.WAITING, "SERIAL_CONFLICT")
    assert [replay.state for replay in found.replays] == [ReplayState.RESOLVED]  # the stored outcome stands
    assert [row.action for row in found.audit][-1] == "reopen"


@pytest.mark.parametrize("redelivered", [False, True], ids=["delivered once", "redelivered"])
@pytest.mark.need(9)
async def test_a_request_that_comes_back_after_it_was_handed_on_has_failed(
    desk: Desk, *, redelivered: bool
) -> None:
    letter_id, replay_id = await handed_on(desk)
    assert (
        await resolve_outcomes(desk.database, Policy(), KEYS, DeadLetterMetrics(CollectorRegistry()))
    ).ended == 1
    body = (await desk.operations.letter(OTTO, letter_id)).whole.body
    assert body is not None

    await came_back(desk, body, replay_id, redelivered=redelivered, reason="MALFORMED")

    found = await desk.operations.letter(OTTO, letter_id)
    assert (found.whole.line.state, found.whole.line.reason) == (LetterState.WAITING, "MALFORMED")
    assert [(replay.state, replay.code, replay.detail) for replay in found.replays] == [
        ("failed", "MALFORMED", "not again")
    ]
    assert [row.action for row in found.audit][-2:] == ["replay resolved", "replay failed"]


@pytest.mark.need(9)
async def test_a_copy_that_comes_back_late_leaves_the_next_replay_alone(desk: Desk) -> None:
    order = open_account("user-1")
    letter_id = await one_letter(desk, order)
    await ordered(desk, letter_id)
    replay_id = await published(desk, letter_id)
    await restored(desk, letter_id)
    await ordered(desk, letter_id)

    await came_back(desk, order, replay_id, reason="SERIAL_CONFLICT")

    found = await desk.operations.letter(OTTO, letter_id)
    assert [replay.state for replay in found.replays] == [ReplayState.FAILED, ReplayState.ORDERED]
    assert (found.whole.line.state, found.whole.line.reason) == (LetterState.REPLAYING, "INTERNAL")


# Handed on


async def handed_on(desk: Desk) -> tuple[int, UUID]:
    """Have a payment request published again twenty minutes ago; return the letter and its replay."""
    letter_id = await one_letter(desk, open_account("user-1", serial_no="R-1"))
    await ordered(desk, letter_id)
    replay_id = await published(desk, letter_id)
    await desk.owner.execute("UPDATE dead_letters SET source = 'payment.requests'")
    return letter_id, replay_id


@pytest.mark.need(9)
async def test_a_request_is_handed_on_when_the_gateway_has_answered_since_or_after_a_while(
    desk: Desk,
) -> None:
    metrics = DeadLetterMetrics(CollectorRegistry())
    letter_id, replay_id = await handed_on(desk)
    just_now = """
        UPDATE dead_letter_replays
        SET published_at = clock_timestamp(), attempted_at = clock_timestamp() - interval '1 second', checked_at = NULL
    """
    says = """
        INSERT INTO payment_results (payment_order_no, fingerprint, status, amount, currency, gateway_ref, occurred_at,
                                     received_at, processing, code)
        VALUES ('R-1', sha256($1), $2, '1.00', 'TWD', 'g', now(), clock_timestamp() - $3 * interval '1 second',
                'duplicate', 'OK')
    """
    await desk.owner.execute(just_now)
    await desk.owner.execute(says, b"1", "unknown", 60)

    before = await resolve_outcomes(desk.database, Policy(), KEYS, metrics)
    await desk.owner.execute(says, b"2", "failed", 0)
    await desk.owner.execute("UPDATE dead_letter_replays SET checked_at = NULL")
    after = await resolve_outcomes(desk.database, Policy(), KEYS, metrics)

    assert (before.looked_at, before.ended, after.ended) == (1, 0, 1)
    replay = await only_replay(desk, letter_id)
    assert (replay.replay_id, replay.state, replay.code) == (replay_id, "resolved", "OK")
    assert replay.detail == "handed on to the gateway, which has said failed of its order since"
    assert await desk.state(letter_id) == "resolved"


@pytest.mark.need(9)
async def test_a_request_that_is_not_back_after_a_while_was_handed_on(desk: Desk) -> None:
    letter_id, _ = await handed_on(desk)

    await resolve_outcomes(desk.database, Policy(), KEYS, DeadLetterMetrics(CollectorRegistry()))

    replay = await only_replay(desk, letter_id)
    assert replay.detail == "handed on to the gateway, and not back 30 seconds later"


# Given up, and edited


@pytest.mark.need(11)
async def test_no_edit_while_a_replay_that_was_given_up_may_still_be_applied(desk: Desk) -> None:
    order = open_account("user-1")
    new = open_account("user-1", account_type="savings")
    letter_id = await one_letter(desk, order)
    await ordered(desk, letter_id)
    replay_id = await published(desk, letter_id)
    await restored(desk, letter_id)

    with pytest.raises(NotPossibleError, match="an edit would send both versions"):
        await desk.operations.plan_edit(OTTO, letter_id, encoded(new), reason="x")
    assert (await only_replay(desk, letter_id)).state is ReplayState.CANCELLED
    await came_back(desk, order, replay_id)

    assert (await only_replay(desk, letter_id)).state is ReplayState.FAILED
    await edited(desk, letter_id, new)
    assert await desk.state(letter_id) == "edited"


@pytest.mark.need(11)
async def test_an_edit_that_was_planned_before_is_refused_too(desk: Desk) -> None:
    letter_id = await one_letter(desk, open_account("user-1"))
    new = encoded(open_account("user-1", account_type="savings"))
    plan = await desk.operations.plan_edit(OTTO, letter_id, new, reason="x")
    await agreed(desk.operations, desk.owner, plan)
    await ordered(desk, letter_id)
    await published(desk, letter_id)
    await restored(desk, letter_id)

    with pytest.raises(NotPossibleError, match="an edit would send both versions"):
        await desk.operations.execute(OTTO, plan.token)


@pytest.mark.need(11)
async def test_a_replay_that_can_never_be_applied_holds_up_no_edit(desk: Desk) -> None:
    letter_id = await one_letter(desk, recharge("user-1", "1.001"))
    await ordered(desk, letter_id)
    await published(desk, letter_id)
    await restored(desk, letter_id)

    await edited(desk, letter_id, recharge("user-1"))

    assert await desk.state(letter_id) == "edited"


@pytest.mark.need(11)
async def test_an_edit_without_an_outcome_can_be_given_up_and_the_old_version_is_not_sent_then(
    desk: Desk,
) -> None:
    old, new = open_account("user-1"), open_account("user-1", account_type="savings")
    letter_id = await one_letter(desk, old)
    which = Filter(ids=(letter_id,))
    await edited(desk, letter_id, new)
    with pytest.raises(NotPossibleError, match="is being replayed already"):
        await desk.operations.plan(OTTO, Action.RESTORE, which, reason="x")
    replay_id = await published(desk, letter_id)

    await restored(desk, letter_id)

    assert await desk.state(letter_id) == "waiting"
    with pytest.raises(
        NotPossibleError, match="an edit of it was given up without an outcome, and may still"
    ):
        await desk.operations.plan(OTTO, Action.REPLAY, which, reason="x")
    with pytest.raises(
        NotPossibleError, match=r"an edit would send both versions\. Edit the letter that it comes back"
    ):
        await desk.operations.plan_edit(
            OTTO, letter_id, encoded(open_account("user-1", account_type="third")), reason="x"
        )
    other = await one_letter(desk, open_account("user-2"))
    with pytest.raises(InvalidEditError, match="is used already"):
        await desk.operations.plan_edit(OTTO, other, encoded(new), reason="x")
    await came_back(desk, new, replay_id)
    with pytest.raises(NotPossibleError, match=f"edited as {new['serial_no']} in letter {letter_id}"):
        await desk.operations.plan(OTTO, Action.REPLAY, which, reason="x")
    sent = (await desk.ids(Filter(serial_no=new["serial_no"])))[0]
    assert (await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(sent,)), reason="x")).total == 1


@pytest.mark.need(11)
async def test_an_edit_with_an_outcome_stays_closed(desk: Desk) -> None:
    letter_id = await one_letter(desk, open_account("user-1"))
    await edited(desk, letter_id, open_account("user-1", account_type="savings"))
    replay_id = await published(desk, letter_id)
    async with desk.database.transaction() as connection:
        await replays.end(connection, [ReplayEnd(replay_id, ReplayState.RESOLVED, "OK")], await now(desk))

    with pytest.raises(NotPossibleError, match=f"letter {letter_id} is edited: there is nothing to restore"):
        await desk.operations.plan(OTTO, Action.RESTORE, Filter(ids=(letter_id,)), reason="x")


# Stopped


@pytest.mark.need(1)
async def test_what_may_be_on_its_way_goes_on_to_its_outcome_when_it_is_stopped(desk: Desk) -> None:
    out, kept = [await one_letter(desk, open_account(f"user-{number}")) for number in range(2)]
    operation = await ordered(desk, out, kept)
    ids = {row["letter_id"]: row["replay_id"] for row in await desk.owner.fetch("TABLE dead_letter_replays")}
    async with desk.database.transaction() as connection:
        await replays.begin(connection, [ids[out]])  # and the keeper dies

    await desk.operations.stop(OTTO, operation.operation_id, reason="enough")

    assert [await desk.state(item) for item in (out, kept)] == ["replaying", "waiting"]
    async with desk.database.transaction() as connection:
        assert await replays.begin(connection, [ids[kept]]) == set()
    await Replayer(desk.database, NOWHERE, DeadLetterMetrics(CollectorRegistry()), LINEAGE, AUTHORITY).step()
    after = await desk.operations.operation(OTTO, operation.operation_id)
    assert (after.state, after.ordered, after.published, after.cancelled) == (OperationState.STOPPED, 0, 1, 1)
    assert after.ended_at is None
    await resolved(desk, ids[out])
    await Replayer(desk.database, NOWHERE, DeadLetterMetrics(CollectorRegistry()), LINEAGE, AUTHORITY).step()
    assert (await desk.operations.operation(OTTO, operation.operation_id)).ended_at is not None


@pytest.mark.parametrize(("is_certain", "state"), [(True, "waiting"), (False, "replaying")])
@pytest.mark.need(1)
async def test_what_the_broker_has_refused_is_not_on_its_way(
    desk: Desk, *, is_certain: bool, state: str
) -> None:
    letter_id = await one_letter(desk, open_account("user-1"))
    operation = await ordered(desk, letter_id)
    replay_id = (await only_replay(desk, letter_id)).replay_id
    async with desk.database.transaction() as connection:
        await replays.begin(connection, [replay_id])
        await replays.tried(connection, [PublishFailure(replay_id, "no route", is_certain=is_certain)])

    await desk.operations.stop(OTTO, operation.operation_id, reason="enough")

    assert await desk.state(letter_id) == state


@pytest.mark.need(8)
async def test_an_operation_says_how_many_were_given_up(desk: Desk) -> None:
    ids = [await one_letter(desk, open_account(f"user-{number}")) for number in range(2)]
    operation = await ordered(desk, *ids)
    given_up, ended = [(item, await published(desk, item)) for item in ids]
    await restored(desk, given_up[0])
    async with desk.database.transaction() as connection:
        await replays.end(connection, [ReplayEnd(ended[1], ReplayState.RESOLVED, "OK")], await now(desk))

    await Replayer(desk.database, NOWHERE, DeadLetterMetrics(CollectorRegistry()), LINEAGE, AUTHORITY).step()

    after = await desk.operations.operation(OTTO, operation.operation_id)
    assert (after.state, after.standing) == ("done", "done; 1 given up without an outcome")


@pytest.mark.parametrize(("attempted", "state"), [(False, "failed"), (True, "published")])
@pytest.mark.need(9)
async def test_a_request_that_was_sent_perhaps_goes_on_to_its_outcome_though_its_order_has_ended(
    desk: Desk, *, attempted: bool, state: str
) -> None:
    letter_id = await one_letter(desk, open_account("user-1"))
    await ordered(desk, letter_id)
    if attempted:
        async with desk.database.transaction() as connection:
            await replays.begin(connection, [(await only_replay(desk, letter_id)).replay_id])
    await desk.owner.execute("UPDATE dead_letters SET source = 'payment.requests'")

    await Replayer(desk.database, NOWHERE, DeadLetterMetrics(CollectorRegistry()), LINEAGE, AUTHORITY).step()

    assert (await only_replay(desk, letter_id)).state == state


@pytest.mark.need(11)
async def test_an_edit_whose_keeper_died_is_sent_once_although_it_was_stopped(wallet: Wallet) -> None:
    dying = await wallet.start(WALLET_FAILPOINT="after_replay")
    old = recharge(await wallet.upstream.opened(), "1.001")
    new = old | {"amount": "1.00", "serial_no": fresh("R")}
    (letter_id,) = await wallet.set_aside(old, reason="MALFORMED")
    operation = await edited(wallet, letter_id, new)
    await asyncio.wait_for(dying.process.wait(), 60)

    await wallet.operations.stop(OTTO, operation.operation_id, reason="enough")

    assert await wallet.state(letter_id) == "edited"  # the new message is in the queue
    await wallet.start()
    await wallet.until_operation(operation.operation_id, "stopped")
    replay = await only_replay(wallet, letter_id)
    assert (replay.state, replay.code) == (ReplayState.RESOLVED, "OK")
    found = await wallet.owner.fetch("SELECT serial_no FROM orders")
    assert [row["serial_no"] for row in found] == [new["serial_no"]]
