"""One message, the facts, and a time: what the wallet does. Nothing else is read, and nothing is done here.

What each command does is in `commands`, what a payment result does in `payment_results`, what the time does in
`deadlines`. Here is what all commands have in common: a serial number has one outcome, for ever.
"""

import json
from typing import Final, cast

from wallet_schemas.codes import Code
from wallet_schemas.commands import AnyCommand, Outcome
from wallet_schemas.events import CommandRefused
from wallet_schemas.fingerprint import canonical, changed_fields, content, fingerprint
from wallet_schemas.message import Body
from wallet_schemas.payments import PaymentInstructions, PaymentResult, PaymentReversal
from wallet_schemas.values import OutcomeStatus
from wallet_worker.core import (
    commands,
    deadlines,
    outbound,
    payment_instructions,
    payment_results,
    payment_reversals,
    permission,
)
from wallet_worker.core.changes import Decision, OutboxMessage, StoredCommand
from wallet_worker.core.commands import Handler
from wallet_worker.core.commands.acceptance import Accepted
from wallet_worker.core.commands.checks import Refused
from wallet_worker.core.context import DecisionContext
from wallet_worker.core.endings import Ending
from wallet_worker.core.facts import Facts
from wallet_worker.core.inbound import DueOrder, InvalidMessage, Message, Source

NO_RESULT: Final = '{"object":"none"}'
"""The result of a refusal, as JSON."""

EXPIRED: Final = Refused(Code.COMMAND_EXPIRED, "the command was decided later than its valid_until")


def decide(message: Message | InvalidMessage, facts: Facts, context: DecisionContext) -> Decision:
    """Return what the message does. The same arguments always give the same decision; nothing is changed."""
    # By type and not by `match`, which would compare a dozen classes in turn for every message.
    handler = commands.HANDLERS.get(type(message))  # type: ignore[arg-type]  # of any other type there is none
    if handler is not None:
        return _command(cast("AnyCommand", message), handler, facts, context)
    match message:
        case PaymentResult():
            return payment_results.apply_result(message, facts, context)
        case PaymentInstructions():
            return payment_instructions.apply_instructions(message, facts, context)
        case PaymentReversal():
            return payment_reversals.apply_reversal(message, facts, context)
        case DueOrder():
            return deadlines.on_due(message, facts, context)
        case InvalidMessage():
            return _invalid(message, context)
        case _:
            msg = f"no handler for {type(message)}"
            raise AssertionError(msg)


def _invalid(message: InvalidMessage, context: DecisionContext) -> Decision:
    replies: tuple[OutboxMessage, ...] = ()
    match context.incoming.source:
        case Source.COMMANDS:  # also where no serial number can be read: whoever waits is told
            replies = outbound.reply(
                outbound.outcome(
                    message.serial_no,
                    OutcomeStatus.REFUSED,
                    message.code,
                    NO_RESULT,
                    duplicate=False,
                    message=message.detail,
                    faults=[{"field": fault.field, "message": fault.message} for fault in message.faults],
                ),
                context,
            )
        case Source.RESULTS if message.payment_order_no is not None:
            replies = payment_results.refused(
                message.payment_order_no, message.code, context, message.reversal_ref
            )
        case _:
            pass  # which payment it is about cannot be read
    return Decision(Ending.REJECTED, message.code, message.detail, outgoing=replies)


def _command(message: AnyCommand, handler: Handler, facts: Facts, context: DecisionContext) -> Decision:
    why_not = permission.command_refusal(message, facts, context)
    if why_not is not None:
        return _rejected(message, Ending.REJECTED, Code.NOT_ALLOWED, why_not, context)
    fields = content(message)
    text = canonical(fields)
    mark = fingerprint(text)
    stored = facts.commands.get(message.serial_no)
    if stored is not None and not permission.is_same_sender(stored, context):
        why = "the serial number was used by another sender"  # and nothing of what for
        return _rejected(message, Ending.CONFLICT, Code.SERIAL_CONFLICT, why, context)
    if stored is None:
        valid_until = message.valid_until
        handled = (
            handler.handle(message, facts, context)
            if valid_until is None or valid_until >= context.now
            else EXPIRED
        )
        return _conclude(message, handled, text.decode(), mark, context)
    if stored.fingerprint == mark:
        return Decision(Ending.REPEATED, stored.code, outgoing=_reply(stored, context, duplicate=True))
    different = changed_fields(fields, json.loads(stored.content))
    why = f"the serial number was used before with different {', '.join(different)}"
    return _rejected(message, Ending.CONFLICT, Code.SERIAL_CONFLICT, why, context, different)


