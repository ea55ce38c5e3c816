"""The programs that the documents show, run against a real worker."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from tests.client import gateway
from tests.workers import Workers

HERE = Path(__file__).parent
RUN_SECONDS = 60.0


async def program(name: str, amqp_url: str) -> Process:
    """Start one of the programs; each of its lines can be read when it is printed."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        str(HERE / name),
        env=os.environ | {"WALLET_AMQP_URL": amqp_url},
        stdout=PIPE,
    )


async def lines(process: Process) -> list[str]:
    """Wait for a program's end, and return what it has printed and nobody has read yet."""
    async with asyncio.timeout(RUN_SECONDS):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().splitlines()


async def test_the_first_program_and_the_one_after_it_print_what_they_say(
    amqp_url: str, workers: Workers
) -> None:
    await workers.start()

    async with gateway.everything_is_paid(amqp_url):
        first = await lines(await program("example.py", amqp_url))
        then = await lines(await program("spending.py", amqp_url))

    assert first == ["applied OK", "applied False", "succeeded"]
    assert then == ["bob", "INSUFFICIENT_BALANCE", "1 credit 100.00 100.00", "2 debit 25.00 75.00"]


async def test_the_subscriber_hears_of_each_event_once(amqp_url: str, workers: Workers) -> None:
    await workers.start()
    subscriber = await program("subscriber.py", amqp_url)
    assert subscriber.stdout is not None
    assert await subscriber.stdout.readline() == b"listening\n"

    async with gateway.everything_is_paid(amqp_url):
        await lines(await program("example.py", amqp_url))

    heard = await lines(subscriber)
    assert heard == ["order.pending.v1 recharge-1", "order.succeeded.v1 recharge-1", "1 credit 100.00"]
