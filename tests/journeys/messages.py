"""The messages that upstream services and the gateway send, as they would write them: no code of the wallet's."""

import hashlib
import hmac
import itertools
import json
import secrets
from datetime import UTC, datetime
from typing import Any

from tests.workers import KEYS

Json = dict[str, Any]

_numbers = itertools.count(1)
_run = secrets.token_hex(3)


def fresh(prefix: str) -> str:
    """Return a name that no other test uses."""
    return f"{prefix}-{_run}-{next(_numbers)}"


def open_account(user_id: str, /, *, serial_no: str | None = None, **fields: Any) -> Json:
    """Return the command that opens a TWD account, with fields added or changed; `...` removes one."""
    return _with(
        {
            "type": "account.open.v1",
            "serial_no": serial_no or fresh("O"),
            "user_id": user_id,
            "account_type": "basic",
            "currency": "TWD",
        },
        fields,
    )


def recharge(user_id: str, amount: str = "100.00", /, *, serial_no: str | None = None, **fields: Any) -> Json:
    """Return the command that recharges a TWD account by card, with fields added or changed; `...` removes one."""
    return _with(
        {
            "type": "order.recharge.v1",
            "serial_no": serial_no or fresh("R"),
            "user_id": user_id,
            "account_type": "basic",
            "amount": amount,
            "currency": "TWD",
            "recharge_type": "card",
        },
        fields,
    )


def account_command(
    verb: str, user_id: str, /, *, serial_no: str | None = None, reason: str = "a test", **fields: Any
) -> Json:
    """Return the command that does `freeze`, `unfreeze` or `close` to a TWD account; `...` removes a field."""
    return _with(
        {
            "type": f"account.{verb}.v1",
            "serial_no": serial_no or fresh(verb),
            "user_id": user_id,
            "account_type": "basic",
            "currency": "TWD",
            "reason": reason,
        },
        fields,
    )


def withdraw(user_id: str, amount: str = "100.00", /, *, serial_no: str | None = None, **fields: Any) -> Json:
    """Return the command that pays out of a TWD account to a bank, with fields added or changed."""
    return _with(
        {
            "type": "order.withdraw.v1",
            "serial_no": serial_no or fresh("W"),
            "user_id": user_id,
            "account_type": "basic",
            "amount": amount,
            "currency": "TWD",
            "payout_type": "bank_transfer",
        },
        fields,
    )


def transfer(
    user_id: str, to_user_id: str, amount: str = "100.00", /, *, serial_no: str | None = None, **fields: Any
) -> Json:
    """Return the command that moves TWD from one user to another, with fields added or changed."""
    return _with(
        {
            "type": "order.transfer.v1",
            "serial_no": serial_no or fresh("T"),
            "user_id": user_id,
            "account_type": "basic",
            "to_user_id": to_user_id,
            "to_account_type": "basic",
            "amount": amount,
            "currency": "TWD",
        },
        fields,
    )


def refund(
    original_serial_no: str, amount: str = "100.00", /, *, serial_no: str | None = None, **fields: Any
) -> Json:
    """Return the command that gives a recharge in TWD back, with fields added or changed."""
    return _with(
        {
            "type": "order.refund.v1",
            "serial_no": serial_no or fresh("RF"),
            "original_serial_no": original_serial_no,
            "amount": amount,
            "currency": "TWD",
        },
        fields,
    )


def hold(user_id: str, amount: str = "100.00", /, *, serial_no: str | None = None, **fields: Any) -> Json:
    """Return the command that reserves TWD for an hour, with fields added or changed."""
    return _with(
        {
            "type": "order.hold.v1",
            "serial_no": serial_no or fresh("H"),
            "user_id": user_id,
            "account_type": "basic",
            "amount": amount,
            "currency": "TWD",
            "expires_in_seconds": 3_600,
        },
        fields,
    )


def capture(
    hold_serial_no: str,
    to_user_id: str,
    amount: str = "100.00",
    /,
    *,
    serial_no: str | None = None,
    **fields: Any,
) -> Json:
    """Return the command that moves held TWD to a user, with fields added or changed."""
    return _with(
        {
            "type": "order.capture.v1",
            "serial_no": serial_no or fresh("C"),
            "hold_serial_no": hold_serial_no,
            "amount": amount,
            "currency": "TWD",
            "to_user_id": to_user_id,
            "to_account_type": "basic",
        },
        fields,
    )


def release(hold_serial_no: str, /, *, serial_no: str | None = None, **fields: Any) -> Json:
    """Return the command that lets a hold go, with fields added or changed."""
    return _with(
        {
            "type": "order.release.v1",
            "serial_no": serial_no or fresh("L"),
            "hold_serial_no": hold_serial_no,
        },
        fields,
    )


def cancel(target_serial_no: str, /, *, serial_no: str | None = None, **fields: Any) -> Json:
    """Return a command that cancels an order that waits for a payment."""
    return _with(
        {
            "type": "order.cancel.v1",
            "serial_no": serial_no or fresh("X"),
            "target_serial_no": target_serial_no,
        },
        fields,
    )


def result(payment_order_no: str, status: str = "succeeded", /, **fields: Any) -> Json:
    """Return what the gateway says of an order in TWD, with fields added or changed; `...` removes one."""
    return _with(
        {
            "type": "payment.result.v1",
            "payment_order_no": payment_order_no,
            "amount": "100.00",
            "currency": "TWD",
            "status": status,
            "gateway_ref": f"gw-{payment_order_no}"[:64],
            "occurred_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        },
        fields,
    )


def encoded(content: Json | bytes) -> bytes:
    """Return a body."""
    return content if isinstance(content, bytes) else json.dumps(content).encode()


SIGNED_AT = 4_102_444_800
"""In 2100: no order is made after it, and the same body has the same signature whenever it is compared."""


def signed(body: bytes, *, key_id: str = "k1", secret: str = KEYS["k1"], at: int = SIGNED_AT) -> str:
    """Return the header `x-signature` of a body, made as docs/contract.md, section 6, tells a gateway to."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},kid={key_id},v1={digest}"


def _with(content: Json, fields: Json) -> Json:
    return {name: value for name, value in (content | fields).items() if value is not ...}
