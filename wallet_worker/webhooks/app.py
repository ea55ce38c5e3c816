"""The process `wallet webhooks`: one of any number reads the log of events, and each posts what is due."""

import asyncio
import os
import socket
import ssl
from importlib.metadata import version
from uuid import uuid4

import structlog

from wallet_worker.broker.event_log import EventLog
from wallet_worker.settings.settings import Settings
from wallet_worker.store.database import Database
from wallet_worker.store.requirements import ensure_fit
from wallet_worker.store.waiting import Waiting
from wallet_worker.store.webhooks import WEBHOOKS_ROLE
from wallet_worker.telemetry import endpoints
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.server import CannotServeError, serve_probes
from wallet_worker.webhooks.dispatcher import Dispatcher
from wallet_worker.webhooks.metrics import WebhooksMetrics
from wallet_worker.webhooks.sender import WebhookSender

log = structlog.get_logger(__name__)


async def run(settings: Settings, stopping: asyncio.Event) -> None:
    """Read and post until told to stop; what is being posted ends first. Wait for a database that is away.

    Raises CannotServeError or DatabaseNotReadyError, in a group.
    """
    name = f"{version('wallet-worker')} {socket.gethostname()}:{os.getpid()} {uuid4().hex[:8]}"
    log.info("webhooks.starting", name=name)
    health, metrics = Health(), WebhooksMetrics()
    health.expect("database", "event log")
    database = Database(
        settings.database_url.get_secret_value(),
        role=WEBHOOKS_ROLE,
        application="wallet webhooks",
        size_max=8,
    )
    has_new = asyncio.Event()
    dispatcher = Dispatcher(
        EventLog(settings.amqp_url.get_secret_value(), name="wallet webhooks"),
        database,
        name=name,
        on_new=has_new,
        health=health,
        metrics=metrics,
    )
    sender = WebhookSender(
        database,
        networks=settings.webhooks_networks or (),
        context=_context(settings),
        has_new=has_new,
        health=health,
        metrics=metrics,
    )
    web = endpoints.server(settings.http_host, settings.http_port, health, metrics)

    async def prepare() -> None:
        await ensure_fit(settings.database_url.get_secret_value(), "webhooks")
        await database.open()

    try:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve_probes(web), name="http")
            if await Waiting("database", database, health).done(prepare, stopping):
                parts = [
                    tasks.create_task(work(stopping), name=part)
                    for part, work in (
                        ("dispatcher", dispatcher.run),
                        ("sender", sender.run),
                        ("backlog", sender.look_after),
                    )
                ]
                await asyncio.wait(parts)
            web.should_exit = True
            await serving
    finally:
        await database.close()


def _context(settings: Settings) -> ssl.SSLContext:
    """Return which certificates are believed: those of the system, and those that a deployment adds."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.webhooks_ca is not None:
        try:
            context.load_verify_locations(str(settings.webhooks_ca))
        except OSError as exc:  # ssl.SSLError too, which has no text of its own for a person
            why = "it has no certificate in PEM" if isinstance(exc, ssl.SSLError) else exc.strerror
            msg = f"WALLET_WEBHOOKS_CA names {settings.webhooks_ca}, which cannot be used: {why}"
            raise CannotServeError(msg) from exc
    return context
