"""The contract over HTTP: every operation with its path and scope, and the shapes that only HTTP has.

Routes, scopes, the OpenAPI document and tests are all read from `OPERATIONS`.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias, Union

from pydantic import ConfigDict, Field, StringConstraints

from wallet_schemas import commands, queries
from wallet_schemas.codes import Code
from wallet_schemas.commands import Fault, RefusalDetails
from wallet_schemas.events import EVENTS, AccountOpened, Event
from wallet_schemas.message import Message, OutboundMessage, OutboundObject
from wallet_schemas.parse import COMMANDS, QUERIES
from wallet_schemas.values import (
    Enumerated,
    IncomingTimestamp,
    OmittedIfNone,
    OptionalIn,
    SerialNo,
    Text,
    Timestamp,
    UserId,
)

PROBLEM_TYPE: Final = "application/problem+json"
QUOTA_PROBLEM: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
IDEMPOTENCY_HEADER: Final = "idempotency-key"
WAIT_SECONDS_MAX: Final = 30


class Retry(StrEnum):
    """What a client does about a problem."""

    NEVER = "never"
    """The wallet has decided, for ever: a new attempt takes a new number."""
    MEND = "mend"
    """Nothing was done: mend the request and send it."""
    SAME = "same"
    """Send exactly the same again, with the same number."""


class ApiCode(StrEnum):
    """What only HTTP can say, beside the codes of the wallet. `meaning` says it to a person."""

    status: int
    retry: Retry
    meaning: str

    SERIAL_NO_MISSING = (
        "SERIAL_NO_MISSING",
        400,
        Retry.MEND,
        "the command has no serial_no, and the request no Idempotency-Key",
    )
    SERIAL_NO_DIFFERS = (
        "SERIAL_NO_DIFFERS",
        400,
        Retry.MEND,
        "the serial_no of the body is not the Idempotency-Key of the header",
    )
    TYPE_DIFFERS = "TYPE_DIFFERS", 400, Retry.MEND, "the type of the body is not that of the path"
    PARAMETER_UNKNOWN = (
        "PARAMETER_UNKNOWN",
        400,
        Retry.MEND,
        "the address has a parameter that is not known here",
    )
    PARAMETER_MISSING = "PARAMETER_MISSING", 400, Retry.MEND, "the address lacks a parameter"
    PARAMETER_REPEATED = "PARAMETER_REPEATED", 400, Retry.MEND, "the address has a parameter twice"
    BAD_REQUEST = "BAD_REQUEST", 400, Retry.MEND, "the request is not well-formed HTTP"
    UNAUTHENTICATED = "UNAUTHENTICATED", 401, Retry.MEND, "the API key is missing, wrong, expired or revoked"
    FORBIDDEN = "FORBIDDEN", 403, Retry.MEND, "the API key does not have the scope for this"
    USER_OUT_OF_REACH = "USER_OUT_OF_REACH", 403, Retry.MEND, "the API key may not act for this user"
    SERIAL_NO_PREFIX = (
        "SERIAL_NO_PREFIX",
        403,
        Retry.MEND,
        "serial numbers of this API key begin with another prefix",
    )
    WEBHOOK_EXISTS = (
        "WEBHOOK_EXISTS",
        422,
        Retry.MEND,
        "the client has a webhook endpoint of this name already",
    )
    WEBHOOK_NOT_FOUND = (
        "WEBHOOK_NOT_FOUND",
        404,
        Retry.MEND,
        "the client has no webhook endpoint of this name",
    )
    NO_SUCH_PATH = "NO_SUCH_PATH", 404, Retry.MEND, "there is nothing at this address"
    OUTCOME_NOT_KNOWN = (
        "OUTCOME_NOT_KNOWN",
        404,
        Retry.SAME,
        "no outcome is known for this serial number; the command may still be waiting",
    )
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED", 405, Retry.MEND, "this address does not take this method"
    READ_TIMEOUT = "READ_TIMEOUT", 408, Retry.SAME, "the body did not arrive in time"
    CURSOR_EXPIRED = (
        "CURSOR_EXPIRED",
        410,
        Retry.MEND,
        "events after this cursor are no longer kept; read what you missed from statements, then after=oldest",
    )
    TOO_LARGE = "TOO_LARGE", 413, Retry.MEND, "the body is larger than a message may be"
    TARGET_TOO_LONG = "TARGET_TOO_LONG", 414, Retry.MEND, "the address is too long"
    MEDIA_TYPE = "MEDIA_TYPE", 415, Retry.MEND, "the body must be application/json in UTF-8, not compressed"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED", 429, Retry.SAME, "the API key has used up its quota for the moment"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE", 431, Retry.MEND, "the headers are too large, or too many"
    FAULT = "FAULT", 500, Retry.SAME, "a fault of the wallet's API; what was done is not known"
    NOT_SENT = "NOT_SENT", 503, Retry.SAME, "the broker does not take messages now; nothing was done"
    OVERLOADED = "OVERLOADED", 503, Retry.SAME, "too much is waiting already; nothing was done"
    DATABASE_AWAY = "DATABASE_AWAY", 503, Retry.SAME, "the database does not answer now; nothing was done"
    EVENTS_AWAY = "EVENTS_AWAY", 503, Retry.SAME, "the log of events does not answer now"
    STOPPING = "STOPPING", 503, Retry.SAME, "this process is stopping; nothing was done"
    OUTCOME_UNKNOWN = (
        "OUTCOME_UNKNOWN",
        504,
        Retry.SAME,
        "the message was sent, and the broker did not confirm it: the connection was lost, or no confirm came in time",
    )

    def __new__(cls, value: str, status: int = 500, retry: Retry = Retry.SAME, meaning: str = "") -> Self:
        """Return the member: a string like any other, with its status, what to do, and what it means."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.status = status
        code.retry = retry
        code.meaning = meaning
        return code


