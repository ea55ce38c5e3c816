"""A bulk action needs a second person, who must be somebody else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.dead_letters.conftest import ANNA, OLGA, OTTO, Desk, a_desk, one_letter
from tests.dead_letters.letters import arrived
from tests.dead_letters.people import USUAL, agreed, key_of, know, signed
from tests.journeys.messages import recharge
from wallet_worker.core.proofs import key_id_of
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import (
    ApprovalNeededError,
    NotAllowedError,
    NotPossibleError,
    StaleError,
)
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.plans import Plan
from wallet_worker.dead_letters.model.signing import Signature
from wallet_worker.dead_letters.model.states import Action, PlanState
from wallet_worker.dead_letters.replay.authority import Authority
from wallet_worker.settings.operators import ApprovalLimits, Role
from wallet_worker.store.dead_letters import operations as operations_table


def _boss() -> Actor:
    return Actor("boss", Role.APPROVER, "tests")


@pytest.mark.need(13)
async def test_many_letters_at_once_need_a_second_person_who_is_somebody_else(
    database_url: str,
) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=2)) as desk:
        await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
        await know(desk.owner, {**USUAL, "boss": "approver"})
        boss = _boss()
        plan = await desk.operations.plan(boss, Action.REPLAY, Filter(), reason="a test")
        assert plan.state is PlanState.NEEDS_SIGNATURE

        with pytest.raises(ApprovalNeededError, match="boss must sign the plan"):
            await desk.operations.execute(boss, plan.token)
        with pytest.raises(NotPossibleError, match="boss has not signed this plan yet"):
            await signed(desk.operations, ANNA, plan.token)
        assert (await signed(desk.operations, boss, plan.token)).state is PlanState.NEEDS_APPROVAL
        assert [item.token for item in await desk.operations.plans(ANNA, awaiting_approval=True)] == [
            plan.token
        ]
        with pytest.raises(ApprovalNeededError, match="a second person must approve"):
            await desk.operations.execute(boss, plan.token)
        with pytest.raises(StaleError, match="your own"):
            await signed(desk.operations, boss, plan.token)
        for name in (" Boss", "b\u043ess", "bob\udcff"):
            with pytest.raises(NotAllowedError, match="is no name"):
                await desk.operations.sign(
                    Actor(name, Role.APPROVER, "another way"),
                    plan.token,
                    Signature("0" * 16, datetime.now(UTC), bytes(64)),
                    reason="x",
                )
        approved = await signed(desk.operations, ANNA, plan.token, reason="looked at them")
        with pytest.raises(StaleError, match="anna has approved"):
            await signed(desk.operations, ANNA, plan.token, reason="again")
        operation = await desk.operations.execute(boss, plan.token)

        assert (approved.state, approved.approved_by) == (PlanState.READY, "anna")
        assert (operation.total, operation.approved_by) == (3, "anna")
        assert await desk.operations.plans(ANNA) == []


@pytest.mark.need(13)
async def test_nobody_signs_with_anybody_elses_key_or_what_was_not_shown(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        await know(desk.owner)
        plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
        other = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="another")
        await signed(desk.operations, OTTO, plan.token)
        asked = (await desk.operations.to_sign(ANNA, plan.token)).statement
        of_other = (await desk.operations.to_sign(ANNA, other.token)).statement
        elsewhere = replace(asked, environment="staging")
        old = replace(asked, at=asked.at - timedelta(minutes=11))
        anna, otto = key_of("anna"), key_of("otto")

        for key, by, said, at, why in (
            (otto, "anna", asked, asked.at, "is not that of the key"),
            (otto, "otto", asked, asked.at, "otto is operator now"),
            (anna, "anna", of_other, asked.at, "is not that of the key"),
            (anna, "anna", elsewhere, asked.at, "is not that of the key"),
            (anna, "anna", old, old.at, "older than 10 minutes"),
        ):
            signature = Signature(key_id_of(bytes(key_of(by).verify_key)), at, key.sign(said.text).signature)
            with pytest.raises((NotAllowedError, StaleError), match=why):
                await desk.operations.sign(ANNA, plan.token, signature, reason="x")

        with pytest.raises(NotAllowedError, match="olga is an operator"):
            await signed(desk.operations, OLGA, plan.token)
        assert (await desk.operations.plan_of(OTTO, plan.token)).approved_by is None


@pytest.mark.need(13)
async def test_the_same_person_under_another_name_has_another_key_and_no_say(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        await one_letter(desk)
        await know(desk.owner)
        boss = _boss()  # an approver by a users file's word, and in no database

        with pytest.raises(NotAllowedError, match="boss is not in the database's list of operators"):
            await desk.operations.plan(boss, Action.REPLAY, Filter(), reason="a test")
        plan = await desk.operations.plan(OLGA, Action.REPLAY, Filter(), reason="as if I were olga")
        with pytest.raises(NotPossibleError, match="olga has not signed this plan yet"):
            await signed(desk.operations, ANNA, plan.token)


@pytest.mark.need(13)
async def test_what_was_signed_by_somebody_who_is_revoked_since_is_not_executed(database_url: str) -> None:
    async with a_desk(database_url, ApprovalLimits(single_person_max=0)) as desk:
        for revoked, why in (
            ("UPDATE operators SET revoked_at = now() WHERE name = 'anna'", "of anna is revoked"),
            ("UPDATE operators SET revoked_at = NULL, role = 'operator'", "anna is operator now"),
            (
                "UPDATE operators SET role = 'approver'; UPDATE operator_keys SET revoked_at = now()",
                "is revoked",
            ),
        ):
            letter_id = await one_letter(desk)
            plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(letter_id,)), reason="a test")
            await agreed(desk.operations, desk.owner, plan)
            await desk.owner.execute(revoked)

            with pytest.raises(NotAllowedError, match=why):
                await desk.operations.execute(OTTO, plan.token)
            await desk.owner.execute(
                "UPDATE operators SET revoked_at = NULL WHERE name = 'anna'; "
                "UPDATE operators SET role = 'approver' WHERE name = 'anna'; "
                "UPDATE operator_keys SET revoked_at = NULL"
            )


@pytest.mark.need(13)
async def test_letters_that_may_be_forged_need_two_people_and_go_one_at_a_time(desk: Desk) -> None:
    forged = [await one_letter(desk) for _ in range(2)]
    await desk.owner.execute("UPDATE dead_letters SET seal = 'unsealed'")
    with pytest.raises(NotPossibleError, match="each is replayed by itself, and by two people"):
        await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
    honest = await one_letter(desk)

    alone = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(forged[0],)), reason="a test")
    several = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="a test")
    discard = await desk.operations.plan(OTTO, Action.DISCARD, Filter(ids=tuple(forged)), reason="a test")

    assert (alone.state, alone.total) == (PlanState.NEEDS_SIGNATURE, 1)
    assert (several.state, several.total, several.skipped) == (PlanState.READY, 1, 2)
    assert [item.letter_id for item in several.sample] == [honest]
    assert discard.state is PlanState.READY


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
            PlanState.NEEDS_SIGNATURE,
        )
        with pytest.raises(StaleError, match="otto has acted on 2 letters alone within the hour"):
            await desk.operations.execute(OTTO, second.token)
        assert (await planned(OLGA, ids[2], ids[3])).state is PlanState.READY
        await agreed(desk.operations, desk.owner, third)
        await desk.operations.execute(OTTO, third.token)
        assert (await planned(OTTO, ids[4])).state is PlanState.READY  # what was approved is not his alone


@pytest.mark.need(13)
async def test_amounts_count_as_letters_do_and_a_currency_without_a_limit_needs_two(
    database_url: str,
) -> None:
    limits = ApprovalLimits(single_person_minor={"TWD": 10_000})
    async with a_desk(database_url, limits) as desk:
        await know(desk.owner)
        small, other, large = [
            await one_letter(desk, recharge(f"user-{n}", amount))
            for n, amount in enumerate(("60.00", "40.01", "100.01"))
        ]
        yen = await one_letter(desk, recharge("user-4", "1", currency="JPY"))

        async def state_of(letter_id: int, action: Action = Action.REPLAY) -> PlanState:
            return (await desk.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="a test")).state

        before = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(other,)), reason="a test")
        assert [await state_of(letter_id) for letter_id in (large, yen)] == [PlanState.NEEDS_SIGNATURE] * 2
        assert await state_of(large, Action.DISCARD) is PlanState.READY
        plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(ids=(small,)), reason="a test")
        operation = await desk.operations.execute(OTTO, plan.token)
        with pytest.raises(StaleError, match=r"would have replayed 100\.01 TWD alone within the hour"):
            await desk.operations.execute(OTTO, before.token)
        assert await state_of(other) is PlanState.NEEDS_SIGNATURE

        # A keeper counts too, whatever the desk has let pass.
        async with desk.database.snapshot() as connection:
            row = await operations_table.by_id(connection, operation.operation_id)
            assert row is not None
            strict = Authority(ApprovalLimits(single_person_minor={"TWD": 5_999}), "default")
            assert "otto has not signed" in str(await strict.why_not(connection, row, []))
            assert await Authority(limits, "default").why_not(connection, row, []) is None
