"""Changes: a JSON body becomes a command, and its outcome the answer.

Nothing of money is decided here. A number that is known already is answered from the database, so that a repeat costs
no worker and a conflict makes no dead letter; everything else goes to the broker, whose workers decide.
"""

import json
import re
import time
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlencode

import structlog
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from wallet_schemas.codes import Code
from wallet_schemas.commands import (
    CancelOrder,
    Capture,
    Command,
    Outcome,
    Refund,
    Release,
    Transfer,
    changed_fields,
    content,
    fingerprint,
)
from wallet_schemas.encode import encode
from wallet_schemas.fingerprint import canonical
from wallet_schemas.http import (
    ANY_COMMAND,
    APPLIED,
    CHANGES,
    SCOPE_OF,
    ApiCode,
    CommandAccepted,
    HttpOperation,
)
from wallet_schemas.message import Message
from wallet_schemas.names import (
    CLIENT_HEADER,
    CONTENT_TYPE,
    TRACEPARENT_HEADER,
    WALLET_COMMANDS,
    routing_key,
)
from wallet_schemas.parse import COMMANDS, Malformed, UnsupportedType, load, validate
from wallet_schemas.queries import GetOrder, OrderDetail
from wallet_schemas.values import OutcomeStatus
from wallet_worker.api import reads
from wallet_worker.api.keys import Client
from wallet_worker.api.lookups import AwayError
from wallet_worker.api.parts import ApiState
from wallet_worker.api.problems import (
    RequestRefused,
    malformed,
    not_sent,
    outcome_path,
    refused_outcome,
    retry_after,
)
from wallet_worker.api.request import ApiRequest
from wallet_worker.client.rpc import OutgoingMessage, PublishFailed, ReplyTimeout
from wallet_worker.queries import answers
from wallet_worker.queries.answers import StoredOutcome
from wallet_worker.store.errors import ConflictError, UnavailableError

TAKE_SECONDS: Final = 0.5  # what the broker does not take in this time is not sent
CONFIRM_SECONDS: Final = (
    5.0  # at least so long is waited for the broker's confirm, whatever the client prefers
)
OWNER_SECONDS: Final = 2.0

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SERIAL_NO: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OUTCOME: Final = TypeAdapter(Outcome)
_ORDERS: Final = frozenset(
    command for operation in CHANGES for command in operation.takes if command.TYPE.startswith("order.")
)

log = structlog.get_logger(__name__)


async def change(parts: ApiState, request: ApiRequest, operation: HttpOperation) -> Response:
    """Return the answer to a command: its outcome, or what is known if no outcome came in time."""
    arrived = time.monotonic()
    client = cast("Client", request.client)
    request.check_media()
    command = read_command(await request.body(), request, operation)
    request.serial_no = command.serial_no
    _check_scope(client, command)
    await _check_reach(parts, client, command)
    preferences = request.preferences
    wait_seconds = parts.wait_seconds if preferences.wait is None else preferences.wait
    earlier = await _earlier(parts, command.serial_no)
    if earlier is not None:
        parts.metrics.repeats.inc()
        outcome, body = _repeated(parts, earlier, command, client), None
        if preferences.representation and outcome.status is OutcomeStatus.APPLIED:
            with parts.load.one_more():
                body = await _shown(parts, request, command, arrived + parts.load.patience(wait_seconds))
        return answer(outcome, type(command), client, body=body)
    if parts.is_stopping:
        raise RequestRefused(ApiCode.STOPPING, serial_no=command.serial_no, headers=retry_after(1))
    with parts.load.one_more():
        wait = 0.0 if preferences.respond_async else parts.load.patience(wait_seconds)
        try:
            outcome, body = await _send(parts, request, command, wait)
        except _NoOutcomeError:
            parts.metrics.unknown.labels(reason="accepted").inc()
            return _accepted(command.serial_no)
        if preferences.representation and outcome.status is OutcomeStatus.APPLIED:
            body = await _shown(parts, request, command, arrived + wait_seconds) or body
    return answer(outcome, type(command), client, body=body)


