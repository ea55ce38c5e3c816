"""What an address asks for: filters, times and numbers, each such as the database can hold, or a sentence why not."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime

from wallet_schemas.faults import echo
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter

NUMBER_MAX = 2**63 - 1  # of PostgreSQL's bigint
_YEAR_MIN, _YEAR_MAX = (
    2,
    9_998,
)  # a year from the ends of what a datetime holds, so that every zone can show it


_FILTERS = frozenset(field.name for field in fields(Filter))
_AUDIT_FILTERS = frozenset(field.name for field in fields(AuditFilter))

KNOWN: Mapping[str, frozenset[str]] = {
    "/letters": _FILTERS | {"after", "limit"},
    "/letters.jsonl": _FILTERS,
    "/plans/new": _FILTERS | {"action", "why", "canary", "rate", "stop_percent"},
    "/audit": _AUDIT_FILTERS | {"after"},
    "/audit.jsonl": _AUDIT_FILTERS,
    "/accounts": frozenset({"user_id", "account_type", "currency", "from", "to", "after"}),
    "/orders": frozenset({"serial_no", "user_id", "order_type", "status", "from", "to", "after"}),
    "/history": frozenset({"user_id", "account_type", "currency", "before"}),
    "/webhooks": frozenset({"client", "name", "state", "before"}),
    "/find": frozenset({"q"}),
}
"""What the address of each page that looks for something may ask. Of what it does not know, it would find too much."""

_LISTS = frozenset({"states", "ids"})


def why_unreadable(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Return why a page does not look for what its address asks, as a sentence; empty if it does."""
    known = KNOWN.get(path)
    if known is None:
        return ""
    seen: set[str] = set()
    for name, value in pairs:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"Did you mean {near[0]}?" if near else f"It knows {', '.join(sorted(known))}."
            return f"This page does not know {echo(name)}. {meant}"
        if value.strip() and name in seen and name not in _LISTS:
            return f"The address asks for {name} more than once. Ask for one."
        if value.strip():
            seen.add(name)
    return ""


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
