"""A dead letter whose fields the database rejects is kept with its bytes alone, and its neighbours are kept whole."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from tests.dead_letters.conftest import Wallet
from tests.dead_letters.letters import headers, properties
from wallet_worker.dead_letters import keeper
from wallet_worker.dead_letters.intake.classify import arrival
from wallet_worker.dead_letters.keeper import Keeper
from wallet_worker.settings.settings import Settings
from wallet_worker.store.dead_letters.arrivals import Arrival
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import ProcessMetrics

REJECTED = b"the third of five"


@pytest.mark.need(2)
async def test_a_letter_whose_fields_the_database_rejects_is_kept_raw_and_its_neighbours_whole(
    wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_nul(queue: str, body: bytes, *rest: Any, **more: Any) -> Arrival:
        letter = arrival(queue, body, *rest, **more)
        return replace(letter, detail="\0") if body == REJECTED else letter

    monkeypatch.setattr(keeper, "arrival", with_nul)
    for body in (b"1", b"2", REJECTED, b"4", b"5"):
        await wallet.upstream.publish(
            "wallet.dead-letters", body, routing_key="order.recharge", properties=properties(headers())
        )
    settings = Settings(
        database_url=SecretStr(wallet.workers.database_url),
        amqp_url=SecretStr(wallet.workers.amqp_url),
    )
    stopping = asyncio.Event()
    working = Keeper(settings, name="test", health=Health(), metrics=ProcessMetrics("keeper"))
    keeping = asyncio.create_task(working.run(stopping))

    await wallet.until_letters(5)
    stopping.set()
    await keeping

    rows = await wallet.owner.fetch("SELECT body, reason, exchange FROM dead_letters ORDER BY letter_id")
    whole = [(body, "INTERNAL", "wallet.commands") for body in (b"1", b"2", b"4", b"5")]
    assert sorted(tuple(row) for row in rows if row["body"] != REJECTED) == whole
    assert [tuple(row) for row in rows if row["body"] == REJECTED] == [(REJECTED, "UNKNOWN", None)]
    await wallet.until_empty("wallet.dead-letters")
