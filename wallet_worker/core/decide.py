"""One message, the facts, and a time: what the wallet does. No more is looked at, and nothing is done here.

Each private function below is one message type, as a row of early returns in the order of the codes
(`schemas.codes`): a message that is wrong in two ways gets the code that stands first.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from schemas import money
from schemas.codes import Code
from schemas.commands import NoResult, OpenAccount, OpenAccountResult, Outcome, Recharge, RechargeResult
from schemas.encode import encode
from schemas.events import (
    AccountOpened,
    CommandRefused,
    Event,
    OrderFailed,
    OrderPending,
    OrderSucceeded,
    Refusal,
)
from schemas.fingerprint import canonical, content, differing, fingerprint
from schemas.message import Message, Part
from schemas.names import DEFAULT_CURRENCIES, PAYMENT_REQUESTS, WALLET_EVENTS, routing_key
from schemas.payments import PaymentProcessed, PaymentRequest, PaymentResult
from schemas.values import AccountStatus, OutcomeStatus, PaymentKind, ProcessingStatus
from wallet_worker.core import accounts, ledger, orders
from wallet_worker.core.accounts import AccountKey, SystemKey, SystemName
from wallet_worker.core.facts import Command, Decision, Facts, Outgoing, Receipt
from wallet_worker.core.numbering import Draw
from wallet_worker.core.orders import Effect, Order, Step
from wallet_worker.core.reading import Incoming, Readable, Source, Unreadable
from wallet_worker.endings import Ending

PARKED_FOR = (timedelta(seconds=5), timedelta(seconds=30), timedelta(minutes=5))
"""How long a result without an order waits, each time; then it is a dead letter (contract, section 6)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment may choose: the currencies it allows, and how long a recharge is waited for."""

    currencies: frozenset[str] = frozenset(DEFAULT_CURRENCIES)
    recharge_expires_after: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a decision needs beside the message and the facts: all of it values."""

    rules: Rules
    incoming: Incoming
    draw: Draw
    now: datetime


def decide(message: Readable | Unreadable, facts: Facts, at: Circumstances) -> Decision:
    """Return what the message does. The same arguments always give the same decision; nothing is changed."""
    match message:
        case Unreadable():
            return _unreadable(message, at)
        case PaymentResult():
            return _payment_result(message, facts, at)
        case OpenAccount() | Recharge():
            return _command(message, facts, at)
        case _:
            assert_never(message)


def _unreadable(message: Unreadable, at: Circumstances) -> Decision:
    replies: tuple[Outgoing, ...] = ()
    match at.incoming.source:
        case Source.COMMANDS if message.serial_no is not None:
            replies = _reply(
                Outcome(
                    serial_no=message.serial_no,
                    status=OutcomeStatus.REFUSED,
                    code=message.code,
                    duplicate=False,
                    result=NoResult(),
                    faults=list(message.faults),
                ),
                at,
            )
        case Source.RESULTS if message.payment_order_no is not None:
            replies = _processed(message.payment_order_no, ProcessingStatus.REFUSED, message.code, at)
        case _:
            pass  # nobody can be told what it is about
    return Decision(Ending.REJECTED, message.code, message.detail, outgoing=replies)


# Commands


