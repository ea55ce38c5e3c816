"""Letters as text: payloads in order, headers one by one, and what a viewer may not see.

Nothing here makes a text harmless for a terminal or a page: whoever shows it does.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar

from pamqp.commands import Basic

from schemas.message import Part
from schemas.names import SIGNATURE_HEADER
from wallet_worker.broker.properties import unmarshal

_DEPTH_MAX: Final = 64
_BODY_MAX: Final = 1 << 20
_SHOWN_MAX: Final = 4_096
"""Of one header; the whole stands in an export."""

PERSONAL: Final = frozenset({"user_id", "to_user_id", "metadata", "reason"})
"""Members of a message that may tell who somebody is."""

_NAMES: Final = (
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "message_type",
    "user_id",
    "app_id",
    "cluster_id",
)

P = TypeVar("P", bound=Part)


def masked(text: str | None) -> str | None:
    """Return so much of somebody's name that two letters can be told to be of one person, and no more."""
    return None if text is None else f"{text[:2]}…"


def masked_view(view: P) -> P:
    """Return an account or order without whose it is."""
    changes = {
        name: masked(value) for name in ("user_id", "to_user_id") if (value := getattr(view, name, None))
    }
    return view.model_copy(update=changes)


def masked_members(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object, and the objects in it, without whose it is."""
    return {
        name: "…"
        if name in PERSONAL and not isinstance(value, str)
        else masked(value)
        if name in PERSONAL
        else masked_members(value)
        if isinstance(value, Mapping)
        else value
        for name, value in members.items()
    }


class _Number(str):
    """A number as it stands in the text: 1e400 and 1.10 stay what they are."""

    __slots__ = ()


class _UnfitError(ValueError):
    """The body would not be shown as it is."""


def pretty(body: bytes, *, mask: bool) -> str | None:
    """Return a body as indented JSON, with every member and number that it has; nothing if it is no plain JSON."""
    if len(body) > _BODY_MAX:
        return None
    try:
        found = _decode(body.decode())
        if mask:
            if not isinstance(found, dict):
                return None
            found = masked_members(found)
        return "".join(_written(found, 0))
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "a name stands there twice, and one of the two would not be seen"
        raise _UnfitError(msg)
    return found


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is no JSON"
    raise _UnfitError(msg)


_decode = json.JSONDecoder(
    object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_Number, parse_float=_Number
).decode


def _written(value: Any, depth: int) -> list[str]:
    if depth > _DEPTH_MAX:
        msg = "it is nested too deeply to be read"
        raise _UnfitError(msg)
    inner, outer = "  " * (depth + 1), "  " * depth
    match value:
        case _Number():
            return [str(value)]
        case dict() if value:
            parts = [
                "".join([inner, _text(name), ": ", *_written(member, depth + 1)])
                for name, member in value.items()
            ]
            return ["{\n", ",\n".join(parts), f"\n{outer}}}"]
        case list() if value:
            parts = ["".join([inner, *_written(item, depth + 1)]) for item in value]
            return ["[\n", ",\n".join(parts), f"\n{outer}]"]
        case _:
            return [_text(value)]


def _text(value: Any) -> str:
    """Return JSON with letters as they are, and half a surrogate pair as its escape."""
    return readable(json.dumps(value, ensure_ascii=False))


def properties(data: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return AMQP properties that were set, and the headers, each as text."""
    found: Basic.Properties = unmarshal(data)
    said = {
        name: _value(value)
        for name in _NAMES
        if (value := getattr(found, name, None)) is not None and value != ""
    }
    headers = {
        readable(name)[:_SHOWN_MAX]: _value(value)[:_SHOWN_MAX]
        for name, value in (found.headers or {}).items()
    }
    return said, headers


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the wallet and the broker write, and of the others only the names."""
    return {
        name: value if name.startswith(("x-wallet-", "x-death", "x-first-death-", "x-last-death-")) else "…"
        for name, value in headers.items()
        if name != SIGNATURE_HEADER
    }


def readable(text: str) -> str:
    r"""Return text that can be written as UTF-8: what is none stands there as `\xff` or `\ud800`."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a pair that no byte was read as
        raw = text.encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace")


def _value(value: Any) -> str:
    match value:
        case str():
            return readable(value)
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat()
        case bytes() | bytearray():
            return repr(bytes(value))[2:-1]
        case Mapping() | list():
            return readable(json.dumps(value, default=_value, ensure_ascii=False))
        case _:
            return str(value)
