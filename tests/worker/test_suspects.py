"""What was delivered before may be what a worker died of: it is counted, and its neighbours do not pay for it."""

import asyncio
from typing import cast

import asyncpg
import pytest
from aiormq.channel import Channel

from tests.rules.core.world import open_account
from tests.worker import tables
from tests.worker.rig import Acknowledged, Rig, as_letter
from wallet_worker.broker.inbox import Delivery, Envelope, Inbox
from wallet_worker.core.inbound import InboundMessage
from wallet_worker.store import save
from wallet_worker.store.errors import UnavailableError
from wallet_worker.worker.bounds import BOUNDS
from wallet_worker.worker.quarantine import fingerprint

FIRST, GUILTY, LAST = (
    open_account("upstream", serial_no=f"O-{name}", user_id=name) for name in ("first", "guilty", "last")
)


async def transactions(owner: asyncpg.Connection) -> int:
    """Return in how many transactions the commands were written."""
    return int(await owner.fetchval("SELECT count(DISTINCT xmin::text) FROM commands"))


async def accuse(owner: asyncpg.Connection, times: int) -> None:
    """Leave it as after so many deaths with the guilty message in hand."""
    mark = fingerprint(as_letter(GUILTY))
    await owner.execute("INSERT INTO suspects VALUES ($1, $2, now())", mark, times)


async def test_what_a_dead_worker_only_had_waiting_is_applied_together(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    await rig.settle(FIRST, GUILTY, LAST, deliveries=7)

    assert await owner.fetchval("SELECT count(*) FROM commands") == 3
    assert await transactions(owner) == 1
    assert await owner.fetchval("SELECT count(*) FROM suspects") == 0


async def test_what_was_in_hand_when_a_worker_died_goes_alone(rig: Rig, owner: asyncpg.Connection) -> None:
    await accuse(owner, 1)

    await rig.settle(FIRST, GUILTY, LAST, deliveries=1)

    assert await owner.fetchval("SELECT count(*) FROM commands") == 3
    assert await transactions(owner) == 3
    assert await owner.fetchval("SELECT count(*) FROM suspects") == 0


async def test_what_workers_died_of_too_often_is_set_aside_untouched_and_its_neighbours_are_applied(
    rig: Rig, owner: asyncpg.Connection
) -> None:
    await accuse(owner, BOUNDS.crashes_max)

    await rig.settle(FIRST, GUILTY, LAST, deliveries=1)

    assert {row["serial_no"] for row in await owner.fetch("SELECT serial_no FROM commands")} == {
        "O-first",
        "O-last",
    }
    ((body, reason, _),) = await tables.dead_letters(owner)
    assert (body, reason) == (GUILTY.body, "INTERNAL")
    assert await owner.fetchval("SELECT count(*) FROM suspects") == 0


@pytest.mark.parametrize("messages", [(GUILTY,), (FIRST, GUILTY)])
async def test_a_fault_of_the_database_is_no_death_however_often_it_comes(
    rig: Rig, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, messages: tuple[InboundMessage, ...]
) -> None:
    async def full(*_: object) -> None:
        raise UnavailableError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(save, "changes", full)
        for _ in range(2 * BOUNDS.crashes_max):
            with pytest.raises(UnavailableError):
                await rig.settle(*messages, deliveries=2)

    await rig.settle(*messages, deliveries=2)

    assert await owner.fetchval("SELECT count(*) FROM commands") == len(messages)
    assert await tables.dead_letters(owner) == []
    assert await owner.fetchval("SELECT count(*) FROM suspects") == 0


async def test_the_same_message_in_the_hands_of_many_workers_is_no_suspect(
    rig: Rig, other: Rig, owner: asyncpg.Connection
) -> None:
    # Each was sent by itself: a message_id of its own.
    copies = [as_letter(GUILTY, deliveries=1) for _ in range(2 * BOUNDS.crashes_max)]
    for number, copy in enumerate(copies):
        copy.properties.message_id = f"m-{number}"

    await asyncio.gather(*(worker.batches.process([copy]) for copy in copies for worker in (rig, other)))

    assert await owner.fetchval("SELECT count(*) FROM commands") == 1
    assert await tables.dead_letters(owner) == []


async def test_fresh_messages_and_those_that_came_before_are_never_in_one_batch() -> None:
    channel = cast("Channel", Acknowledged())
    inbox = Inbox[Envelope]()
    for tag, deliveries in enumerate((0, 0, 1, 3, 0), start=1):
        inbox.put(Delivery(as_letter(FIRST, deliveries), tag, channel))

    batches = [[item.tag for item in await inbox.take(500)] for _ in range(3)]

    assert batches == [[1, 2], [3, 4], [5]]
