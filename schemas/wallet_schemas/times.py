"""Times: any notation of RFC 3339 is read, and one is written.

A time that arrives may have any offset and any number of digits of a second. It is kept in UTC, cut to the
microsecond and never rounded: a payment of the last moment of a day stays on that day. What the wallet writes has
`Z` and six digits.
"""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

# RFC 3339, section 5.6: `t` and `z` may be small, an offset has hours up to 23, and a second may be a leap second.
_DATE: Final = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_TIME: Final = r"([01][0-9]|2[0-3]):([0-5][0-9])"
_SECOND: Final = r"([0-5][0-9]|60)(?:\.([0-9]+))?"
_OFFSET: Final = r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
"""The notations that are read, as JSON Schema writes it; which days a month has, it cannot say."""

_rfc_3339: Final = re.compile(f"{_DATE}[Tt]{_TIME}:{_SECOND}{_OFFSET}", re.ASCII).fullmatch
# What is written most often, and what the interpreter reads by itself as it is meant here.
_is_plain: Final = re.compile(
    r"20[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T"
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?Z",
    re.ASCII,
).fullmatch
# What a person types: a day, or a time of it, with or without seconds and offset.
_typed: Final = re.compile(f"{_DATE}(?:[Tt ]{_TIME}(?::{_SECOND})?{_OFFSET}?)?", re.ASCII).fullmatch

_LEAP_SECOND: Final = 60
_MINUTES_A_HOUR: Final = 60
_MICROSECOND_DIGITS: Final = 6


NOT_RFC_3339: Final = "Should be a time in RFC 3339, such as 2026-01-31T12:00:00Z"
_OUT_OF_RANGE: Final = "Should be in the years 0001 to 9999 in UTC"


# PostgreSQL's driver takes the two ends of the calendar for infinities: what is kept is a microsecond inside.
_FIRST: Final = datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, 999_998, tzinfo=UTC)


class NotATimeError(ValueError):
    """The text is not a time; the sentence says why, for a person."""


def parse(text: str) -> datetime:
    """Return the moment of a time in RFC 3339, in UTC and cut to the microsecond; raises NotATimeError.

    A leap second, which neither Python nor PostgreSQL can hold, is the last microsecond before it. It is only taken
    where there can be one: at the end of a month in UTC.
    """
    if _is_plain(text):
        return datetime.fromisoformat(text)
    match = _rfc_3339(text)
    if match is None:
        raise NotATimeError(NOT_RFC_3339)
    return _moment(match.groups())


def parse_typed(text: str) -> datetime:
    """Return the moment that a person typed: a day, or a time of it. Without an offset it is in UTC.

    Raises NotATimeError.
    """
    match = _typed(text)
    if match is None:
        raise NotATimeError("Should be a time such as 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00:00Z")
    return _moment(match.groups())


def _moment(parts: tuple[str | None, ...]) -> datetime:
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = parts
    whole_second = int(second or 0)
    is_leap = whole_second == _LEAP_SECOND
    microsecond = (
        999_999 if is_leap else int((fraction or "")[:_MICROSECOND_DIGITS].ljust(_MICROSECOND_DIGITS, "0"))
    )
    try:
        local = datetime(
            int(year or 0),
            int(month or 0),
            int(day or 0),
            int(hour or 0),
            int(minute or 0),
            min(whole_second, _LEAP_SECOND - 1),
            microsecond,
            tzinfo=UTC,
        )
    except ValueError:
        raise NotATimeError("Should be a day of the calendar, in the years 0001 to 9999") from None
    try:
        moment = local - _offset(sign, offset_hours, offset_minutes)
        if is_leap and not _may_end_in_a_leap_second(moment):
            raise NotATimeError("Should not have the second 60: no leap second can be there")
    except OverflowError:
        raise NotATimeError(_OUT_OF_RANGE) from None
    return max(_FIRST, min(moment, _LAST))


def in_utc(moment: datetime) -> datetime:
    """Return an aware datetime in UTC; raises NotATimeError where the calendar ends."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise NotATimeError(_OUT_OF_RANGE) from None


def _offset(sign: str | None, hours: str | None, minutes: str | None) -> timedelta:
    """Return how far the local time is ahead of UTC; `-00:00` says that it is UTC, and nothing of the place."""
    ahead = timedelta(minutes=int(hours or 0) * _MINUTES_A_HOUR + int(minutes or 0))
    return -ahead if sign == "-" else ahead


def _may_end_in_a_leap_second(moment: datetime) -> bool:
    """Return whether the moment is in the last minute of a month: leap seconds are put there, in UTC."""
    _, last_day = monthrange(moment.year, moment.month)
    return (moment.day, moment.hour, moment.minute) == (last_day, 23, 59)


@lru_cache(maxsize=1_024)  # a batch has one time of its own, and says it several times in every message
def to_text(moment: datetime) -> str:
    """Return a moment in UTC as the wallet writes it: with `Z` and microseconds."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"
