"""What a busy day brings, on few serial numbers and few users, so that everything meets everything."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tests.rules.contract.bodies import JsonObject
from tests.rules.core.world import (
    capture,
    close,
    command,
    freeze,
    hold,
    instructions,
    open_account,
    recharge,
    refund,
    release,
    result,
    reversal,
    tick,
    transfer,
    unfreeze,
    withdraw,
)
from wallet_schemas.values import OrderType
from wallet_worker.core.context import Policy
from wallet_worker.core.inbound import InboundMessage, Source
from wallet_worker.core.limits import ANY_TYPE, AccountLimits, Limits, OrderLimits

# Weighted by repetition: most of what arrives is in order, or there would be nothing to collide with.
FRESH = [f"S-{number}" for number in range(1, 17)]
PAID, HELD, SENT, WAITING = "P-paid", "P-held", "P-sent", "P-waiting"
SERIAL_NOS = st.sampled_from(FRESH)
NUMBERS = st.sampled_from([*FRESH, PAID, HELD, *[SENT, WAITING] * 4])
RECHARGES = st.sampled_from([PAID, PAID, PAID, PAID, PAID, "S-1", "S-2", SENT])
HOLDS = st.sampled_from([HELD, HELD, HELD, HELD, HELD, "S-1", "S-2", PAID])
REVERSED = st.sampled_from([*[PAID] * 4, "P-paid-too", "P-1-paid", "P-1-paid", SENT, "S-1", "S-2", HELD])
USERS = st.sampled_from(["u-hot", "u-hot", "u-hot", "u-hot", "u-1", "u-1", "u-2"])
PAYEES = st.sampled_from(["u-1", "u-1", "u-1", "u-hot", "u-2"])
ACCOUNT_TYPES = st.sampled_from([..., ..., ..., ..., "basic", "bonus"])
CURRENCIES = st.sampled_from([*["TWD"] * 10, "JPY", "XYZ"])
AMOUNTS = st.sampled_from(["100", "100", "100", "100.0", "100.00", "60", "60.00", "7", "9" * 30])
REPLY_TO = st.sampled_from([None, "upstream"])
STATUSES = st.sampled_from(["succeeded", "succeeded", "failed", "unknown"])
SECONDS = st.sampled_from([1, 60, 3_600])

UNHURRIED = settings(deadline=None)
"""For properties: how long an example takes says something of the machine, and nothing of the wallet."""

BEFORE = (
    open_account(serial_no="P-1", user_id="u-hot"),
    open_account(serial_no="P-2", user_id="u-1"),
    open_account(serial_no="P-3", user_id="u-1", currency="JPY"),
    recharge(serial_no=PAID, user_id="u-hot", amount="250"),
    result(payment_order_no=PAID, amount="250"),
    recharge(serial_no="P-paid-too", user_id="u-hot", amount="300"),
    result(payment_order_no="P-paid-too", amount="300"),
    recharge(serial_no="P-1-paid", amount="150"),
    result(payment_order_no="P-1-paid", amount="150"),
    hold(serial_no=HELD, user_id="u-hot", amount="150"),
    withdraw(serial_no=SENT, user_id="u-hot"),
    recharge(serial_no=WAITING, user_id="u-hot"),
)
"""What a mixture is told after: some users are there already, with money and orders in every state."""

BEFORE_SERIAL_NOS = frozenset({"P-1", "P-2", "P-3", PAID, "P-paid-too", "P-1-paid", HELD, SENT, WAITING})

MOMENTS = tuple(
    timedelta(seconds=seconds) for seconds in (0, 1, 5, 60, 61, 300, 3_599, 3_600, 7_200, 86_400, 200_000)
)
"""How long after a mixture something may be due."""

LIMITED = Policy(
    limits=Limits(
        {
            ("basic", "TWD"): AccountLimits(
                balance_max_minor=70_000,
                orders={
                    OrderType.WITHDRAW: OrderLimits(amount_min_minor=1_000, day_max_minor=20_000),
                    OrderType.TRANSFER: OrderLimits(day_max_minor=10_700),
                    OrderType.HOLD: OrderLimits(day_max_minor=25_000),
                    OrderType.CAPTURE: OrderLimits(amount_max_minor=9_999, day_max_minor=1_400),
                    OrderType.REFUND: OrderLimits(day_max_minor=10_000),
                    OrderType.RECHARGE: OrderLimits(day_max_minor=80_000),
                },
            ),
            (ANY_TYPE, "TWD"): AccountLimits(orders={OrderType.RECHARGE: OrderLimits(amount_max_minor=700)}),
        }
    )
)
"""Rules under which much of a mixture is too much."""

RULES = st.sampled_from([Policy(), LIMITED])

UNREADABLE: list[JsonObject] = [{"colour": "red"}, {"type": "order.recharge.v2"}, {"user_id": "u 1"}]


@st.composite
def opened(draw: st.DrawFn) -> InboundMessage:
    """Give a command to open an account."""
    return open_account(
        draw(REPLY_TO),
        serial_no=draw(SERIAL_NOS),
        user_id=draw(USERS),
        account_type=draw(ACCOUNT_TYPES),
        currency=draw(CURRENCIES),
    )


@st.composite
def turned(draw: st.DrawFn) -> InboundMessage:
    """Give a command to freeze, unfreeze or close an account."""
    turn: Callable[..., InboundMessage] = draw(st.sampled_from([freeze, unfreeze, unfreeze, close, close]))
    return turn(
        draw(REPLY_TO),
        serial_no=draw(SERIAL_NOS),
        user_id=draw(USERS),
        account_type=draw(ACCOUNT_TYPES),
        currency=draw(CURRENCIES),
    )


@st.composite
def recharged(draw: st.DrawFn) -> InboundMessage:
    """Give a command to recharge."""
    return recharge(
        draw(REPLY_TO),
        serial_no=draw(SERIAL_NOS),
        user_id=draw(USERS),
        account_type=draw(ACCOUNT_TYPES),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
    )


@st.composite
def spent(draw: st.DrawFn) -> InboundMessage:
    """Give a command that takes money out of an account, or reserves it: withdraw, transfer or hold."""
    kind: Callable[..., InboundMessage] = draw(st.sampled_from([withdraw, transfer, transfer, hold]))
    more: dict[str, Any] = {}
    if kind is transfer:
        more = {"to_user_id": draw(PAYEES), "to_account_type": draw(ACCOUNT_TYPES)}
    if kind is hold:
        more = {"expires_in_seconds": draw(SECONDS)}
    return kind(
        draw(REPLY_TO),
        serial_no=draw(SERIAL_NOS),
        user_id=draw(USERS),
        account_type=draw(ACCOUNT_TYPES),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
        **more,
    )


@st.composite
def refunded(draw: st.DrawFn) -> InboundMessage:
    """Give a command to give a recharge back, or what is none."""
    return refund(
        draw(REPLY_TO),
        serial_no=draw(SERIAL_NOS),
        original_serial_no=draw(RECHARGES),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
    )


@st.composite
def used(draw: st.DrawFn) -> InboundMessage:
    """Give a command to capture or release a hold, or what is none."""
    if draw(st.booleans()):
        return release(draw(REPLY_TO), serial_no=draw(SERIAL_NOS), hold_serial_no=draw(HOLDS))
    return capture(
        draw(REPLY_TO),
        serial_no=draw(SERIAL_NOS),
        hold_serial_no=draw(HOLDS),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
        to_user_id=draw(PAYEES),
        to_account_type=draw(ACCOUNT_TYPES),
    )


@st.composite
def paid(draw: st.DrawFn) -> InboundMessage:
    """Give a payment result, seldom forged."""
    keys: dict[str, Any] = {"keys": {}} if draw(st.integers(0, 9)) == 0 else {}
    return result(
        draw(REPLY_TO),
        payment_order_no=draw(NUMBERS),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
        status=draw(STATUSES),
        gateway_ref=draw(st.sampled_from(["gw-1", "gw-2"])),
        **keys,
    )


@st.composite
def turned_back(draw: st.DrawFn) -> InboundMessage:
    """Give the gateway's word about a dispute, recall or return, in any order of its numbers."""
    return reversal(
        draw(REPLY_TO),
        payment_order_no=draw(REVERSED),
        kind=draw(st.sampled_from(["dispute", "dispute", "dispute", "return", "return", "recall"])),
        reversal_ref=draw(st.sampled_from(["dp-1", "dp-1", "dp-2"])),
        sequence=draw(st.integers(1, 4)),
        status=draw(st.sampled_from(["moved", "moved", "settled", "dropped", "opened"])),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
    )