def read_command(body: bytes, request: ApiRequest, operation: HttpOperation) -> Command:
    """Return the command that a body is, completed by what the path and the headers say; raises Refused.

    What is completed is the command: the same order sent by AMQP has the same fingerprint.
    """
    header = request.header(b"idempotency-key")
    try:
        fields = load(body)
        key = _key(header)
        if operation is not ANY_COMMAND:
            accepted = {command.TYPE: command for command in operation.takes}
            named = fields.get("type")
            if named is None:
                fields["type"] = _version(operation, fields).TYPE
            elif isinstance(named, str) and named in COMMANDS and named not in accepted:
                raise RequestRefused(ApiCode.TYPE_DIFFERS, f"this path takes {' or '.join(accepted)}")
        else:
            accepted = dict(COMMANDS)
        if key is not None:
            if fields.get("serial_no") is None:
                fields["serial_no"] = key
            elif isinstance(fields["serial_no"], str) and fields["serial_no"] != key:
                raise RequestRefused(ApiCode.SERIAL_NO_DIFFERS)
        elif fields.get("serial_no") is None:
            # Only of what is a command otherwise: a body with other faults is told those.
            validate({**fields, "serial_no": "-"}, accepted)
            raise RequestRefused(ApiCode.SERIAL_NO_MISSING)
        return cast("Command", validate(fields, accepted))
    except (Malformed, UnsupportedType) as exc:
        raise RequestRefused(exc.code, serial_no=exc.serial_no, faults=exc.faults) from None


def _version(operation: HttpOperation, fields: Mapping[str, object]) -> type[Message]:
    """Return the version of a path's command that a body without a type is: the first that has all of its fields."""
    first = operation.takes[0]
    return next((kind for kind in operation.takes if fields.keys() <= kind.model_fields.keys()), first)


def _key(header: str | None) -> str | None:
    """Return the serial number that the header gives: bare, or in quotes as a structured field has it."""
    if header is None:
        return None
    text = header.strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not _SERIAL_NO.fullmatch(text):
        raise malformed("Idempotency-Key", "Should be 1 to 64 letters, digits and . _ : - only")
    return text


def _check_scope(client: Client, command: Command) -> None:
    scope = SCOPE_OF[type(command)]
    if scope not in client.scopes:
        raise RequestRefused(ApiCode.FORBIDDEN, f"{command.type} needs {scope}")


async def _check_reach(parts: ApiState, client: Client, command: Command) -> None:
    """Refuse a command that names a number or a user, or an order of a user, that the key may not."""
    if client.serial_prefix is not None and not command.serial_no.startswith(client.serial_prefix):
        raise RequestRefused(ApiCode.SERIAL_NO_PREFIX, f"it is {client.serial_prefix}")
    if client.users is None:
        return
    named: list[str | None] = []
    match command:
        case Transfer():
            named = [command.user_id, command.to_user_id]
        case Refund():
            named = [await _owner(parts, command.original_serial_no)]
        case Capture():
            named = [command.to_user_id, await _owner(parts, command.hold_serial_no)]
        case CancelOrder():
            named = [await _owner(parts, command.target_serial_no)]
        case Release():
            named = [await _owner(parts, command.hold_serial_no)]
        case _:
            named = [cast("Any", command).user_id]
    if not all(client.reaches(user_id) for user_id in named):
        raise RequestRefused(ApiCode.USER_OUT_OF_REACH)


async def _owner(parts: ApiState, serial_no: str) -> str | None:
    """Return whose order it is; nobody's, if it is not known. An order's owner never changes, so there is no race."""
    try:
        async with parts.database.snapshot() as connection:
            return await answers.owner(connection, serial_no)
    except (UnavailableError, ConflictError) as exc:
        log.debug("api.owner_unknown", reason=str(exc))
        raise RequestRefused(ApiCode.DATABASE_AWAY, headers=retry_after(1)) from exc


async def _earlier(parts: ApiState, serial_no: str) -> StoredOutcome | None:
    """Return what is stored under a number, as far as the database says so in time.

    That it is not known decides nothing: the worker looks again, in the transaction that stores the outcome.
    """
    parts.metrics.lookups.inc()
    try:
        return await parts.known.find(serial_no)
    except AwayError:
        return None


def _repeated(parts: ApiState, earlier: StoredOutcome, command: Command, client: Client) -> Outcome:
    """Return the stored outcome of the same command; raises Refused for another one."""
    sender = parts.sender(client)
    if parts.senders is not None and (sender is None or not sender.is_same(earlier.sent_by)):
        # The worker would say the same, and make a dead letter of it.
        raise RequestRefused(Code.SERIAL_CONFLICT, serial_no=command.serial_no, duplicate=False)
    repeated = content(command)
    if earlier.fingerprint == fingerprint(canonical(repeated)):
        return earlier.outcome
    first = json.loads(earlier.content)
    may_see_content = all(
        client.reaches(first[name]) for name in ("user_id", "to_user_id") if isinstance(first.get(name), str)
    )
    # Of a command that names no user (a refund, a capture), whose it was is not looked up: nothing is told.
    may_see_content = may_see_content and (client.users is None or isinstance(first.get("user_id"), str))

    raise RequestRefused(
        Code.SERIAL_CONFLICT,
        serial_no=command.serial_no,
        duplicate=False,
        different=changed_fields(repeated, first) if may_see_content else (),
    )


class _NoOutcomeError(Exception):
    """The broker has the command on disk, and the outcome is not known yet."""


