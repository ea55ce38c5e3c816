"""A client of the wallet that is none of the wallet's code: upstream service, gateway and operator in one.

It publishes commands, results and queries, and keeps everything that comes back, byte for byte.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import aiormq
import asyncpg
from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.common import FieldValue
from pamqp.header import ContentHeader
from typing_extensions import override

from tests.journeys.messages import Json, encoded, fresh, recharge, result, signed
from tests.workers import until

WAIT_SECONDS = 60.0

COMMANDS, REQUESTS, RESULTS = "wallet.commands", "payment.requests", "payment.results"
EVENTS, QUERIES = "wallet.events", "wallet.queries"
DEAD_LETTERS, UNROUTED = "wallet.dead-letters", "wallet.unrouted"


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the broker handed it out."""

    body: bytes
    exchange: str
    routing_key: str
    properties: Basic.Properties
    redelivered: bool

    @property
    def headers(self) -> dict[str, FieldValue]:
        """Its headers, perhaps none."""
        return self.properties.headers or {}

    @property
    def json(self) -> Json:
        """Its body as the object that it is."""
        return cast("Json", json.loads(self.body))


@dataclass(slots=True)
class Mailbox:
    """Everything that arrived in one queue, in order."""

    queue: str
    received: list[Received] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(self, message: DeliveredMessage) -> None:
        """Keep a delivery."""
        frame = message.delivery
        assert isinstance(frame, Basic.Deliver)
        self.received.append(
            Received(
                message.body,
                frame.exchange or "",
                frame.routing_key or "",
                message.header.properties,
                bool(frame.redelivered),
            )
        )
        self._arrived.set()

    async def until(
        self, wanted: Callable[[Received], bool], count: int = 1, *, seconds: float = WAIT_SECONDS
    ) -> list[Received]:
        """Return all that are wanted, once there are at least `count`."""
        found: list[Received] = []
        looked_at = 0
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found += [item for item in self.received[looked_at:] if wanted(item)]
                    looked_at = len(self.received)
                    if len(found) >= count:
                        return found
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            last = [(item.routing_key, item.body[:200]) for item in self.received[-5:]]
            msg = (
                f"{self.queue}: {len(found)} of {count} arrived; the last of all {len(self.received)}: {last}"
            )
            raise AssertionError(msg) from None

    async def until_count(self, count: int) -> None:
        """Wait until this many have arrived, whatever they are."""
        await self.until(lambda _: True, count)

    def about(self, number: str) -> list[Received]:
        """Return those whose serial number or payment order number this is."""
        return [item for item in self.received if _is_about(item, number)]

    async def first_about(self, number: str, type_: str | None = None) -> Received:
        """Return the first that is about a number, and of a type, once it is there."""
        found = await self.until(
            lambda value: _is_about(value, number) and (type_ is None or value.json["type"] == type_)
        )
        return found[0]


def _is_about(received: Received, number: str) -> bool:
    if number.encode() not in received.body:
        return False
    content = received.json
    return number in {content.get("serial_no"), content.get("payment_order_no")}


class WireProperties(Basic.Properties):
    """Properties given as the bytes that stand on the wire, whatever they are: flags, then values."""

    def __init__(self, wire: bytes) -> None:
        super().__init__(message_id="the library wants one to be there")
        self.wire = wire

    @override
    def marshal(self) -> bytes:
        return self.wire


class WirePublish(Basic.Publish):
    """A publish whose routing key is any bytes."""

    def __init__(self, exchange: str, routing_key: bytes) -> None:
        super().__init__(exchange=exchange)
        self.wire_key = routing_key

    @override
    def marshal(self) -> bytes:
        return _short(self.exchange.encode(), before=b"\0\0") + _short(self.wire_key) + b"\0"


def _short(value: bytes, before: bytes = b"") -> bytes:
    return before + bytes([len(value)]) + value


