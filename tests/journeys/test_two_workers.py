"""Races between two workers: the same thing given to both at once happens once."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.journeys.conftest import Wallet, a_wallet
from tests.journeys.ledger import assert_sound
from tests.journeys.messages import Json, encoded, fresh, open_account, recharge, result
from tests.journeys.upstream import COMMANDS, RESULTS, Upstream
from tests.servers import Servers
from tests.workers import WorkerProcess, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

COPIES = 4
ROUNDS = 50


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wallet(servers: Servers, migrated_url: str) -> AsyncIterator[Wallet]:
    """Give a wallet with two workers, which all tests here share."""
    async with a_wallet(servers, migrated_url) as wallet:
        for worker in [await wallet.workers.launch() for _ in range(2)]:
            await worker.until_ready()
        yield wallet


async def shares(wallet: Wallet, queue: str) -> list[float]:
    """Return how many messages of a queue each worker has ended."""
    return [await _ended(worker, queue) for worker in wallet.workers._started]


async def _ended(worker: WorkerProcess, queue: str) -> float:
    _, page = await worker.get("/metrics")
    lines = [line for line in page.splitlines() if line.startswith("wallet_messages_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'queue="{queue}"' in line)


def more(before: list[float], after: list[float]) -> list[float]:
    return [late - early for early, late in zip(before, after, strict=True)]


async def ask_all(upstream: Upstream, commands: list[Json]) -> list[Json]:
    """Publish everything at once; return the outcomes."""
    heard = [await upstream.command(command) for command in commands]
    return [await upstream.answer(item) for item in heard]


async def test_the_same_command_given_to_two_workers_has_one_outcome(wallet: Wallet) -> None:
    upstream = wallet.upstream
    user, before = await upstream.opened(), await shares(wallet, COMMANDS)
    orders = [recharge(user) for _ in range(ROUNDS)]

    outcomes = await ask_all(upstream, [order for order in orders for _ in range(COPIES)])
    await upstream.settled(wallet.owner)

    for order in orders:
        mine = [outcome for outcome in outcomes if outcome["serial_no"] == order["serial_no"]]
        assert sorted(outcome["duplicate"] for outcome in mine) == [False] + [True] * (COPIES - 1)
        assert {outcome["code"] for outcome in mine} == {"OK"}
        assert len(upstream.events.about(order["serial_no"])) == 1
        assert len(upstream.requests.about(order["serial_no"])) == 1
    assert min(more(before, await shares(wallet, COMMANDS))) >= ROUNDS
    await assert_sound(wallet.owner)


async def test_the_same_account_opened_on_two_workers_is_opened_once(wallet: Wallet) -> None:
    upstream = wallet.upstream
    users, before = [fresh("user") for _ in range(ROUNDS)], await shares(wallet, COMMANDS)

    outcomes = await ask_all(upstream, [open_account(user) for user in users for _ in range(COPIES)])
    await upstream.settled(wallet.owner)

    codes = Counter(outcome["code"] for outcome in outcomes)
    assert codes == {"OK": ROUNDS, "ACCOUNT_EXISTS": ROUNDS * (COPIES - 1)}
    assert {outcome["result"].get("user_id") for outcome in outcomes} == {None, *users}
    kept = "SELECT count(*), count(DISTINCT user_id) FROM accounts WHERE user_id = ANY ($1::text[])"
    assert tuple(await wallet.owner.fetchrow(kept, users) or ()) == (ROUNDS, ROUNDS)
    assert min(more(before, await shares(wallet, COMMANDS))) >= ROUNDS


async def test_the_same_result_given_to_two_workers_credits_once(wallet: Wallet) -> None:
    upstream = wallet.upstream
    user = await upstream.opened()
    orders = [recharge(user, "1.00") for _ in range(ROUNDS)]
    await ask_all(upstream, orders)
    before = await shares(wallet, RESULTS)

    heard = []
    for order in orders:
        body = encoded(result(order["serial_no"], amount="1.00"))
        heard += [await upstream.result(body) for _ in range(COPIES)]
    answers = [await upstream.answer(item) for item in heard]
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
    assert min(more(before, await shares(wallet, RESULTS))) > 0
    await assert_sound(wallet.owner)


async def test_a_result_and_its_order_on_two_workers_find_each_other(wallet: Wallet) -> None:
    upstream = wallet.upstream
    user = await upstream.opened()
    orders = [recharge(user, "1.00") for _ in range(ROUNDS)]

    for order in orders:
        await upstream.result(result(order["serial_no"], amount="1.00"))
        await upstream.command(order)
    paid = """
        SELECT count(*) FROM orders JOIN accounts USING (account_id) WHERE user_id = $1 AND orders.status = 'succeeded'
    """
    await until(wallet.owner, paid, ROUNDS, user)
    await upstream.settled(wallet.owner)

    assert upstream.dead_letters.received == []
    await assert_sound(wallet.owner)
