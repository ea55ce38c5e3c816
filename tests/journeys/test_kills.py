"""Workers are killed again and again while commands and results pour in: nothing is lost, nothing is doubled."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import TextIO

from pamqp.commands import Basic

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import Json, encoded, open_account, recharge, result, signed
from tests.journeys.upstream import COMMANDS, RESULTS, Received, Upstream
from tests.workers import WorkerProcess, until

USERS = 60
ORDERS_EACH = 24
KILLS_AT = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8)
"""How much of what is to happen has been told to the world when the next worker is killed."""


class Sender:
    """Publishes what it has noted, on disk, before: what was sent, and what the broker has confirmed."""

    def __init__(self, upstream: Upstream, notebook: TextIO) -> None:
        self._upstream = upstream
        self._notebook = notebook

    async def send(self, exchange: str, contents: list[Json]) -> None:
        """Publish some messages at the same time."""
        await asyncio.gather(*(self._send(exchange, content) for content in contents))

    async def _send(self, exchange: str, content: Json) -> None:
        body = encoded(content)
        number = content.get("serial_no") or content.get("payment_order_no")
        self._note("sent", exchange, str(number))
        properties = Basic.Properties(delivery_mode=2, headers={"x-signature": signed(body)})
        await self._upstream.publish(exchange, body, properties=properties)
        self._note("confirmed", exchange, str(number))

    def _note(self, what: str, exchange: str, number: str) -> None:
        self._notebook.write(json.dumps([what, exchange, number]) + "\n")
        self._notebook.flush()


async def answer_requests(upstream: Upstream, sender: Sender, orders: int, chance: random.Random) -> None:
    """Be a gateway: collect every payment that is asked for, and tell a quarter of the results twice or more."""
    answered: set[str] = set()
    looked_at = 0
    while len(answered) < orders:
        await upstream.requests.until_count(looked_at + 1)
        heard = [item.json for item in upstream.requests.received[looked_at:]]
        looked_at += len(heard)
        fresh = {
            item["payment_order_no"]: item["amount"]
            for item in heard
            if item["payment_order_no"] not in answered
        }
        results = [result(number, amount=amount) for number, amount in fresh.items()]
        again = [item for item in results for _ in range(chance.choice((0, 0, 0, 1, 2)))]
        await sender.send(RESULTS, chance.sample(results + again, len(results) + len(again)))
        answered |= fresh.keys()


async def test_workers_are_killed_under_load_and_nothing_is_lost_or_doubled(
    wallet: Wallet, tmp_path: Path
) -> None:
    upstream, chance = wallet.upstream, random.Random(2)
    users = [f"user-{number}" for number in range(USERS)]
    orders = [
        recharge(user, f"{chance.randrange(1, 100_000) / 100:.2f}", serial_no=f"R-{user}-{number}")
        for user in users
        for number in range(ORDERS_EACH)
    ]
    openings = [open_account(user, serial_no=f"O-{user}") for user in users]
    repeats = chance.sample(orders, len(orders) // 10)
    happenings = len(openings) + 2 * len(orders)  # opened, pending, succeeded
    path = tmp_path / "notebook"
    workers = [await wallet.workers.start() for _ in range(2)]

    with path.open("w") as notebook:
        sender = Sender(upstream, notebook)

        async def load() -> None:
            await sender.send(COMMANDS, openings)
            await until(wallet.owner, "SELECT count(*) FROM commands", len(openings))
            pouring = chance.sample(orders + repeats, len(orders) + len(repeats))
            for start in range(0, len(pouring), 100):
                await sender.send(COMMANDS, pouring[start : start + 100])

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            group.create_task(answer_requests(upstream, sender, len(orders), chance))
            for number, share in enumerate(KILLS_AT):
                await upstream.events.until_count(int(share * happenings))
                await workers[number % 2].kill()
                workers[number % 2] = await wallet.workers.launch()
    settled = "SELECT count(*) FROM orders WHERE status = 'succeeded'"
    await until(wallet.owner, settled, len(orders))
    await upstream.until_depth(COMMANDS, 0)
    await upstream.until_depth(RESULTS, 0)
    await upstream.settled(wallet.owner)

    notes = [json.loads(line) for line in path.read_text().splitlines()]
    confirmed = {number for what, exchange, number in notes if (what, exchange) == ("confirmed", COMMANDS)}
    applied = [row["serial_no"] for row in await wallet.owner.fetch("SELECT serial_no FROM commands")]
    assert (
        sorted(applied) == sorted(confirmed) == sorted(opening["serial_no"] for opening in openings + orders)
    )
    assert await wallet.owner.fetchval("SELECT count(*) FROM commands WHERE status <> 'applied'") == 0
    assert upstream.dead_letters.received == []
    assert told_once(upstream.events.received) == sorted(
        [(opening["serial_no"], "account.opened.v1") for opening in openings]
        + [
            (order["serial_no"], kind)
            for order in orders
            for kind in ("order.pending.v1", "order.succeeded.v1")
        ]
    )
    assert await balances(wallet) == model(orders)
    await assert_sound(wallet.owner)
    await drained(wallet, workers)


def told_once(events: list[Received]) -> list[tuple[str, str]]:
    """Return what the events say, each event_id once, however often it came."""
    fields = {event.json["event_id"]: (event.json["serial_no"], event.json["type"]) for event in events}
    return sorted(fields.values())


def model(orders: list[Json]) -> dict[str, int]:
    """Return what each user must have, in cents."""
    owed: Counter[str] = Counter()
    for order in orders:
        owed[order["user_id"]] += round(float(order["amount"]) * 100)
    return dict(owed)


async def balances(wallet: Wallet) -> dict[str, int]:
    """Return what each user has, in cents."""
    rows = await wallet.owner.fetch("SELECT user_id, balance FROM accounts WHERE kind = 'user'")
    return {row["user_id"]: row["balance"] for row in rows}


async def drained(wallet: Wallet, workers: list[WorkerProcess]) -> None:
    """Stop the workers; nothing comes back that they had not acknowledged."""
    for worker in workers:
        await worker.until_ready()
        assert await worker.stop() == 0
    for queue in (COMMANDS, RESULTS):
        assert await wallet.upstream.depth(queue) == 0
