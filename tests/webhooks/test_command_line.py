"""`wallet webhooks add, list, rotate, …` on a real database: what operators do about a client's endpoints."""

import json

import asyncpg

from tests.cli.terminal import wallet

URL = "https://shop.example/wallet"
EVENT = "019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e"


async def test_operators_add_list_replay_and_disable_endpoints(database_url: str) -> None:
    database = {"WALLET_DATABASE_URL": database_url}

    async def webhooks(*arguments: str, status: int = 0) -> str:
        ended = await wallet("webhooks", *arguments, **database)
        assert ended.status == status, ended
        return ended.out or ended.err

    no_key = await webhooks("add", "shop", "orders", URL, status=1)
    await wallet("api", "key", "add", "shop", "--role", "upstream", "--users", "shop7:", **database)
    secret = await webhooks("add", "shop", "orders", URL, "--types", "order.*,account.opened")
    twice = await webhooks("add", "shop", "orders", URL, status=1)
    beyond = await webhooks("add", "shop", "more", URL, "--users", "other:", status=2)
    inside = await webhooks("add", "shop", "more", "https://169.254.169.254/", status=2)
    no_event = await webhooks("add", "shop", "more", URL, "--types", "orders.*", status=2)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            """
            INSERT INTO webhook_deliveries (endpoint_id, event_id, kind, body, state, attempts, next_at, attempted_at,
                                            answer, created_at)
            SELECT endpoint_id, $1, 'order.pending', '{}', 'given_up', 10, now(), now(), 'its host is not known', now()
            FROM webhook_endpoints
            """,
            EVENT,
        )
        stored = await connection.fetchval("SELECT secret FROM webhook_secrets")
    finally:
        await connection.close()
    (given_up,) = json.loads(await webhooks("deliveries", "shop", "orders", "--json"))["deliveries"]
    no_time = await webhooks("replay", "shop", "orders", "--since", "yesterday", status=2)
    replayed = await webhooks("replay", "shop", "orders", "--since", "2026-01-02T08:00:00.1234567+08:00")
    table = await webhooks("deliveries", "shop", "orders", "--state", "waiting")
    rotated = await webhooks("rotate", "shop", "orders")
    await webhooks("disable", "shop", "orders", "--why", "its certificate has expired")
    (disabled,) = json.loads(await webhooks("list", "shop", "--json"))["endpoints"]
    await webhooks("enable", "shop", "orders")
    nobody = await webhooks("enable", "shop", "nobody", status=1)

    assert "wallet api key add shop" in no_key
    assert secret.strip() == stored
    assert rotated.strip().startswith("whsec_")
    assert rotated != secret
    assert "has an endpoint orders already" in twice
    assert "shop7:" in beyond
    assert "no public address" in inside
    assert "orders.*" in no_event
    assert (given_up["event_id"], given_up["state"], given_up["next_at"]) == (EVENT, "given_up", None)
    assert "yesterday: " in no_time
    assert "%" not in no_time
    assert replayed.strip() == "1 event is posted again"
    assert "order.pending" in table
    assert (disabled["state"], disabled["users"], disabled["types"]) == (
        "disabled",
        "shop7:",
        ["order.*", "account.opened"],
    )
    assert "has no endpoint nobody" in nobody
