"""Negative controls: a worker that breaks a promise must be found out, or the harness would prove nothing.

Each sabotage breaks one promise; the test fails if the checker does not see that invariant broken, or sees one that is
not; only what is done twice may break others besides. So the worker as it is would fail each of them.
"""

from urllib.parse import quote

import asyncpg

from tests.faults.conftest import MakeWorld
from tests.faults.model import Channel
from tests.faults.scale import with_limits
from tests.faults.world import WORKER, World
from tests.journeys.upstream import COMMANDS
from tests.servers.management import Management
from wallet_schemas.names import WALLET_DEAD_LETTERS
from wallet_worker.broker import topology


async def test_without_deduplication_something_is_done_twice(make_world: MakeWorld) -> None:
    async with make_world(workers=1, accounts=5, program=with_limits("forgets")) as world:
        owner = await asyncpg.connect(world.database_url)
        # Behind the worker's memory stand constraints of the database: they are sabotaged too.
        await owner.execute("ALTER TABLE orders DROP CONSTRAINT orders_serial_no_fkey")
        await owner.execute("ALTER TABLE orders DROP CONSTRAINT orders_serial_no_key CASCADE")
        await owner.execute("ALTER TABLE commands DROP CONSTRAINT commands_pkey")
        await owner.close()
        # Of recharges that are not paid: a worker that finds two orders to pay where one is due stops by itself.
        once = [world.load.recharge(Channel.SILENT) for _ in range(50)]
        await world.sender.send_until_confirmed(once)
        await world.until("SELECT count(*) FROM orders", 50)
        await world.sender.send_until_confirmed(once)
        await world.until("SELECT count(*) FROM orders", 100)

        # Done twice, and told twice. The audit may have its own words for what the constraints kept out.
        assert await broken(world, pending=100) >= {2, 7}


async def test_acknowledging_before_the_commit_loses_what_a_killed_worker_had_in_hand(
    make_world: MakeWorld,
) -> None:
    async with make_world(workers=1, accounts=1, program=with_limits("acknowledges-first")) as world:
        world.fleet.may_crash = True
        # Whoever comes after it is honest, and does all that is left: what has no outcome then is lost, and not late.
        world.workers.program = WORKER
        while not world.fleet.crashes:
            await world.sender.send_until_confirmed([world.load.probe() for _ in range(10)])
        await world.healed()

        assert await broken(world) == {1}


async def test_ignoring_returns_loses_dead_letters_when_a_binding_is_missing(make_world: MakeWorld) -> None:
    async with make_world(workers=1, accounts=5, program=with_limits("ignores-returns")) as world:
        vhost = quote(world.amqp_url.rpartition("/")[2], safe="")
        name = quote(WALLET_DEAD_LETTERS, safe="")
        binding = f"/api/bindings/{vhost}/e/{name}/q/{name}"
        await Management(world.servers.management_url).delete(f"{binding}/%23")
        # All to one queue, and a command after them: when that is applied, they have become dead letters.
        poison = [world.load.poison([COMMANDS]) for _ in range(10)]
        await world.sender.send_until_confirmed(poison)
        await world.healed()
        # Published and forgotten, or returned and kept. Kept ones would find their way now.
        await world.until("SELECT count(*) FROM outbox WHERE attempts = 0", 0)
        await topology.apply(world.amqp_url)

        assert await broken(world) == {1}


async def test_setting_a_whole_batch_aside_for_one_message_harms_bystanders(make_world: MakeWorld) -> None:
    async with make_world(workers=1, accounts=5, program=with_limits("poisons-the-batch")) as world:
        for worker in world.fleet.running:
            worker.freeze()
        await world.sender.send_until_confirmed(
            [*world.load.some(50), world.load.poison(), *world.load.some(50)]
        )
        for worker in world.fleet.running:
            worker.thaw()

        # They are dead letters, and have no outcome.
        assert await broken(world) == {1, 5}


async def broken(world: World, *, pending: int = 0) -> set[int]:
    """Return the invariants that are broken, when everything has come to rest."""
    return {violation.invariant for violation in await world.judge(pending=pending)}