AnyCode: TypeAlias = Code | ApiCode

# Of the wallet's own codes: how a refused command is answered. All that are not named here are 422, `never`: SDKs
# repeat 408, 409, 429 and 5xx by themselves, and a refusal is final for its number.
_MEND_400: Final = frozenset({Code.MALFORMED, Code.UNSUPPORTED_TYPE})
REFUSED: Final = 422


def status_of(code: AnyCode) -> int:
    """Return the status of a problem with this code, as the answer to a POST."""
    if isinstance(code, ApiCode):
        return code.status
    if code in _MEND_400:
        return 400
    if code is Code.BAD_SIGNATURE:
        return 401
    if code.value == "NOT_ALLOWED":
        return 403
    return 503 if code is Code.INTERNAL else REFUSED


def retry_of(code: AnyCode, status: int) -> Retry:
    """Return what a client does about a problem with this code."""
    if isinstance(code, ApiCode):
        return code.retry
    if code is Code.INTERNAL:
        return Retry.SAME
    return Retry.NEVER if status == REFUSED else Retry.MEND


def problem_type(code: AnyCode) -> str:
    """Return the address of the page that says what the code means."""
    return f"/problems/{code.value.lower().replace('_', '-')}"


class Problem(OutboundObject):
    """Why a request has no answer of its own kind (RFC 9457). Programs compare `code`, and go by `retry`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/insufficient-balance",
                    "title": "the account has less available than the amount",
                    "status": 422,
                    "code": "INSUFFICIENT_BALANCE",
                    "retry": "never",
                    "serial_no": "T-20260102-000001",
                    "duplicate": False,
                    "instance": "/v1/outcomes?serial_no=T-20260102-000001",
                    "details": {"available": "12.50"},
                    "request_id": "019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e",
                }
            ]
        }
    )

    type: str = Field(description="The address of a page about the code.")
    title: str = Field(description="What the code means, the same at every occurrence.")
    status: int = Field(ge=400, le=599, description="The status, as in the answer itself.")
    code: str = Field(pattern="^[A-Z][A-Z0-9_]*$", description="What programs compare.")
    retry: Retry = Field(
        description="`never`: final for this number. `mend`: nothing was done, mend and send. "
        "`same`: send exactly the same again.",
    )
    detail: OmittedIfNone[Text] = Field(default=None, description="This occurrence, for a person.")
    serial_no: OmittedIfNone[SerialNo] = Field(default=None, description="The number that it is about.")
    duplicate: OmittedIfNone[bool] = Field(
        default=None, description="Of a refusal: true when the stored outcome is being repeated."
    )
    instance: OmittedIfNone[str] = Field(default=None, description="Where to look for the outcome.")
    different: OmittedIfNone[list[Text]] = Field(
        default=None,
        description="With SERIAL_CONFLICT: the fields in which the command differs from the first one.",
    )
    faults: OmittedIfNone[list[Fault]] = Field(
        default=None, description="With MALFORMED: what is wrong with the request, at most 20."
    )
    details: OmittedIfNone[RefusalDetails] = Field(
        default=None,
        description="Of a refusal: why, for a program, where there is more to say than its code.",
    )
    violated_policies: OmittedIfNone[list[str]] = Field(
        default=None, alias="violated-policies", description="With QUOTA_EXCEEDED: which quota."
    )
    request_id: str = Field(description="The request, as the log has it.")


class CommandAccepted(OutboundMessage):
    """The broker has the command on disk, and there is no outcome yet."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "command.accepted.v1", "serial_no": "R-20260102-000001"}]}
    )

    type: Literal["command.accepted.v1"] = "command.accepted.v1"
    serial_no: SerialNo


