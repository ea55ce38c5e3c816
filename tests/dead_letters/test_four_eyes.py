"""A bulk action needs a second person, who must be somebody else."""

import pytest

from tests.cli.terminal import wallet
from tests.dead_letters.conftest import ANNA, OLGA, OTTO, a_desk, one_letter
from tests.dead_letters.letters import arrived
from tests.journeys.messages import recharge
from wallet_worker.cli.dlq import options
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import ApprovalNeededError, NotAllowedError, StaleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Plan
from wallet_worker.dead_letters.model.states import Action, PlanState
from wallet_worker.settings.operators import ApprovalLimits, Role


@pytest.mark.need(13)
async def test_many_letters_at_once_need_a_second_person_who_is_somebody_else(
    database_url: str,
) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=2)) as desk:
        await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
        boss = Actor("boss", Role.APPROVER, "tests")
        plan = await desk.operations.plan(boss, Action.REPLAY, Filter(), reason="a test")
        assert plan.state is PlanState.NEEDS_APPROVAL
        assert [item.token for item in await desk.operations.plans(ANNA, awaiting_approval=True)] == [
            plan.token
        ]

        with pytest.raises(ApprovalNeededError, match="a second person must approve"):
            await desk.operations.execute(boss, plan.token)
        for same, why in (
            (boss, "your own"),
            (Actor(" Boss", Role.APPROVER, "another way"), "is no name"),
            (Actor("b\u043ess", Role.APPROVER, "another way"), "is no name"),
            (Actor("bob\udcff", Role.APPROVER, "another way"), "is no name"),
        ):
            with pytest.raises(NotAllowedError, match=why):
                await desk.operations.approve(same, plan.token, reason="x")
        approved = await desk.operations.approve(ANNA, plan.token, reason="looked at them")
        with pytest.raises(StaleError, match="anna has approved"):
            await desk.operations.approve(ANNA, plan.token, reason="again")
        operation = await desk.operations.execute(boss, plan.token)

        assert (approved.state, approved.approved_by) == (PlanState.READY, "anna")
        assert (operation.total, operation.approved_by) == (3, "anna")
        assert await desk.operations.plans(ANNA) == []


@pytest.mark.need(13)
async def test_another_name_at_the_same_login_is_no_second_person(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        first, other = (Actor(name, Role.APPROVER, "cli, root") for name in ("one", "other"))
        plan = await desk.operations.plan(first, Action.REPLAY, Filter(), reason="a test")

        with pytest.raises(NotAllowedError, match="made by the same login, root"):
            await desk.operations.approve(other, plan.token, reason="x")
        with pytest.raises(NotAllowedError, match="made by the same login, root"):
            await desk.operations.approve(Actor("root", Role.APPROVER, "console"), plan.token, reason="x")

        assert (await desk.operations.plan_of(first, plan.token)).approved_by is None


@pytest.mark.parametrize(
    ("made_via", "approved_via"),
    [
        ("cli, root", "cli, anna"),
        ("cli, root", "console"),
        ("console", "cli, root"),
        ("console", "console"),
    ],
)
@pytest.mark.need(13)
async def test_a_second_person_approves_from_wherever_they_are(
    database_url: str, made_via: str, approved_via: str
) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        plan = await desk.operations.plan(
            Actor("one", Role.APPROVER, made_via), Action.REPLAY, Filter(), reason="a test"
        )
        with pytest.raises(NotAllowedError, match="this plan is your own"):
            await desk.operations.approve(Actor("one", Role.APPROVER, approved_via), plan.token, reason="x")

        approved = await desk.operations.approve(
            Actor("other", Role.APPROVER, approved_via), plan.token, reason="x"
        )

        assert (approved.state, approved.approved_by) == (PlanState.READY, "other")


@pytest.mark.need(13)
async def test_whoever_planned_in_the_console_cannot_approve_at_a_shell_by_another_name(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "login_name", lambda: "one")
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        first = Actor("one", Role.OPERATOR, "console")
        plan = await desk.operations.plan(first, Action.REPLAY, Filter(), reason="a test")

        answers = [
            await wallet(
                *("dlq", "approve", plan.token, "--as", "other", "--why", "x"),
                WALLET_DATABASE_URL=database_url,
                WALLET_DLQ_ROLES=roles,
            )
            for roles in ("{}", '{"one": "operator", "other": "approver"}')
        ]

        assert "nobody can approve here while WALLET_DLQ_ROLES is empty" in answers[0].err
        assert "this login is one, and not other" in answers[1].err
        assert (await desk.operations.plan_of(first, plan.token)).approved_by is None


@pytest.mark.need(13)
async def test_many_letters_in_small_plans_need_a_second_person_too(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=3)) as desk:
        ids = [await one_letter(desk) for _ in range(6)]

        async def planned(who: Actor, *several: int) -> Plan:
            return await desk.operations.plan(who, Action.DISCARD, Filter(ids=several), reason="a test")

        first = await planned(OTTO, ids[0], ids[1])
        second = await planned(OTTO, ids[2], ids[3])
        await desk.operations.execute(OTTO, first.token)
        third = await planned(OTTO, ids[2], ids[3])

        assert (first.state, second.state, third.state) == (
            PlanState.READY,
            PlanState.READY,
            PlanState.NEEDS_APPROVAL,
        )
        with pytest.raises(StaleError, match="otto has acted on 2 letters alone within the hour"):
            await desk.operations.execute(OTTO, second.token)
        assert (await planned(OLGA, ids[2], ids[3])).state is PlanState.READY
        await desk.operations.approve(ANNA, third.token, reason="seen")
        await desk.operations.execute(OTTO, third.token)
        assert (await planned(OTTO, ids[4])).state is PlanState.READY  # what was approved is not his alone
