"""The OpenAPI document: every operation over HTTP, with every status that it may have and an example of each."""

import inspect
from copy import deepcopy
from typing import Any, Final

from wallet_schemas import commands, names, payments, queries
from wallet_schemas.asyncapi import unwrapped
from wallet_schemas.codes import Code
from wallet_schemas.http import (
    ANY_COMMAND,
    APPLIED,
    CHANGES,
    DELIVERIES_PATH,
    EVENT_STREAM_TYPE,
    EVENTS_PATH,
    OPERATIONS,
    PAYMENT_RESULTS_PATH,
    PROBLEM_TYPE,
    WAIT_SECONDS_MAX,
    WEBHOOKS,
    WEBHOOKS_PATH,
    AnyCode,
    ApiClient,
    ApiCode,
    CommandAccepted,
    EventPage,
    HttpOperation,
    PaymentAccepted,
    Problem,
    problem_type,
    retry_of,
)
from wallet_schemas.json_schema import component_schemas
from wallet_schemas.message import JsonObject, Message
from wallet_schemas.parse import RESULTS

_Json = dict[str, Any]

VERSION: Final = "3.1.1"
_REQUEST_ID: Final = "019b7d4c-7001-7d10-8a3b-0f6f5b1c2d3e"

_ABOUT: Final = """
The wallet keeps the accounts of users, moves money between them and the payment gateway, and says what it did. This
is its face over HTTP; over AMQP the same messages travel, see the AsyncAPI document.

## One number for one intent
Every change has a serial number: `serial_no` in the body, or `Idempotency-Key` in the header, and equal if both are
there. Choose the number, store it, then send. It is unique for ever and for the whole wallet. The same request again is
answered with the stored outcome (`duplicate` true, `Idempotent-Replayed: true`), also while the first is under way.

## What a status says
Anything but 200, 201, 400 to 415 and 422: send exactly the same again, with the same number, until it is one of those.

| status | says | the number |
|---|---|---|
| 200, 201 | done, for ever; a recharge, withdrawal or refund is accepted, and its order `pending` | used |
| 202 | the broker has the command on disk, without an outcome yet: see `Location`, or the same again | will be used |
| 400 to 415 | not read, or not allowed: mend it | unused |
| 422 | the wallet has decided, and it is a no, for ever | used |
| 429 | the quota of this key: the same again, later | unused |
| 500, 504 | it is not known what was done: the same again | unknown |
| 503 | not sent: the same again | unused |

What is no HTTP at all is answered with 400 before anybody reads it. A request with headers above 32 KiB gets 431,
and one with an address above 8 KiB 414.

## Amounts
Decimal strings such as `"100.00"`, with at most as many digits after the point as ISO 4217 gives the currency (JPY 0,
TWD 2, KWD 3), which a JSON Schema cannot say; a JSON number is malformed.

## Keys
`Authorization: Bearer wk_…`. A key has scopes, and perhaps a prefix of the users and of the serial numbers that it may
name. Payment results have no key: their signature is one.
"""

_TAGS: Final = {
    "accounts": "Opening, freezing and closing accounts, and looking at them.",
    "orders": "Moving money, and looking at what became of it.",
    "payments": "What the payment gateway says.",
    "events": "What the wallet did, as it happens: read, or posted to webhooks.",
    "api": "The API itself.",
}

_CLASSES: Final[tuple[type[JsonObject], ...]] = (
    *ANY_COMMAND.takes,
    commands.Outcome,
    CommandAccepted,
    queries.AccountList,
    queries.OrderDetail,
    queries.OrderList,
    queries.Statement,
    queries.History,
    *RESULTS.values(),
    payments.PaymentProcessed,
    PaymentAccepted,
    ApiClient,
    EventPage,
    *(message for operation in WEBHOOKS for message in (*operation.takes, *operation.answers)),
    Problem,
    *(message for operation in OPERATIONS if operation.method == "GET" for message in operation.takes),
)

