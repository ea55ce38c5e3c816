"""From what a queue delivered to a dead letter: why it is here, where it was to go, and what can be read of it.

Everything in a message may be forged by whoever sent it. A replay is published to the exchange that is found here, so
only the wallet's own exchanges come out; whether a payment request is the wallet's own, its order tells when it is
replayed.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from copy import copy
from datetime import MAXYEAR, UTC, datetime
from typing import Any, Final
from uuid import UUID

from pamqp.commands import Basic
from pamqp.common import FieldValue

from wallet_schemas.codes import Code
from wallet_schemas.names import (
    ATTEMPTS_HEADER,
    BODY_BYTES_HEADER,
    BODY_BYTES_MAX,
    BODY_SHA256_HEADER,
    DETAIL_BYTES_MAX,
    DETAIL_HEADER,
    FIRST_SEEN_HEADER,
    PAYMENT_REQUESTS,
    PAYMENT_RESULTS,
    REASON_HEADER,
    REPLAY_ID_HEADER,
    ROUTING_KEY_HEADER,
    SENDER_HEADER,
    SOURCE_HEADER,
    WALLET_COMMANDS,
    WALLET_UNROUTED,
    WORKER_HEADER,
)
from wallet_worker.broker.amqp import codec
from wallet_worker.broker.amqp.properties import DEATH_HEADER, DroppedBody, body_headers, marshal
from wallet_worker.broker.amqp.seal import Seal, SealKey, is_sealed
from wallet_worker.broker.inbox import traceparent
from wallet_worker.dead_letters.reasons import BROKER, UNKNOWN, UNROUTED
from wallet_worker.store.dead_letters.arrivals import Arrival
from wallet_worker.text import storable

SOURCES: Final = frozenset({WALLET_COMMANDS, PAYMENT_RESULTS, PAYMENT_REQUESTS})
"""The queues that a letter may come from, each called like the exchange that feeds it."""

_SET_BY_BROKER: Final = frozenset({b"x-delivery-count", b"x-acquired-count"})
"""Headers that are other ones at each delivery of the same message."""

_TEXT_MAX: Final = 255
_NUMBER: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_USER: Final = re.compile(r"[A-Za-z0-9._:@+-]{1,64}")
_TYPE: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_REFERENCE: Final = re.compile(r"[^\0\ud800-\udfff]{1,64}")
_USERS: Final = ("user_id", "to_user_id")
_ORDERS: Final = (
    "serial_no",
    "payment_order_no",
    "original_serial_no",
    "hold_serial_no",
    "target_serial_no",
    "original_payment_order_no",
)
_GATEWAY_REFS: Final = ("gateway_ref", "original_gateway_ref")
_ATTEMPTS_MAX: Final = 2**31 - 1


def arrival(
    queue: str,
    body: bytes,
    properties: Basic.Properties,
    *,
    exchange: str,
    routing_key: str,
    redelivered: bool,
    now: datetime,
    seal_key: SealKey | None = None,
    dropped: DroppedBody | None = None,
) -> Arrival:
    """Return a delivery of `wallet.dead-letters` or `wallet.unrouted` as what is kept. Never raises for its content.

    Of a body that was too large `body` is the beginning: a worker has dropped the rest, or, if `dropped` is there, this
    keeper. Its digest is that of the whole.
    """
    headers: Mapping[str, FieldValue] = properties.headers or {}
    why = _why(queue, headers, exchange, routing_key)
    digest = _digest_of(body, headers, dropped, by_wallet=why["by_wallet"])
    read = {} if dropped is not None else _read(body)
    trace = traceparent(headers)
    return Arrival(
        key=_key(
            queue,
            body if dropped is None else digest,
            properties,
            exchange,
            routing_key,
            by_wallet=why["by_wallet"],
        ),
        reason=why["reason"],
        detail=storable(why["detail"], DETAIL_BYTES_MAX),
        source=why["source"],
        exchange=why["exchange"],
        routing_key=storable(why["routing_key"], _TEXT_MAX),
        properties=marshal(_with_sender(properties, dropped, by_wallet=why["by_wallet"])),
        seal=_sealed(queue, properties, body, seal_key, source=why["source"], by_wallet=why["by_wallet"]),
        body=body,
        body_digest=digest,
        message_type=_matching(read.get("type"), _TYPE),
        serial_no=_matching(read.get("serial_no"), _NUMBER)
        or _matching(read.get("payment_order_no"), _NUMBER),
        user_id=_matching(read.get("user_id"), _USER),
        trace_id=trace.split("-")[1] if trace else None,
        worker=why["worker"],
        attempts=why["attempts"],
        first_seen=why["first_seen"] or now,
        replay_id=_uuid(headers.get(REPLAY_ID_HEADER)),
        redelivered=redelivered,
        users=_names(read, _USERS, _USER),
        orders=_names(read, _ORDERS, _NUMBER),
        gateway_refs=_names(read, _GATEWAY_REFS, _REFERENCE),
    )


def _digest_of(
    body: bytes, headers: Mapping[str, FieldValue], dropped: DroppedBody | None, *, by_wallet: bool
) -> bytes:
    """Return the SHA-256 of a letter's whole body."""
    if dropped is not None:
        return dropped.digest
    whole = headers.get(BODY_SHA256_HEADER) if by_wallet and BODY_BYTES_HEADER in headers else None
    if isinstance(whole, str) and _SHA256.fullmatch(whole):
        return bytes.fromhex(whole)
    return hashlib.sha256(body).digest()


