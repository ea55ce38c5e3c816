"""Devices that somebody has signed in with before: a cookie that proves it, so that strangers lock nobody out there.

The proof is made with the hash of the password: a new password forgets every device, and nothing has to be stored.
"""

import hashlib
import hmac
import secrets
from typing import Final

from wallet_worker.console.security.users import User

DEVICE_SECONDS: Final = 90 * 86_400
_CHARACTERS: Final = 22 + 1 + 64


def make_device(user: User) -> str:
    """Return the cookie of a device that the user has signed in with."""
    number = secrets.token_urlsafe(16)
    return f"{number}.{_proof(user, number)}"


def device_of(user: User | None, cookie: str) -> str | None:
    """Return the number of a device that the user has signed in with; None if the cookie does not prove it."""
    number, _, proof = cookie.partition(".")
    if user is None or len(cookie) != _CHARACTERS or not cookie.isascii():
        return None
    return number if hmac.compare_digest(_proof(user, number), proof) else None


def _proof(user: User, number: str) -> str:
    text = f"wallet-console-device-1\n{user.name}\n{number}"
    return hmac.new(user.hash.encode(), text.encode(), hashlib.sha256).hexdigest()
