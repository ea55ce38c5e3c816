"""What the ledger says: an account's statement, an order's life. Nothing here changes anything."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from pydantic import ValidationError
from starlette.responses import Response

from wallet_schemas import times as times_of_the_wire
from wallet_schemas.events import OrderView
from wallet_schemas.queries import (
    AccountList,
    GetAccount,
    GetOrder,
    GetStatement,
    OrderDetail,
    QueryRefused,
    Statement,
)
from wallet_worker.console import query_params as asked_for
from wallet_worker.console.pages import lists
from wallet_worker.console.request import PageContext, result_or_error
from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.letters import Page
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.queries import answers
from wallet_worker.store import payment_results
from wallet_worker.store.reads import console as reads

LINES_A_PAGE = 50
LETTERS_MAX = 20
_ACCOUNT_NO = re.compile(r"[0-9]{19}")
_LETTER_NO = re.compile(r"#?([0-9]{1,18})")


async def find(visit: PageContext) -> Response:
    """Lead to what a word names: a letter, an account, an order by one of its three numbers, or a user."""
    word = visit.params.get("q", "").strip()
    if not word:
        return visit.go("/")
    letter = _LETTER_NO.fullmatch(word)
    if letter and word.startswith("#"):
        return visit.go(f"/letters/{int(letter[1])}")
    address = await _in_ledger(visit, word) or await _in_letters(visit, word)
    if address is not None:
        return visit.go(address)
    if letter:
        return visit.go(f"/letters/{int(letter[1])}")
    return visit.show("found_nothing.html", 404, word=word)


async def _in_ledger(visit: PageContext, word: str) -> str | None:
    """Return the address of the account or order that a word names."""
    async with visit.parts.reading.snapshot() as connection:
        if _ACCOUNT_NO.fullmatch(word):
            user_id = await reads.owner(connection, word)
            if user_id is not None and not visit.is_viewer:
                return f"/accounts?user_id={quote(user_id, safe='')}"
        if await reads.sent_command(connection, word) is not None:
            return f"/orders?serial_no={quote(word, safe='')}"
        if await reads.is_user(connection, word):
            return f"/accounts?user_id={quote(word, safe='')}"
        serial_no = await reads.order_of(connection, word)
        return None if serial_no is None else f"/orders?serial_no={quote(serial_no, safe='')}"


async def _in_letters(visit: PageContext, word: str) -> str | None:
    """Return the address of the letters that a word names."""
    for which in (Filter(serial_no=word), Filter(user_id=word), Filter(gateway_ref=word)):
        if await visit.parts.operations.count(visit.actor, which):
            return f"/letters?{urlencode(which.to_query())}"
    return None


async def accounts(visit: PageContext) -> Response:
    """Show a user's accounts, and the statement of one of them."""
    params = visit.params
    user_id = params.get("user_id", "").strip()
    shown: AccountList | None = None
    statement: Statement | None = None
    serial_nos: dict[int, str] = {}
    last_line = 0
    fault, status = None, 200
    if user_id:
        try:
            about = GetAccount(user_id=user_id)
            wanted = _statement(params, user_id) if "currency" in params else None
        except (ValidationError, ValueError):
            fault, status = "No user, type, currency or time looks like this.", 400
        else:
            async with visit.parts.reading.snapshot() as connection:
                answer = await answers.answer(connection, about)
                shown = answer if isinstance(answer, AccountList) else None
                if wanted is None and shown and len(shown.accounts) == 1:
                    (only,) = shown.accounts
                    wanted = GetStatement(
                        user_id=user_id,
                        account_type=only.account_type,
                        currency=only.currency,
                        limit=LINES_A_PAGE,
                    )
                if wanted is not None:
                    found = await answers.answer(connection, wanted)
                    statement = found if isinstance(found, Statement) else None
                    fault = found.message if isinstance(found, QueryRefused) else None
                if statement is not None:
                    last_line = await reads.last_line(connection, statement.account.account_no)
                if statement is not None and statement.entries:
                    numbers = [entry.line_no for entry in statement.entries]
                    serial_nos = await reads.serial_nos(
                        connection, statement.account.account_no, min(numbers), max(numbers)
                    )
    if (shown is not None and shown.accounts) or statement is not None:
        read = "balances" if statement is None else "statement"
        await visit.parts.operations.looked(visit.actor, read, {"user_id": user_id})
    return visit.show(
        "accounts.html",
        status,
        params=params,
        user_id=user_id,
        accounts=shown.accounts if shown else None,
        statement=statement,
        serial_nos=serial_nos,
        last_line=last_line,
        lines_a_page=LINES_A_PAGE,
        fault=fault,
    )


def _statement(fields: Mapping[str, str], user_id: str) -> GetStatement:
    """Return the query of a page of a statement; raises ValueError, ValidationError is one."""
    times = asked_for.letters({"since": fields.get("from", ""), "until": fields.get("to", "")})
    return GetStatement.model_validate(
        {
            "user_id": user_id,
            "account_type": fields.get("account_type") or "basic",
            "currency": fields["currency"],
            "limit": LINES_A_PAGE,
            **({"from": times.since} if times.since else {}),
            **({"to": times.until} if times.until else {}),
            **({"after_line_no": asked_for.number(fields["after"])} if fields.get("after") else {}),
        }
    )


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One thing in an order's life: when, what kind of thing, what it was, and more about it."""

    at: datetime
    kind: str
    title: str
    details: tuple[tuple[str, str], ...] = ()
    code: str = ""
    link: str | None = None
    lines: tuple[reads.LedgerLine, ...] = field(default=())


