"""A new message in the place of a letter: whether it is one, and what it changes."""

import json
from typing import Any

from wallet_schemas.commands import Command
from wallet_schemas.encode import encode
from wallet_schemas.fingerprint import content
from wallet_schemas.parse import COMMANDS, Malformed, UnsupportedType, parse
from wallet_worker.dead_letters import masking
from wallet_worker.dead_letters.model.errors import InvalidEditError
from wallet_worker.dead_letters.model.plans import Difference


def edited(body: bytes) -> Command:
    """Return the new message; raises InvalidEditError if it is no command."""
    try:
        message = parse(body, COMMANDS)
    except (Malformed, UnsupportedType) as exc:
        msg = f"the new message is none that the wallet takes: {exc}"
        raise InvalidEditError(msg, exc.faults) from exc
    if not isinstance(message, Command):
        msg = f"{message.type} is no command"
        raise InvalidEditError(msg)
    return message


def differences(before: bytes, message: Command) -> list[Difference]:
    """Return the members that the new message has otherwise, by name."""
    try:
        found = json.loads(before)
    except (ValueError, RecursionError):
        found = None
    old = found if isinstance(found, dict) else {}
    new = dict(content(message))
    if not old:
        return [Difference("(the whole message)", None, encode(message).decode())]
    return [
        Difference(masking.readable(name), _shown(old.get(name)), _shown(new.get(name)))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None else masking.readable(value)
    return masking.readable(json.dumps(value, ensure_ascii=False))
