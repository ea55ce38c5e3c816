"""Each action leaves its rows in the audit, and nobody changes them."""

import asyncpg
import pytest

from tests.dead_letters.conftest import OTTO, VERA, Desk, one_letter
from tests.dead_letters.letters import arrived
from tests.journeys.messages import recharge
from wallet_worker.dead_letters.model.errors import NotAllowedError, NotFoundError, NotPossibleError
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.states import Action


@pytest.mark.need(10)
async def test_notes_stay_with_the_letter(desk: Desk) -> None:
    letter_id = await one_letter(desk)

    await desk.operations.note(OTTO, letter_id, "asked the gateway")

    (row,) = (await desk.operations.letter(VERA, letter_id)).audit
    assert (row.action, row.reason, row.actor) == ("note", "asked the gateway", "otto")
    with pytest.raises(NotPossibleError):
        await desk.operations.note(OTTO, letter_id, " ")
    with pytest.raises(NotFoundError):
        await desk.operations.note(OTTO, letter_id + 1, "x")


@pytest.mark.need(12)
async def test_one_row_for_the_operation_and_one_for_each_message(desk: Desk) -> None:
    await desk.take_in(*(arrived(recharge("user-1")) for _ in range(3)))
    ids = await desk.ids()
    plan = await desk.operations.plan(OTTO, Action.DISCARD, Filter(reason="INTERNAL"), reason="a test of it")

    operation = await desk.operations.execute(OTTO, plan.token)

    page = await desk.operations.audit(VERA, AuditFilter(operation_id=operation.operation_id))
    whole = [row for row in page.rows if row.action == "execute discard"]
    each = [row for row in page.rows if row.action == "discard"]
    (first,) = whole
    assert (first.actor, first.role, first.via, first.reason) == ("otto", "operator", "tests", "a test of it")
    assert (first.detail["filter"], first.detail["token"], first.detail["letters"]) == (
        {"reason": "INTERNAL"},
        plan.token,
        3,
    )
    assert sorted(row.letter_id or 0 for row in each) == ids
    exported = [row async for row in desk.operations.export_audit(VERA, AuditFilter())]
    assert [row.action for row in exported] == [
        "plan discard",
        "execute discard",
        "discard",
        "discard",
        "discard",
        "export audit",
    ]


@pytest.mark.parametrize(
    "attempt",
    [
        "UPDATE dead_letter_audit SET actor = 'x'",
        "DELETE FROM dead_letter_audit",
        "TRUNCATE dead_letter_audit",
    ],
)
@pytest.mark.need(12)
async def test_not_even_the_owner_can_change_the_audit(desk: Desk, attempt: str) -> None:
    await desk.operations.note(OTTO, await one_letter(desk), "x")

    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await desk.owner.execute(attempt)


@pytest.mark.need(12)
async def test_an_export_and_a_download_are_in_the_audit_before_the_first_row(desk: Desk) -> None:
    letter_id = await one_letter(desk)
    which = Filter(reason="INTERNAL")

    exported = desk.operations.export(VERA, which)
    await anext(exported)
    body = await desk.operations.payload(OTTO, letter_id)
    await anext(desk.operations.export_audit(OTTO, AuditFilter(actor="vera")))

    assert body == (await desk.operations.letter(OTTO, letter_id)).whole.body
    with pytest.raises(NotAllowedError):
        await desk.operations.payload(VERA, letter_id)
    rows = (await desk.operations.audit(OTTO, AuditFilter())).rows
    assert [(row.actor, row.action, row.letter_id, row.detail) for row in reversed(rows)] == [
        ("vera", "export", None, {"filter": {"reason": "INTERNAL"}, "letters": 1}),
        ("otto", "download", letter_id, {"bytes": len(body)}),
        ("otto", "export audit", None, {"filter": {"actor": "vera"}}),
    ]
