"""Key files as JSON: the keys that a gateway signs results with, and the one that the wallet signs requests with."""

import json
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

from wallet_schemas.signature import (
    DEFAULT_ENVIRONMENT,
    ED25519_BYTES,
    KEY_ID,
    Algorithm,
    SigningKey,
    VerifyingKey,
)

KINDS: Final = frozenset({"result", "instructions", "reversal"})
"""What a gateway's key may be allowed to say."""

SECRET_BYTES_MIN: Final = 32
"""Of a secret in a key file."""
SHORT_SECRET_BYTES_MIN: Final = 16
"""Of a secret in `WALLET_PAYMENT_KEYS`, which people wrote before there were files."""

DEMO_PREFIX: Final = "test-"
"""How the id of a key begins that the simulated gateway may have: no wallet with real money believes it."""


class KeyFileInvalid(ValueError):  # noqa: N818 - named after what is wrong
    """The text is not a file of keys; the message is a sentence for a person, and has no secret in it."""


class _Verifying(BaseModel):
    """One key of a gateway, as it stands in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    algorithm: Algorithm
    public: str | None = None
    secret: str | None = None
    channels: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        if (self.algorithm is Algorithm.ED25519) != (self.public is not None) or (
            self.algorithm is Algorithm.HMAC_SHA256
        ) != (self.secret is not None):
            raise ValueError("an ed25519 key has `public`, an hmac-sha256 key has `secret`, and no other")
        for name in self.kinds or ():
            if name not in KINDS:
                raise ValueError(f"kinds are {', '.join(sorted(KINDS))}")
        if self.channels == () or self.kinds == ():
            raise ValueError(
                "a list without anything in it allows nothing: leave it out, or leave the key out"
            )
        if self.not_before and self.not_after and self.not_after <= self.not_before:
            raise ValueError("not_after is not after not_before")
        return self

    def key(self, environment: str) -> VerifyingKey:
        if self.algorithm is Algorithm.ED25519:
            material = _decoded(self.public or "", exactly=ED25519_BYTES)
        else:
            material = _decoded(self.secret or "", at_least=SECRET_BYTES_MIN)
        return VerifyingKey(
            self.algorithm,
            material,
            channels=None if self.channels is None else frozenset(self.channels),
            kinds=None if self.kinds is None else frozenset(self.kinds),
            not_before=self.not_before,
            not_after=self.not_after,
            environment=environment,
        )


class _Signing(BaseModel):
    """The key of a signer, as it stands in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kid: str
    algorithm: Algorithm
    private: str | None = None
    secret: str | None = None


def read_verifying_keys(text: str, environment: str = DEFAULT_ENVIRONMENT) -> dict[str, VerifyingKey]:
    """Return the keys of a gateway's key file by key id. Raises KeyFileInvalid."""
    found = _loaded(text)
    keys: dict[str, VerifyingKey] = {}
    for key_id, value in found.items():
        checked_key_id(key_id)
        try:
            keys[key_id] = _Verifying.model_validate(value).key(environment)
        except ValidationError as exc:
            raise KeyFileInvalid(f"the key {key_id!r}: {_fault(exc)}") from None
        except KeyFileInvalid as exc:
            raise KeyFileInvalid(f"the key {key_id!r}: {exc}") from None
    return keys


def read_signing_key(text: str, environment: str = DEFAULT_ENVIRONMENT) -> SigningKey:
    """Return the key of a signer's key file. Raises KeyFileInvalid."""
    try:
        found = _Signing.model_validate(_loaded(text), strict=False)
    except ValidationError as exc:
        raise KeyFileInvalid(_fault(exc)) from None
    checked_key_id(found.kid)
    if (found.algorithm is Algorithm.ED25519) != (found.private is not None) or (
        found.algorithm is Algorithm.HMAC_SHA256
    ) != (found.secret is not None):
        raise KeyFileInvalid("an ed25519 key has `private`, an hmac-sha256 key has `secret`, and no other")
    if found.algorithm is Algorithm.ED25519:
        material = _decoded(found.private or "", exactly=ED25519_BYTES)
    else:
        material = _decoded(found.secret or "", at_least=SECRET_BYTES_MIN)
    return SigningKey(found.kid, found.algorithm, material, environment)


