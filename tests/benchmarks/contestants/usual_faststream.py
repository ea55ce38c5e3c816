"""The usual worker on FastStream: the same transactions, 16 at a time, with the framework around them."""

import asyncio
import logging
import os
import signal

import uvloop
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue

from tests.benchmarks.contestants.one_by_one import AT_ONCE, Asker, Ledger, Out, gateway_keys, pool
from wallet_schemas.names import (
    CONTENT_TYPE,
    PAYMENT_REQUESTS,
    PAYMENT_RESULTS,
    WALLET_COMMANDS,
    WALLET_EVENTS,
)

EXCHANGES = {
    "": None,
    WALLET_EVENTS: RabbitExchange(WALLET_EVENTS, declare=False),
    PAYMENT_REQUESTS: RabbitExchange(PAYMENT_REQUESTS, declare=False),
}


async def main() -> None:
    """Work until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    connections = await pool(os.environ["WALLET_DATABASE_URL"])
    ledger = Ledger(connections, gateway_keys())
    # Its log has two lines for each message by default, which nobody would keep under load.
    broker = RabbitBroker(os.environ["WALLET_AMQP_URL"], log_level=logging.DEBUG)

    async def publish(out: Out) -> None:
        await broker.publish(
            out.body,
            exchange=EXCHANGES[out.exchange],
            routing_key=out.routing_key,
            persist=True,
            mandatory=out.exchange == PAYMENT_REQUESTS,
            correlation_id=out.correlation_id,
            content_type=CONTENT_TYPE,
        )

    at_once = asyncio.Semaphore(AT_ONCE)

    async def command(message: RabbitMessage) -> None:
        async with at_once:
            outs = await ledger.command(message.body, _asker(message))
            await asyncio.gather(*(publish(out) for out in outs))

    async def result(message: RabbitMessage) -> None:
        async with at_once:
            outs = await ledger.result(message.body, message.headers, _asker(message))
            await asyncio.gather(*(publish(out) for out in outs))

    # A consumer's own, and there are two: quorum queues know no prefetch for a channel.
    channel = Channel(prefetch_count=AT_ONCE)
    for name, handle in ((WALLET_COMMANDS, command), (PAYMENT_RESULTS, result)):
        broker.subscriber(
            RabbitQueue(name, declare=False),
            channel=channel,
            ack_policy=AckPolicy.REJECT_ON_ERROR,
            no_reply=True,
        )(handle)
    async with connections, broker:
        await broker.start()
        await stopping.wait()


def _asker(message: RabbitMessage) -> Asker:
    raw = message.raw_message
    return Asker(raw.reply_to, raw.correlation_id)


if __name__ == "__main__":
    uvloop.run(main())
