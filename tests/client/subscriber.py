# ruff: noqa: T201 -- it speaks to a reader
"""Follow the events of orders, each once, until the first order has succeeded; a test runs this program."""

import asyncio
import json
import os

import aio_pika


async def main() -> None:
    """Print the type of each event and the balance after each line."""
    seen: set[str] = set()  # a service keeps these ids in its database, with what it did
    connection = await aio_pika.connect(os.environ["WALLET_AMQP_URL"])
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        queue = await channel.declare_queue(
            "shop.order-events", durable=True, arguments={"x-queue-type": "quorum"}
        )
        await queue.bind("wallet.events", "order.*")
        print("listening", flush=True)

        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():  # acknowledges at the end of the block
                    event = json.loads(message.body)
                    if event["event_id"] in seen:
                        continue
                    seen.add(event["event_id"])
                    print(event["type"], event["serial_no"])
                    for entry in event["data"].get("entries", []):
                        print(entry["line_no"], entry["direction"], entry["balance_after"])
                if event["type"] == "order.succeeded.v1":
                    break


asyncio.run(main())
