"""Who did what, when and why."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from uuid import UUID

from starlette.responses import Response, StreamingResponse

from wallet_worker.console import query_params
from wallet_worker.console.request import PageContext
from wallet_worker.dead_letters.model.audit_log import AuditPage, AuditRow
from wallet_worker.dead_letters.model.filters import AuditFilter
from wallet_worker.dead_letters.model.json import document

_NAMES = tuple(field.name for field in fields(AuditFilter))


async def audit(visit: PageContext) -> Response:
    """Show a page of the rows that fit the query string."""
    fields = {name: visit.params[name].strip() for name in _NAMES if name in visit.params}
    found: AuditPage | None = None
    fault, status = None, 200
    try:
        which = _filter(fields)
        after = query_params.number(visit.params.get("after")) or None
    except ValueError as exc:
        fault, status = f"{exc}.", 400
    else:
        found = await visit.parts.operations.audit(visit.actor, which, after=after)
    return visit.show("audit.html", status, fields=fields, found=found, fault=fault)


async def export(visit: PageContext) -> Response:
    """Give the rows that fit as lines of JSON, oldest first."""
    try:
        which = _filter(visit.params)
    except ValueError as exc:
        return visit.refuse(400, "The filter cannot be read", f"{exc}.")
    exported = visit.parts.operations.export_audit(visit.actor, which)
    first = await anext(exported, None)

    async def rows() -> AsyncIterator[str]:
        if first is not None:
            yield _row(first)
        async for row in exported:
            yield _row(row)

    return StreamingResponse(
        rows(),
        media_type="application/x-ndjson",
        headers={"content-disposition": 'attachment; filename="dead-letters-audit.jsonl"'},
    )


def _row(row: AuditRow) -> str:
    return json.dumps(document(row), ensure_ascii=False) + "\n"


def _filter(fields: Mapping[str, str]) -> AuditFilter:
    """Return the filter of a query string; raises ValueError with a sentence."""
    times = query_params.letters({name: fields[name] for name in ("since", "until") if name in fields})
    try:
        letter_id = int(fields["letter_id"]) if fields.get("letter_id") else None
        operation_id = UUID(fields["operation_id"]) if fields.get("operation_id") else None
    except ValueError:
        msg = "a letter is a number, an operation is a UUID"
        raise ValueError(msg) from None
    if letter_id is not None and not 0 < letter_id < 2**63:
        msg = "a letter's number is above zero"
        raise ValueError(msg)
    return AuditFilter(
        actor=fields.get("actor") or None,
        action=fields.get("action") or None,
        letter_id=letter_id,
        operation_id=operation_id,
        since=times.since,
        until=times.until,
    )
