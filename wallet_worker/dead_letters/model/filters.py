"""Which letters, and which rows of the audit log: filters that can be written as a query string."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from wallet_schemas import times
from wallet_worker.dead_letters.model.states import LetterState


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters; everything that is given must fit. Nothing given: all.

    `serial_no` fits a payment's order number too. `user_id` fits every letter about a user: one that names the user,
    and one about an order of the user. `gateway_ref` and `order_id` fit what is about that payment and that order.
    `ids` are letters by number. `since` and `until` (before) are the time of arrival at the keeper. `seen_up_to` is the
    newest letter that somebody has seen: an action on what is shown leaves alone what has arrived since. It can be
    written as a query string and read again, so that a link can be sent.
    """

    states: tuple[LetterState, ...] = ()
    reason: str | None = None
    source: str | None = None
    message_type: str | None = None
    serial_no: str | None = None
    user_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ids: tuple[int, ...] = ()
    seen_up_to: int | None = None
    gateway_ref: str | None = None
    order_id: UUID | None = None

    def to_query(self) -> dict[str, str]:
        """Return it as names and texts, without what is not given."""
        query: dict[str, str] = {}
        for field in fields(self):
            match getattr(self, field.name):
                case None | ():
                    continue
                case datetime() as time:
                    query[field.name] = time.isoformat()
                case tuple() as several:
                    query[field.name] = ",".join(str(value) for value in several)
                case text:
                    query[field.name] = str(text)
        return query

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """Return what `to_query` was called on; other names and empty texts are passed over.

        Raises ValueError, with a sentence for a person, where a value is none.
        """
        parsed: dict[str, Any] = {}
        for field in fields(cls):
            text = query.get(field.name, "").strip()
            if text:
                parsed[field.name] = _READERS.get(field.name, str)(text)
        return cls(**parsed)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which audit rows."""

    actor: str | None = None
    action: str | None = None
    letter_id: int | None = None
    operation_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


def _read_states(text: str) -> tuple[LetterState, ...]:
    try:
        return tuple(LetterState(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        msg = f"a state is one of {', '.join(LetterState)}"
        raise ValueError(msg) from None


def _read_ids(text: str) -> tuple[int, ...]:
    try:
        ids = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        msg = "ids are numbers, separated by commas"
        raise ValueError(msg) from None
    if any(not 0 < letter_id < 2**63 for letter_id in ids):
        msg = "an id is a number above zero"
        raise ValueError(msg)
    return ids


def _read_id(text: str) -> int:
    ids = _read_ids(text)
    if len(ids) != 1:
        msg = "this is one id"
        raise ValueError(msg)
    return ids[0]


def _read_time(text: str) -> datetime:
    try:
        return times.parse_typed(text)
    except times.NotATimeError:
        msg = "a time looks like 2026-01-31 or 2026-01-31T12:00:00Z"
        raise ValueError(msg) from None


def _read_order_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        msg = "an order_id looks like 019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913"
        raise ValueError(msg) from None


_READERS: Mapping[str, Any] = {
    "order_id": _read_order_id,
    "states": _read_states,
    "ids": _read_ids,
    "seen_up_to": _read_id,
    "since": _read_time,
    "until": _read_time,
}
