"""What an address asks for: filters, times and numbers, each such as the database can hold, or a sentence why not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from wallet_worker.dead_letters.model.filters import Filter

NUMBER_MAX = 2**63 - 1  # of PostgreSQL's bigint
_YEAR_MIN, _YEAR_MAX = (
    2,
    9_998,
)  # a year from the ends of what a datetime holds, so that every zone can show it


def letters(params: Mapping[str, str]) -> Filter:
    """Return the filter of a query string, its times in UTC; raises ValueError with a sentence."""
    which = Filter.from_query(params)
    return replace(which, since=_utc(which.since), until=_utc(which.until))


def time_field(value: str | datetime | None) -> str:
    """Return a time for a field that is labelled UTC, whatever its own zone is; "" for a text that is not a time."""
    try:
        time = letters({"since": value}).since if isinstance(value, str) else _utc(value)
    except ValueError:
        return ""
    if time is None:
        return ""
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds" if time.microsecond else "seconds")


def number(text: str | None) -> int | None:
    """Return a number of a page, if one is asked for; raises ValueError with a sentence."""
    text = (text or "").strip()
    if not text:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(NUMBER_MAX))
    if not is_number or int(text) > NUMBER_MAX:
        msg = f"{text[:40]!r} is no number of a page"
        raise ValueError(msg)
    return int(text)


def _utc(time: datetime | None) -> datetime | None:
    if time is None:
        return None
    try:
        utc = time.astimezone(UTC)
    except OverflowError:
        utc = None
    if utc is None or not _YEAR_MIN <= utc.year <= _YEAR_MAX:
        msg = f"a time is in the years {_YEAR_MIN} to {_YEAR_MAX}, in UTC"
        raise ValueError(msg)
    return utc
