"""Good bodies, for tests to spoil one thing at a time."""

import json
from typing import Any

JsonObject = dict[str, Any]

OPEN: JsonObject = {
    "type": "account.open.v1",
    "serial_no": "O-1",
    "user_id": "u-1",
    "account_type": "basic",
    "currency": "TWD",
}
RECHARGE: JsonObject = {
    "type": "order.recharge.v1",
    "serial_no": "R-1",
    "user_id": "u-1",
    "account_type": "basic",
    "amount": "100.00",
    "currency": "TWD",
    "recharge_type": "card",
}
RESULT: JsonObject = {
    "type": "payment.result.v1",
    "payment_order_no": "R-1",
    "amount": "100.00",
    "currency": "TWD",
    "status": "succeeded",
    "gateway_ref": "gw-1",
    "occurred_at": "2026-01-02T03:04:05Z",
}
GET_ACCOUNT: JsonObject = {"type": "account.get.v1", "user_id": "u-1"}
GET_ORDER: JsonObject = {"type": "order.get.v1", "serial_no": "R-1"}
GET_STATEMENT: JsonObject = {"type": "statement.get.v1", "user_id": "u-1", "currency": "TWD"}

ALL = (OPEN, RECHARGE, RESULT, GET_ACCOUNT, GET_ORDER, GET_STATEMENT)


def body(message: object) -> bytes:
    """Return the message as a sender in another language might write it."""
    return json.dumps(message, ensure_ascii=False).encode()
