"""The harness itself: in calm weather it finds nothing wrong."""

import asyncio

from schemas.values import OrderType
from tests.faults.conftest import MakeWorld

SPENDING = {f"order.{verb}.v1" for verb in ("withdraw", "transfer", "refund", "hold", "capture", "release")}


async def test_in_calm_weather_every_invariant_holds(make_world: MakeWorld) -> None:
    async with make_world(rate=100.0) as world:

        async def until_all_was_met() -> None:
            await asyncio.sleep(3)
            await world.until("SELECT count(DISTINCT order_type) FROM orders", len(OrderType))

        await world.under_load(until_all_was_met)

        violations = await world.judge()

        assert violations == []
        model = world.model()
        assert len(model.recharged) > 100
        assert model.poison
        assert model.conflicts
        assert world.heard.dead_letters.keys() >= model.poison.keys()
