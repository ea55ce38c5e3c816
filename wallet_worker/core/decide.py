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
from wallet_schemas.fingerprint import canonical, content, differing, fingerprint
from wallet_schemas.message import Part
from wallet_schemas.payments import PaymentResult
from wallet_schemas.values import OutcomeStatus
from wallet_worker.core import commands, deadlines, outbound, payment_results
from wallet_worker.core.commands import Made, No
from wallet_worker.core.context import Circumstances
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Command, Decision, Facts, Outgoing
from wallet_worker.core.inbound import AnyCommand, Due, Readable, Source, Unreadable


def decide(message: Readable | Unreadable, facts: Facts, at: Circumstances) -> Decision:
    """Return what the message does. The same arguments always give the same decision; nothing is changed."""
    # By type and not by `match`, which would ask each of a dozen classes in turn, for every message.
    return _DECIDERS.get(type(message), _command)(message, facts, at)


def _unreadable(message: Unreadable, _facts: Facts, at: Circumstances) -> Decision:
    replies: tuple[Outgoing, ...] = ()
    match at.incoming.source:
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
                at,
            )
        case Source.RESULTS if message.payment_order_no is not None:
            replies = payment_results.refused(message.payment_order_no, message.code, at)
        case _:
            pass  # nobody can be told what it is about
    return Decision(Ending.REJECTED, message.code, message.detail, outgoing=replies)


def _command(message: AnyCommand, facts: Facts, at: Circumstances) -> Decision:
    said = content(message)
    text = canonical(said)
    mark = fingerprint(text)
    known = facts.commands.get(message.serial_no)
    if known is None:
        made = _COMMANDS[type(message)](message, facts, at)
        return _with_outcome(message, made, text.decode(), mark, at)
    if known.fingerprint == mark:
        return Decision(Ending.REPEATED, known.code, outgoing=_answer(known, at, duplicate=True))
    different = differing(said, json.loads(known.content))
    return Decision(
        Ending.CONFLICTED,
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
            at,
        ),
    )


def _with_outcome(
    message: AnyCommand, made: Made | No, said: str, mark: bytes, at: Circumstances
) -> Decision:
    """Return the decision that stores the outcome, tells the world, and answers whoever asked."""
    if isinstance(made, No):
        told = Refusal(command_type=message.type, code=made.code, message=made.message)
        command = _remembered(message, OutcomeStatus.REFUSED, made.code, NoResult(), said, mark, at)
        return Decision(
            Ending.REFUSED,
            made.code,
            made.message,
            command=command,
            outgoing=(
                outbound.event(CommandRefused, message.serial_no, told, at),
                *_answer(command, at, duplicate=False),
            ),
        )
    command = _remembered(message, OutcomeStatus.APPLIED, Code.OK, made.result, said, mark, at)
    return Decision(
        Ending.APPLIED,
        command=command,
        opened=made.opened,
        orders=made.orders,
        changed=made.changed,
        postings=made.postings,
        outgoing=made.outgoing + _answer(command, at, duplicate=False),
    )


def _remembered(
    message: AnyCommand,
    status: OutcomeStatus,
    code: Code,
    result: Part,
    said: str,
    mark: bytes,
    at: Circumstances,
) -> Command:
    return Command(
        serial_no=message.serial_no,
        command_type=message.type,
        fingerprint=mark,
        content=said,
        status=status,
        code=code,
        result=result.__pydantic_serializer__.to_json(result).decode(),
        created_at=at.now,
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
    return outbound.reply(outcome(command, duplicate=duplicate), at)


_COMMANDS: Mapping[type, Callable[[Any, Facts, Circumstances], Made | No]] = MappingProxyType(
    {
        OpenAccount: commands.open_account,
        FreezeAccount: commands.turn_account,
        UnfreezeAccount: commands.turn_account,
        CloseAccount: commands.turn_account,
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

_DECIDERS: Mapping[type, Callable[[Any, Facts, Circumstances], Decision]] = MappingProxyType(
    {PaymentResult: payment_results.settle, Unreadable: _unreadable, Due: deadlines.pass_by}
)
"""Who decides what is no command."""
