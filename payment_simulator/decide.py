"""What the gateway answers, as pure functions of the request, the payment if known, the scenario, the time.

The fate of a payment (behaviour, gateway_ref, delays) is drawn from the scenario's seed and the payment_order_no
alone, so it does not depend on the order in which requests arrive, or on how they are batched.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from payment_simulator.behaviours import (
    CHANNEL_PREFIX,
    LATE_SECONDS,
    QR_SUFFIX,
    TABLE,
    Behaviour,
    Flaw,
    Ref,
    Row,
    Step,
    Validity,
    Wait,
    behaviour_of_channel,
)
from payment_simulator.scenario import Scenario
from wallet_schemas import encode, money
from wallet_schemas.payments import PaymentInstructions, PaymentRequest, PaymentResult, PaymentReversal
from wallet_schemas.values import PayerAction, PaymentKind, PaymentStatus, ReversalKind

EXPIRY_MAX: Final = timedelta(
    days=366
)  # nobody waits longer for `late`, and the calendar ends in the year 9999
REORDERING_GAP: Final = timedelta(milliseconds=1)  # keeps an order among the reordered, where delays are zero
NO_STATE: Final = -1  # the position of an answer about a payment that is in no state
NOT_A_STATE: Final = (
    -2
)  # that of what is told beside the states of a payment: how to pay, and what comes back
CODE_SECONDS: Final = 86_400  # how much longer than the order is waited for a long code can be paid
SHARED_REF: Final = "sim_shared"


class AnswerCause(StrEnum):
    """Why an answer is sent."""

    PLAN = "plan"  # decided when the request came first
    REPEAT = "repeat"  # the request came again
    STATUS = "status"  # a status request


@dataclass(frozen=True, slots=True)
class Answer:
    """One result, as it will be sent, or, with `due_at` None, as only a status request can learn it.

    `position` numbers the states of a payment; answers of the same state share it, and their body.
    """

    payment_order_no: str
    cause: AnswerCause
    position: int
    status: PaymentStatus
    occurred_at: datetime
    body: bytes
    due_at: datetime | None
    forged: bool = False
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Payment:
    """What the gateway knows of a payment: the request's facts, and its fate with all planned answers."""

    payment_order_no: str
    kind: PaymentKind
    amount: str
    currency: str
    channel: str
    behaviour: Behaviour
    gateway_ref: str
    received_at: datetime
    plan: tuple[Answer, ...]


class RequestEnding(StrEnum):
    """How a request ends for the gateway."""

    PLANNED = "planned"  # a new payment
    REPEATED = "repeated"  # a known payment: what was sent is sent again
    ASKED = "asked"  # a status request: the state of the payment is sent
    CONFLICTING = (
        "conflicting"  # its payment_order_no is another payment's: the sender has used a number twice
    )
    UNREADABLE = "unreadable"  # no payment request at all
    UNPROVEN = "unproven"  # nothing proves that the wallet has sent it

    @property
    def accepted(self) -> bool:
        """Whether the request is acknowledged; one that is not is rejected, and becomes a dead letter."""
        return self not in {RequestEnding.CONFLICTING, RequestEnding.UNREADABLE, RequestEnding.UNPROVEN}


@dataclass(frozen=True, slots=True)
class Response:
    """What a request leads to: its ending, perhaps a payment with its plan, perhaps answers outside a plan.

    `different` names the fields in which a conflicting request differs from the payment. `changed` is the payment that
    the answers have brought to another state.
    """

    ending: RequestEnding
    payment: Payment | None = None
    answers: tuple[Answer, ...] = ()
    different: tuple[str, ...] = ()
    changed: Payment | None = None


def respond(request: PaymentRequest, payment: Payment | None, now: datetime, scenario: Scenario) -> Response:
    """Return what follows from a request that arrives now, when `payment` is what is known of its payment."""
    if request.kind is PaymentKind.CANCEL and payment is not None:
        answer = _on_cancel(payment, now)
        if answer is not None:
            changed = replace(payment, plan=(*payment.plan, answer))
            return Response(RequestEnding.ASKED, answers=(answer,), changed=changed)
    if request.kind in {PaymentKind.STATUS, PaymentKind.CANCEL}:
        return Response(RequestEnding.ASKED, answers=(_status(request, payment, now, scenario),))
    if payment is None:
        return Response(RequestEnding.PLANNED, payment=plan(request, now, scenario))
    different = tuple(
        field
        for field in ("kind", "amount", "currency", "channel")
        if getattr(request, field) != getattr(payment, field)
    )
    if different:
        return Response(RequestEnding.CONFLICTING, different=different)
    return Response(RequestEnding.REPEATED, answers=_repeats(payment, now))


