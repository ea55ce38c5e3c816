"""A gateway that speaks HTTP, in its behaviours: the simulator posts its results to a running API."""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg
import httpx2 as httpx

from tests.api.money import depth, opened, recharge
from tests.api.process import ApiProcess, Apis
from tests.workers import Workers, until

KEYS = json.dumps({"test-1": "a secret of this simulated gateway"})


async def test_results_that_are_posted_settle_orders_whatever_behaviour_the_gateway_is_in(
    workers: Workers, apis: Apis, key: str, amqp_url: str, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await workers.start(WALLET_PAYMENT_KEYS=KEYS, WALLET_DEMO="1", WALLET_PAYMENT_INQUIRY_SECONDS="3600")
    api = await apis.start(WALLET_PAYMENT_KEYS=KEYS, WALLET_DEMO="1")
    async with api.client(key) as http:
        await settles(api, http, amqp_url, owner, tmp_path)


async def settles(
    api: ApiProcess, http: httpx.AsyncClient, amqp_url: str, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await opened(http, "alice")
    wanted = {
        "card": "succeeded",
        "sandbox_declined": "failed",
        "sandbox_unknown_then_succeeded": "succeeded",
        "sandbox_duplicate": "succeeded",
        "sandbox_contradiction": "succeeded",
        "sandbox_bad_signature": "pending",
        "sandbox_wrong_amount": "pending",
    }
    log = (tmp_path / "simulator.log").open("wb")
    simulator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "payment_simulator",
        "--amqp-url", amqp_url,
        "--state", str(tmp_path / "state.sqlite"),
        "--delay-min-seconds", "0", "--delay-max-seconds", "0.1", "--late-after-seconds", "1",
        "--results-to", f"{api.url}/v1/payment-results",
        env={"WALLET_PAYMENT_KEYS": KEYS, "PATH": ""},
        stderr=log, stdout=log,
    )  # fmt: skip
    try:
        for channel in wanted:
            answer = await http.post(
                "/v1/recharges",
                json=recharge("alice") | {"recharge_type": channel},
                headers={"Idempotency-Key": f"R-{channel}"},
            )
            assert answer.status_code == 201, answer.text
        await until(owner, "SELECT count(*) FROM orders WHERE status <> 'pending'", 5)
        # The contradiction and the wrong amount: signed, so that an operator has to look. Two, and no third.
        async with asyncio.timeout(60):
            while await depth(amqp_url) < 2:  # noqa: ASYNC110 -- the broker tells nobody how deep a queue is
                await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            while not refused_at_the_door(await api.get("/metrics")):  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.1)
    finally:
        if simulator.returncode is None:
            simulator.terminate()
        await simulator.wait()
        log.close()

    found = await owner.fetch("SELECT serial_no, status FROM orders")
    assert {row["serial_no"].removeprefix("R-"): row["status"] for row in found} == wanted
    assert await owner.fetchval("SELECT balance FROM accounts WHERE user_id = 'alice'") == 400_00
    assert await depth(amqp_url) == 2, "what was forged is refused at the door, and no dead letter"


def refused_at_the_door(answer: tuple[int, str]) -> bool:
    return 'reason="BAD_SIGNATURE"' in answer[1]