class PaymentAccepted(OutboundMessage):
    """The broker has the payment result on disk, and it is not processed yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "payment.accepted.v1",
                    "payment_order_no": "R-20260102-000001",
                    "processing_status": "accepted",
                }
            ]
        }
    )

    type: Literal["payment.accepted.v1"] = "payment.accepted.v1"
    payment_order_no: SerialNo | None = Field(description="The order; null where it cannot be read.")
    processing_status: Literal["accepted"] = "accepted"


class ApiClient(OutboundMessage):
    """What the API key of the request may do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "api.client.v1",
                    "client": "shop",
                    "key_id": "k3v7q2n5d4aw",
                    "scopes": ["accounts:open", "accounts:read"],
                    "users": "shop7:",
                    "serial_prefix": "S7-",
                    "rate": 200,
                    "in_flight": 200,
                    "expires_at": None,
                }
            ]
        }
    )

    type: Literal["api.client.v1"] = "api.client.v1"
    client: str
    key_id: str
    scopes: list[str]
    users: str | None = Field(description="What the user_id of its requests must begin with; null for any.")
    serial_prefix: str | None = Field(description="What its serial numbers must begin with; null for any.")
    rate: int = Field(description="How many requests a second one process takes of it.")
    in_flight: int = Field(description="How many requests at once one process takes of it.")
    expires_at: Timestamp | None


EVENTS_PATH: Final = "/v1/events"
EVENTS_MAX: Final = 500
EVENT_STREAM_TYPE: Final = "text/event-stream"
OLDEST: Final = "oldest"
Cursor: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(0|oldest|[1-9][0-9]{0,18}-[0-9a-f]{8})$", max_length=28)
]
KindPattern: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(\*|[a-z_]+(\.[a-z_]+)*(\.\*)?)$", max_length=64)
]


class GetEvents(Message):
    """The events after a cursor, oldest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"type": "event.get.v1", "types": ["order.*"]}]}
    )

    type: Literal["event.get.v1"] = "event.get.v1"
    after: Cursor | None = Field(
        default=None,
        description="The cursor of the last event that was read, `oldest` for all that are kept; left out: now.",
    )
    types: list[KindPattern] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        description="Which events, such as order.*,account.opened; left out: all.",
    )
    serial_no: SerialNo | None = Field(default=None, description="Only events with this serial number.")
    user_id: UserId | None = Field(default=None, description="Only events about this user.")
    limit: int = Field(default=100, ge=1, le=EVENTS_MAX, description="How many events at most.")


if TYPE_CHECKING:
    AnyEvent: TypeAlias = Event
else:
    AnyEvent = Annotated[Union[EVENTS], Field(discriminator="type")]  # noqa: UP007 -- of a tuple


class EventItem(OutboundObject):
    """An event, and the cursor after it."""

    cursor: Cursor
    event: AnyEvent


class EventPage(OutboundMessage):
    """Events, oldest first. An event may come twice, with the same `event_id`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "event.page.v1",
                    "events": [{"cursor": "4711-9f3a61c2", "event": AccountOpened.examples()[0]}],
                    "next_after": "4712-0c55d1e0",
                    "more": False,
                }
            ]
        }
    )

    type: Literal["event.page.v1"] = "event.page.v1"
    events: list[EventItem]
    next_after: Cursor = Field(
        description="The cursor to go on with; further than the last event where others were passed over."
    )
    more: bool = Field(description="Whether there are more events already, perhaps none that are wanted.")


