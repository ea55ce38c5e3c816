"""Rows 19 to 21 of docs/faults.md and need 16 of docs/operators-needs.md: what fails in the middle is done once."""

import asyncio
import signal
from collections import defaultdict
from dataclasses import dataclass

import asyncpg
import pytest

from tests.dead_letters.conftest import OTTO, Wallet
from tests.dead_letters.letters import arrived
from tests.dead_letters.people import agreed
from tests.faults.proxy import Proxy
from tests.journeys.messages import encoded, recharge, result, signed, transfer
from tests.journeys.upstream import Received
from tests.workers import WorkerProcess, until
from wallet_worker.audit.report import audit
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import StaleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.settings.operators import Role

OLGA = Actor("olga", Role.OPERATOR, "tests")

LETTERS = 10_000


@dataclass(frozen=True, slots=True)
class Transfers:
    """Transfers from one user to another, each a dead letter: a second effect of one would show in every figure."""

    wallet: Wallet
    payer: str
    payee: str
    amounts_minor: dict[str, int]
    """By serial number."""

    @classmethod
    async def set_aside(cls, wallet: Wallet, count: int) -> "Transfers":
        """Return so many, taken in."""
        payer, payee = await wallet.upstream.funded("10000.00"), await wallet.upstream.opened()
        amounts_minor = [1 + number % 97 for number in range(count)]
        orders = [transfer(payer, payee, f"{minor / 100:.2f}") for minor in amounts_minor]
        for start in range(0, count, 500):
            await wallet.take_in(*(arrived(order) for order in orders[start : start + 500]))
        serials = [order["serial_no"] for order in orders]
        return cls(wallet, payer, payee, dict(zip(serials, amounts_minor, strict=True)))

    async def assert_each_moved_its_money_once(self) -> None:
        """The balances, the lines and the events are those of one effect each, and every letter is resolved."""
        count, total_minor = len(self.amounts_minor), sum(self.amounts_minor.values())
        owner = self.wallet.owner
        users = [self.payer, self.payee]
        balances = await owner.fetch("SELECT user_id, balance FROM accounts WHERE user_id = ANY ($1)", users)
        lines = await owner.fetch(
            "SELECT user_id, direction, count(*), sum(e.amount) FROM entries e JOIN accounts USING (account_id)"
            " JOIN orders USING (order_id) WHERE order_type = 'transfer' GROUP BY user_id, direction"
        )
        assert {row["user_id"]: row["balance"] for row in balances} == {
            self.payer: 1_000_000 - total_minor,
            self.payee: total_minor,
        }
        assert {tuple(line) for line in lines} == {
            (self.payer, "debit", count, total_minor),
            (self.payee, "credit", count, total_minor),
        }
        heard: defaultdict[str, set[str]] = defaultdict(set)

        def is_first_of_its_order(event: Received) -> bool:
            serial_no, event_id = event.json["serial_no"], event.json["event_id"]
            if serial_no not in self.amounts_minor:
                return False
            is_first = serial_no not in heard
            heard[serial_no].add(event_id)
            return is_first

        await self.wallet.upstream.events.until(is_first_of_its_order, count)
        assert {len(event_ids) for event_ids in heard.values()} == {1}
        assert (await audit(self.wallet.workers.database_url)).clean
        letters = await owner.fetch("SELECT state, count(*) FROM dead_letters GROUP BY state")
        assert [tuple(row) for row in letters] == [("resolved", count)]


async def died(worker: WorkerProcess) -> None:
    """Wait until a worker has killed itself."""
    assert await asyncio.wait_for(worker.process.wait(), 60) == -signal.SIGKILL


async def test_row_19_a_keeper_killed_after_insert_and_before_ack_leaves_one_record(wallet: Wallet) -> None:
    dying = await wallet.start(WALLET_FAILPOINT="after_taking_in")
    await wallet.upstream.publish("wallet.commands", b"no JSON")
    await died(dying)
    assert len(await wallet.ids()) == 1  # inserted

    await wallet.start()

    await until(wallet.owner, "SELECT times FROM dead_letter_attempts", 2)  # delivered again
    assert len(await wallet.ids()) == 1
    await wallet.until_empty("wallet.dead-letters")


async def test_row_20_a_replay_killed_between_publish_and_mark_has_one_effect(wallet: Wallet) -> None:
    dying = await wallet.start(WALLET_FAILPOINT="after_replay")
    user = await wallet.upstream.opened()
    order = recharge(user)
    (letter_id,) = await wallet.set_aside(order)
    await wallet.replayed([letter_id])
    await died(dying)
    marked = await wallet.owner.fetchval("SELECT state FROM dead_letter_replays")

    worker = await wallet.start()

    await wallet.until_state(letter_id, "resolved")
    await wallet.until_empty("wallet.commands")
    assert marked == "ordered"
    assert (
        await wallet.owner.fetchval("SELECT count(*) FROM orders WHERE serial_no = $1", order["serial_no"])
        == 1
    )
    assert await wallet.owner.fetchval("SELECT count(*) FROM dead_letter_replays") == 1
    assert await wallet.ids() == [letter_id]
    settled = worker.events("batch.settled")
    assert sum(int(str(line.get("repeated", 0))) for line in settled) == 1  # the second copy, recognised