def verifying_entry(
    key: SigningKey,
    *,
    channels: tuple[str, ...] | None = None,
    kinds: tuple[str, ...] | None = None,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> dict[str, Any]:
    """Return what stands in a verifier's key file of a signer's key: for Ed25519, nothing that could sign."""
    entry: dict[str, Any] = {"algorithm": key.algorithm.value}
    name = "public" if key.algorithm is Algorithm.ED25519 else "secret"
    entry[name] = b64encode(key.public.material).decode()
    bounds = {"channels": channels, "kinds": kinds}
    entry |= {name: list(value) for name, value in bounds.items() if value is not None}
    dates = {"not_before": not_before, "not_after": not_after}
    return entry | {
        name: value.isoformat().replace("+00:00", "Z") for name, value in dates.items() if value is not None
    }


def signing_entry(key: SigningKey) -> dict[str, str]:
    """Return what stands in a signer's key file."""
    name = "private" if key.algorithm is Algorithm.ED25519 else "secret"
    return {"kid": key.key_id, "algorithm": key.algorithm.value, name: b64encode(key.material).decode()}


def read_seal_key(text: str) -> tuple[str, bytes]:
    """Return id and secret of the file that letters are sealed with: {"kid", "secret"}. Raises KeyFileInvalid."""
    found = _loaded(text)
    kid, secret = found.get("kid"), found.get("secret")
    if set(found) != {"kid", "secret"} or not isinstance(kid, str) or not isinstance(secret, str):
        raise KeyFileInvalid('it should be {"kid": "…", "secret": "<base64, at least 32 bytes>"}')
    return checked_key_id(kid), _decoded(secret, at_least=SECRET_BYTES_MIN)


def checked_key_id(key_id: str) -> str:
    """Return the key id; raises KeyFileInvalid for one that no signature can name."""
    if not KEY_ID.fullmatch(key_id):
        raise KeyFileInvalid(f"the key id {key_id!r} should be 1 to 64 of letters, digits and . _ : -")
    return key_id


def loaded_secrets(text: str) -> Mapping[str, str]:
    """Return {key id: secret} as `WALLET_PAYMENT_KEYS` has them, checked. Raises KeyFileInvalid."""
    found = _loaded(text)
    for key_id, secret in found.items():
        checked_key_id(key_id)
        if not isinstance(secret, str):
            raise KeyFileInvalid(f"the secret of {key_id!r} is no text")
        if len(secret.encode()) < SHORT_SECRET_BYTES_MIN:
            raise KeyFileInvalid(
                f"the secret of {key_id!r} has less than {SHORT_SECRET_BYTES_MIN} bytes: it could be guessed"
            )
    return found


def _loaded(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except KeyFileInvalid:
        raise
    except (ValueError, RecursionError):
        raise KeyFileInvalid("it is no JSON") from None
    if not isinstance(found, dict):
        raise KeyFileInvalid("it is no JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise KeyFileInvalid(f"the name {name!r} stands twice in it")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise KeyFileInvalid(f"{name} is no JSON")


def _decoded(text: str, *, exactly: int | None = None, at_least: int = 0) -> bytes:
    try:
        material = b64decode(text, validate=True)
    except (NotBase64, ValueError):
        raise KeyFileInvalid("its key is no base64") from None
    if exactly is not None and len(material) != exactly:
        raise KeyFileInvalid(f"its key has {len(material)} bytes, and not {exactly}")
    if len(material) < at_least:
        raise KeyFileInvalid(f"its secret has {len(material)} bytes; at least {at_least} are needed")
    return material


def _fault(exc: ValidationError) -> str:
    fault = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, fault["loc"]))
    sentence = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {sentence}" if where else sentence