_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def _with_sender(
    properties: Basic.Properties, dropped: DroppedBody | None, *, by_wallet: bool
) -> Basic.Properties:
    """Return the properties with headers that name the sender and the size of a body that this keeper has dropped.

    A worker has put them there. Else those of strangers are taken away; the property `user_id` is the sender's,
    verified, in what the broker set aside.
    """
    if by_wallet and dropped is None:
        return properties
    kept = copy(properties)
    ours: dict[str, FieldValue] = {} if dropped is None else body_headers(dropped)
    if not by_wallet and properties.user_id:
        ours[SENDER_HEADER] = properties.user_id
    foreign = {BODY_BYTES_HEADER.encode(), BODY_SHA256_HEADER.encode()}
    if not by_wallet:
        foreign.add(SENDER_HEADER.encode())
    theirs = [entry for entry in codec.entries(properties.headers or {}) if entry[0] not in foreign]
    kept.headers = codec.RawTable((*theirs, *codec.entries(ours)))
    return kept


def _sealed(
    queue: str,
    properties: Basic.Properties,
    body: bytes,
    key: SealKey | None,
    *,
    source: str,
    by_wallet: bool,
) -> Seal:
    # Only the broker writes the queue of what has no route. What it writes to the other, anybody there can imitate; but
    # a result proves itself, and a request is compared with its order before it is handed on.
    proven = queue == WALLET_UNROUTED or source in {PAYMENT_REQUESTS, PAYMENT_RESULTS}
    if not by_wallet and (proven or key is None):
        return Seal.NOT_BY_WORKER
    if key is None:
        return Seal.UNCHECKED
    return Seal.SEALED if is_sealed(properties, body, key) else Seal.UNSEALED


def _names(read: Mapping[str, Any], members: tuple[str, ...], form: re.Pattern[str]) -> frozenset[str]:
    """Return what some members of a message name, as far as they can be names."""
    matching = (_matching(read.get(member), form) for member in members)
    return frozenset(name for name in matching if name is not None)


def _why(queue: str, headers: Mapping[str, FieldValue], exchange: str, routing_key: str) -> dict[str, Any]:
    """Return why it is here, and where it is to go."""
    if queue == WALLET_UNROUTED:
        is_source = exchange in SOURCES
        return _failure_headers(
            UNROUTED,
            f"no queue was bound to the exchange {exchange} for the routing key {routing_key}",
            source=exchange if is_source else queue,
            exchange=exchange if is_source else None,
            routing_key=routing_key,
        )
    # First of all: what the broker set aside may say anything of itself, and a worker sets nothing aside with this.
    death = _death(headers)
    if death is not None:
        return _by_broker(death, queue, routing_key)
    source = _text(headers.get(SOURCE_HEADER))
    if source in {WALLET_COMMANDS, PAYMENT_RESULTS}:
        return _by_wallet(headers, source, routing_key)
    return _failure_headers(
        UNKNOWN, "it came without a reason", source=queue, exchange=None, routing_key=routing_key
    )


