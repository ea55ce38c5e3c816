"""The other side of the gateway, in a vhost with the wallet's topology."""

from collections.abc import AsyncIterator

import pytest

from tests.simulator.world import Wallet
from tests.simulator.world import wallet as a_wallet


@pytest.fixture
async def wallet(amqp_url: str) -> AsyncIterator[Wallet]:
    """Give somebody who asks for payments and gets their results."""
    async with a_wallet(amqp_url) as wallet:
        yield wallet