_ALWAYS: Final = (ApiCode.UNAUTHENTICATED, ApiCode.FORBIDDEN, ApiCode.QUOTA_EXCEEDED, ApiCode.FAULT)
_OF_CHANGES: Final[dict[int, tuple[AnyCode, ...]]] = {
    400: (Code.MALFORMED, ApiCode.SERIAL_NO_MISSING, ApiCode.SERIAL_NO_DIFFERS, ApiCode.TYPE_DIFFERS),
    401: (ApiCode.UNAUTHENTICATED,),
    403: (ApiCode.FORBIDDEN, ApiCode.USER_OUT_OF_REACH, ApiCode.SERIAL_NO_PREFIX),
    408: (ApiCode.READ_TIMEOUT,),
    413: (ApiCode.TOO_LARGE,),
    415: (ApiCode.MEDIA_TYPE,),
    422: (Code.INSUFFICIENT_BALANCE, Code.SERIAL_CONFLICT),
    429: (ApiCode.QUOTA_EXCEEDED,),
    500: (ApiCode.FAULT,),
    503: (ApiCode.NOT_SENT, ApiCode.OVERLOADED, ApiCode.DATABASE_AWAY, ApiCode.STOPPING),
    504: (ApiCode.OUTCOME_UNKNOWN,),
}
_OF_LOOKS: Final[dict[int, tuple[AnyCode, ...]]] = {
    400: (Code.MALFORMED, ApiCode.PARAMETER_UNKNOWN, ApiCode.PARAMETER_MISSING, ApiCode.PARAMETER_REPEATED),
    401: (ApiCode.UNAUTHENTICATED,),
    403: (ApiCode.FORBIDDEN, ApiCode.USER_OUT_OF_REACH),
    429: (ApiCode.QUOTA_EXCEEDED,),
    500: (ApiCode.FAULT,),
    503: (ApiCode.DATABASE_AWAY,),
}
_OF_PAYMENTS: Final[dict[int, tuple[AnyCode, ...]]] = {
    401: (Code.BAD_SIGNATURE,),
    408: (ApiCode.READ_TIMEOUT,),
    413: (ApiCode.TOO_LARGE,),
    500: (ApiCode.FAULT,),
    503: (ApiCode.NOT_SENT, ApiCode.OVERLOADED, ApiCode.STOPPING),
    504: (ApiCode.OUTCOME_UNKNOWN,),
}
_CREATED: Final = 201
_OF_WEBHOOKS: Final[dict[int, tuple[AnyCode, ...]]] = {
    400: (Code.MALFORMED,),
    401: (ApiCode.UNAUTHENTICATED,),
    403: (ApiCode.FORBIDDEN,),
    408: (ApiCode.READ_TIMEOUT,),
    413: (ApiCode.TOO_LARGE,),
    415: (ApiCode.MEDIA_TYPE,),
    429: (ApiCode.QUOTA_EXCEEDED,),
    500: (ApiCode.FAULT,),
    503: (ApiCode.DATABASE_AWAY,),
}
_WEBHOOK_ENDS: Final[dict[int, tuple[AnyCode, ...]]] = {
    404: (ApiCode.WEBHOOK_NOT_FOUND,),
    422: (ApiCode.WEBHOOK_EXISTS,),
}
_NOT_FOUND: Final[dict[str, AnyCode]] = {
    DELIVERIES_PATH: ApiCode.WEBHOOK_NOT_FOUND,
    "/v1/orders": Code.ORDER_NOT_FOUND,
    "/v1/outcomes": ApiCode.OUTCOME_NOT_KNOWN,
    "/v1/statements": Code.ACCOUNT_NOT_FOUND,
    "/v1/history": Code.ACCOUNT_NOT_FOUND,
}
_OF_EVENTS: Final[dict[int, tuple[AnyCode, ...]]] = {
    410: (ApiCode.CURSOR_EXPIRED,),
    503: (ApiCode.EVENTS_AWAY, ApiCode.DATABASE_AWAY),
}
_WAITS: Final = frozenset({"/v1/orders", "/v1/outcomes", EVENTS_PATH})
_PAYS: Final = frozenset(
    command for operation in CHANGES for command in operation.takes if command.TYPE.startswith("order.")
)


