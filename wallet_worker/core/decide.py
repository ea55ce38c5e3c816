"""One message, the facts, and a time: what the wallet does. No more is looked at, and nothing is done here.

What each command does is in `asking`, what a result does in `results`, what the time does in `passing`; here is
what all commands have in common: a serial number has one outcome, for ever.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, get_args

from wallet_schemas.codes import Code
from wallet_schemas.commands import (
    Capture,
    CloseAccount,
    FreezeAccount,
    Hold,
    NoResult,
    OpenAccount,
    Outcome,
    Recharge,
    Refund,
    Release,
    Transfer,
    UnfreezeAccount,
    Withdraw,
)
from wallet_schemas.events import CommandRefused, Refusal
from wallet_schemas.fingerprint import canonical, changed_fields, content, fingerprint
from wallet_schemas.message import JsonObject
from wallet_schemas.payments import PaymentResult
from wallet_schemas.values import OutcomeStatus
from wallet_worker.core import commands, deadlines, outbound, payment_results
from wallet_worker.core.changes import Decision, OutboxMessage, StoredCommand
from wallet_worker.core.commands import Accepted, Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.inbound import AnyCommand, DueOrder, InvalidMessage, Message, Source


def decide(message: Message | InvalidMessage, facts: Facts, context: DecisionContext) -> Decision:
    """Return what the message does. The same arguments always give the same decision; nothing is changed."""
    # By type and not by `match`, which would ask each of a dozen classes in turn, for every message.
    return _DECIDERS.get(type(message), _command)(message, facts, context)


def _unreadable(message: InvalidMessage, _facts: Facts, context: DecisionContext) -> Decision:
    replies: tuple[OutboxMessage, ...] = ()
    match context.incoming.source:
        case Source.COMMANDS if message.serial_no is not None:
            replies = outbound.reply(
                Outcome(
                    serial_no=message.serial_no,
                    status=OutcomeStatus.REFUSED,
                    code=message.code,
                    duplicate=False,
                    result=NoResult(),
                    faults=list(message.faults),
                ),
                context,
            )
        case Source.RESULTS if message.payment_order_no is not None:
            replies = payment_results.refused(message.payment_order_no, message.code, context)
        case _:
            pass  # nobody can be told what it is about
    return Decision(Ending.REJECTED, message.code, message.detail, outgoing=replies)


def _command(message: AnyCommand, facts: Facts, context: DecisionContext) -> Decision:
    said = content(message)
    text = canonical(said)
    mark = fingerprint(text)
    known = facts.commands.get(message.serial_no)
    if known is None:
        made = _COMMANDS[type(message)](message, facts, context)
        return _conclude(message, made, text.decode(), mark, context)
    if known.fingerprint == mark:
        return Decision(Ending.REPEATED, known.code, outgoing=_reply(known, context, duplicate=True))
    different = changed_fields(said, json.loads(known.content))
    return Decision(
        Ending.CONFLICT,
        Code.SERIAL_CONFLICT,
        f"the serial number was used before with different {', '.join(different)}",
        outgoing=outbound.reply(
            Outcome(
                serial_no=message.serial_no,
                status=OutcomeStatus.REFUSED,
                code=Code.SERIAL_CONFLICT,
                duplicate=False,
                result=NoResult(),
                different=different,
            ),
            context,
        ),
    )


def _conclude(
    message: AnyCommand, made: Accepted | Refused, said: str, mark: bytes, context: DecisionContext
) -> Decision:
    """Return the decision that stores the outcome, tells the world, and answers whoever asked."""
    if isinstance(made, Refused):
        told = Refusal(command_type=message.type, code=made.code, message=made.message)
        command = _to_stored(message, OutcomeStatus.REFUSED, made.code, NoResult(), said, mark, context)
        return Decision(
            Ending.REFUSED,
            made.code,
            made.message,
            command=command,
            outgoing=(
                outbound.event_message(CommandRefused, message.serial_no, told, context),
                *_reply(command, context, duplicate=False),
            ),
        )
    command = _to_stored(message, OutcomeStatus.APPLIED, Code.OK, made.result, said, mark, context)
    return Decision(
        Ending.APPLIED,
        command=command,
        opened=made.opened,
        orders=made.orders,
        changed=made.changed,
        postings=made.postings,
        outgoing=made.outgoing + _reply(command, context, duplicate=False),
    )


def _to_stored(
    message: AnyCommand,
    status: OutcomeStatus,
    code: Code,
    result: JsonObject,
    said: str,
    mark: bytes,
    context: DecisionContext,
) -> StoredCommand:
    return StoredCommand(
        serial_no=message.serial_no,
        command_type=message.type,
        fingerprint=mark,
        content=said,
        status=status,
        code=code,
        result=result.__pydantic_serializer__.to_json(result).decode(),
        created_at=context.now,
    )


def outcome(command: StoredCommand, *, duplicate: bool) -> Outcome:
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


def _reply(command: StoredCommand, context: DecisionContext, *, duplicate: bool) -> tuple[OutboxMessage, ...]:
    if context.incoming.reply_to is None:
        return ()
    return outbound.reply(outcome(command, duplicate=duplicate), context)


_COMMANDS: Mapping[type, Callable[[Any, Facts, DecisionContext], Accepted | Refused]] = MappingProxyType(
    {
        OpenAccount: commands.open_account,
        FreezeAccount: commands.change_status,
        UnfreezeAccount: commands.change_status,
        CloseAccount: commands.change_status,
        Recharge: commands.recharge,
        Withdraw: commands.withdraw,
        Transfer: commands.transfer,
        Refund: commands.refund,
        Hold: commands.hold,
        Capture: commands.capture,
        Release: commands.release,
    }
)
if set(_COMMANDS) != set(get_args(AnyCommand)):
    msg = f"nobody decides {set(get_args(AnyCommand)) ^ set(_COMMANDS)}"
    raise AssertionError(msg)

_DECIDERS: Mapping[type, Callable[[Any, Facts, DecisionContext], Decision]] = MappingProxyType(
    {PaymentResult: payment_results.apply_result, InvalidMessage: _unreadable, DueOrder: deadlines.on_due}
)
"""Who decides what is no command."""
