"""Whatever the bytes are, parse() gives a message or says what is wrong, and nothing else."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.rules.contract import bodies
from tests.rules.contract.blown_up import FIELDS, SLOW, large_bodies, large_noise
from tests.rules.contract.bodies import RECHARGE, RESULT, JsonObject
from wallet_schemas.codes import Code
from wallet_schemas.commands import NoResult, Outcome, Recharge
from wallet_schemas.encode import encode
from wallet_schemas.faults import FAULTS_MAX
from wallet_schemas.message import Message
from wallet_schemas.names import BODY_BYTES_MAX
from wallet_schemas.parse import (
    COMMANDS,
    QUERIES,
    RESULTS,
    Malformed,
    Unreadable,
    UnsupportedType,
    parse,
)
from wallet_schemas.values import OutcomeStatus

ACCEPTED = {**COMMANDS, **RESULTS, **QUERIES}
CORPUS = Path(__file__).parent / "corpus"
RECHARGE_BODY = bodies.body(RECHARGE)
LIMIT_SECONDS = 0.05  # for any body of up to 64 KiB


def refusal(body: bytes, kind: type[Unreadable] = Malformed) -> Unreadable:
    with pytest.raises(kind) as refused:
        parse(body, ACCEPTED)
    error = refused.value
    # Whoever reads the refusal can be told of it, in a reply of bounded size.
    outcome = Outcome(
        serial_no=error.serial_no or "none",
        status=OutcomeStatus.REFUSED,
        code=error.code,
        duplicate=False,
        result=NoResult(),
        faults=list(error.faults),
    )
    assert 1 <= len(error.faults) <= FAULTS_MAX
    assert len(encode(outcome)) < 20_000
    return error


def seconds_taken(body: bytes) -> float:
    """Return the processor's time that a body takes: the best of three, because the machine has other work too."""
    took: list[float] = []
    while len(took) < 3 and min(took, default=LIMIT_SECONDS) >= LIMIT_SECONDS:
        start = time.process_time()
        with suppress(Unreadable):
            parse(body, ACCEPTED)
        took.append(time.process_time() - start)
    return min(took)


def corpus(kind: str) -> list[Any]:
    return [pytest.param(path, id=path.name) for path in sorted((CORPUS / kind).iterdir())]


@pytest.mark.parametrize("path", corpus("malformed"))
def test_the_corpus_of_malformed_bodies_is_malformed(path: Path) -> None:
    body = path.read_bytes()

    assert len(body) <= BODY_BYTES_MAX
    assert refusal(body).code is Code.MALFORMED


@pytest.mark.parametrize("path", corpus("unsupported"))
def test_the_corpus_of_unsupported_types_is_unsupported(path: Path) -> None:
    assert refusal(path.read_bytes(), UnsupportedType).code is Code.UNSUPPORTED_TYPE


@pytest.mark.parametrize(
    ("good", "accepted"),
    [(RECHARGE, RESULTS), (RECHARGE, QUERIES), (RESULT, COMMANDS), (bodies.GET_ORDER, COMMANDS)],
)
def test_a_message_for_another_queue_is_unsupported(
    good: JsonObject, accepted: dict[str, type[Message]]
) -> None:
    with pytest.raises(UnsupportedType) as refused:
        parse(bodies.body(good), accepted)

    assert refused.value.type == good["type"]
    assert refused.value.serial_no == good.get("serial_no")
    assert refused.value.payment_order_no == good.get("payment_order_no")


def test_an_unsupported_type_is_said_before_anything_else_that_is_wrong() -> None:
    refusal(bodies.body({"type": "order.recharge.v9", "amount": 100}), UnsupportedType)


def test_the_largest_body_is_read_and_one_byte_more_is_not() -> None:
    largest = RECHARGE_BODY + b" " * (BODY_BYTES_MAX - len(RECHARGE_BODY))

    assert parse(largest, COMMANDS) == parse(RECHARGE_BODY, COMMANDS)
    assert refusal(largest + b" ").serial_no is None


