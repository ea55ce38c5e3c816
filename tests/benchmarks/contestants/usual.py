"""The usual worker: aio-pika brings the messages, 16 at a time, and each is one transaction."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import aio_pika
import uvloop
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

from tests.benchmarks.contestants.one_by_one import AT_ONCE, Asker, Ledger, Out, gateway_keys, pool
from wallet_schemas.names import (
    CONTENT_TYPE,
    PAYMENT_REQUESTS,
    PAYMENT_RESULTS,
    WALLET_COMMANDS,
    WALLET_EVENTS,
)
from wallet_schemas.parse import Unreadable
from wallet_schemas.signature import BadSignature

Apply = Callable[[AbstractIncomingMessage], Awaitable[list[Out]]]


class Exchanges:
    """What is published to, on a channel that confirms."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._exchanges: dict[str, AbstractExchange] = {"": channel.default_exchange}

    async def open(self) -> None:
        """Know the exchanges; they are there."""
        for name in (WALLET_EVENTS, PAYMENT_REQUESTS):
            self._exchanges[name] = await self._channel.get_exchange(name)

    async def publish(self, out: Out) -> None:
        """Publish, and return once the broker has confirmed it."""
        await self._exchanges[out.exchange].publish(
            aio_pika.Message(
                out.body,
                content_type=CONTENT_TYPE,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                correlation_id=out.correlation_id,
            ),
            routing_key=out.routing_key,
            mandatory=out.exchange == PAYMENT_REQUESTS,
        )


async def main() -> None:
    """Work until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    connections = await pool(os.environ["WALLET_DATABASE_URL"])
    ledger = Ledger(connections, gateway_keys())
    connection = await aio_pika.connect_robust(os.environ["WALLET_AMQP_URL"])
    async with connections, connection:
        exchanges = Exchanges(await connection.channel(publisher_confirms=True))
        await exchanges.open()
        channel = await connection.channel()
        # A consumer's own, and there are two: quorum queues know no prefetch for a channel.
        await channel.set_qos(prefetch_count=AT_ONCE)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def command(message: AbstractIncomingMessage) -> list[Out]:
            return await ledger.command(message.body, asker(message))

        async def result(message: AbstractIncomingMessage) -> list[Out]:
            return await ledger.result(message.body, message.headers, asker(message))

        applying: tuple[tuple[str, Apply], ...] = ((WALLET_COMMANDS, command), (PAYMENT_RESULTS, result))
        consumers = []
        for name, apply in applying:
            queue = await channel.get_queue(name)
            consumers.append((queue, await queue.consume(handler(apply, exchanges, at_once))))
        await stopping.wait()
        for queue, tag in consumers:
            await queue.cancel(tag)
        for _ in range(AT_ONCE):
            await at_once.acquire()  # nothing is in hand any more


def asker(message: AbstractIncomingMessage) -> Asker:
    """Return who wants an answer to a message."""
    return Asker(message.reply_to, message.correlation_id)


def handler(
    apply: Apply, exchanges: Exchanges, at_once: asyncio.Semaphore
) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
    """Return what is done with each message: apply, publish, acknowledge, in this order, so many at once."""

    async def handle(message: AbstractIncomingMessage) -> None:
        async with at_once:
            await settle(message)

    async def settle(message: AbstractIncomingMessage) -> None:
        try:
            for_publishing = await apply(message)
            await asyncio.gather(*(exchanges.publish(out) for out in for_publishing))
        except (Unreadable, BadSignature):
            await message.reject()  # to the dead letters
        except Exception:
            await message.nack()
            raise
        else:
            await message.ack()

    return handle


if __name__ == "__main__":
    uvloop.run(main())