class _Reply:
    """Reads the reply to one command, and keeps its bytes: they are the answer."""

    def __init__(self, serial_no: str) -> None:
        self._serial_no = serial_no
        self.body = b""

    def __call__(self, body: bytes) -> Outcome:
        try:
            outcome = _OUTCOME.validate_json(body)
        except ValidationError as exc:
            msg = "it is no outcome"
            raise ValueError(msg) from exc
        if outcome.serial_no != self._serial_no:
            msg = f"it is the outcome of {outcome.serial_no}"
            raise ValueError(msg)
        self.body = body
        return outcome


async def _send(parts: ApiState, request: ApiRequest, command: Command, wait: float) -> tuple[Outcome, bytes]:
    """Return the outcome and its bytes; raises _NoOutcomeError, or Refused with what is known."""
    number = command.serial_no
    message = OutgoingMessage(
        encode(command), routing_key(command.type), headers_of(request, cast("Client", request.client))
    )
    reply = _Reply(number)
    try:
        if wait <= 0:
            await parts.rpc.send(WALLET_COMMANDS, message, CONFIRM_SECONDS, take_seconds=TAKE_SECONDS)
            raise _NoOutcomeError
        outcome = await parts.rpc.call(
            WALLET_COMMANDS, message, reply, max(wait, TAKE_SECONDS * 2), take_seconds=TAKE_SECONDS
        )
    except PublishFailed as exc:
        parts.metrics.not_sent.labels(reason="broker").inc()
        raise not_sent(str(exc), number) from None
    except ReplyTimeout as exc:
        if exc.confirmed:
            raise _NoOutcomeError from None
        parts.metrics.unknown.labels(reason="unconfirmed").inc()
        raise RequestRefused(
            ApiCode.OUTCOME_UNKNOWN,
            serial_no=number,
            headers={"location": outcome_path(number), "retry-after": "1"},
        ) from None
    return outcome, reply.body


def headers_of(request: ApiRequest, client: Client | None) -> dict[str, str]:
    """Return the headers of a message from this request: who stands behind it, and the trace that it belongs to."""
    headers: dict[str, str] = {}
    if client is not None:
        headers[CLIENT_HEADER] = client.sender
    trace = request.header(b"traceparent")
    if trace is not None and _TRACEPARENT.fullmatch(trace):
        headers[TRACEPARENT_HEADER] = trace
    return headers


async def _shown(parts: ApiState, request: ApiRequest, command: Command, until: float) -> bytes | None:
    """Return the order that a command is about, as bytes; absent where there is none. `until` is a monotonic time."""
    seconds = until - time.monotonic()
    detail = await _representation(parts, cast("Client", request.client), command, seconds)
    if detail is None:
        return None
    request.answer_headers["preference-applied"] = "return=representation"
    return encode(detail)


async def _representation(
    parts: ApiState, client: Client, command: Command, seconds: float
) -> OrderDetail | None:
    """Return the order once its payer can be told how to pay or it waits no longer, or as it stands after so long."""
    if type(command) not in _ORDERS:
        return None
    # A cancel makes no order: it is about another.
    number = command.target_serial_no if isinstance(command, CancelOrder) else command.serial_no
    await parts.payable.wait(number, seconds)
    try:
        detail = await reads.ask(parts, GetOrder(serial_no=number))
    except RequestRefused:
        return None  # the database is away; the outcome is an answer, too
    if not isinstance(detail, OrderDetail) or not reads.is_shown(parts, detail, client):
        return None
    return reads.within_reach(parts, detail, client)


def answer(
    outcome: Outcome, command: type[Message], client: Client, *, body: bytes | None = None
) -> Response:
    """Return an outcome as the answer to its command; raises Refused where the wallet has refused it."""
    if outcome.status is OutcomeStatus.REFUSED:
        raise refused_outcome(outcome, tell_different=client.users is None)
    headers = {"location": _location(outcome, command)}
    if outcome.duplicate:
        headers["idempotent-replayed"] = "true"
    return Response(body or encode(outcome), APPLIED[command], headers, CONTENT_TYPE)


def _location(outcome: Outcome, command: type[Message]) -> str:
    result: Any = outcome.result
    if command in _ORDERS:
        number = result.serial_no if command is CancelOrder else outcome.serial_no
        return f"/v1/orders?{urlencode({'serial_no': number})}"
    names = ("user_id", "account_type", "currency")
    return f"/v1/accounts?{urlencode({name: getattr(result, name) for name in names})}"


def _accepted(serial_no: str) -> Response:
    return Response(
        encode(CommandAccepted(serial_no=serial_no)),
        202,
        {"location": outcome_path(serial_no), "retry-after": "1"},
        CONTENT_TYPE,
    )
