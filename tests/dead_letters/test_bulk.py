"""Need 13 (docs/operators-needs.md): what somebody may do alone is counted by person, whatever names a person has."""

import asyncio

import pytest

from tests.dead_letters.conftest import Desk, a_desk
from tests.dead_letters.letters import arrived
from tests.journeys.messages import recharge
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import StaleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Operation, Plan
from wallet_worker.dead_letters.model.states import Action, PlanState
from wallet_worker.settings.operators import ApprovalLimits, Role

ONE, OTHER, ELSEWHERE, CONSOLE = (
    Actor("one", Role.OPERATOR, "cli, root"),
    Actor("other", Role.OPERATOR, "cli, root"),
    Actor("elsewhere", Role.OPERATOR, "cli, anna"),
    Actor("signed-in", Role.OPERATOR, "console"),
)


async def planned(desk: Desk, who: Actor, ids: list[int]) -> Plan:
    """Return the plan of discarding letters."""
    return await desk.operations.plan(who, Action.DISCARD, Filter(ids=tuple(ids)), reason="a test")


async def executed_at_once(desk: Desk, plans: dict[Actor, list[int]]) -> set[type]:
    """Plan for each actor, execute all plans together, and return as what each of them ended."""
    planned_by = {who: await planned(desk, who, ids) for who, ids in plans.items()}
    ended = await asyncio.gather(
        *(desk.operations.execute(who, plan.token) for who, plan in planned_by.items()),
        return_exceptions=True,
    )
    return {type(item) for item in ended}


@pytest.mark.need(13)
async def test_another_name_at_the_same_login_is_no_other_person(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=3)) as desk:
        await desk.take_in(*(arrived(recharge("user-1")) for _ in range(6)))
        ids = await desk.ids()
        first, second = await planned(desk, ONE, ids[:2]), await planned(desk, OTHER, ids[2:4])

        await desk.operations.execute(ONE, first.token)

        with pytest.raises(StaleError, match="other, or the login root, has acted on 2 letters alone within"):
            await desk.operations.execute(OTHER, second.token)
        assert (await planned(desk, OTHER, ids[2:4])).state is PlanState.NEEDS_SIGNATURE
        for somebody in (ELSEWHERE, CONSOLE):
            assert (await planned(desk, somebody, ids[2:4])).state is PlanState.READY


ALICE = Actor("alice", Role.OPERATOR, "console")
AT_HER_LOGIN = Actor("bob", Role.OPERATOR, "cli, alice")


@pytest.mark.parametrize(("first", "second"), [(ALICE, AT_HER_LOGIN), (AT_HER_LOGIN, ALICE)])
@pytest.mark.need(13)
async def test_whoever_has_signed_in_is_no_other_person_at_their_login(
    database_url: str, first: Actor, second: Actor
) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=2)) as desk:
        await desk.take_in(*(arrived(recharge("user-1")) for _ in range(4)))
        ids = await desk.ids()
        plans = [await planned(desk, first, ids[:2]), await planned(desk, second, ids[2:])]

        await desk.operations.execute(first, plans[0].token)

        with pytest.raises(StaleError, match="has acted on 2 letters alone within"):
            await desk.operations.execute(second, plans[1].token)
        assert (await planned(desk, second, ids[2:])).state is PlanState.NEEDS_SIGNATURE


@pytest.mark.need(13)
async def test_in_console_and_shell_at_once_one_person_does_not_do_twice_as_much(
    database_url: str,
) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=2)) as desk:
        await desk.take_in(*(arrived(recharge("user-1")) for _ in range(4)))
        ids = await desk.ids()

        ended = await executed_at_once(desk, {ALICE: ids[:2], AT_HER_LOGIN: ids[2:]})

        assert ended == {Operation, StaleError}


@pytest.mark.need(13)
async def test_two_names_of_one_login_at_once_do_not_both_fit(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=3)) as desk:
        await desk.take_in(*(arrived(recharge("user-1")) for _ in range(4)))
        ids = await desk.ids()

        ended = await executed_at_once(desk, {ONE: ids[:2], OTHER: ids[2:]})

        assert ended == {Operation, StaleError}
