"""What the wallet asks of the payment gateway, and what the gateway tells the wallet."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import ConfigDict, Field, PrivateAttr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from wallet_schemas.codes import Code
from wallet_schemas.fingerprint import changed_fields, content, fingerprint
from wallet_schemas.message import FIELD_OF_WHOLE, Message, MoneyFields, OutboundMessage
from wallet_schemas.signature import Signed
from wallet_schemas.values import (
    REASON_LENGTH_MAX,
    REVERSAL_SEQUENCE_MAX,
    AccountNo,
    AmountText,
    AppUrl,
    BankAccountNumber,
    BankCode,
    Barcode,
    ChannelType,
    CurrencyText,
    Enumerated,
    FailureCode,
    Form,
    FormMethod,
    GatewayRef,
    GrowingEnum,
    IncomingTimestamp,
    Instrument,
    Notes,
    OmittedIfNone,
    OptionalIn,
    PayerAction,
    PayerNote,
    PayerUrl,
    PaymentKind,
    PaymentStatus,
    ProcessingStatus,
    QrPayload,
    ReasonCode,
    ReturnUrl,
    ReversalKind,
    ReversalRef,
    ReversalStatus,
    Revision,
    SerialNo,
    ShortPlainText,
    StoreChain,
    StoreCode,
    Text,
    Timestamp,
    TransferReference,
    UserId,
)

__all__ = [
    "PaymentInstructions",
    "PaymentProcessed",
    "PaymentRequest",
    "PaymentResult",
    "PaymentReversal",
    "changed_fields",
    "content",
    "fingerprint",
]


class PaymentRequest(Message, MoneyFields):
    """Collect, pay out or refund money, or report the state of a payment.

    The same request may arrive more than once, with the same payment_order_no and kind. A gateway answers each with a
    payment.result.v1, and a repeat with the same result. A `status` moves no money: it asks for the present state of
    the payment with this payment_order_no, and repeats at growing intervals until the state is no longer `unknown`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "payment.request.v1",
                    "payment_order_no": "R-20260102-000001",
                    "kind": "charge",
                    "amount": "100.00",
                    "currency": "TWD",
                    "channel": "card",
                    "requested_at": "2026-01-02T03:04:05.000006Z",
                    "expires_at": "2026-01-02T03:34:05.000006Z",
                    "user_id": "user-1001",
                    "account_no": "2026010204815162347",
                    "metadata": {"cart": "C-778"},
                },
                {
                    "type": "payment.request.v1",
                    "payment_order_no": "W-20260102-000001",
                    "kind": "payout",
                    "amount": "40.00",
                    "currency": "TWD",
                    "channel": "bank_transfer",
                    "requested_at": "2026-01-02T04:00:00.000000Z",
                    "expires_at": None,
                    "user_id": "user-1001",
                    "account_no": "2026010204815162347",
                },
                {
                    "type": "payment.request.v1",
                    "payment_order_no": "RF-20260102-000001",
                    "kind": "refund",
                    "amount": "60.00",
                    "currency": "TWD",
                    "channel": "card",
                    "requested_at": "2026-01-02T04:00:30.000000Z",
                    "expires_at": None,
                    "user_id": "user-1001",
                    "account_no": "2026010204815162347",
                    "original_payment_order_no": "R-20260102-000001",
                    "original_gateway_ref": "gw-90210",
                },
                {
                    "type": "payment.request.v1",
                    "payment_order_no": "W-20260102-000001",
                    "kind": "status",
                    "amount": "40.00",
                    "currency": "TWD",
                    "channel": "bank_transfer",
                    "requested_at": "2026-01-02T04:01:00.000000Z",
                    "expires_at": None,
                    "user_id": "user-1001",
                    "account_no": "2026010204815162347",
                },
            ]
        },
        extra="ignore",
    )

    type: Literal["payment.request.v1"] = "payment.request.v1"
    payment_order_no: SerialNo = Field(description="The order's serial number.")
    kind: Enumerated[PaymentKind] = Field(
        description="`charge`: collect a recharge. `payout`: pay a withdrawal out. `refund`: give money of a "
        "recharge back. `status`: say how the payment stands. `cancel`: stop the payment if it can be stopped. "
        "The answer is a result: `failed` if it is stopped or had failed, `succeeded` if it is too late, `unknown` "
        "if that is not known."
    )
    amount: AmountText
    currency: CurrencyText
    channel: ChannelType = Field(
        description="The recharge_type or payout_type; of a refund, the recharge_type of what it gives back."
    )
    requested_at: Timestamp
    expires_at: Timestamp | None = Field(
        description="When the wallet stops waiting; what is collected later is credited all the same. Null "
        "where it never stops, because the money may be on its way out: a payout or refund, and their status."
    )
    user_id: OmittedIfNone[UserId] = Field(default=None, description="Whose account the order is about.")
    account_no: OmittedIfNone[AccountNo] = Field(
        default=None, description="The account that the order is about."
    )
    instrument: OmittedIfNone[Instrument] = Field(
        default=None,
        description="Of a `charge` or `payout`: what the command names to pay with, or where to.",
    )
    return_url: OmittedIfNone[ReturnUrl] = Field(
        default=None, description="Of a `charge`: where the payer's browser is to be sent back."
    )
    original_payment_order_no: OmittedIfNone[SerialNo] = Field(
        default=None, description="Of a `refund`: the payment_order_no of the charge to give back."
    )
    original_gateway_ref: OmittedIfNone[GatewayRef] = Field(
        default=None, description="Of a `refund`: the gateway_ref with which that charge had succeeded."
    )
    metadata: OmittedIfNone[Notes] = None


