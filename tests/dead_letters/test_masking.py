"""A viewer sees no personal data."""

import pytest

from tests.dead_letters.conftest import OTTO, VERA, Desk, one_letter
from tests.dead_letters.letters import arrived, headers
from tests.journeys.messages import encoded, recharge
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.states import Action


@pytest.mark.need(13)
async def test_a_viewer_sees_no_personal_data(desk: Desk) -> None:
    order = recharge("somebody-real", metadata={"phone": "0912345678"})
    letter_id = await one_letter(
        desk, arrived(order, headers(x_customer="somebody-real"), app_id="somebody-real")
    )

    seen = [
        repr(await desk.operations.letter(VERA, letter_id)),
        repr(await desk.operations.letters(VERA, Filter())),
        repr([item async for item in desk.operations.export(VERA, Filter())]),
    ]

    assert all("somebody-real" not in text and "0912345678" not in text for text in seen)
    assert all("so…" in text for text in seen)
    assert "0912345678" in repr(await desk.operations.letter(OTTO, letter_id))


@pytest.mark.need(13)
async def test_a_viewer_sees_no_personal_data_in_plans_operations_and_audit(desk: Desk) -> None:
    order = recharge("somebody-real", "1.001")
    letter_id = await one_letter(desk, arrived(order, headers("MALFORMED", "TWD has 2 digits")))
    other = await one_letter(desk, arrived(recharge("somebody-real")))
    mended = order | {"user_id": "somebody-else", "amount": "1.00", "serial_no": f"{order['serial_no']}-b"}
    edit = await desk.operations.plan_edit(OTTO, letter_id, encoded(mended), reason="x")
    which = Filter(ids=(other,), user_id="somebody-real")
    plan = await desk.operations.plan(OTTO, Action.DISCARD, which, reason="x")
    await desk.operations.execute(OTTO, plan.token)

    seen = repr(
        [
            await desk.operations.plan_of(VERA, edit.token),
            await desk.operations.plans(VERA),
            await desk.operations.operations(VERA),
            await desk.operations.audit(VERA, AuditFilter()),
            [row async for row in desk.operations.export_audit(VERA, AuditFilter())],
        ]
    )

    assert "somebody" not in seen
    assert "so…" in seen
    assert "somebody-else" in repr(await desk.operations.plan_of(OTTO, edit.token))
