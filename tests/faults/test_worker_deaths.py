"""Rows 1 to 5 and 25 of docs/faults.md: workers die, freeze, are replaced, and have messages that kill them."""

import asyncio
import json
from collections import Counter

import psutil

from tests.faults.conftest import MakeWorld
from tests.faults.faults import OF_A_BATCH
from tests.faults.fleet import Slot
from tests.faults.model import Channel
from tests.faults.notebook import Answer, Kind, Note
from tests.faults.proxy import Way
from tests.faults.sabotaged_worker import CRASHING, FAILING, REFUSED
from tests.faults.scale import PROGRAM, with_limits
from tests.faults.test_broker_faults import PUBLISHER, handed_out_again
from tests.faults.wire import Letter
from tests.faults.world import World
from tests.journeys.messages import encoded, open_account
from tests.journeys.upstream import COMMANDS
from tests.workers import WorkerProcess
from wallet_worker.failpoints import Failpoint
from wallet_worker.worker.app import PREFETCH
from wallet_worker.worker.bounds import BOUNDS

IS_NEWEST_UNTOLD = "SELECT max(created_at) >= (SELECT max(created_at) FROM commands) FROM outbox"
"""Whether the newest batch of commands, or a newer one, still has something to publish."""


async def test_rows_1_and_2_a_worker_killed_between_any_two_steps_loses_and_doubles_nothing(
    make_world: MakeWorld,
) -> None:
    """Where it dies before it publishes, it could not have published: nothing that it says on that way arrives."""
    async with make_world(workers=1, accounts=10, program=PROGRAM) as world:

        async def die_everywhere() -> None:
            for failpoint in OF_A_BATCH:
                if failpoint is Failpoint.AFTER_ACKNOWLEDGE:
                    world.broker.black_hole(Way.TO_SERVER, named=PUBLISHER)
                assert await world.fleet.dies_at(world.fleet.slots[0], f"{failpoint}:3", 30), failpoint
                if failpoint is Failpoint.AFTER_ACKNOWLEDGE:
                    assert await world.value(IS_NEWEST_UNTOLD)
                    world.broker.reset(PUBLISHER)
                    world.broker.heal()
                await world.healed()
                # What the dead one left is told again, before the next one dies.
                await world.until("SELECT count(*) FROM outbox WHERE created_at < now() - interval '2 s'", 0)

        await world.under_load(die_everywhere)

        assert await world.judge() == []
        again = Counter(world.heard.times.values())
        assert set(again) == {1, 2}, "an event is published once more at most, under the same event_id"


async def test_row_3_one_message_of_a_batch_on_which_the_wallet_fails_is_set_aside_and_the_others_apply(
    make_world: MakeWorld,
) -> None:
    """The load of every other test has malformed messages in its batches; here our own code and the database fail."""
    async with make_world(workers=1, accounts=1, program=with_limits("fails")) as world:
        first, second = (
            letter(open_account("guilty", serial_no=f"R-{mark.decode()}1")) for mark in (FAILING, REFUSED)
        )
        await one_batch_of(
            world, [*world.load.some(120), first, *world.load.some(40), second, *world.load.some(40)]
        )

        violations = await world.judge()

        assert [violation.invariant for violation in violations] == [5], (
            "INTERNAL, of the guilty messages alone"
        )
        assert world.heard.dead_letters == {item.note.mark: {"INTERNAL"} for item in (first, second)}
        assert await world.value("SELECT count(*) FROM orders WHERE status = 'succeeded'") == 200


async def test_row_4_a_message_that_kills_the_process_is_set_aside_after_some_deaths_and_its_neighbours_survive(
    make_world: MakeWorld,
) -> None:
    """The process dies as C code makes it die, with SIGSEGV. For want of memory it would be killed, with SIGKILL."""
    async with make_world(workers=2, accounts=1, program=with_limits("crashes")) as world:
        world.fleet.may_crash = True
        guilty = letter(open_account("guilty", serial_no=f"O-{CRASHING.decode()}1"))
        await one_batch_of(world, [*world.load.some(300), guilty, *world.load.some(300)])
        await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 600)
        await world.fleet.until_ready(60)

        violations = await world.judge()

        assert [violation.invariant for violation in violations] == [5], (
            "INTERNAL, of the guilty message alone"
        )
        assert world.heard.dead_letters == {guilty.note.mark: {"INTERNAL"}}
        assert world.fleet.crashes == BOUNDS.crashes_max + 1, (
            "once with all its neighbours, then while it was counted"
        )


