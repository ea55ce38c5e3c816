"""Payment requests as the wallet makes them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from wallet_schemas.encode import encode
from wallet_schemas.payments import PaymentRequest
from wallet_schemas.values import PaymentKind

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HALF_PAST = NOON + timedelta(minutes=30)


def request(number: str = "R-1", **fields: Any) -> PaymentRequest:
    """Return a charge of 100.00 TWD on a card, requested at noon, unless the fields say otherwise."""
    facts: dict[str, Any] = {
        "kind": PaymentKind.CHARGE,
        "amount": "100.00",
        "currency": "TWD",
        "channel": "card",
        "requested_at": NOON,
        "expires_at": HALF_PAST,
    }
    return PaymentRequest(payment_order_no=number, **(facts | fields))


def body(number: str = "R-1", **fields: Any) -> bytes:
    """Return such a request as it travels."""
    return encode(request(number, **fields))


def status_of(number: str = "R-1", **fields: Any) -> bytes:
    """Return the question how a payment stands."""
    return body(number, kind=PaymentKind.STATUS, **fields)
