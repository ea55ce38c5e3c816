"""How long nothing is applied while a fault comes and goes: the longest time without an event."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.world import World

SAMPLE_SECONDS: Final = 0.02
STILL_SECONDS: Final = 2.0
"""What is measured ends when events have come again for so long."""


async def standstill(world: World, fault: Callable[[], Awaitable[object]]) -> float:
    """Return the longest time in seconds without an event while a fault is made, which returns when it is survived."""
    survived = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_longest_gap(world, survived), name="standstill")
        await fault()
        await asyncio.sleep(STILL_SECONDS)
        survived.set()
    return watching.result()


async def _longest_gap(world: World, survived: asyncio.Event) -> float:
    longest, count, since = 0.0, len(world.heard.events), time.monotonic()
    while not survived.is_set():
        await asyncio.sleep(SAMPLE_SECONDS)
        now = time.monotonic()
        longest = max(longest, now - since)
        if len(world.heard.events) != count:
            count, since = len(world.heard.events), now
    return longest