async def test_row_5_a_worker_frozen_past_its_heartbeat_comes_back_too_late_to_do_harm(
    make_world: MakeWorld,
) -> None:
    """It is frozen with a batch written and not committed, and is thawed when the other worker has applied all of it.

    For that the database must have ended its transaction, and the broker have taken back what it was handed.
    """
    async with make_world(program=with_limits("freezes")) as world:
        slot = world.fleet.slots[0]
        await world.fleet.kill(slot, WALLET_FAILPOINT=Failpoint.BEFORE_COMMIT)
        await world.fleet.until_ready(60)
        orders = world.load.some(400)
        await world.sender.send_until_confirmed(orders)
        late = await until_frozen(slot)
        await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 400)

        late.thaw()
        await world.healed()
        async with asyncio.timeout(60):
            while not late.events("batch.settled"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await world.under_load(lambda: asyncio.sleep(1))

        assert await world.judge() == []
        assert late.events("database.lost"), "its commit was refused"
        first, *_ = late.events("batch.settled")
        assert first["repeated"] == first["size"], "all that it had in hand was known"
        assert late.process.returncode == 0


async def test_row_25_a_rolling_restart_under_load_drains_and_burns_no_attempt(make_world: MakeWorld) -> None:
    """Each worker is told to stop while it is frozen with all that it may be handed: it hears that as it is thawed."""
    async with make_world() as world:
        orders = 2 * (2 * PREFETCH + 100)

        async def roll() -> None:
            for slot in world.fleet.slots:
                worker = slot.worker
                assert worker is not None
                for item in world.fleet.running:
                    item.freeze()
                await world.sender.send_until_confirmed(silent(world, orders // 2))
                left = (await world.depths())[COMMANDS]
                assert left > 0, "neither worker may be handed more: so many are unacknowledged in each"
                stopping = asyncio.create_task(world.fleet.replace(slot))
                await asyncio.sleep(0)  # SIGTERM waits for SIGCONT
                for item in world.fleet.running:
                    item.thaw()
                await stopping
                assert settled_while_draining(worker) > PREFETCH / 2, "its hands were full"
                await world.fleet.until_ready(60)

        await world.under_load(roll)

        assert await world.judge(pending=orders) == []
        assert await handed_out_again(world) == 0
        assert set(world.heard.times.values()) == {1}, "all was published by whoever promised it"
        logs = "".join(worker.log() for worker in world.workers.started)
        assert "worker.drain_timeout" not in logs
        assert "outbox.drain_incomplete" not in logs


async def until_frozen(slot: Slot) -> WorkerProcess:
    """Return the slot's worker when it has stopped in its tracks."""
    async with asyncio.timeout(60):
        while True:
            worker = slot.worker
            if worker is not None and psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED:
                return worker
            await asyncio.sleep(0.05)


def settled_while_draining(worker: WorkerProcess) -> int:
    """Return how many messages had their ending after the worker was told to stop."""
    _, _, since = worker.log().partition('"worker.draining"')
    return sum(json.loads(line)["size"] for line in since.splitlines() if '"batch.settled"' in line)


def silent(world: World, count: int) -> list[Letter]:
    """Return recharges of which the gateway says nothing."""
    return [world.load.recharge(Channel.SILENT) for _ in range(count)]


def letter(command: dict[str, object]) -> Letter:
    """Return a command that is noted as poison: it must become a dead letter, and nothing else."""
    return Letter(Note(Kind.POISON, str(command["serial_no"]), encoded(command)), COMMANDS)


async def one_batch_of(world: World, letters: list[Letter]) -> None:
    """Have all of them in the queue before a worker can take one."""
    for worker in world.fleet.running:
        worker.freeze()
    answers = await world.sender.send(letters)
    assert set(answers) == {Answer.CONFIRMED}
    for worker in world.fleet.running:
        worker.thaw()
