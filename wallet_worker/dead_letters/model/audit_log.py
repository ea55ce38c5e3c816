"""Rows of the audit log as operators see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what, when and why. Rows are never changed. Notes are rows too (action `note`, the text in `reason`)."""

    audit_id: int
    at: datetime
    actor: str
    role: str
    via: str
    action: str
    reason: str
    letter_id: int | None
    operation_id: UUID | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some audit rows, newest first."""

    rows: tuple[AuditRow, ...]
    next_after: int | None
