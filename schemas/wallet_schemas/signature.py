"""The header `x-signature` of payment results: `t=<unix seconds>,kid=<key id>,v1=<hex>`.

`v1` is HMAC-SHA256 over `<t>.` and the body. A `kid` names the key of the `v1` that follow it, so that a
gateway can sign with its old and its new key while keys rotate: `t=…,kid=new,v1=…,kid=old,v1=…`.
One good `v1` is enough.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

HEADER_LENGTH_MAX: Final = 4_096  # about forty signatures; a rotation needs two
_SIGNATURES_MAX: Final = 16  # each costs an HMAC over the body, and the sender is not known yet

_TIME: Final = re.compile(r"[0-9]{1,20}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")


class BadSignature(Exception):  # noqa: N818 - named after what is wrong
    """The body was not signed by a holder of one of the keys; `reason` says to a person how that was seen."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def sign(body: bytes, keys: Mapping[str, str], at_unix: int, *, key_ids: Sequence[str] | None = None) -> str:
    """Return the header that proves the body to a holder of the keys.

    The first key signs, or each of `key_ids`. Raises ValueError if there is no such key, or if its id or its
    secret cannot be used.
    """
    signing = list(keys)[:1] if key_ids is None else list(key_ids)
    if not signing:
        raise ValueError("no key to sign with")
    time = str(at_unix)
    parts = [f"t={time}"]
    for key_id in signing:
        if not _KEY_ID.fullmatch(key_id) or not keys.get(key_id):
            raise ValueError(f"the signing key {key_id!r} is unknown, empty or badly named")
        parts += [f"kid={key_id}", f"v1={_digest(keys[key_id], time, body)}"]
    return ",".join(parts)


def verify(header: object, body: bytes, keys: Mapping[str, str]) -> None:
    """Return if one of the header's signatures fits the body and the key it names, else raise BadSignature.

    The header may be of any type, as AMQP headers may. The time in it is signed but has no limit.
    """
    time, claims = _read(header)
    known = False
    for key_id, digest in claims:
        secret = keys.get(key_id)
        if not secret:  # an empty secret is nobody's: anyone could sign with it
            continue
        known = True
        if hmac.compare_digest(_digest(secret, time, body), digest):
            return
    if known:
        raise BadSignature("no signature fits the body")
    unknown = ", ".join(dict.fromkeys(key_id for key_id, _ in claims))
    raise BadSignature(f"unknown key: {unknown[:100]}")


def _digest(secret: str, time: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hex()


def _read(header: object) -> tuple[str, list[tuple[str, str]]]:
    """Return the time and the (key id, lower-case digest) pairs that stand in the header, at least one."""
    if header is None:
        raise BadSignature("no signature")
    if not isinstance(header, str) or len(header) > HEADER_LENGTH_MAX:
        raise BadSignature(f"the signature is no text of at most {HEADER_LENGTH_MAX} characters")
    time, key_id = None, None
    claims: list[tuple[str, str]] = []
    for part in header.split(","):
        name, _, value = part.strip(" ").partition("=")
        match name:
            case "t" if time is None and _TIME.fullmatch(value):
                time = value
            case "kid" if _KEY_ID.fullmatch(value):
                key_id = value
            case "v1" if key_id is not None and _DIGEST.fullmatch(value) and len(claims) < _SIGNATURES_MAX:
                claims.append((key_id, value.lower()))
            case "t" | "kid" | "v1":
                raise BadSignature(f"the signature's {name} is repeated, misplaced or misspelt")
            case _:
                pass  # a scheme to come, such as v2, stands beside v1 while gateways change over
    if time is None or not claims:
        raise BadSignature("the signature lacks t, kid or v1")
    return time, claims
