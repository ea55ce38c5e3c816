"""Each part of `wallet webhooks` waits for whatever the database says, and ends at a broken invariant."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NoReturn

import pytest

from wallet_worker.broker.event_log import EventLog
from wallet_worker.store import webhooks
from wallet_worker.store.database import Database
from wallet_worker.store.errors import (
    AccessDeniedError,
    ConflictError,
    InvariantBrokenError,
    StatementRejectedError,
    StoreError,
    UnavailableError,
    UnfitError,
)
from wallet_worker.store.webhooks import WEBHOOKS_ROLE
from wallet_worker.telemetry.health import Health
from wallet_worker.webhooks import sender as senders
from wallet_worker.webhooks.dispatcher import Dispatcher
from wallet_worker.webhooks.metrics import WebhooksMetrics
from wallet_worker.webhooks.sender import WebhookSender

STATEMENTS = {"dispatcher": "lease", "sender": "take", "backlog": "backlog"}
"""By part, the statement with which it begins."""


@pytest.fixture
async def parts(
    amqp_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Callable[[asyncio.Event], Coroutine[Any, Any, None]]]]:
    """Give the parts of the process on an open database; they look often."""
    for name in ("LOOK_SECONDS", "MEASURE_SECONDS"):
        monkeypatch.setattr(senders, name, 0.01)
    database = Database(database_url, role=WEBHOOKS_ROLE, application="tests", size_max=2)
    await database.open()
    health, metrics, has_new = Health(), WebhooksMetrics(), asyncio.Event()
    log = EventLog(amqp_url, name="tests")
    dispatcher = Dispatcher(log, database, name="tests", on_new=has_new, health=health, metrics=metrics)
    sender = WebhookSender(
        database,
        networks=(),
        context=ssl.create_default_context(),
        has_new=has_new,
        health=health,
        metrics=metrics,
    )
    yield {"dispatcher": dispatcher.run, "sender": sender.run, "backlog": sender.look_after}
    await log.close()
    await database.close()


def failing(monkeypatch: pytest.MonkeyPatch, part: str, exc: StoreError, stopping: asyncio.Event) -> None:
    """Have the first statement of a part fail, and stop the process at the second attempt."""
    attempts = 0

    async def fail(*_: object, **__: object) -> NoReturn:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            stopping.set()
        raise exc

    monkeypatch.setattr(webhooks, STATEMENTS[part], fail)


@pytest.mark.parametrize("part", STATEMENTS)
async def test_a_part_outlives_whatever_the_database_says(
    parts: dict[str, Callable[[asyncio.Event], Coroutine[Any, Any, None]]],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    for kind in (UnavailableError, AccessDeniedError, UnfitError, ConflictError, StatementRejectedError):
        stopping = asyncio.Event()
        failing(monkeypatch, part, kind("not now"), stopping)

        async with asyncio.timeout(30):
            await parts[part](stopping)


@pytest.mark.parametrize("part", STATEMENTS)
async def test_a_part_ends_at_a_broken_invariant(
    parts: dict[str, Callable[[asyncio.Event], Coroutine[Any, Any, None]]],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    failing(monkeypatch, part, InvariantBrokenError("two rows"), asyncio.Event())

    async with asyncio.timeout(30):
        with pytest.raises(InvariantBrokenError):
            await parts[part](asyncio.Event())
