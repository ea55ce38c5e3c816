"""What operators type and search for: validated, and as PostgreSQL can store and compare it."""

from dataclasses import fields
from typing import Final

from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.store.dead_letters import audit as audit_table
from wallet_worker.store.dead_letters import letters as letters_table
from wallet_worker.text import readable, without_nul

_REASON_MAX: Final = 1_000
RATE_MIN: Final = 0.01
RATE_MAX: Final = 10_000


def validate_reason(text: str) -> str:
    """Return the reason of an action as it is stored; raises NotPossibleError if it is empty or too long."""
    text = storable_text(text)
    if not text or len(text) > _REASON_MAX:
        msg = f"say why, in 1 to {_REASON_MAX:,} characters"
        raise NotPossibleError(msg)
    return text


def storable_text(text: str) -> str:
    """Return a person's text as PostgreSQL can store it."""
    return without_nul(readable(text)).strip()


def validate_pace(pace: ReplayPace) -> ReplayPace:
    """Return a pace whose numbers are in range; raises NotPossibleError."""
    if pace.canary < 0 or not RATE_MIN <= pace.rate_per_second <= RATE_MAX or not 0 < pace.stop_ratio <= 1:
        msg = (
            f"a canary is 0 or more, a rate is from {RATE_MIN} to {RATE_MAX:,} a second, a ratio is above 0 and at "
            "most 1"
        )
        raise NotPossibleError(msg)
    return pace


def normalise_token(text: str) -> str:
    """Return a token without the spaces and capitals that it was copied with; empty if it cannot be a token."""
    return text.strip().lower()[:64] if text.isascii() and "\0" not in text else ""


def to_row_filter(which: Filter) -> letters_table.RowFilter:
    """Return the filter as the table of letters takes it."""
    return letters_table.RowFilter(
        states=[state.value for state in which.states] or None,
        reason=_searchable(which.reason),
        source=_searchable(which.source),
        message_type=_searchable(which.message_type),
        serial_no=_searchable(which.serial_no),
        user_id=_searchable(which.user_id),
        since=which.since,
        until=which.until,
        ids=list(which.ids) or None,
        seen_up_to=which.seen_up_to,
        gateway_ref=_searchable(which.gateway_ref),
        order_id=which.order_id,
    )


def to_audit_row_filter(which: AuditFilter) -> audit_table.AuditRowFilter:
    """Return the filter as the table of the audit log takes it."""
    return audit_table.AuditRowFilter(
        actor=_searchable(which.actor),
        action=_searchable(which.action),
        letter_id=which.letter_id,
        operation_id=which.operation_id,
        since=which.since,
        until=which.until,
    )


def audit_query(which: AuditFilter) -> dict[str, str]:
    """Return the filter as names and texts, for the audit log itself."""
    given = {field.name: getattr(which, field.name) for field in fields(which)}
    return {name: storable_text(str(value)) for name, value in given.items() if value is not None}


def _searchable(text: str | None) -> str | None:
    """Return a search text as PostgreSQL can compare it. No stored text contains NUL: a search for it finds nothing."""
    return None if text is None else without_nul(readable(text))
