"""Whether two messages say the same: how a repeat is told from the reuse of a serial number for something else."""

import hashlib
import json
from datetime import datetime
from typing import Final, TypeAlias

from schemas import money
from schemas.message import Part, WithAmount

Content: TypeAlias = dict[str, str | dict[str, str]]

_canonical_json: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def content(message: Part) -> Content:
    """Return what the message says: its fields with defaults filled in, absent ones left out, amounts in one spelling.

    So `"100.0"` and `"100.00"` are the same content, and so are an account type left out and its default.
    """
    said: Content = {name: _said(value) for name, value in message.__dict__.items() if value is not None}
    if isinstance(message, WithAmount):
        said["amount"] = money.canonical(message.amount, message.currency)
    return said


def fingerprint(said: Content) -> bytes:
    """Return the SHA-256 of the content as canonical JSON: names sorted, no spaces, UTF-8. It is stored for ever."""
    return hashlib.sha256(_canonical_json(said).encode()).digest()


def differing(one: Content, other: Content) -> list[str]:
    """Return the sorted names of the fields in which two contents differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _said(value: object) -> str | dict[str, str]:
    match value:
        case str():
            return str(value)
        case dict():
            return dict(value)
        case datetime():
            return value.isoformat(timespec="microseconds")
        case _:
            raise TypeError(f"no message has fields of the kind {type(value).__name__}")
