"""Stopping: what is in hand is finished, what was only waiting goes back untouched, and the exit status is 0."""

import asyncio
import signal

import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import fresh, open_account
from tests.journeys.upstream import COMMANDS, Mailbox
from tests.workers import READY_SECONDS, STOP_SECONDS, WorkerProcess
from wallet_worker.worker.app import PREFETCH

LEFT = 700


async def send(wallet: Wallet, count: int) -> list[str]:
    """Publish commands and return their serial numbers."""
    serial_nos = [fresh("O") for _ in range(count)]
    for serial_no in serial_nos:
        await wallet.upstream.publish(COMMANDS, open_account(serial_no, serial_no=serial_no))
    return serial_nos


async def ended(worker: WorkerProcess) -> int:
    """Return the exit status of a worker that was told to stop."""
    return await asyncio.wait_for(worker.process.wait(), STOP_SECONDS)


async def until_tried(worker: WorkerProcess) -> None:
    """Wait until a worker says that it could not reach its database."""
    async with asyncio.timeout(READY_SECONDS):
        # A log tells nobody when it grows.
        while worker.events("database.waiting") == []:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_with_full_prefetch_finishes_it_and_no_message_is_delivered_again(
    number: signal.Signals, wallet: Wallet
) -> None:
    upstream = wallet.upstream
    worker = await wallet.workers.start()
    async with wallet.owner.transaction():
        # While this is locked the worker takes what it can and finishes nothing.
        await wallet.owner.execute("LOCK TABLE commands IN EXCLUSIVE MODE")
        serial_nos = await send(wallet, PREFETCH + LEFT)
        await upstream.until_depth(COMMANDS, LEFT)
        worker.process.send_signal(number)
        await worker.until_ready(ready=False)

    status = await ended(worker)
    left = Mailbox(COMMANDS)
    await (await upstream.new_channel()).basic_consume(COMMANDS, left.put, no_ack=True)
    await left.until_count(LEFT)
    applied = {row["serial_no"] for row in await wallet.owner.fetch("SELECT serial_no FROM commands")}
    await upstream.settled(wallet.owner)

    assert status == 0
    (draining,) = worker.events("worker.draining")
    assert int(str(draining["waiting"])) > PREFETCH // 2
    assert len(worker.events("worker.stopped")) == 1
    assert [item for item in left.received if item.redelivered or "x-delivery-count" in item.headers] == []
    assert applied == set(serial_nos[:PREFETCH])
    assert {item.json["serial_no"] for item in left.received} == set(serial_nos[PREFETCH:])
    assert sorted(item.json["serial_no"] for item in upstream.events.received) == sorted(applied)
    await assert_sound(wallet.owner)


async def test_a_worker_that_cannot_finish_in_time_leaves_the_rest_to_the_next(wallet: Wallet) -> None:
    upstream = wallet.upstream
    worker = await wallet.workers.start(WALLET_DRAIN_SECONDS="1")
    async with wallet.owner.transaction():
        await wallet.owner.execute("LOCK TABLE commands IN EXCLUSIVE MODE")
        serial_nos = await send(wallet, 100)
        await upstream.until_depth(COMMANDS, 0)
        worker.process.send_signal(signal.SIGTERM)
        status = await ended(worker)
    await wallet.workers.start()
    await upstream.events.until_count(100)
    await upstream.settled(wallet.owner)

    assert status == 0
    assert len(worker.events("worker.drain_timeout")) == 1
    assert sorted(item.json["serial_no"] for item in upstream.events.received) == sorted(serial_nos)
    await assert_sound(wallet.owner)


async def test_an_idle_worker_stops_at_once(wallet: Wallet) -> None:
    worker = await wallet.workers.start()

    async with asyncio.timeout(5):
        status = await worker.stop()

    assert status == 0


async def test_a_worker_that_still_waits_for_its_database_stops_at_once(wallet: Wallet) -> None:
    worker = await wallet.workers.launch(WALLET_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    await until_tried(worker)

    async with asyncio.timeout(5):
        status = await worker.stop()

    assert status == 0
