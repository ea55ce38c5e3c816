"""The gateway's word by HTTP: checked over the bytes as they came, and forwarded byte for byte.

Signed but wrong is answered with 200 and `refused`: it is on disk, and an operator has it.
What nobody signed is 401 and no dead letter: over HTTP anybody may post.
"""

import re
import time
from collections.abc import Callable
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from wallet_schemas.codes import Code
from wallet_schemas.encode import encode
from wallet_schemas.http import ApiCode, PaymentAccepted
from wallet_schemas.names import (
    CONTENT_TYPE,
    PAYMENT_RESULTS,
    SIGNATURE_HEADER,
    routing_key,
)
from wallet_schemas.parse import RESULTS, Malformed, UnsupportedType, parse
from wallet_schemas.payments import PaymentProcessed, PaymentResult
from wallet_schemas.signature import BadSignature, verify
from wallet_schemas.values import ProcessingStatus
from wallet_worker.api.commands import CONFIRM_SECONDS, TAKE_SECONDS, headers_of
from wallet_worker.api.parts import ApiState
from wallet_worker.api.problems import RequestRefused, not_sent, retry_after
from wallet_worker.api.request import ApiRequest
from wallet_worker.client.rpc import OutgoingMessage, PublishFailed, ReplyTimeout

_PROCESSED: Final = TypeAdapter(PaymentProcessed)
_SIGNED_AT: Final = re.compile(r"(?:^|,)\s*t=([0-9]{1,20})(?:,|$)")

log = structlog.get_logger(__name__)


async def result(parts: ApiState, request: ApiRequest) -> Response:
    """Return what became of a payment result."""
    body = await request.body()
    header = request.header(b"x-signature")
    try:
        verify(header, body, parts.payment_keys)
        _check_age(header, parts.signature_age_seconds)
    except BadSignature as exc:
        log.warning("payment_result.unsigned", address=request.address, reason=exc.reason)
        raise RequestRefused(
            Code.BAD_SIGNATURE, headers={"www-authenticate": 'x-signature realm="payment-results"'}
        ) from None
    if parts.is_stopping:
        raise RequestRefused(ApiCode.STOPPING, headers=retry_after(1))
    number, fault, kind = _read(body)
    request.serial_no = number
    message = OutgoingMessage(
        body,
        routing_key(kind),
        {**headers_of(request, None), SIGNATURE_HEADER: header or ""},
    )
    preferences = request.preferences
    wait_seconds = parts.wait_seconds if preferences.wait is None else preferences.wait
    with parts.load.one_more():
        wait = 0.0 if preferences.respond_async else parts.load.patience(wait_seconds)
        try:
            if number is None or wait <= 0:  # the worker answers nobody whose number it cannot read
                await parts.rpc.send(PAYMENT_RESULTS, message, CONFIRM_SECONDS, take_seconds=TAKE_SECONDS)
                return _refused(fault) if number is None and fault is not None else _accepted(number)
            reply = await parts.rpc.call(
                PAYMENT_RESULTS,
                message,
                _reader(number),
                max(wait, 2 * TAKE_SECONDS),
                take_seconds=TAKE_SECONDS,
            )
        except PublishFailed as exc:
            parts.metrics.not_sent.labels(reason="broker").inc()
            raise not_sent(str(exc)) from None
        except ReplyTimeout as exc:
            if exc.confirmed:
                parts.metrics.unknown.labels(reason="accepted").inc()
                return _accepted(number)
            parts.metrics.unknown.labels(reason="unconfirmed").inc()
            raise RequestRefused(ApiCode.OUTCOME_UNKNOWN, headers={"retry-after": "1"}) from None
    return Response(encode(reply), 200, None, CONTENT_TYPE)


def _check_age(header: str | None, seconds: float) -> None:
    """Refuse a signature that is older than so many seconds; 0 turns the limit off."""
    if seconds <= 0:
        return
    found = _SIGNED_AT.search(header or "")
    if found is None or abs(time.time() - int(found[1])) > seconds:
        raise BadSignature(f"the signature is more than {seconds:g} s old")


def _read(body: bytes) -> tuple[str | None, Code | None, str]:
    """Return the order that a body speaks of, if that can be read, what is wrong with it, if anything is, and its type.

    What cannot be read is sent as a result: the routing key is never trusted.
    """
    try:
        message = parse(body, RESULTS)
    except (Malformed, UnsupportedType) as exc:
        return exc.payment_order_no, exc.code, PaymentResult.TYPE
    return getattr(message, "payment_order_no", None), None, message.type


def _reader(number: str) -> Callable[[bytes], PaymentProcessed]:
    """Return what reads the answer about this payment."""

    def read(body: bytes) -> PaymentProcessed:
        try:
            found = _PROCESSED.validate_json(body)
        except ValidationError as exc:
            raise ValueError("it is no answer to a payment result") from exc
        if found.payment_order_no != number:
            raise ValueError("it is the answer about another payment")
        return found

    return read


def _refused(code: Code) -> Response:
    found = PaymentProcessed(payment_order_no=None, processing_status=ProcessingStatus.REFUSED, code=code)
    return Response(encode(found), 200, None, CONTENT_TYPE)


def _accepted(number: str | None) -> Response:
    return Response(encode(PaymentAccepted(payment_order_no=number)), 202, {"retry-after": "1"}, CONTENT_TYPE)
