"""What a dead letter must look like (docs/contract.md, section 10)."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from pamqp.common import FieldValue

from tests.journeys.upstream import Received
from wallet_schemas.names import BODY_BYTES_HEADER, BODY_BYTES_KEPT, BODY_BYTES_MAX, BODY_SHA256_HEADER

OURS = (
    "x-wallet-reason",
    "x-wallet-detail",
    "x-wallet-source",
    "x-wallet-exchange",
    "x-wallet-routing-key",
    "x-wallet-attempts",
    "x-wallet-first-seen",
    "x-wallet-worker",
    "x-wallet-seal",
)


def assert_dead_letter(
    letter: Received,
    body: bytes,
    *,
    reason: str,
    source: str = "wallet.commands",
    exchange: str | None = None,
    routing_key: str = "any.key",
    attempts: int = 1,
    headers: Mapping[str, FieldValue] | None = None,
) -> None:
    """The letter is the message that was published, untouched, with every header that says why.

    Of a body that was too large it has the beginning, and what it was.
    """
    theirs = {
        name: value
        for name, value in letter.headers.items()
        if name not in {*OURS, "x-wallet-sender", BODY_BYTES_HEADER, BODY_SHA256_HEADER}
    }
    is_cut = len(body) > BODY_BYTES_MAX
    assert letter.body == (body[:BODY_BYTES_KEPT] if is_cut else body)
    assert letter.headers.get(BODY_BYTES_HEADER) == (len(body) if is_cut else None)
    assert letter.headers.get(BODY_SHA256_HEADER) == (hashlib.sha256(body).hexdigest() if is_cut else None)
    assert theirs == dict(headers or {})
    assert letter.headers.keys() >= set(OURS)
    assert letter.exchange == "wallet.dead-letters"
    assert letter.properties.delivery_mode == 2
    detail, worker = letter.headers["x-wallet-detail"], letter.headers["x-wallet-worker"]
    assert isinstance(detail, str)
    assert 0 < len(detail.encode()) <= 1024
    assert isinstance(worker, str)
    assert re.fullmatch(rf"{re.escape(version('wallet-worker'))} \S+:\d+", worker)
    seen = letter.headers["x-wallet-first-seen"]
    assert isinstance(seen, str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", seen)
    assert abs(datetime.fromisoformat(seen) - datetime.now(UTC)) < timedelta(minutes=5)
    assert {name: letter.headers[name] for name in OURS if name not in _CHECKED_ABOVE} == {
        "x-wallet-reason": reason,
        "x-wallet-source": source,
        "x-wallet-exchange": source if exchange is None else exchange,
        "x-wallet-routing-key": routing_key,
        "x-wallet-attempts": attempts,
    }


_CHECKED_ABOVE = frozenset({"x-wallet-detail", "x-wallet-worker", "x-wallet-first-seen", "x-wallet-seal"})
