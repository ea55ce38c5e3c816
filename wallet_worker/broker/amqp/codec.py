"""AMQP's values as they stand on the wire: read whatever they are, and written again byte for byte.

A broker hands on properties that it never looks at: names that are no UTF-8, times beyond the calendar, tables
nested a thousand deep. pamqp raises on those while it reads a frame, which ends the connection; the message comes
again with the next one, and so for ever. What it can read it does not always write as it was: a double becomes a
float, milliseconds become seconds. So the functions below take the place of pamqp's in processes that call
`patch_pamqp`: they never raise on what a peer sent, and what was read and not changed is written as it came.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import MAXYEAR, UTC, datetime
from typing import Final

from pamqp import decode, encode
from pamqp.common import FieldTable, FieldValue

BYTES_READ_MAX: Final = 4_096
"""Larger tables and arrays inside of headers are kept as bytes: to read one takes time squared, or too deep a stack."""

_SECONDS_MAX: Final = 2**32 - 1  # the year 2106: what is more is milliseconds

_SIZES: Final = {
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
"""Bytes of the values whose type says it; all others begin with their length."""


class RawTable(dict[str, FieldValue]):
    """A table that was read, with its entries as they came: each name, and each value behind its type.

    What cannot be read is there as a bytearray. To change a table, make another one.
    """

    def __init__(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        self.entries = tuple(entries)
        super().__init__(
            (name.decode(errors="surrogateescape"), _read(value)) for name, value in self.entries
        )


class RawTimestamp(datetime):
    """A time that was read, with its bytes; one that no calendar has is read as the calendar's last."""

    wire: bytes


def entries(table: Mapping[str, FieldValue]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the entries of a table that was read, or of one that somebody made."""
    if isinstance(table, RawTable):
        return table.entries
    return tuple((name.encode(), encode.encode_table_value(value)) for name, value in table.items())


def read_text(value: bytes) -> tuple[int, str]:
    """Return a short string; bytes that are not UTF-8 become lone surrogates (PEP 383)."""
    end = 1 + value[0]
    return end, value[1:end].decode(errors="surrogateescape")


def read_time(value: bytes) -> tuple[int, RawTimestamp]:
    """Return a time, in seconds or, as some clients have it, in milliseconds."""
    seconds = int.from_bytes(value[:8], "big")
    if seconds > _SECONDS_MAX:
        seconds //= 1_000
    try:
        found = RawTimestamp.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        found = RawTimestamp(MAXYEAR, 12, 31, tzinfo=UTC)
    found.wire = value[:8]
    return 8, found


def read_table(value: bytes) -> tuple[int, RawTable]:
    """Return a table, as far as it can be told where its entries end."""
    end = 4 + int.from_bytes(value[:4], "big")
    return end, RawTable(_split(value[4:end]))


def write_text(value: str) -> bytes:
    """Return a short string of at most 255 bytes; raises ValueError if it is longer."""
    encoded = value.encode(errors="surrogateescape")
    return bytes((len(encoded),)) + encoded


def write_time(value: datetime) -> bytes:
    """Return a time as it was read, or else in seconds."""
    return value.wire if isinstance(value, RawTimestamp) else encode.timestamp(value)


def write_table(value: FieldTable) -> bytes:
    """Return a table as it was read, or else as pamqp writes it."""
    if not isinstance(value, RawTable):
        return encode.field_table(value)
    written = b"".join(bytes((len(name),)) + name + field for name, field in value.entries)
    return len(written).to_bytes(4, "big") + written


def _split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        size = _SIZES.get(data[name_end : name_end + 1])
        if size is None:
            size = 4 + int.from_bytes(data[name_end + 1 : name_end + 5], "big")
        end = name_end + 1 + size
        yield data[at + 1 : name_end], data[name_end:end]
        at = end


def _read(encoded: bytes) -> FieldValue:
    kind, value = encoded[:1], encoded[1:]
    if kind in {b"F", b"A"} and len(value) > BYTES_READ_MAX:
        return bytearray(value)
    try:
        return decode.TABLE_MAPPING[kind](value)[1]
    except (KeyError, ValueError, OverflowError, OSError, RecursionError):
        return bytearray(value)


READERS: Final[dict[str, Callable[..., tuple[int, FieldValue]]]] = {
    "shortstr": read_text,
    "timestamp": read_time,
    "table": read_table,
}
"""What reads a value, by the type that pamqp gives it, where it is not pamqp itself."""


def patch_pamqp() -> None:
    """From now on pamqp reads and writes these values with the functions above, in the whole process.

    Only the wallet's own processes call this. A library must not: it would change how its user's headers are read.
    """
    decode.METHODS |= READERS
    encode.METHODS |= {"shortstr": write_text, "timestamp": write_time, "table": write_table}