async def test_row_20_a_replay_ordered_twice_by_two_operators_happens_once(wallet: Wallet) -> None:
    worker = await wallet.start()
    user = await wallet.upstream.opened()
    order = recharge(user)
    (letter_id,) = await wallet.set_aside(order)
    which = Filter(ids=(letter_id,))
    plans = [await wallet.operations.plan(who, Action.REPLAY, which, reason="mine") for who in (OTTO, OLGA)]

    ended = await asyncio.gather(
        *(wallet.operations.execute(who, plan.token) for who, plan in zip((OTTO, OLGA), plans, strict=True)),
        return_exceptions=True,
    )

    await wallet.until_state(letter_id, "resolved")
    (late,) = [item for item in ended if isinstance(item, BaseException)]
    assert isinstance(late, StaleError)
    assert f"letter {letter_id} is" in str(late)  # … being replayed by whom, or resolved by now
    assert await wallet.owner.fetchval("SELECT count(*) FROM dead_letter_replays") == 1
    assert not [line for line in worker.events("batch.settled") if line.get("repeated")]


async def test_row_21_a_replay_of_what_was_applied_meanwhile_gets_the_stored_outcome(wallet: Wallet) -> None:
    await wallet.start()
    user = await wallet.upstream.opened()
    order = recharge(user)
    (letter_id,) = await wallet.set_aside(order)
    await wallet.upstream.paid(user, serial_no=order["serial_no"])

    predicted = (await wallet.operations.letter(OTTO, letter_id)).prediction
    await wallet.replayed([letter_id])

    await wallet.until_state(letter_id, "resolved")
    assert predicted.label == "repeats the stored outcome"
    (replay,) = (await wallet.operations.letter(OTTO, letter_id)).replays
    assert (replay.state, replay.code) == ("resolved", "OK")
    assert await wallet.owner.fetchval("SELECT balance FROM accounts WHERE user_id = $1", user) == 10_000


async def test_row_21_a_result_that_was_paid_meanwhile_credits_once(wallet: Wallet) -> None:
    await wallet.start()
    user = await wallet.upstream.opened()
    order = recharge(user)
    await wallet.upstream.outcome(order)
    body = encoded(result(order["serial_no"]))
    (letter_id,) = await wallet.set_aside(body, source="payment.results", x_signature=signed(body))
    await wallet.upstream.processed(body)

    await wallet.replayed([letter_id])

    await wallet.until_state(letter_id, "resolved")
    assert await wallet.owner.fetchval("SELECT balance FROM accounts WHERE user_id = $1", user) == 10_000


