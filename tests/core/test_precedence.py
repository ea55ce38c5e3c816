"""A message that is wrong in several ways gets the code that stands first in the contract.

Each table begins with a message in which everything is wrong; each row mends one more fault than the row
above it, and the last is in order.
"""

from itertools import product
from typing import Any

import pytest

from schemas.codes import Code
from schemas.values import AccountStatus, OrderStatus
from tests.contract import bodies
from tests.contract.bodies import JsonObject
from tests.core.world import World, changed, command, open_account, recharge, result
from wallet_worker.core.reading import Incoming

Row = tuple[JsonObject, Code]

ORDER = list(Code)
TOO_MUCH = "9" * 30
NO_TEXT = "\0"


def _world() -> World:
    """Return a wallet with a user of each kind, and an order of each kind."""
    world = World()
    closed = world.with_account(AccountStatus.CLOSED, user_id="u-closed")
    active = world.with_account(user_id="u-active", balance_minor=10_000)
    world.with_order(OrderStatus.EXPIRED, closed, "R-closed")
    world.with_order(OrderStatus.SUCCEEDED, active, "R-done")
    world.tell(open_account(serial_no="S-used", user_id="u-other"))
    return world


OPEN_WITH_EVERYTHING_WRONG: JsonObject = {
    "type": "account.open.v9",
    "serial_no": "S-used",
    "user_id": "u-active",
    "currency": "XYZ",
    "metadata": {"note": NO_TEXT},
}
OPEN: list[Row] = [
    ({}, Code.MALFORMED),
    ({"metadata": {"note": "fine"}}, Code.UNSUPPORTED_TYPE),
    ({"type": "account.open.v1"}, Code.SERIAL_CONFLICT),
    ({"serial_no": "S-fresh"}, Code.CURRENCY_NOT_SUPPORTED),
    ({"currency": "TWD"}, Code.ACCOUNT_EXISTS),
    ({"user_id": "u-closed"}, Code.OK),  # a closed account makes room for a new one
]

RECHARGE_WITH_EVERYTHING_WRONG: JsonObject = {
    "type": "order.recharge.v9",
    "serial_no": "S-used",
    "user_id": "u-nobody",
    "amount": TOO_MUCH,
    "currency": "XYZ",
    "metadata": {"note": NO_TEXT},
}
RECHARGE: list[Row] = [
    ({}, Code.MALFORMED),
    ({"metadata": {"note": "fine"}}, Code.UNSUPPORTED_TYPE),
    ({"type": "order.recharge.v1"}, Code.SERIAL_CONFLICT),
    ({"serial_no": "S-fresh"}, Code.CURRENCY_NOT_SUPPORTED),
    ({"currency": "TWD"}, Code.AMOUNT_OUT_OF_RANGE),
    ({"amount": "100.00"}, Code.ACCOUNT_NOT_FOUND),
    ({"user_id": "u-closed"}, Code.ACCOUNT_CLOSED),
    ({"user_id": "u-active"}, Code.OK),
]

# ACCOUNT_CLOSED needs the order whose account is closed, so the row below it names another order.
RESULT_WITH_EVERYTHING_WRONG: JsonObject = {
    "type": "payment.result.v9",
    "payment_order_no": "R-closed",
    "amount": TOO_MUCH,
    "currency": "XYZ",
    "status": "succeeded",
    "reason": NO_TEXT,
    "keys": {"k-stranger": "guessed"},
    "attempts": 3,
}
RESULT: list[Row] = [
    ({}, Code.MALFORMED),
    ({"reason": "fine"}, Code.UNSUPPORTED_TYPE),
    ({"type": "payment.result.v1"}, Code.BAD_SIGNATURE),
    ({"keys": ...}, Code.ACCOUNT_CLOSED),
    ({"payment_order_no": "R-nobody"}, Code.ORDER_NOT_FOUND),
    ({"payment_order_no": "R-done", "status": "failed"}, Code.CURRENCY_MISMATCH),
    ({"currency": "TWD"}, Code.AMOUNT_MISMATCH),
    ({"amount": "100.00"}, Code.CONTRADICTING_RESULT),
    ({"status": "succeeded"}, Code.OK),
]


def _steps(wrong: JsonObject, table: list[Row]) -> list[Any]:
    """Return the rows of a table as whole messages: each with the changes of all rows above it."""
    mended: JsonObject = wrong
    steps = []
    for changes, code in table:
        mended = {name: value for name, value in {**mended, **changes}.items() if value is not ...}
        steps.append(pytest.param(mended, code, id=code.value))
    return steps


