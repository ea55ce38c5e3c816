"""Dead letters: the list, one of them, its bytes, notes, and the file of many."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from wallet_worker.console import labels, query_params, untrusted_text
from wallet_worker.console.request import Form, PageContext, letter_id
from wallet_worker.dead_letters.model.errors import NotAllowedError
from wallet_worker.dead_letters.model.filters import AuditFilter, Filter
from wallet_worker.dead_letters.model.json import document
from wallet_worker.dead_letters.model.letters import PAGE_LETTERS, PAGE_LETTERS_MAX, LetterContent
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.dead_letters.reasons import REASONS

HISTORY_ROWS = 200
HEX_SHOWN_BYTES = 4_096
HEX_SHOWN_BYTES_MAX = 65_536  # what a message of the wallet has at most; each byte of it is nine on the page
PRETTY_SHOWN_CHARACTERS = 262_144  # 64 KiB of brackets would be megabytes when indented


async def letters(visit: PageContext) -> Response:
    """Show a page of the letters that fit the query string."""
    params = visit.params
    try:
        which = query_params.letters(params)
        after = query_params.number(params.get("after"))
        limit = min(query_params.number(params.get("limit")) or PAGE_LETTERS, PAGE_LETTERS_MAX)
    except ValueError as exc:
        return _list(visit, Filter(), None, None, str(exc), 400)
    operations, actor = visit.parts.operations, visit.actor
    page = await operations.letters(actor, which, after=after, limit=limit)
    # What is planned for all of them is planned for those of now, not for what arrives while they are read.
    seen = which
    if page.letters and which.seen_up_to is None and after is None:
        seen = replace(which, seen_up_to=page.letters[0].letter_id)
    return _list(visit, which, page, await operations.count(actor, seen), None, 200, seen)


def _list(
    visit: PageContext,
    which: Filter,
    found: object,
    count: int | None,
    fault: str | None,
    status: int,
    seen: Filter | None = None,
) -> Response:
    return visit.show(
        "letters.html",
        status,
        which=which,
        query=which.to_query(),
        all_query=(seen or which).to_query(),
        newest_query=replace(which, seen_up_to=None).to_query(),
        names_somebody=bool(which.to_query().keys() & {"serial_no", "user_id", "gateway_ref", "order_id"}),
        is_narrowed=bool(which.to_query().keys() - {"states", "ids", "seen_up_to"}),
        params=visit.params,
        found=found,
        total=count,
        target=labels.target(which),
        fault=fault,
        states=list(LetterState),
        reasons=REASONS,
    )


async def letter(visit: PageContext) -> Response:
    """Show all about one letter."""
    detail = await visit.parts.operations.letter(visit.actor, letter_id(visit))
    # Its own rows begin with the oldest and end somewhere: of a letter with a long past, the end is what counts.
    history = await visit.parts.operations.audit(
        visit.actor, AuditFilter(letter_id=detail.whole.line.letter_id), limit=HISTORY_ROWS
    )
    whole = detail.whole
    if not visit.is_viewer:  # to a viewer, what it says of a person is masked
        about = {"letter_id": whole.line.letter_id}
        await visit.parts.operations.looked(visit.actor, "payload", about)
    every = visit.request.query_params.get("bytes") == "all"
    body = whole.body or b""
    hex_bytes = HEX_SHOWN_BYTES_MAX if every else HEX_SHOWN_BYTES
    pretty = whole.pretty
    return visit.show(
        "letter.html",
        letter=detail,
        history=history,
        whole=whole,
        line=whole.line,
        hex_lines=list(untrusted_text.hex_lines(body[:hex_bytes])),
        hex_cut=max(0, len(body) - hex_bytes),
        hex_more=0 if every else max(0, min(len(body), HEX_SHOWN_BYTES_MAX) - HEX_SHOWN_BYTES),
        pretty=None if pretty is None else pretty[:PRETTY_SHOWN_CHARACTERS],
        pretty_cut=0 if pretty is None else max(0, len(pretty) - PRETTY_SHOWN_CHARACTERS),
        text=body[:PRETTY_SHOWN_CHARACTERS].decode(errors="backslashreplace") if pretty is None else "",
        LetterState=LetterState,
    )


async def payload(visit: PageContext) -> Response:
    """Give the bytes as they came, as a file that no browser opens."""
    number = letter_id(visit)
    if visit.is_viewer:
        msg = "The payload holds personal data: an operator may see it, a viewer may not."
        raise NotAllowedError(msg)
    return Response(
        await visit.parts.operations.payload(visit.actor, number),
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="letter-{number}.bin"'},
    )


async def note(visit: PageContext, form: Form) -> Response:
    """Keep a note with a letter."""
    number = letter_id(visit)
    await visit.parts.operations.note(visit.actor, number, form.get("text"))
    return visit.go(f"/letters/{number}#history", f"Your note is kept with letter {number}.")


async def export(visit: PageContext) -> Response:
    """Give the letters that fit as lines of JSON."""
    try:
        which = query_params.letters(visit.params)
    except ValueError as exc:
        return visit.refuse(400, "The filter cannot be read", f"{exc}.")
    exported = visit.parts.operations.export(visit.actor, which)
    # The first is asked for here: what goes wrong at once is said on a page and not in a broken file.
    first = await anext(exported, None)

    async def rows() -> AsyncIterator[str]:
        if first is not None:
            yield _row(first)
        async for whole in exported:
            yield _row(whole)

    return StreamingResponse(
        rows(),
        media_type="application/x-ndjson",
        headers={"content-disposition": 'attachment; filename="dead-letters.jsonl"'},
    )


def _row(whole: LetterContent) -> str:
    return json.dumps(document(whole), ensure_ascii=False) + "\n"


def as_query(which: Filter) -> str:
    """Return a filter as a query string."""
    return urlencode(which.to_query())
