"""Passkeys: what a browser is asked for, and what it answers (WebAuthn, W3C).

The console only asks and passes on. Who acts on a signature verifies it, with a key that the console cannot write.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_registration_response,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from wallet_worker.core.proofs import PROOF_BYTES_MAX, OperatorKey, ProofAlgorithm, SignedStatement, key_id_of

_ALGORITHMS: Final = [COSEAlgorithmIdentifier.ECDSA_SHA_256, COSEAlgorithmIdentifier.EDDSA]
_RP_NAME: Final = "Wallet console"


def rp_id_of(origin: str) -> str | None:
    """Return the name that passkeys of an origin are bound to; None where browsers have none: an address of numbers."""
    name = urlsplit(origin).hostname or ""
    return name if name and not name.replace(".", "").isdigit() and ":" not in name else None


def signing_options(statement: SignedStatement, keys: Sequence[OperatorKey]) -> str:
    """Return, as JSON, what the browser hands to a passkey so that it signs the statement."""
    return options_to_json(
        generate_authentication_options(
            rp_id=keys[0].rp_id or "",
            challenge=statement.challenge,
            allow_credentials=[PublicKeyCredentialDescriptor(id=key.credential_id or b"") for key in keys],
            user_verification=UserVerificationRequirement.REQUIRED,
        )
    )


def making_options(name: str, origin: str, challenge: bytes, known: Sequence[OperatorKey]) -> str:
    """Return, as JSON, what the browser makes a new passkey from; none where one of the known ones is."""
    return options_to_json(
        generate_registration_options(
            rp_id=rp_id_of(origin) or "",
            rp_name=_RP_NAME,
            user_id=hashlib.sha256(name.encode()).digest(),
            user_name=name,
            challenge=challenge,
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=key.credential_id) for key in known if key.credential_id
            ],
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            supported_pub_key_algs=_ALGORITHMS,
        )
    )


def challenge_of(csrf: str) -> bytes:
    """Return what a new passkey of a session answers."""
    return hashlib.sha256(f"wallet-passkey-1\n{csrf}".encode()).digest()


def made(name: str, origin: str, challenge: bytes, answer: str) -> OperatorKey:
    """Return the key that a browser has made; raises ValueError if it is not one for this page."""
    try:
        found = verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=rp_id_of(origin) or "",
            expected_origin=origin,
            require_user_verification=True,
            supported_pub_key_algs=_ALGORITHMS,
        )
    except WebAuthnException as exc:
        raise ValueError(str(exc)) from exc
    public = found.credential_public_key
    return OperatorKey(
        key_id_of(public),
        name,
        ProofAlgorithm.WEBAUTHN,
        public,
        found.credential_id,
        rp_id_of(origin),
        origin,
    )


def credential_of(answer: str) -> bytes:
    """Return which passkey an answer is of, by its own word; raises ValueError."""
    if len(answer) > PROOF_BYTES_MAX:
        raise ValueError("too long")
    answered: Any = json.loads(answer)
    name = answered.get("id") if isinstance(answered, Mapping) else None
    if isinstance(name, str):
        return base64url_to_bytes(name)
    raise ValueError("not an answer of a passkey")
