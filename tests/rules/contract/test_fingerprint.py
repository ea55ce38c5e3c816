"""A repeat has the fingerprint of the first, and whatever else is said has another."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.contract import bodies
from tests.rules.contract.bodies import JsonObject
from wallet_schemas.fingerprint import Content, changed_fields, content, fingerprint
from wallet_schemas.message import Message
from wallet_schemas.parse import COMMANDS, RESULTS, parse
from wallet_schemas.payments import PaymentResult


def content_of(good: JsonObject, **changes: Any) -> Content:
    kept = {name: value for name, value in {**good, **changes}.items() if value is not ...}
    return content(parse(bodies.body(kept), {**COMMANDS, **RESULTS}))


def test_the_content_is_what_was_said() -> None:
    assert content_of(bodies.RECHARGE, metadata={"a": "b"}) == {**bodies.RECHARGE, "metadata": {"a": "b"}}
    assert content_of(bodies.RESULT) == {**bodies.RESULT, "occurred_at": "2026-01-02T03:04:05.000000Z"}


@pytest.mark.parametrize(
    ("good", "changes"),
    [
        (bodies.RECHARGE, {"amount": "100"}),
        (bodies.RECHARGE, {"amount": "100.0"}),
        (bodies.RECHARGE, {"amount": "00100.00"}),
        (bodies.RECHARGE, {"account_type": ...}),
        (bodies.RECHARGE, {"metadata": None}),
        (bodies.RECHARGE, {"metadata": {}}),
        (bodies.OPEN, {"account_type": ...}),
        (bodies.CLOSE, {"account_type": ..., "metadata": {}}),
        (bodies.WITHDRAW, {"amount": "100"}),
        (bodies.TRANSFER, {"account_type": ..., "to_account_type": ..., "amount": "100.0"}),
        (bodies.REFUND, {"amount": "0100"}),
        (bodies.HOLD, {"account_type": ..., "metadata": None}),
        (bodies.CAPTURE, {"to_account_type": ..., "amount": "100"}),
        (bodies.RELEASE, {"metadata": {}}),
        (bodies.RESULT, {"amount": "100"}),
        (bodies.RESULT, {"reason": None}),
        (bodies.RESULT, {"occurred_at": "2026-01-02T03:04:05.000Z"}),
    ],
)
def test_another_spelling_is_the_same_content(good: JsonObject, changes: JsonObject) -> None:
    first, other = content_of(good), content_of(good, **changes)

    assert fingerprint(first) == fingerprint(other)
    assert changed_fields(first, other) == []


@pytest.mark.parametrize(
    ("good", "changes"),
    [
        (bodies.RECHARGE, {"serial_no": "R-2"}),
        (bodies.RECHARGE, {"user_id": "u-2"}),
        (bodies.RECHARGE, {"account_type": "bonus"}),
        (bodies.RECHARGE, {"amount": "100.01"}),
        (bodies.RECHARGE, {"amount": "9" * 30}),
        (bodies.RECHARGE, {"currency": "USD"}),
        (bodies.RECHARGE, {"currency": "XYZ", "amount": "100.00001"}),
        (bodies.RECHARGE, {"recharge_type": "bank_transfer"}),
        (bodies.RECHARGE, {"metadata": {"a": "b"}}),
        (bodies.FREEZE, {"reason": "chargeback "}),
        (bodies.FREEZE, {"account_type": "savings", "currency": "USD"}),
        (bodies.WITHDRAW, {"payout_type": "cash"}),
        (bodies.TRANSFER, {"to_user_id": "u-3", "to_account_type": "savings"}),
        (bodies.REFUND, {"original_serial_no": "R-2", "amount": "99.99"}),
        (bodies.HOLD, {"expires_in_seconds": 3_601}),
        (bodies.CAPTURE, {"hold_serial_no": "H-2"}),
        (bodies.RELEASE, {"hold_serial_no": "H-2", "metadata": {"a": "b"}}),
        (bodies.RESULT, {"status": "failed"}),
        (bodies.RESULT, {"gateway_ref": "gw-2"}),
        (bodies.RESULT, {"reason": "why"}),
        (bodies.RESULT, {"occurred_at": "2026-01-02T03:04:06Z"}),
    ],
)
def test_another_content_has_another_fingerprint_and_is_named(good: JsonObject, changes: JsonObject) -> None:
    first, other = content_of(good), content_of(good, **changes)

    assert fingerprint(first) != fingerprint(other)
    assert changed_fields(first, other) == changed_fields(other, first) == sorted(changes)


def test_a_freeze_and_an_unfreeze_differ() -> None:
    assert changed_fields(content_of(bodies.FREEZE), content_of(bodies.UNFREEZE, serial_no="F-1")) == ["type"]


def test_another_command_with_the_same_serial_number_differs_in_its_fields() -> None:
    assert changed_fields(content_of(bodies.OPEN), content_of(bodies.RECHARGE)) == [
        "amount",
        "recharge_type",
        "serial_no",
        "type",
    ]


def test_a_fingerprint_is_sha_256_over_canonical_json() -> None:
    canonical = (
        '{"account_type":"basic","amount":"100.00","currency":"TWD","metadata":{"a":"é\\n\\u001f","b":"🎉\x7f"},'
        '"recharge_type":"card","serial_no":"R-1","type":"order.recharge.v1","user_id":"u-1"}'
    )

    found = fingerprint(content_of(bodies.RECHARGE, metadata={"b": "🎉\x7f", "a": "é\n\x1f"}))

    assert found == hashlib.sha256(canonical.encode()).digest()


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(metadata=st.dictionaries(TEXT, TEXT, max_size=10))
def test_a_fingerprint_does_not_depend_on_order_or_on_the_library(metadata: dict[str, str]) -> None:
    first = content_of(bodies.RECHARGE, metadata=metadata)
    other = content_of(dict(reversed(bodies.RECHARGE.items())), metadata=dict(reversed(metadata.items())))
    canonical = json.dumps(first, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    assert fingerprint(first) == fingerprint(other) == hashlib.sha256(canonical.encode()).digest()


@pytest.mark.parametrize("message", [*COMMANDS.values(), PaymentResult])
def test_a_content_survives_being_stored(message: type[Message]) -> None:
    found = content(message.model_validate(message.examples()[0]))

    assert json.loads(json.dumps(found)) == found
