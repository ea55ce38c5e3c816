"""Webhooks by Standard Webhooks 1.0: signatures, the schedule of retries, and addresses that may be posted to."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from wallet_worker.core.ids import uuid7

SECRET_BYTES: Final = 32
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 -- what every secret begins with
RETRIES: Final = tuple(
    timedelta(**{unit: count})
    for count, unit in (
        (5, "seconds"),
        (5, "minutes"),
        (30, "minutes"),
        (2, "hours"),
        (5, "hours"),
        (10, "hours"),
        (14, "hours"),
        (20, "hours"),
        (24, "hours"),
    )
)
"""How long after each failed attempt the next one is made: the table of the specification. After the last, none is."""

JITTER: Final = 0.1  # of each wait, either way: endpoints that fell over together are not all tried at once
DISABLED_AFTER: Final = timedelta(days=5)  # of failures, and not one success
KEPT: Final = timedelta(days=7)  # what was delivered; what was given up is kept
RETRY_AFTER_MAX: Final = timedelta(hours=24)
GONE: Final = 410
URL_LENGTH_MAX: Final = 2_000
TEST_KIND: Final = "webhook.test"

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_TARGET: Final = re.compile(r"[!-~]*")
_WHOLE: Final = re.compile(r"[0-9]{1,9}")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def secret_of(random: bytes) -> str:
    """Return a secret as it is shown, once, to whoever is to verify signatures with it."""
    return SECRET_PREFIX + base64.b64encode(random).decode()


def signature(secrets: Iterable[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature for each secret."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    found = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
        found.append("v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode())
    return " ".join(found)


def is_secret(text: str) -> bool:
    """Return whether a text is a secret that signatures can be made with."""
    try:
        return text.startswith(SECRET_PREFIX) and len(
            base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
        ) in range(24, 65)
    except (binascii.Error, ValueError):
        return False


def next_wait(attempts: int, chance: float, retry_after: str | None = None) -> timedelta | None:
    """Return how long after its failed attempt number `attempts` a delivery is tried again; absent: no more.

    `chance` is from 0 to 1. An endpoint that says when to come back is not asked sooner, within a day.
    """
    if attempts > len(RETRIES):
        return None
    wait = RETRIES[attempts - 1] * (1 + JITTER * (2 * chance - 1))
    if retry_after is not None and _WHOLE.fullmatch(retry_after):
        wait = max(wait, min(timedelta(seconds=int(retry_after)), RETRY_AFTER_MAX))
    return wait


def wrong_url(url: str, allowed: Sequence[Network] = ()) -> str | None:
    """Return why nothing can be posted to an address, as far as the address itself says so; absent: it may be."""
    if len(url) > URL_LENGTH_MAX:
        return f"it has more than {URL_LENGTH_MAX} characters"
    if not _TARGET.fullmatch(url):
        return "it has characters that an address does not have: escape them"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is no address"
    if parts.scheme != "https":
        return "it does not begin with https://"
    if parts.username is not None or parts.password is not None:
        return "it has a user or a password in it: the signature proves who posts"
    if parts.fragment:
        return "it has a fragment"
    host = parts.netloc.rpartition(":")[0] if port is not None else parts.netloc
    if port == 0 or not _HOST.fullmatch(host):
        return "its host is none"
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return None
    return None if may_reach(address, allowed) else "its host is no public address"


def may_reach(address: _Address, allowed: Sequence[Network] = ()) -> bool:
    """Return whether something may be posted to an address: a public one, or one of the networks that are allowed."""
    plain = _embedded(address) or address
    if any(plain.version == network.version and plain in network for network in allowed):
        return True
    return plain.is_global and not (plain.is_multicast or plain.is_reserved or plain.is_unspecified)


def _embedded(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one leads to, if it leads to one: by whatever way, it is that machine."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def trial_event(at: datetime, random: bytes) -> tuple[str, str, str]:
    """Return an event that says nothing, for an endpoint to be tried with: its id, its kind, and its body."""
    event_id = str(uuid7(at, random))
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    content = {"type": f"{TEST_KIND}.v1", "event_id": event_id, "occurred_at": moment, "data": {}}
    return event_id, TEST_KIND, json.dumps(content, separators=(",", ":"))