@st.composite
def instructed(draw: st.DrawFn) -> InboundMessage:
    """Give the gateway's word about how a payer pays, in any order of its revisions."""
    return instructions(
        draw(REPLY_TO),
        payment_order_no=draw(NUMBERS),
        revision=draw(st.integers(1, 3)),
        bank_code=draw(st.sampled_from(["1", "2"])),
        expires_at=draw(st.sampled_from([..., "2026-01-05T00:00:00Z", "2099-01-01T00:00:00Z"])),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
    )


@st.composite
def unreadable(draw: st.DrawFn) -> InboundMessage:
    """Give bytes that are no message."""
    if draw(st.booleans()):
        return recharge(draw(REPLY_TO), serial_no=draw(SERIAL_NOS), **draw(st.sampled_from(UNREADABLE)))
    body = draw(
        st.sampled_from([b"", b"{", b"\xff\xfe", b"[]", b'{"type": NaN}', b"\0"]) | st.binary(max_size=20)
    )
    if draw(st.booleans()):
        return command(body, draw(REPLY_TO))
    return InboundMessage(Source.RESULTS, body, reply_to=draw(REPLY_TO))


@st.composite
def ticked(draw: st.DrawFn) -> InboundMessage:
    """Give a word of the clock about an order that is due, or is not, or is none."""
    return tick(draw(NUMBERS))


@st.composite
def mixtures(draw: st.DrawFn, max_size: int = 30, *, with_ticks: bool = False) -> list[InboundMessage]:
    """Give messages of all kinds, in any order, with repeats; the clock's among them only if that is wanted."""
    kinds = [recharged(), paid(), paid(), paid(), spent(), spent(), spent(), refunded(), refunded()]
    kinds += [used(), used(), turned(), opened(), unreadable(), turned_back(), turned_back(), turned_back()]
    kinds += [instructed(), *[ticked()] * with_ticks]
    some = st.lists(st.one_of(kinds), max_size=max_size // 2)  # twice, because most lists are short
    arrived = [*draw(some), *draw(some), draw(st.one_of(kinds))]
    if draw(st.booleans()):
        repeated = draw(st.lists(st.sampled_from(arrived), max_size=max_size // 3))
        arrived = draw(st.permutations(arrived + repeated))
    return arrived
