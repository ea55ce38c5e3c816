"""Messages and consumers of each queue, asked of the broker by passive declarations, which any user may do."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import aiormq
from aio_pika.abc import AbstractConnection

from wallet_worker.broker.connection import (
    CLOSE_SECONDS,
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    close,
    connect,
    describe,
    open_channel,
    translate_errors,
)


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue: its ready messages and its consumers; both absent where the queue does not exist."""

    name: str
    messages: int | None
    consumers: int | None


class QueueDepths:
    """Reads queue depths over a connection that is kept from one read to the next."""

    def __init__(self, url: str, client: str) -> None:
        self._url = url
        self._client = client
        self._connection: AbstractConnection | None = None

    async def read(self, queues: Iterable[str]) -> tuple[QueueDepth, ...]:
        """Return the depth of each queue, in the given order; raises BrokerUnavailableError or WrongUrlError."""
        try:
            if self._connection is None or self._connection.is_closed:
                self._connection = await connect(self._url, self._client)
            return tuple([await measure(self._connection, queue) for queue in queues])
        except CONNECTION_ERRORS as exc:
            await self.close()
            msg = f"the broker does not say how full its queues are: {describe(exc)}"
            raise BrokerUnavailableError(msg) from exc
        except BrokerUnavailableError:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)


async def measure(connection: AbstractConnection, queue: str) -> QueueDepth:
    """Return the depth of one queue, within RPC_SECONDS; raises BrokerUnavailableError or one of CONNECTION_ERRORS.

    It opens a channel of its own: the broker closes the channel on which it is asked for a queue that does not exist.
    """
    with translate_errors():
        async with asyncio.timeout(RPC_SECONDS):
            channel = await open_channel(connection)
            try:
                declared = await channel.queue_declare(queue, passive=True)
            except aiormq.exceptions.ChannelNotFoundEntity:
                return QueueDepth(queue, None, None)
            finally:
                await channel.close(timeout=CLOSE_SECONDS)
    return QueueDepth(queue, declared.message_count, declared.consumer_count)
