"""Reading what strangers put into AMQP properties without losing the connection over it.

A broker hands on property values that it never looks at: names that are no UTF-8, times beyond the
calendar, tables nested a thousand deep. pamqp raises on those while it reads a frame, which ends the
connection; the message comes again with the next one, and so for ever. So the three decoders below take
the place of pamqp's, for the whole process: they never raise on what a peer sent, and give what can be read.
"""

from datetime import datetime
from typing import Final

from pamqp import decode
from pamqp.common import FieldTable

UNREAD_HEADER: Final = "x-wallet-unread-headers"
"""Stands for a table of headers that cannot be read; its value is the table's bytes."""

_SHORTSTR_BYTES_MAX: Final = 255

_strict_table = decode.field_table
_strict_timestamp = decode.timestamp


def short_str(value: bytes) -> tuple[int, str]:
    """Return a short string; one that is no UTF-8 is read as Latin-1, cut so that it can be sent again."""
    length = value[0]
    raw = value[1 : length + 1]
    try:
        return length + 1, raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
        return length + 1, text.encode()[:_SHORTSTR_BYTES_MAX].decode(errors="ignore")


def timestamp(value: bytes) -> tuple[int, datetime | None]:
    """Return a time, or nothing for one that no calendar has."""
    try:
        return _strict_timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def table(value: bytes) -> tuple[int, FieldTable]:
    """Return a table, or its bytes under UNREAD_HEADER if it cannot be read."""
    try:
        return _strict_table(value)
    except (ValueError, OverflowError, OSError, RecursionError):
        end = 4 + int.from_bytes(value[:4], "big")
        return end, {UNREAD_HEADER: bytearray(value[4:end])}


def install() -> None:
    """Have pamqp read properties with the decoders above, in this process, from now on."""
    decode.METHODS |= {"shortstr": short_str, "timestamp": timestamp, "table": table}
