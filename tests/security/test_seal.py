"""A seal fits one letter exactly, and survives what a broker does with a letter."""

from copy import deepcopy

import pytest
from pamqp.commands import Basic

from wallet_schemas.names import SEAL_HEADER
from wallet_worker.broker.amqp.properties import marshal, unmarshal
from wallet_worker.broker.amqp.seal import SealKey, is_sealed, sealed

KEY = SealKey("s-1", bytes(range(32)))
BODY = b'{"type":"order.transfer.v1"}'


def letter() -> Basic.Properties:
    return Basic.Properties(
        headers={
            "x-wallet-reason": "INTERNAL",
            "x-wallet-source": "wallet.commands",
            "theirs": [1, {"a": "b"}],
        },
        correlation_id="c-1",
        reply_to="amq.gen-1",
        delivery_mode=2,
    )


def with_seal(properties: Basic.Properties, body: bytes = BODY) -> Basic.Properties:
    properties.headers = {**(properties.headers or {}), SEAL_HEADER: sealed(properties, body, KEY)}
    return unmarshal(marshal(properties))


def test_a_letter_is_sealed_as_it_comes_from_the_broker() -> None:
    found = with_seal(letter())
    found.message_id = "given when it was published"
    found.headers = {**(found.headers or {}), "x-delivery-count": 3}

    assert is_sealed(found, BODY, KEY)


@pytest.mark.parametrize(
    "change", ["body", "reason", "header", "property", "key", "no seal", "no text", "kid"]
)
def test_a_letter_that_was_changed_is_not_sealed(change: str) -> None:
    found, body, key = with_seal(letter()), BODY, KEY
    headers = dict(deepcopy(found.headers or {}))
    match change:
        case "body":
            body = BODY.replace(b"transfer", b"withdraw")
        case "reason":
            headers["x-wallet-reason"] = "MALFORMED"
        case "header":
            headers["another"] = "one"
        case "property":
            found.reply_to = "amq.gen-2"
        case "key":
            key = SealKey("s-1", bytes(32))
        case "no seal":
            del headers[SEAL_HEADER]
        case "no text":
            headers[SEAL_HEADER] = 7
        case _:
            key = SealKey("s-2", KEY.secret)
    found.headers = headers

    assert not is_sealed(found, body, key)
