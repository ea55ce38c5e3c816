"""Dead letters as workers and the broker make them, for the keeper or straight for the database."""

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pamqp.commands import Basic
from pamqp.common import FieldValue

from tests import worker_keys
from tests.journeys.messages import Json, encoded
from wallet_schemas.keys import read_seal_key
from wallet_worker.broker.amqp.codec import RawTable, entries
from wallet_worker.broker.amqp.seal import SealKey, seal
from wallet_worker.dead_letters.intake.classify import arrival
from wallet_worker.store.dead_letters.arrivals import Arrival

_moments = itertools.count()


def headers(
    reason: str = "INTERNAL",
    detail: str = "the wallet failed on it",
    *,
    source: str = "wallet.commands",
    routing_key: str = "order.recharge",
    **more: FieldValue,
) -> dict[str, FieldValue]:
    """Return what a worker writes on a letter, each with a time of its own; and `more`, with `_` for `-`."""
    seen = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(microseconds=next(_moments))
    return {
        **{name.replace("_", "-"): value for name, value in more.items()},
        "x-wallet-reason": reason,
        "x-wallet-detail": detail,
        "x-wallet-source": source,
        "x-wallet-exchange": source,
        "x-wallet-routing-key": routing_key,
        "x-wallet-attempts": 1,
        "x-wallet-first-seen": seen.isoformat().replace("+00:00", "Z"),
        "x-wallet-worker": "0.0.0 test:1",
    }


def properties(answer: Mapping[str, FieldValue], **more: object) -> Basic.Properties:
    """Return persistent properties with these headers."""
    return Basic.Properties(delivery_mode=2, headers=RawTable(entries(answer)), **more)  # type: ignore[arg-type]


def sealed_by_worker(content: Json | bytes, found: Basic.Properties) -> Basic.Properties:
    """Return the properties of a letter with the seal that this run's workers have."""
    key = read_seal_key((worker_keys.folder() / "seal.json").read_text())
    seal(found, encoded(content), SealKey(*key))
    return found


def arrived(
    content: Json | bytes,
    answer: Mapping[str, FieldValue] | None = None,
    *,
    queue: str = "wallet.dead-letters",
    exchange: str = "wallet.dead-letters",
    routing_key: str = "order.recharge",
    redelivered: bool = False,
    **more: object,
) -> Arrival:
    """Return a letter as the keeper reads it."""
    return arrival(
        queue,
        encoded(content),
        properties(headers() if answer is None else answer, **more),
        exchange=exchange,
        routing_key=routing_key,
        redelivered=redelivered,
        now=datetime.now(UTC),
    )
