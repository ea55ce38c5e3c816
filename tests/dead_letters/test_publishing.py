"""A replayer on its own, step by step: what one operation does wrong harms no other.

They show needs 1 and 8 of docs/operators-needs.md.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from pamqp.common import FieldValue
from prometheus_client import CollectorRegistry

from tests.dead_letters.conftest import AUTHORITY, LINEAGE, OTTO, Desk, a_desk
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed
from tests.journeys.messages import open_account
from tests.servers import Servers
from wallet_worker.broker import topology
from wallet_worker.dead_letters.metrics import DeadLetterMetrics
from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Operation, ReplayPace
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.dead_letters.replay import predict, properties
from wallet_worker.dead_letters.replay import replayer as replaying
from wallet_worker.dead_letters.replay.replayer import OUT_MAX, Replayer


@dataclass
class Publishing(Desk):
    """A desk with a broker, and a replayer that steps when it is told to; nobody reads what it publishes."""

    replayer: Replayer = field(kw_only=True)
    metrics: DeadLetterMetrics = field(kw_only=True)

    async def letter(self, message_headers: dict[str, FieldValue] | None = None) -> int:
        """Take one letter in; return its number."""
        await self.take_in(arrived(open_account("user-1"), message_headers))
        return (await self.ids())[-1]

    async def ordered(self, ids: Sequence[int], pace: ReplayPace | None = None) -> Operation:
        """Return the operation that replays these letters, not begun."""
        plan = await self.operations.plan(
            OTTO, Action.REPLAY, Filter(ids=tuple(ids)), reason="a test", pace=pace
        )
        if plan.total > self.operations.limits.single_person_max:
            await agreed(self.operations, self.owner, plan)
        return await self.operations.execute(OTTO, plan.token)

    async def set_rate(self, operation_id: UUID, rate: float) -> None:
        """Have an operation a rate that nobody could plan."""
        await self.owner.execute(
            "UPDATE dead_letter_operations SET rate = $2 WHERE operation_id = $1", operation_id, rate
        )

    async def replays(self) -> dict[int, str]:
        """Return the state of each letter's newest replay."""
        rows = await self.owner.fetch("SELECT letter_id, state FROM dead_letter_replays ORDER BY ordered_at")
        return {row["letter_id"]: row["state"] for row in rows}


@pytest.fixture
async def desk(servers: Servers, database_url: str) -> AsyncIterator[Publishing]:
    """Give a desk with a broker, on a database of the test's own."""
    async with servers.vhost() as amqp_url, a_desk(database_url) as made:
        await topology.apply(amqp_url)
        metrics = DeadLetterMetrics(CollectorRegistry())
        replayer = Replayer(made.database, amqp_url, metrics, LINEAGE, AUTHORITY)
        try:
            yield Publishing(
                made.database, made.operating, made.operations, made.owner, replayer=replayer, metrics=metrics
            )
        finally:
            await replayer.close()


@pytest.mark.parametrize("rate", [0.0, 1e-300, 0.009, float("nan"), float("inf"), 10_001.0])
@pytest.mark.need(8)
async def test_a_rate_that_is_none_is_refused(desk: Publishing, rate: float) -> None:
    letter_id = await desk.letter()

    with pytest.raises(NotPossibleError, match=r"a rate is from 0\.01 to 10,000 a second"):
        await desk.ordered([letter_id], ReplayPace(rate_per_second=rate))


@pytest.mark.need(8)
async def test_a_rate_of_next_to_nothing_publishes_once(desk: Publishing) -> None:
    slow = await desk.ordered([await desk.letter(), await desk.letter()])
    await desk.set_rate(slow.operation_id, 1e-300)
    quick = await desk.ordered([await desk.letter()])

    for _ in range(3):
        await desk.replayer.step()

    assert sorted((await desk.replays()).values()) == ["ordered", "published", "published"]
    assert (await desk.operations.operation(OTTO, quick.operation_id)).published == 1


@pytest.mark.need(8)
async def test_an_operation_that_fails_is_paused_and_holds_up_no_other(desk: Publishing) -> None:
    bad = await desk.ordered([await desk.letter()])
    await desk.set_rate(bad.operation_id, 0.0)
    good = await desk.ordered([await desk.letter()])

    await desk.replayer.step()

    after = await desk.operations.operation(OTTO, bad.operation_id)
    assert (after.state, after.ordered) == ("paused", 1)
    assert after.standing == (
        "paused by itself, because it fails: the wallet's own code has a fault; "
        "replay.paused in the log of the keeper says where"
    )
    assert desk.metrics.ended_by_themselves.labels(how="paused")._value.get() == 1
    assert (await desk.operations.operation(OTTO, good.operation_id)).published == 1
    (row,) = await desk.owner.fetch("SELECT actor, reason FROM dead_letter_audit WHERE action = 'pause'")
    assert row["actor"] == "keeper"


@pytest.mark.need(8)
async def test_no_more_is_published_than_can_be_without_an_outcome(desk: Publishing) -> None:
    await desk.take_in(*(arrived(open_account(f"user-{number}")) for number in range(OUT_MAX + 20)))
    operation = await desk.ordered(await desk.ids(), ReplayPace(rate_per_second=20))
    for _ in range(OUT_MAX):
        await desk.owner.execute("UPDATE dead_letter_operations SET publish_at = started_at")
        await desk.replayer.step()

    after = await desk.operations.operation(OTTO, operation.operation_id)

    assert (after.published, after.ordered) == (OUT_MAX, 20)
    assert after.standing == f"waiting for some of {OUT_MAX} outcomes before more is published"


def large(size: int) -> dict[str, FieldValue]:
    """Return a letter's headers, so large that what a replay adds does not fit."""
    return headers(x_theirs="x" * size)


@pytest.mark.need(1)
async def test_headers_that_no_frame_takes_are_not_ordered(desk: Publishing) -> None:
    letter_id = await desk.letter(large(properties.PROPERTIES_BYTES_MAX))

    with pytest.raises(NotPossibleError, match="its headers, with those of a replay, are larger"):
        await desk.ordered([letter_id])


@pytest.mark.need(1)
async def test_headers_that_just_fit_are_published(desk: Publishing) -> None:
    letter_id = await desk.letter(large(properties.PROPERTIES_BYTES_MAX - 400))
    await desk.ordered([letter_id])

    await desk.replayer.step()

    assert await desk.replays() == {letter_id: "published"}


@pytest.mark.need(1)
async def test_one_that_costs_the_connection_is_found_out_and_failed(
    desk: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (predict, replaying):
        monkeypatch.setattr(module, "is_too_large", lambda _: False)
    before = [await desk.letter() for _ in range(3)]
    culprit = await desk.letter(large(properties.PROPERTIES_BYTES_MAX + 10_000))
    after = [await desk.letter() for _ in range(3)]
    await desk.ordered([*before, culprit, *after], ReplayPace(stop_ratio=1))

    for _ in range(20):
        await desk.owner.execute("UPDATE dead_letter_operations SET publish_at = started_at")
        await desk.replayer.step()

    assert await desk.replays() == dict.fromkeys((*before, *after), "published") | {culprit: "failed"}
    assert await desk.state(culprit) == "waiting"
    row = await desk.owner.fetchrow("SELECT detail FROM dead_letter_replays WHERE state = 'failed'")
    assert row is not None
    assert row["detail"] == "the connection to the broker was lost each time that it was published, alone too"
    assert desk.metrics.replays.labels(outcome="failed")._value.get() == 1
