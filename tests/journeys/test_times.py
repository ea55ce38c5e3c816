"""Times on the wire: whatever notation the gateway writes, one moment is kept and one is told."""

from datetime import UTC, datetime

import pytest

from tests.journeys.conftest import Wallet
from tests.journeys.messages import Json, recharge, result

pytestmark = pytest.mark.asyncio(loop_scope="module")

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC)
NOTATIONS = (
    "2026-01-02T03:04:05.1234567Z",  # .NET
    "2026-01-02T03:04:05.123456789Z",  # Go, Java
    "2026-01-02T03:04:05.123456+00:00",  # Python
    "2026-01-02T11:04:05.123456+08:00",
    "2026-01-01T19:04:05.123456-08:00",
    "2026-01-02t03:04:05.123456z",
)


async def pending(wallet: Wallet) -> Json:
    """Return the command of a recharge that waits for its result."""
    order = recharge(await wallet.upstream.opened())
    assert (await wallet.upstream.outcome(order))["code"] == "OK"
    return order


@pytest.mark.parametrize("notation", NOTATIONS)
async def test_a_result_is_applied_once_whatever_the_notation_of_its_repeats(
    notation: str, shared: Wallet
) -> None:
    order = await pending(shared)
    number = order["serial_no"]

    first = await shared.upstream.processed(result(number, occurred_at=notation))
    repeats = [await shared.upstream.processed(result(number, occurred_at=another)) for another in NOTATIONS]

    assert first["processing_status"] == "processed"
    assert {repeat["processing_status"] for repeat in repeats} == {"duplicate"}
    kept = await shared.owner.fetchval(
        "SELECT occurred_at FROM payment_results WHERE payment_order_no = $1", number
    )
    assert kept == MOMENT
    assert len((await shared.upstream.order(number))["entries"]) == 1


@pytest.mark.parametrize(
    ("occurred_at", "kept"),
    [
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        ("0001-01-01T23:59:00+23:59", datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_998, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
async def test_the_edges_of_the_calendar_are_stored_as_moments_and_not_as_infinities(
    occurred_at: str, kept: datetime, shared: Wallet
) -> None:
    order = await pending(shared)

    answer = await shared.upstream.processed(result(order["serial_no"], occurred_at=occurred_at))

    assert answer["processing_status"] == "processed"
    stored = await shared.owner.fetchval(
        "SELECT occurred_at FROM payment_results WHERE payment_order_no = $1", order["serial_no"]
    )
    assert stored == kept


async def test_a_statement_is_asked_for_in_any_notation_and_told_in_utc(shared: Wallet) -> None:
    order = await pending(shared)
    await shared.upstream.processed(result(order["serial_no"]))
    fields = {"type": "statement.get.v1", "user_id": order["user_id"], "currency": "TWD"}

    whole = await shared.upstream.query(fields)
    (entry,) = whole["entries"]
    made_at = datetime.fromisoformat(entry["created_at"])
    before = await shared.upstream.query({**fields, "to": f"{made_at:%Y-%m-%dT%H:%M:%S.%f}999-00:00"})
    since = await shared.upstream.query({**fields, "from": made_at.strftime("%Y-%m-%dT%H:%M:%S.%f000+00:00")})
    outside = await shared.upstream.query({**fields, "from": "9999-12-31T23:59:59-00:01"})

    # The digits after the microsecond are cut, so `to` is the moment itself, and excludes it.
    assert (before["entries"], since["entries"]) == ([], [entry])
    assert entry["created_at"] == made_at.isoformat(timespec="microseconds")[:26] + "Z"
    assert (outside["type"], outside["code"]) == ("query.refused.v1", "MALFORMED")
    assert "in UTC" in outside["message"]
