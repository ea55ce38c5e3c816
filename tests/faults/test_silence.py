"""A broker that falls silent, found by the heartbeat: calls that waited for it are lost, and were not cancelled."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy, Way
from tests.rules.core.world import NOW
from wallet_schemas.names import WALLET_COMMANDS, WALLET_EVENTS
from wallet_worker.broker import connection
from wallet_worker.broker.connection import BrokerUnavailableError, connect, open_channel, translate_errors
from wallet_worker.broker.publisher import Publisher
from wallet_worker.core.changes import OutboxMessage
from wallet_worker.core.ids import uuid7
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics

SILENCE_SECONDS = 15.0  # three heartbeats of a second, and whatever a busy machine adds


@pytest.fixture
async def broker(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    monkeypatch.setattr(connection, "HEARTBEAT_SECONDS", 1)
    async with Proxy(amqp_url) as proxy:
        yield proxy


async def test_a_call_that_waits_is_lost_and_its_task_was_not_cancelled(broker: Proxy) -> None:
    line = await connect(broker.url, "test")
    channel = await open_channel(line, confirms=True)
    broker.black_hole()

    with pytest.raises(BrokerUnavailableError, match="lost"), translate_errors():
        await channel.queue_declare(WALLET_COMMANDS, passive=True, timeout=SILENCE_SECONDS)

    current = asyncio.current_task()
    assert current is not None
    assert not current.cancelling()
    broker.reset()
    await connection.close(line)


async def test_a_channel_of_a_connection_that_has_just_been_lost_is_lost_with_it(broker: Proxy) -> None:
    line = await connect(broker.url, "test")
    assert line.transport is not None
    lost = line.transport.connection.closing
    broker.reset()
    await asyncio.wait({lost}, timeout=SILENCE_SECONDS)

    with pytest.raises(BrokerUnavailableError, match="no channel"):
        await open_channel(line)

    await connection.close(line)


async def test_a_task_that_is_cancelled_is_cancelled() -> None:
    async def wait() -> None:
        with translate_errors():
            await asyncio.sleep(SILENCE_SECONDS)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_is_a_time_limit() -> None:
    with pytest.raises(TimeoutError), translate_errors():
        async with asyncio.timeout(0.01):
            await asyncio.sleep(SILENCE_SECONDS)


async def test_publishing_into_silence_returns_what_was_confirmed_and_is_not_cancelled(broker: Proxy) -> None:
    publisher = Publisher(broker.url, Health(), Metrics())
    stopping = asyncio.Event()
    running = asyncio.create_task(publisher.run(stopping))
    rows = [
        OutboxMessage(uuid7(NOW, bytes([number] * 10)), WALLET_EVENTS, "a.key", b"{}") for number in range(50)
    ]
    await _published(publisher, rows[:1])
    broker.black_hole(Way.TO_CLIENT)

    confirmed = await asyncio.wait_for(publisher.publish(rows), SILENCE_SECONDS)

    assert confirmed == set()
    broker.heal()
    broker.reset()
    await _published(publisher, rows)
    stopping.set()
    await running
    await publisher.close()


async def _published(publisher: Publisher, rows: list[OutboxMessage]) -> None:
    """Publish until all is confirmed: the connection may not be up yet."""
    async with asyncio.timeout(SILENCE_SECONDS):
        while await publisher.publish(rows) != {row.message_id for row in rows}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
