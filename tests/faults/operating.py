"""What only an operator can do to the broker: raise its alarms, and take away what it must have; and put it right."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from tests.servers import Servers
from tests.servers.containers import Container
from tests.servers.rabbitmq import RabbitMQ

T = TypeVar("T")

USUAL_WATERMARK: Final = "0.4"
USUAL_FREE_BYTES: Final = "50000000"
MORE_THAN_THERE_IS_BYTES: Final = str(10**15)
SECONDS: Final = 60


@asynccontextmanager
async def memory_alarm(servers: Servers) -> AsyncIterator[None]:
    """Have the broker believe that its memory is used up: it reads no more from connections that publish."""
    try:
        await control(servers, "set_vm_memory_high_watermark", "0.0001")
        yield
    finally:
        await control(servers, "set_vm_memory_high_watermark", USUAL_WATERMARK)


@asynccontextmanager
async def disk_alarm(servers: Servers) -> AsyncIterator[None]:
    """Have the broker believe that its disk is full: it reads no more from connections that publish."""
    try:
        await control(servers, "set_disk_free_limit", MORE_THAN_THERE_IS_BYTES)
        yield
    finally:
        await control(servers, "set_disk_free_limit", USUAL_FREE_BYTES)


async def control(servers: Servers, *arguments: str) -> str:
    """Return what `rabbitmqctl` says; raises CalledProcessError with what it complains of."""
    done = await to_its_end(lambda: _control(servers, arguments))
    if done.returncode:
        raise subprocess.CalledProcessError(
            done.returncode, ["rabbitmqctl", *arguments], done.stdout, done.stderr
        )
    return done.stdout


async def to_its_end(work: Callable[[], T]) -> T:
    """Return what blocking work returns. Who is cancelled meanwhile is so when the work is over.

    A thread cannot be cancelled: a server that is still being killed in one must not be started in another.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise


def _control(servers: Servers, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment: dict[str, str] | None = None
    match servers.broker:
        case RabbitMQ() as broker:
            command = [str(broker._script.with_name("rabbitmqctl")), "--quiet"]
            environment = broker._environment()
        case Container() as container:
            command = ["docker", "exec", container.name, "rabbitmqctl", "--quiet"]
        case other:
            msg = f"{other!r} has no rabbitmqctl that could be reached"
            raise NotImplementedError(msg)
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
