"""Key files: what is wrong in one is said without a secret, and what is right says who may speak of what."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest

from wallet_schemas.keys import (
    KeyFileInvalid,
    loaded_secrets,
    read_seal_key,
    read_signing_key,
    read_verifying_keys,
    signing_entry,
    verifying_entry,
)
from wallet_schemas.signature import (
    Algorithm,
    BadSignature,
    SigningDirection,
    SigningKey,
    VerifyingKey,
    sign,
    verify,
)

SEED = bytes(range(32))
SECRET = b64encode(bytes(range(32, 64))).decode()
AT = 1_767_323_045
BODY = b'{"type":"payment.result.v1"}'
ED25519 = SigningKey("acme-1", Algorithm.ED25519, SEED)
PUBLIC = b64encode(ED25519.public.material).decode()


def entry(**other: object) -> dict[str, object]:
    return {"algorithm": "ed25519", "public": PUBLIC} | other


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_the_one_file_signs_the_other_verifies(algorithm: Algorithm) -> None:
    key = read_signing_key(json.dumps(signing_entry(SigningKey("k", algorithm, SEED))))
    keys = read_verifying_keys(json.dumps({"k": verifying_entry(key)}))

    signed = verify(key.sign(BODY, AT, SigningDirection.RESULTS), BODY, keys)

    assert (signed.key_id, signed.at_unix) == ("k", AT)


def test_an_ed25519_key_verifies_with_what_cannot_sign() -> None:
    assert verifying_entry(ED25519) == entry()
    assert SEED not in ED25519.public.material


def test_the_schemes_are_those_of_the_standards() -> None:
    header = ED25519.sign(BODY, AT, SigningDirection.REQUESTS)

    # What OpenSSL's Ed25519 signs with the same seed over `wallet-v2:default:requests:1767323045.` and the body.
    digest = (
        "fe454aff4813637639cebcd8b770bc4d26d39fe89ad9f1ab86bf741a749acb35"
        "9545f1dc94100baa7ed9b7e8f149cbb446e68efdb9788ecf952dc2e684b9ff08"
    )
    assert header == f"t={AT},kid=acme-1,v2={digest}"


@pytest.mark.parametrize("change", ["environment", "direction", "time", "body", "key", "scheme"])
def test_a_signature_is_of_one_place_one_direction_one_time_and_one_body(change: str) -> None:
    header, body, key, direction = (
        ED25519.sign(BODY, AT, SigningDirection.RESULTS),
        BODY,
        ED25519.public,
        SigningDirection.RESULTS,
    )
    match change:
        case "environment":
            key = VerifyingKey(key.algorithm, key.material, environment="staging")
        case "direction":
            direction = SigningDirection.REQUESTS
        case "time":
            header = header.replace(f"t={AT}", f"t={AT + 1}")
        case "body":
            body += b" "
        case "key":
            key = SigningKey("acme-1", Algorithm.ED25519, bytes(32)).public
        case _:
            header = f"t={AT},kid=acme-1,v1={'0' * 64}"

    with pytest.raises(BadSignature, match="no signature fits the body"):
        verify(header, body, {"acme-1": key}, direction=direction)


def test_a_public_key_is_no_secret_of_an_hmac() -> None:
    forged = sign(BODY, {"acme-1": PUBLIC}, AT)

    with pytest.raises(BadSignature, match="no signature fits"):
        verify(forged, BODY, {"acme-1": ED25519.public})


@pytest.mark.parametrize(
    ("not_before", "not_after", "why"),
    [(1, None, "before the key's first day"), (None, -1, "after the key's last day"), (-1, 1, None)],
)
def test_a_key_signs_within_its_dates(not_before: int | None, not_after: int | None, why: str | None) -> None:
    at = datetime.fromtimestamp(AT, UTC)
    key = VerifyingKey(
        Algorithm.ED25519,
        ED25519.public.material,
        not_before=None if not_before is None else at + timedelta(seconds=not_before),
        not_after=None if not_after is None else at + timedelta(seconds=not_after),
    )
    header = ED25519.sign(BODY, AT, SigningDirection.RESULTS)

    if why is None:
        verify(header, BODY, {"acme-1": key})
    else:
        with pytest.raises(BadSignature, match=why):
            verify(header, BODY, {"acme-1": key})


def test_a_key_is_believed_a_week_after_its_last_day_of_what_waited_and_then_no_more() -> None:
    ended = datetime(2026, 1, 1, tzinfo=UTC)
    key = VerifyingKey(Algorithm.ED25519, bytes(32), not_after=ended)

    assert not key.is_retired(ended + timedelta(days=7))
    assert key.is_retired(ended + timedelta(days=7, seconds=1))


def test_a_key_says_what_it_may_speak_of() -> None:
    text = json.dumps(
        {"acme-1": entry(channels=["card"], kinds=["result"], not_before="2025-01-01T00:00:00Z")}
    )

    signed = verify(ED25519.sign(BODY, AT, SigningDirection.RESULTS), BODY, read_verifying_keys(text))

    assert (signed.channels, signed.kinds) == (frozenset({"card"}), frozenset({"result"}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ('{"k": 1, "k": 2}', "'k' stands twice"),
        (json.dumps({"a b": entry()}), "the key id 'a b' should be"),
        (json.dumps({"k" * 65: entry()}), "the key id"),
        (json.dumps({"k": entry(public="!")}), "no base64"),
        (json.dumps({"k": entry(public=SECRET[:-4])}), "bytes, and not 32"),
        (json.dumps({"k": entry(secret=SECRET)}), "and no other"),
        (json.dumps({"k": {"algorithm": "hmac-sha256", "secret": "c2hvcnQ="}}), "at least 32 are needed"),
        (json.dumps({"k": {"algorithm": "none"}}), "algorithm"),
        (json.dumps({"k": entry(kinds=["refund"])}), "kinds are"),
        (json.dumps({"k": entry(channels=[])}), "allows nothing"),
        (json.dumps({"k": entry(not_after="2026-01-01")}), "not_after"),
        (
            json.dumps({"k": entry(not_before="2026-01-02T00:00:00Z", not_after="2026-01-01T00:00:00Z")}),
            "not after not_before",
        ),
        (json.dumps({"k": entry(unknown=1)}), "unknown"),
    ],
)
def test_a_file_that_is_wrong_is_said_without_what_is_in_it(text: str, reason: str) -> None:
    with pytest.raises(KeyFileInvalid, match=reason) as raised:
        read_verifying_keys(text)

    assert SECRET[:-4] not in str(raised.value)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"kid": "k", "algorithm": "ed25519", "secret": SECRET}, "and no other"),
        ({"kid": "k", "algorithm": "ed25519", "private": "c2hvcnQ="}, "5 bytes, and not 32"),
        ({"kid": "a b", "algorithm": "ed25519", "private": SECRET}, "the key id"),
        ({"algorithm": "ed25519", "private": SECRET}, "kid"),
    ],
)
def test_a_signers_file_that_is_wrong_is_said(found: dict[str, str], reason: str) -> None:
    with pytest.raises(KeyFileInvalid, match=reason):
        read_signing_key(json.dumps(found))


def test_a_seal_has_a_name_and_a_long_secret() -> None:
    assert read_seal_key(json.dumps({"kid": "s", "secret": SECRET})) == ("s", bytes(range(32, 64)))
    for wrong in ({"kid": "s"}, {"kid": "s", "secret": "c2hvcnQ="}, {"kid": "s", "secret": SECRET, "x": 1}):
        with pytest.raises(KeyFileInvalid):
            read_seal_key(json.dumps(wrong))


@pytest.mark.parametrize("secret", ["", "k", "fifteen bytes!!"])
def test_a_secret_that_could_be_guessed_is_refused(secret: str) -> None:
    with pytest.raises(KeyFileInvalid, match="less than 16 bytes"):
        loaded_secrets(json.dumps({"k": secret}))
