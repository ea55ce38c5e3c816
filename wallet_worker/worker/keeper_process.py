"""A keeper as a process of its own: `wallet keeper`."""

import asyncio
import os
import signal
import socket
from importlib.metadata import version

import structlog

from wallet_worker.dead_letters.keeper import Keeper
from wallet_worker.settings.settings import Settings
from wallet_worker.telemetry import endpoints
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import ProcessMetrics
from wallet_worker.telemetry.server import serve_probes
from wallet_worker.worker.process import run_process

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Run a keeper until SIGTERM or SIGINT; return its exit status: 0 it was told to stop, 1 it cannot go on."""
    return run_process(lambda stopping: _keep(settings, stopping), "keeper")


async def _keep(settings: Settings, stopping: asyncio.Event) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, settings.reload_keys)
    name = f"{version('wallet-worker')} {socket.gethostname()}:{os.getpid()}"
    log.info("keeper.starting", keeper=name)
    health, metrics = Health(), ProcessMetrics("keeper")
    keeper = Keeper(settings, name=name, health=health, metrics=metrics)
    web = endpoints.server(settings.http_host, settings.http_port, health, metrics)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve_probes(web), name="http")
        await keeper.run(stopping)
        web.should_exit = True
        await serving