def _command(message: OpenAccount | Recharge, facts: Facts, at: Circumstances) -> Decision:
    said = content(message)
    text = canonical(said)
    mark = fingerprint(text)
    known = facts.commands.get(message.serial_no)
    if known is None:
        match message:
            case OpenAccount():
                made = _open_account(message, facts, at)
            case Recharge():
                made = _recharge(message, facts, at)
            case _:
                assert_never(message)
        return _with_outcome(message, made, text.decode(), mark, at)
    if known.fingerprint == mark:
        return Decision(Ending.REPEATED, known.code, outgoing=_answer(known, at, duplicate=True))
    different = differing(said, json.loads(known.content))
    return Decision(
        Ending.CONFLICTED,
        Code.SERIAL_CONFLICT,
        f"the serial number was used before with different {', '.join(different)}",
        outgoing=_reply(
            Outcome(
                serial_no=message.serial_no,
                status=OutcomeStatus.REFUSED,
                code=Code.SERIAL_CONFLICT,
                duplicate=False,
                result=NoResult(),
                different=different,
            ),
            at,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """What a command does, before its outcome is wrapped around it."""

    result: OpenAccountResult | RechargeResult
    opened: accounts.Account | None = None
    order: Order | None = None
    outgoing: tuple[Outgoing, ...] = ()


@dataclass(frozen=True, slots=True)
class _No:
    """Why a command is refused."""

    code: Code
    message: str


def _open_account(message: OpenAccount, facts: Facts, at: Circumstances) -> _Made | _No:
    if message.currency not in at.rules.currencies:
        return _currency_not_supported(message.currency)
    key = AccountKey(message.user_id, message.account_type, message.currency)
    newest = facts.account(key)
    if newest is not None and newest.status is not AccountStatus.CLOSED:
        return _No(Code.ACCOUNT_EXISTS, "the user has an account of this type and currency")
    account = accounts.opened(at.draw.account_id, at.draw.account_no(at.now), key, at.now)
    event = AccountOpened(
        event_id=_event_id(at), occurred_at=at.now, serial_no=message.serial_no, data=accounts.view(account)
    )
    return _Made(
        OpenAccountResult(
            user_id=account.user_id,
            account_type=account.account_type,
            currency=account.currency,
            account_no=account.account_no,
        ),
        opened=account,
        outgoing=(_event(event, at),),
    )


def _recharge(message: Recharge, facts: Facts, at: Circumstances) -> _Made | _No:
    if message.currency not in at.rules.currencies:
        return _currency_not_supported(message.currency)
    try:
        amount_minor = message.amount_minor
    except money.AmountOutOfRange as exc:
        return _No(Code.AMOUNT_OUT_OF_RANGE, str(exc))
    account = facts.account(AccountKey(message.user_id, message.account_type, message.currency))
    if account is None:
        return _No(Code.ACCOUNT_NOT_FOUND, "the user has no account of this type and currency")
    if account.status is AccountStatus.CLOSED:
        return _No(Code.ACCOUNT_CLOSED, "the account is closed")
    order = orders.pending_recharge(
        order_id=at.draw.order_id(at.now),
        serial_no=message.serial_no,
        account=account,
        amount_minor=amount_minor,
        channel=message.recharge_type,
        at=at.now,
        expires_at=at.now + at.rules.recharge_expires_after,
    )
    amount = money.to_text(amount_minor, order.currency)
    request = PaymentRequest(
        payment_order_no=order.serial_no,
        kind=PaymentKind.CHARGE,
        amount=amount,
        currency=order.currency,
        channel=order.channel,
        requested_at=at.now,
        expires_at=at.now + at.rules.recharge_expires_after,
    )
    event = OrderPending(
        event_id=_event_id(at),
        occurred_at=at.now,
        serial_no=order.serial_no,
        data=orders.view(order, account),
    )
    return _Made(
        RechargeResult(
            user_id=account.user_id,
            account_type=account.account_type,
            amount=amount,
            currency=order.currency,
            recharge_type=order.channel,
            serial_no=order.serial_no,
            order_status=order.status,
        ),
        order=order,
        outgoing=(_event(event, at), _outgoing(request, PAYMENT_REQUESTS, 1, at)),
    )


def _currency_not_supported(currency: str) -> _No:
    return _No(Code.CURRENCY_NOT_SUPPORTED, f"{currency} is not among the currencies of this wallet")


def _with_outcome(
    message: OpenAccount | Recharge, made: _Made | _No, said: str, mark: bytes, at: Circumstances
) -> Decision:
    """Return the decision that stores the outcome, tells the world, and answers whoever asked."""
    if isinstance(made, _Made):
        ending, status, code, detail = Ending.APPLIED, OutcomeStatus.APPLIED, Code.OK, ""
        result: Part = made.result
        opened, order, outgoing = made.opened, made.order, made.outgoing
    else:
        ending, status, code, detail = Ending.REFUSED, OutcomeStatus.REFUSED, made.code, made.message
        result, opened, order = NoResult(), None, None
        event = CommandRefused(
            event_id=_event_id(at),
            occurred_at=at.now,
            serial_no=message.serial_no,
            data=Refusal(command_type=message.type, code=made.code, message=made.message),
        )
        outgoing = (_event(event, at),)
    command = Command(
        serial_no=message.serial_no,
        command_type=message.type,
        fingerprint=mark,
        content=said,
        status=status,
        code=code,
        result=result.__pydantic_serializer__.to_json(result).decode(),
        created_at=at.now,
    )
    return Decision(
        ending,
        code,
        detail,
        command=command,
        opened=opened,
        order=order,
        outgoing=outgoing + _answer(command, at, duplicate=False),
    )


def outcome(command: Command, *, duplicate: bool) -> Outcome:
    """Return the stored outcome of a serial number as the contract shows it."""
    return Outcome.model_validate(
        {
            "serial_no": command.serial_no,
            "status": command.status,
            "code": command.code,
            "duplicate": duplicate,
            "result": json.loads(command.result),
        }
    )


def _answer(command: Command, at: Circumstances, *, duplicate: bool) -> tuple[Outgoing, ...]:
    if at.incoming.reply_to is None:
        return ()
    return _reply(outcome(command, duplicate=duplicate), at)


# Payment results


def _payment_result(result: PaymentResult, facts: Facts, at: Circumstances) -> Decision:
    order = facts.orders.get(result.payment_order_no)
    if order is None:
        return _order_not_found(result, at)
    account = facts.accounts[order.account_id]
    step = orders.RECHARGE[order.status, result.status]
    refusal = _mismatch(result, order, account, step)
    if refusal is not None:
        return _rejected(result, refusal, at)
    match step.effect:
        case Effect.REPEAT | Effect.KEEP:
            return Decision(
                Ending.REPEATED,
                receipt=_receipt(result, step.processing, Code.OK, at),
                outgoing=_processed(result.payment_order_no, step.processing, Code.OK, at),
            )
        case Effect.CLOSE:
            return _closed(result, order, account, step, at)
        case Effect.CREDIT | Effect.CREDIT_LATE:
            return _credited(result, order, account, step, facts, at)
        case Effect.CONTRADICTION:
            msg = "a contradiction is a mismatch"
            raise AssertionError(msg)
        case _:
            assert_never(step.effect)


def _mismatch(result: PaymentResult, order: Order, account: accounts.Account, step: Step) -> _No | None:
    """Return why the result moves nothing and an operator must look; absent if it fits its order."""
    if step.credits and account.status is AccountStatus.CLOSED:
        return _No(Code.ACCOUNT_CLOSED, "the money arrived after the account was closed")
    if result.currency != order.currency:
        return _No(
            Code.CURRENCY_MISMATCH, f"the order is in {order.currency}, the result in {result.currency}"
        )
    try:
        fits = result.amount_minor == order.amount_minor
    except money.AmountOutOfRange:
        fits = False
    if not fits:
        return _No(Code.AMOUNT_MISMATCH, "the amount is not that of the order")
    if step.effect is Effect.CONTRADICTION:
        return _No(Code.CONTRADICTING_RESULT, f"the order is {order.status}, the result says {result.status}")
    return None


def _order_not_found(result: PaymentResult, at: Circumstances) -> Decision:
    attempts = at.incoming.attempts
    why = "no order has this payment_order_no"
    if attempts < len(PARKED_FOR):
        return Decision(Ending.PARKED, Code.ORDER_NOT_FOUND, why, due_at=at.now + PARKED_FOR[attempts])
    return Decision(
        Ending.REJECTED,
        Code.ORDER_NOT_FOUND,
        f"{why}, looked for {attempts + 1} times",
        outgoing=_processed(result.payment_order_no, ProcessingStatus.REFUSED, Code.ORDER_NOT_FOUND, at),
    )


def _rejected(result: PaymentResult, refusal: _No, at: Circumstances) -> Decision:
    return Decision(
        Ending.REJECTED,
        refusal.code,
        refusal.message,
        receipt=_receipt(result, ProcessingStatus.REFUSED, refusal.code, at),
        outgoing=_processed(result.payment_order_no, ProcessingStatus.REFUSED, refusal.code, at),
    )


def _closed(
    result: PaymentResult, order: Order, account: accounts.Account, step: Step, at: Circumstances
) -> Decision:
    failed = orders.advance(order, step, at.now)
    event = OrderFailed(
        event_id=_event_id(at),
        occurred_at=at.now,
        serial_no=order.serial_no,
        data=orders.view(failed, account),
    )
    return Decision(
        Ending.APPLIED,
        order=failed,
        receipt=_receipt(result, step.processing, Code.OK, at),
        outgoing=(_event(event, at), *_processed(order.serial_no, step.processing, Code.OK, at)),
    )


def _credited(
    result: PaymentResult,
    order: Order,
    account: accounts.Account,
    step: Step,
    facts: Facts,
    at: Circumstances,
) -> Decision:
    try:
        posting = ledger.post(
            debit=facts.lane(SystemKey(SystemName.CLEARING, order.currency)),
            credit=account,
            amount_minor=order.amount_minor,
            order_id=order.order_id,
            at=max(at.now, order.updated_at),  # no line is older than its order, whatever the clock does
        )
    except ledger.BalanceOverflowError:
        return _rejected(result, _No(Code.AMOUNT_OUT_OF_RANGE, "the balance would leave 64 bits"), at)
    succeeded = orders.advance(order, step, posting.credit.created_at)
    line = ledger.view(posting.credit, posting.credited, order.order_type)
    event = OrderSucceeded(
        event_id=_event_id(at),
        occurred_at=at.now,
        serial_no=order.serial_no,
        data=orders.view(succeeded, account, [line]),
    )
    return Decision(
        Ending.APPLIED,
        order=succeeded,
        postings=(posting,),
        receipt=_receipt(result, step.processing, Code.OK, at),
        outgoing=(_event(event, at), *_processed(order.serial_no, step.processing, Code.OK, at)),
    )


def _receipt(result: PaymentResult, processing: ProcessingStatus, code: Code, at: Circumstances) -> Receipt:
    return Receipt(result, fingerprint(content(result)), processing, code, at.now)


# What goes out. The numbers keep a message's ids apart: 0 its event, 1 its payment request, 2 its reply.


def _event_id(at: Circumstances) -> str:
    return str(at.draw.event_id(at.now, 0))


def _event(event: Event, at: Circumstances) -> Outgoing:
    return _outgoing(event, WALLET_EVENTS, 0, at)


def _outgoing(message: Message, exchange: str, number: int, at: Circumstances) -> Outgoing:
    return Outgoing(
        message_id=at.draw.event_id(at.now, number),
        exchange=exchange,
        routing_key=routing_key(message.type),
        body=encode(message),
        traceparent=at.incoming.traceparent,
    )


def _processed(number: str, status: ProcessingStatus, code: Code, at: Circumstances) -> tuple[Outgoing, ...]:
    if at.incoming.reply_to is None:
        return ()
    return _reply(PaymentProcessed(payment_order_no=number, processing_status=status, code=code), at)


def _reply(message: Message, at: Circumstances) -> tuple[Outgoing, ...]:
    """Return the answer to whoever asked for one, on the default exchange."""
    if at.incoming.reply_to is None:
        return ()
    reply = Outgoing(
        message_id=at.draw.event_id(at.now, 2),
        exchange="",
        routing_key=at.incoming.reply_to,
        body=encode(message),
        correlation_id=at.incoming.correlation_id,
        traceparent=at.incoming.traceparent,
    )
    return (reply,)
