"""`wallet worker --processes`: several workers under one command, which stop together, and never one alone."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import psutil
import pytest

from tests.servers import Servers
from tests.workers import WorkerProcess, Workers
from wallet_worker.broker import topology

STOP_SECONDS = 40.0


@pytest.fixture
async def several(servers: Servers, amqp_url: str, database_url: str) -> AsyncIterator[WorkerProcess]:
    """Give a command that runs two workers, both ready."""
    await topology.apply(amqp_url)
    program = ("-m", "wallet_worker", "worker", "--processes", "2")
    async with Workers(amqp_url, database_url, servers.management_url, program) as workers:
        started = await workers.start()
        await WorkerProcess(started.process, started.port + 1, started.log_path).until_ready()
        children = working(started)
        yield started
        for child in children:
            if child.is_running():
                child.kill()


def working(command: WorkerProcess) -> list[psutil.Process]:
    return psutil.Process(command.pid).children()


async def test_all_of_them_drain_when_the_command_is_told_to_stop(several: WorkerProcess) -> None:
    children = working(several)

    status = await several.stop()

    assert len(children) == 2
    assert status == 0
    assert not any(child.is_running() for child in children)
    assert len(several.events("worker.stopped")) == 2


async def test_when_one_dies_the_others_drain_and_the_command_fails(several: WorkerProcess) -> None:
    first, second = working(several)

    first.send_signal(signal.SIGKILL)
    status = await asyncio.wait_for(several.process.wait(), STOP_SECONDS)

    assert status == 1
    assert not second.is_running()
    ((ended,),) = [several.events("worker.ended")]
    assert (ended["pid"], ended["status"]) == (first.pid, -signal.SIGKILL)
    assert len(several.events("worker.stopped")) == 1


NOT_BEGUN = """
import sys
from wallet_worker.worker import supervisor
supervisor.PROGRAM = ("sleep", "60")
sys.exit(supervisor.run(2, 0))
"""


async def test_one_that_is_told_before_it_has_begun_had_nothing_to_drain() -> None:
    command = await asyncio.create_subprocess_exec(sys.executable, "-c", NOT_BEGUN)
    async with asyncio.timeout(STOP_SECONDS):
        while len(psutil.Process(command.pid).children()) < 2:  # noqa: ASYNC110 -- processes send no signal
            await asyncio.sleep(0.01)

        command.terminate()

        assert await command.wait() == 0
