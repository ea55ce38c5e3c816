"""Identifiers have the form that others will check, and come from the draw alone."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.core.mixtures import UNHURRIED
from wallet_worker.core.ids import ENTROPY_BYTES, FreshIds, account_no, is_account_no, luhn_digit, uuid7

TIMES = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - Hypothesis wants them naive
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@pytest.mark.parametrize(
    ("digits", "check"),
    [
        ("7992739871", "3"),  # the example of ISO/IEC 7812-1's reference implementations
        ("411111111111111", "1"),
        ("555555555555444", "4"),
        ("37828224631000", "5"),
        ("0", "0"),
    ],
)
def test_the_check_digit_is_luhn_s(digits: str, check: str) -> None:
    assert luhn_digit(digits) == check


@UNHURRIED
@given(at=TIMES, random=st.integers(min_value=0, max_value=2**64 - 1))
def test_an_account_number_is_the_day_ten_digits_and_a_check_digit(at: datetime, random: int) -> None:
    number = account_no(at, random)

    assert len(number) == 19
    assert number[:8] == f"{at:%Y%m%d}"
    assert int(number[8:18]) == random % 10**10
    assert is_account_no(number)


@UNHURRIED
@given(at=TIMES, random=st.integers(min_value=0, max_value=10**10 - 1), data=st.data())
def test_one_wrong_digit_in_an_account_number_is_found(
    at: datetime, random: int, data: st.DataObject
) -> None:
    number = account_no(at, random)
    place = data.draw(st.integers(min_value=0, max_value=18))
    digit = data.draw(st.sampled_from([item for item in "0123456789" if item != number[place]]))

    assert not is_account_no(number[:place] + digit + number[place + 1 :])


@UNHURRIED
@given(at=TIMES, random=st.integers(min_value=0, max_value=10**10 - 1), place=st.integers(0, 17))
def test_two_neighbours_in_the_wrong_order_are_found_except_0_and_9(
    at: datetime, random: int, place: int
) -> None:
    number = account_no(at, random)
    first, other = number[place], number[place + 1]
    swapped = number[:place] + other + first + number[place + 2 :]

    assert is_account_no(swapped) == (first == other or {first, other} == {"0", "9"})


@pytest.mark.parametrize(
    "text", ["", "2026010204815162347", "202601020481516234", "20260102048151623410", "²026010204815162341"]
)
def test_other_texts_are_no_account_numbers(text: str) -> None:
    assert not is_account_no(text)
    assert is_account_no("2026010204815162341")


@UNHURRIED
@given(at=TIMES, random=st.binary(min_size=10, max_size=10))
def test_a_uuid_is_of_version_7_and_begins_with_its_time_in_milliseconds(at: datetime, random: bytes) -> None:
    found = uuid7(at, random)

    assert found.version == 7
    assert found.variant == RFC_4122
    assert found.int >> 80 == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@UNHURRIED
@given(at=TIMES, item=st.binary(min_size=10, max_size=10), other=st.binary(min_size=10, max_size=10))
def test_a_uuid_keeps_the_74_random_bits(at: datetime, item: bytes, other: bytes) -> None:
    free = ~((0xF << 76) | (0x3 << 62))  # all but version and variant

    same = int.from_bytes(item, "big") & free == int.from_bytes(other, "big") & free

    assert (uuid7(at, item) == uuid7(at, other)) == same


def test_a_uuid_of_the_standard_s_example_comes_out() -> None:
    """RFC 9562, appendix A.6."""
    at = datetime(2022, 2, 22, 14, 22, 22, tzinfo=timezone(timedelta(hours=-5)))
    random = (0xCC3 << 64 | 0x18C4DC0C0C07398F).to_bytes(10, "big")

    assert uuid7(at, random) == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


@UNHURRIED
@given(at=TIMES, entropy=st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_a_draw_gives_the_same_identifiers_each_time(at: datetime, entropy: bytes) -> None:
    first, other = FreshIds(entropy), FreshIds(entropy)

    assert first.order_id(at) == other.order_id(at)
    assert first.account_no(at) == other.account_no(at)
    assert [first.event_id(at, number) for number in range(3)] == [
        other.event_id(at, number) for number in range(3)
    ]


def test_no_two_identifiers_of_a_draw_share_a_byte() -> None:
    """Changing any one byte of the entropy changes exactly one identifier."""
    at = datetime(2026, 1, 2, tzinfo=UTC)

    def identifiers(entropy: bytes) -> list[object]:
        draw = FreshIds(entropy)
        return [draw.order_id(at), *(draw.event_id(at, number) for number in range(3)), draw.account_no(at)]

    nothing = bytes(ENTROPY_BYTES)
    plain = identifiers(nothing)
    for place in range(ENTROPY_BYTES):
        # The lowest bit of a byte is free in every UUID, and 256**n is no multiple of 10**10.
        spoilt = identifiers(nothing[:place] + b"\1" + nothing[place + 1 :])
        assert sum(item != other for item, other in zip(plain, spoilt, strict=True)) == 1
