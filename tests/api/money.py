"""What these tests do again and again: accounts with money, the gateway's word, and what lies in a queue."""

import json
import time
from datetime import UTC, datetime
from typing import Any, cast

import aiormq
import httpx2 as httpx
from aiormq.channel import Channel

from tests.workers import KEYS
from wallet_schemas.names import WALLET_DEAD_LETTERS
from wallet_schemas.signature import sign

RESULTS = "/v1/payment-results"


async def opened(http: httpx.AsyncClient, user_id: str, currency: str = "TWD") -> None:
    """The user has an account."""
    answer = await http.post(
        "/v1/accounts",
        json={"user_id": user_id, "currency": currency},
        headers={"Idempotency-Key": f"OPEN-{user_id}-{currency}"},
    )
    assert answer.status_code == 201, answer.text


def recharge(user_id: str, amount: str = "100.00", currency: str = "TWD") -> dict[str, Any]:
    """Return the body of a recharge."""
    return {"user_id": user_id, "amount": amount, "currency": currency, "recharge_type": "card"}


def word(serial_no: str, *, amount: str = "100.00", status: str = "succeeded") -> bytes:
    """Return the gateway's word about an order."""
    return json.dumps(
        {
            "type": "payment.result.v1",
            "payment_order_no": serial_no,
            "amount": amount,
            "currency": "TWD",
            "status": status,
            "gateway_ref": f"gw-{serial_no}",
            "occurred_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    ).encode()


def reversal(serial_no: str) -> bytes:
    """Return the gateway's word that the whole payment of a recharge was disputed, and is given back."""
    return json.dumps(
        {
            "type": "payment.reversal.v1",
            "payment_order_no": serial_no,
            "reversal_ref": f"dp-{serial_no}",
            "kind": "dispute",
            "status": "moved",
            "sequence": 2,
            "amount": "100.00",
            "currency": "TWD",
            "occurred_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    ).encode()


def how_to_pay(serial_no: str, *, revision: int = 1, amount: str = "100.00") -> bytes:
    """Return what the gateway says about how the payer of an order pays."""
    return json.dumps(
        {
            "type": "payment.instructions.v1",
            "payment_order_no": serial_no,
            "amount": amount,
            "currency": "TWD",
            "gateway_ref": f"gw-{serial_no}",
            "revision": revision,
            "action": "store_code",
            "code": f"LLL{revision}",
            "expires_at": "2099-01-01T00:00:00Z",
            "occurred_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    ).encode()


def signed(body: bytes, keys: dict[str, str] = KEYS) -> dict[str, str]:
    """Return the headers of a signed body."""
    return {"x-signature": sign(body, keys, int(time.time())), "content-type": "application/json"}


async def paid(http: httpx.AsyncClient, user_id: str, serial_no: str, amount: str = "100.00") -> None:
    """The user, who has an account, has so much more money."""
    ordered = await http.post(
        "/v1/recharges", json=recharge(user_id, amount), headers={"Idempotency-Key": serial_no}
    )
    assert ordered.status_code == 201, ordered.text
    body = word(serial_no, amount=amount)
    processed = await http.post(RESULTS, content=body, headers=signed(body))
    assert processed.status_code == 200, processed.text
    assert processed.json()["processing_status"] == "processed"


async def depth(amqp_url: str, queue: str = WALLET_DEAD_LETTERS) -> int:
    """Return how many messages a queue has."""
    async with aiormq.connect(amqp_url) as connection:
        channel = cast("Channel", await connection.channel())
        return (await channel.queue_declare(queue, passive=True)).message_count or 0
