"""What only somebody on the broker's own machine can do: its alarms."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tests.servers import Servers
from tests.servers.containers import Container
from tests.servers.rabbitmq import RabbitMQ

USUAL_WATERMARK: Final = "0.4"
SECONDS: Final = 60


@asynccontextmanager
async def memory_alarm(servers: Servers) -> AsyncIterator[None]:
    """Have the broker believe that its memory is used up: it reads no more from connections that publish."""
    await control(servers, "set_vm_memory_high_watermark", "0.0001")
    try:
        yield
    finally:
        await control(servers, "set_vm_memory_high_watermark", USUAL_WATERMARK)


async def control(servers: Servers, *arguments: str) -> str:
    """Return what `rabbitmqctl` says; raises CalledProcessError with what it complains of."""
    done = await asyncio.to_thread(_control, servers, arguments)
    if done.returncode:
        raise subprocess.CalledProcessError(
            done.returncode, ["rabbitmqctl", *arguments], done.stdout, done.stderr
        )
    return done.stdout


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