class SignedMessage(Message):
    """What the payment gateway says, signed in the header `x-signature`."""

    _signed: Signed | None = PrivateAttr(default=None)

    @property
    def signed(self) -> Signed | None:
        """Who has signed it; absent for a result that no signature was verified of."""
        return self._signed

    def sign(self, signed: Signed) -> None:
        """Note whose signature of it was verified."""
        self._signed = signed


class PaymentResult(SignedMessage, MoneyFields):
    """The result of a payment, signed in the header `x-signature`.

    Amount and currency must be those of the order. Otherwise nothing moves and the message becomes a dead letter.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "payment.result.v1",
                    "payment_order_no": "R-20260102-000001",
                    "amount": "100.00",
                    "currency": "TWD",
                    "status": "succeeded",
                    "gateway_ref": "gw-90210",
                    "occurred_at": "2026-01-02T03:04:07Z",
                },
                {
                    "type": "payment.result.v1",
                    "payment_order_no": "R-20260102-000002",
                    "amount": "5000",
                    "currency": "JPY",
                    "status": "failed",
                    "gateway_ref": "gw-90211",
                    "reason": "the bank says no",
                    "reason_code": "card_declined",
                    "occurred_at": "2026-01-02T03:04:08.125Z",
                },
            ]
        }
    )

    type: Literal["payment.result.v1"] = "payment.result.v1"
    payment_order_no: SerialNo = Field(description="The payment_order_no of the request.")
    amount: AmountText
    currency: CurrencyText
    status: Enumerated[PaymentStatus]
    gateway_ref: GatewayRef
    reason: OptionalIn[Text] = Field(
        default=None,
        description=f"Why, for a person. Of a failure, the order shows the first {REASON_LENGTH_MAX} characters.",
    )
    reason_code: OptionalIn[FailureCode] = Field(
        default=None, description="Why, for a program: the gateway's own code, which the order shows."
    )
    occurred_at: IncomingTimestamp


REQUIRED_OF_ACTION: Final[Mapping[PayerAction, tuple[str, ...]]] = MappingProxyType(
    {
        PayerAction.REDIRECT: ("url",),
        PayerAction.APP: ("app_url",),
        PayerAction.BANK_TRANSFER: ("bank_code", "account_number"),
        PayerAction.STORE_CODE: ("code",),
        PayerAction.BARCODE: ("barcodes",),
        PayerAction.QR_CODE: ("qr_payload",),
        PayerAction.WAIT: (),
    }
)
"""The fields without which a payer cannot do what instructions tell him."""


def _variant(action: PayerAction, names: tuple[str, ...]) -> dict[str, Any]:
    """Return as JSON Schema what instructions of an action have, and what only a redirect has."""
    fields: dict[str, Any] = {"action": {"const": action.value}}
    fields |= {name: {"type": ["string", "array"]} for name in names}
    if action is not PayerAction.REDIRECT:
        fields |= {"method": {"type": "null"}, "form": {"type": "null"}}
    return {"properties": fields, "required": ["action", *names]}


_VARIANTS: Final = [_variant(action, names) for action, names in REQUIRED_OF_ACTION.items()]


def _is_get(value: object) -> bool:
    return value is None or value == FormMethod.GET


class PaymentInstructions(SignedMessage, MoneyFields):
    """How the payer pays: an address, a code or a bank account, signed like a result. The order stays pending.

    A higher `revision` replaces what was told before. Amount and currency must be those of the order.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "payment.instructions.v1",
                    "payment_order_no": "R-20260102-000001",
                    "amount": "100.00",
                    "currency": "TWD",
                    "gateway_ref": "2601020304",
                    "revision": 1,
                    "action": "bank_transfer",
                    "bank_code": "822",
                    "account_number": "9829411019605745",
                    "expires_at": "2026-01-05T15:59:59Z",
                    "occurred_at": "2026-01-02T03:04:06Z",
                },
                {
                    "type": "payment.instructions.v1",
                    "payment_order_no": "R-20260102-000002",
                    "amount": "5000",
                    "currency": "JPY",
                    "gateway_ref": "gw-90211",
                    "action": "redirect",
                    "url": "https://pay.example/3ds/90211",
                    "method": "POST",
                    "form": {"creq": "eyJ0"},
                    "occurred_at": "2026-01-02T03:04:06Z",
                },
            ],
            "anyOf": cast("Any", _VARIANTS),
        }
    )

    type: Literal["payment.instructions.v1"] = "payment.instructions.v1"
    payment_order_no: SerialNo = Field(description="The payment_order_no of the request.")
    amount: AmountText
    currency: CurrencyText
    gateway_ref: GatewayRef
    revision: Revision = 1
    action: Enumerated[PayerAction] = Field(
        description="What the payer does. `redirect` needs url; `app` app_url; `bank_transfer` bank_code and "
        "account_number; `store_code` code; `barcode` barcodes; `qr_code` qr_payload."
    )
    url: OptionalIn[PayerUrl] = None
    method: Annotated[Enumerated[FormMethod] | None, Field(exclude_if=_is_get)] = Field(
        default=None, description="Of a redirect: how the browser goes there; GET where it is left out."
    )
    form: OptionalIn[Form] = Field(default=None, description="Of a redirect by POST: the fields to post.")
    app_url: OptionalIn[AppUrl] = None
    bank_code: OptionalIn[BankCode] = None
    account_number: OptionalIn[BankAccountNumber] = None
    bank_name: OptionalIn[ShortPlainText] = None
    account_name: OptionalIn[ShortPlainText] = None
    reference: OptionalIn[TransferReference] = None
    code: OptionalIn[StoreCode] = None
    store: OptionalIn[StoreChain] = None
    barcodes: OptionalIn[Annotated[list[Barcode], Field(min_length=1, max_length=5)]] = None
    qr_payload: OptionalIn[QrPayload] = None
    expires_at: OptionalIn[IncomingTimestamp] = Field(
        default=None, description="Until when it can be paid so; the order waits at least as long."
    )
    note: OptionalIn[PayerNote] = None
    occurred_at: IncomingTimestamp

    @model_validator(mode="after")
    def _can_be_followed(self) -> Self:
        """Refuse an action without its data, and what only a redirect has."""
        missing = [name for name in REQUIRED_OF_ACTION[self.action] if getattr(self, name) is None]
        for name in missing:
            raise PydanticCustomError(
                FIELD_OF_WHOLE, "{action} needs it", {"field": name, "action": self.action.value}
            )
        for name in ("method", "form"):
            if getattr(self, name) is not None and self.action is not PayerAction.REDIRECT:
                raise PydanticCustomError(FIELD_OF_WHOLE, "Only a redirect has it", {"field": name})
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses that a payer would open."""
        return tuple(url for url in (self.url, self.app_url) if url is not None)


class PaymentReversal(SignedMessage, MoneyFields):
    """What has become of one dispute, recall or return: the whole truth of that moment, signed like a result.

    The message with the highest `sequence` counts, in whatever order they arrive; the wallet moves the difference
    between what stands by it and what stands in the ledger. A status is final for nobody: a dispute that was lost may
    be won.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "payment.reversal.v1",
                    "payment_order_no": "R-20260102-000001",
                    "reversal_ref": "dp_7",
                    "kind": "dispute",
                    "sequence": 2,
                    "status": "moved",
                    "amount": "100.00",
                    "currency": "TWD",
                    "reason_code": "10.4",
                    "respond_by": "2026-02-01T00:00:00Z",
                    "occurred_at": "2026-01-20T08:00:00Z",
                },
                {
                    "type": "payment.reversal.v1",
                    "payment_order_no": "W-20260102-000001",
                    "reversal_ref": "rt_3",
                    "kind": "return",
                    "sequence": 1,
                    "status": "settled",
                    "amount": "40.00",
                    "currency": "TWD",
                    "reason": "account closed at the bank",
                    "occurred_at": "2026-01-05T08:00:00Z",
                },
            ]
        }
    )

    type: Literal["payment.reversal.v1"] = "payment.reversal.v1"
    payment_order_no: SerialNo = Field(
        description="The payment_order_no of the recharge, withdrawal or refund."
    )
    reversal_ref: ReversalRef
    kind: Enumerated[ReversalKind] = Field(
        description="`dispute` or `recall` of a recharge, `return` of a withdrawal or refund."
    )
    sequence: int = Field(
        ge=1, le=REVERSAL_SEQUENCE_MAX, description="Rises with every change of this reversal; gaps are fine."
    )
    status: Enumerated[ReversalStatus] = Field(
        description="`moved` and `settled`: `amount` is moved back now. `opened` and `dropped`: none is moved."
    )
    amount: AmountText = Field(
        description="What is disputed or returned; where money has moved, how much of it stands now."
    )
    currency: CurrencyText
    reason_code: OptionalIn[ReasonCode] = None
    reason: OptionalIn[Annotated[Text, StringConstraints(max_length=REASON_LENGTH_MAX)]] = Field(
        default=None, description="Why, for a person."
    )
    respond_by: OptionalIn[IncomingTimestamp] = Field(
        default=None, description="Until when evidence can be given to the gateway."
    )
    occurred_at: IncomingTimestamp


class PaymentProcessed(OutboundMessage):
    """What became of a payment result, instructions or a reversal, sent to its `reply_to` with its `correlation_id`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "payment.processed.v1",
                    "payment_order_no": "R-20260102-000001",
                    "processing_status": "processed",
                    "code": "OK",
                },
                {
                    "type": "payment.processed.v1",
                    "payment_order_no": "R-20260102-000001",
                    "processing_status": "refused",
                    "code": "AMOUNT_MISMATCH",
                },
                {
                    "type": "payment.processed.v1",
                    "payment_order_no": "R-20260102-000001",
                    "reversal_ref": "dp_7",
                    "processing_status": "processed",
                    "code": "OK",
                },
            ]
        }
    )

    type: Literal["payment.processed.v1"] = "payment.processed.v1"
    payment_order_no: SerialNo | None = Field(
        description="The payment_order_no of the result; null where it could not be read, which only HTTP answers."
    )
    reversal_ref: OmittedIfNone[ReversalRef] = Field(
        default=None, description="The reversal_ref, where it answers a reversal."
    )
    processing_status: GrowingEnum[ProcessingStatus]
    code: GrowingEnum[Code]
