"""Edits: a new message in the place of a letter. What is a message, what it changes, and whether it may be sent."""

import json
from typing import Any

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.commands import Command
from wallet_schemas.encode import encode
from wallet_schemas.fingerprint import content
from wallet_schemas.names import WALLET_COMMANDS
from wallet_schemas.parse import COMMANDS, Malformed, UnsupportedType, parse
from wallet_worker.dead_letters.desk.session import Desk
from wallet_worker.dead_letters.model.errors import InvalidEditError, NotPossibleError
from wallet_worker.dead_letters.model.plans import Difference
from wallet_worker.dead_letters.model.predictions import PredictedOutcome, Prediction
from wallet_worker.dead_letters.model.states import ACTS_ON, Action, LetterState
from wallet_worker.dead_letters.replay.predict import Replayable
from wallet_worker.store import commands
from wallet_worker.store.dead_letters import replays as replays_table
from wallet_worker.store.dead_letters.letters import WholeLetterRow
from wallet_worker.store.dead_letters.plans import PlanRow
from wallet_worker.text import readable


def parse_edit(body: bytes) -> Command:
    """Return the new message; raises InvalidEditError if it is not a command."""
    try:
        message = parse(body, COMMANDS)
    except (Malformed, UnsupportedType) as exc:
        msg = f"the new message is none that the wallet takes: {exc}"
        raise InvalidEditError(msg, exc.faults) from exc
    if not isinstance(message, Command):
        msg = f"{message.type} is no command"
        raise InvalidEditError(msg)
    return message


def new_body(plan: PlanRow) -> bytes:
    """Return the new message of an edit's plan."""
    if plan.edited_body is None:
        msg = f"the plan {plan.token} is of an edit and has no new message"
        raise AssertionError(msg)
    return plan.edited_body


def differences(before: bytes, message: Command) -> list[Difference]:
    """Return the members that the new message changes, adds or leaves out, ascending by name."""
    try:
        parsed = json.loads(before)
    except (ValueError, RecursionError):
        parsed = None
    old = parsed if isinstance(parsed, dict) else {}
    new = dict(content(message))
    if not old:
        return [Difference("(the whole message)", None, encode(message).decode())]
    return [
        Difference(readable(name), _text(old.get(name)), _text(new.get(name)))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else readable(value)
    return readable(json.dumps(value, ensure_ascii=False))


async def predict_edit(
    desk: Desk, connection: asyncpg.Connection, letter: WholeLetterRow, body: bytes
) -> Prediction:
    """Return what the new message would do now, sent to where the letter came from."""
    new = Replayable(letter.source, body, letter.properties)
    (prediction,) = await desk.lineage(remembers=False).predictor.predict_new(connection, [new])
    return prediction


async def ensure_editable(
    desk: Desk, connection: asyncpg.Connection, letter: WholeLetterRow, message: Command
) -> None:
    """Raise NotPossibleError or InvalidEditError unless this message may be sent in the place of a letter.

    The order of these checks is their safety: each statement sees what was committed before it.
    """
    letter_id = letter.letter_id
    if letter.source != WALLET_COMMANDS or letter.exchange is None:
        msg = (
            f"letter {letter_id} came from {letter.source}: only commands can be edited, because nobody else "
            "can sign a payment result"
        )
        raise NotPossibleError(msg)
    if LetterState(letter.state) not in ACTS_ON[Action.EDIT]:
        msg = f"letter {letter_id} is {letter.state}, and only one that is waiting can be edited"
        raise NotPossibleError(msg)
    lineage = desk.lineage(remembers=False)
    in_flight = await lineage.in_flight(connection, [letter_id])
    if any(replay.is_edit for replay in in_flight):
        msg = (
            f"letter {letter_id} was edited before, without an outcome so far, and that may still be applied: an "
            "edit would send both versions. Edit the letter that it comes back as"
        )
        raise NotPossibleError(msg)
    await lineage.ensure_only_version(connection, letter)
    # After its duplicates: one of them may just have been applied.
    (prediction,) = await lineage.predictor.predict(connection, [letter])
    if prediction.verdict is PredictedOutcome.REPEATS:
        msg = (
            f"letter {letter_id} has an outcome already ({prediction.code}): an edit would send both versions"
        )
        raise NotPossibleError(msg)
    numbers = {message.serial_no, letter.serial_no or message.serial_no}
    _, stored = await commands.find(connection, numbers)
    mended = stored.get(letter.serial_no) if letter.serial_no is not None else None
    if (
        prediction.verdict is PredictedOutcome.STILL_MALFORMED
        and mended is not None
        and mended.code is Code.OK
    ):
        msg = (
            f"letter {letter_id} cannot be read, and the mended message was applied as {letter.serial_no}: an edit "
            "would send both versions"
        )
        raise NotPossibleError(msg)
    if in_flight:
        msg = (
            f"letter {letter_id} was replayed before, without an outcome so far, and that may still be applied: an "
            "edit would send both versions. It can be edited when that is back"
        )
        raise NotPossibleError(msg)
    taken = message.serial_no in stored or message.serial_no == letter.serial_no
    if taken or await replays_table.serial_taken(connection, message.serial_no):
        msg = (
            f"the serial number {message.serial_no} is the letter's own: an edit is a new message with another one"
            if message.serial_no == letter.serial_no
            else f"the serial number {message.serial_no} is used already: an edit needs a new one"
        )
        raise InvalidEditError(msg)
