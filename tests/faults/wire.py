"""The harness's own lines to the broker: made anew whenever they are lost; each publish has one of three answers."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast
from uuid import uuid4

import aiormq
from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from tests.faults.notebook import Answer, Note, Notebook

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 0.3
REPLIES: Final = "reply.harness"
"""The queue for the outcomes of commands that want a reply."""

LOST = (
    aiormq.exceptions.AMQPError,
    aiormq.exceptions.ChannelInvalidStateError,
    OSError,
    TimeoutError,
    asyncio.InvalidStateError,
)

Handler = Callable[[DeliveredMessage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Letter:
    """A note with where it goes."""

    note: Note
    exchange: str
    headers: Mapping[str, str] = field(default_factory=dict)


def _is_lost(exc: BaseException) -> bool:
    """Return whether a call ended because its connection did, of which the library has its own ways of speaking."""
    return isinstance(exc, (asyncio.CancelledError, *LOST)) or type(exc) is Exception


def _is_cancelled() -> bool:
    """Return whether somebody wants this task to end."""
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


async def connect(urls: str) -> AbstractConnection:
    """Return a connection to one of the nodes, or raise one of LOST."""
    addresses = urls.split()
    failure: Exception | None = None
    for url in random.sample(addresses, len(addresses)):
        separator = "&" if "?" in url else "?"
        connection = aiormq.Connection(f"{url}{separator}heartbeat=10&name=harness")
        try:
            await asyncio.wait_for(connection.connect(), CONNECT_SECONDS)
        except LOST as exc:
            failure = exc
        else:
            return connection
    raise failure or ConnectionError("no address of a broker was given")


async def let_go(connection: AbstractConnection) -> None:
    """Close a connection that may be dead."""
    with suppress(*LOST, asyncio.CancelledError):
        await asyncio.wait_for(connection.close(), CONNECT_SECONDS)


class Sender:
    """Publishes with confirms, mandatory, each message noted before."""

    def __init__(self, url: str, notebook: Notebook) -> None:
        self._url = url
        self._notebook = notebook
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def send(self, letters: Sequence[Letter]) -> list[Answer]:
        """Return what the broker said to each; takes at most about fifteen seconds."""
        numbers = await self._notebook.before_sending([letter.note for letter in letters])
        answers = await self._send(letters, numbers)
        self._notebook.after_sending(numbers, answers)
        return answers

    async def send_until_confirmed(self, letters: Sequence[Letter]) -> None:
        """Send them, and again what is not confirmed, as long as it takes."""
        left = list(letters)
        while left:
            answers = await self.send(left)
            left = [
                item for item, answer in zip(left, answers, strict=True) if answer is not Answer.CONFIRMED
            ]
            if left:
                await asyncio.sleep(AGAIN_SECONDS)

    async def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            await let_go(self._connection)

    async def _send(self, letters: Sequence[Letter], numbers: Sequence[int]) -> list[Answer]:
        try:
            channel = await self._open()
        except (Exception, asyncio.CancelledError) as exc:
            if not _is_lost(exc) or _is_cancelled():
                raise
            return [Answer.REFUSED] * len(letters)  # nothing left this process
        results = await asyncio.gather(
            *(
                self._publish(channel, letter, number)
                for letter, number in zip(letters, numbers, strict=True)
            ),
            return_exceptions=True,
        )
        answers: list[Answer] = []
        for result in results:
            if isinstance(result, Answer):
                answers.append(result)
            elif isinstance(result, aiormq.exceptions.DeliveryError):
                answers.append(Answer.REFUSED)
            elif _is_lost(result):
                answers.append(Answer.UNKNOWN)
            else:
                raise result
        # A channel may be refused everything, by a cluster that chose a leader just then, where another is not.
        if Answer.CONFIRMED not in answers or Answer.UNKNOWN in answers:
            await self._forget()
        return answers

    async def _publish(self, channel: Channel, letter: Letter, number: int) -> Answer:
        answer = await asyncio.wait_for(
            channel.basic_publish(
                letter.note.body,
                exchange=letter.exchange,
                routing_key="any.key",
                properties=Basic.Properties(
                    content_type="application/json",
                    delivery_mode=2,
                    message_id=uuid4().hex,
                    headers=dict(letter.headers) or None,
                    reply_to=REPLIES if letter.note.wants_reply else None,
                    correlation_id=str(number) if letter.note.wants_reply else None,
                ),
                mandatory=True,
                wait=False,
            ),
            ANSWER_SECONDS,
        )
        return Answer.CONFIRMED if isinstance(answer, Basic.Ack) else Answer.REFUSED

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            await self._forget()
            self._connection = await connect(self._url)
            channel = self._connection.channel(on_return_raises=True)
            self._channel = cast("Channel", await asyncio.wait_for(channel, CONNECT_SECONDS))
            return self._channel

    async def _forget(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await let_go(connection)


class Ears:
    """Takes everything from one queue, and acknowledges a message when its handler is done with it.

    Handlers run at the same time, as many as `prefetch`. A connection that is lost is made anew, and what was not
    acknowledged is heard again.
    """

    def __init__(
        self, url: str, queue: str, handler: Handler, *, prefetch: int = 200, exchange: str = ""
    ) -> None:
        self._url = url
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self._exchange = exchange
        self._working: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []
        """What handlers raised: faults of the harness itself."""
        self.deaf = asyncio.Event()
        """Set to have it let go of its connection and not make another, until it is cleared."""

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                try:
                    await self._listen()
                except (Exception, asyncio.CancelledError) as exc:
                    if not _is_lost(exc) or _is_cancelled():
                        raise
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            await self._drop()

    async def declare(self) -> None:
        """Leave the queue there, bound to its exchange if it has one."""
        connection = await connect(self._url)
        channel = await connection.channel()
        await channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})
        if self._exchange:
            await channel.queue_bind(self._queue, self._exchange, "#")
        await let_go(connection)

    async def _listen(self) -> None:
        if self.deaf.is_set():
            return
        connection = await connect(self._url)
        try:
            channel = cast("Channel", await asyncio.wait_for(connection.channel(), CONNECT_SECONDS))
            await channel.basic_qos(prefetch_count=self._prefetch, timeout=CONNECT_SECONDS)
            await channel.basic_consume(self._queue, self._on_delivery, timeout=CONNECT_SECONDS)
            # The broker cancels the consumer of a queue that is deleted, and the channel stays.
            cancelled = asyncio.Event()
            channel.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
            ends = [asyncio.create_task(event.wait()) for event in (self.deaf, cancelled)]
            try:
                await asyncio.wait({*ends, channel.closing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
        finally:
            await self._drop()
            await let_go(connection)

    async def _on_delivery(self, message: DeliveredMessage) -> None:
        task = asyncio.create_task(self._handle(message), name=f"from {self._queue}")
        self._working.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None and not _is_lost(failure):  # what was lost while it was dropped is heard again
            self.failures.append(failure)

    async def _handle(self, message: DeliveredMessage) -> None:
        await self._handler(message)
        with suppress(*LOST):
            assert message.delivery_tag is not None
            await message.channel.basic_ack(message.delivery_tag, wait=False)

    async def _drop(self) -> None:
        """End what is being handled: its messages are heard again."""
        for task in list(self._working):
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
