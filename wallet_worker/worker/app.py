"""The worker, put together: opens what it needs, owns every task by name, and drains when told to stop."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import structlog
from aiormq.channel import Channel

from wallet_schemas.names import BODY_BYTES_MAX, PAYMENT_RESULTS, WALLET_COMMANDS, WALLET_QUERIES
from wallet_worker.broker.amqp.deliveries import DeliveryHandler, RawDelivery
from wallet_worker.broker.connection import translate_errors
from wallet_worker.broker.consumer import Consumer
from wallet_worker.broker.inbox import Envelope, Inbox, delivery
from wallet_worker.broker.publisher import Publisher
from wallet_worker.broker.sender_policy import SenderPolicy
from wallet_worker.core.inbound import Source
from wallet_worker.dead_letters.keeper import Keeper
from wallet_worker.queries.service import PREFETCH as QUERIES_PREFETCH
from wallet_worker.queries.service import QueryService
from wallet_worker.settings.settings import Settings
from wallet_worker.store import accounts, currencies
from wallet_worker.store.database import READONLY_ROLE, STATEMENT_SECONDS_SHORT, WORKER_ROLE, Database
from wallet_worker.store.errors import waited_for
from wallet_worker.store.requirements import ready_to_start
from wallet_worker.store.schema_version import ensure_current
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry import endpoints
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics
from wallet_worker.telemetry.server import serve_probes
from wallet_worker.worker.batch import BatchProcessor
from wallet_worker.worker.bounds import BOUNDS
from wallet_worker.worker.dead_lettering import DeadLettering
from wallet_worker.worker.outbox import Outbox
from wallet_worker.worker.process import CannotStartError, run_process
from wallet_worker.worker.sweeper import Sweeper

PREFETCH = 2 * BOUNDS.batch_max  # for each queue: one batch in the database, one waiting
WAITING_BYTES_MAX = (
    64 * 2**20
)  # of bodies, for each queue: what is larger than a message may be is dropped as it comes
if PREFETCH * BODY_BYTES_MAX > WAITING_BYTES_MAX:
    raise AssertionError("a prefetch of the largest bodies takes more memory than a worker is given for it")

# Messages, facts and rows are in no cycles and go as they came. The usual 700 would have the collector look at all
# of a batch a hundred times while it is made, for a third of the worker's time.
COLLECT_AFTER = (50_000, 20, 50)

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; return its exit status: 0 drained, 1 cannot go on."""
    gc.collect()
    gc.freeze()  # modules and classes stay until the end and are not looked at again
    gc.set_threshold(*COLLECT_AFTER)
    return run_process(lambda stopping: Worker(settings).run(stopping), "worker")


