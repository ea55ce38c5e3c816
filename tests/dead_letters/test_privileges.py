"""Viewers do nothing, and the operators' database role touches no money and deletes no letter."""

import asyncpg
import pytest

from tests.dead_letters.conftest import OTTO, VERA, Desk, one_letter
from tests.dead_letters.people import signed
from wallet_worker.dead_letters.model.errors import NotAllowedError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action
from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE


@pytest.mark.need(10)
async def test_nobody_can_delete_a_letter_under_the_operators_role(desk: Desk) -> None:
    await one_letter(desk)

    for table in ("dead_letters", "dead_letter_attempts", "dead_letter_replays", "dead_letter_audit"):
        async with desk.operating.connection() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"DELETE FROM {table}")  # noqa: S608 -- names of ours


@pytest.mark.need(13)
async def test_a_viewer_looks_and_does_nothing(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    plan = await desk.operations.plan(OTTO, Action.REPLAY, Filter(), reason="x")
    operation = await desk.operations.execute(OTTO, plan.token)
    did = await desk.owner.fetchval("SELECT count(*) FROM dead_letter_audit")

    for attempt in (
        desk.operations.plan(VERA, Action.REPLAY, Filter(), reason="x"),
        desk.operations.plan_edit(VERA, letter_id, b"{}", reason="x"),
        desk.operations.execute(VERA, plan.token),
        signed(desk.operations, VERA, plan.token),
        desk.operations.note(VERA, letter_id, "x"),
        desk.operations.pause(VERA, operation.operation_id, reason="x"),
        desk.operations.resume(VERA, operation.operation_id, reason="x"),
        desk.operations.stop(VERA, operation.operation_id, reason="x"),
    ):
        with pytest.raises(NotAllowedError, match="vera is a viewer"):
            await attempt

    assert await desk.owner.fetchval("SELECT count(*) FROM dead_letter_audit") == did


@pytest.mark.need(13)
async def test_the_operators_role_can_touch_no_money(desk: Desk) -> None:
    for attempt in (
        "UPDATE accounts SET balance = 0",
        "INSERT INTO commands DEFAULT VALUES",
        "UPDATE orders SET status = 'failed'",
        "INSERT INTO entries DEFAULT VALUES",
        "INSERT INTO outbox DEFAULT VALUES",
        "UPDATE dead_letters SET body = ''",
        "UPDATE dead_letter_audit SET actor = 'x'",
        "UPDATE dead_letter_plans SET letter_ids = '{}'",
        "UPDATE dead_letter_plans SET approved_by = 'anna'",
        "INSERT INTO dead_letter_signatures DEFAULT VALUES",
        "INSERT INTO operators DEFAULT VALUES",
        "UPDATE operators SET role = 'approver'",
        "INSERT INTO operator_keys DEFAULT VALUES",
        "INSERT INTO operator_log DEFAULT VALUES",
    ):
        async with desk.operating.connection() as connection:
            assert await connection.fetchval("SELECT current_user") == OPERATOR_ROLE
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(attempt)