def plan(request: PaymentRequest, received_at: datetime, scenario: Scenario) -> Payment:
    """Return the payment that the request begins, with everything that will ever be told of it."""
    scenario = scenario.of(request.kind)
    draws = Draws(scenario.seed, request.payment_order_no)
    refusal = _refusal(request)
    if refusal is None:
        behaviour = behaviour_of_channel(request.channel, request.kind) or _behaviour(scenario, draws)
        row = TABLE[request.kind][behaviour]
    else:
        behaviour = Behaviour.DECLINED
        row = Row((Step(PaymentStatus.FAILED, reason=refusal),), "", "")
    gateway_ref = draws.reference("sim")
    answers: list[Answer] = []
    occurred_at = received_at
    if row.validity is not None:
        occurred_at += draws.delay(scenario, "instructions")
        answers.append(_instructions(request, row.validity, gateway_ref, occurred_at, draws))
    for position, step in enumerate(row.steps):
        occurred_at = _occurrence(
            step, request, occurred_at, draws.delay(scenario, f"state {position}"), scenario
        )
        notifications = tuple(
            occurred_at + times * draws.delay(scenario, f"told {position} {number}")
            for number, times in enumerate(step.notify_after)
        )
        result = _result(request, step, _ref(step, gateway_ref, draws), occurred_at)
        answers += [
            _answer(result, AnswerCause.PLAN, position, due_at, forged=step.forged)
            for due_at in notifications or (None,)
        ]
    answers += _turns(request, row, occurred_at, draws, scenario)
    if draws.fraction("reordering") < scenario.reordering_rate:
        answers = _last_first(answers, draws.delay(scenario, "held back"))
    return Payment(
        payment_order_no=request.payment_order_no,
        kind=request.kind,
        amount=request.amount,
        currency=request.currency,
        channel=request.channel,
        behaviour=behaviour,
        gateway_ref=gateway_ref,
        received_at=received_at,
        plan=tuple(answers),
    )


def _ref(step: Step, own: str, draws: "Draws") -> str:
    match step.ref:
        case Ref.OWN:
            return own
        case Ref.SECOND:
            return draws.reference("second")
        case Ref.SHARED:
            return SHARED_REF


def _instructions(
    request: PaymentRequest, validity: Validity, gateway_ref: str, occurred_at: datetime, draws: "Draws"
) -> Answer:
    """Return how to pay, as it is told when that is known."""
    expires_at = request.expires_at
    if validity is Validity.LONG and expires_at is not None:
        # In no calendar is there a year 10000.
        expires_at = min(expires_at, occurred_at + EXPIRY_MAX) + timedelta(seconds=CODE_SECONDS)
    way: dict[str, Any] = (
        {"action": PayerAction.QR_CODE, "qr_payload": f"https://pay.example/{gateway_ref}"}
        if request.channel.endswith(QR_SUFFIX)
        else {
            "action": PayerAction.BANK_TRANSFER,
            "bank_code": "822",
            "account_number": f"98294{int(draws.fraction('account') * 10**11):011}",
        }
    )
    message = PaymentInstructions(
        payment_order_no=request.payment_order_no,
        amount=request.amount,
        currency=request.currency,
        gateway_ref=gateway_ref,
        expires_at=None if validity is Validity.UNSAID else expires_at,
        occurred_at=occurred_at,
        **way,
    )
    return _beside(message, occurred_at, occurred_at)


