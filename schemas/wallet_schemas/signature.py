"""The header `x-signature` of payment results and requests: `t=<unix seconds>,kid=<key id>,<scheme>=<hex>`.

`v1` is HMAC-SHA256 over `<t>.` and the body. `v2` is Ed25519 (RFC 8032) over
`wallet-v2:<environment>:<direction>:<t>.` and the body: what staging has signed is nothing in production, and a request
cannot be played back as a result. A `kid` names the key of the signatures that follow it, so that a signer can sign
with the old key and the new one while keys rotate: `t=…,kid=new,v2=…,kid=old,v1=…`. One good signature is enough.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

HEADER_LENGTH_MAX: Final = 4_096  # about forty signatures; a rotation needs two
_SIGNATURES_MAX: Final = 16  # each costs a digest of the body, and the sender is not known yet

_TIME: Final = re.compile(r"[0-9]{1,20}")
KEY_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
ENVIRONMENT: Final = re.compile(r"[a-z0-9-]{1,32}")
_HEX: Final = {"v1": re.compile(r"[0-9a-fA-F]{64}"), "v2": re.compile(r"[0-9a-fA-F]{128}")}

DEFAULT_ENVIRONMENT: Final = "default"
ED25519_BYTES: Final = 32
"""Of a public key, and of the seed that a private key is."""
RETIRED_AFTER: Final = timedelta(days=7)
"""How long after its last day a key still verifies what waited: whoever steals a retired key may back-date `t`."""


class SigningDirection(StrEnum):
    """Who says it: a gateway says results, and the wallet requests."""

    RESULTS = "results"
    REQUESTS = "requests"


class Algorithm(StrEnum):
    """How a key signs."""

    HMAC_SHA256 = "hmac-sha256"
    ED25519 = "ed25519"

    @property
    def scheme(self) -> str:
        """The name of its signatures in the header."""
        return "v1" if self is Algorithm.HMAC_SHA256 else "v2"


class BadSignature(Exception):  # noqa: N818 - named after what is wrong
    """The body was not signed by a holder of one of the keys; `reason` says to a person how that was seen."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key that signatures are checked with, and what it may speak of.

    `material` is the secret of an HMAC, or the 32 bytes of an Ed25519 public key. `channels`, `kinds` (`result`,
    `instructions`, `reversal`) and the dates are absent where nothing bounds them.
    """

    algorithm: Algorithm
    material: bytes = field(repr=False)
    channels: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    environment: str = DEFAULT_ENVIRONMENT

    def is_retired(self, now: datetime) -> bool:
        """Return whether nothing is believed of the key any more, whatever time stands in the signature."""
        return self.not_after is not None and now > self.not_after + RETIRED_AFTER

    def fits(self, digest: str, time: str, body: bytes, direction: SigningDirection) -> bool:
        """Return whether this is the key's signature of the body at that time."""
        if self.algorithm is Algorithm.HMAC_SHA256:
            return hmac.compare_digest(_hmac(self.material, time, body), digest)
        from nacl.bindings import crypto_sign_open
        from nacl.exceptions import CryptoError

        try:
            crypto_sign_open(
                bytes.fromhex(digest) + _prefix(self.environment, direction, time) + body, self.material
            )
        except (CryptoError, ValueError):
            return False
        return True


@lru_cache(maxsize=8)
def _expanded(seed: bytes) -> bytes:
    """Return the private key that libsodium signs with: to make it of the seed takes as long as to sign."""
    from nacl.bindings import crypto_sign_seed_keypair

    return crypto_sign_seed_keypair(seed)[1]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs: `material` is the secret of an HMAC, or the 32-byte seed of an Ed25519 key."""

    key_id: str
    algorithm: Algorithm
    material: bytes = field(repr=False)
    environment: str = DEFAULT_ENVIRONMENT

    def sign(self, body: bytes, at_unix: int, direction: SigningDirection) -> str:
        """Return the header that proves the body, said at this time, to whoever knows the key."""
        time = str(at_unix)
        if self.algorithm is Algorithm.HMAC_SHA256:
            digest = _hmac(self.material, time, body)
        else:
            from nacl.bindings import crypto_sign, crypto_sign_BYTES

            signed = crypto_sign(_prefix(self.environment, direction, time) + body, _expanded(self.material))
            digest = signed[:crypto_sign_BYTES].hex()
        return f"t={time},kid={self.key_id},{self.algorithm.scheme}={digest}"

    @property
    def public(self) -> VerifyingKey:
        """What a verifier needs: the public key, or of an HMAC the same secret."""
        if self.algorithm is Algorithm.HMAC_SHA256:
            return VerifyingKey(self.algorithm, self.material, environment=self.environment)
        from nacl.signing import SigningKey as Ed25519

        public = bytes(Ed25519(self.material).verify_key)
        return VerifyingKey(self.algorithm, public, environment=self.environment)


Keys: TypeAlias = Mapping[str, "str | VerifyingKey"]
"""By key id. A text is the secret of an HMAC that nothing bounds."""


class Signed(NamedTuple):
    """Who has signed a body, when by the signer's own clock, and what that key may speak of."""

    key_id: str
    at_unix: int
    channels: frozenset[str] | None = None
    kinds: frozenset[str] | None = None