def document() -> _Json:
    """Return the whole document."""
    schemas = component_schemas(_CLASSES)
    for operation in CHANGES:
        name = f"{operation.takes[0].__name__}Request"
        schemas[name] = _request(schemas[operation.takes[-1].__name__], operation)
    for operation in WEBHOOKS:
        if operation.method == "POST":
            taken = schemas.pop(operation.takes[0].__name__)
            schemas[f"{operation.takes[0].__name__}Request"] = _request(taken, operation)
    paths: _Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = (
            _look(operation, schemas)
            if operation.method == "GET"
            else _manage(operation)
            if operation in WEBHOOKS
            else _change(operation)
        )
    paths[PAYMENT_RESULTS_PATH] = {"post": _payment_result()}
    for message in (
        kind for operation in OPERATIONS if operation.method == "GET" for kind in operation.takes
    ):
        schemas.pop(message.__name__, None)
    return {
        "openapi": VERSION,
        "info": {
            "title": "Wallet",
            "version": "1.0.0",
            "description": inspect.cleandoc(_ABOUT) + "\n",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Where this document was fetched."}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `wallet api key add`.",
                },
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": names.SIGNATURE_HEADER,
                    "description": "The gateway's signature over the bytes of the body: "
                    "`t=<unix seconds>,kid=<key id>,v1=<hex HMAC-SHA256>`.",
                },
            },
            "parameters": _parameters(),
            "responses": _responses(),
            "headers": _headers(),
        },
    }


def _ref(kind: str, name: str) -> _Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _request(schema: _Json, operation: HttpOperation) -> _Json:
    """Return a command's schema as its path takes it: without `type` and `serial_no`, if they are left out.

    `schema` is that of its newest version, which has all the fields of those before.
    """
    found = deepcopy(schema)
    found["title"] = f"{operation.takes[0].__name__}Request"
    found["required"] = [name for name in found["required"] if name not in {"type", "serial_no"}]
    if len(operation.takes) > 1:
        found["properties"]["type"] = {"enum": [kind.TYPE for kind in operation.takes], "type": "string"}
    for example in found.get("examples", ()):
        example.pop("type")
    return found


def _roles(operation: HttpOperation) -> list[str]:
    return sorted(scope.value for scope in operation.scopes)


def _tag(path: str) -> str:
    if path.startswith(("/v1/accounts", "/v1/statements", "/v1/history")):
        return "accounts"
    if path == EVENTS_PATH or path.startswith((WEBHOOKS_PATH, DELIVERIES_PATH)):
        return "events"
    return "api" if path == "/v1/client" else "orders"


def _change(operation: HttpOperation) -> _Json:
    is_any = operation is ANY_COMMAND
    takes = [command.__name__ for command in operation.takes]
    body: _Json = (
        {
            "oneOf": [_ref("schemas", name) for name in takes],
            "discriminator": {
                "propertyName": "type",
                "mapping": {
                    command.TYPE: f"#/components/schemas/{command.__name__}" for command in operation.takes
                },
            },
        }
        if is_any
        else _ref("schemas", f"{takes[0]}Request")
    )
    described = (
        unwrapped(None if is_any else operation.takes[0].__doc__).removeprefix(operation.summary).strip()
    )
    statuses = sorted({APPLIED[command] for command in operation.takes})
    return {
        "operationId": operation.name,
        "tags": [_tag(operation.path)],
        "summary": operation.summary,
        **({"description": described} if described else {}),
        "parameters": [
            _ref("parameters", "IdempotencyKey"),
            _ref("parameters", "Prefer"),
            _ref("parameters", "RequestId"),
            _ref("parameters", "Traceparent"),
        ],
        "requestBody": {"required": True, "content": {names.CONTENT_TYPE: {"schema": body}}},
        "responses": {
            **{str(status): _applied(operation, status) for status in statuses},
            "202": {
                "description": "The broker has the command on disk, and there is no outcome yet.",
                "headers": _descriptions("Location", "RetryAfter", "RequestId"),
                "content": _content(CommandAccepted, CommandAccepted.examples()[0]),
            },
            **_problems(_OF_CHANGES),
        },
        "security": [{"apiKey": _roles(operation) if not is_any else []}],
    }


