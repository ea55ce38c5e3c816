"""A batch equals the same messages one after the other, in the database too."""

from datetime import timedelta

import asyncpg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.rules.core.mixtures import BEFORE, HELD, LIMITED, MOMENTS, PAID, RULES, mixtures
from tests.rules.core.world import (
    capture,
    close,
    freeze,
    hold,
    open_account,
    recharge,
    refund,
    release,
    result,
    unfreeze,
    withdraw,
)
from tests.worker.rig import Rig
from tests.worker.tables import assert_sound, empty, let_pass, snapshot
from wallet_worker.core.context import Policy
from wallet_worker.core.inbound import InboundMessage

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

PAID_OUT_BEFORE_IT_WAS_ASKED = [
    result(payment_order_no="S-1", status="failed"),
    result(payment_order_no="S-1"),
    withdraw(serial_no="S-1", user_id="u-hot"),
    refund(serial_no="S-2", original_serial_no=PAID),
    result(payment_order_no="S-2"),
]
A_HOLD_TO_ITS_END = [
    hold(serial_no="S-1", user_id="u-hot"),
    capture(serial_no="S-2", hold_serial_no="S-1", amount="60", to_user_id="u-1"),
    freeze(serial_no="S-3", user_id="u-hot"),
    capture(serial_no="S-4", hold_serial_no="S-1", amount="7", to_user_id="u-1"),
    unfreeze(serial_no="S-5", user_id="u-hot"),
    capture(serial_no="S-6", hold_serial_no="S-1", amount="40", to_user_id="u-1"),
    release(serial_no="S-7", hold_serial_no="S-1"),
    release(serial_no="S-8", hold_serial_no=HELD),
    close(serial_no="S-9", user_id="u-1"),
]


@given(arrived=mixtures(max_size=25), rules=RULES, passing=st.sampled_from(MOMENTS))
@example(A_WHOLE_ORDER, Policy(), timedelta())
@example(PAID_IN_NO_CURRENCY, Policy(), timedelta())
@example(PAID_BEFORE_IT_WAS_ASKED, LIMITED, MOMENTS[-1])
@example(PAID_OUT_BEFORE_IT_WAS_ASKED, Policy(), MOMENTS[-1])
@example(A_HOLD_TO_ITS_END, Policy(), MOMENTS[-1])
@settings(
    max_examples=30,  # each writes some thirty transactions
    deadline=None,
    # Both databases are emptied for each example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_batch_equals_the_same_messages_one_by_one(
    rig: Rig,
    elsewhere: Rig,
    owner: asyncpg.Connection,
    second_owner: asyncpg.Connection,
    arrived: list[InboundMessage],
    rules: Policy,
    passing: timedelta,
) -> None:
    for connection in (owner, second_owner):
        await empty(connection)
    for wallet in (rig, elsewhere):
        wallet.batches._rules = rules
        await wallet.settle(*BEFORE)

    await rig.settle(*arrived)
    await elsewhere.settle_each(*arrived)

    assert await snapshot(owner) == await snapshot(second_owner)

    # What came before its order was woken by it, and is applied now.
    await rig.sweep()
    await elsewhere.sweep()

    assert await snapshot(owner) == await snapshot(second_owner)

    # What waits is asked about, expires, and is found a last time.
    for connection in (owner, second_owner):
        await let_pass(connection, passing)
    await rig.sweep()
    await elsewhere.sweep()

    assert await snapshot(owner) == await snapshot(second_owner)
    await assert_sound(owner)
