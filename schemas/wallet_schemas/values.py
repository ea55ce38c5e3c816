"""The kinds of values that fields have.

No text has NUL or half a surrogate pair in it, which PostgreSQL and UTF-8 could not store.

Patterns are written in what JSON Schema, Rust and Python agree on, because each of them reads them.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    Strict,
    StringConstraints,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from wallet_schemas import times

METADATA_ITEMS_MAX: Final = 20
METADATA_BYTES_MAX: Final = 2_048
AMOUNT_LENGTH_MAX: Final = 64  # far more than is in range: what is only too large is refused, not malformed
STATEMENT_LINES_MAX: Final = 1_000
STATEMENT_LINES_DEFAULT: Final = 100
LIST_MAX: Final = 200  # orders or lines of a history in one page
LIST_DEFAULT: Final = 50
METADATA_SOUGHT_MAX: Final = 3
HOLD_SECONDS_MAX: Final = 31_536_000  # 365 days: what is reserved for longer was forgotten
REASON_LENGTH_MAX: Final = 500
INTEGER_MAX: Final = 2**63 - 1
REVERSAL_SEQUENCE_MAX: Final = 1_000_000
REVISION_MAX: Final = 1_000
UNKNOWN_LENGTH_MAX: Final = 64
FORM_ITEMS_MAX: Final = 30
FORM_BYTES_MAX: Final = 8_192


class OrderType(StrEnum):
    """What kind of movement an order is: one that a command asks for, or one that the wallet makes itself."""

    RECHARGE = "recharge"
    WITHDRAW = "withdraw"
    TRANSFER = "transfer"
    REFUND = "refund"
    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"
    # What the wallet makes itself.
    CHARGEBACK = "chargeback"
    CHARGEBACK_REVERSAL = "chargeback_reversal"
    PAYOUT_RETURN = "payout_return"
    PAYOUT_RETURN_REVERSAL = "payout_return_reversal"
    ADVANCE = "advance"
    REPAYMENT = "repayment"
    WRITE_OFF = "write_off"
    WRITE_OFF_RECOVERY = "write_off_recovery"
    LOSS = "loss"
    ADJUSTMENT_CREDIT = "adjustment_credit"
    ADJUSTMENT_DEBIT = "adjustment_debit"


class OrderStatus(StrEnum):
    """Where an order stands."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ACTIVE = "active"
    CAPTURED = "captured"
    RELEASED = "released"


class AccountStatus(StrEnum):
    """Whether money may move: out of an active account, into an active or frozen one."""

    ACTIVE = "active"
    FROZEN = "frozen"
    CLOSED = "closed"


class Direction(StrEnum):
    """The side of an entry: a credit raises a user's balance, a debit lowers it."""

    CREDIT = "credit"
    DEBIT = "debit"


class OutcomeStatus(StrEnum):
    """Whether a command took effect."""

    APPLIED = "applied"
    REFUSED = "refused"


class PaymentKind(StrEnum):
    """What the payment gateway is asked to do."""

    CHARGE = "charge"
    PAYOUT = "payout"
    REFUND = "refund"
    STATUS = "status"
    CANCEL = "cancel"


class PaymentStatus(StrEnum):
    """What the payment gateway says has become of a payment."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ReversalKind(StrEnum):
    """Why money comes back: a payer's dispute or a bank's recall of a recharge, or the return of a payout."""

    DISPUTE = "dispute"
    RECALL = "recall"
    RETURN = "return"


class ReversalStatus(StrEnum):
    """What has become of a reversal: whether its amount is moved back now, and whether that is expected to change."""

    OPENED = "opened"
    MOVED = "moved"
    DROPPED = "dropped"
    SETTLED = "settled"


class PayerAction(StrEnum):
    """What a payer does to pay."""

    REDIRECT = "redirect"
    APP = "app"
    BANK_TRANSFER = "bank_transfer"
    STORE_CODE = "store_code"
    BARCODE = "barcode"
    QR_CODE = "qr_code"
    WAIT = "wait"


class FormMethod(StrEnum):
    """How a browser goes to an address."""

    GET = "GET"
    POST = "POST"


class ProcessingStatus(StrEnum):
    """What became of a gateway's message: it changed something, changes nothing, or went to the dead letters."""

    PROCESSED = "processed"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


_T = TypeVar("_T")


def _is_none(value: object) -> bool:
    return value is None


# JSON has an enum's value, and strictness would insist on the member.
Enumerated = Annotated[_T, Strict(strict=False)]


GROWING: Final[dict[str, type[StrEnum]]] = {}
"""The enumerations of what the wallet says, by name; `json_schema` defines each once."""

NAME_OF_GROWING: Final = "x-growing"
"""The member of a schema, while it is being made, that stands for one of them."""