def _manage(operation: HttpOperation) -> _Json:
    """Return an operation on the client's webhooks."""
    problems = dict(_OF_WEBHOOKS)
    if operation.applied == _CREATED:
        problems[422] = (ApiCode.WEBHOOK_EXISTS,)
    else:
        problems[404] = (ApiCode.WEBHOOK_NOT_FOUND,)
    answer = operation.answers[0]
    return {
        "operationId": operation.name,
        "tags": ["events"],
        "summary": operation.summary,
        "parameters": [_ref("parameters", "RequestId")],
        "requestBody": {
            "required": True,
            "content": {
                names.CONTENT_TYPE: {"schema": _ref("schemas", f"{operation.takes[0].__name__}Request")}
            },
        },
        "responses": {
            str(operation.applied): {
                "description": "It was done.",
                "headers": _descriptions("RequestId"),
                "content": _content(answer, answer.examples()[0]),
            },
            **_problems(dict(sorted(problems.items()))),
        },
        "security": [{"apiKey": _roles(operation)}],
    }


def _applied(operation: HttpOperation, status: int) -> _Json:
    takes = [command for command in operation.takes if APPLIED[command] == status]
    schema: _Json = _ref("schemas", "Outcome")
    if _PAYS & set(takes):
        schema = {"anyOf": [schema, _ref("schemas", "OrderDetail")]}
    return {
        "description": "It was done, now or when the number came first"
        + (
            "; where `Prefer: return=representation` is given, the order instead of the outcome."
            if "anyOf" in schema
            else "."
        ),
        "headers": _descriptions("Location", "IdempotentReplayed", "PreferenceApplied", "RequestId"),
        "content": {names.CONTENT_TYPE: {"schema": schema, "example": _outcome_of(takes[0])}},
    }


def _outcome_of(command: type[Message]) -> _Json:
    """Return an example of an outcome that the command may have."""
    mark = {
        commands.OpenAccount: "account_no",
        commands.Recharge: "recharge_type",
    }.get(command, "order_id" if command in _PAYS else "balance")
    return (
        next(
            example
            for example in commands.Outcome.examples()
            if mark in example["result"] and not example["duplicate"]
        )
        if mark != "recharge_type"
        else {
            **next(example for example in commands.Outcome.examples() if mark in example["result"]),
            "duplicate": False,
        }
    )


def _look(operation: HttpOperation, schemas: _Json) -> _Json:
    parameters = [*_query_parameters(operation, schemas), _ref("parameters", "RequestId")]
    if operation.path in _WAITS:
        parameters.append(_ref("parameters", "Prefer"))
    answers = [answer.__name__ for answer in operation.answers]
    schema = (
        _ref("schemas", answers[0])
        if len(answers) == 1
        else {"oneOf": [_ref("schemas", name) for name in answers]}
    )
    problems = dict(_OF_LOOKS)
    if operation.path in _NOT_FOUND:
        problems[404] = (_NOT_FOUND[operation.path],)
    if operation.path == EVENTS_PATH:
        problems |= _OF_EVENTS
        parameters.append(_ref("parameters", "LastEventId"))
    return {
        "operationId": operation.name,
        "tags": [_tag(operation.path)],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "What there is.",
                "headers": _descriptions("Link", "PreferenceApplied", "RequestId"),
                "content": {
                    names.CONTENT_TYPE: {"schema": schema, "example": operation.answers[0].examples()[0]}
                }
                | (_EVENT_STREAM if operation.path == EVENTS_PATH else {}),
            },
            **_problems(dict(sorted(problems.items()))),
        },
        "security": [{"apiKey": _roles(operation)}],
    }