def sign(body: bytes, keys: Mapping[str, str], at_unix: int, *, key_ids: Sequence[str] | None = None) -> str:
    """Return the header of `v1` that proves the body to a holder of the keys.

    The first key signs, or each of `key_ids`. Raises ValueError if there is no such key, or if its id or its
    secret cannot be used.
    """
    signing = list(keys)[:1] if key_ids is None else list(key_ids)
    if not signing:
        raise ValueError("no key to sign with")
    time = str(at_unix)
    parts = [f"t={time}"]
    for key_id in signing:
        if not KEY_ID.fullmatch(key_id) or not keys.get(key_id):
            raise ValueError(f"the signing key {key_id!r} is unknown, empty or badly named")
        parts += [f"kid={key_id}", f"v1={_hmac(keys[key_id].encode(), time, body)}"]
    return ",".join(parts)


def verify(
    header: object, body: bytes, keys: Keys, *, direction: SigningDirection = SigningDirection.RESULTS
) -> Signed:
    """Return who has signed the body, if one of the header's signatures fits it and the key it names.

    The header may be of any type, as AMQP headers may. The time in it is signed, and has no limit but the key's own
    dates. Raises BadSignature.
    """
    time, claims = _read(header)
    at_unix = int(time)
    why = ""
    for key_id, scheme, digest in claims:
        key = keys.get(key_id)
        if not key:  # an empty secret is nobody's: anyone could sign with it
            continue
        if isinstance(key, str):
            key = VerifyingKey(Algorithm.HMAC_SHA256, key.encode())
        if scheme != key.algorithm.scheme or not key.fits(digest, time, body, direction):
            why = why or "no signature fits the body"
            continue
        why = _outside(key, at_unix)
        if not why:
            return Signed(key_id, at_unix, key.channels, key.kinds)
    if why:
        raise BadSignature(why)
    unknown = ", ".join(dict.fromkeys(key_id for key_id, _, _ in claims))
    raise BadSignature(f"unknown key: {unknown[:100]}")


def _outside(key: VerifyingKey, at_unix: int) -> str:
    """Return why a time is outside of a key's dates; nothing if it is not."""
    if key.not_before is not None and at_unix < key.not_before.timestamp():
        return "the signature is from before the key's first day"
    if key.not_after is not None and at_unix > key.not_after.timestamp():
        return "the signature is from after the key's last day"
    return ""


def _prefix(environment: str, direction: SigningDirection, time: str) -> bytes:
    return f"wallet-v2:{environment}:{direction}:{time}.".encode()


def _hmac(secret: bytes, time: str, body: bytes) -> str:
    return hmac.digest(secret, f"{time}.".encode() + body, hashlib.sha256).hex()


def _read(header: object) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the time and the (key id, scheme, lower-case digest) that stand in the header, at least one."""
    if header is None:
        raise BadSignature("no signature")
    if not isinstance(header, str) or len(header) > HEADER_LENGTH_MAX:
        raise BadSignature(f"the signature is no text of at most {HEADER_LENGTH_MAX} characters")
    time, key_id = None, None
    claims: list[tuple[str, str, str]] = []
    for part in header.split(","):
        name, _, value = part.strip(" ").partition("=")
        match name:
            case "t" if time is None and _TIME.fullmatch(value):
                time = value
            case "kid" if KEY_ID.fullmatch(value):
                key_id = value
            case "v1" | "v2" if key_id and _HEX[name].fullmatch(value) and len(claims) < _SIGNATURES_MAX:
                claims.append((key_id, name, value.lower()))
            case "t" | "kid" | "v1" | "v2":
                raise BadSignature(f"the signature's {name} is repeated, misplaced or misspelt")
            case _:
                pass  # a scheme to come stands beside these while gateways change over
    if time is None or not claims:
        raise BadSignature("the signature lacks t, kid, or v1 or v2")
    return time, claims
