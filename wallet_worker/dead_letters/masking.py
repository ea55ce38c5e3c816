"""Letters as text: payloads in order, headers one by one, and what a viewer may not see.

Nothing here makes a text harmless for a terminal or a page: whoever shows it does.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar

from pamqp.commands import Basic

from wallet_schemas import names
from wallet_schemas.message import JsonObject
from wallet_worker.broker.amqp.properties import unmarshal
from wallet_worker.text import readable

_DEPTH_MAX: Final = 64
_BODY_MAX: Final = 1 << 20
_SHOWN_MAX: Final = 4_096
"""Of one header; the whole stands in an export."""

_IMPERSONAL: Final = frozenset(
    {
        *(
            "type",
            "status",
            "order_status",
            "processing_status",
            "code",
            "outcome",
            "command_type",
            "kind",
            "late",
        ),
        *(
            "serial_no",
            "payment_order_no",
            "original_serial_no",
            "hold_serial_no",
            "target_serial_no",
            "order_id",
            "event_id",
            "id",
        ),
        *(
            "order_type",
            "account_type",
            "to_account_type",
            "recharge_type",
            "payout_type",
            "channel",
            "direction",
        ),
        *("amount", "currency", "remaining", "line_no", "expires_in_seconds", "gateway_ref"),
        *("occurred_at", "requested_at", "created_at", "updated_at", "transacted_at", "expires_at"),
    }
)
"""Members of a message that tell what it is about and not whom: viewers see these, and whatever is not named masked."""

_NAMED: Final = frozenset(
    {*("user_id", "to_user_id", "account_no", "to_account_no", "metadata", "reason"), *_IMPERSONAL}
)
"""Members that messages have: any other name is text of the sender, and may be a person's."""

_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:+-]{0,63}")
"""What a code, number, time or amount looks like: no address and no sentence, whatever member a sender puts it in."""

_HEADERS: Final = frozenset(
    {
        names.TRACEPARENT_HEADER,
        names.REASON_HEADER,
        names.SOURCE_HEADER,
        names.EXCHANGE_HEADER,
        names.ROUTING_KEY_HEADER,
        names.ATTEMPTS_HEADER,
        names.FIRST_SEEN_HEADER,
        names.WORKER_HEADER,
        names.REPLAY_ID_HEADER,
        names.REPLAY_COUNT_HEADER,
    }
)
"""Headers that the wallet writes, none of which quotes a message. x-wallet-detail does."""

_DISTINGUISHABLE_MIN: Final = 8
"""Characters of a name of which two may be shown: of a shorter one, too little would be left to guess."""

MASK: Final = "…"

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

P = TypeVar("P", bound=JsonObject)


def masked(text: str | None) -> str | None:
    """Return so much of a long name that two letters can be told to be of one person, and nothing of a short one."""
    if text is None:
        return None
    return f"{text[:2]}{MASK}" if len(text) >= _DISTINGUISHABLE_MIN else MASK


def masked_view(view: P) -> P:
    """Return an account or order without whose it is, as its members are masked in a message."""
    changes = {
        name: masked_member(name, value)
        for name in ("user_id", "to_user_id", "account_no", "to_account_no")
        if (value := getattr(view, name, None))
    }
    return view.model_copy(update=changes)


def masked_code(text: str | None) -> str | None:
    """Return a text that should be a code, a number or a time, if it looks like one; else that it is masked."""
    return text if text is None or _CODE.fullmatch(text) else MASK


def masked_members(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with what is known to tell nothing of anybody; the rest, unknown names too, is masked."""
    return dict(
        zip(
            masked_names(members),
            (masked_member(name, value) for name, value in members.items()),
            strict=True,
        )
    )


def masked_names(members: Iterable[str]) -> list[str]:
    """Return the names of members as a viewer sees them, each another: those that no message has are numbered."""
    return [name if name in _NAMED else f"{MASK} {number}" for number, name in enumerate(members, start=1)]


def masked_member(name: str, value: Any) -> Any:
    """Return what a viewer sees of a member: itself, a little of a person's id, what is known within it, or a mask."""
    match value:
        case None:
            return None
        case Mapping():
            return masked_members(value)
        case list() | tuple():
            return [masked_member(name, member) for member in value]
        case str() if name in {"user_id", "to_user_id"} and not isinstance(value, _Number):
            return masked(value)
        case str() if name in _IMPERSONAL:
            return value if _CODE.fullmatch(value) else MASK
        case bool() | int() | float() if name in _IMPERSONAL:
            return value
        case _:
            return MASK


class _Number(str):
    """A number as it stands in the text: 1e400 and 1.10 stay what they are."""

    __slots__ = ()


class _UnfitError(ValueError):
    """The body would not be shown as it is."""


def pretty(body: bytes, *, mask: bool) -> str | None:
    """Return a body as indented JSON, with every member and number that it has; None if it is not plain JSON."""
    if len(body) > _BODY_MAX:
        return None
    try:
        parsed = _decode(body.decode())
        if mask:
            if not isinstance(parsed, dict):
                return None
            parsed = masked_members(parsed)
        return "".join(_written(parsed, 0))
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        msg = "a name stands there twice, and one of the two would not be seen"
        raise _UnfitError(msg)
    return members


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
            parts = ["".join([inner, *_written(inner_value, depth + 1)]) for inner_value in value]
            return ["[\n", ",\n".join(parts), f"\n{outer}]"]
        case _:
            return [_text(value)]


def _text(value: Any) -> str:
    """Return JSON with letters as they are, and half a surrogate pair as its escape."""
    return readable(json.dumps(value, ensure_ascii=False))


def properties(data: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return AMQP properties that were set, and the headers, each as text."""
    parsed: Basic.Properties = unmarshal(data)
    shown = {
        name: _value(value)
        for name in _NAMES
        if (value := getattr(parsed, name, None)) is not None and value != ""
    }
    headers = {
        readable(name)[:_SHOWN_MAX]: _value(value)[:_SHOWN_MAX]
        for name, value in (parsed.headers or {}).items()
    }
    return shown, headers


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the wallet writes and that quote nobody; of the others, that there are some."""
    kept = {name: value for name, value in headers.items() if name != names.SIGNATURE_HEADER}
    return {
        name if name in _HEADERS or name == names.DETAIL_HEADER else f"{MASK} {number}": (
            masked_code(value) or "" if name in _HEADERS else MASK
        )
        for number, (name, value) in enumerate(kept.items(), start=1)
    }


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
