"""From bytes to a message that can be trusted, or to the reason why not."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias, cast

from wallet_schemas.codes import Code
from wallet_schemas.commands import AnyCommand, Fault
from wallet_schemas.names import BODY_BYTES_KEPT, BODY_BYTES_MAX, PAYMENT_RESULTS, WALLET_COMMANDS
from wallet_schemas.parse import COMMANDS, RESULTS, Malformed, UnsupportedType, parse
from wallet_schemas.payments import PaymentInstructions, PaymentResult, PaymentReversal
from wallet_schemas.signature import BadSignature, Keys, verify
from wallet_worker.core.senders import Sender


class Source(StrEnum):
    """Where a message comes from: the queue, which says what types are accepted, or the wallet's own clock."""

    COMMANDS = WALLET_COMMANDS
    RESULTS = PAYMENT_RESULTS
    CLOCK = "clock"


ACCEPTED = MappingProxyType({Source.COMMANDS: COMMANDS, Source.RESULTS: RESULTS})
"""The types of messages that each queue takes, by the name on the wire."""


@dataclass(frozen=True, slots=True)
class DueOrder:
    """The wallet's message to itself: the order of this serial number is due."""

    serial_no: str


Message: TypeAlias = AnyCommand | PaymentResult | PaymentInstructions | PaymentReversal | DueOrder


class InboundMessage(NamedTuple):
    """One message as it arrived, less what only the broker cares about.

    `signature` is the header as it came, of whatever type. `attempts` counts how often the message
    was parked before. `sender` is whom the broker and the policy of
    senders name, absent where nobody is named; `routing_key` is absent where it says nothing. `dropped_bytes` is how
    large a body was of which only the beginning is here.
    """

    source: Source
    body: bytes
    reply_to: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    signature: object = None
    attempts: int = 0
    routing_key: str | None = None
    sender: Sender | None = None
    dropped_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class InvalidMessage:
    """Why the bytes are not a message.

    `serial_no`, `payment_order_no` and `reversal_ref` are there if they could be read all the same, for the reply.
    """

    code: Code
    detail: str
    faults: tuple[Fault, ...] = ()
    serial_no: str | None = None
    payment_order_no: str | None = None
    reversal_ref: str | None = None


def serial_no_of(message: Message | InvalidMessage) -> str:
    """Return the serial number that a message is about, empty if it could not be read."""
    match message:
        case InvalidMessage():
            return message.serial_no or message.payment_order_no or ""
        case PaymentResult() | PaymentInstructions() | PaymentReversal():
            return message.payment_order_no
        case _:
            return message.serial_no


def read(incoming: InboundMessage, keys: Keys) -> Message | InvalidMessage:
    """Return the message, or why the bytes are not one: MALFORMED, UNSUPPORTED_TYPE or BAD_SIGNATURE, in this order.

    What the gateway says is returned only if one of `keys` (key id to secret) signed these very bytes. The body of a
    due order is its serial number, and only the clock brings such a body.
    """
    if incoming.source is Source.CLOCK:
        return DueOrder(incoming.body.decode())
    if incoming.dropped_bytes is not None:
        detail = (
            f"The body has {incoming.dropped_bytes:,} bytes, and a message at most {BODY_BYTES_MAX:,}. "
            f"The first {BODY_BYTES_KEPT:,} are kept"
        )
        return InvalidMessage(Code.MALFORMED, detail)
    try:
        message = parse(incoming.body, ACCEPTED[incoming.source])
    except (Malformed, UnsupportedType) as exc:
        return InvalidMessage(exc.code, str(exc), exc.faults, exc.serial_no, exc.payment_order_no)
    if isinstance(message, PaymentResult | PaymentInstructions | PaymentReversal):
        try:
            message.sign(verify(incoming.signature, incoming.body, keys))
        except BadSignature as exc:
            return InvalidMessage(
                Code.BAD_SIGNATURE,
                exc.reason,
                payment_order_no=message.payment_order_no,
                reversal_ref=getattr(message, "reversal_ref", None),
            )
        return message
    return cast("AnyCommand", message)  # no other type is accepted
