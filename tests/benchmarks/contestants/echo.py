"""Echo: aio-pika consumes each message and publishes it again, confirmed. No database, no parsing, no answer."""

import asyncio
import os
import signal
from typing import Final

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from wallet_schemas.names import CONTENT_TYPE, PAYMENT_RESULTS, WALLET_COMMANDS, WALLET_EVENTS

PREFETCH: Final = 500  # fewer is slower, more is not faster


async def main() -> None:
    """Work until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    connection = await aio_pika.connect_robust(os.environ["WALLET_AMQP_URL"])
    async with connection:
        publishing = await connection.channel(publisher_confirms=True)
        exchange = await publishing.get_exchange(WALLET_EVENTS)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queues = [await channel.get_queue(name) for name in (WALLET_COMMANDS, PAYMENT_RESULTS)]
        in_hand = asyncio.Semaphore(PREFETCH * len(queues))  # never waited for but in the end

        async def echo(message: AbstractIncomingMessage) -> None:
            async with in_hand:
                again = aio_pika.Message(
                    message.body, content_type=CONTENT_TYPE, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                )
                await exchange.publish(again, routing_key=message.routing_key or "", mandatory=False)
                await message.ack()

        tags = [await queue.consume(echo) for queue in queues]
        await stopping.wait()
        for queue, tag in zip(queues, tags, strict=True):
            await queue.cancel(tag)
        for _ in range(PREFETCH * len(queues)):
            await in_hand.acquire()


if __name__ == "__main__":
    uvloop.run(main())
