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
RECHARGE_V2: JsonObject = {
    **RECHARGE,
    "type": "order.recharge.v2",
    "instrument": "pm_7Qd2",
    "return_url": "https://shop.example/orders/778",
}
CANCEL: JsonObject = {
    "type": "order.cancel.v1",
    "serial_no": "X-1",
    "target_serial_no": "R-1",
    "reason": "the customer has left",
}
FREEZE: JsonObject = {
    "type": "account.freeze.v1",
    "serial_no": "F-1",
    "user_id": "u-1",
    "account_type": "basic",
    "currency": "TWD",
    "reason": "chargeback",
}
UNFREEZE: JsonObject = {**FREEZE, "type": "account.unfreeze.v1", "serial_no": "U-1"}
CLOSE: JsonObject = {**FREEZE, "type": "account.close.v1", "serial_no": "X-1"}
WITHDRAW: JsonObject = {
    "type": "order.withdraw.v1",
    "serial_no": "W-1",
    "user_id": "u-1",
    "account_type": "basic",
    "amount": "100.00",
    "currency": "TWD",
    "payout_type": "bank_transfer",
}
WITHDRAW_V2: JsonObject = {**WITHDRAW, "type": "order.withdraw.v2", "instrument": "ba_51Hx"}
TRANSFER: JsonObject = {
    "type": "order.transfer.v1",
    "serial_no": "T-1",
    "user_id": "u-1",
    "account_type": "basic",
    "to_user_id": "u-2",
    "to_account_type": "basic",
    "amount": "100.00",
    "currency": "TWD",
}
REFUND: JsonObject = {
    "type": "order.refund.v1",
    "serial_no": "RF-1",
    "original_serial_no": "R-1",
    "amount": "100.00",
    "currency": "TWD",
}
HOLD: JsonObject = {
    "type": "order.hold.v1",
    "serial_no": "H-1",
    "user_id": "u-1",
    "account_type": "basic",
    "amount": "100.00",
    "currency": "TWD",
    "expires_in_seconds": 3_600,
}
CAPTURE: JsonObject = {
    "type": "order.capture.v1",
    "serial_no": "C-1",
    "hold_serial_no": "H-1",
    "amount": "100.00",
    "currency": "TWD",
    "to_user_id": "u-2",
    "to_account_type": "basic",
}
RELEASE: JsonObject = {"type": "order.release.v1", "serial_no": "L-1", "hold_serial_no": "H-1"}
RESULT: JsonObject = {
    "type": "payment.result.v1",
    "payment_order_no": "R-1",
    "amount": "100.00",
    "currency": "TWD",
    "status": "succeeded",
    "gateway_ref": "gw-1",
    "occurred_at": "2026-01-02T03:04:05Z",
}
INSTRUCTIONS: JsonObject = {
    "type": "payment.instructions.v1",
    "payment_order_no": "R-1",
    "amount": "100.00",
    "currency": "TWD",
    "gateway_ref": "gw-1",
    "action": "bank_transfer",
    "bank_code": "822",
    "account_number": "9829411019605745",
    "occurred_at": "2026-01-02T03:04:05Z",
}
REVERSAL: JsonObject = {
    "type": "payment.reversal.v1",
    "payment_order_no": "R-1",
    "reversal_ref": "dp-1",
    "kind": "dispute",
    "sequence": 1,
    "status": "moved",
    "amount": "100.00",
    "currency": "TWD",
    "occurred_at": "2026-01-02T03:04:05Z",
}
GET_ACCOUNT: JsonObject = {"type": "account.get.v1", "user_id": "u-1"}
GET_ORDER: JsonObject = {"type": "order.get.v1", "serial_no": "R-1"}
GET_STATEMENT: JsonObject = {"type": "statement.get.v1", "user_id": "u-1", "currency": "TWD"}

COMMANDS = (
    *(OPEN, FREEZE, UNFREEZE, CLOSE, RECHARGE, RECHARGE_V2, WITHDRAW, WITHDRAW_V2, TRANSFER, REFUND, HOLD),
    *(CAPTURE, RELEASE, CANCEL),
)
ALL = (*COMMANDS, RESULT, INSTRUCTIONS, REVERSAL, GET_ACCOUNT, GET_ORDER, GET_STATEMENT)


def body(message: object) -> bytes:
    """Return the message as a sender in another language might write it."""
    return json.dumps(message, ensure_ascii=False).encode()