class Worker:
    """One worker process: its parts, and the order in which they start and stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = f"{version('wallet-worker')} {socket.gethostname()}:{os.getpid()}"
        self.health = Health()
        self.metrics = Metrics()
        self.health.expect("database", "publisher", "consumer", "queries")
        dsn, amqp = settings.database_url.get_secret_value(), settings.amqp_url.get_secret_value()
        self._database = Database(
            dsn,
            role=WORKER_ROLE,
            application="wallet worker",
            statement_seconds=STATEMENT_SECONDS_SHORT,
        )
        self._reading = Database(
            dsn,
            role=READONLY_ROLE,
            application="wallet queries",
            size_max=3,
            statement_seconds=STATEMENT_SECONDS_SHORT,
        )
        self._publisher = Publisher(amqp, self.health, self.metrics, settings.request_key.sign)
        self._outbox = Outbox(
            self._database, self._publisher, self.health, self.metrics, seal_key=settings.seal_key
        )
        self._inbox: Inbox[Envelope] = Inbox()
        policy = SenderPolicy(settings.sender_policy, self.metrics.replies_refused.inc)
        self._batches = BatchProcessor(
            database=self._database,
            outbox=self._outbox,
            dead_lettering=DeadLettering(
                self._database, self._outbox, worker=self.name, seal=settings.seal_key
            ),
            seal_key=settings.seal_key,
            rules=settings.rules,
            keys=settings.keys,
            health=self.health,
            metrics=self.metrics,
            bounds=replace(BOUNDS, batch_max=settings.batch_max),
        )
        self._sweeper = Sweeper(self._database, self._batches, self.health, self.metrics, senders=policy)
        self._queries = QueryService(self._reading, self.metrics, self.health, policy)
        # Its own health: without a keeper the dead letters wait in their queue, and the worker works.
        self._keeper = (
            Keeper(settings, name=self.name, health=Health(), metrics=self.metrics)
            if settings.keeper
            else None
        )

        def into_inbox(source: Source) -> DeliveryHandler:
            def put(taken: RawDelivery) -> None:
                self._inbox.put(delivery(source, taken, policy))

            return put

        def ignore(_: Channel) -> None:
            pass

        self._consumer = Consumer(
            component="consumer",
            url=amqp,
            takers={
                WALLET_COMMANDS: into_inbox(Source.COMMANDS),
                PAYMENT_RESULTS: into_inbox(Source.RESULTS),
            },
            prefetch=2 * settings.batch_max,  # see PREFETCH
            on_lost=self._inbox.forget,
            health=self.health,
            metrics=self.metrics,
        )
        self._query_consumer = Consumer(
            component="queries",
            url=amqp,
            handlers={WALLET_QUERIES: self._queries.on_delivery},
            prefetch=QUERIES_PREFETCH,
            on_lost=ignore,
            health=self.health,
            metrics=self.metrics,
            vital=False,  # commands and results go on without
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set, then drain.

        Raises a group of CannotStartError, DatabaseNotReadyError, TopologyError, WrongUrlError or InvariantBrokenError.
        """
        log.info("worker.starting", worker=self.name)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._settings.reload_keys)
        if not self._settings.keys:
            log.warning("worker.no_payment_keys", detail="every payment result will be refused")
        if self._settings.request_key.key is None:
            self.metrics.requests_unsigned.set(1)
            log.warning(
                "worker.requests_unsigned", detail="nothing proves to a gateway who has sent a request"
            )
        if self._settings.sender_policy is None:
            log.warning("worker.anyone_may_send", detail="whoever can publish may do everything")
        async with AsyncExitStack() as stack:
            web = endpoints.server(
                self._settings.http_host, self._settings.http_port, self.health, self.metrics
            )
            group = await stack.enter_async_context(asyncio.TaskGroup())
            serving = group.create_task(serve_probes(web), name="http")
            if await self._open(stopping):
                stack.push_async_callback(self._close)
                await self._work(stopping)
            web.should_exit = True
            await serving

    async def _work(self, stopping: asyncio.Event) -> None:
        """Run every task until `stopping`, then stop them in the order in which work flows."""
        publishing = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            batches = group.create_task(
                _forbid_silent_cancel(self._batches.run(self._inbox, stopping)), name="batches"
            )
            sweep = group.create_task(_forbid_silent_cancel(self._sweeper.run(stopping)), name="sweep")
            publisher = group.create_task(
                _forbid_silent_cancel(self._publisher.run(publishing)), name="publisher"
            )
            background = [
                group.create_task(_forbid_silent_cancel(self._outbox.publish()), name="outbox publish"),
                group.create_task(
                    _forbid_silent_cancel(self._outbox.delete_confirmed()), name="outbox forget"
                ),
                group.create_task(_forbid_silent_cancel(self._outbox.relay()), name="outbox relay"),
            ]
            consumers = [
                group.create_task(self._consumer.run(), name="consumer"),
                group.create_task(self._query_consumer.run(), name="queries"),
            ]
            if self._keeper is not None:
                group.create_task(_forbid_silent_cancel(self._keeper.run(stopping)), name="keeper")
            await stopping.wait()
            log.info("worker.draining", waiting=len(self._inbox))
            await asyncio.gather(self._consumer.stop(), self._query_consumer.stop())
            self._inbox.close()
            _, late = await asyncio.wait({batches, sweep}, timeout=self._settings.drain_seconds)
            if late:
                log.warning("worker.drain_timeout", detail="what is left is delivered again")
                for task in late:
                    task.cancel()
            await self._queries.drain()
            await self._outbox.drain(self._settings.drain_seconds)
            for consumer in (self._consumer, self._query_consumer):
                consumer.release()
            await asyncio.gather(*consumers)
            for task in background:
                task.cancel()
            publishing.set()
            await publisher
            await self._publisher.close()

    async def _open(self, stopping: asyncio.Event) -> bool:
        """Open the database, waiting for it if it is away; return False if stopping came first.

        Raises CannotStartError, or DatabaseNotReadyError if its schema is not the one of this program.
        """
        return await Waiting("database", self._database, self.health).done(self._prepare, stopping)

    async def _prepare(self) -> None:
        if unmet := await ready_to_start(
            self._settings.database_url.get_secret_value(),
            "worker" if self._settings.keeper else "worker-without-keeper",
        ):
            raise CannotStartError(unmet)
        await self._database.open()
        await self._reading.open()
        async with self._database.transaction() as connection:
            await ensure_current(connection, "worker")
            if wrong := await currencies.differing(connection, self._settings.currencies):
                raise CannotStartError("; ".join(wrong))
            with waited_for():
                await accounts.ensure_lanes(connection, self._settings.currencies, self._settings.lanes)

    async def _close(self) -> None:
        await self._database.close()
        await self._reading.close()


async def _forbid_silent_cancel(work: Coroutine[Any, Any, None]) -> None:
    """Do a task's work; should it end as cancelled although nobody cancelled it, that is an error.

    A task group takes it for a quiet end, and the worker would go on without one of its hands.
    """
    with translate_errors():
        await work
