"""Which events somebody wants and may see, and what of them: the feed and the webhooks go by the same rules."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from wallet_schemas.events import EVENTS
from wallet_schemas.names import routing_key

KINDS: Final = tuple(sorted(routing_key(event.TYPE) for event in EVENTS))
"""What events are called in patterns: their types without the version."""

_PATTERN: Final = re.compile(r"\*|[a-z_]+(\.[a-z_]+)*(\.\*)?")
_SEPARATORS: Final = (",", ":")


def wrong_pattern(patterns: Sequence[str]) -> str | None:
    """Return the first pattern that no event of the wallet can match, if there is one."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern) or not any(matches(pattern, kind) for kind in KINDS):
            return pattern
    return None


def matches(pattern: str, kind: str) -> bool:
    """Return whether `order.*`, `order.pending` or `*` means this kind of event."""
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == kind


@dataclass(frozen=True)
class FeedEvent:
    """One event of the log, read no further than somebody asks. `kind` is its type without the version."""

    offset: int
    kind: str
    body: bytes

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """The event as JSON; empty for what is no event."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) and isinstance(found.get("event_id"), str) else {}

    @property
    def users(self) -> frozenset[str]:
        """Whose account or order it is about, and who receives the money. A refused command names nobody."""
        data = self.content.get("data")
        if not isinstance(data, dict):
            return frozenset()
        named = (data.get("user_id"), data.get("to_user_id"))
        return frozenset(user_id for user_id in named if isinstance(user_id, str))


@dataclass(frozen=True, slots=True)
class Interest:
    """What somebody wants to see, and may. What is absent limits nothing.

    `kinds` are patterns; `reach` is the prefix of the users that the key may see: an event that names none of them is
    not shown, and of an event about two users only the entries of those in reach.
    """

    kinds: tuple[str, ...] = ()
    serial_no: str | None = None
    user_id: str | None = None
    reach: str | None = None

    def shown(self, event: FeedEvent) -> bytes | None:
        """Return the event as it is shown, on one line; absent where it is not wanted, or may not be seen."""
        if self.kinds and not any(matches(pattern, event.kind) for pattern in self.kinds):
            return None
        if not event.content:
            return None
        if self.serial_no is not None and event.content.get("serial_no") != self.serial_no:
            return None
        users = event.users
        if self.user_id is not None and self.user_id not in users:
            return None
        if self.reach is None:
            return event.body if b"\n" not in event.body else _encoded(event.content)
        within = {user_id for user_id in users if user_id.startswith(self.reach)}
        if not within:
            return None
        return event.body if within == users and b"\n" not in event.body else _part(event.content, within)


def _part(content: Mapping[str, Any], users: set[str]) -> bytes:
    """Return an event with those of its entries that are of these users' accounts."""
    data = dict(content["data"])
    own = {
        data.get(account)
        for user, account in (("user_id", "account_no"), ("to_user_id", "to_account_no"))
        if data.get(user) in users
    }
    entries = data.get("entries")
    if isinstance(entries, list):
        data["entries"] = [
            entry for entry in entries if isinstance(entry, dict) and entry.get("account_no") in own
        ]
    return _encoded({**content, "data": data})


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=_SEPARATORS).encode()
