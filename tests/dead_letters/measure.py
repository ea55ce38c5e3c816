"""How long a hundred thousand dead letters take, on servers of one's own. Measured, and asserted nowhere.

    python -m tests.dead_letters.measure [LETTERS]

Prints what the database itself says of the first page, of filters and of the groups (EXPLAIN ANALYZE), and how long
operators wait for a plan, an approval and an execution.

Measured on 2026-11-22 with 100,000 letters, on 2 cores that others used too: the first page 0.2 to 0.3 ms, each filter
0.4 ms at most, grouping 112 to 171 ms. 200 ms and a second are what operators were promised.
On those 2 cores while ten others wanted them: 10,000 letters were planned in 3.2 s, approved in 3.2 s and executed in
7.1 s; 50,000, which is the most that one plan may have (`plan_max`), in 21, 23 and 41 s.
"""

# ruff: noqa: T201 -- it speaks to a person at a terminal

import asyncio
import json
import sys
import time
from typing import Any

import asyncpg

from tests.dead_letters.conftest import OTTO, Desk, a_desk
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed
from tests.journeys.messages import encoded, recharge
from tests.servers import start_servers
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action, LetterState
from wallet_worker.dead_letters.reasons import REASONS
from wallet_worker.store.dead_letters import letters as dead_letters
from wallet_worker.store.migrate import migrate

CHUNK = 200  # what a keeper takes in at once


async def _main(count: int) -> None:
    with start_servers() as servers:
        async with servers.database() as url:
            await migrate(url)
            async with a_desk(url) as desk:
                await _take_in(desk, count)
                await desk.owner.execute("VACUUM ANALYZE")
                await _explain(desk)
                await _time(desk)
                await _act(desk, count)


async def _take_in(desk: Desk, count: int) -> None:
    begun = time.monotonic()
    for start in range(0, count, CHUNK):
        letters = [
            arrived(
                encoded(recharge(f"user-{number % 5_000}", metadata={"note": "x" * 400})),
                headers(REASONS[number % 20], "the detail of it", source="wallet.commands"),
            )
            for number in range(start, min(start + CHUNK, count))
        ]
        await desk.take_in(*letters)
    seconds = time.monotonic() - begun
    print(f"taken in: {count:,} letters in {seconds:.1f} s, {count / seconds:,.0f} a second")


async def _explain(desk: Desk) -> None:
    middle = (await desk.operations.letters(OTTO, Filter(), limit=1)).letters[0].letter_id // 2
    now = await desk.owner.fetchval("SELECT now()")
    day = await desk.owner.fetchval("SELECT now() - interval '1 day'")
    pages = {
        "first page": (dead_letters.RowFilter(), None),
        "a page in the middle": (dead_letters.RowFilter(), middle),
        "waiting, one reason": (dead_letters.RowFilter(states=["waiting"], reason="MALFORMED"), None),
        "nothing fits": (dead_letters.RowFilter(states=["resolved"]), None),
        "one serial number": (dead_letters.RowFilter(serial_no="R-none"), None),
        "one user": (dead_letters.RowFilter(user_id="user-17"), None),
    }
    for what, (fits, after) in pages.items():
        await _print_plan(desk.owner, what, dead_letters._LIST, *fits, after, 51)
    grouped = (*dead_letters.RowFilter(), day, now, 24)
    await _print_plan(desk.owner, "groups", dead_letters._GROUPS, *grouped)
    grouped = (*dead_letters.RowFilter(states=["waiting"]), day, now, 24)
    await _print_plan(desk.owner, "groups of what waits", dead_letters._GROUPS, *grouped)
    await _print_plan(desk.owner, "count", dead_letters._COUNT, *dead_letters.RowFilter())


async def _print_plan(connection: asyncpg.Connection, what: str, query: str, *arguments: Any) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        found = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments))[
            0
        ]
    print(f"{what}: {found['Planning Time'] + found['Execution Time']:.1f} ms in the database")


async def _time(desk: Desk) -> None:
    begun = time.monotonic()
    await desk.operations.groups(OTTO, Filter())
    print(f"groups, as operators ask for them: {(time.monotonic() - begun) * 1000:.0f} ms")
    begun = time.monotonic()
    await desk.operations.letters(OTTO, Filter())
    print(f"first page, as operators ask for it: {(time.monotonic() - begun) * 1000:.0f} ms")


async def _act(desk: Desk, count: int) -> None:
    """Plan, approve and execute the replay of the oldest letters: of some, and of as many as one plan may have."""
    newest = 0
    for letters in (10_000, desk.operations.limits.plan_max):
        newest += letters
        if newest > count:
            print(f"a plan of {letters:,} letters: there are too few")
            return
        which = Filter(states=(LetterState.WAITING,), seen_up_to=newest)
        begun = time.monotonic()
        plan = await desk.operations.plan(OTTO, Action.REPLAY, which, reason="measured")
        planned = time.monotonic()
        await agreed(desk.operations, desk.owner, plan)
        approved = time.monotonic()
        await desk.operations.execute(OTTO, plan.token)
        executed = time.monotonic()
        print(
            f"{plan.total:,} letters: planned in {planned - begun:.1f} s, approved in {approved - planned:.1f} s, "
            f"executed in {executed - approved:.1f} s"
        )


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
