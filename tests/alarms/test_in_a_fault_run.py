"""Each alarm rings on what real processes show when its fault is made: workers, keepers, and the audit."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from pamqp.commands import Basic

from tests.alarms.rules import ALARMS, ringing
from tests.alarms.scrapes import BEFORE_MINUTES, Scrape, drawn_out, scraped
from tests.api.process import Apis
from tests.dead_letters.conftest import OTTO, Wallet, a_wallet
from tests.dead_letters.letters import arrived, headers, properties
from tests.faults.proxy import Proxy
from tests.journeys.messages import fresh, open_account, recharge, result, withdraw
from tests.servers import Servers
from tests.servers.ports import free_ports
from tests.workers import WorkerProcess, until
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.dead_letters.model.states import Action

LATE = BEFORE_MINUTES + 100
"""A minute by which every alarm rings whose state lasts."""
SOON = BEFORE_MINUTES + 12
"""A minute by which one rings that is about a change."""


class House:
    """A wallet with its processes by name, and what Prometheus sees of them."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        self.processes: dict[str, WorkerProcess] = {}
        self.apis: Apis | None = None

    async def start(self, *names: str, **settings: str) -> None:
        """Start processes: each name begins with worker, keeper, api or audit."""
        for name in names:
            if name.startswith("worker"):
                self.processes[name] = await self.wallet.workers.start(**settings)
            elif name.startswith("api"):
                self.apis = Apis.beside(self.wallet.workers)
                self.processes[name] = await self.apis.start()
            elif name.startswith("keeper"):
                self.processes[name] = await self.wallet.start_keeper(ready=True, **settings)
            else:
                await self._start_audit(name)

    async def _start_audit(self, name: str) -> None:
        (port,) = free_ports(1)
        workers = self.wallet.workers
        program, workers.program = (
            workers.program,
            (*("-m", "wallet_worker", "audit", "--follow"), *("--every", "0.1", "--metrics-port", str(port))),
        )
        try:
            process = await workers.launch()
        finally:
            workers.program = program
        process.port = port
        self.processes[name] = process
        await self.until("wallet_audit_checked_timestamp_seconds", lambda value: value > 0)

    async def scrape(self) -> Scrape:
        """Return what all of them show now."""
        return await scraped(self.processes)

    async def until(self, name: str, wanted: Callable[[float], bool], seconds: float = 60.0) -> Scrape:
        """Return what they show once a series that begins so has a wanted value."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.scrape()
                if any(each.startswith(name) and wanted(value) for each, value in found.items()):
                    return found
                await asyncio.sleep(0.1)

    async def rings(self, before: Scrape, after: Scrape, minute: int = LATE) -> set[str]:
        """Return the alarms that ring, of those that did not ring before."""
        series = drawn_out(before, after)
        return set(await ringing(series, minute)) - set(await ringing(series, BEFORE_MINUTES - 1))


@pytest.fixture
async def house(servers: Servers, migrated_url: str) -> AsyncIterator[House]:
    """Give a wallet of the test's own, without a process yet."""
    async with a_wallet(servers, migrated_url) as wallet:
        house = House(wallet)
        yield house
        if house.apis is not None:
            await house.apis.__aexit__(None, None, None)


Fault = Callable[[House], Awaitable[tuple[Scrape, Scrape]]]
FAULTS: dict[str, tuple[Fault, frozenset[str], int]] = {}
"""Each fault by its name, with the alarms that it makes ring, and by when."""


def makes(*alarms: str, by: int = LATE) -> Callable[[Fault], Fault]:
    """Register the fault that makes alarms ring."""

    def register(fault: Fault) -> Fault:
        FAULTS[fault.__name__] = fault, frozenset(alarms), by
        return fault

    return register


async def test_none_rings_while_all_is_well(house: House) -> None:
    await house.start("worker-1", "worker-2", "keeper", "audit")
    user = await house.wallet.upstream.funded()
    assert await house.wallet.upstream.balances(user) == ("100.00", "100.00")
    await house.until("wallet_dead_letters{", lambda _: True)
    await house.until("wallet_queue_messages{", lambda _: True)
    before = await house.until("wallet_dead_letters_keeper_working", lambda value: value == 1)

    after = await house.scrape()

    for minute in (BEFORE_MINUTES - 1, SOON, LATE):
        assert await ringing(drawn_out(before, after), minute) == {}


@makes("WalletNoApi")
async def every_api_is_killed(house: House) -> tuple[Scrape, Scrape]:
    """A worker goes on, and says that it is ready."""
    await house.start("worker", "api")
    before = await house.scrape()
    await house.processes["api"].kill()
    return before, await house.scrape()


@makes("WalletNoWorker")
async def every_worker_is_killed(house: House) -> tuple[Scrape, Scrape]:
    """A keeper goes on, and says that it is ready."""
    await house.start("worker-1", "worker-2", "keeper")
    before = await house.scrape()
    for name in ("worker-1", "worker-2"):
        await house.processes[name].kill()
    return before, await house.scrape()


