"""Queries over RabbitMQ: each is answered to its `reply_to`, under a role that can only read."""

import asyncio
from contextlib import suppress
from typing import cast
from uuid import uuid4

import structlog
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from wallet_schemas.codes import Code
from wallet_schemas.encode import encode
from wallet_schemas.message import Message
from wallet_schemas.names import CONTENT_TYPE, TRACEPARENT_HEADER
from wallet_schemas.parse import QUERIES, Malformed, UnsupportedType, parse
from wallet_schemas.queries import (
    QueryRefused,
)
from wallet_worker.broker.connection import CONNECTION_ERRORS, BrokerUnavailableError, translate_errors
from wallet_worker.broker.inbox import ACKNOWLEDGE_SECONDS, traceparent
from wallet_worker.broker.senders import ANYONE, SenderPolicy
from wallet_worker.queries.answers import answer
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError
from wallet_worker.telemetry.metrics import Metrics

PREFETCH = 64
CONFLICTS_MAX = 3  # after which a query is begun again a last time
AT_ONCE_MAX = 3  # connections of the pool that queries may hold; the rest wait here, not in the pool

log = structlog.get_logger(__name__)


class QueryService:
    """Answers each query to its `reply_to`, several at a time. A query is never set aside: it lives 30 s."""

    def __init__(self, database: Database, metrics: Metrics, policy: SenderPolicy = ANYONE) -> None:
        self._database = database
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
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, message: DeliveredMessage) -> None:
        channel = cast("Channel", message.channel)
        kind, reply = await self._reply(message.body)
        code = reply.code if isinstance(reply, QueryRefused) else Code.OK
        self._metrics.queries.labels(type=kind, code=code.value).inc()
        try:
            with translate_errors():
                async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                    await self._tell(message, channel, reply)
        except (BrokerUnavailableError, *CONNECTION_ERRORS):
            log.debug("query.unanswered", type=kind)  # whoever asked asks again, or has gone

    async def _tell(self, message: DeliveredMessage, channel: Channel, reply: Message) -> None:
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

    async def _answer(self, query: Message) -> Message:
        """Answer a query from a snapshot; begin again after a conflict, such as a plan that is no longer valid."""
        for _ in range(CONFLICTS_MAX):
            with suppress(ConflictError):
                async with self._free, self._database.snapshot() as connection:
                    return await answer(connection, query)
        async with self._free, self._database.snapshot() as connection:
            return await answer(connection, query)

    async def _reply(self, body: bytes) -> tuple[str, Message]:
        try:
            query = parse(body, QUERIES)
        except (Malformed, UnsupportedType) as exc:
            return "unreadable", QueryRefused(code=exc.code, message=str(exc))
        try:
            return query.type, await self._answer(query)
        except Exception as exc:  # noqa: BLE001 -- the outermost frame of a query's task: whoever asked is told
            log.warning("query.failed", type=query.type, reason=f"{type(exc).__name__}: {exc}")
            return query.type, QueryRefused(
                code=Code.INTERNAL, message="the wallet cannot read its database now; ask again"
            )
