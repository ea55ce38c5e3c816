"""The harness itself: in calm weather it finds nothing wrong."""

import asyncio

from tests.faults.conftest import MakeWorld


async def test_in_calm_weather_every_invariant_holds(make_world: MakeWorld) -> None:
    async with make_world(rate=100.0) as world:
        await world.under_load(lambda: asyncio.sleep(3))

        violations = await world.judge()

        assert violations == []
        model = world.model()
        assert len(model.recharged) > 100
        assert model.poison
        assert model.conflicts
        assert world.heard.dead_letters.keys() >= model.poison.keys()