class Upstream:
    """A connection to the broker, with a mailbox for each thing that the wallet sends.

    `gateway=False` leaves the payment requests to somebody else; `keeper=False` the dead letters.
    """

    def __init__(self, amqp_url: str, *, gateway: bool = True, keeper: bool = True) -> None:
        self._url = amqp_url
        self.replies = Mailbox(fresh("reply."))
        self.events = Mailbox(fresh("events"))
        self.requests = Mailbox(REQUESTS)
        self.dead_letters = Mailbox(DEAD_LETTERS)
        self.unrouted = Mailbox(UNROUTED)
        self._boxes = [self.replies, self.events, self.unrouted]
        self._boxes += [self.requests] if gateway else []
        self._boxes += [self.dead_letters] if keeper else []

    async def __aenter__(self) -> Self:
        self._connection = await aiormq.connect(self._url)
        self.channel = await self.new_channel()
        consuming = await self.new_channel()
        for box in (self.replies, self.events):
            await consuming.queue_declare(box.queue, exclusive=True)
        await consuming.queue_bind(self.events.queue, EVENTS, "#")
        for box in self._boxes:
            await consuming.basic_consume(box.queue, box.put, no_ack=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def new_channel(self) -> Channel:
        """Return a channel of its own, for what may end one."""
        return cast("Channel", await self._connection.channel(on_return_raises=True))

    async def publish(
        self,
        exchange: str,
        content: Json | bytes,
        *,
        routing_key: str = "any.key",
        properties: Basic.Properties | None = None,
        channel: Channel | None = None,
    ) -> None:
        """Publish a message; return once the broker has taken it, raise if it goes nowhere."""
        answer = await (channel or self.channel).basic_publish(
            encoded(content),
            exchange=exchange,
            routing_key=routing_key,
            properties=properties or Basic.Properties(delivery_mode=2),
            mandatory=True,
            wait=False,
        )
        assert isinstance(answer, Basic.Ack)

    async def publish_wire(
        self,
        exchange: str,
        content: Json | bytes,
        *,
        properties: bytes = b"\0\0",
        routing_key: bytes = b"a.key",
    ) -> None:
        """Publish properties and a routing key that no client library would write; the broker takes no offence."""
        body = encoded(content)
        channel = cast("Channel", await self._connection.channel(publisher_confirms=False))
        frames: list[Frame | ContentHeader | ContentBody] = [
            WirePublish(exchange, routing_key),
            ContentHeader(body_size=len(body), properties=WireProperties(properties)),
            ContentBody(body),
        ]
        await channel.write_queue.put(ChannelFrame.marshall(channel.number, frames))
        # An answer on the same channel comes after the broker has looked at what was sent before.
        await channel.basic_qos(prefetch_count=1, timeout=WAIT_SECONDS)
        await channel.close()

    async def command(
        self,
        content: Json | bytes,
        *,
        headers: Mapping[str, FieldValue] | None = None,
        routing_key: str = "any.key",
    ) -> str:
        """Publish a command that asks for its outcome; return the correlation_id to find it by."""
        return await self._ask(COMMANDS, content, headers, routing_key)

    async def outcome(self, content: Json | bytes, **options: Any) -> Json:
        """Publish a command and return its outcome."""
        return await self.answer(await self.command(content, **options))

    async def result(
        self,
        content: Json | bytes,
        *,
        signature: FieldValue = "",
        headers: Mapping[str, FieldValue] | None = None,
    ) -> str:
        """Publish a payment result that asks for an answer, well signed unless a signature is given."""
        given = {"x-signature": signature or signed(encoded(content))}
        return await self._ask(RESULTS, content, given | dict(headers or {}), "payment.result")

    async def processed(self, content: Json | bytes, **options: Any) -> Json:
        """Publish a payment result and return what became of it."""
        return await self.answer(await self.result(content, **options))

    async def query(self, content: Json | bytes) -> Json:
        """Publish a query and return the answer."""
        return await self.answer(await self._ask(QUERIES, content, None, "any.query"))

    async def answer(self, correlation_id: str) -> Json:
        """Return the first reply to something, once it is there."""
        return (await self.replies_to(correlation_id))[0].json

    async def replies_to(self, correlation_id: str, count: int = 1) -> list[Received]:
        """Return all replies to something, once there are `count`."""
        return await self.replies.until(
            lambda value: value.properties.correlation_id == correlation_id, count
        )

    async def _ask(
        self, exchange: str, content: Json | bytes, headers: Mapping[str, FieldValue] | None, routing_key: str
    ) -> str:
        correlation_id = fresh("C")
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            reply_to=self.replies.queue,
            correlation_id=correlation_id,
            message_id=fresh("M"),
            headers=dict(headers) if headers else None,
        )
        await self.publish(exchange, content, routing_key=routing_key, properties=properties)
        return correlation_id

    async def opened(self, user_id: str | None = None, **fields: Any) -> str:
        """Open an account and return its user."""
        user_id = user_id or fresh("user")
        outcome = await self.outcome({**_OPEN, "serial_no": fresh("O"), "user_id": user_id, **fields})
        assert outcome["code"] == "OK", outcome
        return user_id

    async def paid(self, user_id: str, amount: str = "100.00", **fields: Any) -> str:
        """Recharge an account, have the gateway say that it was paid, and return the serial number."""
        order = recharge(user_id, amount, **fields)
        outcome = await self.outcome(order)
        assert outcome["code"] == "OK", outcome
        answer = await self.processed(
            result(order["serial_no"], amount=order["amount"], currency=order["currency"])
        )
        assert answer["processing_status"] == "processed", answer
        serial_no: str = order["serial_no"]
        return serial_no

    async def funded(self, amount: str = "100.00", **fields: Any) -> str:
        """Open an account with so much in it, and return its user."""
        user_id = await self.opened(**fields)
        await self.paid(user_id, amount, **fields)
        return user_id

    async def applied(self, content: Json) -> Json:
        """Publish a command, which must be applied, and return its result."""
        outcome = await self.outcome(content)
        assert (outcome["status"], outcome["code"]) == ("applied", "OK"), outcome
        found: Json = outcome["result"]
        assert found.pop("object") in {"account_opened", "account", "recharge", "order"}
        return found

    async def code(self, content: Json) -> str:
        """Publish a command and return the code of its outcome."""
        found: str = (await self.outcome(content))["code"]
        return found

    async def account(self, user_id: str, **fields: Any) -> Json:
        """Return the one account that a user has, of those that the fields let pass."""
        listed = await self.query({"type": "account.get.v1", "user_id": user_id, **fields})
        (found,) = listed["accounts"]
        return cast("Json", found)

    async def balances(self, user_id: str, **fields: Any) -> tuple[str, str]:
        """Return balance and available of the one account that a user has."""
        account = await self.account(user_id, **fields)
        return account["balance"], account["available"]

    async def order(self, serial_no: str) -> Json:
        """Return outcome, order and entries of a serial number."""
        return await self.query({"type": "order.get.v1", "serial_no": serial_no})

    async def status(self, serial_no: str) -> str:
        """Return where an order stands."""
        found: str = (await self.order(serial_no))["order"]["status"]
        return found

    async def at_once(self, *commands: Json) -> list[Json]:
        """Publish all commands before any has its outcome; return the outcomes."""
        heard = [await self.command(command) for command in commands]
        return [await self.answer(item) for item in heard]

    async def depth(self, queue: str) -> int:
        """Return how many messages of a queue no consumer has been handed."""
        answer = await self.channel.queue_declare(queue, passive=True)
        return answer.message_count or 0

    async def until_depth(self, queue: str, depth: int) -> None:
        """Wait until this many messages of a queue are left."""
        async with asyncio.timeout(WAIT_SECONDS):
            # The broker tells nobody when a queue changes.
            while await self.depth(queue) != depth:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def settled(self, owner: asyncpg.Connection) -> None:
        """Return once all that was promised has been published, and has arrived here."""
        await until(owner, "SELECT count(*) FROM outbox", 0)
        mark = fresh("mark").encode()
        for box in self._boxes:
            await self.publish("", mark, routing_key=box.queue)
        for box in self._boxes:
            await box.until(lambda value: value.body == mark)
            box.received = [item for item in box.received if item.body != mark]


_OPEN = {"type": "account.open.v1", "account_type": "basic", "currency": "TWD"}
