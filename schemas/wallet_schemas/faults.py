"""What is wrong with values from outside, in sentences for people: the same on the wire, at a shell and on a page.

Validation finds errors by their types; each type has its sentence here. Nobody is shown a regular expression, the name
of a class or a value's representation in Python.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from wallet_schemas import values
from wallet_schemas.commands import Fault
from wallet_schemas.message import AMOUNT_DIGITS, FIELD_OF_WHOLE

FAULTS_MAX: Final = 20  # a person who mends a message needs no more at once
ECHO_LENGTH_MAX: Final = 100  # of what a stranger wrote
FAULT_LENGTH_MAX: Final = 200

UNKNOWN_FIELD: Final = "This field is not known"
_NOT_VALID: Final = "Is not valid"

BY_PATTERN: Final[Mapping[str, str]] = MappingProxyType(
    {  # the pattern itself tells few people what to write
        values.NAME: "Should be of letters, digits and . _ : - only",
        values.USER: "Should be of letters, digits and . _ : @ + - only, beginning with a letter or digit",
        values.SMALL_CODE: "Should be of small letters, digits and _ only, beginning with a letter",
        values.HTTPS_URL: "Should be an https address, such as https://shop.example/done",
        values.APP_URL: "Should be the address of an app, such as shop://pay/1",
        values.BANK_CODE: "Should be of capitals and digits only",
        values.PRINTED_CODE: "Should be of capitals, digits and - only",
        values.WORD: "Should be of small letters, digits and _ only, beginning with a letter",
        values.CURRENCY: "Should be a code of ISO 4217 in capitals, such as TWD",
        values.AMOUNT: "Should be a decimal above zero without sign, exponent or grouping, such as 100.00",
        values.BALANCE: "Should be a decimal without sign, exponent or grouping, such as 100.00",
        values.ACCOUNT_NUMBER: "Should be 19 digits",
        values.UUID: "Should be a UUID in small letters",
        values.UUID_7: "Should be a UUID of version 7 in small letters",
        values.NO_CONTROL: "Should have no control characters but tabs and line ends",
        values.NO_NUL: "Should not have a NUL in it",
        values.ONE_LINE: "Should not have a line end or a NUL in it",
    }
)

# Types of errors whose own sentence is for people: they name the values and bounds that are allowed.
_AS_IT_IS: Final = frozenset(
    {
        *("missing", "string_type", "string_too_short", "string_too_long", "string_not_ascii"),
        *("int_type", "float_type", "finite_number", "enum", "literal_error", "multiple_of"),
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
        # Those of this package, see `values`, `message` and `settlement`.
        *("timestamp", "metadata_items", "metadata_bytes", "payment_kind", "card_number", AMOUNT_DIGITS),
        *("app_url", "form_items", "form_bytes", FIELD_OF_WHOLE),
    }
)

_OBJECT: Final = "Should be an object"
_LIST: Final = "Should be a list"
_SENTENCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "extra_forbidden": UNKNOWN_FIELD,
        "unexpected_keyword_argument": UNKNOWN_FIELD,
        "invalid_key": "Should have strings as names",
        **dict.fromkeys(
            ("model_type", "model_attributes_type", "dict_type", "mapping_type", "dataclass_type"), _OBJECT
        ),
        **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), _LIST),
        **dict.fromkeys(("bool_type", "bool_parsing"), "Should be true or false"),
        **dict.fromkeys(("int_parsing", "int_from_float"), "Input should be a valid integer"),
        "int_parsing_size": "Has too many digits",
        "float_parsing": "Input should be a valid number",
        "string_unicode": "Should be a string in UTF-8",
        "none_required": "Should be null",
        "json_invalid": "Should be JSON",
        "json_type": "Should be JSON",
        "recursion_loop": "Is nested too deeply",
        "recursion_depth_exceeded": "Is nested too deeply",
        **dict.fromkeys(("uuid_type", "uuid_parsing", "uuid_version"), "Should be a UUID"),
        **dict.fromkeys(("url_type", "url_parsing", "url_syntax_violation"), "Should be an address (URL)"),
        **dict.fromkeys(
            ("decimal_type", "decimal_parsing", "fraction_type", "fraction_parsing"), "Should be a decimal"
        ),
        **dict.fromkeys(("bytes_type", "bytes_invalid_encoding"), "Should be bytes"),
        **dict.fromkeys(("union_tag_invalid", "union_tag_not_found"), "Is of a kind that is not known"),
        **dict.fromkeys(("missing_argument", "missing_keyword_only_argument"), "Field required"),
        **dict.fromkeys(("date_type", "date_parsing"), "Should be a day such as 2026-01-31"),
        **dict.fromkeys(
            ("datetime_type", "datetime_parsing", "datetime_object_invalid", "datetime_from_date_parsing"),
            "Should be a time such as 2026-01-31T12:00:00Z",
        ),
        **dict.fromkeys(
            ("ip_v4_network", "ip_v6_network", "ip_any_network"), "Should be a network such as 10.2.0.0/16"
        ),
        "timezone_aware": "Should be a time with an offset, such as 2026-01-31T12:00:00Z",
        "frozen_instance": "Cannot be changed",
        "frozen_field": "Cannot be changed",
    }
)
_WITH_BOUNDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "too_short": ("min_length", "Should have at least {} items"),
        "too_long": ("max_length", "Should have at most {} items"),
        "bytes_too_short": ("min_length", "Should have at least {} bytes"),
        "bytes_too_long": ("max_length", "Should have at most {} bytes"),
        "decimal_max_digits": ("max_digits", "Should have at most {} digits"),
        "decimal_max_places": ("decimal_places", "Should have at most {} digits after the point"),
        "decimal_whole_digits": ("whole_digits", "Should have at most {} digits before the point"),
        "url_too_long": ("max_length", "Should have at most {} characters"),
    }
)


def sentence(error: Mapping[str, Any]) -> str:
    """Return what is wrong, for a person, of an error that validation has found; it begins with a capital."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _AS_IT_IS:
        return str(error["msg"])
    if kind == "string_pattern_mismatch":
        return BY_PATTERN.get(context.get("pattern", ""), "Has characters or a form that it may not have")
    if kind in {"value_error", "assertion_error"}:
        # Raised by a validator of ours, whose sentences are for people.
        return str(context.get("error", "")) or _NOT_VALID
    if kind in _WITH_BOUNDS:
        name, text = _WITH_BOUNDS[kind]
        return text.format(context.get(name, "so many"))
    return _SENTENCES.get(kind, _NOT_VALID)


