"""What a person signs, and whether a signature is that person's: pure, for whoever stores one and whoever acts on it.

A statement is one text. An Ed25519 key signs the text; a passkey signs the SHA-256 of the text as its challenge.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

PROOF_BYTES_MAX: Final = 8_192  # of a passkey's answer, which has the browser's own data in it
_SIGNATURE_BYTES: Final = 64
_PUBLIC_BYTES: Final = 32
_OF_PASSKEYS: Final = ("public_key", "credential_id", "rp_id", "origin")


class NotProvenError(Exception):
    """The proof is not this key's, or not of this statement; the text is a sentence for a person."""


class ProofAlgorithm(StrEnum):
    """How an operator's key signs."""

    ED25519 = "ed25519"
    """A file at a shell."""
    WEBAUTHN = "webauthn"
    """A passkey in the console."""


class ProofPurpose(StrEnum):
    """What a person says with a signature."""

    REQUEST = "request"
    """I have made this, and ask for it."""
    APPROVAL = "approval"
    """I have seen this, and agree."""
    VOUCHER = "voucher"
    """I know this person, and the role or the key is theirs."""


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """What is signed. `subject` is what kind of thing, `reference` which one, `digest` the SHA-256 of its content."""

    subject: str
    environment: str
    purpose: ProofPurpose
    reference: str
    digest: bytes
    name: str
    """Who signs."""
    at: datetime

    @property
    def text(self) -> bytes:
        """The bytes that are signed. No member has a line end, so no two statements have the same text."""
        members = (
            f"wallet-{self.subject}-1",
            self.environment,
            self.purpose,
            self.reference,
            self.digest.hex(),
            self.name,
            self.at.astimezone(UTC).isoformat(timespec="seconds"),
        )
        return "\n".join(members).encode()

    @property
    def challenge(self) -> bytes:
        """What a passkey signs in place of the text."""
        return hashlib.sha256(self.text).digest()


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A public key of one person. `rp_id`, `origin` and `credential_id` are there for a passkey only."""

    key_id: str
    name: str
    algorithm: ProofAlgorithm
    public_key: bytes
    credential_id: bytes | None = None
    rp_id: str | None = None
    origin: str | None = None


def key_id_of(public_key: bytes) -> str:
    """Return what a key is called: 16 characters of the SHA-256 of its public half."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def public_text(key: OperatorKey) -> str:
    """Return the public half of a key as people send it to each other; `read_public` reads it."""
    if key.algorithm is ProofAlgorithm.ED25519:
        return f"{key.algorithm}:{b64encode(key.public_key).decode()}"
    document = {
        "public_key": b64encode(key.public_key).decode(),
        "credential_id": b64encode(key.credential_id or b"").decode(),
        "rp_id": key.rp_id,
        "origin": key.origin,
    }
    return f"{key.algorithm}:{b64encode(json.dumps(document).encode()).decode()}"


def read_public(name: str, text: str) -> OperatorKey:
    """Return the key of a person that a text says; raises ValueError."""
    prefix, _, encoded = text.strip().partition(":")
    algorithm, material = ProofAlgorithm(prefix), b64decode(encoded, validate=True)
    if algorithm is ProofAlgorithm.ED25519:
        if len(material) != _PUBLIC_BYTES:
            raise ValueError("a public key of another length")
        return OperatorKey(key_id_of(material), name, algorithm, material)
    document = json.loads(material)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(member), str) for member in _OF_PASSKEYS
    ):
        raise ValueError("not a passkey")
    public_key = b64decode(document["public_key"], validate=True)
    return OperatorKey(
        key_id_of(public_key),
        name,
        algorithm,
        public_key,
        b64decode(document["credential_id"], validate=True),
        document["rp_id"],
        document["origin"],
    )


def verify(key: OperatorKey, statement: SignedStatement, proof: bytes) -> None:
    """Return if the proof is the key's signature of the statement; raises NotProvenError."""
    if key.name != statement.name:
        msg = f"the key {key.key_id} is {key.name}'s, and not {statement.name}'s"
        raise NotProvenError(msg)
    if len(proof) > PROOF_BYTES_MAX:
        msg = f"a proof has at most {PROOF_BYTES_MAX:,} bytes"
        raise NotProvenError(msg)
    _VERIFIED_BY[key.algorithm](key, statement, proof)


def _ed25519(key: OperatorKey, statement: SignedStatement, proof: bytes) -> None:
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import CryptoError

    try:
        crypto_sign_open(proof[:_SIGNATURE_BYTES] + statement.text, key.public_key)
    except (CryptoError, ValueError) as exc:
        msg = f"the signature is not that of the key {key.key_id} of {key.name} over what is to be done"
        raise NotProvenError(msg) from exc
    if len(proof) != _SIGNATURE_BYTES:
        msg = f"a signature has {_SIGNATURE_BYTES} bytes"
        raise NotProvenError(msg)


def _webauthn(key: OperatorKey, statement: SignedStatement, proof: bytes) -> None:
    from webauthn import verify_authentication_response
    from webauthn.helpers.exceptions import WebAuthnException

    try:
        verify_authentication_response(
            credential=proof.decode(),
            expected_challenge=statement.challenge,
            expected_rp_id=key.rp_id or "",
            expected_origin=key.origin or "",
            credential_public_key=key.public_key,
            credential_current_sign_count=0,  # the statement is new each time: a repeat proves the same again
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError) as exc:
        msg = f"the passkey {key.key_id} of {key.name} has not signed what is to be done"
        raise NotProvenError(msg) from exc


_VERIFIED_BY: Final = {ProofAlgorithm.ED25519: _ed25519, ProofAlgorithm.WEBAUTHN: _webauthn}
