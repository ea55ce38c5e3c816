"""`make demo ARGS=--cluster`: a broker, a worker and the primary are killed while money moves.

The screen shows for each how long nothing moved.
"""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.demo import interrupts
from tests.demo.screen import Screen
from tests.faults.faults_of_several import leading_node
from tests.faults.standstill import standstill
from tests.faults.world import NotQuietError, World, world
from tests.servers.several import SeveralServers, start_several
from wallet_worker.store.migrate import migrate

RATE: Final = 60.0
CALM_SECONDS: Final = 3.0


def tell(seed: int, screen: Screen) -> int:
    """The story was told; returns the exit status. Everything that was started is gone."""
    screen.say("Wallet demo: three brokers, two databases, two workers, and what kills them", style="bold")
    logging.getLogger("aiormq").setLevel(
        logging.CRITICAL
    )  # each lost connection of the story's own, otherwise
    folder = Path(tempfile.mkdtemp(prefix="wallet-demo-"))
    with start_several() as servers:
        screen.say(
            "three brokers are a cluster; a primary database has a standby, for which each commit waits"
        )
        try:
            faults = interrupts.run(_tell(servers, folder, seed, screen))
        except NotQuietError as exc:
            faults = [str(exc)]
    for fault in faults:
        screen.say(f"  [WRONG] {fault}", style="red")
    if faults:
        screen.say(f"What was sent, and the workers' logs, are in {folder}")
    else:
        shutil.rmtree(folder)
    screen.say("Everything that the demo started is stopped and removed.")
    return int(bool(faults))


async def _tell(servers: SeveralServers, folder: Path, seed: int, screen: Screen) -> list[str]:
    """Tell the story; return what was wrong."""
    async with servers.database() as template:
        await migrate(template)
        await servers.pair.be_synchronous()
        async with world(servers, template, folder, seed=seed, rate=RATE) as made:
            screen.say(
                f"two workers are ready; {RATE:g} commands a second, and the gateway's results, come from now on"
            )
            await made.under_load(lambda: _kill_one_after_another(made, servers, screen))
            violations = await made.judge()
            found = await made.stored()
    screen.say("")
    if not violations:
        screen.say(
            f"  [ok]    {len(found.commands):,} commands have one outcome each, {len(found.orders):,} orders: what the "
            "broker confirmed is there, once; the audit is clean",
            style="green",
        )
    return [str(violation) for violation in violations]


async def _kill_one_after_another(made: World, servers: SeveralServers, screen: Screen) -> None:
    async def broker() -> None:
        node = await leading_node(made)
        await asyncio.to_thread(node.kill)
        await made.healed()
        await asyncio.to_thread(node.start)

    async def worker() -> None:
        await made.fleet.kill(made.fleet.slots[0])
        await made.healed()

    async def primary() -> None:
        await asyncio.to_thread(servers.pair.primary.kill)
        await servers.pair.promote()
        await made.healed()

    deaths: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("the broker that leads the queues is killed", broker),
        ("a worker is killed", worker),
        ("the primary database is killed, and its standby promoted", primary),
    ]
    for title, death in deaths:
        await asyncio.sleep(CALM_SECONDS)
        before = len(made.heard.events)
        seconds = await standstill(made, death)
        screen.say(
            f"{title}: nothing moved for {seconds:.1f} s; {len(made.heard.events) - before:,} events since"
        )