class _Growing:
    """Lets an enumeration of what the wallet says have values that this version of the package does not know.

    Such a value becomes a member that is none of the known ones: it compares and prints as its text.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        GROWING[source.__name__] = source
        known = handler(source)
        unknown = core_schema.no_info_after_validator_function(
            partial(_unknown_member, source),
            core_schema.str_schema(min_length=1, max_length=UNKNOWN_LENGTH_MAX),
            metadata={"pydantic_js_functions": [lambda *_: {NAME_OF_GROWING: source.__name__}]},
        )
        # The known values first, which are all that costs anything on most days.
        return core_schema.union_schema(
            [known, unknown],
            mode="left_to_right",
            metadata={"pydantic_js_functions": [lambda *_: {NAME_OF_GROWING: source.__name__}]},
        )


def _unknown_member(kind: type[StrEnum], text: str) -> StrEnum:
    """Return a member of the enumeration that stands for a value which it does not have."""
    member = str.__new__(kind, text)
    member._name_ = member._value_ = text
    member.__dict__.setdefault("meaning", f"{text}, which this version does not know")
    return member


# An enumeration of what the wallet says, which may gain values.
GrowingEnum = Annotated[_T, Strict(strict=False), _Growing()]

# A field of what the wallet says that is left out, not null, where it does not apply.
OmittedIfNone = Annotated[_T | SkipJsonSchema[None], Field(exclude_if=_is_none)]

# A field of what the wallet is told that may be left out; null is the same as left out.
OptionalIn = Annotated[_T | None, Field(exclude_if=_is_none)]

# The patterns of strings; `faults` has for each what it asks for, in a sentence.
NAME: Final = r"^[A-Za-z0-9._:-]+$"
USER: Final = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]*$"
SMALL_CODE: Final = r"^[a-z][a-z0-9_]{0,63}$"
WORD: Final = r"^[a-z][a-z0-9_]{0,31}$"
CURRENCY: Final = r"^[A-Z]{3}$"
ACCOUNT_NUMBER: Final = r"^[0-9]{19}$"
# More than zero: a digit other than 0 stands before the point or after it.
AMOUNT: Final = r"^(0*[1-9][0-9]*(\.[0-9]+)?|0+\.[0-9]*[1-9][0-9]*)$"
BALANCE: Final = r"^[0-9]+(\.[0-9]+)?$"
UUID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
UUID_7: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
CARD_NUMBER: Final = r"^[0-9]{12,19}$"
HTTPS_URL: Final = r"^https://[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]+$"
# Any scheme but those that would run or read something where the address is opened, or be sent in the clear.
APP_URL: Final = r"^[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]+$"
BANK_CODE: Final = r"^[A-Z0-9]+$"
PRINTED_CODE: Final = r"^[A-Z0-9-]+$"
NO_NUL: Final = r"^[^\x00]*$"
# Without control characters but tab and line ends: each would take six bytes in JSON.
NO_CONTROL: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"
ONE_LINE: Final = r"^[^\x00\r\n]*$"

_APP_SCHEMES_FORBIDDEN: Final = frozenset({"javascript", "data", "file", "http", "vbscript", "blob"})

_is_card_number: Final = re.compile(CARD_NUMBER, re.ASCII).match


def _no_card_number(value: str) -> str:
    if _is_card_number(value):
        raise PydanticCustomError("card_number", "Should not be a card number: it has no place here")
    return value


Text = Annotated[str, StringConstraints(pattern=NO_NUL)]

PlainText = Annotated[str, StringConstraints(pattern=NO_CONTROL)]

Reason = Annotated[
    Text,
    StringConstraints(min_length=1, max_length=REASON_LENGTH_MAX),
    Field(description="Why, for a person."),
]

SerialNo = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=NAME),
    Field(
        description="The order serial number: chosen by the sender of the command and unique for ever. "
        "Sending the same command again is safe and answers with the stored outcome."
    ),
]

_serial_no: Final = re.compile(f"{NAME[1:-2]}{{1,64}}").fullmatch


def is_serial_no(text: str) -> bool:
    """Whether a text can be a serial number."""
    return _serial_no(text) is not None


UserId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=USER),
    Field(
        description="The user, by the upstream service's own id; it may be a mail address. Compared byte by byte."
    ),
]

AccountType = Annotated[
    str,
    StringConstraints(max_length=32, pattern=WORD),
    Field(description="The kind of account: a user has one account for each account type and currency."),
]

AccountNo = Annotated[
    str,
    StringConstraints(min_length=19, max_length=19, pattern=ACCOUNT_NUMBER),
    Field(
        description="The account's public identifier, made by the wallet: "
        "the date YYYYMMDD, 10 random digits and a Luhn check digit."
    ),
]

CurrencyText = Annotated[
    str,
    StringConstraints(min_length=3, max_length=3, pattern=CURRENCY),
    Field(
        description="ISO 4217 alphabetic code. "
        "One that the deployment does not allow is refused with CURRENCY_NOT_SUPPORTED."
    ),
]

AmountText = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=AMOUNT_LENGTH_MAX,
        pattern=AMOUNT,
    ),
    Field(
        description="A decimal string greater than zero, without sign, exponent or grouping, and with at "
        "most as many digits after the point as ISO 4217 gives the currency (JPY 0, TWD 2, KWD 3), "
        "else it is malformed. "
        "What the wallet writes has exactly that many digits."
    ),
]

BalanceText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=AMOUNT_LENGTH_MAX, pattern=BALANCE),
    Field(description="A decimal string with exactly the currency's digits after the point; it may be zero."),
]

ChannelType = Annotated[
    str,
    StringConstraints(max_length=32, pattern=WORD),
    Field(
        description="The way of payment: `card`, `bank_transfer`, `convenience_store` or another like them."
    ),
]

GatewayRef = Annotated[
    Text,
    StringConstraints(min_length=1, max_length=64),
    Field(description="The payment gateway's own id of the payment."),
]

FailureCode = Annotated[
    str,
    StringConstraints(max_length=64, pattern=SMALL_CODE),
    Field(description="The payment gateway's own code of why a payment failed."),
]

FailureReason = Annotated[
    Text,
    StringConstraints(max_length=REASON_LENGTH_MAX),
    Field(description="Why a payment failed, in the words of the payment gateway."),
]

ReversalRef = Annotated[
    Text,
    StringConstraints(min_length=1, max_length=64),
    Field(
        description="The payment gateway's own id of a dispute, recall or return: the same in all its messages."
    ),
]

ReasonCode = Annotated[
    Text,
    StringConstraints(min_length=1, max_length=64),
    Field(description="Why, by the gateway's or the network's own code."),
]

Instrument = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=NAME),
    AfterValidator(_no_card_number),
    Field(
        description="The name of a payment method or a bank account in the books of the payment gateway or of a vault; "
        "handed on to the gateway and shown to nobody. 12 to 19 digits alone are malformed: that is a card number.",
        json_schema_extra={"not": {"pattern": CARD_NUMBER}},
    ),
]

ReturnUrl = Annotated[
    str,
    StringConstraints(min_length=9, max_length=512, pattern=HTTPS_URL),
    Field(
        description="An https URL, to which the payment gateway sends the payer's browser back; only handed on to it."
    ),
]


def _app_scheme(value: str) -> str:
    if value.partition(":")[0].lower() in _APP_SCHEMES_FORBIDDEN:
        raise PydanticCustomError("app_url", "Should be the address of an app: its scheme may not be used")
    return value


def _forbidden_schemes() -> str:
    """Return the pattern of the forbidden schemes, in any case, as JSON Schema has it."""
    names = (
        "".join(f"[{letter.upper()}{letter}]" for letter in name) for name in sorted(_APP_SCHEMES_FORBIDDEN)
    )
    return f"^({'|'.join(names)}):"


APP_SCHEMES_FORBIDDEN: Final = _forbidden_schemes()

PayerUrl = Annotated[
    str,
    StringConstraints(min_length=9, max_length=2_048, pattern=HTTPS_URL),
    Field(description="An https URL for the payer's browser. The wallet never opens it."),
]

AppUrl = Annotated[
    str,
    StringConstraints(min_length=3, max_length=2_048, pattern=APP_URL),
    AfterValidator(_app_scheme),
    Field(
        description="The address of an app on the payer's device. Its scheme is not javascript, data, file, http, "
        "vbscript or blob.",
        json_schema_extra={"not": {"pattern": APP_SCHEMES_FORBIDDEN}},
    ),
]

BankCode = Annotated[
    str,
    StringConstraints(min_length=1, max_length=11, pattern=BANK_CODE),
    Field(description="The bank to transfer to, by its code."),
]

BankAccountNumber = Annotated[
    str,
    StringConstraints(min_length=1, max_length=34, pattern=PRINTED_CODE),
    Field(description="The bank account to transfer to."),
]

StoreCode = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40, pattern=PRINTED_CODE),
    Field(description="The code that the payer gives at a store."),
]

StoreChain = Annotated[
    str,
    StringConstraints(max_length=32, pattern=WORD),
    Field(description="The chain of stores, where it matters."),
]

Barcode = Annotated[PlainText, StringConstraints(min_length=1, max_length=64)]


def _bounded(
    prefix: str, subject: str, items: str, *, items_max: int, bytes_max: int
) -> Callable[[Any, Callable[[Any], dict[str, str]]], dict[str, str]]:
    """Return a validator of pairs of strings within these bounds; too many of them are not even looked at."""

    def validate(value: Any, read: Callable[[Any], dict[str, str]]) -> dict[str, str]:
        if isinstance(value, dict) and len(value) > items_max:
            raise PydanticCustomError(
                f"{prefix}_items", f"{subject} should have at most {{max}} {items}", {"max": items_max}
            )
        pairs = read(value)
        if sum(len(name.encode()) + len(text.encode()) for name, text in pairs.items()) > bytes_max:
            raise PydanticCustomError(
                f"{prefix}_bytes", f"{subject} should have at most {{max}} bytes", {"max": bytes_max}
            )
        return pairs

    return validate


Form = Annotated[
    dict[PlainText, PlainText],
    WrapValidator(_bounded("form", "A form", "fields", items_max=FORM_ITEMS_MAX, bytes_max=FORM_BYTES_MAX)),
    WithJsonSchema(
        {
            "type": "object",
            "description": f"The fields to post: at most {FORM_ITEMS_MAX} strings, names and values together at most "
            f"{FORM_BYTES_MAX} bytes of UTF-8.",
            "maxProperties": FORM_ITEMS_MAX,
            "propertyNames": {"pattern": NO_CONTROL},
            "additionalProperties": {"type": "string", "pattern": NO_CONTROL},
        }
    ),
]

ShortPlainText = Annotated[PlainText, StringConstraints(max_length=100)]

TransferReference = Annotated[
    PlainText,
    StringConstraints(max_length=64),
    Field(description="What the payer writes on a bank transfer."),
]

QrPayload = Annotated[
    PlainText,
    StringConstraints(min_length=1, max_length=2_048),
    Field(description="The text of a QR code, to be drawn by whoever shows it."),
]

PayerNote = Annotated[PlainText, StringConstraints(max_length=500), Field(description="For the payer.")]

Revision = Annotated[
    int,
    Field(ge=1, le=REVISION_MAX, description="A higher one replaces a lower one, such as a fresh QR code."),
]

OrderId = Annotated[
    str,
    StringConstraints(min_length=36, max_length=36, pattern=UUID),
    Field(description="The wallet's own id of the order: a UUID."),
]

EventId = Annotated[
    str,
    StringConstraints(min_length=36, max_length=36, pattern=UUID_7),
    Field(description="A UUIDv7. The same event may arrive more than once, and has the same event_id then."),
]

LineNo = Annotated[
    int,
    Field(
        ge=1, le=INTEGER_MAX, description="The number of the line in its account's statement, without gaps."
    ),
]

_TIMESTAMP: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$"


def _read_timestamp(value: object) -> datetime:
    """Return the moment, in UTC, of text in RFC 3339 or of an aware datetime."""
    if isinstance(value, datetime):
        if value.tzinfo is UTC:
            return value
        if value.tzinfo is not None:
            return times.in_utc(value)
    elif isinstance(value, str):
        return times.parse(value)
    raise times.NotATimeError(times.NOT_RFC_3339)


def _timestamp(value: object) -> datetime:
    try:
        return _read_timestamp(value)
    except times.NotATimeError as exc:
        raise PydanticCustomError("timestamp", "{reason}", {"reason": str(exc)}) from None


Timestamp = Annotated[
    datetime,
    BeforeValidator(_timestamp),
    PlainSerializer(times.to_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 27, "pattern": _TIMESTAMP}),
    Field(description="RFC 3339 in UTC with Z; what the wallet writes has microseconds."),
]

# A time that somebody sends to the wallet. It is kept as a Timestamp is.
IncomingTimestamp = Annotated[
    datetime,
    BeforeValidator(_timestamp),
    PlainSerializer(times.to_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": times.PATTERN}),
    Field(
        description="RFC 3339 with any offset and any number of digits of a second. It is kept in UTC and cut to "
        "the microsecond: the same moment in another notation is the same content."
    ),
]


ValidUntil = Annotated[
    IncomingTimestamp,
    Field(
        description="Decided later than this, the command is refused with COMMAND_EXPIRED, finally. It is no part of "
        "the content: a repeat may have another, and gets the stored outcome whatever it says."
    ),
]


Metadata = Annotated[
    dict[Text, Text],
    WrapValidator(
        _bounded("metadata", "Metadata", "items", items_max=METADATA_ITEMS_MAX, bytes_max=METADATA_BYTES_MAX)
    ),
    WithJsonSchema(
        {
            "type": "object",
            "description": f"The sender's own notes: at most {METADATA_ITEMS_MAX} strings, names and values "
            f"together at most {METADATA_BYTES_MAX} bytes of UTF-8. Stored and echoed, never interpreted.",
            "maxProperties": METADATA_ITEMS_MAX,
            "propertyNames": {"pattern": NO_NUL},
            "additionalProperties": {"type": "string", "pattern": NO_NUL},
        }
    ),
]

Notes = Annotated[
    dict[str, str],
    Field(description="The metadata of the command that made the order."),
]