def _turns(
    request: PaymentRequest, row: Row, since: datetime, draws: "Draws", scenario: Scenario
) -> list[Answer]:
    """Return what becomes of the payment's dispute or return, each turn after a delay of its own."""
    answers: list[Answer] = []
    occurred_at = since
    for sequence, turn in enumerate(row.turns, start=1):
        occurred_at += draws.delay(scenario, f"turn {sequence}")
        minor = max(1, money.to_minor(request.amount, request.currency) * turn.percent // 100)
        reversal = PaymentReversal(
            payment_order_no=request.payment_order_no,
            reversal_ref=draws.reference("rev"),
            kind=ReversalKind.DISPUTE if request.kind is PaymentKind.CHARGE else ReversalKind.RETURN,
            sequence=sequence,
            status=turn.status,
            amount=money.to_text(minor, request.currency),
            currency=request.currency,
            occurred_at=occurred_at,
        )
        answers.append(_beside(reversal, occurred_at, occurred_at))
    if not row.is_shuffled:
        return answers
    return _last_first([answer for each in answers for answer in (each, each)], timedelta(0))


def _beside(
    message: PaymentInstructions | PaymentReversal, occurred_at: datetime, due_at: datetime
) -> Answer:
    return Answer(
        payment_order_no=message.payment_order_no,
        cause=AnswerCause.PLAN,
        position=NOT_A_STATE,
        status=PaymentStatus.UNKNOWN,
        occurred_at=occurred_at,
        body=encode.encode(message),
        due_at=due_at,
    )


def _on_cancel(payment: Payment, now: datetime) -> Answer | None:
    """Return the state that a request to cancel brings a payment into; absent if it brings about none."""
    row = TABLE[payment.kind][payment.behaviour]
    if row.on_cancel is None or any(answer.position >= len(row.steps) for answer in payment.plan):
        return None
    step = row.on_cancel
    result = PaymentResult(
        payment_order_no=payment.payment_order_no,
        amount=payment.amount,
        currency=payment.currency,
        status=step.status,
        gateway_ref=payment.gateway_ref,
        reason=step.reason,
        occurred_at=now,
    )
    return _answer(result, AnswerCause.PLAN, len(row.steps), now)


class Draws:
    """Chance without a generator: each named draw is a hash, so no draw moves another, in whatever order."""

    __slots__ = ("_prefix",)

    def __init__(self, seed: int, payment_order_no: str) -> None:
        self._prefix = f"{seed}\0{payment_order_no}\0".encode()

    def fraction(self, name: str) -> float:
        """Return a number from 0 up to, not including, 1; always the same for a name."""
        return (int.from_bytes(self._digest(name)[:8], "big") >> 11) / (1 << 53)

    def delay(self, scenario: Scenario, name: str) -> timedelta:
        """Return a delay between the scenario's least and greatest."""
        span = scenario.delay_max_seconds - scenario.delay_min_seconds
        return timedelta(seconds=scenario.delay_min_seconds + span * self.fraction(name))

    def reference(self, prefix: str) -> str:
        """Return an identifier for one thing of that kind."""
        return f"{prefix}_{self._digest(prefix)[:12].hex()}"

    def _digest(self, name: str) -> bytes:
        return hashlib.blake2b(self._prefix + name.encode(), digest_size=16).digest()


def _refusal(request: PaymentRequest) -> str | None:
    """Return why no payment of this kind can be made at all, or None."""
    if (
        request.channel.startswith(CHANNEL_PREFIX)
        and behaviour_of_channel(request.channel, request.kind) is None
    ):
        return f"no such sandbox channel: {request.channel}"
    try:
        money.to_minor(request.amount, request.currency)
    except money.UnknownCurrency:
        return f"currency not supported: {request.currency}"
    except money.AmountOutOfRange:
        return "amount out of range"
    return None


def _behaviour(scenario: Scenario, draws: Draws) -> Behaviour:
    """Return the behaviour of a payment on an ordinary channel."""
    point = draws.fraction("mood")
    # In the order of the enumeration: the order of a file means nothing.
    for behaviour in Behaviour:
        point -= scenario.rates.get(behaviour, 0.0)
        if point < 0:
            return behaviour
    return Behaviour.SUCCEEDED


def _occurrence(
    step: Step, request: PaymentRequest, before: datetime, delay: timedelta, scenario: Scenario
) -> datetime:
    """Return when a state happens that follows one at `before`."""
    match step.wait:
        case Wait.DELAY:
            return before + delay
        case Wait.EXPIRY if scenario.late_after_seconds is not None:
            return before + timedelta(seconds=scenario.late_after_seconds)
        case Wait.EXPIRY if request.expires_at is None:
            return before + timedelta(seconds=LATE_SECONDS) + delay
        case Wait.EXPIRY:
            return min(max(before, request.expires_at), before + EXPIRY_MAX) + delay


def _result(request: PaymentRequest, step: Step, gateway_ref: str, occurred_at: datetime) -> PaymentResult:
    amount, currency = request.amount, request.currency
    match step.flaw:
        case Flaw.NONE:
            pass
        case Flaw.AMOUNT:
            minor = money.to_minor(amount, currency)
            # One less at the top: a result that no wallet can read would be another flaw.
            amount = money.to_text(minor + 1 if minor < money.AMOUNT_MAX_MINOR else minor - 1, currency)
        case Flaw.CURRENCY:
            minor = money.to_minor(amount, currency)
            currency = "EUR" if currency == "USD" else "USD"
            amount = money.to_text(minor, currency)
        case Flaw.LESS:
            minor = money.to_minor(amount, currency)
            # A payment of one unit cannot be underpaid: then one more comes.
            amount = money.to_text(minor - max(1, minor // 100) or 2, currency)
        case Flaw.MORE:
            minor = money.to_minor(amount, currency)
            more = minor + max(1, minor // 10)
            amount = money.to_text(more if more <= money.AMOUNT_MAX_MINOR else minor - 1, currency)
    return PaymentResult(
        payment_order_no=request.payment_order_no,
        amount=amount,
        currency=currency,
        status=step.status,
        gateway_ref=gateway_ref,
        reason=step.reason,
        occurred_at=occurred_at,
    )


def _answer(
    result: PaymentResult, cause: AnswerCause, position: int, due_at: datetime | None, *, forged: bool = False
) -> Answer:
    return Answer(
        payment_order_no=result.payment_order_no,
        cause=cause,
        position=position,
        status=result.status,
        occurred_at=result.occurred_at,
        body=encode.encode(result),
        due_at=due_at,
        forged=forged,
    )


def _last_first(answers: Sequence[Answer], delay: timedelta) -> list[Answer]:
    """Return the answers with their times of sending reversed, all after the last of them and `delay` apart.

    So nothing is told before it happened. What is never told stays untold.
    """
    by_time = sorted(
        (answer.due_at, index) for index, answer in enumerate(answers) if answer.due_at is not None
    )
    reordered = list(answers)
    gap = delay + REORDERING_GAP
    for place, (_, index) in enumerate(reversed(by_time), start=1):
        reordered[index] = replace(answers[index], due_at=by_time[-1][0] + place * gap)
    return reordered


def _repeats(payment: Payment, now: datetime) -> tuple[Answer, ...]:
    """Return again, for now, each planned answer that was sent already; the others come by themselves."""
    return tuple(
        replace(answer, cause=AnswerCause.REPEAT, due_at=now, sent=False)
        for answer in payment.plan
        if answer.sent
    )


def _status(request: PaymentRequest, payment: Payment | None, now: datetime, scenario: Scenario) -> Answer:
    """Return the state that the payment is in now: the same result, byte for byte, that the plan has for it.

    A payment in no state yet is `unknown`. So is a payment that the gateway never heard of, and not `failed`:
    the question may have overtaken the request, and what was called failed could still succeed.
    """
    if payment is None:
        gateway_ref = Draws(scenario.seed, request.payment_order_no).reference("inquiry")
        return _answer(
            _unknown(request, gateway_ref, "no such payment", now), AnswerCause.STATUS, NO_STATE, now
        )
    reached = [answer for answer in payment.plan if answer.occurred_at <= now and answer.position >= 0]
    if not reached:
        return _answer(
            _unknown(payment, payment.gateway_ref, "in progress", now), AnswerCause.STATUS, NO_STATE, now
        )
    state = max(reached, key=lambda answer: answer.position)
    return replace(state, cause=AnswerCause.STATUS, due_at=now, forged=False, sent=False)


def _unknown(of: PaymentRequest | Payment, gateway_ref: str, reason: str, now: datetime) -> PaymentResult:
    return PaymentResult(
        payment_order_no=of.payment_order_no,
        amount=of.amount,
        currency=of.currency,
        status=PaymentStatus.UNKNOWN,
        gateway_ref=gateway_ref,
        reason=reason,
        occurred_at=now,
    )