WEBHOOKS_PATH: Final = "/v1/webhook-endpoints"
DELIVERIES_PATH: Final = "/v1/webhook-deliveries"
WebhookName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$", max_length=32)]
WebhookUrl: TypeAlias = Annotated[str, StringConstraints(pattern=r"^https://[!-~]+$", max_length=2000)]
_NAME: Final = "What the client calls the endpoint: small letters, digits and -."
_KINDS: Final = "Which events are posted, such as order.*,account.opened."


class WebhookState(StrEnum):
    """Whether events are posted to an endpoint."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """What became of an event on its way to an endpoint."""

    WAITING = "waiting"
    """It is tried, or tried again at `next_at`."""
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    """Every attempt has failed. It is kept, and posted again when it is replayed."""


def _single(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


class CreateWebhook(Message):
    """Name an address where events are posted, and get the secret that they are signed with, once."""

    model_config = _single(
        type="webhook.create.v1", name="orders", url="https://shop.example/wallet", types=["order.*"]
    )

    type: Literal["webhook.create.v1"] = "webhook.create.v1"
    name: WebhookName = Field(description=_NAME)
    url: WebhookUrl
    types: list[KindPattern] = Field(default=["*"], min_length=1, max_length=20, description=_KINDS)


class UpdateWebhook(Message):
    """Change the address of an endpoint, or which events it gets."""

    model_config = _single(type="webhook.update.v1", name="orders", types=["order.*", "account.*"])

    type: Literal["webhook.update.v1"] = "webhook.update.v1"
    name: WebhookName = Field(description=_NAME)
    url: OptionalIn[WebhookUrl] = None
    types: OptionalIn[Annotated[list[KindPattern], Field(min_length=1, max_length=20)]] = Field(
        default=None, description=_KINDS
    )


class RotateWebhook(Message):
    """Get a new secret for an endpoint. The one before it signs too, for the overlap."""

    model_config = _single(type="webhook.rotate.v1", name="orders", overlap_seconds=86_400)

    type: Literal["webhook.rotate.v1"] = "webhook.rotate.v1"
    name: WebhookName = Field(description=_NAME)
    overlap_seconds: int = Field(default=86_400, ge=0, le=2_592_000)


class EnableWebhook(Message):
    """Post events to an endpoint again, what waits first."""

    model_config = _single(type="webhook.enable.v1", name="orders")

    type: Literal["webhook.enable.v1"] = "webhook.enable.v1"
    name: WebhookName = Field(description=_NAME)


class DisableWebhook(Message):
    """Post nothing more to an endpoint. What waits goes on waiting."""

    model_config = _single(type="webhook.disable.v1", name="orders")

    type: Literal["webhook.disable.v1"] = "webhook.disable.v1"
    name: WebhookName = Field(description=_NAME)


class TestWebhook(Message):
    """Post an event of type webhook.test.v1, which says nothing, to an endpoint."""

    __test__ = False  # pytest takes it for tests

    model_config = _single(type="webhook.test-event.v1", name="orders")

    type: Literal["webhook.test-event.v1"] = "webhook.test-event.v1"
    name: WebhookName = Field(description=_NAME)


class ReplayWebhook(Message):
    """Post an event again; or every event since a time that has not arrived, or all of them."""

    model_config = _single(type="webhook.replay.v1", name="orders", since="2026-01-02T00:00:00Z")

    type: Literal["webhook.replay.v1"] = "webhook.replay.v1"
    name: WebhookName = Field(description=_NAME)
    event_id: OptionalIn[Text] = None
    since: OptionalIn[IncomingTimestamp] = None
    delivered_too: bool = Field(default=False, description="With `since`: those that have arrived, too.")


class FindWebhooks(Message):
    """The endpoints of the client."""

    model_config = _single(type="webhook.find.v1")

    type: Literal["webhook.find.v1"] = "webhook.find.v1"


class FindWebhookDeliveries(Message):
    """What became of the events for an endpoint, newest first."""

    model_config = _single(type="webhook.deliveries.get.v1", name="orders", state="given_up")

    type: Literal["webhook.deliveries.get.v1"] = "webhook.deliveries.get.v1"
    name: WebhookName = Field(description=_NAME)
    state: OptionalIn[Enumerated[DeliveryState]] = None
    after: OptionalIn[Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,17}$")]] = Field(
        default=None, description="The next_after of the page before."
    )
    limit: int = Field(default=100, ge=1, le=500, description="How many at most.")


_ENDPOINT: Final[dict[str, Any]] = {
    "name": "orders",
    "url": "https://shop.example/wallet",
    "types": ["order.*"],
    "users": None,
    "state": "enabled",
    "why": None,
    "failing_since": None,
    "older_secret_until": None,
    "created_at": "2026-01-02T03:04:05.000006Z",
    "updated_at": "2026-01-02T03:04:05.000006Z",
}


class WebhookEndpointView(OutboundObject):
    """An endpoint as it stands."""

    name: str
    url: str
    types: list[str]
    users: str | None = Field(description="What the user ids of its events begin with; null for any.")
    state: Enumerated[WebhookState]
    why: str | None = Field(description="Why it is disabled.")
    failing_since: Timestamp | None = Field(
        description="When the first attempt failed after the last success."
    )
    older_secret_until: Timestamp | None = Field(
        description="How long the secret before this one signs, too."
    )
    created_at: Timestamp
    updated_at: Timestamp


class WebhookEndpoint(OutboundMessage):
    """An endpoint, with its secret where the secret is new."""

    model_config = _single(
        type="webhook.endpoint.v1",
        endpoint=_ENDPOINT,
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",  # noqa: S106 -- the specification's own example
    )

    type: Literal["webhook.endpoint.v1"] = "webhook.endpoint.v1"
    endpoint: WebhookEndpointView
    secret: OmittedIfNone[str] = Field(default=None, description="Shown this once: store it.")


class WebhookEndpointList(OutboundMessage):
    """The endpoints of the client, by name."""

    model_config = _single(type="webhook.endpoint.list.v1", endpoints=[_ENDPOINT])

    type: Literal["webhook.endpoint.list.v1"] = "webhook.endpoint.list.v1"
    endpoints: list[WebhookEndpointView]


class WebhookDelivery(OutboundObject):
    """One event for one endpoint, and what came of the last attempt to post it."""

    event_id: str
    event_type: str
    state: Enumerated[DeliveryState]
    attempts: int
    next_at: Timestamp | None = Field(description="When it is tried next; null where it is not.")
    attempted_at: Timestamp | None
    status: int | None = Field(description="The status of the last answer; null where there was none.")
    answer: str | None = Field(description="The beginning of the last answer, or why there was none.")
    created_at: Timestamp


class WebhookDeliveryList(OutboundMessage):
    """A page of deliveries, newest first."""

    model_config = _single(
        type="webhook.delivery.list.v1",
        deliveries=[
            {
                "event_id": "019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e",
                "event_type": "order.succeeded",
                "state": "waiting",
                "attempts": 2,
                "next_at": "2026-01-02T03:09:12.000000Z",
                "attempted_at": "2026-01-02T03:04:12.000000Z",
                "status": 500,
                "answer": "not now",
                "created_at": "2026-01-02T03:04:07.250000Z",
            }
        ],
        next_after=None,
    )

    type: Literal["webhook.delivery.list.v1"] = "webhook.delivery.list.v1"
    deliveries: list[WebhookDelivery]
    next_after: str | None = Field(
        description="The `after` of the next page; null where this one is the last."
    )


class WebhookReplayed(OutboundMessage):
    """How many events are posted again."""

    model_config = _single(type="webhook.replayed.v1", name="orders", replayed=3)

    type: Literal["webhook.replayed.v1"] = "webhook.replayed.v1"
    name: str
    replayed: int


class Scope(StrEnum):
    """What an API key may do, a word for each family of commands and queries."""

    ACCOUNTS_OPEN = "accounts:open"
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_FREEZE = "accounts:freeze"
    ACCOUNTS_CLOSE = "accounts:close"
    RECHARGES_WRITE = "recharges:write"
    WITHDRAWALS_WRITE = "withdrawals:write"
    TRANSFERS_WRITE = "transfers:write"
    REFUNDS_WRITE = "refunds:write"
    HOLDS_WRITE = "holds:write"
    ORDERS_CANCEL = "orders:cancel"
    ORDERS_READ = "orders:read"
    STATEMENTS_READ = "statements:read"
    EVENTS_READ = "events:read"
    WEBHOOKS_MANAGE = "webhooks:manage"


_READS: Final = (Scope.ACCOUNTS_READ, Scope.ORDERS_READ, Scope.STATEMENTS_READ)

ROLES: Final = MappingProxyType(
    {
        "upstream": (
            Scope.ACCOUNTS_OPEN,
            Scope.RECHARGES_WRITE,
            Scope.WITHDRAWALS_WRITE,
            Scope.TRANSFERS_WRITE,
            Scope.REFUNDS_WRITE,
            Scope.HOLDS_WRITE,
            Scope.ORDERS_CANCEL,
            *_READS,
            Scope.EVENTS_READ,
        ),
        "back-office": (*_READS, Scope.ACCOUNTS_FREEZE, Scope.ACCOUNTS_CLOSE),
        "reader": _READS,
    }
)
"""The scopes that usual callers have, by the name of their role."""

_OF_WEBHOOKS: Final[tuple[type[Message], ...]] = (
    CreateWebhook,
    UpdateWebhook,
    RotateWebhook,
    EnableWebhook,
    DisableWebhook,
    TestWebhook,
    ReplayWebhook,
    FindWebhooks,
    FindWebhookDeliveries,
)

SCOPE_OF: Final = MappingProxyType(
    {
        commands.OpenAccount: Scope.ACCOUNTS_OPEN,
        commands.FreezeAccount: Scope.ACCOUNTS_FREEZE,
        commands.UnfreezeAccount: Scope.ACCOUNTS_FREEZE,
        commands.CloseAccount: Scope.ACCOUNTS_CLOSE,
        commands.Recharge: Scope.RECHARGES_WRITE,
        commands.RechargeV2: Scope.RECHARGES_WRITE,
        commands.Withdraw: Scope.WITHDRAWALS_WRITE,
        commands.WithdrawV2: Scope.WITHDRAWALS_WRITE,
        commands.Transfer: Scope.TRANSFERS_WRITE,
        commands.Refund: Scope.REFUNDS_WRITE,
        commands.Hold: Scope.HOLDS_WRITE,
        commands.Capture: Scope.HOLDS_WRITE,
        commands.Release: Scope.HOLDS_WRITE,
        commands.CancelOrder: Scope.ORDERS_CANCEL,
        queries.GetAccount: Scope.ACCOUNTS_READ,
        queries.GetOrder: Scope.ORDERS_READ,
        queries.GetStatement: Scope.STATEMENTS_READ,
        queries.FindOrders: Scope.ORDERS_READ,
        queries.GetHistory: Scope.STATEMENTS_READ,
        GetEvents: Scope.EVENTS_READ,
        **dict.fromkeys(_OF_WEBHOOKS, Scope.WEBHOOKS_MANAGE),
    }
)
"""The scope that each command and each query needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOperation:
    """One method at one path.

    `takes` are the messages that it may become; a GET with several takes the first whose required parameters are there.
    `applied` is the status of a command that was applied.
    """

    name: str
    method: Literal["GET", "POST"]
    path: str
    takes: tuple[type[Message], ...] = ()
    answers: tuple[type[Message], ...]
    applied: int = 200
    needs_key: bool = True
    summary: str

    @property
    def scopes(self) -> frozenset[Scope]:
        """What a key needs for it: the scope of what it takes; one of several, where it takes several messages."""
        return frozenset(SCOPE_OF[message] for message in self.takes if message in SCOPE_OF)


