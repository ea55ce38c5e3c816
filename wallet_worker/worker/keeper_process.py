"""A keeper as a process of its own: `wallet keeper`."""

import asyncio
import os
import signal
import socket
from importlib.metadata import version

import structlog
import uvloop

from wallet_worker.broker.amqp.codec import patch_pamqp
from wallet_worker.broker.connection import WrongUrlError
from wallet_worker.broker.topology import TopologyError
from wallet_worker.dead_letters.keeper import Keeper
from wallet_worker.settings.settings import Settings
from wallet_worker.store.errors import InvariantBrokenError
from wallet_worker.telemetry import endpoints
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import ProcessMetrics
from wallet_worker.worker.app import CannotStartError, flatten, serve

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Run a keeper until SIGTERM or SIGINT; return its exit status: 0 it was told to stop, 1 it cannot go on."""
    patch_pamqp()
    return uvloop.run(_main(settings))


async def _main(settings: Settings) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    failed: tuple[BaseException, ...] = ()
    try:
        await _keep(settings, stopping)
    except* (CannotStartError, TopologyError, WrongUrlError, InvariantBrokenError) as group:
        failed = group.exceptions
        for exc in flatten(group):
            log.error("keeper.cannot_run", reason=str(exc))
    if failed:
        return 1
    log.info("keeper.stopped")
    return 0


async def _keep(settings: Settings, stopping: asyncio.Event) -> None:
    name = f"{version('wallet-worker')} {socket.gethostname()}:{os.getpid()}"
    log.info("keeper.starting", keeper=name)
    health, metrics = Health(), ProcessMetrics("keeper")
    keeper = Keeper(settings, name=name, health=health, metrics=metrics)
    web = endpoints.server(settings.http_host, settings.http_port, health, metrics)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve(web), name="http")
        await keeper.run(stopping)
        web.should_exit = True
        await serving
