"""A task that is cancelled in the very moment in which what it waits for succeeds has been cancelled.

`asyncio.wait_for` of Python 3.11 forgets that: the task goes on, and whoever cancelled it waits for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable

import aio_pika
import aiormq
import pytest

from wallet_worker.backoff import sleep_unless
from wallet_worker.broker.connection import connect, open_channel, open_connection

SOON_SECONDS = 20.0


def cancelling(
    work: Callable[..., Awaitable[object]], tasks: list[asyncio.Task[None]]
) -> Callable[..., object]:
    """Return the same work, which cancels the task just before it has succeeded."""

    async def succeed(*args: object, **kwargs: object) -> object:
        done = await work(*args, **kwargs)
        tasks[0].cancel()
        return done

    return succeed


async def cancelled(task: asyncio.Task[None]) -> bool:
    """Return whether the task ends as a cancelled one does."""
    async with asyncio.timeout(SOON_SECONDS):
        await asyncio.wait({task})
    return task.cancelled()


async def test_while_connecting(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(aiormq, "connect", cancelling(aiormq.connect, tasks))

    async def work() -> None:
        await connect(amqp_url, "cancelled")
        await asyncio.sleep(0.1)

    tasks.append(asyncio.create_task(work()))

    assert await cancelled(tasks[0])


async def test_while_opening_a_channel(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[asyncio.Task[None]] = []
    initialize = aio_pika.Channel.initialize
    monkeypatch.setattr(aio_pika.Channel, "initialize", cancelling(initialize, tasks))

    async def work() -> None:
        async with open_connection(amqp_url, "cancelled") as connection:
            await open_channel(connection)
            await asyncio.sleep(0.1)

    tasks.append(asyncio.create_task(work()))

    assert await cancelled(tasks[0])


async def test_while_resting() -> None:
    stopping = asyncio.Event()

    async def work() -> None:
        await sleep_unless(SOON_SECONDS, stopping)
        await asyncio.sleep(0.1)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    stopping.set()
    task.cancel()

    assert await cancelled(task)
