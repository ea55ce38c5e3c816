"""A batch equals the same messages one after the other, in the database too."""

import asyncpg
from hypothesis import HealthCheck, example, given, settings

from tests.batch.rig import Rig
from tests.batch.tables import empty, snapshot
from tests.core.mixtures import BEFORE, mixtures
from tests.core.world import open_account, recharge, result
from wallet_worker.core.reading import Incoming

A_WHOLE_ORDER = [
    recharge(serial_no="S-1", user_id="u-hot"),
    result(payment_order_no="S-1"),
    open_account(serial_no="S-2", user_id="u-2", currency="XYZ"),
]
PAID_IN_NO_CURRENCY = [
    recharge(serial_no="S-1", currency="XYZ"),
    result(payment_order_no="S-1", currency="XYZ"),
]
PAID_BEFORE_IT_WAS_ASKED = [
    result(payment_order_no="S-1", status="failed"),
    result(payment_order_no="S-1"),
    recharge(serial_no="S-1", user_id="u-hot"),
]


@given(arrived=mixtures(max_size=25))
@example(A_WHOLE_ORDER)
@example(PAID_IN_NO_CURRENCY)
@example(PAID_BEFORE_IT_WAS_ASKED)
@settings(
    max_examples=30,  # each writes some thirty transactions
    deadline=None,
    # Both databases are emptied for each example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_batch_equals_the_same_messages_one_by_one(
    one: Rig,
    elsewhere: Rig,
    owner: asyncpg.Connection,
    second_owner: asyncpg.Connection,
    arrived: list[Incoming],
) -> None:
    for connection in (owner, second_owner):
        await empty(connection)
    for wallet in (one, elsewhere):
        await wallet.settle(*BEFORE)

    await one.settle(*arrived)
    await elsewhere.settle_each(*arrived)

    assert await snapshot(owner) == await snapshot(second_owner)

    # What came before its order was woken by it, and is applied now.
    await one.sweep()
    await elsewhere.sweep()

    # Of several that were woken at once, any may be first: which one is a repeat is chance, and so is `late`.
    at_once, one_by_one = await snapshot(owner), await snapshot(second_owner)
    for table in ("accounts", "commands", "entries", "parked_results", "suspects"):
        assert at_once[table] == one_by_one[table]
