"""The AsyncAPI document: what is said where, from the wallet's point of view."""

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wallet_schemas import commands, events, names, payments, queries, signature
from wallet_schemas.codes import Code
from wallet_schemas.encode import encode
from wallet_schemas.message import Message
from wallet_schemas.money import AMOUNT_MAX_MINOR
from wallet_schemas.parse import COMMANDS, RESULTS

_JsonObject = dict[str, Any]

_AMQP_BINDING: Final = "0.3.0"

# For the worked example below; it is public, and opens nothing.
EXAMPLE_KEYS: Final = {"2026-01": "an-example-secret"}
_EXAMPLE_UNIX_SECONDS: Final = 1_767_323_045

_COMMANDS: Final = tuple(COMMANDS.values())
_RESULTS: Final = tuple(RESULTS.values())
_ANSWERS: Final[dict[type[Message], type[Message]]] = {
    queries.GetAccount: queries.AccountList,
    queries.GetOrder: queries.OrderDetail,
    queries.GetStatement: queries.Statement,
    queries.FindOrders: queries.OrderList,
    queries.GetHistory: queries.History,
}
_REPLIES: Final[tuple[type[Message], ...]] = (
    commands.Outcome,
    payments.PaymentProcessed,
    *_ANSWERS.values(),
    queries.QueryRefused,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exchange:
    """An exchange, and the queue behind it, if it is for the wallet to declare."""

    key: str
    name: str
    kind: str = "topic"
    queue: str | None
    description: str
    messages: Sequence[type[Message]]


_EXCHANGES: Final = (
    _Exchange(
        key="commands",
        name=names.WALLET_COMMANDS,
        queue="quorum",
        description="Commands of upstream services. A message that no outcome can be given to becomes a dead letter.",
        messages=_COMMANDS,
    ),
    _Exchange(
        key="paymentRequests",
        name=names.PAYMENT_REQUESTS,
        queue="quorum",
        description="Requests to the payment gateway, which reads the queue.",
        messages=(payments.PaymentRequest,),
    ),
    _Exchange(
        key="paymentResults",
        name=names.PAYMENT_RESULTS,
        queue="quorum",
        description="Signed results, instructions and reversals of the payment gateway.",
        messages=_RESULTS,
    ),
    _Exchange(
        key="events",
        name=names.WALLET_EVENTS,
        queue=None,
        description="Events. Bind a queue of your own; `#` is everything, `order.*` all events of orders.",
        messages=events.EVENTS,
    ),
    _Exchange(
        key="queries",
        name=names.WALLET_QUERIES,
        queue="quorum",
        description=f"Queries. A query that is not answered within {names.QUERY_LIFE_MS // 1000} seconds is dropped.",
        messages=tuple(_ANSWERS),
    ),
)

_ABOUT: Final = """
The wallet keeps users' accounts, moves money between them and the payment gateway, and publishes what it did. It
takes messages over AMQP 0-9-1 (RabbitMQ) and answers with messages.

## Sending
- The body is one JSON object in UTF-8 without a byte order mark, at most {body_bytes_max} bytes. Its
  `type` says which message it is. The routing key is the type without its version (`account.open` for
  `account.open.v1`).
- AMQP properties: `content_type` {content_type}, `delivery_mode` 2, a fresh `message_id` for each
  publish, and `reply_to` and `correlation_id` if you want an answer. `reply_to` is `amq.rabbitmq.reply-to`, a
  queue that the broker named (`amq.gen-…`), or a queue whose name begins with `reply.`. The answer comes through the
  default exchange. A header `traceparent` (W3C Trace Context) is carried through.
- Publish with confirms. A message without a confirm may have arrived: send it again with the same serial number, as
  often as needed.
- A field that the schema does not name makes a message malformed. So do a name that stands twice in an
  object, `NaN`, NUL in a string, and half a surrogate pair. Optional fields may be left out or null.

## Serial numbers
A serial number has one outcome for ever. A repeated command gets the stored outcome, with `duplicate` true, whatever
has happened since. The same serial number with other content is refused with `SERIAL_CONFLICT`, and the first outcome
stays. A refused serial number stays refused: a new attempt takes a new serial number. Contents are compared with
defaults filled in and amounts by value, so `"100"` and `"100.00"` TWD are the same, and so are `metadata` left out,
null and empty.

## Amounts
Decimal strings such as `"100.00"`: no sign, no exponent, no grouping, greater than zero, and at most as
many digits after the point as ISO 4217 gives the currency (JPY 0, TWD 2, KWD 3). More digits than that
are malformed, which JSON Schema cannot express; a JSON number is malformed too. The wallet writes exactly that many
digits. More than {amount_max} minor units are refused with `AMOUNT_OUT_OF_RANGE`.

## Orders
Every `order.*` command that is applied makes an order, found by its serial number. `available` is the
balance less what is reserved.

| order | at once | then |
|---|---|---|
| recharge | `pending` | `succeeded`: credited; `failed`; `expired` |
| withdraw | `pending`, amount reserved | `succeeded`: debited; `failed`: reserve released |
| refund | `pending`, amount reserved | `succeeded`: debited; `failed`: reserve released |
| transfer | `succeeded`: payer debited, payee credited | |
| hold | `active`, amount reserved | `captured` when used up, `released`, or `expired`: the rest is released |
| capture | `succeeded`: payer debited, payee credited; `remaining` of the hold falls | |
| release | `succeeded`; the rest of the hold is released | |

Each change of status is published as the event `order.<status>`. The refunds of a recharge that did not fail are
together at most its amount. A frozen account is credited and not debited. A closed account stays closed; a later open
creates a new account with a new account_no, and lookups mean the newest.

## What a payment result does
Row 1 applies to every pending order. A later, different result for a withdrawal or refund is a contradiction. How
late a result is matters only where a channel bounds it: money that comes later still is then a dead letter.

| the order is | `succeeded` | `failed` | `unknown` |
|---|---|---|---|
| pending | `succeeded` | `failed` | stays pending; the gateway is asked again |
| recharge, succeeded | nothing | contradiction | nothing |
| recharge, failed, expired or cancelled | credited, `late` | nothing | nothing |
| withdraw or refund, succeeded | nothing | contradiction | nothing |
| withdraw or refund, failed | contradiction | nothing | nothing |

A contradiction, another amount or currency than the order's, and a success for a closed account move nothing and
become dead letters. A result that comes before its order waits for it. The wallet asks about a pending order with
`payment.request.v1` of kind `status`, at growing intervals. A withdrawal or refund never expires.

## Times
The wallet writes RFC 3339 in UTC, with `Z` and six digits after the point. Times sent to the wallet may have any offset
and any number of digits: they are kept in UTC and cut to six digits, never rounded. The same moment in another notation
is the same content. A leap second (`23:59:60Z`) is kept as the last microsecond before midnight.

## Signing a payment result
The header `{signature_header}` is `t=<unix seconds>,kid=<key id>,v1=<hex>`, where `v1` is HMAC-SHA256,
with the secret of the key as UTF-8, over the text of `t`, a point, and the bytes of the body. While keys
rotate, sign with both: `t=…,kid=<new>,v1=…,kid=<old>,v1=…`. One good signature is enough. `v2` is Ed25519 over
`wallet-v2:<environment>:results:<t>.` and the bytes of the body. An example of `v1`,
with the key `{key_id}` whose secret is `{secret}`, and this body:

```
{body}
```

```
{header}
```

## Events
An event may arrive more than once, with the same `event_id`; its AMQP `message_id` differs. Events may arrive in
another order than they happened. Within an account, `line_no` of the entries has no gaps: a gap means a missing event.

## Dead letters
A message that no outcome can be given to is kept, byte for byte, for an operator. Malformed messages and unsupported
types do not use up their serial number: send the corrected message with the same number.

## Codes
In the order in which they are checked:

{codes}
"""


def document(messages: Iterable[type[Message]]) -> _JsonObject:
    """Return the whole document; `messages` are all that it may speak of."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Wallet", "version": "1.0.0", "description": _about()},
        "defaultContentType": names.CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "localhost:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ 3.10 or later, at the address and virtual host of the deployment.",
            }
        },
        "channels": {
            **{exchange.key: _channel(exchange) for exchange in _EXCHANGES},
            "replies": _reply_channel(),
            "deadLetters": _dead_letter_channel(),
            "unrouted": _unrouted_channel(),
        },
        "operations": _operations(),
        "components": {
            "messages": {message.TYPE: _message(message) for message in messages}
            | {"dead-letter": _dead_letter(), "unrouted": _unrouted()},
            "schemas": {
                "headers": _headers({}),
                "signedHeaders": _headers({names.SIGNATURE_HEADER: SIGNATURE}, [names.SIGNATURE_HEADER]),
                "deadLetterHeaders": _headers(_DEAD_LETTER_HEADERS),
            },
            "correlationIds": {
                "correlationId": {
                    "location": "$message.header#/correlation_id",
                    "description": "The AMQP property `correlation_id`: an answer has that of its message.",
                }
            },
        },
    }


def _about() -> str:
    body = encode(payments.PaymentResult.model_validate(payments.PaymentResult.examples()[0]))
    ((key_id, secret),) = EXAMPLE_KEYS.items()
    return (
        inspect.cleandoc(_ABOUT).format(
            body_bytes_max=f"{names.BODY_BYTES_MAX:,}",
            content_type=names.CONTENT_TYPE,
            amount_max=f"{AMOUNT_MAX_MINOR:,}",
            signature_header=names.SIGNATURE_HEADER,
            key_id=key_id,
            secret=secret,
            body=body.decode(),
            header=signature.sign(body, EXAMPLE_KEYS, _EXAMPLE_UNIX_SECONDS),
            codes="\n".join(
                ["| code | means |", "|---|---|", *(f"| `{code}` | {code.meaning} |" for code in Code)]
            ),
        )
        + "\n"
    )


def unwrapped(docstring: str | None) -> str:
    """Return the docstring with each paragraph on one line."""
    return re.sub(r"(?<!\n)\n(?![\n-])", " ", inspect.cleandoc(docstring or ""))


def _channel(exchange: _Exchange) -> _JsonObject:
    routing_keys = [names.routing_key(message.TYPE) for message in exchange.messages]
    queue: _JsonObject = (
        {"x-queue": {"name": exchange.name, "type": exchange.queue, "durable": True, "binding": "#"}}
        if exchange.queue
        else {}
    )
    return {
        "address": "{routing_key}",
        "title": exchange.name,
        "description": exchange.description,
        "messages": {message.TYPE: _of_component(message.TYPE) for message in exchange.messages},
        "parameters": {
            "routing_key": {
                "description": "The type of the message without its version.",
                "enum": routing_keys,
            }
        },
        "bindings": _exchange_binding(exchange.name, exchange.kind),
        **queue,
    }


def _reply_channel() -> _JsonObject:
    return {
        "address": None,
        "title": "replies",
        "description": "The queue named in the AMQP property `reply_to`, through the default exchange.",
        "messages": {message.TYPE: _of_component(message.TYPE) for message in _REPLIES},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": "", "type": "default"},
                "bindingVersion": _AMQP_BINDING,
            }
        },
    }


def _dead_letter_channel() -> _JsonObject:
    return {
        "address": "{routing_key}",
        "title": names.WALLET_DEAD_LETTERS,
        "description": "Messages that no outcome can be given to: the bytes as they came, the reason in the headers.",
        "messages": {"dead-letter": _of_component("dead-letter")},
        "parameters": {"routing_key": {"description": "The routing key that the message had."}},
        "bindings": _exchange_binding(names.WALLET_DEAD_LETTERS, "topic"),
        "x-queue": {"name": names.WALLET_DEAD_LETTERS, "type": "quorum", "durable": True, "binding": "#"},
    }


def _unrouted_channel() -> _JsonObject:
    return {
        "address": None,
        "title": names.WALLET_UNROUTED,
        "description": "Messages that the broker could not route: the alternate exchange of the others.",
        "messages": {"unrouted": _of_component("unrouted")},
        "bindings": _exchange_binding(names.WALLET_UNROUTED, "fanout"),
        "x-queue": {"name": names.WALLET_UNROUTED, "type": "quorum", "durable": True},
    }


def _exchange_binding(name: str, kind: str) -> _JsonObject:
    return {
        "amqp": {
            "is": "routingKey",
            "exchange": {"name": name, "type": kind, "durable": True, "autoDelete": False},
            "bindingVersion": _AMQP_BINDING,
        }
    }


def _operations() -> _JsonObject:
    return {
        "receiveCommand": _operation(
            "receive",
            "commands",
            "Do what a command asks, once, and answer with its outcome.",
            _COMMANDS,
            answers=(commands.Outcome,),
        ),
        "sendPaymentRequest": _operation(
            "send",
            "paymentRequests",
            "Ask the payment gateway to collect, pay out or give back money, or how a payment stands.",
            (payments.PaymentRequest,),
        ),
        "receivePaymentResult": _operation(
            "receive",
            "paymentResults",
            "Take what became of a payment or of a reversal, or how it is paid, and answer what that changed.",
            _RESULTS,
            answers=(payments.PaymentProcessed,),
        ),
        "sendEvent": _operation("send", "events", "Tell what has happened.", events.EVENTS),
        **{
            f"answer{question.__name__}": _operation(
                "receive",
                "queries",
                unwrapped(question.__doc__).partition("\n")[0],
                (question,),
                answers=(answer, queries.QueryRefused),
            )
            for question, answer in _ANSWERS.items()
        },
        "sendDeadLetter": {
            "action": "send",
            "channel": {"$ref": "#/channels/deadLetters"},
            "summary": "Set a message aside for a person.",
            "messages": [{"$ref": "#/channels/deadLetters/messages/dead-letter"}],
            "bindings": _PERSISTENT,
        },
        "receiveUnrouted": {
            "action": "receive",
            "channel": {"$ref": "#/channels/unrouted"},
            "summary": "Keep what the broker could not route.",
            "messages": [{"$ref": "#/channels/unrouted/messages/unrouted"}],
        },
    }


_PERSISTENT: Final[_JsonObject] = {"amqp": {"deliveryMode": 2, "bindingVersion": _AMQP_BINDING}}


def _operation(
    action: str,
    channel: str,
    summary: str,
    messages: Iterable[type[Message]],
    answers: Iterable[type[Message]] = (),
) -> _JsonObject:
    operation: _JsonObject = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [_of_channel(channel, message) for message in messages],
        "bindings": _PERSISTENT,
    }
    if answers:
        operation["reply"] = {
            "address": {
                "location": "$message.header#/reply_to",
                "description": "The AMQP property `reply_to`. Without it there is no answer.",
            },
            "channel": {"$ref": "#/channels/replies"},
            "messages": [_of_channel("replies", answer) for answer in answers],
        }
    return operation


def _message(message: type[Message]) -> _JsonObject:
    signed = message in _RESULTS
    about = unwrapped(message.__doc__)
    return {
        "name": message.TYPE,
        "title": message.__name__,
        "summary": about.partition("\n")[0],
        "description": about,
        "contentType": names.CONTENT_TYPE,
        "headers": {"$ref": f"#/components/schemas/{'signedHeaders' if signed else 'headers'}"},
        "correlationId": {"$ref": "#/components/correlationIds/correlationId"},
        "payload": {"$ref": f"./json/{message.TYPE}.json"},
        "bindings": {"amqp": {"contentEncoding": "utf-8", "bindingVersion": _AMQP_BINDING}},
        "examples": [
            {"headers": _sign(message.model_validate(example)), "payload": example}
            if signed
            else {"payload": example}
            for example in message.examples()
        ],
    }


def _sign(example: Message) -> _JsonObject:
    return {names.SIGNATURE_HEADER: signature.sign(encode(example), EXAMPLE_KEYS, _EXAMPLE_UNIX_SECONDS)}


def _dead_letter() -> _JsonObject:
    return {
        "name": "dead-letter",
        "title": "Dead letter",
        "summary": "A message as it came, with the reason why it could not be dealt with.",
        "description": "The broker dead-letters a message that crashed workers too often, with other headers.",
        "headers": {"$ref": "#/components/schemas/deadLetterHeaders"},
        "payload": {"description": "The original bytes, untouched. They may not be JSON."},
    }


def _unrouted() -> _JsonObject:
    return {
        "name": "unrouted",
        "title": "Unrouted message",
        "summary": "A message as it came, that no binding of its exchange fits.",
        "payload": {"description": "The original bytes, untouched."},
    }


SIGNATURE: Final[_JsonObject] = {
    "type": "string",
    "maxLength": signature.HEADER_LENGTH_MAX,
    "pattern": "^t=[0-9]{1,20}(,kid=[A-Za-z0-9._:-]{1,64}(,v1=[0-9a-fA-F]{64})+)+$",
    "description": "The signature. See `Signing a payment result`.",
}

_DEAD_LETTER_HEADERS: Final[_JsonObject] = {
    names.REASON_HEADER: {"type": "string", "enum": [*map(str, Code)], "description": "The code."},
    names.DETAIL_HEADER: {
        "type": "string",
        "description": f"The reason for a person; at most {names.DETAIL_BYTES_MAX} bytes.",
    },
    names.SOURCE_HEADER: {"type": "string", "description": "The queue that the message was taken from."},
    names.EXCHANGE_HEADER: {
        "type": "string",
        "description": "The exchange that the message was first published to.",
    },
    names.ROUTING_KEY_HEADER: {
        "type": "string",
        "description": "The routing key of that publish.",
    },
    names.ATTEMPTS_HEADER: {"type": "integer", "minimum": 1, "description": "Attempts to apply the message."},
    names.FIRST_SEEN_HEADER: {
        "type": "string",
        "format": "date-time",
        "description": "When it was first taken from the queue.",
    },
    names.WORKER_HEADER: {"type": "string", "description": "The version and the instance of the worker."},
    names.SENDER_HEADER: {
        "type": "string",
        "description": "Who sent it: the `user_id` that the broker has verified, and the client behind the HTTP API.",
    },
    names.SEAL_HEADER: {
        "type": "string",
        "description": "The worker's proof that it has set the message aside: `kid=<key id>,v1=<hex>`.",
    },
}


def _headers(properties: _JsonObject, required: Sequence[str] = ()) -> _JsonObject:
    carried: _JsonObject = {
        names.TRACEPARENT_HEADER: {
            "type": "string",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
            "description": "W3C Trace Context; answers, events and requests carry that of their cause.",
        },
        names.REPLAY_ID_HEADER: {
            "type": "string",
            "description": "On replays only: the id of the replay.",
        },
        names.REPLAY_COUNT_HEADER: {
            "type": "integer",
            "minimum": 1,
            "description": "On replays only: how often the message was replayed.",
        },
    }
    found: _JsonObject = {"type": "object", "properties": properties | carried}
    return found | {"required": list(required)} if required else found


def _of_component(name: str) -> _JsonObject:
    return {"$ref": f"#/components/messages/{name}"}


def _of_channel(channel: str, message: type[Message]) -> _JsonObject:
    return {"$ref": f"#/channels/{channel}/messages/{message.TYPE}"}