def test_a_body_of_ten_megabytes_is_not_even_looked_at() -> None:
    body = bodies.body({**RECHARGE, "metadata": {"a": "x" * 10_000_000}})

    error = refusal(body)

    assert error.faults[0].message == "The body has more than 65536 bytes"
    assert seconds_taken(body) < LIMIT_SECONDS


@pytest.mark.parametrize(
    ("body", "serial_no"),
    [
        (bodies.body({**RECHARGE, "amount": 100}), "R-1"),
        (bodies.body({**RECHARGE, "type": None}), "R-1"),
        (bodies.body({"serial_no": "R-1"}), "R-1"),
        (bodies.body({**RECHARGE, "serial_no": "R 1"}), None),
        (bodies.body({**RECHARGE, "serial_no": "R-1\n"}), None),
        (bodies.body({**RECHARGE, "serial_no": 1}), None),
        (bodies.body({**RECHARGE, "serial_no": "R" * 65}), None),
        (bodies.body([RECHARGE]), None),
        (RECHARGE_BODY[:-1] + b',"amount":"1"}', "R-1"),
        (RECHARGE_BODY[:-1] + b',"serial_no":"R-2"}', None),
        (RECHARGE_BODY[:-1] + b',"serial_no":"R-1"}', None),
        (RECHARGE_BODY[:-1] + b',"serial_no":"R-2","serial_no":"R-3"}', None),
        (RECHARGE_BODY[:-1] + b',"x":NaN}', "R-1"),
        (RECHARGE_BODY[:-1] + b',"x":"\\u0000"}', "R-1"),
        (RECHARGE_BODY[:-1] + b',"x":"\\ud800"}', "R-1"),
        (RECHARGE_BODY[:-1], None),
        (b"\xef\xbb\xbf" + RECHARGE_BODY, None),
        (b"[" * 10_000, None),
    ],
)
def test_the_serial_number_of_a_malformed_command_is_told_where_it_can_be_read(
    body: bytes, serial_no: str | None
) -> None:
    assert refusal(body).serial_no == serial_no


def test_the_payment_order_number_of_a_malformed_result_is_told() -> None:
    error = refusal(bodies.body({**RESULT, "amount": 100}))

    assert (error.serial_no, error.payment_order_no) == (None, "R-1")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The body is no JSON at character 0"),
        (RECHARGE_BODY.decode().encode("utf-16"), "The body is not UTF-8 at byte 0"),
        (b'{"a":"\xff"}', "The body is not UTF-8 at byte 6"),
        (b"[]", "The body is no JSON object"),
        (b"[" * 10_000, "The body is nested too deeply"),
        (b'{"a":' + b"9" * 5_000 + b"}", "The body has a number that is too long"),
        (b'{"a":NaN}', "NaN is no JSON"),
        (b'{"a":[-Infinity]}', "-Infinity is no JSON"),
        (b'{"a":{"b":1,"b":1}}', "An object has a name twice"),
        (b'{"a":["\\u0000"]}', "A string has NUL or half a surrogate pair in it"),
        (b'{"a":{"\\udc00":1}}', "A string has NUL or half a surrogate pair in it"),
    ],
)
def test_what_is_wrong_with_the_whole_is_said(body: bytes, says: str) -> None:
    (fault,) = refusal(body).faults

    assert (fault.field, fault.message) == ("", says)


def test_every_fault_is_named_by_its_field() -> None:
    error = refusal(
        bodies.body({"type": RECHARGE["type"], "serial_no": "", "amount": 1, "metadata": {"a": 1}, "x": 1})
    )

    assert [fault.field for fault in error.faults] == [
        "x",
        "serial_no",
        "user_id",
        "amount",
        "currency",
        "recharge_type",
        "metadata.a",
    ]
    assert "amount: Input should be a valid string" in str(error)


def test_faults_are_bounded_in_number_and_length_and_can_be_shown() -> None:
    names = [f"\u202e<b>{number:02}" + "x" * 1_000 for number in range(50)]

    error = refusal(bodies.body({**RECHARGE, "amount": 1, **dict.fromkeys(names, 1)}))

    assert len(error.faults) == FAULTS_MAX
    for fault in error.faults:
        assert fault.field.startswith("\\u202e<b>")
        assert len(fault.field) < 120
        assert fault.field.isprintable()