@makes("WalletWorkerNotReady")
async def a_worker_loses_its_database(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker-1")
    async with Proxy(house.wallet.workers.database_url) as proxy:
        await house.start("worker-2", WALLET_DATABASE_URL=proxy.url)
        before = await house.scrape()
        proxy.refuse()
        await house.processes["worker-2"].until_ready(ready=False, seconds=60)
        return before, await house.scrape()


@makes("WalletKeeperMissing")
async def every_keeper_is_killed(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker", "keeper")
    before = await house.until("wallet_dead_letters_keeper_working", lambda value: value == 1)
    await house.processes["keeper"].kill()
    return before, await house.scrape()


@makes("WalletQueueNotRead")
async def commands_wait_and_nobody_reads_them(house: House) -> tuple[Scrape, Scrape]:
    await house.start("keeper")
    series = 'wallet_queue_not_empty_seconds{queue="wallet.commands"'
    before = await house.until(series, lambda value: value == 0)
    await house.wallet.upstream.publish("wallet.commands", open_account(fresh("user")))
    first = await house.until(series, lambda value: value > 0)
    then = await house.until(series, lambda value: value > max(_of(first, series)) + 4)
    assert min(_of(then, series)) > 4  # it grows, as it is drawn out
    return before, then


@makes("WalletQueueGrows")
async def fifty_thousand_commands_wait(house: House) -> tuple[Scrape, Scrape]:
    await house.start("keeper")
    series = 'wallet_queue_messages{queue="wallet.commands"'
    before = await house.until(series, lambda value: value == 0)
    channel = await house.wallet.upstream.new_channel()
    for _ in range(51):
        await asyncio.gather(
            *(
                channel.basic_publish(
                    b"{}",
                    exchange="wallet.commands",
                    routing_key="x",
                    properties=Basic.Properties(),
                    wait=False,
                )
                for _ in range(1_000)
            )
        )
    return before, await house.until(series, lambda value: value > 50_000)


@makes("WalletOutboxOverdue")
async def a_promised_message_has_no_exchange(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker")
    before = await house.until("wallet_outbox_oldest_seconds", lambda value: value == 0)
    await house.wallet.owner.execute(
        """
        INSERT INTO outbox (message_id, exchange, routing_key, body, created_at, publish_after)
        VALUES (gen_random_uuid(), 'no.such.exchange', 'x', '{}', now() - interval '10 minutes', now())
        """
    )
    return before, await house.until("wallet_outbox_oldest_seconds", lambda value: value > 300)


@makes("WalletLedgerWrong")
async def a_balance_is_changed_past_the_ledger(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker")
    user = await house.wallet.upstream.funded()
    await house.start("audit")
    before = await house.scrape()
    await house.wallet.owner.execute("UPDATE accounts SET balance = balance + 1 WHERE user_id = $1", user)
    return before, await house.until("wallet_audit_findings", lambda value: value > 0)


@makes("WalletAuditMissing")
async def the_audit_is_killed(house: House) -> tuple[Scrape, Scrape]:
    await house.start("audit")
    before = await house.scrape()
    await house.processes["audit"].kill()
    return before, await house.scrape()


@makes("WalletOrdersOverdue")
async def orders_are_due_and_no_worker_is_there(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker", "keeper")
    await house.wallet.upstream.applied(recharge(await house.wallet.upstream.opened()))
    before = await house.until("wallet_orders_overdue", lambda value: value == 0)
    await house.processes["worker"].kill()
    await house.wallet.owner.execute("UPDATE orders SET due_at = now() - interval '5 minutes'")
    return before, await house.until("wallet_orders_overdue", lambda value: value == 1)


@makes("WalletPayoutOld")
async def a_withdrawal_waits_for_a_day(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker", "keeper")
    await house.wallet.upstream.applied(withdraw(await house.wallet.upstream.funded()))
    before = await house.until("wallet_payouts_oldest_pending_seconds", lambda value: value > 0)
    await house.processes["worker"].kill()
    await house.wallet.owner.execute("UPDATE orders SET created_at = created_at - interval '25 hours'")
    return before, await house.until("wallet_payouts_oldest_pending_seconds", lambda value: value > 86_400)


@makes("WalletDeadLettersNotTakenIn")
async def a_letter_comes_and_no_keeper_is_there(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker")
    series = 'wallet_queue_messages{queue="wallet.dead-letters"'
    before = await house.until(series, lambda value: value == 0)
    await house.wallet.upstream.publish("wallet.commands", b"no JSON")
    return before, await house.until(series, lambda value: value == 1)


@makes("WalletDeadLettersWaiting", "WalletDeadLetterNewGroup")
async def a_malformed_command_is_sent(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker", "keeper")
    before = await house.until("wallet_dead_letters{", lambda _: True)
    await house.wallet.upstream.publish("wallet.commands", b"no JSON")
    return before, await house.until("wallet_dead_letters_group_new", lambda value: value == 1)


@makes("WalletDeadLetterForged")
async def a_result_is_forged(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker", "keeper")
    before = await house.until("wallet_dead_letters{", lambda _: True)
    await house.wallet.upstream.result(result(fresh("R")), signature="t=1,kid=k1,v1=00")
    return before, await house.until(
        'wallet_dead_letters_group_waiting{reason="BAD_SIGNATURE"', lambda value: value == 1
    )


@makes("WalletDeadLettersMany", "WalletDeadLetterOld")
async def a_thousand_letters_wait_for_hours(house: House) -> tuple[Scrape, Scrape]:
    await house.start("keeper")
    before = await house.until("wallet_dead_letters{", lambda _: True)
    await house.wallet.take_in(*(arrived(open_account(f"user-{number}")) for number in range(1_001)))
    await house.wallet.owner.execute("UPDATE dead_letters SET arrived_at = arrived_at - interval '5 hours'")
    return before, await house.until(
        "wallet_dead_letters_oldest_waiting_seconds", lambda value: value > 14_400
    )


@makes("WalletDeadLetterTakeInSlow")
async def letters_are_taken_in_late(house: House) -> tuple[Scrape, Scrape]:
    await house.start("keeper")
    before = await house.until("wallet_dead_letters_take_in_lag_seconds_count", lambda value: value == 0)
    late = (datetime.now(UTC) - timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    message_headers = headers() | {"x-wallet-first-seen": late}
    await house.wallet.upstream.publish(
        "wallet.dead-letters", open_account(fresh("user")), properties=properties(message_headers)
    )
    return before, await house.until(
        "wallet_dead_letters_take_in_lag_seconds_count", lambda value: value == 1
    )


async def _replaying(house: House) -> None:
    """Leave a replay published that no worker takes."""
    await house.wallet.take_in(arrived(open_account(fresh("user"))), arrived(open_account(fresh("user"))))
    await house.wallet.replayed(await house.wallet.ids())
    await until(house.wallet.owner, "SELECT count(*) FROM dead_letter_replays WHERE state = 'published'", 2)


@makes("WalletReplayWithoutOutcome", "WalletReplayNotMoving")
async def a_replay_is_published_and_no_worker_takes_it(house: House) -> tuple[Scrape, Scrape]:
    await house.start("keeper")
    before = await house.until("wallet_dead_letter_replay_without_outcome_seconds", lambda value: value == 0)
    await _replaying(house)
    await house.wallet.owner.execute(
        "UPDATE dead_letter_replays SET published_at = published_at - interval '20 minutes'"
    )
    await house.wallet.owner.execute(
        "UPDATE dead_letter_operations SET started_at = started_at - interval '20 minutes'"
    )
    await house.until("wallet_dead_letter_operation_still_seconds", lambda value: value > 900)
    return before, await house.until(
        "wallet_dead_letter_replay_without_outcome_seconds", lambda value: value > 900
    )


@makes("WalletDeadLetterReplaysFail", "WalletReplayEndedByItself", by=SOON)
async def a_replay_fails_and_stops(house: House) -> tuple[Scrape, Scrape]:
    await house.start("worker", "keeper")
    before = await house.until("wallet_dead_letters{", lambda _: True)
    await house.wallet.take_in(*(arrived(b"no JSON %d" % number) for number in range(3)))
    desk = house.wallet.operations
    plan = await desk.plan(OTTO, Action.REPLAY, Filter(), reason="a test", pace=ReplayPace(canary=1))
    operation = await desk.execute(OTTO, plan.token)
    await house.wallet.until_operation(operation.operation_id, "stopped")
    await house.until('wallet_dead_letter_replays_total{outcome="failed"', lambda value: value > 0)
    return before, await house.until(
        'wallet_dead_letter_operations_ended_by_themselves_total{how="stopped"', lambda value: value > 0
    )


def _of(found: Scrape, series: str) -> list[float]:
    return [value for name, value in found.items() if name.startswith(series)]


@makes("WalletBrokerNotSeen")
async def the_management_api_is_away(house: House) -> tuple[Scrape, Scrape]:
    """Nobody sees any more whether a node is away."""
    url = house.wallet.servers.management_url
    async with Proxy(url) as proxy:
        await house.start("keeper", WALLET_MANAGEMENT_URL=proxy.url)
        before = await house.until("wallet_broker_nodes{", lambda value: value == 1)
        proxy.refuse()
        after = await house.until("wallet_broker_nodes{", math.isnan)
    return before, after


def test_each_alarm_has_a_fault_that_is_made() -> None:
    made = frozenset().union(*(alarms for _, alarms, _ in FAULTS.values()))

    # Those of the HTTP API are tried with promtool alone, and those of a cluster where there is one.
    elsewhere = {"WalletBrokerMemberAway", "WalletBrokerMembersFew"}
    assert made == {alarm for alarm in ALARMS if not alarm.startswith("WalletApi")} - elsewhere


@pytest.mark.parametrize("name", FAULTS)
async def test_the_alarms_of_a_fault_ring_when_it_is_made(house: House, name: str) -> None:
    fault, alarms, minute = FAULTS[name]

    before, after = await fault(house)

    assert alarms <= await house.rings(before, after, minute)
