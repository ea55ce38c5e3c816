"""API keys: what one looks like, what is kept of it, and what it allows.

A key is `wk_`, the key's id (12 of `a-z2-7`), `_`, 52 characters of the same alphabet that are 256 random bits and a
padding of 4, and 7 of a CRC-32. Secret scanners recognise it, and a typing error is found without a query. Only SHA-256
of the whole text is kept: a slow hash protects weak passwords, and 256 random bits are none.
"""

import base64
import hashlib
import re
import secrets
import zlib
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

RATE: Final = 200  # requests a second of a key that has no other rate, in one process
IN_FLIGHT: Final = 200  # requests at once, likewise

CLIENT_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
KEY_ID: Final = re.compile(r"[a-z2-7]{12}")
_KEY: Final = re.compile(r"wk_([a-z2-7]{12})_([a-z2-7]{52})([a-z2-7]{7})")
_KEY_LENGTH: Final = 75


class NewKey(NamedTuple):
    """A key that was just made: `text` is shown once, `digest` is kept."""

    key_id: str
    text: str
    digest: bytes


class Claim(NamedTuple):
    """What somebody who shows a key says of themselves; nobody has checked it against the database yet."""

    key_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Client:
    """Who a request is from, and what the key allows. What is absent is not limited, or never ends.

    `users` and `serial_prefix` are what the user ids and the serial numbers of its requests begin with.
    """

    client: str
    key_id: str
    scopes: frozenset[str]
    users: str | None
    serial_prefix: str | None
    rate: int
    in_flight: int
    expires_at: datetime | None

    @property
    def sender(self) -> str:
        """What the header `x-wallet-client` says of commands from this client."""
        return f"{self.client}/{self.key_id}"

    @property
    def is_limited(self) -> bool:
        """Whether the key is for some users or serial numbers only."""
        return self.users is not None or self.serial_prefix is not None

    def reaches(self, user_id: str | None) -> bool:
        """Return whether the key may act for this user; where users are limited, never for nobody."""
        return self.users is None or (user_id is not None and user_id.startswith(self.users))


def make() -> NewKey:
    """Return a key that nobody else has."""
    key_id = _text(secrets.token_bytes(8))[:12]
    secret = _text(secrets.token_bytes(32))
    text = f"wk_{key_id}_{secret}{_check(key_id, secret)}"
    return NewKey(key_id, text, hashlib.sha256(text.encode()).digest())


def read(text: str, known: Container[bytes] = ()) -> Claim | None:
    """Return what the text claims; None if it is not a key or has a typing error.

    `known` are digests of whole keys, in which no typing error is looked for.
    """
    match = _KEY.fullmatch(text) if len(text) == _KEY_LENGTH else None
    if match is None:
        return None
    key_id, secret, check = match.groups()
    digest = hashlib.sha256(text.encode()).digest()
    if digest not in known and check != _check(key_id, secret):
        return None
    return Claim(key_id, digest)


def _check(key_id: str, secret: str) -> str:
    return _text(zlib.crc32(f"{key_id}_{secret}".encode()).to_bytes(4, "big"))


def _text(data: bytes) -> str:
    return base64.b32encode(data).decode().lower().rstrip("=")
