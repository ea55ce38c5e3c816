"""AMQP properties that no client library would write: the body decides, nothing is lost, nobody loses a connection."""

import struct
from dataclasses import dataclass, field

import pytest
from pamqp import decode
from pamqp.commands import Basic

from tests.journeys import wire
from tests.journeys.conftest import Wallet
from tests.journeys.letters import OURS
from tests.journeys.messages import encoded, fresh, recharge, result, signed
from tests.journeys.upstream import (
    COMMANDS,
    DEAD_LETTERS,
    QUERIES,
    REQUESTS,
    RESULTS,
    UNROUTED,
    Received,
    Upstream,
)
from tests.journeys.wire import entry, long
from tests.workers import WorkerProcess, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMPLAINTS = ("consumer.lost", "publisher.lost", "publish.unconfirmed", "message.failed")


@pytest.fixture(scope="module")
def worker(shared: Wallet) -> WorkerProcess:
    """Give the shared wallet's worker."""
    return shared.workers._started[0]


@pytest.fixture(autouse=True)
def _as_on_the_wire(shared: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 -- see below
    """Have this side read what comes as bytes, with none of the worker's code: texts as Latin-1, tables whole.

    Only once connected: a handshake needs real tables.
    """
    monkeypatch.setitem(
        decode.METHODS, "shortstr", lambda value: (1 + value[0], value[1 : 1 + value[0]].decode("latin-1"))
    )
    monkeypatch.setitem(decode.METHODS, "timestamp", lambda value: (8, value[:8]))
    monkeypatch.setitem(decode.METHODS, "table", _table)


def _table(value: bytes) -> tuple[int, dict[str, bytes]]:
    end = 4 + int.from_bytes(value[:4], "big")
    return end, {"wire": value[4:end]}


def headers_of(letter: Received) -> dict[bytes, bytes]:
    table = letter.headers["wire"]
    assert isinstance(table, bytes)
    return wire.entries(table)


def nested(depth: int, kind: bytes) -> bytes:
    """Return a header that is a table in a table in a table, or an array in an array."""
    value = b""
    for _ in range(depth):
        value = entry(b"a", b"F", long(value)) if kind == b"F" else b"A" + long(value)
    return entry(b"deep", kind, long(value))


def text(value: bytes) -> bytes:
    return b"S" + long(value)


@dataclass(frozen=True, slots=True)
class Row:
    """Properties, and a routing key. What of them cannot stay in a dead letter is in `lost`."""

    name: str
    properties: dict[str, bytes] = field(default_factory=dict)
    routing_key: bytes = b"a.key"
    routing_key_shown: bytes = b"a.key"
    lost: frozenset[bytes] = frozenset()


EVERY_TYPE = b"".join(
    [
        entry(b"boolean", b"t", b"\1"),
        entry(b"signed 8", b"b", b"\xff"),
        entry(b"unsigned 8", b"B", b"\xff"),
        entry(b"signed 16", b"s", b"\xff\xfe"),
        entry(b"unsigned 16", b"u", b"\xff\xfe"),
        entry(b"signed 32", b"I", b"\xff" * 4),
        entry(b"unsigned 32", b"i", b"\xff" * 4),
        entry(b"signed 64", b"l", b"\xff" * 8),
        entry(b"float", b"f", struct.pack(">f", 0.1)),
        entry(b"double", b"d", struct.pack(">d", 0.1)),
        entry(b"a great double", b"d", struct.pack(">d", 1e300)),
        entry(b"decimal", b"D", b"\2\0\0\4\xd2"),
        entry(b"a great decimal", b"D", b"\xff\xff\xff\xff\xff"),
        entry(b"text", b"S", long("中文".encode())),
        entry(b"no UTF-8", b"S", long(b"\xff\xfe")),
        entry(b"empty", b"S", long(b"")),
        entry(b"bytes", b"x", long(b"\0\1\2\xff")),
        entry(b"time", b"T", (1_767_323_047).to_bytes(8, "big")),
        entry(b"time in ms", b"T", (1_767_323_047_123).to_bytes(8, "big")),
        entry(b"no time", b"T", b"\xff" * 8),
        entry(b"void", b"V", b""),
        entry(b"array", b"A", long(b"t\1" + b"b\7" + text(b"x") + b"A" + long(b"") + b"F" + long(b""))),
        entry(b"table", b"F", long(entry(b"in it", b"F", long(entry(b"and in it", b"d", b"\1" * 8))))),
        entry(b"\xff\xfe is no name", b"S", text(b"x")[1:]),
        entry(b"a long name" * 23, b"V", b""),
        entry(b"", b"V", b""),
    ]
)

TABLE = [
    Row("headers of every type", {"headers": EVERY_TYPE}),
    Row("tables nested 5,000 deep", {"headers": nested(5_000, b"F")}),
    Row("arrays nested 20,000 deep", {"headers": nested(20_000, b"A")}),
    Row("a header of 100 KB", {"headers": entry(b"big", b"S", long(b"x" * 100_000))}),
    Row(
        "a header that fills the frame",
        {"headers": entry(b"small", b"V", b"") + entry(b"big", b"S", long(b"x" * 130_000))},
        lost=frozenset({b"big"}),
    ),
    Row("10,000 headers", {"headers": b"".join(entry(b"%d" % n, b"V", b"") for n in range(10_000))}),
    Row("50,000 empty headers", {"headers": entry(b"", b"V", b"") * 30_000 + entry(b"", b"F", long(b""))}),
    Row("an array of 100,000 voids", {"headers": entry(b"many", b"A", long(b"V" * 100_000))}),
    Row("headers that forge a dead letter", {"headers": entry(b"x-wallet-reason", b"S", long(b"OK"))}),
    Row(
        "headers that forge deliveries", {"headers": entry(b"x-delivery-count", b"l", b"\x7f" + b"\xff" * 7)}
    ),
    Row("headers that forge deaths", {"headers": entry(b"x-death", b"S", long(b"often"))}),
    Row("headers that send copies", {"headers": entry(b"CC", b"A", long(text(b"another.key")))}),
    Row("a trace that is none", {"headers": entry(b"traceparent", b"S", long(b"a\0b"))}),
    Row("a trace that is a table", {"headers": entry(b"traceparent", b"F", long(b""))}),
    Row("a correlation_id that is no UTF-8", {"correlation_id": b"\xff\xfe\x80\x00binary"}),
    Row("a correlation_id of 255 bytes", {"correlation_id": b"\xe4" * 255}),
    Row("a correlation_id with NUL", {"correlation_id": b"a\0b"}),
    Row("a reply_to of 255 bytes", {"reply_to": b"r" * 255}),
    Row("a reply_to that is no UTF-8", {"reply_to": b"\xff" * 255}),
    Row("a reply_to with NUL", {"reply_to": b"a\0b"}),
    Row("a reply_to to nobody", {"reply_to": b"amq.gen-gone"}),
    Row("a reply_to to nobody's token", {"reply_to": b"amq.rabbitmq.reply-to.garbage"}),
    Row(
        "texts that are no UTF-8",
        dict.fromkeys(("content_type", "content_encoding", "message_type", "app_id"), b"\xff"),
    ),
    Row("a message_id that is no UTF-8", {"message_id": b"\xff" * 255}),
    Row("a time beyond the calendar", {"timestamp": b"\xff" * 8}),
    Row("a time in milliseconds", {"timestamp": (1_767_323_047_123).to_bytes(8, "big")}),
    Row("an old protocol's cluster_id", {"cluster_id": b"c"}),
    Row("the highest priority", {"priority": b"\xff"}),
    Row("an expiration", {"expiration": b"600000"}),
    Row("transient", {"delivery_mode": b"\1"}),
    Row("a wrong routing key", routing_key=b"payment.result", routing_key_shown=b"payment.result"),
    Row("no routing key", routing_key=b"", routing_key_shown=b""),
    Row("a routing key of 255 bytes", routing_key=b"k" * 255, routing_key_shown=b"k" * 255),
    Row("a routing key with NUL", routing_key=b"a\0b", routing_key_shown="a\ufffdb".encode()),
    Row("a routing key that is no UTF-8", routing_key=b"a\xffb", routing_key_shown="a\ufffdb".encode()),
    Row(
        "a routing key of 255 bytes that is no UTF-8",
        routing_key=b"\xff" * 255,
        routing_key_shown=("\ufffd" * 85).encode(),
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_strange_properties_change_nothing_for_a_good_command(
    row: Row, shared: Wallet, worker: WorkerProcess
) -> None:
    upstream = shared.upstream
    user = await upstream.opened()
    order, mark = recharge(user), fresh("C").encode()
    query_sent = {"reply_to": upstream.replies.queue.encode(), "correlation_id": mark} | row.properties

    await upstream.publish_wire(
        COMMANDS, order, properties=wire.properties(**query_sent), routing_key=row.routing_key
    )
    await upstream.events.first_about(order["serial_no"], "order.pending.v1")
    then = await upstream.outcome(recharge(user))

    assert then["code"] == "OK"
    if "reply_to" not in row.properties:
        reply = await upstream.replies.first_about(order["serial_no"])
        assert (reply.properties.correlation_id or "").encode("latin-1") == query_sent["correlation_id"]
        assert "headers" not in row.properties or reply.headers == {}
    assert [worker.events(name) for name in COMPLAINTS] == [[]] * len(COMPLAINTS)


@pytest.mark.parametrize("source", [COMMANDS, RESULTS])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_strange_properties_stay_with_a_dead_letter_byte_for_byte(
    row: Row, source: str, shared: Wallet, worker: WorkerProcess
) -> None:
    upstream = shared.upstream
    number = fresh("N")
    content = recharge("u", serial_no=number) if source == COMMANDS else result(number)
    body = encoded(content | {"surprise": True})

    await upstream.publish_wire(
        source, body, properties=wire.properties(**row.properties), routing_key=row.routing_key
    )
    letter = await upstream.dead_letters.first_about(number)

    assert letter.body == body
    theirs = wire.entries(row.properties.get("headers", b""))
    ours = {name.encode() for name in OURS}
    kept = {name: value for name, value in theirs.items() if name not in ours | row.lost}
    found = headers_of(letter)
    assert {name: value for name, value in found.items() if name not in ours} == kept
    assert {found[b"x-wallet-reason"], found[b"x-wallet-source"], found[b"x-wallet-routing-key"]} == {
        text(b"MALFORMED"),
        text(source.encode()),
        text(row.routing_key_shown),
    }
    assert found[b"x-wallet-attempts"] == b"b\1"
    others = {name: _as_bytes(letter.properties, name) for name in wire.NAMES if name != "headers"}
    if "message_id" not in row.properties:
        assert others.pop("message_id")  # one that was not given is made
    given = {name: row.properties.get(name) for name in others}
    assert others == given | {"delivery_mode": b"\2", "expiration": None, "user_id": None}
    assert [worker.events(name) for name in COMPLAINTS] == [[]] * len(COMPLAINTS)


def _as_bytes(properties: Basic.Properties, name: str) -> bytes | None:
    match getattr(properties, name):
        case str() as value if value:
            return value.encode("latin-1")
        case int() as value:
            return bytes([value])
        case bytes() as value:
            return value
        case _:
            return None


async def test_a_name_of_the_sender_stays_and_its_user_goes(shared: Wallet) -> None:
    number, user = fresh("N"), (shared.amqp_url.partition("//")[2].partition(":")[0]).encode()

    await shared.upstream.publish_wire(
        COMMANDS, {"serial_no": number}, properties=wire.properties(user_id=user, app_id=b"till 7")
    )
    letter = await shared.upstream.dead_letters.first_about(number)

    assert (letter.properties.user_id, letter.properties.app_id) == (None, "till 7")


@pytest.mark.parametrize(
    "queue", [COMMANDS, RESULTS, REQUESTS, QUERIES, DEAD_LETTERS, UNROUTED, "events.other"]
)
async def test_a_sender_cannot_have_the_wallet_write_where_the_sender_may_not(
    queue: str, shared: Wallet
) -> None:
    upstream, worker = shared.upstream, shared.workers.started[0]
    order, query_sent = recharge(await upstream.opened()), {"type": "order.get.v1", "serial_no": "S-1"}
    before = await replies_refused(worker)

    for exchange, message in ((COMMANDS, order), (QUERIES, query_sent)):
        properties = wire.properties(reply_to=queue.encode(), correlation_id=b"there")
        await upstream.publish_wire(exchange, message, properties=properties)
    await upstream.outcome(recharge(order["user_id"]))
    await upstream.query(query_sent)
    await upstream.settled(shared.owner)

    assert await replies_refused(worker) == before + 2
    assert (await upstream.query({"type": "order.get.v1", "serial_no": order["serial_no"]}))["order"]
    boxes = (upstream.dead_letters, upstream.unrouted)
    assert [item for box in boxes for item in box.about(order["serial_no"])] == []
    (request,) = upstream.requests.about(order["serial_no"])
    assert request.json["type"] == "payment.request.v1"


async def replies_refused(worker: WorkerProcess) -> float:
    """Return how many answers the worker has given nowhere."""
    _, page = await worker.get("/metrics")
    (line,) = [line for line in page.splitlines() if line.startswith("wallet_replies_refused_total")]
    return float(line.split()[-1])


async def test_strange_properties_of_queries_are_answered_too(upstream: Upstream) -> None:
    query_sent = {"type": "order.get.v1", "serial_no": "S-1"}
    heard: list[bytes] = []

    for row in TABLE:
        if "correlation_id" not in row.properties and "reply_to" not in row.properties:
            heard.append(fresh("C").encode())
            given = {"correlation_id": heard[-1], "reply_to": upstream.replies.queue.encode()}
            await upstream.publish_wire(
                QUERIES,
                query_sent,
                properties=wire.properties(**(given | row.properties)),
                routing_key=row.routing_key,
            )

    for mark in heard:
        assert (await upstream.answer(mark.decode()))["type"] == "query.refused.v1"


async def test_a_parked_result_keeps_its_properties_byte_for_byte(shared: Wallet) -> None:
    upstream, number = shared.upstream, fresh("nobody")
    body = encoded(result(number))
    headers = EVERY_TYPE + entry(b"x-signature", b"S", long(signed(body).encode()))
    given = {"headers": headers, "correlation_id": b"\xff\0", "timestamp": b"\xff" * 8, "app_id": b"\xe4"}

    await upstream.publish_wire(RESULTS, body, properties=wire.properties(**given), routing_key=b"\xff\0k")
    for attempts in (1, 2, 3):
        await until(
            shared.owner, "SELECT attempts FROM parked_results WHERE payment_order_no = $1", attempts, number
        )
        await shared.owner.execute("UPDATE parked_results SET due_at = clock_timestamp()")
    letter = await upstream.dead_letters.first_about(number)

    assert letter.body == body
    found = headers_of(letter)
    assert {
        name: value for name, value in found.items() if name.decode("latin-1") not in OURS
    } == wire.entries(headers)
    assert found[b"x-wallet-reason"] == text(b"ORDER_NOT_FOUND")
    assert {name: _as_bytes(letter.properties, name) for name in given if name != "headers"} == {
        name: value for name, value in given.items() if name != "headers"
    }
