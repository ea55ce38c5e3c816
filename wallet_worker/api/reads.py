"""Looking: the parameters of an address become a query, answered by the same function as over AMQP."""

import asyncio
import re
import time
from typing import Any, Final, cast
from urllib.parse import urlencode

import structlog
from starlette.responses import Response

from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.encode import encode
from wallet_schemas.http import ApiClient, ApiCode, HttpOperation
from wallet_schemas.message import Message
from wallet_schemas.names import CONTENT_TYPE
from wallet_schemas.parse import Malformed, validate
from wallet_schemas.queries import GetOrder, History, OrderDetail, OrderList, QueryRefused, Statement
from wallet_worker.api.keys import Client
from wallet_worker.api.lookups import Waiters
from wallet_worker.api.parts import ApiState
from wallet_worker.api.problems import RequestRefused, malformed, retry_after
from wallet_worker.api.request import ApiRequest
from wallet_worker.core.permission import may_see
from wallet_worker.queries import answers
from wallet_worker.store.errors import ConflictError, UnavailableError

READ_SECONDS: Final = 5.0

_WHOLE: Final = re.compile(r"[0-9]{1,19}")
_INTEGERS: Final = frozenset({"after_line_no", "before_line_no", "limit"})
_LISTS: Final = frozenset({"order_types", "statuses", "types"})
_NOTE: Final = "metadata."
_NO_NUMBER: Final = ""  # nothing has it, so whoever waits for it waits to the end
_NOT_FOUND: Final = frozenset({Code.ORDER_NOT_FOUND, Code.ACCOUNT_NOT_FOUND})

log = structlog.get_logger(__name__)


async def look(parts: ApiState, request: ApiRequest, operation: HttpOperation) -> Response:
    """Return the answer to a query."""
    client = cast("Client", request.client)
    query = read_query(request.parameters(), operation)
    user_id = getattr(query, "user_id", None)
    if user_id is not None and not client.reaches(user_id):
        raise RequestRefused(ApiCode.USER_OUT_OF_REACH)
    _check_rights(parts, client, query)
    request.serial_no = getattr(query, "serial_no", None)
    if operation.answers == (Outcome,):
        return await _outcome(parts, request, client, cast("GetOrder", query))
    wait = request.preferences.wait
    waiters = parts.settled if request.preferences.settled else parts.payable
    until = time.monotonic() + (wait or 0.0)
    if isinstance(query, GetOrder) and wait:
        await waiters.wait(query.serial_no, wait)
        applied = f"wait={wait:g}, until=settled" if request.preferences.settled else f"wait={wait:g}"
        request.answer_headers["preference-applied"] = applied
    reply = await ask(parts, query)
    if isinstance(reply, QueryRefused):
        raise _refused(reply, request.serial_no)
    if isinstance(reply, OrderDetail):
        reply = await _visible(parts, reply, client, waiters, until)
    reply = answers.shown_to(reply, parts.rights(client))
    headers = {}
    following = {**request.parameters(), **_next(reply)}
    if following != request.parameters():
        headers["link"] = f'<{request.path}?{urlencode(following)}>; rel="next"'
    return Response(encode(reply), 200, headers, CONTENT_TYPE)


def _next(page: Message) -> dict[str, str]:
    """Return the parameter that asks for the page after this one; nothing where this one is the last."""
    match page:
        case Statement(next_after_line_no=int(line)):
            return {"after_line_no": str(line)}
        case History(next_before_line_no=int(line)):
            return {"before_line_no": str(line)}
        case OrderList(next_after=str(cursor)):
            return {"after": cursor}
        case _:
            return {}


async def _outcome(parts: ApiState, request: ApiRequest, client: Client, query: GetOrder) -> Response:
    """Return the outcome of a number as it was answered then; a refused one is an answer, too."""
    wait = request.preferences.wait
    until = time.monotonic() + (wait or 0.0)
    if wait:
        await parts.answered.wait(query.serial_no, wait)
        request.answer_headers["preference-applied"] = f"wait={wait:g}"
    reply = await ask(parts, query)
    if isinstance(reply, QueryRefused):
        raise _unknown(query.serial_no)
    try:
        detail = await _visible(parts, cast("OrderDetail", reply), client, parts.answered, until)
    except RequestRefused:
        raise _unknown(query.serial_no) from None
    return Response(encode(detail.outcome), 200, None, CONTENT_TYPE)


def _unknown(serial_no: str) -> RequestRefused:
    return RequestRefused(ApiCode.OUTCOME_NOT_KNOWN, serial_no=serial_no, headers={"retry-after": "1"})


def _refused(refusal: QueryRefused, serial_no: str | None) -> RequestRefused:
    if refusal.code in _NOT_FOUND:
        return RequestRefused(refusal.code, status=404, serial_no=serial_no)
    return RequestRefused(refusal.code, serial_no=serial_no)


async def ask(parts: ApiState, query: Message) -> Message:
    """Return the answer to a query, from one snapshot; raises Refused where the database does not answer."""
    try:
        is_one = isinstance(query, answers.BY_ONE_STATEMENT)
        opened = parts.database.connection() if is_one else parts.database.snapshot()
        async with asyncio.timeout(READ_SECONDS), opened as connection:
            return await answers.answer(connection, query)
    except (UnavailableError, ConflictError, TimeoutError) as exc:
        log.debug("api.unread", type=query.type, reason=str(exc) or "it took too long")
        raise RequestRefused(ApiCode.DATABASE_AWAY, headers=retry_after(1)) from exc


