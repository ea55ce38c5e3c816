"""What is wrong with a value is said in words: no pattern, no class and no representation of Python's."""

import re
from collections.abc import Iterator
from typing import Any, Literal, get_args

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import core_schema

from wallet_schemas import faults, values
from wallet_schemas.message import JsonObject
from wallet_schemas.parse import COMMANDS, QUERIES, RESULTS
from wallet_schemas.settlement import SettlementLine

NOT_FOR_PEOPLE = re.compile(
    r"pattern|regex|\^|\\|\$|dictionary|dict\b|tuple|None\b|python|pydantic|instance of|[A-Z][a-z]+[A-Z]|Value error"
)
TAKEN: list[type[JsonObject]] = [*COMMANDS.values(), *RESULTS.values(), *QUERIES.values(), SettlementLine]


@pytest.mark.parametrize("kind", get_args(core_schema.ErrorType))
def test_every_error_that_validation_knows_has_a_sentence(kind: str) -> None:
    context = {"pattern": "^[a-z]$", "error": ValueError("a sentence"), "min_length": 1, "max_length": 2}

    sentence = faults.sentence({"type": kind, "msg": "a sentence", "ctx": context})

    assert sentence
    assert NOT_FOR_PEOPLE.search(sentence) is None


def patterns(schema: Any) -> Iterator[str]:
    match schema:
        case {"pattern": str() as pattern, **more}:
            yield pattern
            yield from patterns(more)
        case dict():
            for item in schema.values():
                yield from patterns(item)
        case list():
            for item in schema:
                yield from patterns(item)
        case _:
            pass


@pytest.mark.parametrize("message", TAKEN)
def test_every_pattern_of_what_is_sent_to_the_wallet_has_its_sentence(message: type[JsonObject]) -> None:
    from wallet_schemas import times, values

    # The sentences of times are in `times`, and the others are what an instrument and an app's address may not be.
    none = {times.PATTERN, values.CARD_NUMBER, values.APP_SCHEMES_FORBIDDEN}
    found = set(patterns(message.model_json_schema())) - none

    assert found <= faults.BY_PATTERN.keys()


class Everything(BaseModel):
    """A field of each kind."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: values.SerialNo = "R-1"
    amount: values.AmountText = "1.00"
    kind: Literal["charge", "payout"] = "charge"
    status: values.Enumerated[values.PaymentStatus] = values.PaymentStatus.FAILED
    notes: values.Metadata = Field(default_factory=dict)
    number: int = Field(default=1, ge=1, le=9)
    flag: bool = True
    part: "Everything | None" = None
    text: values.Text = ""


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "R/1", "Should be of letters, digits and . _ : - only"),
        ("name", "", "String should have at least 1 character"),
        ("name", 1, "Input should be a valid string"),
        ("amount", "1,300.00", "Should be a decimal above zero without sign, exponent or grouping, such as 100.00"),
        ("kind", "x", "Input should be 'charge' or 'payout'"),
        ("status", "paid", "Input should be 'succeeded', 'failed' or 'unknown'"),
        ("notes", [], "Should be an object"),
        ("notes", {"a": "b\0"}, "Should not have a NUL in it"),
        ("number", 10, "Input should be less than or equal to 9"),
        ("number", "1", "Input should be a valid integer"),
        ("flag", "yes", "Should be true or false"),
        ("part", 1, "Should be an object"),
        ("text", "a\0", "Should not have a NUL in it"),
        ("another", 1, "This field is not known"),
    ],
)  # fmt: skip
def test_the_sentences(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as invalid:
        Everything.model_validate({field: value})

    (fault,) = faults.faults_of(invalid.value)

    assert fault.field.partition(".")[0] == field
    assert fault.message == sentence


def test_what_a_stranger_wrote_is_short_and_harmless() -> None:
    with pytest.raises(ValidationError) as invalid:
        TypeAdapter(dict[str, int]).validate_python({"\x1b[2J\u202e" + "x" * 1_000: "y"})

    (fault,) = faults.faults_of(invalid.value)

    assert fault.field.startswith("\\x1b[2J\\u202exxx")
    assert len(fault.field) <= faults.FAULT_LENGTH_MAX
    assert faults.joined([fault, faults.fault("", "The body is not JSON")]).endswith("; The body is not JSON")