@pytest.mark.parametrize("table", [OPEN, RECHARGE, RESULT])
def test_the_rows_stand_in_the_order_of_the_codes(table: list[Row]) -> None:
    codes = [code for _, code in table]

    assert codes[-1] is Code.OK
    assert codes[:-1] == sorted(codes[:-1], key=ORDER.index)


@pytest.mark.parametrize(("message", "code"), _steps(OPEN_WITH_EVERYTHING_WRONG, OPEN))
def test_opening_an_account_gets_the_first_code_that_fits(message: JsonObject, code: Code) -> None:
    decision = _world().tell_one(open_account(**message))

    assert decision.code is code


@pytest.mark.parametrize(("message", "code"), _steps(RECHARGE_WITH_EVERYTHING_WRONG, RECHARGE))
def test_a_recharge_gets_the_first_code_that_fits(message: JsonObject, code: Code) -> None:
    decision = _world().tell_one(recharge(**message))

    assert decision.code is code


@pytest.mark.parametrize(("message", "code"), _steps(RESULT_WITH_EVERYTHING_WRONG, RESULT))
def test_a_payment_result_gets_the_first_code_that_fits(message: JsonObject, code: Code) -> None:
    decision = _world().tell_one(result(**message))

    assert decision.code is code


# And not only along one path: whichever faults come together, the first in the order of the codes is given.

COMMAND_FAULTS: dict[Code, JsonObject] = {
    Code.MALFORMED: {"metadata": {"note": NO_TEXT}},
    Code.UNSUPPORTED_TYPE: {"type": "order.recharge.v9"},
    Code.SERIAL_CONFLICT: {"serial_no": "S-used"},
    Code.CURRENCY_NOT_SUPPORTED: {"currency": "XYZ"},
    Code.AMOUNT_OUT_OF_RANGE: {"amount": TOO_MUCH},
    Code.ACCOUNT_CLOSED: {"user_id": "u-closed"},
}
RESULT_FAULTS: dict[Code, JsonObject] = {
    Code.MALFORMED: {"reason": NO_TEXT},
    Code.UNSUPPORTED_TYPE: {"type": "payment.result.v9"},
    Code.BAD_SIGNATURE: {"keys": {}},
    Code.CURRENCY_MISMATCH: {"currency": "USD"},
    Code.AMOUNT_MISMATCH: {"amount": "99.99"},
    Code.CONTRADICTING_RESULT: {"status": "failed"},
}


def _combinations(faults: dict[Code, JsonObject]) -> list[Any]:
    found = []
    for chosen in product((False, True), repeat=len(faults)):
        codes = [code for code, is_in in zip(faults, chosen, strict=True) if is_in]
        changes: JsonObject = {}
        for code in codes:
            changes |= faults[code]
        first = min(codes, key=ORDER.index, default=Code.OK)
        found.append(pytest.param(changes, first, id="+".join(codes) or "OK"))
    return found


@pytest.mark.parametrize(("changes", "code"), _combinations(COMMAND_FAULTS))
def test_any_faults_of_a_recharge_together_get_the_first_code(changes: JsonObject, code: Code) -> None:
    message = {"serial_no": "S-fresh", "user_id": "u-active", **changes}

    assert _world().tell_one(recharge(**message)).code is code


@pytest.mark.parametrize(("changes", "code"), _combinations(RESULT_FAULTS))
def test_any_faults_of_a_result_together_get_the_first_code(changes: JsonObject, code: Code) -> None:
    message = {"payment_order_no": "R-done", **changes}

    assert _world().tell_one(result(**message)).code is code


def _not_json() -> Incoming:
    return command(b"{")


def _other_queue() -> Incoming:
    return command(changed(bodies.RESULT, {}))


@pytest.mark.parametrize(
    ("arrived", "code"), [(_not_json(), Code.MALFORMED), (_other_queue(), Code.UNSUPPORTED_TYPE)]
)
def test_what_is_not_for_this_queue_is_never_decided(arrived: Incoming, code: Code) -> None:
    world = _world()
    orders, entries = dict(world.orders), list(world.entries)

    decision = world.tell_one(arrived)

    assert decision.code is code
    assert (world.orders, world.entries) == (orders, entries)
