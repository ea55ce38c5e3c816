"""What operators say and look for, as the database can take it."""

from dataclasses import fields
from typing import Final

from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.model.errors import NotPossibleError
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.plans import ReplayPace
from wallet_worker.store.dead_letters import audit as audit_table
from wallet_worker.store.dead_letters import letters as letters_table

_REASON_MAX: Final = 1_000
RATE_MIN: Final = 0.01
RATE_MAX: Final = 10_000


def validate_reason(text: str) -> str:
    """Return why somebody does something; raises NotPossibleError if that says nothing, or a novel."""
    text = storable_text(text)
    if not text or len(text) > _REASON_MAX:
        msg = f"say why, in 1 to {_REASON_MAX:,} characters"
        raise NotPossibleError(msg)
    return text


def storable_text(text: str) -> str:
    """Return a person's text as PostgreSQL can keep it."""
    return masking.readable(text).replace("\0", "\ufffd").strip()


def validate_pace(pace: ReplayPace) -> ReplayPace:
    """Return a pace that is one; raises NotPossibleError."""
    if pace.canary < 0 or not RATE_MIN <= pace.rate_per_second <= RATE_MAX or not 0 < pace.stop_ratio <= 1:
        msg = (
            f"a canary is 0 or more, a rate is from {RATE_MIN} to {RATE_MAX:,} a second, a ratio is above 0 and at "
            "most 1"
        )
        raise NotPossibleError(msg)
    return pace


def normalise_token(text: str) -> str:
    """Return a token as it was given out, however it was copied; empty if it can be none."""
    return text.strip().lower()[:64] if text.isascii() and "\0" not in text else ""


def fits(which: Filter) -> letters_table.RowFilter:
    """Return what letters must be."""
    return letters_table.RowFilter(
        states=[state.value for state in which.states] or None,
        reason=_asked(which.reason),
        source=_asked(which.source),
        message_type=_asked(which.message_type),
        serial_no=_asked(which.serial_no),
        user_id=_asked(which.user_id),
        since=which.since,
        until=which.until,
        ids=list(which.ids) or None,
        seen_up_to=which.seen_up_to,
        gateway_ref=_asked(which.gateway_ref),
        order_id=which.order_id,
    )


def audit_fits(which: AuditFilter) -> audit_table.Fits:
    """Return what rows of the audit must be."""
    return audit_table.Fits(
        actor=_asked(which.actor),
        action=_asked(which.action),
        letter_id=which.letter_id,
        operation_id=which.operation_id,
        since=which.since,
        until=which.until,
    )


def audit_query(which: AuditFilter) -> dict[str, str]:
    """Return what was asked of the audit, as names and texts, for the audit itself."""
    said = {one.name: getattr(which, one.name) for one in fields(which)}
    return {name: storable_text(str(value)) for name, value in said.items() if value is not None}


def _asked(text: str | None) -> str | None:
    """Return what somebody looks for, as PostgreSQL can compare it; nothing can fit NUL, which it keeps in no text."""
    return None if text is None else masking.readable(text).replace("\0", "\ufffd")
