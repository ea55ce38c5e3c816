"""AMQP properties as bytes, so that a message can be kept in a table and published as it came."""

import struct
from collections.abc import Mapping
from copy import copy
from datetime import datetime

from pamqp import encode
from pamqp.commands import Basic
from pamqp.common import FieldValue

from schemas.codes import Code
from schemas.names import (
    ATTEMPTS_HEADER,
    DETAIL_BYTES_MAX,
    DETAIL_HEADER,
    EXCHANGE_HEADER,
    FIRST_SEEN_HEADER,
    REASON_HEADER,
    ROUTING_KEY_HEADER,
    SOURCE_HEADER,
    WORKER_HEADER,
)

_FLAGS_BYTES = 2


HEADERS_BYTES_MAX = 100_000
"""All properties must fit into one frame, of 128 KiB on an ordinary broker."""


def marshal(properties: Basic.Properties) -> bytes:
    """Return the properties as they stand on the wire: two bytes of flags, and the values.

    Headers that can be read and not be written again are left out: see `_sendable`.
    """
    kept = copy(properties)
    kept.headers = _sendable(properties.headers or {}) or None
    return kept.marshal()


def unmarshal(data: bytes) -> Basic.Properties:
    """Return the properties that `marshal` was given."""
    properties = Basic.Properties()
    properties.unmarshal(int.from_bytes(data[:_FLAGS_BYTES], "big"), data[_FLAGS_BYTES:])
    return properties


def dead_letter(
    original: Basic.Properties,
    *,
    code: Code,
    detail: str,
    source: str,
    exchange: str,
    routing_key: str,
    attempts: int,
    first_seen: datetime,
    worker: str,
) -> Basic.Properties:
    """Return the original properties and headers with the reason beside them (contract, section 10).

    `user_id` is left out: the broker lets nobody publish in another user's name. `expiration` too: a
    dead letter does not expire. Headers that cannot be sent again are left out, the largest first.
    """
    headers: dict[str, FieldValue] = _sendable(original.headers or {})
    headers |= {
        REASON_HEADER: code.value,
        DETAIL_HEADER: _bounded(detail),
        SOURCE_HEADER: source,
        EXCHANGE_HEADER: exchange,
        ROUTING_KEY_HEADER: routing_key,
        ATTEMPTS_HEADER: attempts,
        FIRST_SEEN_HEADER: first_seen.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        WORKER_HEADER: worker,
    }
    return Basic.Properties(
        content_type=original.content_type,
        content_encoding=original.content_encoding,
        headers=headers,
        delivery_mode=2,
        priority=original.priority,
        correlation_id=original.correlation_id,
        reply_to=original.reply_to,
        message_id=original.message_id,
        timestamp=original.timestamp,
        message_type=original.message_type,
        app_id=original.app_id,
    )


def _sendable(headers: Mapping[str, FieldValue]) -> dict[str, FieldValue]:
    """Return the headers that can be encoded again and fit beside ours."""
    kept: dict[str, FieldValue] = {}
    sizes: dict[str, int] = {}
    for name, value in headers.items():
        try:
            kept[name] = _writable(value)
            sizes[name] = len(encode.field_table({name: kept[name]}))
        except (TypeError, ValueError, OverflowError, RecursionError, struct.error):
            kept.pop(name, None)  # a value that the client library reads and cannot write
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if sum(sizes[name] for name in kept) <= HEADERS_BYTES_MAX:
            break
        del kept[name]
    return kept


def _writable(value: FieldValue) -> FieldValue:
    """Return the value with strings that are no UTF-8 as byte arrays: pamqp reads them and has no way back."""
    match value:
        case bytes():
            return bytearray(value)
        case dict():
            return {name: _writable(inner) for name, inner in value.items()}
        case list():
            return [_writable(inner) for inner in value]
        case _:
            return value


def _bounded(text: str) -> str:
    """Return the text in at most 1 KiB of UTF-8, cut at a whole character."""
    return text.encode("utf-8", "replace")[:DETAIL_BYTES_MAX].decode("utf-8", "ignore")
