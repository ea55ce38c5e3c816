"""What the gateway lives among: a vhost with its topology, its process, and a cable to cut between them."""

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from wallet_schemas import names
from wallet_schemas.parse import RESULTS, parse
from wallet_schemas.payments import PaymentResult

PATIENCE_SECONDS: Final = 30  # far more than anything here takes on a busy machine
KEYS: Final = {"test-2026": "the demo's secret", "test-2025": "last year's secret"}


@dataclass(frozen=True, slots=True)
class Received:
    """A result as the wallet gets it."""

    message: DeliveredMessage
    result: PaymentResult

    @property
    def properties(self) -> Basic.Properties:
        return self.message.header.properties

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.properties.headers or {}


class Wallet:
    """The other side of the gateway: it asks, and it gets results."""

    def __init__(self, channel: aiormq.Channel) -> None:
        self.channel = channel
        self._results: asyncio.Queue[Received] = asyncio.Queue()

    async def ask(self, *bodies: bytes, headers: Mapping[str, str] | None = None) -> None:
        """The requests are in their queue."""
        properties = Basic.Properties(delivery_mode=2, headers=dict(headers) if headers else None)
        for body in bodies:
            await self.channel.basic_publish(
                body,
                exchange=names.PAYMENT_REQUESTS,
                routing_key="payment.request",
                properties=properties,
                mandatory=True,
            )

    async def listen(self) -> None:
        """Results are taken from their queue from now on."""
        await self.channel.basic_consume(names.PAYMENT_RESULTS, self._on_result, no_ack=True)

    async def result(self) -> Received:
        """Return the next result."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._results.get()

    async def results(self, count: int) -> list[Received]:
        """Return the next results."""
        return [await self.result() for _ in range(count)]

    async def letter(self, queue: str) -> DeliveredMessage:
        """Return the next message in a queue, for which the broker is asked until it has one."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                message = await self.channel.basic_get(queue, no_ack=True)
                if isinstance(message.delivery, Basic.GetOk):
                    return message

    async def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue, without those that a consumer has."""
        return (await self.channel.queue_declare(queue, passive=True)).message_count or 0

    async def _on_result(self, message: DeliveredMessage) -> None:
        result = parse(message.body, RESULTS)
        assert isinstance(result, PaymentResult)
        self._results.put_nowait(Received(message, result))


@asynccontextmanager
async def wallet(amqp_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet at that vhost."""
    async with aiormq.connect(amqp_url) as connection:
        channel = await connection.channel()
        assert isinstance(channel, aiormq.Channel)
        yield Wallet(channel)


@dataclass(slots=True)
class Gateway:
    """The simulator's process."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    async def event(self, name: str) -> dict[str, Any]:
        """Return the next line of its log with that event; fails when the process ends without one."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await self.process.stderr.readline():
                self.lines.append(line.decode())
                with suppress(json.JSONDecodeError):
                    event = json.loads(line)
                    self.events.append(event)
                    if event["event"] == name:
                        return dict(event)
        raise AssertionError(f"no {name} in:\n{''.join(self.lines)}")

    async def terminate(self) -> int:
        """Return its exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """The process is gone by SIGKILL."""
        self.process.kill()
        await self.ended()

    async def ended(self) -> int:
        """Return its exit status, when it has ended by itself."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            rest = await self.process.stderr.read()
            self.lines += rest.decode().splitlines(keepends=True)
            return await self.process.wait()


@asynccontextmanager
async def gateway(amqp_url: str | None, *options: str, **variables: str) -> AsyncIterator[Gateway]:
    """Give the simulator's process, which may still be starting; it is gone afterwards."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WALLET_")}
    environment["WALLET_PAYMENT_KEYS"] = json.dumps(KEYS)
    if amqp_url is not None:
        environment["WALLET_AMQP_URL"] = amqp_url
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "payment_simulator",
        *options,
        env=environment | variables,
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    started = Gateway(process)
    try:
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await started.ended()


class Cable:
    """A TCP proxy to the broker: all connections through it can be cut, and new ones refused."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        """The broker's URL by way of the cable."""
        credentials = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    async def plug(self) -> None:
        """Connections are carried; after the first time, on the same port."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """All connections are gone, without a goodbye, and new ones are refused."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._writers -= {writer, back}
            self._tasks.discard(task)
            for item in (writer, back):
                item.transport.abort()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()


@asynccontextmanager
async def cable(url: str) -> AsyncIterator[Cable]:
    """Give a plugged cable; it is cut afterwards."""
    plugged = Cable(url)
    await plugged.plug()
    try:
        yield plugged
    finally:
        await plugged.cut()


def by_order(results: list[Received]) -> dict[str, list[bytes]]:
    """Return the bodies of the results of each payment."""
    bodies: dict[str, list[bytes]] = defaultdict(list)
    for received in results:
        bodies[received.result.payment_order_no].append(received.message.body)
    return dict(bodies)
