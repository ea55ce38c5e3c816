"""AMQP 0-9-1 properties as bytes, for what no client library would write, or would read without changing it."""

import struct
from typing import Final

# In the order in which they stand on the wire; the first is the highest bit of the flags.
NAMES: Final = (
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "message_type",
    "user_id",
    "app_id",
    "cluster_id",
)
_NUMBERS: Final = {"delivery_mode": 1, "priority": 1, "timestamp": 8}
_FIXED: Final = {
    b"t": 1,
    b"b": 1,
    b"B": 1,
    b"s": 2,
    b"u": 2,
    b"I": 4,
    b"i": 4,
    b"l": 8,
    b"L": 8,
    b"f": 4,
    b"d": 8,
    b"D": 5,
    b"T": 8,
    b"V": 0,
}
"""Bytes of the values whose type says it; the others begin with their length."""


def properties(**values: bytes) -> bytes:
    """Return properties: texts and `headers` as they are, without their lengths, and numbers in full."""
    flags = sum(1 << (15 - NAMES.index(name)) for name in values)
    wire = struct.pack(">H", flags)
    for name in NAMES:
        if name in values:
            value = values[name]
            if name == "headers":
                wire += long(value)
            else:
                wire += value if name in _NUMBERS else short(value)
    return wire


def short(value: bytes) -> bytes:
    """Return a text of at most 255 bytes."""
    return bytes([len(value)]) + value


def long(value: bytes) -> bytes:
    """Return what may be long: a text, a table, an array or bytes."""
    return struct.pack(">I", len(value)) + value


def entry(name: bytes, tag: bytes, value: bytes) -> bytes:
    """Return one entry of a table: of a type and with the bytes of its value."""
    return short(name) + tag + value


def entries(table: bytes) -> dict[bytes, bytes]:
    """Return each entry of a table, by name: its type and its value, as they stand there."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(table):
        name_end = at + 1 + table[at]
        name, tag = table[at + 1 : name_end], table[name_end : name_end + 1]
        size = _FIXED.get(tag)
        if size is None:
            size = 4 + int.from_bytes(table[name_end + 1 : name_end + 5], "big")
        found[name] = table[name_end : name_end + 1 + size]
        at = name_end + 1 + size
    return found
