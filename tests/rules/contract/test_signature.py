"""Only a holder of a key can sign a body, and no header can do more harm than be refused."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet_schemas import signature
from wallet_schemas.signature import BadSignature, sign, verify

BODY = b'{"type":"payment.result.v1"}'
KEYS = {"new": "the new secret", "old": "the old secret"}
AT = 1_767_323_045


def digest(secret: str, time: str = str(AT), body: bytes = BODY) -> str:
    return hmac.new(secret.encode(), time.encode() + b"." + body, hashlib.sha256).hexdigest()


def test_the_first_key_signs() -> None:
    assert sign(BODY, KEYS, AT) == f"t={AT},kid=new,v1={digest('the new secret')}"


@given(body=st.binary(max_size=200), at=st.integers(min_value=0, max_value=10**12))
def test_what_was_signed_is_verified(body: bytes, at: int) -> None:
    verify(sign(body, KEYS, at), body, KEYS)


@pytest.mark.parametrize("known", ["new", "old"])
def test_while_keys_rotate_one_known_key_is_enough(known: str) -> None:
    header = sign(BODY, KEYS, AT, key_ids=["new", "old"])

    verify(header, BODY, {known: KEYS[known]})


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_good_signature_among_several_of_one_key_is_enough(position: int) -> None:
    digests = ["0" * 64, "f" * 64]
    digests.insert(position, digest(KEYS["old"]))

    verify(f"t={AT},kid=old," + ",".join(f"v1={each}" for each in digests), BODY, KEYS)


@pytest.mark.parametrize(
    "header",
    [
        f"t={AT}, kid=new, v1={digest(KEYS['new'])}",
        f"kid=new,v1={digest(KEYS['new'])},t={AT}",
        f"t={AT},kid=new,v1={digest(KEYS['new']).upper()}",
        f"t={AT},kid=new,v3=something-to-come,v1={digest(KEYS['new'])}",
        f"t={AT},kid=unknown,v1={'0' * 64},kid=new,v1={digest(KEYS['new'])}",
        f"t=0{AT},kid=new,v1={digest(KEYS['new'], f'0{AT}')}",
    ],
)
def test_a_header_may_be_spelt_in_several_ways(header: str) -> None:
    verify(header, BODY, KEYS)


@given(data=st.data())
def test_a_changed_body_is_refused(data: st.DataObject) -> None:
    header = sign(BODY, KEYS, AT)
    place = data.draw(st.integers(min_value=0, max_value=len(BODY) - 1))
    flipped = data.draw(st.integers(min_value=1, max_value=255))
    body = bytearray(BODY)
    body[place] ^= flipped

    with pytest.raises(BadSignature, match="no signature fits"):
        verify(header, bytes(body), KEYS)


def test_the_time_is_signed_too() -> None:
    with pytest.raises(BadSignature, match="no signature fits"):
        verify(sign(BODY, KEYS, AT).replace(f"t={AT}", f"t={AT + 1}"), BODY, KEYS)


def test_a_time_moved_into_the_body_is_refused() -> None:
    header = sign(b"5.body", KEYS, 1)

    with pytest.raises(BadSignature):
        verify(header.replace("t=1", "t=1.5"), b"body", KEYS)


def test_a_key_signs_only_under_its_own_name() -> None:
    header = f"t={AT},kid=old,v1={digest(KEYS['new'])}"

    with pytest.raises(BadSignature, match="no signature fits"):
        verify(header, BODY, KEYS)


def test_an_unknown_key_is_named() -> None:
    header = sign(BODY, {"stranger": "s"}, AT)

    with pytest.raises(BadSignature, match="unknown key: stranger") as refused:
        verify(header, BODY, KEYS)

    assert refused.value.reason == "unknown key: stranger"


def test_without_keys_everything_is_refused() -> None:
    with pytest.raises(BadSignature):
        verify(sign(BODY, KEYS, AT), BODY, {})


def test_an_empty_secret_proves_nothing() -> None:
    header = f"t={AT},kid=new,v1={digest('')}"

    with pytest.raises(BadSignature):
        verify(header, BODY, {"new": ""})


GOOD = digest(KEYS["new"])


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        ",",
        "=",
        "garbage",
        GOOD,
        f"v1={GOOD}",
        f"kid=new,v1={GOOD}",
        f"t={AT},v1={GOOD}",
        f"t={AT},v1={GOOD},kid=new",
        f"t={AT},kid=new",
        f"t={AT},kid=,v1={GOOD}",
        f"t={AT},kid=n w,v1={GOOD}",
        f"t={AT},kid={'n' * 65},v1={GOOD}",
        f"t=,kid=new,v1={GOOD}",
        f"t=-1,kid=new,v1={GOOD}",
        f"t=1.5,kid=new,v1={GOOD}",
        f"t=\u0661,kid=new,v1={GOOD}",
        f"t={'1' * 21},kid=new,v1={GOOD}",
        f"t={AT},t={AT},kid=new,v1={GOOD}",
        f"t={AT},kid=new,v1=",
        f"t={AT},kid=new,v1={GOOD[:-1]}",
        f"t={AT},kid=new,v1={GOOD}0",
        f"t={AT},kid=new,v1={GOOD[:-1]}g",
        f"t={AT},kid=new,v1={GOOD}\n",
        f"t={AT},kid=new,v1={GOOD}é",
        f"T={AT},KID=new,V1={GOOD}",
        f"t={AT};kid=new;v1={GOOD}",
        f"t={AT},kid=new," + f"v1={'0' * 64}," * 16 + f"v1={GOOD}",
        "t=1,kid=new," + "v1=" + "0" * 5_000,
        ",".join(["t=1"] * 5_000),
        b"t=1",
        1,
        True,
        ["t=1"],
        {"t": 1},
    ],
)
def test_any_other_header_is_refused_with_a_reason(header: object) -> None:
    with pytest.raises(BadSignature) as refused:
        verify(header, BODY, KEYS)

    assert 0 < len(refused.value.reason) < 200


@given(
    header=st.none()
    | st.binary()
    | st.text()
    | st.lists(
        st.sampled_from(["t=1", "kid=new", "kid=x", "v1=" + "0" * 64, "v1=0", "v2=1", "", "=", "t"])
    ).map(",".join)
)
def test_no_header_does_more_than_be_refused(header: object) -> None:
    with pytest.raises(BadSignature):
        verify(header, BODY, KEYS)


@pytest.mark.parametrize(
    ("keys", "key_ids"),
    [
        ({}, None),
        (KEYS, []),
        (KEYS, ["unknown"]),
        ({"new": ""}, None),
        ({"a,b": "secret"}, None),
        ({"": "secret"}, None),
    ],
)
def test_a_key_that_could_not_be_verified_does_not_sign(
    keys: dict[str, str], key_ids: list[str] | None
) -> None:
    with pytest.raises(ValueError, match="key"):
        sign(BODY, keys, AT, key_ids=key_ids)


def test_a_header_of_the_largest_length_is_read() -> None:
    header = sign(BODY, KEYS, AT)

    verify(header + "," * (signature.HEADER_LENGTH_MAX - len(header)), BODY, KEYS)
    with pytest.raises(BadSignature, match="4096"):
        verify(header + "," * (signature.HEADER_LENGTH_MAX - len(header) + 1), BODY, KEYS)
