"""Echo: aio-pika consumes each message and publishes it again, confirmed. No database, no parsing, no answer."""

import asyncio
import os
import signal
from typing import Final

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from schemas.names import CONTENT_TYPE, PAYMENT_RESULTS, WALLET_COMMANDS, WALLET_EVENTS

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

        async def echo(message: AbstractIncomingMessage) -> None:
            again = aio_pika.Message(
                message.body, content_type=CONTENT_TYPE, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
            )
            await exchange.publish(again, routing_key=message.routing_key or "", mandatory=False)
            await message.ack()

        for name in (WALLET_COMMANDS, PAYMENT_RESULTS):
            queue = await channel.get_queue(name)
            await queue.consume(echo)
        await stopping.wait()


if __name__ == "__main__":
    uvloop.run(main())