def _check_rights(parts: ApiState, client: Client, query: Message) -> None:
    """Refuse a query about what the policy of senders gives the client nothing to do with, as over AMQP.

    Which queries it may ask, the scopes of its key say.
    """
    if parts.senders is None:
        return
    rights = parts.rights(client)
    if rights is None:
        raise RequestRefused(ApiCode.FORBIDDEN, "the policy of senders allows the client nothing")
    user_id, account_type = getattr(query, "user_id", None), getattr(query, "account_type", None)
    if user_id is not None and not rights.reaches_user(user_id):
        raise RequestRefused(ApiCode.USER_OUT_OF_REACH)
    if account_type is not None and not rights.reaches_type(account_type):
        raise RequestRefused(
            ApiCode.FORBIDDEN, f"the client has nothing to do with accounts of the type {account_type}"
        )


def is_shown(parts: ApiState, detail: OrderDetail, client: Client) -> bool:
    """Return whether the policy of senders lets the client see what was sent with this number, as over AMQP."""
    return may_see(detail.sent_by, parts.sender(client), parts.senders)


async def _visible(
    parts: ApiState, detail: OrderDetail, client: Client, waiters: Waiters, until: float
) -> OrderDetail:
    """Return what the client may see of an order; raises Refused, as if there were none, where it may see nothing.

    The refusal takes as long as for a number that does not exist: until the monotonic time `until`.
    """
    if not is_shown(parts, detail, client) or not await _reaches(parts, detail, client):
        await waiters.wait(_NO_NUMBER, until - time.monotonic())
        raise RequestRefused(Code.ORDER_NOT_FOUND, status=404, serial_no=detail.outcome.serial_no)
    return within_reach(parts, detail, client)


async def _reaches(parts: ApiState, detail: OrderDetail, client: Client) -> bool:
    """Return whether the key reaches a user of the order.

    A command that made no order belongs to the user that it names, or to the owner of the order that it names.
    """
    if client.users is None:
        return True
    users: list[str | None]
    if detail.order is not None:
        users = [detail.order.user_id, detail.order.to_user_id]
    else:
        try:
            async with parts.database.snapshot() as connection:
                users = [*await answers.named_users(connection, str(detail.outcome.serial_no))]
        except (UnavailableError, ConflictError) as exc:
            raise RequestRefused(ApiCode.DATABASE_AWAY, headers=retry_after(1)) from exc
    return any(client.reaches(user_id) for user_id in users)


def within_reach(parts: ApiState, detail: OrderDetail, client: Client) -> OrderDetail:
    """Return an order with those of its entries that are of accounts which the key may see.

    Who has sent it is left out for a limited key of another client.
    """
    sender = parts.sender(client)
    if client.is_limited and not (sender is not None and sender.is_same(detail.sent_by)):
        detail = detail.model_copy(update={"sent_by": None})
    order = detail.order
    if client.users is None or order is None:
        return detail
    own = {
        account_no
        for user_id, account_no in (
            (order.user_id, order.account_no),
            (order.to_user_id, order.to_account_no),
        )
        if client.reaches(user_id)
    }
    kept = [entry for entry in detail.entries if entry.account_no in own]
    return detail.model_copy(update={"entries": kept})


def read_query(parameters: dict[str, str], operation: HttpOperation) -> Message:
    """Return the query that the parameters are; raises Refused."""
    kind = next(
        (kind for kind in operation.takes if _required(kind) <= parameters.keys()), operation.takes[0]
    )
    known = {field.alias or name for name, field in kind.model_fields.items()} - {"type"}
    notes = {name.removeprefix(_NOTE): text for name, text in parameters.items() if name.startswith(_NOTE)}
    if "metadata" in known:  # an object: each of its names is a parameter of its own
        known.remove("metadata")
        parameters = {name: text for name, text in parameters.items() if not name.startswith(_NOTE)}
    unknown = sorted(parameters.keys() - known)
    if unknown:
        raise RequestRefused(
            ApiCode.PARAMETER_UNKNOWN, f"{unknown[0][:64]}; known are {', '.join(sorted(known))}"
        )
    missing = sorted(_required(kind) - parameters.keys())
    if missing:
        raise RequestRefused(ApiCode.PARAMETER_MISSING, ", ".join(missing))
    found: dict[str, Any] = {"type": kind.TYPE}
    for name, text in parameters.items():
        if "\0" in text:
            raise malformed(name, "Should have no NUL")
        found[name] = _value(name, text)
    if notes and "metadata" in kind.model_fields:
        found["metadata"] = notes
    try:
        return validate(found, {kind.TYPE: kind})
    except Malformed as exc:
        raise RequestRefused(exc.code, faults=exc.faults) from None


def _required(kind: type[Message]) -> set[str]:
    return {field.alias or name for name, field in kind.model_fields.items() if field.is_required()}


def _value(name: str, text: str) -> object:
    if name in _INTEGERS:
        if not _WHOLE.fullmatch(text):
            raise malformed(name, "Should be a whole number")
        return int(text)
    return text.split(",") if name in _LISTS else text


async def client(parts: ApiState, request: ApiRequest, operation: HttpOperation) -> Response:
    """Return what the key of the request may do."""
    del parts, operation
    if request.parameters():
        raise RequestRefused(ApiCode.PARAMETER_UNKNOWN, next(iter(request.parameters()))[:64])
    sender = cast("Client", request.client)
    return Response(
        encode(
            ApiClient(
                client=sender.client,
                key_id=sender.key_id,
                scopes=sorted(sender.scopes),
                users=sender.users,
                serial_prefix=sender.serial_prefix,
                rate=sender.rate,
                in_flight=sender.in_flight,
                expires_at=sender.expires_at,
            )
        ),
        200,
        None,
        CONTENT_TYPE,
    )