def _change(path: str, name: str, *kinds: type[Message], applied: int = 201) -> HttpOperation:
    return HttpOperation(
        name=name,
        method="POST",
        path=path,
        takes=kinds,
        answers=(commands.Outcome,),
        applied=applied,
        summary=(kinds[0].__doc__ or "").partition("\n")[0],
    )


CHANGES: Final = (
    _change("/v1/accounts", "openAccount", commands.OpenAccount),
    _change("/v1/accounts/freeze", "freezeAccount", commands.FreezeAccount, applied=200),
    _change("/v1/accounts/unfreeze", "unfreezeAccount", commands.UnfreezeAccount, applied=200),
    _change("/v1/accounts/close", "closeAccount", commands.CloseAccount, applied=200),
    _change("/v1/recharges", "recharge", commands.Recharge, commands.RechargeV2),
    _change("/v1/withdrawals", "withdraw", commands.Withdraw, commands.WithdrawV2),
    _change("/v1/transfers", "transfer", commands.Transfer),
    _change("/v1/refunds", "refund", commands.Refund),
    _change("/v1/holds", "hold", commands.Hold),
    _change("/v1/captures", "capture", commands.Capture),
    _change("/v1/releases", "release", commands.Release),
    _change("/v1/orders/cancel", "cancelOrder", commands.CancelOrder, applied=200),
)
"""The operations that are one command each."""