@pytest.mark.parametrize("secret", ["4111111111111111", "987654.32"])
def test_a_fault_does_not_repeat_the_value(secret: str) -> None:
    for field in RECHARGE:
        if field != "type":
            error = refusal(bodies.body({**RECHARGE, field: {secret: secret}}))
            assert secret not in str([fault.message for fault in error.faults])


def test_a_long_type_is_cut() -> None:
    error = refusal(bodies.body({**RECHARGE, "type": "t" * 60_000}), UnsupportedType)

    assert isinstance(error, UnsupportedType)
    assert error.type == "t" * 100


def test_json_may_be_spelt_in_several_ways() -> None:
    spelt = json.dumps(dict(reversed(RECHARGE.items())), indent=4).replace('"R-1"', '"\\u0052-1"')

    assert parse(b" \r\n\t" + spelt.encode() + b"\n", COMMANDS) == parse(RECHARGE_BODY, COMMANDS)


def test_a_pair_of_surrogates_is_a_character() -> None:
    message = parse(RECHARGE_BODY[:-1] + b',"metadata":{"a":"\\ud83d\\ude00"}}', COMMANDS)

    assert isinstance(message, Recharge)
    assert message.metadata == {"a": "😀"}


@pytest.mark.parametrize("name", SLOW)
def test_no_body_takes_longer_than_fifty_milliseconds(name: str) -> None:
    assert len(SLOW[name]) <= BODY_BYTES_MAX
    assert seconds_taken(SLOW[name]) < LIMIT_SECONDS
    refusal(SLOW[name], Unreadable)


@settings(deadline=None)  # of what Hypothesis does itself, by the clock on the wall
@given(body=large_bodies() | large_noise())
def test_any_structure_blown_up_to_64_kib_is_refused_or_read_within_fifty_milliseconds(body: bytes) -> None:
    assert BODY_BYTES_MAX // 3 < len(body) <= BODY_BYTES_MAX
    assert seconds_taken(body) < LIMIT_SECONDS

    try:
        message = parse(body, ACCEPTED)
    except Unreadable:
        refusal(body, Unreadable)
    else:
        assert parse(encode(message), ACCEPTED) == message


@given(body=st.binary(max_size=300))
@example(body=b"")
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    refusal(body, Unreadable)  # hypothesis would have to guess a whole message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*ACCEPTED, "TWD", "JPY", "1.0", "basic", "succeeded", "2026-01-02T03:04:05Z"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(
    good=st.sampled_from(bodies.ALL),
    changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
    dropped=st.sets(st.sampled_from(FIELDS), max_size=2),
    ascii_only=st.booleans(),
)
def test_any_spoilt_message_is_refused_or_read(
    good: JsonObject, changes: JsonObject, dropped: set[str], *, ascii_only: bool
) -> None:
    spoilt = {name: value for name, value in {**good, **changes}.items() if name not in dropped}
    body = json.dumps(spoilt, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    try:
        message = parse(body, ACCEPTED)
    except Unreadable:
        refusal(body, Unreadable)
    else:
        assert message.type == spoilt["type"]
        assert parse(encode(message), ACCEPTED) == message


@given(good=st.sampled_from(bodies.ALL), data=st.data())
def test_any_damaged_bytes_are_refused_or_read(good: JsonObject, data: st.DataObject) -> None:
    body = bytearray(bodies.body(good))
    for _ in range(data.draw(st.integers(min_value=1, max_value=4))):
        place = data.draw(st.integers(min_value=0, max_value=len(body)))
        body[place : place + data.draw(st.integers(min_value=0, max_value=5))] = data.draw(
            st.binary(max_size=5)
        )

    try:
        message = parse(bytes(body), ACCEPTED)
    except Unreadable:
        refusal(bytes(body), Unreadable)
    else:
        assert parse(encode(message), ACCEPTED) == message
