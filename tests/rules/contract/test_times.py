"""Times as gateways write them: every notation of RFC 3339 is read, and the same moment is the same content."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.contract import bodies
from tests.rules.contract.test_messages import schema_takes
from wallet_schemas import json_schema, times
from wallet_schemas.encode import encode
from wallet_schemas.fingerprint import content, fingerprint
from wallet_schemas.parse import QUERIES, RESULTS, Malformed, parse
from wallet_schemas.payments import PaymentResult

ACCEPTED = Path(__file__).parent / "accepted"
MOMENT = "2026-01-02T03:04:05.123456Z"
SAME_MOMENT = [
    MOMENT,
    "2026-01-02T03:04:05.1234567Z",
    "2026-01-02T03:04:05.123456999Z",
    "2026-01-02T03:04:05.123456+00:00",
    "2026-01-02T03:04:05.123456-00:00",
    "2026-01-02T11:04:05.1234560+08:00",
    "2026-01-01T21:34:05.123456-05:30",
    "2026-01-03T03:03:05.123456+23:59",
    "2026-01-01T03:05:05.123456789012-23:59",
    "2026-01-02t03:04:05.123456z",
]


def result(occurred_at: str) -> PaymentResult:
    """Return a result as the worker reads it, with a time in somebody's notation."""
    message = parse(bodies.body({**bodies.RESULT, "occurred_at": occurred_at}), RESULTS)
    assert isinstance(message, PaymentResult)
    return message


@pytest.mark.parametrize("notation", SAME_MOMENT)
def test_the_same_moment_in_another_notation_is_the_same_content(notation: str) -> None:
    found, first = result(notation), result(MOMENT)

    assert found == first
    assert content(found) == content(first)
    assert fingerprint(content(found)) == fingerprint(content(first))
    assert encode(found) == encode(first)
    assert json.loads(encode(found))["occurred_at"] == MOMENT


@pytest.mark.parametrize("digits", range(1, 31))
def test_a_second_may_have_any_number_of_digits_and_is_cut(digits: int) -> None:
    found = result(f"2026-01-02T23:59:59.{'9' * digits}Z")

    assert found.occurred_at.microsecond == int(f"{'9' * min(digits, 6):0<6}")
    assert found.occurred_at.day == 2  # rounded, it would be the next day's


def test_no_number_of_digits_takes_long() -> None:
    assert result(f"2026-01-02T03:04:05.{'1' * 60_000}+08:00").occurred_at.microsecond == 111_111