_EVENT_STREAM: Final[_Json] = {
    EVENT_STREAM_TYPE: {
        "schema": {
            "type": "string",
            "description": "Server-sent events, where `Accept` asks for them: `id` is the cursor, `event` the type, "
            "`data` the event. A comment comes every 15 seconds.",
        }
    }
}


def _query_parameters(operation: HttpOperation, schemas: _Json) -> list[_Json]:
    """Return what the messages of a GET take, as parameters; required is what all of them require."""
    found: dict[str, _Json] = {}
    required: list[set[str]] = []
    for message in operation.takes:
        schema = schemas[message.__name__]
        required.append(set(schema.get("required", ())))
        for name, field in schema["properties"].items():
            if name == "type":
                continue
            plain = _without_null(field)
            description = plain.pop("description", None)
            parameter: _Json = {"name": name, "in": "query"}
            if description:
                parameter["description"] = description
            if plain.get("type") == "array":
                parameter |= {"style": "form", "explode": False}
            if name == "metadata":
                parameter |= {"name": "metadata.NAME", "example": "C-778"}
                plain = {"type": "string"}
            found[name] = parameter | {"schema": plain}
    for name in set.intersection(*required) if required else ():
        if name in found:
            found[name]["required"] = True
    return [parameter for name, parameter in found.items() if name != "metadata"]


def _without_null(field: _Json) -> _Json:
    """Return the schema of a field as a parameter has it: one that is left out is not there, and never null."""
    found = deepcopy(field)
    kinds = [kind for kind in found.get("anyOf", ()) if kind.get("type") != "null"]
    if len(kinds) == 1:
        del found["anyOf"]
        found = kinds[0] | found
    return found


def _payment_result() -> _Json:
    return {
        "operationId": "reportPaymentResult",
        "tags": ["payments"],
        "summary": "Say what became of a payment, or of a dispute, recall or return.",
        "description": "The signature is checked over the bytes as they come, before they are parsed. What is "
        "signed and wrong is answered with 200 and `refused`: an operator has it, and repeating it changes nothing. "
        "What comes before its order waits for it, and is answered with 202.",
        "parameters": [
            _ref("parameters", "Prefer"),
            _ref("parameters", "RequestId"),
            _ref("parameters", "Traceparent"),
        ],
        "requestBody": {
            "required": True,
            "content": {
                names.CONTENT_TYPE: {
                    "schema": {"oneOf": [_ref("schemas", message.__name__) for message in RESULTS.values()]}
                }
            },
        },
        "responses": {
            "200": {
                "description": "What became of it.",
                "headers": _descriptions("RequestId"),
                "content": _content(payments.PaymentProcessed, payments.PaymentProcessed.examples()[0]),
            },
            "202": {
                "description": "The broker has it on disk, and it is not processed yet.",
                "headers": _descriptions("RetryAfter", "RequestId"),
                "content": _content(PaymentAccepted, PaymentAccepted.examples()[0]),
            },
            **_problems(_OF_PAYMENTS),
        },
        "security": [{"signature": []}],
    }


def _content(message: type[Message], example: _Json) -> _Json:
    return {names.CONTENT_TYPE: {"schema": _ref("schemas", message.__name__), "example": example}}


def _problems(codes: dict[int, tuple[AnyCode, ...]]) -> _Json:
    """Return references to the problems of these statuses: each stands once in the document."""
    return {str(status): _ref("responses", _named(status, found)) for status, found in codes.items()}


def _named(status: int, codes: tuple[AnyCode, ...]) -> str:
    words = codes[0].value.title().replace("_", "")
    return f"Problem{status}{words}{len(codes) if len(codes) > 1 else ''}"


