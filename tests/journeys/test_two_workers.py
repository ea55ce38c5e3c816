"""Races between two workers: the same thing given to both at once happens once."""

from collections import Counter

import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import Json, encoded, fresh, open_account, recharge, result
from tests.journeys.upstream import COMMANDS, Upstream
from tests.workers import WorkerProcess, until

COPIES = 4
ROUNDS = 50


@pytest.fixture
async def pair(wallet: Wallet) -> list[WorkerProcess]:
    """Give two workers that are ready."""
    launched = [await wallet.workers.launch() for _ in range(2)]
    for worker in launched:
        await worker.until_ready()
    return launched


async def shares(pair: list[WorkerProcess], queue: str) -> list[float]:
    """Return how many messages of a queue each worker has ended."""
    ended = []
    for worker in pair:
        _, page = await worker.get("/metrics")
        lines = [line for line in page.splitlines() if line.startswith("wallet_messages_total{")]
        ended.append(sum(float(line.rpartition(" ")[2]) for line in lines if f'queue="{queue}"' in line))
    return ended


async def ask_all(upstream: Upstream, commands: list[Json]) -> list[Json]:
    """Publish everything at once; return the outcomes."""
    asked = [await upstream.command(command) for command in commands]
    return [await upstream.answer(one) for one in asked]


async def test_the_same_command_given_to_two_workers_has_one_outcome(
    wallet: Wallet, pair: list[WorkerProcess]
) -> None:
    upstream = wallet.upstream
    user = await upstream.opened()
    orders = [recharge(user) for _ in range(ROUNDS)]

    outcomes = await ask_all(upstream, [order for order in orders for _ in range(COPIES)])
    await upstream.settled(wallet.owner)

    for order in orders:
        mine = [outcome for outcome in outcomes if outcome["serial_no"] == order["serial_no"]]
        assert sorted(outcome["duplicate"] for outcome in mine) == [False] + [True] * (COPIES - 1)
        assert {outcome["code"] for outcome in mine} == {"OK"}
        assert len(upstream.events.about(order["serial_no"])) == 1
        assert len(upstream.requests.about(order["serial_no"])) == 1
    assert await wallet.owner.fetchval("SELECT count(*) FROM orders") == ROUNDS
    assert all(share >= ROUNDS for share in await shares(pair, COMMANDS))
    await assert_sound(wallet.owner)


async def test_the_same_account_opened_on_two_workers_is_opened_once(
    wallet: Wallet, pair: list[WorkerProcess]
) -> None:
    upstream = wallet.upstream
    users = [fresh("user") for _ in range(ROUNDS)]

    outcomes = await ask_all(upstream, [open_account(user) for user in users for _ in range(COPIES)])
    await upstream.settled(wallet.owner)

    codes = Counter(outcome["code"] for outcome in outcomes)
    assert codes == {"OK": ROUNDS, "ACCOUNT_EXISTS": ROUNDS * (COPIES - 1)}
    assert {outcome["result"].get("user_id") for outcome in outcomes} == {None, *users}
    assert await wallet.owner.fetchval("SELECT count(*) FROM accounts WHERE kind = 'user'") == ROUNDS
    assert all(share >= ROUNDS for share in await shares(pair, COMMANDS))


async def test_the_same_result_given_to_two_workers_credits_once(
    wallet: Wallet, pair: list[WorkerProcess]
) -> None:
    upstream = wallet.upstream
    user = await upstream.opened()
    orders = [recharge(user, "1.00") for _ in range(ROUNDS)]
    await ask_all(upstream, orders)

    asked = []
    for order in orders:
        body = encoded(result(order["serial_no"], amount="1.00"))
        asked += [await upstream.result(body) for _ in range(COPIES)]
    answers = [await upstream.answer(one) for one in asked]
    await upstream.settled(wallet.owner)

    assert Counter(answer["processing_status"] for answer in answers) == {
        "processed": ROUNDS,
        "duplicate": ROUNDS * (COPIES - 1),
    }
    statement = await upstream.query(
        {"type": "statement.get.v1", "user_id": user, "currency": "TWD", "limit": 1_000}
    )
    assert statement["closing_balance"] == f"{ROUNDS}.00"
    assert [entry["line_no"] for entry in statement["entries"]] == list(range(1, ROUNDS + 1))
    assert all(share > 0 for share in await shares(pair, "payment.results"))
    await assert_sound(wallet.owner)


async def test_a_result_and_its_order_on_two_workers_find_each_other(
    wallet: Wallet, pair: list[WorkerProcess]
) -> None:
    upstream = wallet.upstream
    user = await upstream.opened()
    orders = [recharge(user, "1.00") for _ in range(ROUNDS)]

    for order in orders:
        await upstream.result(result(order["serial_no"], amount="1.00"))
        await upstream.command(order)
    await until(wallet.owner, "SELECT count(*) FROM orders WHERE status = 'succeeded'", ROUNDS)
    await upstream.settled(wallet.owner)

    assert upstream.dead_letters.received == []
    assert len(pair) == 2
    await assert_sound(wallet.owner)
