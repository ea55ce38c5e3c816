"""From bytes to messages: the one door through which a body enters, and past which it is trusted."""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NoReturn, get_args

from pydantic import ValidationError

from wallet_schemas.codes import Code
from wallet_schemas.commands import AnyCommand, Fault
from wallet_schemas.faults import FAULTS_MAX, UNKNOWN_FIELD, echo, fault, faults_of, joined
from wallet_schemas.message import Message
from wallet_schemas.names import BODY_BYTES_MAX
from wallet_schemas.payments import PaymentInstructions, PaymentResult, PaymentReversal
from wallet_schemas.queries import FindOrders, GetAccount, GetHistory, GetOrder, GetStatement
from wallet_schemas.values import is_serial_no

_FORBIDDEN_TEXT: Final = re.compile("[\x00\ud800-\udfff]")


class Unreadable(Exception):  # noqa: N818 - named after what the body is
    """A body that is not a message of the accepted types, with what could still be read of it."""

    code: ClassVar[Code]

    def __init__(
        self, faults: tuple[Fault, ...], serial_no: str | None, payment_order_no: str | None
    ) -> None:
        super().__init__(joined(faults))
        self.faults = faults
        self.serial_no = serial_no
        self.payment_order_no = payment_order_no


class Malformed(Unreadable):
    """The body is not JSON, or not what its type must be."""

    code = Code.MALFORMED


class UnsupportedType(Unreadable):
    """The body is a JSON object whose type is not accepted; `type` is its beginning."""

    code = Code.UNSUPPORTED_TYPE

    def __init__(self, type_: str, serial_no: str | None, payment_order_no: str | None) -> None:
        self.type = echo(type_)
        super().__init__((fault("type", f"{self.type} is not accepted here"),), serial_no, payment_order_no)


def _types(*messages: type[Message]) -> Mapping[str, type[Message]]:
    return MappingProxyType({message.TYPE: message for message in messages})


COMMANDS: Final = _types(*get_args(AnyCommand))
RESULTS: Final = _types(PaymentResult, PaymentInstructions, PaymentReversal)
QUERIES: Final = _types(GetAccount, GetOrder, GetStatement, FindOrders, GetHistory)


def parse(body: bytes, accepted: Mapping[str, type[Message]]) -> Message:
    """Return the message that the body is, one of the accepted types.

    Raises Malformed or UnsupportedType and nothing else, whatever the body is, and takes no longer than the
    largest body allowed can make it take.
    """
    return validate(load(body), accepted)


def load(body: bytes) -> dict[str, Any]:
    """Return the one JSON object that the body is, whatever its type; raises Malformed."""
    try:
        return _load(body)
    except _NoObjectError as error:
        raise Malformed((fault("", str(error)),), *_numbers(_load_leniently(body))) from None


def validate(fields: dict[str, Any], accepted: Mapping[str, type[Message]]) -> Message:
    """Return the message that a loaded object is, one of the accepted types; raises Malformed or UnsupportedType."""
    message_type = fields.get("type")
    if not isinstance(message_type, str):
        raise Malformed((fault("type", "The type is missing or no string"),), *_numbers(fields))
    message = accepted.get(message_type)
    if message is None:
        raise UnsupportedType(message_type, *_numbers(fields))
    try:
        # By the names on the wire only: a name that is Python's own is an unknown field.
        return message.__pydantic_validator__.validate_python(fields, by_name=False)  # type: ignore[no-any-return]
    except ValidationError:
        raise Malformed(_faults(message, fields), *_numbers(fields)) from None


class _NoObjectError(Exception):
    """The body is not one JSON object whose texts can be stored; the text says why."""


def _load(body: bytes) -> dict[str, Any]:
    """Return the one JSON object that the body is, or raise _NoObjectError."""
    if len(body) > BODY_BYTES_MAX:
        raise _NoObjectError(f"The body has more than {BODY_BYTES_MAX} bytes")
    try:
        # Decoded here, because json.loads would accept UTF-16 and UTF-32 too.
        found = _decode_strictly(body.decode())
    except UnicodeDecodeError as error:
        raise _NoObjectError(f"The body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _NoObjectError(f"The body is no JSON at character {error.pos}") from None
    except RecursionError:
        raise _NoObjectError("The body is nested too deeply") from None
    except ValueError:  # what int() says to thousands of digits
        raise _NoObjectError("The body has a number that is too long") from None
    if not isinstance(found, dict):
        raise _NoObjectError("The body is no JSON object")
    # Only an escape can bring in what UTF-8 and JSON's own rules keep out.
    if b"\\u" in body and _has_forbidden_text(found):
        raise _NoObjectError("A string has NUL or half a surrogate pair in it")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NoObjectError("An object has a name twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _NoObjectError(f"{name} is no JSON")


_decode_strictly: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant).decode


def _has_forbidden_text(fields: dict[str, Any]) -> bool:
    waiting: list[Any] = [fields]  # and no recursion, because the nesting is the sender's choice
    while waiting:
        match waiting.pop():
            case str() as text if _FORBIDDEN_TEXT.search(text):
                return True
            case dict() as members:
                waiting += members.keys()
                waiting += members.values()
            case list() as items:
                waiting += items
            case _:
                pass
    return False


def _faults(message: type[Message], fields: dict[str, Any]) -> tuple[Fault, ...]:
    """Return what is wrong with an object that is not valid, unknown names first."""
    known = {field.alias or name for name, field in message.model_fields.items()}
    unknown = sorted(fields.keys() - known)[:FAULTS_MAX]
    wrong = [fault(name, UNKNOWN_FIELD) for name in unknown]
    try:
        # Validated again without the unknown ones, because there may be thousands, and pydantic lists all.
        message.__pydantic_validator__.validate_python(
            {name: value for name, value in fields.items() if name in known}, by_name=False
        )
    except ValidationError as invalid:
        wrong += faults_of(invalid)
    return tuple(wrong[:FAULTS_MAX])


def _numbers(fields: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the serial_no and the payment_order_no of a body that is not a message, where they can be read."""
    return _number(fields.get("serial_no")), _number(fields.get("payment_order_no"))


def _number(value: object) -> str | None:
    return value if isinstance(value, str) and is_serial_no(value) else None


def _load_leniently(body: bytes) -> dict[str, Any]:
    """Return what can be read of a body that is not one proper JSON object, perhaps nothing."""
    if len(body) > BODY_BYTES_MAX:
        return {}
    try:
        found = _decode_leniently(body.decode())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _only_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members without the names that stand there twice: which one was meant is not known."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = None if name in found else value
    return found


_decode_leniently: Final = json.JSONDecoder(object_pairs_hook=_only_once).decode