def _responses() -> _Json:
    """Return every problem that an operation refers to."""
    not_found: list[dict[int, tuple[AnyCode, ...]]] = [{404: (code,)} for code in _NOT_FOUND.values()]
    every = [_OF_CHANGES, _OF_LOOKS, _OF_PAYMENTS, _OF_EVENTS, _OF_WEBHOOKS, _WEBHOOK_ENDS, *not_found]
    return {
        _named(status, codes): _problem(status, codes) for some in every for status, codes in some.items()
    }


def _problem(status: int, codes: tuple[AnyCode, ...]) -> _Json:
    headers = ["RequestId"]
    if status in {429, 503, 504}:
        headers.append("RetryAfter")
    if status == 401:  # noqa: PLR2004 -- the status itself
        headers.append("WwwAuthenticate")
    return {
        "description": "; ".join(f"`{code.value}`: {code.meaning}" for code in codes) + ".",
        "headers": _descriptions(*headers),
        "content": {
            PROBLEM_TYPE: {
                "schema": _ref("schemas", "Problem"),
                "examples": {
                    code.value: {
                        "value": {
                            "type": problem_type(code),
                            "title": code.meaning,
                            "status": status,
                            "code": code.value,
                            "retry": retry_of(code, status).value,
                            "request_id": _REQUEST_ID,
                        }
                    }
                    for code in codes
                },
            }
        },
    }


def _descriptions(*named: str) -> _Json:
    return {_HEADER_NAMES[name]: _ref("headers", name) for name in named}


_HEADER_NAMES: Final = {
    "Location": "location",
    "RetryAfter": "retry-after",
    "IdempotentReplayed": "idempotent-replayed",
    "PreferenceApplied": "preference-applied",
    "RequestId": "x-request-id",
    "Link": "link",
    "WwwAuthenticate": "www-authenticate",
}


def _headers() -> _Json:
    text: _Json = {"schema": {"type": "string"}}
    return {
        "Location": {"description": "Where to look for what became of it.", **text},
        "RetryAfter": {
            "description": "In how many seconds to try again.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 60},
        },
        "IdempotentReplayed": {
            "description": "There where the stored outcome is repeated.",
            "schema": {"type": "string", "const": "true"},
        },
        "PreferenceApplied": {"description": "Which preference was followed.", **text},
        "RequestId": {"description": "The request, as the log has it.", **text},
        "Link": {"description": 'The next page, as `<…>; rel="next"`, where there is one.', **text},
        "WwwAuthenticate": {"description": "How to prove who one is.", **text},
    }


def _parameters() -> _Json:
    return {
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The serial number, where the body has none. Bare, or in quotes.",
            "schema": {"type": "string", "pattern": r'^("[A-Za-z0-9._:-]{1,64}"|[A-Za-z0-9._:-]{1,64})$'},
            "example": "R-20260102-000001",
        },
        "Prefer": {
            "name": "Prefer",
            "in": "header",
            "description": f"`wait=N`: how many seconds to wait, at most {WAIT_SECONDS_MAX}. Of changes also "
            "`respond-async`: answer as soon as the broker has it; of orders `return=representation`: answer with the "
            "order, once its payer can be told how to pay, or it waits for no payment, or the time is over. Of "
            "looking at an order also `until=settled`: do not answer before its payment has ended or the time is over.",
            "schema": {"type": "string"},
            "example": "wait=1",
        },
        "LastEventId": {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "Of server-sent events: the cursor to go on after, instead of `after`. Browsers send it.",
            "schema": {"type": "string"},
        },
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "A name for this request, of 1 to 64 letters, digits and . _ -; else the API chooses one.",
            "schema": {"type": "string"},
        },
        "Traceparent": {
            "name": "traceparent",
            "in": "header",
            "description": "W3C Trace Context, carried through.",
            "schema": {"type": "string"},
        },
    }
