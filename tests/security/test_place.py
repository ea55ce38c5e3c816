"""An honest service works in the deployment that the attacks are on: else they would be stopped by its being broken."""

import json

from tests.security.place import deployed
from tests.servers import Servers


async def test_money_moves_with_every_right_and_every_signature_in_place(servers: Servers) -> None:
    async with deployed(servers) as place:
        await place.paid("up-shop", "shop:alice", "100.00")

        assert await place.money_of("shop:alice") == 10_000
        sent_by = await place.owner.fetch("SELECT DISTINCT sent_by FROM commands")
        assert [row["sent_by"] for row in sent_by] == [place.login("up-shop")]
        _, page = await place.get("gateway-acme", "/healthz")
        assert json.loads(page)["requests"]["unproven"] == 0
