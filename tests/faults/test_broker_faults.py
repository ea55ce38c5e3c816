"""Rows 6 to 9, 18, 22 and 23 of docs/faults.md: the broker dies, is away, loses a queue, falls silent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias
from urllib.parse import quote

import pytest
from pamqp.commands import Basic

from tests.faults import faults
from tests.faults.conftest import MakeWorld
from tests.faults.faults import Weather
from tests.faults.notebook import Answer, Kind, Note
from tests.faults.operating import control, disk_alarm, memory_alarm
from tests.faults.proxy import Way
from tests.faults.scale import (
    AWAY,
    FOUND_WITHIN,
    FULL,
    PAST_THE_GRACE,
    PAST_THE_RELAY,
    PROGRAM,
    TRIED_AGAIN_SECONDS,
)
from tests.faults.wire import Letter
from tests.faults.world import World
from tests.journeys.upstream import COMMANDS, RESULTS, UNROUTED
from tests.servers import Servers
from tests.servers.management import Management
from tests.workers import WorkerProcess
from wallet_schemas.names import (
    PAYMENT_REQUESTS,
    PAYMENT_RESULTS,
    WALLET_COMMANDS,
    WALLET_DEAD_LETTERS,
    WALLET_EVENTS,
)
from wallet_worker.broker import topology

PUBLISHER = b"wallet worker: publisher"
WAIT_SECONDS = 30.0

Alarm: TypeAlias = Callable[[Servers], AbstractAsyncContextManager[None]]


async def test_row_6_a_broker_that_is_killed_or_restarted_is_found_again(make_world: MakeWorld) -> None:
    async with make_world() as world:

        async def break_it() -> None:
            for fault in (faults.broker_killed, faults.broker_restarted):
                async with asyncio.timeout(60):  # the broker's own start is among it
                    await fault(world, Weather())
                    await world.healed()

        await world.under_load(break_it)

        assert await world.judge() == []


async def test_row_7_a_broker_that_is_away_for_long_finds_the_worker_alive_and_unready(
    make_world: MakeWorld,
) -> None:
    """The broker is away for four seconds in the suite, for eleven minutes in `make faults`."""
    async with make_world(workers=1, accounts=5, program=PROGRAM) as world:
        worker = only_worker(world)

        async def be_away() -> None:
            world.broker.refuse()
            await worker.until_ready(ready=False, seconds=20)
            await asyncio.sleep(AWAY)
            assert not await worker.is_ready()
            assert (await worker.get("/healthz"))[0] == 200
            world.broker.heal()
            await world.healed()
            assert only_worker(world) is worker

        await world.under_load(be_away)

        assert await world.judge() == []


async def test_row_8_a_queue_that_is_deleted_and_made_again_is_consumed_again(make_world: MakeWorld) -> None:
    """The broker cancels the consumer of a deleted queue. What was in the queue is lost with it: it is empty here."""
    async with make_world(workers=1, accounts=5, program=PROGRAM) as world:
        worker = only_worker(world)
        await delete(world, "queues", PAYMENT_RESULTS)
        await worker.until_ready(ready=False, seconds=30)
        await topology.apply(world.amqp_url)
        await world.fleet.until_ready(60)

        assert only_worker(world) is worker

        await world.under_load(lambda: asyncio.sleep(1))

        assert await world.judge() == []


async def test_row_8_a_queue_that_stays_away_ends_the_worker_with_a_plain_sentence(
    make_world: MakeWorld,
) -> None:
    async with make_world(workers=1, accounts=5, program=PROGRAM) as world:
        worker = only_worker(world)
        await delete(world, "queues", PAYMENT_RESULTS)

        status = await asyncio.wait_for(worker.process.wait(), 2 * PAST_THE_GRACE + 30)

        assert status == 1
        (line,) = worker.events("worker.cannot_run")
        assert "The queue payment.results does not exist." in str(line["reason"])


@pytest.mark.parametrize("way", [*Way, Way.BOTH] if FULL else [Way.BOTH])
async def test_row_9_a_broker_whose_packets_vanish_is_given_up_and_found_again(
    make_world: MakeWorld, way: Way
) -> None:
    """A reset is told, and found at once. Silence is found by the heartbeat: in about 35 s, or sooner in the suite.

    Nobody ends the silent connections but the worker, which has others before what was said on the old ones arrives.
    """
    async with make_world(program=PROGRAM) as world:

        async def fall_silent() -> None:
            world.broker.reset()
            await world.healed()
            world.broker.black_hole(way)
            await until_unready(world, seconds=FOUND_WITHIN)
            world.broker.heal()
            await world.healed()

        await world.under_load(fall_silent)

        assert await world.judge() == []


@pytest.mark.parametrize("missing", ["exchanges", "queues"])
async def test_row_18_dead_letters_without_a_place_to_go_stay_in_the_outbox_until_there_is_one(
    make_world: MakeWorld, missing: str
) -> None:
    async with make_world(workers=1, accounts=5, program=PROGRAM) as world:
        worker = only_worker(world)
        # The harness listens to this queue: what it heard until now is heard, and there was no poison yet.
        await delete(world, missing, WALLET_DEAD_LETTERS)
        poison = [world.load.poison() for _ in range(10)]
        await world.sender.send_until_confirmed([*poison, *world.load.some(50)])
        await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 50)
        await world.until(
            "SELECT count(*) FROM outbox WHERE exchange = $1 AND attempts > 0", 10, WALLET_DEAD_LETTERS
        )
        await until_metric(worker, "wallet_outbox_overdue_messages", 10)
        assert worker.events("publish.unconfirmed")

        await topology.apply(world.amqp_url)
        await world.until("SELECT count(*) FROM outbox", 0)

        assert await world.judge() == []
        assert world.heard.dead_letters.keys() == {item.note.mark for item in poison}


@pytest.mark.parametrize("missing", ["exchanges", "queues"])
async def test_row_18_what_the_broker_itself_dead_letters_is_kept_at_its_source_until_there_is_a_place(
    breakable: Servers, make_world: MakeWorld, missing: str
) -> None:
    """The broker does so with what was returned a thousand times; here somebody rejects it.

    It tries again every three minutes, or every two seconds in the suite.
    """
    async with tries_again(breakable), make_world(workers=0, accounts=0) as world:
        letter = Letter(Note(Kind.POISON, "rejected", b"rejected"), COMMANDS)
        await world.sender.send_until_confirmed([letter])
        await delete(world, missing, WALLET_DEAD_LETTERS)
        async with world.channel() as channel:
            taken = await channel.basic_get(WALLET_COMMANDS, timeout=WAIT_SECONDS)
            assert taken.delivery_tag is not None
            await channel.basic_reject(taken.delivery_tag, requeue=False)
        await asyncio.sleep(TRIED_AGAIN_SECONDS + 1)  # it has tried in vain
        assert not world.heard.dead_letters

        await topology.apply(world.amqp_url)
        async with asyncio.timeout(TRIED_AGAIN_SECONDS + WAIT_SECONDS):
            while letter.note.mark not in world.heard.dead_letters:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        assert world.heard.bodies == {letter.note.mark: b"rejected"}


async def test_row_22_what_is_not_confirmed_stays_in_the_outbox_and_is_sent_again(
    make_world: MakeWorld,
) -> None:
    """The broker takes everything, and its confirms are lost: the worst that can happen to a publisher."""
    async with make_world(workers=1, accounts=5, program=PROGRAM) as world:
        worker = only_worker(world)

        async def lose_confirms() -> None:
            world.broker.black_hole(Way.TO_CLIENT, named=PUBLISHER)
            await asyncio.sleep(2)
            world.broker.reset(PUBLISHER)  # what only waited would arrive in the end
            world.broker.heal()
            await world.healed()

        await world.under_load(lose_confirms)
        await asyncio.wait_for(world.until("SELECT count(*) FROM outbox", 0), PAST_THE_RELAY)
        failures = await metric(worker, "wallet_publish_failures_total")

        assert await world.judge() == []
        assert set(world.heard.times.values()) == {1, 2}, "some were told twice, under one event_id"
        assert failures > 0
        assert worker.events("publish.unconfirmed")
        assert await worker.until_event("outbox.relayed")


async def test_row_22_a_payment_request_that_comes_back_stays_in_the_outbox_until_there_is_a_way(
    make_world: MakeWorld,
) -> None:
    """Its own queue is missing, and so is that of `wallet.unrouted`, which would have caught it."""
    async with make_world(workers=1, accounts=1, program=PROGRAM) as world:
        worker = only_worker(world)
        for queue in (PAYMENT_REQUESTS, UNROUTED):
            await delete(world, "queues", queue)
        await world.sender.send_until_confirmed(world.load.some(20))
        await world.until(
            "SELECT count(*) FROM outbox WHERE exchange = $1 AND attempts > 0", 20, PAYMENT_REQUESTS
        )
        await until_metric(worker, "wallet_outbox_overdue_messages", 20)
        assert await metric(worker, "wallet_publish_failures_total") >= 2 * 20, "at once, and by the relay"

        await topology.apply(world.amqp_url)
        await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 20)

        assert await world.judge() == []
        assert worker.events("publish.unconfirmed")


async def test_row_22_a_payment_request_that_finds_no_queue_is_kept_by_the_broker_for_the_operators(
    make_world: MakeWorld,
) -> None:
    """Not in the outbox, as the matrix has it: the exchange has an alternate, `wallet.unrouted`, and that takes it.

    So the broker confirms it, and nothing comes back. A keeper takes what is there for a dead letter, UNROUTED, with
    the alarms of dead letters, and its replay brings it where it belongs (`tests/dead_letters/test_replaying.py`).
    These workers have no keeper: the harness hears it, and brings it there itself.
    """
    async with make_world(workers=1, accounts=1, program=PROGRAM) as world:
        await delete(world, "queues", PAYMENT_REQUESTS)
        await world.sender.send_until_confirmed(world.load.some(20))
        await world.until("SELECT count(*) FROM orders WHERE status = 'pending'", 20)
        await world.until("SELECT count(*) FROM outbox", 0)
        async with asyncio.timeout(WAIT_SECONDS):
            while len(world.heard.unrouted) < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        await topology.apply(world.amqp_url)
        await bring_back(world)

        assert await world.judge() == []
        assert await world.value("SELECT count(*) FROM orders WHERE status = 'succeeded'") == 20


@pytest.mark.parametrize("alarm", [memory_alarm, disk_alarm])
async def test_row_23_while_the_broker_has_an_alarm_consuming_goes_on_and_publishing_waits(
    make_world: MakeWorld, alarm: Alarm
) -> None:
    async with make_world(workers=1, accounts=5, program=PROGRAM) as world:
        worker = only_worker(world)
        await world.until("SELECT count(*) FROM outbox", 0)
        worker.freeze()
        await world.sender.send_until_confirmed(world.load.some(800))
        async with alarm(world.servers):
            worker.thaw()
            await world.until("SELECT count(*) FROM orders", 800)
            assert (await world.depths())[COMMANDS] == 0
            counts = await counted(world, acknowledged=5 + 800)  # the accounts were opened before
            assert counts["ack"] == 5 + 800, "all of them: nothing is unacknowledged"
            for exchange in (PAYMENT_REQUESTS, WALLET_EVENTS):
                waiting = await world.value("SELECT count(*) FROM outbox WHERE exchange = $1", exchange)
                assert waiting == 800, f"of each order, one for {exchange}"
            assert (await worker.get("/healthz"))[0] == 200
        await world.until("SELECT count(*) FROM orders WHERE status = 'succeeded'", 800)

        assert await world.judge() == []


@asynccontextmanager
async def tries_again(servers: Servers) -> AsyncIterator[None]:
    """Have the broker wait less long, for the queues of this time, until it dead-letters again what had no place."""
    name = "dead_letter_worker_publisher_confirm_timeout"
    before = await control(servers, "eval", f"application:get_env(rabbit, {name}, 180000).")
    await control(
        servers, "eval", f"application:set_env(rabbit, {name}, {int(TRIED_AGAIN_SECONDS * 1_000)})."
    )
    try:
        yield
    finally:
        await control(servers, "eval", f"application:set_env(rabbit, {name}, {before.strip()}).")


def only_worker(world: World) -> WorkerProcess:
    (worker,) = world.fleet.running
    return worker


async def until_unready(world: World, *, seconds: float) -> None:
    """Wait until every worker says that it is not ready: all of them within so long."""
    async with asyncio.TaskGroup() as group:
        for worker in world.fleet.running:
            group.create_task(worker.until_ready(ready=False, seconds=seconds), name="until unready")


async def delete(world: World, what: str, name: str) -> None:
    await Management(world.servers.management_url).delete(
        f"/api/{what}/{vhost(world)}/{quote(name, safe='')}"
    )


async def bring_back(world: World) -> None:
    """Publish what found no way once more; it has found one now."""
    bodies, world.heard.unrouted = world.heard.unrouted, []
    async with world.channel() as channel:
        for body in bodies:
            answer = await channel.basic_publish(
                body, exchange=PAYMENT_REQUESTS, routing_key="any.key", mandatory=True, timeout=WAIT_SECONDS
            )
            assert isinstance(answer, Basic.Ack)


async def handed_out_again(world: World) -> int:
    """Return how many commands and results the broker has handed out once more: each is an attempt that is counted.

    To be asked when all is acknowledged.
    """
    confirmed = world.model().sendings[Answer.CONFIRMED]
    return (await counted(world, acknowledged=confirmed))["redeliver"]


async def counted(world: World, *, acknowledged: int) -> Counter[str]:
    """Return what the broker has counted of the worker's two queues, once so many acknowledgements are among it.

    It tells its counts every five seconds, all of one moment, and they only grow: what was handed out before the last
    acknowledgement is counted then. How many messages are unacknowledged, it tells of an older moment.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            queues = await Management(world.servers.management_url).get(f"/api/queues/{vhost(world)}")
            counts = Counter[str]()
            for queue in queues:
                if queue["name"] in {COMMANDS, RESULTS}:
                    answer = queue.get("message_stats", {})
                    counts.update({name: answer.get(name, 0) for name in ("redeliver", "ack")})
            if counts["ack"] >= acknowledged:
                return counts
            await asyncio.sleep(0.2)


def vhost(world: World) -> str:
    return quote(world.amqp_url.rpartition("/")[2], safe="")


async def metric(worker: WorkerProcess, name: str) -> float:
    """Return what a metric says, summed up over its labels."""
    _, page = await worker.get("/metrics")
    samples = [line.rpartition(" ") for line in page.splitlines()]
    return sum(float(value) for labelled, _, value in samples if labelled.partition("{")[0] == name)


async def until_metric(worker: WorkerProcess, name: str, wanted: float) -> None:
    """Wait until a metric has this value."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await metric(worker, name) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