def path(error: Mapping[str, Any]) -> str:
    """Return where an error is, such as `metadata.campaign`; empty for the whole."""
    if error["type"] == AMOUNT_DIGITS:  # which only the whole can find
        return "amount"
    if error["type"] == FIELD_OF_WHOLE:
        return str(error["ctx"]["field"])
    return ".".join(str(part) for part in error["loc"] if part != "[key]")


def faults_of(
    invalid: ValidationError, *, name: Callable[[str], str] = lambda field: field
) -> tuple[Fault, ...]:
    """Return what validation has found wrong, at most FAULTS_MAX of it. `name` gives a field another name."""
    return tuple(
        fault(name(path(error)), sentence(error))
        for error in invalid.errors(include_url=False, include_input=False)[:FAULTS_MAX]
    )


def fault(field: str, message: str) -> Fault:
    """Return a fault whose texts are short and harmless, whoever wrote them."""
    return Fault(field=echo(field), message=_printable(message)[:FAULT_LENGTH_MAX])


def joined(faults: Iterable[Fault]) -> str:
    """Return faults as one line."""
    return "; ".join(f"{fault.field}: {fault.message}".removeprefix(": ") for fault in faults)


def echo(text: str) -> str:
    """Return the beginning of a stranger's text, with whatever is not printable escaped."""
    return _printable(text[:ECHO_LENGTH_MAX])[:FAULT_LENGTH_MAX]


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)
