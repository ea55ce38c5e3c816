"""Queries over RabbitMQ: each is answered to its `reply_to`, under a role that can only read."""

import asyncio
from contextlib import suppress
from typing import cast
from uuid import uuid4

import asyncpg
import structlog
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_schemas.codes import Code
from wallet_schemas.encode import encode
from wallet_schemas.message import Message
from wallet_schemas.names import CONTENT_TYPE, TRACEPARENT_HEADER
from wallet_schemas.parse import QUERIES, Malformed, UnsupportedType, parse
from wallet_schemas.queries import DATABASE_AWAY, FAULT, GetOrder, QueryRefused
from wallet_worker.broker.connection import CONNECTION_ERRORS, BrokerUnavailableError, translate_errors
from wallet_worker.broker.inbox import ACKNOWLEDGE_SECONDS, traceparent
from wallet_worker.broker.sender_policy import ANYONE, SenderPolicy
from wallet_worker.core.permission import may_see, query_refusal
from wallet_worker.core.senders import Sender
from wallet_worker.queries.answers import answer, shown_to
from wallet_worker.store import commands
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, UnavailableError
from wallet_worker.store.waiting import Waiting
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics

PREFETCH = 64
CONFLICTS_MAX = 3  # after which a query is begun again a last time
AT_ONCE_MAX = 3  # connections of the pool that queries may hold; the rest wait here, not in the pool

log = structlog.get_logger(__name__)


class QueryService:
    """Answers each query to its `reply_to`, several at a time. A query is never set aside: it lives 30 s."""

    def __init__(
        self, database: Database, metrics: Metrics, health: Health, policy: SenderPolicy = ANYONE
    ) -> None:
        self._database = database
        self._waiting = Waiting("queries database", database, health)
        self._trying_again: asyncio.Task[None] | None = None
        self._policy = policy
        self._metrics = metrics
        self._free = asyncio.Semaphore(AT_ONCE_MAX)
        self._running: set[asyncio.Task[None]] = set()

    async def on_delivery(self, message: DeliveredMessage) -> None:
        """Begin to answer; the channel's own task ends at once, because it is cancelled with the channel."""
        task = asyncio.create_task(self._serve(message), name="query")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def drain(self) -> None:
        """Wait for the answers that are being made."""
        if self._trying_again is not None:
            self._trying_again.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, message: DeliveredMessage) -> None:
        channel = cast("Channel", message.channel)
        kind, reply = await self._reply(message.body, self._policy.sender(message.header.properties))
        code = reply.code if isinstance(reply, QueryRefused) else Code.OK
        self._metrics.queries.labels(type=kind, code=code.value).inc()
        try:
            with translate_errors():
                async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                    await self._send(message, channel, reply)
        except (BrokerUnavailableError, *CONNECTION_ERRORS):
            log.debug("query.unanswered", type=kind)  # whoever asked asks again, or has gone

    async def _send(self, message: DeliveredMessage, channel: Channel, reply: Message) -> None:
        """Answer, at most once: a query that the broker breaks the connection over does not come again."""
        if message.delivery_tag is not None:
            await channel.basic_ack(message.delivery_tag, wait=False)
        properties = message.header.properties
        if reply_to := self._policy.reply_to(properties):
            trace = traceparent(properties.headers or {})
            await channel.basic_publish(
                encode(reply),
                routing_key=reply_to,
                properties=Basic.Properties(
                    content_type=CONTENT_TYPE,
                    message_id=uuid4().hex,
                    correlation_id=properties.correlation_id,
                    headers={TRACEPARENT_HEADER: trace} if trace else None,
                ),
                wait=False,
            )

    async def _answer(self, query: Message, sender: Sender | None) -> Message:
        """Answer a query from a snapshot; begin again after a conflict, such as a plan that is no longer valid."""
        for _ in range(CONFLICTS_MAX):
            with suppress(ConflictError):
                async with self._free, self._database.snapshot() as connection:
                    return await self._answer_from(connection, query, sender)
        async with self._free, self._database.snapshot() as connection:
            return await self._answer_from(connection, query, sender)

    async def _answer_from(
        self, connection: asyncpg.Connection, query: Message, sender: Sender | None
    ) -> Message:
        senders = self._policy.senders
        if isinstance(query, GetOrder) and senders is not None:
            _, stored = await commands.find(connection, [query.serial_no])
            command = stored.get(query.serial_no)
            if command is not None and not may_see(command.sent_by, sender, senders):
                return QueryRefused(
                    code=Code.NOT_ALLOWED, message="the serial number was used by another sender"
                )
        return shown_to(await answer(connection, query), None if senders is None else senders.of(sender))

    def _report(self, query: Message, sender: Sender | None) -> None:
        """Be unready until the database answers a query that it has failed, whether or not somebody asks again."""
        if self._trying_again is None or self._trying_again.done():
            self._trying_again = asyncio.create_task(self._try_again(query, sender), name="query")

    async def _try_again(self, query: Message, sender: Sender | None) -> None:
        async def attempt() -> None:
            await self._answer(query, sender)

        try:
            await self._waiting.done(attempt)
        except Exception as exc:  # noqa: BLE001 -- a task's outermost frame: whoever asked was told
            _log_failure(query, exc)

    async def _reply(self, body: bytes, sender: Sender | None) -> tuple[str, Message]:
        try:
            query = parse(body, QUERIES)
        except (Malformed, UnsupportedType) as exc:
            return "unreadable", QueryRefused(code=exc.code, message=str(exc))
        why_not = query_refusal(query, sender, self._policy.senders)
        if why_not is not None:
            return query.type, QueryRefused(code=Code.NOT_ALLOWED, message=why_not)
        try:
            return query.type, await self._answer(query, sender)
        except Exception as exc:  # noqa: BLE001 -- the outermost frame of a query's task: whoever asked is told
            _log_failure(query, exc)
            if isinstance(exc, UnavailableError | ConflictError):
                self._report(query, sender)
                return query.type, QueryRefused(code=Code.INTERNAL, message=DATABASE_AWAY)
            return query.type, QueryRefused(code=Code.INTERNAL, message=FAULT)


def _log_failure(query: Message, exc: Exception) -> None:
    """Log why a query was not answered: of a fault of ours where it is, of the database what it means."""
    if isinstance(exc, UnavailableError | ConflictError):
        log.warning("query.failed", type=query.type, reason=str(exc))
    else:
        log.error("query.fault", type=query.type, exc_info=exc)
