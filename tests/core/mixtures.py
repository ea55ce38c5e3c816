"""What a busy day brings, on few serial numbers and few users, so that everything meets everything."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tests.contract.bodies import JsonObject
from tests.core.world import command, open_account, recharge, result
from wallet_worker.core.reading import Incoming, Source

# Weighted by repetition: most of what arrives is in order, or there would be nothing to collide with.
SERIAL_NOS = st.sampled_from(["S-1", "S-2", "S-3", "S-4", "S-5", "S-6"])
USERS = st.sampled_from(["u-hot", "u-hot", "u-hot", "u-1", "u-2"])
ACCOUNT_TYPES = st.sampled_from([..., ..., "basic", "bonus"])
CURRENCIES = st.sampled_from(["TWD", "TWD", "TWD", "TWD", "JPY", "XYZ"])
AMOUNTS = st.sampled_from(["100", "100", "100.0", "100.00", "7", "9" * 30])
REPLY_TO = st.sampled_from([None, "upstream"])
STATUSES = st.sampled_from(["succeeded", "succeeded", "failed", "unknown"])

UNHURRIED = settings(deadline=None)
"""For properties: how long an example takes says something of the machine, and nothing of the wallet."""

BEFORE = (
    open_account(serial_no="P-1", user_id="u-hot"),
    open_account(serial_no="P-2", user_id="u-1"),
    open_account(serial_no="P-3", user_id="u-1", currency="JPY"),
)
"""What a mixture is told after: some users are there already."""

UNREADABLE: list[JsonObject] = [{"colour": "red"}, {"type": "order.recharge.v2"}, {"user_id": "u 1"}]


@st.composite
def opened(draw: st.DrawFn) -> Incoming:
    """Give a command to open an account."""
    return open_account(
        draw(REPLY_TO),
        serial_no=draw(SERIAL_NOS),
        user_id=draw(USERS),
        account_type=draw(ACCOUNT_TYPES),
        currency=draw(CURRENCIES),
    )


@st.composite
def recharged(draw: st.DrawFn) -> Incoming:
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
def paid(draw: st.DrawFn) -> Incoming:
    """Give a payment result, seldom forged."""
    keys: dict[str, Any] = {"keys": {}} if draw(st.integers(0, 9)) == 0 else {}
    return result(
        draw(REPLY_TO),
        payment_order_no=draw(SERIAL_NOS),
        amount=draw(AMOUNTS),
        currency=draw(CURRENCIES),
        status=draw(STATUSES),
        gateway_ref=draw(st.sampled_from(["gw-1", "gw-2"])),
        **keys,
    )


@st.composite
def unreadable(draw: st.DrawFn) -> Incoming:
    """Give bytes that are no message."""
    if draw(st.booleans()):
        return recharge(draw(REPLY_TO), serial_no=draw(SERIAL_NOS), **draw(st.sampled_from(UNREADABLE)))
    body = draw(
        st.sampled_from([b"", b"{", b"\xff\xfe", b"[]", b'{"type": NaN}', b"\0"]) | st.binary(max_size=20)
    )
    if draw(st.booleans()):
        return command(body, draw(REPLY_TO))
    return Incoming(Source.RESULTS, body, reply_to=draw(REPLY_TO))


@st.composite
def mixtures(draw: st.DrawFn, max_size: int = 30) -> list[Incoming]:
    """Give messages of all kinds, in any order, with repeats."""
    one = st.one_of(recharged(), paid(), opened(), recharged(), paid(), unreadable())
    arrived = draw(st.lists(one, min_size=1, max_size=max_size))
    if draw(st.booleans()):
        repeated = draw(st.lists(st.sampled_from(arrived), max_size=max_size // 3))
        arrived = draw(st.permutations(arrived + repeated))
    return arrived
