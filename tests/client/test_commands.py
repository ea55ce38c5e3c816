"""Each method of the client: what it sends, and what is made of the outcome."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.client.impostor import impostor
from wallet_schemas.codes import Code
from wallet_schemas.commands import NoResult, OpenAccountResult, Outcome, RechargeResult
from wallet_schemas.encode import encode
from wallet_schemas.events import ACCOUNT_EXAMPLE, TRANSFER_EXAMPLE, AccountView, OrderView
from wallet_schemas.names import WALLET_COMMANDS
from wallet_schemas.parse import COMMANDS
from wallet_schemas.values import OutcomeStatus
from wallet_worker.client import RefusedError, WalletClient, result_of

Call = Callable[[WalletClient], Awaitable[Outcome]]

REFUSAL = Outcome(
    serial_no="S-1",
    status=OutcomeStatus.REFUSED,
    code=Code.INSUFFICIENT_BALANCE,
    duplicate=False,
    result=NoResult(),
)

SENT: list[tuple[Call, dict[str, Any]]] = [
    (
        lambda wallet: wallet.open_account("alice", "TWD", "savings", serial_no="S-1", metadata={"a": "b"}),
        {
            "type": "account.open.v1",
            "user_id": "alice",
            "account_type": "savings",
            "currency": "TWD",
            "metadata": {"a": "b"},
        },
    ),
    (
        lambda wallet: wallet.freeze_account("alice", "TWD", "chargeback", serial_no="S-1"),
        {
            "type": "account.freeze.v1",
            "user_id": "alice",
            "account_type": "basic",
            "currency": "TWD",
            "reason": "chargeback",
        },
    ),
    (
        lambda wallet: wallet.unfreeze_account("alice", "TWD", "settled", "savings", serial_no="S-1"),
        {
            "type": "account.unfreeze.v1",
            "user_id": "alice",
            "account_type": "savings",
            "currency": "TWD",
            "reason": "settled",
        },
    ),
    (
        lambda wallet: wallet.close_account("alice", "TWD", "asked for", serial_no="S-1", metadata={}),
        {
            "type": "account.close.v1",
            "user_id": "alice",
            "account_type": "basic",
            "currency": "TWD",
            "reason": "asked for",
            "metadata": {},
        },
    ),
    (
        lambda wallet: wallet.recharge("alice", "1.00", "TWD", "card", serial_no="S-1"),
        {
            "type": "order.recharge.v1",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "recharge_type": "card",
        },
    ),
    (
        lambda wallet: wallet.withdraw("alice", "1.00", "TWD", "bank_transfer", "savings", serial_no="S-1"),
        {
            "type": "order.withdraw.v1",
            "user_id": "alice",
            "account_type": "savings",
            "amount": "1.00",
            "currency": "TWD",
            "payout_type": "bank_transfer",
        },
    ),
    (
        lambda wallet: wallet.recharge(
            "alice",
            Decimal("1.0E+2"),
            "TWD",
            "card",
            instrument="pm_1",
            return_url="https://shop.example/1",
            serial_no="S-1",
            valid_until=datetime(2026, 1, 2, tzinfo=UTC),
        ),
        {
            "type": "order.recharge.v2",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "100",
            "currency": "TWD",
            "recharge_type": "card",
            "instrument": "pm_1",
            "return_url": "https://shop.example/1",
            "valid_until": "2026-01-02T00:00:00.000000Z",
        },
    ),
    (
        lambda wallet: wallet.withdraw(
            "alice", Decimal("1.00"), "TWD", "bank_transfer", instrument="ba_1", serial_no="S-1"
        ),
        {
            "type": "order.withdraw.v2",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "payout_type": "bank_transfer",
            "instrument": "ba_1",
        },
    ),
    (
        lambda wallet: wallet.cancel("R-1", "left", serial_no="S-1"),
        {"type": "order.cancel.v1", "target_serial_no": "R-1", "reason": "left"},
    ),
    (
        lambda wallet: wallet.transfer(
            "alice", "bob", "1.00", "TWD", to_account_type="savings", serial_no="S-1"
        ),
        {
            "type": "order.transfer.v1",
            "user_id": "alice",
            "account_type": "basic",
            "to_user_id": "bob",
            "to_account_type": "savings",
            "amount": "1.00",
            "currency": "TWD",
        },
    ),
    (
        lambda wallet: wallet.refund("R-1", "1.00", "TWD", serial_no="S-1", metadata={"a": "b"}),
        {
            "type": "order.refund.v1",
            "original_serial_no": "R-1",
            "amount": "1.00",
            "currency": "TWD",
            "metadata": {"a": "b"},
        },
    ),
    (
        lambda wallet: wallet.hold("alice", "1.00", "TWD", 60, serial_no="S-1"),
        {
            "type": "order.hold.v1",
            "user_id": "alice",
            "account_type": "basic",
            "amount": "1.00",
            "currency": "TWD",
            "expires_in_seconds": 60,
        },
    ),
    (
        lambda wallet: wallet.capture("H-1", "shop", "1.00", "TWD", serial_no="S-1"),
        {
            "type": "order.capture.v1",
            "hold_serial_no": "H-1",
            "amount": "1.00",
            "currency": "TWD",
            "to_user_id": "shop",
            "to_account_type": "basic",
        },
    ),
    (
        lambda wallet: wallet.release("H-1", serial_no="S-1"),
        {"type": "order.release.v1", "hold_serial_no": "H-1"},
    ),
]


def test_there_is_a_method_for_each_command() -> None:
    assert sorted(body["type"] for _, body in SENT) == sorted(COMMANDS)


async def test_each_method_sends_its_command(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, WalletClient(amqp_url) as wallet:
        for call, body in SENT:
            calling = asyncio.ensure_future(call(wallet))
            request = await worker.next()
            await worker.reply(request, encode(REFUSAL))

            assert json.loads(request.body) == body | {"serial_no": "S-1"}
            assert request.routing_key == body["type"].rpartition(".")[0]
            assert await calling == REFUSAL


async def test_a_serial_number_that_is_not_given_is_a_new_one_each_time(amqp_url: str) -> None:
    async with impostor(amqp_url, WALLET_COMMANDS) as worker, WalletClient(amqp_url) as wallet:
        calls = [asyncio.ensure_future(wallet.release("H-1", timeout_seconds=5)) for _ in range(3)]
        numbers = [json.loads((await worker.next()).body)["serial_no"] for _ in calls]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    assert len({*numbers}) == 3


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (Outcome.examples()[0]["result"], OpenAccountResult),
        (Outcome.examples()[1]["result"], RechargeResult),
        ({"object": "order", **TRANSFER_EXAMPLE}, OrderView),
        ({"object": "account", **ACCOUNT_EXAMPLE}, AccountView),
    ],
)
def test_the_result_of_what_was_applied_has_its_type(result: dict[str, Any], kind: type[OrderView]) -> None:
    outcome = Outcome.model_validate({**Outcome.examples()[0], "result": result})

    assert result_of(outcome, kind) == outcome.result
    with pytest.raises(TypeError, match=r"OPEN-20260102-000001 is no NoResult"):
        result_of(outcome, NoResult)


def test_there_is_no_result_of_what_was_refused() -> None:
    with pytest.raises(RefusedError, match=r"S-1 was refused, INSUFFICIENT_BALANCE: the account") as refused:
        result_of(REFUSAL, OrderView)

    assert refused.value.outcome is REFUSAL
    assert refused.value.code is Code.INSUFFICIENT_BALANCE


async def test_an_option_that_is_misspelt_is_an_error_and_nothing_is_sent() -> None:
    """A serial number under another name would leave each call with a new one, and a repeat would pay twice."""
    wallet = WalletClient("amqp://nobody@127.0.0.1:1/")

    with pytest.raises(TypeError, match="unexpected keyword argument 'serial'"):
        await wallet.transfer("alice", "bob", "25.00", "TWD", serial="T-1")  # type: ignore[call-arg]
