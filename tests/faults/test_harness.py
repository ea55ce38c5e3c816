"""The harness itself: in calm weather it finds nothing wrong."""

from schemas.values import OrderType
from tests.faults.conftest import MakeWorld

SPENDING = {f"order.{verb}.v1" for verb in ("withdraw", "transfer", "refund", "hold", "capture", "release")}

KINDS_OF_ORDERS = """
SELECT count(DISTINCT o.order_type)
FROM orders o
JOIN accounts a USING (account_id)
WHERE a.user_id LIKE $1
"""


async def test_in_calm_weather_every_invariant_holds(make_world: MakeWorld) -> None:
    async with make_world(rate=100.0) as world:

        async def until_all_was_met() -> None:
            await world.until("SELECT count(*) > 250 FROM orders WHERE order_type = 'recharge'", wanted=True)
            for users in ("u-%", "rich-%"):
                await world.until(KINDS_OF_ORDERS, len(OrderType), users)

        await world.under_load(until_all_was_met)

        violations = await world.judge()

        assert violations == []
        model = world.model()
        assert {note.fields["type"] for note in model.spent.values() if note.expects == "OK"} == SPENDING
        assert {note.fields["type"] for note in model.spent.values() if note.expects != "OK"} == SPENDING
        assert model.poison
        assert model.conflicts
        assert world.heard.dead_letters.keys() >= model.poison.keys()
