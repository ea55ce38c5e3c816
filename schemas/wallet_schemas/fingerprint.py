"""Whether two messages say the same: how a repeat is told from the reuse of a serial number."""

import hashlib
from typing import TypeAlias

from pydantic_core import to_json

from wallet_schemas import money
from wallet_schemas.message import JsonObject, MoneyFields

Content: TypeAlias = dict[str, str | int | dict[str, str]]


def content(message: JsonObject) -> Content:
    """Return what the message says: defaults filled in, absent fields left out, amounts in one spelling.

    So `"100.0"` and `"100.00"` are the same content, and so are an account type left out and its default, and
    metadata left out, null or empty: a sender whose library writes no notes in another way says the same.
    """
    said: Content = message.__pydantic_serializer__.to_python(message, mode="json")
    if not said.get("metadata", True):
        del said["metadata"]
    if isinstance(message, MoneyFields):
        said["amount"] = money.canonical(message.amount, message.currency)
    return said


def canonical(said: Content) -> bytes:
    """Return the content as canonical JSON: names sorted, no spaces, UTF-8."""
    ordered = {
        name: dict(sorted(value.items())) if isinstance(value, dict) else value
        for name, value in sorted(said.items())
    }
    return to_json(ordered)


def fingerprint(said: Content | bytes) -> bytes:
    """Return the SHA-256 of the content, or of what `canonical` made of it.

    Fingerprints are stored for ever, so the bytes that are hashed may never change.
    """
    return hashlib.sha256(said if isinstance(said, bytes) else canonical(said)).digest()


def changed_fields(one: Content, other: Content) -> list[str]:
    """Return the sorted names of the fields in which two contents differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