def _rejected(
    message: AnyCommand,
    ending: Ending,
    code: Code,
    why: str,
    context: DecisionContext,
    different: list[str] | None = None,
) -> Decision:
    """Return the decision that stores nothing and sets the command aside. Its sender is told the code."""
    further: Body = {"message": why}
    if different is not None:
        further["different"] = different
    answer = outbound.outcome(
        message.serial_no, OutcomeStatus.REFUSED, code, NO_RESULT, duplicate=False, **further
    )
    return Decision(ending, code, why, outgoing=outbound.reply(answer, context))


def _conclude(
    message: AnyCommand, handled: Accepted | Refused, text: str, mark: bytes, context: DecisionContext
) -> Decision:
    """Return the decision that stores the outcome, publishes the events and replies."""
    # Of a refusal, why it was refused is stored in the place of the result.
    status, code, result = (
        (OutcomeStatus.REFUSED, handled.code, refusal_text(handled))
        if isinstance(handled, Refused)
        else (OutcomeStatus.APPLIED, Code.OK, outbound.encode(handled.result).decode())
    )
    stored = StoredCommand(
        serial_no=message.serial_no,
        command_type=message.type,
        fingerprint=mark,
        content=text,
        status=status,
        code=code,
        result=result,
        created_at=context.now,
        sent_by=None if context.incoming.sender is None else str(context.incoming.sender),
    )
    reply = _reply(stored, context, duplicate=False)
    if isinstance(handled, Refused):
        refusal = {"command_type": message.type, "code": handled.code, "message": handled.message}
        event = outbound.event_message(CommandRefused, message.serial_no, refusal, context)
        return Decision(
            Ending.REFUSED, handled.code, handled.message, command=stored, outgoing=(event, *reply)
        )
    return Decision(
        Ending.APPLIED,
        command=stored,
        opened=handled.opened,
        orders=handled.orders,
        changed=handled.changed,
        postings=handled.postings,
        outgoing=handled.outgoing + reply,
        own_commands=handled.own_commands,
    )


def refusal_text(refused: Refused) -> str:
    """Return why a command was refused, as `commands.result` keeps it: members of the outcome."""
    why: Body = {"message": refused.message}
    if refused.details is not None:
        why["details"] = refused.details
    return json.dumps(why, ensure_ascii=False, separators=(",", ":"))


def _reply(stored: StoredCommand, context: DecisionContext, *, duplicate: bool) -> tuple[OutboxMessage, ...]:
    """Return the reply with the outcome of a serial number."""
    if context.incoming.reply_to is None:
        return ()
    refused = stored.status is OutcomeStatus.REFUSED
    answer = outbound.outcome(
        stored.serial_no,
        stored.status,
        stored.code,
        NO_RESULT if refused else stored.result,
        duplicate=duplicate,
        **(json.loads(stored.result) if refused else {}),
    )
    return outbound.reply(answer, context)


def outcome(command: StoredCommand, *, duplicate: bool) -> Outcome:
    """Return the stored outcome of a serial number as the contract shows it."""
    found = json.loads(command.result)
    further = (
        {"result": {"object": "none"}, **found}
        if command.status is OutcomeStatus.REFUSED
        else {"result": found}
    )
    return Outcome.model_validate(
        {
            "serial_no": command.serial_no,
            "status": command.status,
            "code": command.code,
            "duplicate": duplicate,
            **further,
        }
    )
