"""The seal of a dead letter: the worker's proof that it, and nobody else, set the message aside and said why.

Whoever can write the queue of the dead letters can write the headers of a worker too. The header `x-wallet-seal`
(`kid=<key id>,v1=<hex>`) is HMAC-SHA256, with a key that only workers and keepers have, over the body, the properties
and all headers. What the broker counts up by itself is not in it, and neither is the message_id, which a letter without
one is given when it is published.
"""

import hashlib
import hmac
import re
from copy import copy
from enum import StrEnum
from typing import Final, NamedTuple

from pamqp.commands import Basic

from wallet_schemas.names import SEAL_HEADER
from wallet_worker.broker.amqp import codec
from wallet_worker.broker.amqp.properties import marshal

_NOT_SEALED: Final = frozenset({SEAL_HEADER.encode(), b"x-delivery-count", b"x-acquired-count"})
_FORM: Final = re.compile(r"kid=([A-Za-z0-9._:-]{1,64}),v1=([0-9a-f]{64})")
_CONTEXT: Final = b"wallet-letter-v1:"
_REQUEST_CONTEXT: Final = b"wallet-request-v1:"


class SealKey(NamedTuple):
    """The key of workers and keepers."""

    key_id: str
    secret: bytes


class Seal(StrEnum):
    """What the seal of a letter says about who set it aside."""

    SEALED = "sealed"
    """A worker of this deployment set it aside, and nothing in it was changed since."""
    UNSEALED = "unsealed"
    """Nothing proves who set it aside: it says that a worker did, or looks as if the broker had."""
    UNCHECKED = "unchecked"
    """This deployment has no key for seals: nothing can be said."""
    NOT_BY_WORKER = "not by a worker"
    """No queue took it, as the broker says; or there is no key for seals, and no worker is named."""


def sealed(properties: Basic.Properties, body: bytes, key: SealKey) -> str:
    """Return the header that seals a letter with these properties, in which it is not counted."""
    return f"kid={key.key_id},v1={_digest(properties, body, key)}"


def seal(properties: Basic.Properties, body: bytes, key: SealKey) -> None:
    """Put the seal into the headers of a letter."""
    header = sealed(properties, body, key)
    bare = (entry for entry in codec.entries(properties.headers or {}) if entry[0] != SEAL_HEADER.encode())
    properties.headers = codec.RawTable((*bare, *codec.entries({SEAL_HEADER: header})))


def is_sealed(properties: Basic.Properties, body: bytes, key: SealKey) -> bool:
    """Return whether a letter has the seal of this key, over exactly this body and these headers."""
    found = (properties.headers or {}).get(SEAL_HEADER)
    form = _FORM.fullmatch(found) if isinstance(found, str) else None
    if form is None or form[1] != key.key_id:
        return False
    return hmac.compare_digest(form[2], _digest(properties, body, key))


def request_seal(body: bytes, key: SealKey) -> bytes:
    """Return what proves that a worker, and no login of the database, has put a payment request into the outbox."""
    return hmac.digest(key.secret, _REQUEST_CONTEXT + body, "sha256")


def is_request_sealed(body: bytes, found: bytes | None, key: SealKey) -> bool:
    """Return whether a payment request has the seal of this key."""
    return found is not None and hmac.compare_digest(found, request_seal(body, key))


def _digest(properties: Basic.Properties, body: bytes, key: SealKey) -> str:
    bare = copy(properties)
    bare.headers = bare.message_id = bare.delivery_mode = None
    seal = hmac.new(key.secret, _CONTEXT, hashlib.sha256)
    parts = [marshal(bare), body]
    for name, value in sorted(codec.entries(properties.headers or {})):
        if name not in _NOT_SEALED:
            parts += (name, value)
    for part in parts:
        seal.update(len(part).to_bytes(8, "big"))
        seal.update(part)
    return seal.hexdigest()
