"""Whether two messages say the same: how a repeat is told from the reuse of a serial number."""

import hashlib
from typing import TypeAlias

from pydantic_core import to_json

from wallet_schemas import money
from wallet_schemas.message import JsonObject, MoneyFields

Content: TypeAlias = dict[str, str | int | list[str] | dict[str, str]]


def content(message: JsonObject) -> Content:
    """Return what the message says: defaults filled in, absent fields left out, amounts in one spelling.

    So `"100.0"` and `"100.00"` are the same content, and so are an account type left out and its default, and
    metadata left out, null or empty: a sender whose library writes no notes in another way says the same.
    Until when a command may be decided is no part of what it says.
    """
    fields: Content = message.__pydantic_serializer__.to_python(message, mode="json")
    if not fields.get("metadata", True):
        del fields["metadata"]
    fields.pop("valid_until", None)
    if isinstance(message, MoneyFields):
        fields["amount"] = money.canonical(message.amount, message.currency)
    return fields


def canonical(fields: Content) -> bytes:
    """Return the content as canonical JSON: names sorted, no spaces, UTF-8."""
    ordered = {
        name: dict(sorted(value.items())) if isinstance(value, dict) else value
        for name, value in sorted(fields.items())
    }
    return to_json(ordered)


def fingerprint(fields: Content | bytes) -> bytes:
    """Return the SHA-256 of the content, or of what `canonical` made of it.

    Fingerprints are stored for ever, so the bytes that are hashed may never change.
    """
    return hashlib.sha256(fields if isinstance(fields, bytes) else canonical(fields)).digest()


def changed_fields(before: Content, after: Content) -> list[str]:
    """Return the sorted names of the fields in which two contents differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
