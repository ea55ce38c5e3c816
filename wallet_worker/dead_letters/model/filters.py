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
        said: dict[str, str] = {}
        for one in fields(self):
            match getattr(self, one.name):
                case None | ():
                    continue
                case datetime() as time:
                    said[one.name] = time.isoformat()
                case tuple() as several:
                    said[one.name] = ",".join(str(each) for each in several)
                case text:
                    said[one.name] = str(text)
        return said

    @classmethod
    def from_query(cls, said: Mapping[str, str]) -> Self:
        """Return what `to_query` was called on; other names and empty texts are passed over.

        Raises ValueError, with a sentence for a person, where a value is none.
        """
        read: dict[str, Any] = {}
        for one in fields(cls):
            text = said.get(one.name, "").strip()
            if text:
                read[one.name] = _READERS.get(one.name, str)(text)
        return cls(**read)


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
    if any(not 0 < one < 2**63 for one in ids):
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
