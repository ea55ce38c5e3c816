"""Somebody who sits where the worker should be, and answers as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiormq
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

PATIENCE_SECONDS = 30.0


class Impostor:
    """Takes what arrives in one queue; nothing is answered by itself."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()

    async def put(self, message: DeliveredMessage) -> None:
        """Keep a delivery."""
        self._arrived.put_nowait(message)

    async def next(self) -> DeliveredMessage:
        """Return the next message, when it is there."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._arrived.get()

    async def reply(self, to: DeliveredMessage, body: bytes, *, correlation_id: str | None = None) -> None:
        """Answer a message, under its own correlation_id or another."""
        request = to.header.properties
        await self.channel.basic_publish(
            body,
            routing_key=request.reply_to or "",
            properties=Basic.Properties(
                correlation_id=request.correlation_id if correlation_id is None else correlation_id
            ),
        )


@asynccontextmanager
async def impostor(amqp_url: str, queue: str) -> AsyncIterator[Impostor]:
    """Give the one who consumes from a queue of the wallet."""
    async with aiormq.connect(amqp_url) as connection:
        channel = cast("Channel", await connection.channel())
        first = Impostor(channel)
        await channel.basic_consume(queue, first.put, no_ack=True)
        yield first