def _by_wallet(headers: Mapping[str, FieldValue], source: str, routing_key: str) -> dict[str, Any]:
    reason = _text(headers.get(REASON_HEADER))
    detail = _text(headers.get(DETAIL_HEADER))
    key = headers.get(ROUTING_KEY_HEADER)
    key = key if isinstance(key, str) else routing_key
    if reason not in Code.__members__ or reason == Code.OK:
        reason, detail = UNKNOWN, f"{reason}: {detail}"
    attempts = headers.get(ATTEMPTS_HEADER)
    return _failure_headers(
        reason,
        detail,
        source=source,
        exchange=source,  # whatever led to the queue at first, its own exchange leads there too
        routing_key=key,
        worker=storable(_text(headers.get(WORKER_HEADER)), _TEXT_MAX) or None,
        attempts=attempts if isinstance(attempts, int) else 1,
        first_seen=_time(_text(headers.get(FIRST_SEEN_HEADER))),
        by_wallet=True,
    )


def _by_broker(death: Mapping[str, FieldValue], queue: str, routing_key: str) -> dict[str, Any]:
    source = _text(death.get("queue"))
    is_source = source in SOURCES
    cause = _text(death.get("reason"))
    keys = death.get("routing-keys")
    key = keys[0] if isinstance(keys, list) and keys and isinstance(keys[0], str) else routing_key
    count, time = death.get("count"), death.get("time")
    return _failure_headers(
        BROKER.get(cause, UNKNOWN),
        f"the broker set it aside from {source}: {cause}"
        if death
        else "the broker set it aside; why cannot be read",
        source=source if is_source else queue,
        exchange=source if is_source else None,
        routing_key=key,
        attempts=count if isinstance(count, int) else 1,
        first_seen=time if isinstance(time, datetime) and time.year < MAXYEAR else None,
    )


def _failure_headers(
    reason: str,
    detail: str,
    *,
    source: str,
    exchange: str | None,
    routing_key: str,
    worker: str | None = None,
    attempts: int = 1,
    first_seen: datetime | None = None,
    by_wallet: bool = False,
) -> dict[str, Any]:
    return {
        "reason": reason,
        "detail": detail,
        "source": source,
        "exchange": exchange,
        "routing_key": routing_key,
        "worker": worker,
        "attempts": min(max(attempts, 1), _ATTEMPTS_MAX),
        "first_seen": first_seen,
        "by_wallet": by_wallet,
    }


def _death(headers: Mapping[str, FieldValue]) -> Mapping[str, FieldValue] | None:
    """Return the newest entry of `x-death`, which the broker puts first; an empty one if it cannot be read.

    Nothing where the broker had no part: it always writes an array.
    """
    if not any(name == DEATH_HEADER and value[:1] == b"A" for name, value in codec.entries(headers)):
        return None
    deaths = headers.get("x-death")
    newest = deaths[0] if isinstance(deaths, list) and deaths else None
    return newest if isinstance(newest, Mapping) else {}


def _key(
    queue: str,
    body: bytes,
    properties: Basic.Properties,
    exchange: str,
    routing_key: str,
    *,
    by_wallet: bool,
) -> bytes:
    """Return what two deliveries of one dead letter have in common, and two dead letters have not.

    A worker gives each letter its own time and name, and its message_id, if the sender gave none, at each attempt to
    publish it. What the broker set aside has no mark but its message_id: a sender's exact repeat is the same letter.
    """
    marked = hashlib.sha256()
    for name, value in sorted(codec.entries(properties.headers or {})):
        if name not in _SET_BY_BROKER:
            _add(marked, name, value)
    where = (queue, exchange, routing_key, "" if by_wallet else properties.message_id or "")
    _add(marked, *(text.encode(errors="surrogateescape") for text in where), body)
    return marked.digest()


def _add(digest: Any, *parts: bytes) -> None:
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members[name] = None if name in members else value
    return members


_decode: Final = json.JSONDecoder(object_pairs_hook=_once).decode


def _read(body: bytes) -> dict[str, Any]:
    """Return the members of the object that a body is, perhaps none; for searching, not for believing."""
    if len(body) > BODY_BYTES_MAX:
        return {}
    try:
        parsed = _decode(body.decode())
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _matching(value: object, form: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and form.fullmatch(value) else None


def _text(value: object) -> str:
    """Return a header's text, or an empty one for whatever else it is."""
    return value if isinstance(value, str) else ""


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
