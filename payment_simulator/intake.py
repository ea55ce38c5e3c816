"""A batch of requests: parsed, decided and committed together, with one ending for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from payment_simulator.decide import Answer, Payment, RequestEnding, respond
from payment_simulator.scenario import Scenario
from payment_simulator.state import State
from wallet_schemas.parse import Unreadable, parse
from wallet_schemas.payments import PaymentRequest
from wallet_schemas.signature import BadSignature, Keys, SigningDirection, verify

REQUESTS: Final = MappingProxyType({PaymentRequest.TYPE: PaymentRequest})


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request as it came. `traceparent` is its W3C trace context, if any, and goes with its answers.

    `signature` is the header as it came, of whatever type.
    """

    body: bytes
    traceparent: str | None = None
    signature: object = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one request ended. `detail` is for people, and only there for requests that are not accepted."""

    ending: RequestEnding
    payment_order_no: str | None
    detail: str = ""


def take(
    state: State,
    scenario: Scenario,
    arrivals: Sequence[IncomingRequest],
    now: datetime,
    wallet_keys: Keys | None = None,
) -> list[Receipt]:
    """All that follows from the requests is committed, in one transaction; returns a receipt for each.

    With the wallet's keys, a request that none of them has signed is refused.

    The batch is equal to the same requests one after the other, at the same time.
    """
    read = [_read(arrival, wallet_keys) for arrival in arrivals]
    receipts: list[Receipt] = []
    payments: list[Payment] = []
    answers: list[tuple[Answer, str | None]] = []
    with state.transaction():
        known_payments = state.payments(
            {request.payment_order_no for request in read if isinstance(request, PaymentRequest)}
        )
        for arrival, request in zip(arrivals, read, strict=True):
            if isinstance(request, Receipt):
                receipts.append(request)
                continue
            number = request.payment_order_no
            response = respond(request, known_payments.get(number), now, scenario)
            if response.payment is not None:
                known_payments[number] = response.payment
                payments.append(response.payment)
                answers += [(answer, arrival.traceparent) for answer in response.payment.plan]
            if response.changed is not None:
                known_payments[number] = response.changed
            answers += [(answer, arrival.traceparent) for answer in response.answers]
            detail = (
                f"differs from the payment in: {', '.join(response.different)}" if response.different else ""
            )
            receipts.append(Receipt(response.ending, number, detail))
        state.add(payments, answers)
    return receipts


def _read(arrival: IncomingRequest, wallet_keys: Keys | None) -> PaymentRequest | Receipt:
    try:
        request = parse(arrival.body, REQUESTS)
    except Unreadable as exc:
        return Receipt(RequestEnding.UNREADABLE, exc.payment_order_no, str(exc))
    if not isinstance(request, PaymentRequest):
        raise TypeError(f"parse let through a {request.type}")
    if wallet_keys is not None:
        try:
            verify(arrival.signature, arrival.body, wallet_keys, direction=SigningDirection.REQUESTS)
        except BadSignature as exc:
            return Receipt(RequestEnding.UNPROVEN, request.payment_order_no, exc.reason)
    return request
