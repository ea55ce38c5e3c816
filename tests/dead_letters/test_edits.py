"""An edit is a new message with a new serial number, and closes the letter in the same step."""

import json

import pytest

from tests.dead_letters.conftest import ANNA, OTTO, Desk, one_letter
from tests.dead_letters.letters import arrived, headers
from tests.dead_letters.people import agreed, know, signed
from tests.journeys.messages import encoded, recharge, result
from wallet_worker.dead_letters.model.actors import Actor
from wallet_worker.dead_letters.model.errors import InvalidEditError, NotAllowedError, NotPossibleError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import Action, LetterState
from wallet_worker.dead_letters.replay.authority import changed_parties
from wallet_worker.settings.operators import Role


async def an_edit(desk: Desk, **changes: object) -> tuple[int, bytes]:
    """Return a letter with three digits of TWD, and a message to be sent in its place."""
    order = recharge("user-1", "1.001")
    letter_id = await one_letter(desk, arrived(order, headers("MALFORMED", "TWD has 2 digits")))
    return letter_id, encoded(order | {"amount": "1.00", "serial_no": f"{order['serial_no']}-b"} | changes)


@pytest.mark.need(11)
async def test_an_edit_is_a_new_message_and_closes_the_old_one_in_the_same_step(desk: Desk) -> None:
    letter_id, body = await an_edit(desk)

    plan = await desk.operations.plan_edit(OTTO, letter_id, body, reason="three digits")
    await agreed(desk.operations, desk.owner, plan)
    await desk.operations.execute(OTTO, plan.token)

    assert next(
        (difference.field, difference.before, difference.after) for difference in plan.differences
    ) == ("amount", "1.001", "1.00")
    found = await desk.operations.letter(OTTO, letter_id)
    (replay,) = found.replays
    assert found.whole.line.state is LetterState.EDITED
    assert (replay.is_edit, replay.serial_no) == (True, json.loads(body)["serial_no"])
    for action in (Action.REPLAY, Action.DISCARD, Action.RESTORE):
        with pytest.raises(NotPossibleError):
            await desk.operations.plan(OTTO, action, Filter(ids=(letter_id,)), reason="both versions")


@pytest.mark.need(11)
async def test_an_edit_is_checked_and_never_has_a_used_serial_number(desk: Desk) -> None:
    letter_id, body = await an_edit(desk)
    own = encoded(json.loads(body) | {"serial_no": json.loads(body)["serial_no"].removesuffix("-b")})
    malformed = encoded(json.loads(body) | {"amount": "1.001"})

    for wrong, sentence in (
        (own, "is the letter's own"),
        (malformed, "none that the wallet takes"),
        (b"no JSON", "none that the wallet takes"),
        (encoded(result("R-1")), "none that the wallet takes"),
    ):
        with pytest.raises(InvalidEditError, match=sentence):
            await desk.operations.plan_edit(OTTO, letter_id, wrong, reason="x")


@pytest.mark.need(11)
async def test_two_edits_cannot_take_the_same_new_number(desk: Desk) -> None:
    first, body = await an_edit(desk)
    two, _ = await an_edit(desk)
    plans = [await desk.operations.plan_edit(OTTO, number, body, reason="x") for number in (first, two)]
    for plan in plans:
        await agreed(desk.operations, desk.owner, plan)
    await desk.operations.execute(OTTO, plans[0].token)

    with pytest.raises(InvalidEditError, match="is used already"):
        await desk.operations.execute(OTTO, plans[1].token)

    assert await desk.state(two) == "waiting"


@pytest.mark.need(11)
async def test_a_payment_result_cannot_be_edited(desk: Desk) -> None:
    letter_id = await one_letter(desk, arrived(result("R-1"), headers(source="payment.results")))

    with pytest.raises(NotPossibleError, match="nobody else can sign"):
        await desk.operations.plan_edit(OTTO, letter_id, encoded(recharge("user-1")), reason="x")


@pytest.mark.need(11)
async def test_an_edit_that_is_about_somebody_else_needs_a_controller(desk: Desk) -> None:
    letter_id, body = await an_edit(desk, user_id="user-2", currency="JPY", amount="1")
    plan = await desk.operations.plan_edit(OTTO, letter_id, body, reason="x")
    await know(desk.owner)
    await signed(desk.operations, OTTO, plan.token)

    with pytest.raises(
        NotAllowedError, match="another currency, user_id than its letter: a controller must approve"
    ):
        await signed(desk.operations, ANNA, plan.token)
    # An approver whom somebody calls a controller has an approver's key.
    with pytest.raises(NotAllowedError, match="anna is approver now"):
        await signed(desk.operations, Actor("anna", Role.CONTROLLER, "tests"), plan.token)
    await signed(desk.operations, Actor("cora", Role.CONTROLLER, "tests"), plan.token)

    assert (await desk.operations.execute(OTTO, plan.token)).approved_by == "cora"


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        (b'{"type": "account.open.v1", "serial_no": "A", "user_id": "u"}', ["currency"]),
        (b'{"type": "account.open.v1", "serial_no": "A", "user_id": "u", "currency": "TWD"}', []),
        (b'{"type": "account.open.v1", "user_id": "u", "currency": "TWD", "account_type": "basic"}', []),
        (
            b'{"type": "account.open.v1", "user_id": "u", "currency": "TWD", "to_user_id": "v"}',
            ["to_user_id"],
        ),
        (
            b'{"type": "order.recharge.v1", "user_id": "v", "currency": "twd", "account_type": "x"}',
            ["account_type", "currency", "type", "user_id"],
        ),
        (
            b'{"user_id": "v", "user_id": "u", "type": "account.open.v1", "currency": "TWD"}',
            ["account_type", "currency", "type", "user_id"],
        ),
        (b"not json", ["account_type", "currency", "type", "user_id"]),
    ],
)
def test_what_an_edit_changes_of_whom_it_is_about(before: bytes, changed: list[str]) -> None:
    after = {"type": "account.open.v1", "serial_no": "B", "user_id": "u", "currency": "TWD"}

    assert changed_parties(before, encoded(after)) == changed
