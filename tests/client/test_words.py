"""What the client raises for what is wrong, in the words that the wallet has for it."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.words import assert_for_people
from wallet_worker.client import InvalidRequestError, WalletClient, WalletError

Call = Callable[[WalletClient], Awaitable[Any]]
UNSENT = WalletClient("amqp://nobody@127.0.0.1:1/")  # nothing is sent, so it is never opened

WRONG: list[tuple[Call, str]] = [
    (
        lambda wallet: wallet.recharge("alice", "1,300.00", "TWD", "card"),
        "amount: Should be a decimal above zero without sign, exponent or grouping, such as 100.00",
    ),
    (lambda wallet: wallet.recharge("alice", "1.001", "TWD", "card"), "amount: TWD has 2 digits after the point"),
    (
        lambda wallet: wallet.recharge("alice", 1.0, "TWD", "card"),  # type: ignore[arg-type]  # what people try
        "amount: Input should be a valid string",
    ),
    (
        lambda wallet: wallet.recharge("alice", Decimal("NaN"), "TWD", "card"),
        "amount: Should be a decimal above zero without sign, exponent or grouping, such as 100.00",
    ),
    (
        lambda wallet: wallet.recharge("alice", Decimal(-1), "TWD", "card"),
        "amount: Should be a decimal above zero without sign, exponent or grouping, such as 100.00",
    ),
    (
        lambda wallet: wallet.transfer("alice", "bob", "1.00", "twd"),
        "currency: Should be a code of ISO 4217 in capitals, such as TWD",
    ),
    (lambda wallet: wallet.order("a/b"), "serial_no: Should be of letters, digits and . _ : - only"),
    (
        lambda wallet: wallet.statement("alice", "TWD", limit=2_000),
        "limit: Input should be less than or equal to 1000",
    ),
    (
        lambda wallet: wallet.statement("alice", "TWD", from_time=datetime(2026, 1, 1)),  # noqa: DTZ001 -- the very thing
        "from: Should be a time in RFC 3339, such as 2026-01-31T12:00:00Z",
    ),
    (lambda wallet: wallet.account("alice", "Basic"), "account_type: Should be of small letters, digits and _ only"),
    (
        lambda wallet: wallet.open_account("alice", "TWD", metadata={"a": "b\0"}),
        "metadata.a: Should not have a NUL in it",
    ),
    (lambda wallet: wallet.hold("alice", "1.00", "TWD", 0), "expires_in_seconds: Input should be greater than or"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), WRONG)
async def test_what_is_wrong_is_said_before_it_is_sent(call: Call, sentence: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await call(UNSENT)

    assert str(refused.value).startswith(sentence)
    assert refused.value.faults[0].message in sentence or sentence in f"{refused.value}"
    assert isinstance(refused.value, WalletError)
    assert isinstance(refused.value, ValueError)
    assert refused.value.__cause__ is None
    assert_for_people(str(refused.value))