APPLIED: Final = MappingProxyType(
    {command: operation.applied for operation in CHANGES for command in operation.takes}
)
"""The status that says that a command of this class was applied."""

ANY_COMMAND: Final = HttpOperation(
    name="sendCommand",
    method="POST",
    path="/v1/commands",
    takes=tuple(COMMANDS.values()),
    answers=(commands.Outcome,),
    applied=201,
    summary="Send any command, as it is sent over AMQP: `type` says which.",
)


def _webhook(
    path: str,
    name: str,
    takes: type[Message],
    answers: type[Message],
    *,
    method: Literal["GET", "POST"] = "POST",
    applied: int = 200,
) -> HttpOperation:
    return HttpOperation(
        name=name,
        method=method,
        path=path,
        takes=(takes,),
        answers=(answers,),
        applied=applied,
        summary=(takes.__doc__ or "").partition("\n")[0],
    )


WEBHOOKS: Final = (
    _webhook(WEBHOOKS_PATH, "createWebhook", CreateWebhook, WebhookEndpoint, applied=201),
    _webhook(f"{WEBHOOKS_PATH}/update", "updateWebhook", UpdateWebhook, WebhookEndpoint),
    _webhook(f"{WEBHOOKS_PATH}/rotate", "rotateWebhook", RotateWebhook, WebhookEndpoint),
    _webhook(f"{WEBHOOKS_PATH}/enable", "enableWebhook", EnableWebhook, WebhookEndpoint),
    _webhook(f"{WEBHOOKS_PATH}/disable", "disableWebhook", DisableWebhook, WebhookEndpoint),
    _webhook(f"{WEBHOOKS_PATH}/test", "testWebhook", TestWebhook, WebhookEndpoint),
    _webhook(WEBHOOKS_PATH, "listWebhooks", FindWebhooks, WebhookEndpointList, method="GET"),
    _webhook(
        DELIVERIES_PATH, "listWebhookDeliveries", FindWebhookDeliveries, WebhookDeliveryList, method="GET"
    ),
    _webhook(f"{DELIVERIES_PATH}/replay", "replayWebhook", ReplayWebhook, WebhookReplayed),
)
"""The operations on a client's webhooks; they change nothing of money, and go to the database."""

