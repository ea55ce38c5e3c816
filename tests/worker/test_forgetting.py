"""Deleting what was published: along with a batch where that pays, in a transaction of its own where it does not."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast
from uuid import UUID, uuid4

import asyncpg
import pytest
from typing_extensions import override

from wallet_worker.broker.publisher import Publisher
from wallet_worker.store import outbox as outbox_table
from wallet_worker.store.database import WORKER_ROLE, Database
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.worker.outbox import TAKEN_ALONG_MIN, Outbox

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def test_a_batch_takes_confirmed_rows_along_when_they_are_worth_a_round_trip() -> None:
    health, metrics = Health(), Metrics()
    outbox = Outbox(
        Database(NOWHERE, role=WORKER_ROLE, application="test"),
        Publisher("amqp://nobody@127.0.0.1:1", health, metrics),
        health,
        metrics,
    )
    ids = [uuid4() for _ in range(TAKEN_ALONG_MIN)]

    outbox.give_back(ids[:-1])

    assert outbox.claim_confirmed() == []  # left to `forget`, and not lost:
    assert outbox.claim_confirmed(at_least=1) == ids[:-1]
    outbox.give_back(ids)
    assert outbox.claim_confirmed() == ids
    assert outbox.claim_confirmed(at_least=1) == []


async def test_a_worker_that_stops_waits_for_what_is_being_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off, the rows would stay, and somebody's relay would publish all of them again."""
    health, metrics = Health(), Metrics()
    outbox = Outbox(_Anywhere(), Publisher("amqp://nobody@127.0.0.1:1", health, metrics), health, metrics)
    slow, deleted = asyncio.Event(), list[UUID]()

    async def delete(_: asyncpg.Connection, ids: Iterable[UUID]) -> None:
        await slow.wait()
        deleted.extend(ids)

    monkeypatch.setattr(outbox_table, "delete", delete)
    ids = [uuid4()]
    outbox.give_back(ids)
    begun = asyncio.create_task(outbox.forget_now())
    await asyncio.sleep(0)

    draining = asyncio.create_task(outbox.drain(1))
    done, _ = await asyncio.wait({draining}, timeout=0.05)
    assert not done
    slow.set()
    await draining

    assert deleted == ids
    await begun


class _Anywhere(Database):
    """A database that gives nothing for a connection."""

    def __init__(self) -> None:
        super().__init__(NOWHERE, role=WORKER_ROLE, application="test")

    @override
    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        yield cast("asyncpg.Connection", None)
