"""How many messages are ready in each queue, asked of the broker by declaring them passively."""

import asyncio

from aio_pika.abc import AbstractConnection

from wallet_worker.broker.connection import (
    CONNECTION_ERRORS,
    RPC_SECONDS,
    BrokerUnavailableError,
    close,
    connect,
    describe,
    open_channel,
    translate_errors,
)
from wallet_worker.broker.topology import QUEUES


class Depths:
    """A connection that is kept between two looks."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None

    async def look(self) -> dict[str, int]:
        """Return the depth of each queue; one that is not there is left out. Raises BrokerUnavailableError."""
        try:
            with translate_errors():
                async with asyncio.timeout(RPC_SECONDS):
                    return await self._look()
        except CONNECTION_ERRORS as exc:
            await self.close()
            msg = f"the broker does not say how full its queues are: {describe(exc)}"
            raise BrokerUnavailableError(msg) from exc
        except BrokerUnavailableError:
            await self.close()
            raise

    async def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)

    async def _look(self) -> dict[str, int]:
        if self._connection is None or self._connection.is_closed:
            self._connection = await connect(self._url, "wallet keeper: depths")
        found: dict[str, int] = {}
        channel = await open_channel(self._connection)
        for queue in QUEUES:
            answer = await channel.queue_declare(queue.name, passive=True)
            found[queue.name] = answer.message_count or 0
        await channel.close()
        return found