@pytest.mark.need(1)
async def test_many_replays_killed_half_way_go_on_and_every_effect_is_once(wallet: Wallet) -> None:
    worker = await wallet.start()
    made = await Transfers.set_aside(wallet, LETTERS)
    pace = ReplayPace(canary=3, rate_per_second=10_000)
    plan = await wallet.operations.plan(OTTO, Action.REPLAY, Filter(), reason="mended", pace=pace)
    await agreed(wallet.operations, wallet.owner, plan)
    operation = await wallet.operations.execute(OTTO, plan.token)
    number = operation.operation_id

    half = "SELECT count(published_at) >= $2 FROM dead_letter_replays WHERE operation_id = $1"
    await until(wallet.owner, half, True, number, LETTERS // 2)  # noqa: FBT003 -- what the query says
    await worker.kill()
    standing = await wallet.operations.operation(OTTO, number)
    await wallet.start()
    await wallet.until_operation(number, "done", seconds=240)

    after = await wallet.operations.operation(OTTO, number)
    assert standing.ended_at is None
    assert standing.ordered > 0
    assert (after.resolved, after.failed, after.cancelled, after.total) == (LETTERS, 0, 0, LETTERS)
    await made.assert_each_moved_its_money_once()


@pytest.mark.need(16)
async def test_a_keeper_alone_does_it_all_beside_a_worker_without_one(wallet: Wallet) -> None:
    await wallet.workers.start()  # WALLET_KEEPER is false there
    keeper = await wallet.start_keeper()
    user = await wallet.upstream.opened()
    (letter_id,) = await wallet.set_aside(recharge(user))

    await wallet.replayed([letter_id])

    await wallet.until_state(letter_id, "resolved")
    text = "SELECT standing FROM dead_letter_keepers"
    await until(wallet.owner, text, "at work")
    assert await keeper.stop() == 0
    assert (await wallet.operations.overview(OTTO)).depths["wallet.dead-letters"] == 0


@pytest.mark.need(16)
async def test_while_the_database_is_away_the_queue_keeps_the_letters(wallet: Wallet) -> None:
    worker = await wallet.start()
    allow = "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}"
    name = await wallet.owner.fetchval("SELECT current_database()")
    end = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'wallet %'
          AND application_name <> 'wallet tests'
    """
    elsewhere = await asyncpg.connect(wallet.servers.database_url)
    await elsewhere.execute(allow.format(name, "false"))
    try:
        await wallet.owner.execute(end)
        await worker.until_ready(ready=False)
        await wallet.upstream.publish("wallet.dead-letters", b"while it is away")
    finally:
        await elsewhere.execute(allow.format(name, "true"))
        await elsewhere.close()

    await wallet.until_letters(1)
    await wallet.until_empty("wallet.dead-letters")


@pytest.mark.need(16)
async def test_while_the_broker_is_away_lists_and_orders_work_and_it_goes_on_by_itself(
    wallet: Wallet,
) -> None:
    worker = await wallet.start()
    user = await wallet.upstream.opened()
    (letter_id,) = await wallet.set_aside(recharge(user))
    assert await worker.stop() == 0
    away = await wallet.start_keeper(WALLET_AMQP_URL="amqp://nobody@127.0.0.1:1/", ready=False)

    assert await wallet.ids() == [letter_id]
    await wallet.replayed([letter_id])
    waiting = "SELECT standing LIKE 'waiting for the broker%' FROM dead_letter_operations"
    await until(wallet.owner, waiting, True)  # noqa: FBT003 -- what the query says
    assert await away.stop() == 0
    await wallet.start()

    await wallet.until_state(letter_id, "resolved")


@pytest.mark.parametrize("part", ["after_taking_in", "after_replay"])
async def test_the_failpoints_are_inert_unless_switched_on(wallet: Wallet, part: str) -> None:
    worker = await wallet.start(WALLET_FAILPOINT=f"{part}:1000")
    user = await wallet.upstream.opened()
    (letter_id,) = await wallet.set_aside(recharge(user))

    await wallet.replayed([letter_id])

    await wallet.until_state(letter_id, "resolved")
    assert worker.process.returncode is None


async def some_published(wallet: Wallet, count: int) -> None:
    """Wait until so many replays are published."""
    query = "SELECT count(published_at) >= $1 FROM dead_letter_replays"
    await until(wallet.owner, query, True, count)  # noqa: FBT003 -- what the query says


@pytest.mark.need(16)
async def test_the_broker_is_lost_in_the_middle_of_a_replay(wallet: Wallet) -> None:
    async with Proxy(wallet.workers.amqp_url) as proxy:
        await wallet.start(WALLET_AMQP_URL=proxy.url)
        made = await Transfers.set_aside(wallet, 90)
        plan = await wallet.operations.plan(
            OTTO, Action.REPLAY, Filter(), reason="x", pace=ReplayPace(rate_per_second=30)
        )
        operation = await wallet.operations.execute(OTTO, plan.token)

        for count in (15, 30, 45):
            await some_published(wallet, count)
            assert proxy.reset(b"wallet keeper: replays") == 1
        proxy.refuse()
        text = "SELECT starts_with(standing, 'waiting for the broker, and then going on') FROM dead_letter_operations"
        await until(wallet.owner, text, True)  # noqa: FBT003 -- what the query says
        proxy.heal()

        await wallet.until_operation(operation.operation_id, "done", seconds=120)
        await made.assert_each_moved_its_money_once()


@pytest.mark.need(16)
async def test_the_database_is_lost_in_the_middle_of_a_replay(wallet: Wallet) -> None:
    async with Proxy(wallet.workers.database_url) as proxy:
        worker = await wallet.start(WALLET_DATABASE_URL=proxy.url)
        made = await Transfers.set_aside(wallet, 90)
        plan = await wallet.operations.plan(
            OTTO, Action.REPLAY, Filter(), reason="x", pace=ReplayPace(rate_per_second=30)
        )
        operation = await wallet.operations.execute(OTTO, plan.token)

        for count in (15, 30, 45):
            await some_published(wallet, count)
            proxy.reset()
        proxy.refuse()
        await worker.until_ready(ready=False)
        proxy.heal()

        await wallet.until_operation(operation.operation_id, "done", seconds=120)
        await made.assert_each_moved_its_money_once()


@pytest.mark.need(16)
async def test_a_keeper_that_cannot_work_says_why_and_ends(wallet: Wallet) -> None:
    async with wallet.servers.database() as empty_url:
        keeper = await wallet.start_keeper(WALLET_DATABASE_URL=empty_url, ready=False)

        assert await asyncio.wait_for(keeper.process.wait(), 60) == 1

    (line,) = keeper.events("keeper.cannot_run")
    assert "run `wallet migrate`" in str(line["reason"])
