"""What each field takes and refuses, by model and by JSON Schema alike."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar

import jsonschema
import pytest
from pydantic import ValidationError

from tests.rules.contract import bodies
from tests.rules.contract.bodies import JsonObject
from wallet_schemas import commands, events, generate, json_schema, money, names, payments, queries
from wallet_schemas.codes import Code
from wallet_schemas.encode import encode
from wallet_schemas.message import Message
from wallet_schemas.parse import COMMANDS, QUERIES, RESULTS, Malformed, parse
from wallet_schemas.values import (
    AccountStatus,
    Direction,
    OrderStatus,
    OrderType,
    OutcomeStatus,
    PaymentKind,
    PaymentStatus,
    ProcessingStatus,
)

ACCEPTED = {**COMMANDS, **RESULTS, **QUERIES}

M = TypeVar("M", bound=Message)


def example(message: type[M], number: int = 0, **changes: Any) -> M:
    return message.model_validate({**message.examples()[number], **changes})


def schema_takes(spoilt: JsonObject) -> bool:
    schema = json_schema.json_schema(ACCEPTED[spoilt["type"]])
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(spoilt)


IDENTIFIERS_REFUSED: list[object] = ["", "R 1", "R/1", "é", "R" * 65, 1, None, ["R-1"], {"a": 1}, True]
USERS_REFUSED: list[object] = [*IDENTIFIERS_REFUSED, "-", "@a", "+1", ".a", "_a", ":a", "a@b c"]
NAMES_REFUSED: list[object] = ["", "Basic", "1basic", "a-b", "a b", "b" * 33, 1, True]
CURRENCIES_REFUSED: list[object] = ["", "twd", "TW", "TWDX", "\uff34\uff37\uff24", "TW1", 901, None, ["TWD"]]
AMOUNTS_REFUSED: list[object] = [
    *("1e3", "-1", "+1", "0", "0.00", "000", "", ".", "1.", ".5", "1,00", "1,000.00", "1.0.0"),
    *(" 1", "1 ", "0x10", "1_000", "\uff11\uff10\uff10", "NaN", "Infinity", "TWD 1", "9" * 65),
    *(100, 100.0, 0, -1, None, True, ["100.00"], {"value": "100.00"}),
]
TIMES_REFUSED: list[object] = [
    *("", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-01-02T03:04Z"),
    *("2026-01-02T03:04:05.Z", "2026-01-02T03:04:05,1Z", "2026-W01-5T00:00:00Z", "20260102T030405Z"),
    *("2026-01-02T24:00:00Z", "2026-01-02T03:60:00Z", "2026-01-02T03:04:61Z", "2026-01-02T03:04:05 Z"),
    *("2026-01-02T03:04:05+24:00", "2026-01-02T03:04:05+08:60", "2026-01-02T03:04:05+0800"),
    *("2026-01-02T03:04:05+8", "2026-01-02T03:04:05+08:00:00", "2026-01-02T03:04:05\u221208:00"),
    *(1767323045, 1767323045.5, True, ["2026-01-02T03:04:05Z"]),
]
METADATA_REFUSED: list[object] = [
    *([], "x", 1, True),
    *({"a": 1}, {"a": None}, {"a": ["b"]}, {"a": {"b": "c"}}, {"a": True}),
    {f"k{number}": "v" for number in range(21)},
]

SECONDS_REFUSED: list[object] = [0, -1, 31_536_001, 3_153_600_000, 2**63, "3600", 1.5, None, True, [3600]]
REASONS_REFUSED: list[object] = ["", "x" * 501, "a\0b", 5, None, True, ["why"], {"why": "so"}]

# What the fields of commands refuse, wherever a command has them.
BY_FIELD: dict[str, list[object]] = {
    "serial_no": IDENTIFIERS_REFUSED,
    "user_id": USERS_REFUSED,
    "to_user_id": USERS_REFUSED,
    "original_serial_no": IDENTIFIERS_REFUSED,
    "hold_serial_no": IDENTIFIERS_REFUSED,
    "account_type": [*NAMES_REFUSED, None],
    "to_account_type": [*NAMES_REFUSED, None],
    "recharge_type": [*NAMES_REFUSED, None],
    "payout_type": [*NAMES_REFUSED, None],
    "amount": AMOUNTS_REFUSED,
    "currency": CURRENCIES_REFUSED,
    "expires_in_seconds": SECONDS_REFUSED,
    "reason": REASONS_REFUSED,
    "metadata": METADATA_REFUSED,
    "valid_until": TIMES_REFUSED,
    "target_serial_no": IDENTIFIERS_REFUSED,
    "instrument": [
        *("", "a b", "4111111111111111", "123456789012", "1" * 19, "i" * 129, "p/m", 1, True, ["pm"]),
    ],
    "return_url": [
        *(
            "http://shop.example/",
            "javascript:alert(1)",
            "https:/shop.example",
            "https://",
            "data:text/html,x",
        ),
        *(
            "https://shop.example/a b",
            "https://shop.example/\u00e9",
            "https://shop.example/\n?a=b",
            " https://a.example",
        ),
        *("https://" + "a" * 505, 1, True, ["https://shop.example/"]),
    ],
}

# Fields that other commands have, and these do not.
FOREIGN: list[tuple[JsonObject, str, list[object]]] = [
    (bodies.OPEN, "amount", ["1.00"]),
    (bodies.OPEN, "reason", ["why"]),
    (bodies.CLOSE, "amount", ["1.00"]),
    (bodies.CLOSE, "account_no", ["2026010204815162347"]),
    (bodies.RECHARGE, "payout_type", ["card"]),
    (bodies.WITHDRAW, "recharge_type", ["card"]),
    (bodies.WITHDRAW, "expires_in_seconds", [1]),
    (bodies.TRANSFER, "to_currency", ["USD"]),
    (bodies.REFUND, "user_id", ["u-1"]),
    (bodies.HOLD, "expires_at", ["2026-01-02T03:04:05Z"]),
    (bodies.CAPTURE, "user_id", ["u-1"]),
    (bodies.RELEASE, "amount", ["1.00"]),
]

REFUSED: list[tuple[JsonObject, str, list[object]]] = [
    *(
        (command, field, BY_FIELD[field])
        for command in bodies.COMMANDS
        for field in (*command, "metadata")
        if field != "type" and (command, field) != (bodies.CANCEL, "reason")
    ),
    *FOREIGN,
    # Of a cancel the reason may be left out, which null is, too.
    (bodies.CANCEL, "reason", [reason for reason in REASONS_REFUSED if reason is not None]),
    (bodies.RESULT, "payment_order_no", IDENTIFIERS_REFUSED),
    (bodies.RESULT, "amount", AMOUNTS_REFUSED),
    (bodies.RESULT, "currency", CURRENCIES_REFUSED),
    (bodies.RESULT, "status", ["", "paid", "SUCCEEDED", 1, None, True]),
    (bodies.RESULT, "gateway_ref", ["", "g" * 65, "g\0", 1, None]),
    (bodies.RESULT, "reason", ["a\0b", 5, True, []]),
    (bodies.RESULT, "occurred_at", [*TIMES_REFUSED, None]),
    (bodies.RESULT, "serial_no", ["R-1"]),
    (bodies.GET_ACCOUNT, "user_id", IDENTIFIERS_REFUSED),
    (bodies.GET_ACCOUNT, "account_type", NAMES_REFUSED),
    (bodies.GET_ACCOUNT, "currency", ["", "twd", "TWDX", 901]),
    (bodies.GET_ORDER, "serial_no", IDENTIFIERS_REFUSED),
    (bodies.GET_STATEMENT, "user_id", IDENTIFIERS_REFUSED),
    (bodies.GET_STATEMENT, "account_type", [*NAMES_REFUSED, None]),
    (bodies.GET_STATEMENT, "currency", CURRENCIES_REFUSED),
    (bodies.GET_STATEMENT, "from", TIMES_REFUSED),
    (bodies.GET_STATEMENT, "to", TIMES_REFUSED),
    (bodies.GET_STATEMENT, "after_line_no", [-1, 2**63, "1", 1.5, True]),
    (bodies.GET_STATEMENT, "limit", [0, -1, 1_001, "100", 1.5, True, None]),
    (bodies.GET_STATEMENT, "from_time", ["2026-01-02T03:04:05Z"]),
]


@pytest.mark.parametrize(
    ("good", "field", "value"),
    [
        pytest.param(good, field, value, id=f"{good['type']}-{field}-{value!r:.30}")
        for good, field, values in REFUSED
        for value in values
    ],
)
def test_a_bad_value_is_refused_by_model_and_by_schema(good: JsonObject, field: str, value: object) -> None:
    spoilt = {**good, field: value}

    with pytest.raises(Malformed) as refused:
        parse(bodies.body(spoilt), ACCEPTED)

    # What json.loads lets through as text but PostgreSQL could not store is a fault of the whole body.
    assert [fault.field.partition(".")[0] for fault in refused.value.faults][:1] in ([field], [""])
    assert not schema_takes(spoilt)


BEYOND_THE_SCHEMA: list[tuple[JsonObject, str, dict[str, object]]] = [
    (bodies.WITHDRAW, "amount", {"amount": "1.001"}),
    (bodies.TRANSFER, "amount", {"amount": "1.0", "currency": "JPY"}),
    (bodies.REFUND, "amount", {"amount": "1.001"}),
    (bodies.HOLD, "amount", {"amount": "1.0001", "currency": "KWD"}),
    (bodies.CAPTURE, "amount", {"amount": "1.000"}),
    (bodies.HOLD, "expires_in_seconds", {"expires_in_seconds": 1.0}),
    (bodies.CLOSE, "metadata", {"metadata": {"a": "x" * 2_048}}),
    (bodies.RELEASE, "hold_serial_no", {"hold_serial_no": "H-1\n"}),
    (bodies.RECHARGE, "amount", {"amount": "1.001"}),
    (bodies.RECHARGE, "amount", {"amount": "1.000"}),
    (bodies.RECHARGE, "amount", {"amount": "1.0", "currency": "JPY"}),
    (bodies.RECHARGE, "amount", {"amount": "1.0001", "currency": "KWD"}),
    (bodies.RESULT, "amount", {"amount": "1.001"}),
    (bodies.RESULT, "amount", {"amount": "1.0", "currency": "JPY"}),
    (bodies.RESULT, "occurred_at", {"occurred_at": "2016-12-31T12:00:60Z"}),
    (bodies.RESULT, "occurred_at", {"occurred_at": "0000-01-02T03:04:05Z"}),
    (bodies.RESULT, "occurred_at", {"occurred_at": "2026-02-30T03:04:05Z"}),
    (bodies.RECHARGE, "metadata", {"metadata": {"a": "x" * 2_048}}),
    (bodies.RECHARGE, "metadata", {"metadata": {"ab": "界" * 682 + "é"}}),
    (bodies.RECHARGE, "serial_no", {"serial_no": "R-1\n"}),
    (bodies.RECHARGE, "amount", {"amount": "100\n"}),
]


@pytest.mark.parametrize(("good", "field", "changes"), BEYOND_THE_SCHEMA)
def test_what_the_schema_only_describes_is_refused_by_the_model(
    good: JsonObject, field: str, changes: dict[str, object]
) -> None:
    with pytest.raises(Malformed) as refused:
        parse(bodies.body({**good, **changes}), ACCEPTED)

    assert [fault.field for fault in refused.value.faults] == [field]


TAKEN: list[tuple[JsonObject, dict[str, object]]] = [
    (bodies.OPEN, {"serial_no": "A" * 64}),
    (bodies.OPEN, {"serial_no": "aZ09._:-"}),
    (bodies.OPEN, {"user_id": "alice+shop@example.com"}),
    (bodies.OPEN, {"account_type": "a" + "_" * 31}),
    (bodies.OPEN, {"currency": "XYZ"}),
    (bodies.OPEN, {"metadata": {}}),
    (bodies.OPEN, {"metadata": None}),
    (bodies.OPEN, {"metadata": {f"k{number}": "v" for number in range(20)}}),
    (bodies.OPEN, {"metadata": {"a": "x" * 2_047}}),
    (bodies.OPEN, {"metadata": {"": "", "店": "儲值 \n\t\x7f 🎉"}}),
    (bodies.RECHARGE, {"amount": "9" * 64}),
    (bodies.RECHARGE, {"amount": "9" * 30}),
    (bodies.RECHARGE, {"amount": "007"}),
    (bodies.RECHARGE, {"amount": "0.01"}),
    (bodies.RECHARGE, {"amount": "100.5"}),
    (bodies.RECHARGE, {"amount": "1.234", "currency": "KWD"}),
    (bodies.RECHARGE, {"amount": "1.23456", "currency": "XYZ"}),
    (bodies.RECHARGE, {"amount": "100", "currency": "JPY"}),
    (bodies.RECHARGE, {"recharge_type": "sandbox_declined"}),
    (bodies.FREEZE, {"reason": "x"}),
    (bodies.FREEZE, {"reason": "警" * 500}),
    (bodies.UNFREEZE, {"reason": "'; DROP TABLE accounts; -- \n\t 🎉"}),
    (bodies.CLOSE, {"currency": "XYZ", "metadata": None}),
    (bodies.WITHDRAW, {"amount": "100", "currency": "JPY", "payout_type": "cash_2"}),
    (bodies.TRANSFER, {"to_user_id": "u-1", "to_account_type": "savings"}),
    (bodies.TRANSFER, {"to_user_id": "u-1"}),
    (bodies.REFUND, {"original_serial_no": "RF-1"}),
    (bodies.HOLD, {"expires_in_seconds": 1}),
    (bodies.HOLD, {"expires_in_seconds": 31_536_000}),
    (bodies.CAPTURE, {"amount": "9" * 64, "to_user_id": "0-@+"}),
    (bodies.RELEASE, {"hold_serial_no": "H" * 64, "metadata": {}}),
    (bodies.RESULT, {"status": "failed", "reason": "card declined"}),
    (bodies.RESULT, {"status": "unknown", "reason": None}),
    (bodies.RESULT, {"reason": "é" * 10_000}),
    (bodies.RESULT, {"gateway_ref": "界" * 64}),
    (bodies.RESULT, {"occurred_at": "2026-01-02T03:04:05.1Z"}),
    (bodies.RESULT, {"occurred_at": "2026-01-02T03:04:05.1234567Z"}),
    (bodies.RESULT, {"occurred_at": "2026-01-02T11:04:05.123456789+08:00"}),
    (bodies.GET_STATEMENT, {"from": "2026-01-01T00:00:00-00:00", "to": "2026-02-01t00:00:00.000000000z"}),
    (bodies.RESULT, {"occurred_at": "2024-02-29T23:59:59.999999Z"}),
    (bodies.GET_ACCOUNT, {"account_type": None, "currency": None}),
    (bodies.GET_ACCOUNT, {"account_type": "basic", "currency": "TWD"}),
    (bodies.GET_STATEMENT, {"limit": 1}),
    (bodies.GET_STATEMENT, {"limit": 1_000, "after_line_no": 2**63 - 1}),
    (
        bodies.GET_STATEMENT,
        {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "after_line_no": 0},
    ),
]


@pytest.mark.parametrize(("good", "changes"), [*TAKEN, *((good, {}) for good in bodies.ALL)])
def test_a_good_value_is_taken_by_model_and_by_schema(good: JsonObject, changes: dict[str, object]) -> None:
    whole = {**good, **changes}

    message = parse(bodies.body(whole), ACCEPTED)

    assert type(message) is ACCEPTED[whole["type"]]
    assert schema_takes(whole)
    assert parse(encode(message), ACCEPTED) == message


@pytest.mark.parametrize("good", bodies.COMMANDS, ids=lambda good: good["type"])
def test_an_account_type_left_out_is_basic(good: JsonObject) -> None:
    types = {"account_type", "to_account_type"} & good.keys()
    without = {name: value for name, value in good.items() if name not in types}

    message = parse(bodies.body(without), COMMANDS)

    assert {name: getattr(message, name) for name in types} == dict.fromkeys(types, "basic")


def test_there_is_a_body_of_every_command() -> None:
    assert [good["type"] for good in bodies.COMMANDS] == [*COMMANDS]


def test_absent_fields_have_their_defaults() -> None:
    opened = parse(bodies.body({k: v for k, v in bodies.OPEN.items() if k != "account_type"}), COMMANDS)
    statement = parse(bodies.body(bodies.GET_STATEMENT), QUERIES)
    account = parse(bodies.body(bodies.GET_ACCOUNT), QUERIES)

    assert isinstance(opened, commands.OpenAccount)
    assert (opened.account_type, opened.metadata) == ("basic", None)
    assert isinstance(statement, queries.GetStatement)
    assert (statement.account_type, statement.limit, statement.from_time) == ("basic", 100, None)
    assert isinstance(account, queries.GetAccount)
    assert (account.account_type, account.currency) == (None, None)


def test_a_query_uses_the_names_of_the_wire_in_bytes_and_those_of_python_in_python() -> None:
    time = datetime(2026, 1, 2, tzinfo=UTC)

    query = queries.GetStatement(user_id="u-1", currency="TWD", from_time=time)

    assert json.loads(encode(query)) == {
        "type": "statement.get.v1",
        "user_id": "u-1",
        "account_type": "basic",
        "currency": "TWD",
        "from": "2026-01-02T00:00:00.000000Z",
        "limit": 100,
    }


def test_a_message_cannot_be_changed() -> None:
    message = example(commands.Recharge)

    with pytest.raises(ValidationError, match="frozen"):
        message.amount = "900.00"  # type: ignore[misc]  # what is tried here


def test_the_amount_in_minor_units() -> None:
    assert example(commands.Recharge, amount="1.5").amount_minor == 150
    assert example(payments.PaymentResult, amount="1.5", currency="KWD").amount_minor == 1_500
    assert example(payments.PaymentRequest).amount_minor == 10_000
    with pytest.raises(money.AmountOutOfRange):
        _ = example(commands.Recharge, amount="9" * 30).amount_minor
    with pytest.raises(money.UnknownCurrency):
        _ = example(commands.Recharge, currency="XYZ").amount_minor


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
        ("2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05.000006Z"),
        ("2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100000Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 2, 11, 4, 5, tzinfo=timezone(timedelta(hours=8))), "2026-01-02T03:04:05.000000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_written_in_utc_with_microseconds(given: object, written: str) -> None:
    message = example(payments.PaymentResult, occurred_at=given)

    assert message.occurred_at.utcoffset() == timedelta(0)
    assert json.loads(encode(message))["occurred_at"] == written


def test_a_time_without_a_zone_is_refused_in_python_too() -> None:
    with pytest.raises(ValidationError):
        example(payments.PaymentResult, occurred_at=datetime(2026, 1, 2))  # noqa: DTZ001 - the very thing


@pytest.mark.parametrize("number", range(len(commands.Outcome.examples())))
def test_a_stored_outcome_is_repeated_word_for_word(number: int) -> None:
    stored = encode(example(commands.Outcome, number))

    assert encode(commands.Outcome.model_validate_json(stored)) == stored
    assert encode(commands.Outcome.model_validate(json.loads(stored))) == stored


def test_an_outcome_has_only_the_fields_that_apply() -> None:
    outcome = commands.Outcome(
        serial_no="R-1",
        status=OutcomeStatus.REFUSED,
        code=Code.ACCOUNT_NOT_FOUND,
        duplicate=False,
        result=commands.NoResult(),
    )

    assert encode(outcome) == (
        b'{"type":"command.outcome.v1","serial_no":"R-1","status":"refused","code":"ACCOUNT_NOT_FOUND",'
        b'"duplicate":false,"result":{"object":"none"}}'
    )


def test_the_result_of_an_outcome_is_of_its_kind() -> None:
    kinds = [type(example(commands.Outcome, number).result) for number in range(8)]

    assert kinds == [
        commands.OpenAccountResult,
        commands.RechargeResult,
        commands.OrderResult,
        commands.OrderResult,
        commands.AccountResult,
        *(commands.NoResult,) * 3,
    ]


@pytest.mark.parametrize("number", range(8))
def test_a_result_from_before_it_said_what_it_is_is_read_as_it_is_now(number: int) -> None:
    now = commands.Outcome.examples()[number]
    then = {**now, "result": {name: value for name, value in now["result"].items() if name != "object"}}

    assert commands.Outcome.model_validate(then) == commands.Outcome.model_validate(now)


@pytest.mark.parametrize(
    "result",
    [
        {"account_no": "2026010204815162347"},
        {"order_id": "019b7d4c-6f2e-7c3a-9d41-52c0e4a7b913"},
        {"object": "order", **events.ACCOUNT_EXAMPLE},
        {"object": "account", **events.HOLD_EXAMPLE},
        {"object": "refund", **events.HOLD_EXAMPLE},
        {"object": "account_opened"},
        {"object": 1, "order_id": "x"},
        [],
        None,
        "order",
        commands.Fault(field="", message=""),
    ],
)
def test_a_result_that_is_of_no_kind_is_none(result: object) -> None:
    with pytest.raises(ValidationError):
        example(commands.Outcome, result=result)


def test_the_entries_of_an_order_are_left_out_of_an_outcome() -> None:
    succeeded = example(events.OrderSucceeded)
    assert succeeded.data.entries

    outcome = example(commands.Outcome, result=json.loads(succeeded.data.model_dump_json()))

    assert json.loads(encode(outcome))["result"] == {
        "object": "order",
        **{name: value for name, value in succeeded.examples()[0]["data"].items() if name != "entries"},
    }


@pytest.mark.parametrize("kind", ["charge", "payout", "refund", "status", "cancel"])
def test_a_request_says_when_the_wallet_stops_waiting_or_that_it_never_does(kind: str) -> None:
    request = example(payments.PaymentRequest, kind=kind, expires_at=None)

    assert json.loads(encode(request))["expires_at"] is None
    assert "expires_at" in json_schema.json_schema(payments.PaymentRequest)["required"]
    with pytest.raises(ValidationError):
        payments.PaymentRequest.model_validate(
            {k: v for k, v in payments.PaymentRequest.examples()[0].items() if k != "expires_at"}
        )


WHERE_THEY_APPLY = {
    "late": True,
    "original_serial_no": "R-0",
    "hold_serial_no": "H-1",
    "remaining": "0.00",
    "to_user_id": "u-2",
    "to_account_no": "2026010204815162348",
    "expires_at": "2026-01-02T03:34:05.000006Z",
    "channel": "card",
    "failure_code": "card_declined",
    "failure_reason": "the bank says no",
    "metadata": {"cart": "C-778"},
}


def test_an_order_shows_a_field_only_where_it_applies_and_transacted_at_always() -> None:
    order = {k: v for k, v in events.PENDING_ORDER_EXAMPLE.items() if k not in WHERE_THEY_APPLY}

    bare = events.OrderView.model_validate(order)
    full = events.OrderView.model_validate({**order, **WHERE_THEY_APPLY})

    assert json.loads(bare.model_dump_json()) == order
    assert order["transacted_at"] is None
    assert json.loads(full.model_dump_json()) == {**order, **WHERE_THEY_APPLY}


def test_an_order_that_moved_no_money_has_no_entries() -> None:
    succeeded = events.OrderSucceeded.examples()[0]
    without = {**succeeded, "data": {k: v for k, v in succeeded["data"].items() if k != "entries"}}

    assert json.loads(encode(events.OrderSucceeded.model_validate(without))) == without
    assert len(succeeded["data"]["entries"]) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_id", "019b7d4c-7001-4d10-8a3b-0f6f5b1c2d3e"),
        ("event_id", "x"),
        ("serial_no", ""),
        ("data", {}),
    ],
)
def test_an_event_with_a_bad_envelope_cannot_be_made(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        events.OrderPending.model_validate({**events.OrderPending.examples()[0], field: value})


def test_values_of_the_wallet_are_checked_too() -> None:
    for field, value in {
        "account_no": "123",
        "balance": "-1.00",
        "status": 5,
        "created_at": "yesterday",
    }.items():
        with pytest.raises(ValidationError):
            events.AccountView.model_validate({**events.ACCOUNT_EXAMPLE, field: value})
    for field, spoilt in {"line_no": 0, "direction": "", "amount": "0", "order_type": "g" * 65}.items():
        with pytest.raises(ValidationError):
            events.EntryView.model_validate({**events.ENTRY_EXAMPLE, field: spoilt})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (
            OrderType,
            (
                "recharge withdraw transfer refund hold capture release chargeback chargeback_reversal payout_return "
                "payout_return_reversal advance repayment write_off write_off_recovery loss adjustment_credit "
                "adjustment_debit"
            ),
        ),
        (OrderStatus, "pending succeeded failed expired cancelled active captured released"),
        (AccountStatus, "active frozen closed"),
        (Direction, "credit debit"),
        (OutcomeStatus, "applied refused"),
        (PaymentKind, "charge payout refund status cancel"),
        (PaymentStatus, "succeeded failed unknown"),
        (ProcessingStatus, "processed duplicate refused"),
    ],
)
def test_the_closed_sets_are_those_of_the_contract(kind: type[OrderType], values: str) -> None:
    assert [*kind] == values.split()


@pytest.mark.parametrize("message", generate.MESSAGES)
def test_a_routing_key_is_the_type_without_its_version(message: type[Message]) -> None:
    assert re.fullmatch(re.escape(names.routing_key(message.TYPE)) + r"\.v[12]", message.TYPE)


def test_the_names_are_those_of_the_contract() -> None:
    assert [names.REASON_HEADER, names.DETAIL_HEADER, names.SOURCE_HEADER] == [
        "x-wallet-reason",
        "x-wallet-detail",
        "x-wallet-source",
    ]
    assert names.BODY_BYTES_MAX == 64 * 1024
    assert set(names.DEFAULT_CURRENCIES) <= money.MINOR_DIGITS.keys()
