"""Rows 33 to 36 of docs/faults.md: a primary is lost or silent, its standby is away, and what was told stays true."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import asyncpg
import pytest
import pytest_asyncio

from tests.faults.conftest import MakeWorld
from tests.faults.load import Account
from tests.faults.model import Channel
from tests.faults.scale import FULL, PROGRAM, with_limits
from tests.faults.wire import Letter
from tests.faults.world import World, world
from tests.servers.pair import Pair
from tests.servers.several import SeveralServers, start_several
from wallet_worker.store.migrate import migrate

RATE: Final = 60.0
LOADED_SECONDS: Final = 3.0
AWAY_SECONDS: Final = 60.0 if FULL else 10.0
"""Longer than a commit is waited for, and than what was given up then is tried again."""
FOLLOWED_SECONDS: Final = 10.0
GIVEN_UP_SECONDS: Final = 25.0
"""What is promised is 5 and 20 s after the promotion; a suite's machine has more to do."""


@pytest.fixture(scope="module")
def several() -> Iterator[SeveralServers]:
    """Give a broker, and a primary with a standby."""
    with start_several(brokers=1) as servers:
        yield servers


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def template_url(several: SeveralServers) -> AsyncIterator[str]:
    """Give a migrated database on them that nobody connects to."""
    async with several.database() as url:
        await migrate(url)
        yield url


@pytest.fixture
async def make_world(several: SeveralServers, template_url: str, tmp_path: Path) -> AsyncIterator[MakeWorld]:
    """Give what makes a world, whose commits wait for the standby. The pair is whole again afterwards."""
    await several.pair.be_synchronous()
    yield partial(world, several, template_url, tmp_path, rate=RATE)
    await several.pair.rejoin()


@pytest.fixture
def pair(several: SeveralServers) -> Pair:
    """Give the two databases."""
    return several.pair


async def commands_of(url: str) -> int:
    """Return how many outcomes a server has."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM commands"))
    finally:
        await connection.close()


async def test_row_33_a_primary_that_is_killed_is_followed_to_its_standby(
    make_world: MakeWorld, pair: Pair
) -> None:
    async with make_world() as world:

        async def fail_over() -> None:
            await asyncio.sleep(LOADED_SECONDS)
            await asyncio.to_thread(pair.primary.kill)
            await pair.promote()
            assert await world.healed() < FOLLOWED_SECONDS
            await asyncio.sleep(LOADED_SECONDS)

        await world.under_load(fail_over)

        assert await world.judge() == []


async def test_row_34_a_silent_primary_is_given_up_and_nothing_is_applied_on_it_when_it_speaks_again(
    make_world: MakeWorld, pair: Pair
) -> None:
    async with make_world() as world:
        on_the_old = 0

        async def fall_silent() -> None:
            nonlocal on_the_old
            await asyncio.sleep(LOADED_SECONDS)
            await asyncio.to_thread(pair.primary.freeze)
            await pair.promote()
            assert await world.healed() < GIVEN_UP_SECONDS
            await asyncio.to_thread(pair.standby.thaw)  # which was the primary, and says that it is
            name = world.database_url.partition("?")[0].rpartition("/")[2]
            old_url = f"{pair.standby.url.rpartition('/')[0]}/{name}"
            on_the_old = await commands_of(old_url)
            await asyncio.sleep(LOADED_SECONDS)
            await world.healed()
            assert await commands_of(old_url) == on_the_old

        await world.under_load(fall_silent)

        assert await world.judge() == []


async def test_row_35_nothing_is_told_that_a_standby_that_is_away_does_not_have(
    make_world: MakeWorld, pair: Pair
) -> None:
    async with make_world(program=PROGRAM) as world:

        async def go_away() -> None:
            await asyncio.sleep(LOADED_SECONDS)
            await asyncio.to_thread(pair.standby.freeze)
            await asyncio.sleep(1)  # what was confirmed before is still on its way
            before = told(world)
            await asyncio.sleep(AWAY_SECONDS)
            assert told(world) == before
            await asyncio.to_thread(pair.standby.thaw)
            assert await world.healed() < FOLLOWED_SECONDS

        await world.under_load(go_away)

        assert await world.judge() == []


async def test_row_36_what_was_acknowledged_or_told_is_on_the_standby_that_is_promoted(
    make_world: MakeWorld, pair: Pair
) -> None:
    async with make_world(program=PROGRAM) as world:
        await world.under_load(lambda: promote_after_absence(world, pair))

        assert await world.judge() == []


async def test_row_36_a_refusal_that_was_acknowledged_is_on_the_standby_that_is_promoted(
    make_world: MakeWorld, pair: Pair
) -> None:
    async with make_world(program=PROGRAM) as world:
        await promote_after_absence(world, pair, refusals(world))

        assert await world.judge() == []


async def test_without_a_record_in_the_log_an_acknowledged_refusal_is_lost(
    make_world: MakeWorld, pair: Pair
) -> None:
    async with make_world(program=with_limits("cancels-commits")) as world:
        await promote_after_absence(world, pair, refusals(world))

        broken = {violation.invariant for violation in await world.judge()}

    assert broken == {1}, "an acknowledged command has no outcome"


async def test_a_relay_that_claims_nothing_tells_what_is_not_there(make_world: MakeWorld, pair: Pair) -> None:
    async with make_world(program=with_limits("cancels-commits,claims-nothing")) as world:
        await promote_after_absence(world, pair, world.load.some(20))

        broken = {violation.invariant for violation in await world.judge()}

    assert 7 in broken, "an event tells of what is not in the ledger"


def refusals(world: World) -> list[Letter]:
    """Return commands that are refused and want no answer: a repeat of them locks nothing and writes nothing."""
    made = [
        world.load.recharge(Channel.CARD, Account(f"nobody-{number}", "TWD"), "ACCOUNT_NOT_FOUND")
        for number in range(30)
    ]
    return [letter for letter in made if not letter.note.wants_reply]


async def promote_after_absence(world: World, pair: Pair, letters: Sequence[Letter] = ()) -> None:
    """Have the standby away for longer than a commit is waited for, and then promote it; send these meanwhile.

    It is killed: a standby that is only frozen finds what was written meanwhile in the buffer of its connection.
    """
    await asyncio.sleep(LOADED_SECONDS)
    await asyncio.to_thread(pair.standby.kill)
    await world.sender.send_until_confirmed(letters)
    await asyncio.sleep(AWAY_SECONDS)
    await asyncio.to_thread(pair.primary.kill)
    await asyncio.to_thread(pair.standby.start)
    await pair.promote()
    begun = time.monotonic()
    await world.healed()
    assert time.monotonic() - begun < GIVEN_UP_SECONDS


def told(world: World) -> tuple[int, int, int]:
    """Return how much the world outside was told: events, replies and requests to the gateway."""
    return (
        len(world.heard.events),
        sum(map(len, world.heard.replies.values())),
        len(world.heard.requests),
    )