async def order(visit: PageContext) -> Response:
    """Show everything that happened under a serial number, in order; or list the orders of a user."""
    serial_no = visit.params.get("serial_no", "").strip()
    if not serial_no and visit.params.get("user_id", "").strip():
        return await lists.orders(visit)
    if not serial_no:
        return visit.show(
            "order.html",
            serial_no="",
            order=None,
            moments=[],
            waiting=[],
            parked=[],
            children=[],
            reversals=[],
            instructions=None,
            edits=[],
            fault=None,
        )
    try:
        query = GetOrder(serial_no=serial_no)
    except ValidationError:
        return visit.show(
            "order.html",
            400,
            serial_no=serial_no,
            order=None,
            moments=[],
            waiting=[],
            parked=[],
            children=[],
            reversals=[],
            instructions=None,
            edits=[],
            fault="No serial number looks like this.",
        )
    async with visit.parts.reading.snapshot() as connection:
        answer = await answers.answer(connection, query)
        command = await reads.sent_command(connection, serial_no)
        results = await payment_results.of_order(connection, serial_no)
        lines = await reads.lines(connection, serial_no)
        waiting = await reads.overdue_messages(connection, serial_no)
        parked = await reads.parked(connection, serial_no)
        children = await reads.children(connection, serial_no)
    letters, _ = await result_or_error(
        visit.parts.operations.letters(visit.actor, Filter(serial_no=serial_no), limit=LETTERS_MAX)
    )
    detail = answer if isinstance(answer, OrderDetail) else None
    order_view = detail.order if detail else None
    if detail is not None or command is not None:
        await visit.parts.operations.looked(visit.actor, "order", {"serial_no": serial_no})
    if order_view is not None and visit.is_viewer:
        order_view = masking.masked_view(order_view)
    moments = _command(visit, command) + _results(visit, results) + _movements(visit, lines)
    if order_view is not None:
        moments += _ended(order_view)
    moments += [
        TimelineEvent(
            letter.arrived_at,
            "letter",
            f"A dead letter arrived: {letter.reason}",
            (("state", letter.state.value), ("why", letter.detail)),
            link=f"/letters/{letter.letter_id}",
        )
        for letter in (letters.letters if letters else ())
    ]
    fault = None
    if detail is None and not moments and not parked:
        fault = "The wallet knows nothing of this serial number."
    return visit.show(
        "order.html",
        404 if fault else 200,
        serial_no=serial_no,
        order=order_view,
        moments=sorted(moments, key=lambda moment: moment.at),
        waiting=waiting,
        parked=parked,
        children=_children(visit, children),
        reversals=(detail.reversals if detail else None) or [],
        instructions=detail.instructions if detail else None,
        edits=await _edits(visit, letters),
        fault=fault,
    )


def _children(visit: PageContext, children: Sequence[reads.Child]) -> list[reads.Child]:
    """Return the orders about this one as the visitor may see them."""
    if not visit.is_viewer:
        return list(children)
    return [replace(child, to_user_id=masking.masked(child.to_user_id)) for child in children]


async def _edits(visit: PageContext, letters: Page | None) -> list[tuple[int, str]]:
    """Return the letters of this number that were edited, each with the serial number that was sent instead."""
    found = []
    for line in letters.letters if letters else ():
        if line.state is LetterState.EDITED:
            detail, _ = await result_or_error(visit.parts.operations.letter(visit.actor, line.letter_id))
            found += [
                (line.letter_id, replay.serial_no)
                for replay in (detail.replays if detail else ())
                if replay.is_edit and replay.serial_no
            ]
    return found


def _command(visit: PageContext, command: reads.SentCommand | None) -> list[TimelineEvent]:
    """Return the command and its outcome."""
    if command is None:
        return []
    content = masking.masked_members(command.content) if visit.is_viewer else command.content
    details = tuple(
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in content.items()
        if name not in {"type", "serial_no"} and value is not None
    )
    return [
        TimelineEvent(command.at, "command", f"{command.type} was {command.status}", details, command.code)
    ]


def _results(visit: PageContext, results: Sequence[payment_results.GatewayResult]) -> list[TimelineEvent]:
    """Return the gateway's results."""
    return [
        TimelineEvent(
            result.received_at,
            "result",
            f"The gateway said {result.status}, which was {_PROCESSINGS.get(result.processing, result.processing)}",
            (
                ("amount", f"{result.amount} {result.currency}"),
                ("gateway's number", result.gateway_ref),
                *((("reason code", result.reason_code),) if result.reason_code else ()),
                *(
                    (("reason", masking.masked(result.reason) or "" if visit.is_viewer else result.reason),)
                    if result.reason
                    else ()
                ),
                ("happened", times_of_the_wire.to_text(result.occurred_at.astimezone(UTC))),
            ),
            result.code,
        )
        for result in results
    ]


_PROCESSINGS = {
    "processed": "applied",
    "duplicate": "nothing new",
    "refused": "refused into the dead letters",
}


def _movements(visit: PageContext, lines: Sequence[reads.LedgerLine]) -> list[TimelineEvent]:
    """Return each movement of money, its lines together."""
    shown = [
        replace(line, user_id=masking.masked(line.user_id), account_no=line.account_no and masking.MASK)
        if visit.is_viewer
        else line
        for line in lines
    ]
    return [
        TimelineEvent(
            at, "money", "Money moved", lines=tuple(line for line in shown if line.created_at == at)
        )
        for at in dict.fromkeys(line.created_at for line in shown)
    ]


def _ended(order: OrderView) -> list[TimelineEvent]:
    """Return the order's last change of status, which the world was told of."""
    late = ", late" if order.late else ""
    return [
        TimelineEvent(
            order.updated_at,
            "event",
            f"The order is {order.status.value}{late}",
            (("told as", f"order.{order.status.value}.v1"),),
        )
    ]