PAYMENT_RESULTS_PATH: Final = "/v1/payment-results"


OPERATIONS: Final = (
    *CHANGES,
    ANY_COMMAND,
    HttpOperation(
        name="listAccounts",
        method="GET",
        path="/v1/accounts",
        takes=(queries.GetAccount,),
        answers=(queries.AccountList,),
        summary="List the accounts of a user.",
    ),
    HttpOperation(
        name="getOrder",
        method="GET",
        path="/v1/orders",
        takes=(queries.GetOrder, queries.FindOrders),
        answers=(queries.OrderDetail, queries.OrderList),
        summary="Look up what became of a serial number; or list the orders of a user, newest first.",
    ),
    HttpOperation(
        name="getOutcome",
        method="GET",
        path="/v1/outcomes",
        takes=(queries.GetOrder,),
        answers=(commands.Outcome,),
        summary="Look up the outcome of a serial number; a refused outcome is an answer too.",
    ),
    HttpOperation(
        name="getStatement",
        method="GET",
        path="/v1/statements",
        takes=(queries.GetStatement,),
        answers=(queries.Statement,),
        summary="Read an account's entries, oldest first, a page at a time.",
    ),
    HttpOperation(
        name="getHistory",
        method="GET",
        path="/v1/history",
        takes=(queries.GetHistory,),
        answers=(queries.History,),
        summary="Read what moved on an account, newest first, as a wallet's app shows it.",
    ),
    HttpOperation(
        name="listEvents",
        method="GET",
        path=EVENTS_PATH,
        takes=(GetEvents,),
        answers=(EventPage,),
        summary="Read events, oldest first, a page at a time, or as server-sent events.",
    ),
    *WEBHOOKS,
    HttpOperation(
        name="getClient",
        method="GET",
        path="/v1/client",
        answers=(ApiClient,),
        summary="Look up what the API key of the request may do.",
    ),
)
"""Everything that takes an API key."""

_DOORLESS: Final = {*COMMANDS.values(), *QUERIES.values()} - {
    message for operation in OPERATIONS for message in operation.takes
}
if _DOORLESS:
    _msg = f"no operation takes {sorted(message.TYPE for message in _DOORLESS)}"
    raise AssertionError(_msg)