@pytest.mark.parametrize("path", sorted(ACCEPTED.iterdir()), ids=lambda path: path.name)
def test_the_bodies_that_are_accepted_are_accepted_by_model_and_by_schema(path: Path) -> None:
    body = json.loads(path.read_bytes())

    message = parse(path.read_bytes(), RESULTS)

    # The checker of formats that the tests use knows no leap second; the schema does.
    assert schema_takes({**body, "occurred_at": body["occurred_at"].replace(":60", ":59")})
    assert jsonschema.Draft202012Validator(json_schema.json_schema(PaymentResult)).is_valid(body)
    assert parse(encode(message), RESULTS) == message


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        # The last leap second, in three places; the wallet has it as the last microsecond before midnight.
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
        ("2016-12-31T23:59:60.250Z", "2016-12-31T23:59:59.999999Z"),
        ("2017-01-01T07:59:60+08:00", "2016-12-31T23:59:59.999999Z"),
        ("2016-12-31T15:59:60-08:00", "2016-12-31T23:59:59.999999Z"),
        ("2015-06-30T23:59:60Z", "2015-06-30T23:59:59.999999Z"),
        # The ends of what can be kept: the driver of the database takes the two moments outside for infinities.
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000001Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999998Z"),
        ("9999-12-31T23:59:60Z", "9999-12-31T23:59:59.999998Z"),
        ("0001-01-01T23:59:00+23:59", "0001-01-01T00:00:00.000001Z"),
        ("9999-12-31T00:00:59-23:59", "9999-12-31T23:59:59.000000Z"),
        ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000000Z"),
    ],
)
def test_the_edges_of_the_calendar_are_kept(written: str, kept: str) -> None:
    assert json.loads(encode(result(written)))["occurred_at"] == kept


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("2026-01-02", times.NOT_RFC_3339),
        ("2026-01-02T24:00:00Z", times.NOT_RFC_3339),
        ("2016-12-31T23:59:61Z", times.NOT_RFC_3339),
        ("2026-01-02T03:04:05+24:00", times.NOT_RFC_3339),
        ("2026-01-02T03:04:05.Z", times.NOT_RFC_3339),
        ("2026-01-02T03:04:05Z\n", times.NOT_RFC_3339),
        ("0000-01-01T00:00:00Z", "Should be a day of the calendar, in the years 0001 to 9999"),
        ("2026-02-30T00:00:00Z", "Should be a day of the calendar, in the years 0001 to 9999"),
        ("2023-02-29T00:00:00Z", "Should be a day of the calendar, in the years 0001 to 9999"),
        ("2026-00-10T00:00:00Z", "Should be a day of the calendar, in the years 0001 to 9999"),
        ("9999-12-31T23:59:59-00:01", "Should be in the years 0001 to 9999 in UTC"),
        ("0001-01-01T00:00:00+00:01", "Should be in the years 0001 to 9999 in UTC"),
        ("2016-12-31T12:00:60Z", "Should not have the second 60: no leap second can be there"),
        ("2016-12-30T23:59:60Z", "Should not have the second 60: no leap second can be there"),
        ("2016-12-31T23:59:60+08:00", "Should not have the second 60: no leap second can be there"),
    ],
)
def test_what_is_no_moment_is_refused_with_a_sentence(written: str, sentence: str) -> None:
    for good, field, accepted in (
        (bodies.RESULT, "occurred_at", RESULTS),
        (bodies.GET_STATEMENT, "from", QUERIES),
        (bodies.GET_STATEMENT, "to", QUERIES),
    ):
        with pytest.raises(Malformed) as refused:
            parse(bodies.body({**good, field: written}), accepted)

        assert [(fault.field, fault.message) for fault in refused.value.faults] == [(field, sentence)]


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),  # noqa: DTZ001 -- in UTC, below
    st.integers(-1_439, 1_439),
    st.text("0123456789", max_size=24),
)
def test_any_moment_comes_back_whatever_its_offset_and_digits(
    naive: datetime, minutes: int, more_digits: str
) -> None:
    moment = naive.replace(tzinfo=UTC)
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"

    written = f"{local.replace(tzinfo=None).isoformat(timespec='microseconds')}{more_digits}{offset}"

    assert times.parse(written) == moment
    assert times.to_text(times.parse(written)) == times.to_text(moment)


@pytest.mark.parametrize(
    ("typed", "moment"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31 12:00:01.5", "2026-01-31T12:00:01.500000Z"),
        ("2026-01-31T12:00:00+08:00", "2026-01-31T04:00:00.000000Z"),
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999Z"),
    ],
)
def test_what_a_person_types_is_a_day_or_a_time_of_it(typed: str, moment: str) -> None:
    assert times.to_text(times.parse_typed(typed)) == moment


@pytest.mark.parametrize(
    "typed",
    [*("", "yesterday", "20260131", "2026-W05", "2026-031", "2026-1-31", "31.1.2026", "2026-01-31T"),
     *("2026-01-31T12", "2026-01-31T24:00", "2026-02-30", "0000-01-01", "9999-12-31T23:59:59-01:00")],
)  # fmt: skip
def test_what_is_no_time_is_not_typed(typed: str) -> None:
    with pytest.raises(times.NotATimeError, match="Should "):
        times.parse_typed(typed)
