"""The files that other languages read are what the models say, and their examples are true."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from wallet_schemas import (
    asyncapi,
    codes,
    commands,
    events,
    generate,
    json_schema,
    names,
    payments,
    queries,
    signature,
)
from wallet_schemas.encode import encode
from wallet_schemas.message import Message
from wallet_schemas.parse import COMMANDS, QUERIES, RESULTS

JsonObject = dict[str, Any]

EXAMPLES = [
    pytest.param(message, example, id=f"{message.TYPE}-{number}")
    for message in generate.MESSAGES
    for number, example in enumerate(message.examples())
]


def validator(message: type[Message]) -> jsonschema.Draft202012Validator:
    schema = json_schema.json_schema(message)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


@pytest.fixture(scope="module")
def document() -> JsonObject:
    found: JsonObject = yaml.safe_load((generate.HERE / "asyncapi.yaml").read_text(encoding="utf-8"))
    return found


def test_the_generated_files_are_what_the_models_say() -> None:
    assert list(generate.differences()) == [], "run `python -m wallet_schemas.generate`"


def test_a_changed_missing_or_left_over_file_is_found_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "HERE", tmp_path)
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    changed = tmp_path / "json" / "order.recharge.v1.json"
    changed.write_text(changed.read_text().replace("64", "65"))
    (tmp_path / "json" / "order.forgotten.v1.json").write_text("{}")
    (tmp_path / "asyncapi.yaml").unlink()

    differing = generate.differences()

    assert sorted(differing) == [
        "asyncapi.yaml",
        "json/order.forgotten.v1.json",
        "json/order.recharge.v1.json",
    ]
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.differences() == {}


def test_every_message_is_generated() -> None:
    classes = {
        found
        for module in (commands, payments, events, queries)
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Message) and hasattr(found, "TYPE")
    }

    assert classes == set(generate.MESSAGES)
    assert len({message.TYPE for message in generate.MESSAGES}) == len(generate.MESSAGES)


@pytest.mark.parametrize(("message", "example"), EXAMPLES)
def test_an_example_is_valid_by_model_and_by_schema(message: type[Message], example: JsonObject) -> None:
    validator(message).validate(example)

    read = message.model_validate(example)

    validator(message).validate(yaml.safe_load(encode(read)))
    assert message.model_validate_json(encode(read)) == read


@pytest.mark.parametrize("message", generate.MESSAGES)
def test_a_schema_says_all_that_is_required(message: type[Message]) -> None:
    schema = json_schema.json_schema(message)

    objects = [schema, *schema.get("$defs", {}).values()]

    assert "type" in schema["required"]
    assert schema["properties"]["type"]["const"] == message.TYPE
    # What is sent to the wallet is closed; what the wallet says may gain fields.
    closed = {each.get("additionalProperties") for each in objects if each["type"] == "object"}
    assert closed == {False if is_sent(message) else None}
    assert all(each["description"] for each in objects)


def is_sent(message: type[Message]) -> bool:
    """Return whether a message is sent to the wallet, and not said by it."""
    return message in {*COMMANDS.values(), *RESULTS.values(), *QUERIES.values()}


@pytest.mark.parametrize(("message", "example"), EXAMPLES)
def test_a_field_less_is_refused_and_a_field_more_only_where_it_is_sent(
    message: type[Message], example: JsonObject
) -> None:
    check = validator(message)
    required = set(json_schema.json_schema(message)["required"])
    more = {**example, "greeting": "hello"}
    spoilt = [{name: value for name, value in example.items() if name != missing} for missing in required]
    if is_sent(message):
        spoilt.append(more)
    else:
        assert check.is_valid(more)
        assert message.model_validate(more) == message.model_validate(example)

    for each in spoilt:
        assert not check.is_valid(each)
        if "type" in each:  # which class reads a body is told by its type, so `parse` sees to that one
            with pytest.raises(ValueError, match="validation error"):
                message.model_validate(each)


def test_the_document_speaks_of_every_message_once(document: JsonObject) -> None:
    spoken_of = [
        name
        for channel in document["channels"].values()
        for name in channel["messages"]
        if name not in {"dead-letter", "unrouted"}
    ]

    assert sorted(spoken_of) == sorted(message.TYPE for message in generate.MESSAGES)
    assert document["components"]["messages"].keys() == {*spoken_of, "dead-letter", "unrouted"}


def test_the_document_names_every_exchange(document: JsonObject) -> None:
    exchanges = {channel["bindings"]["amqp"]["exchange"]["name"] for channel in document["channels"].values()}

    assert exchanges == {
        "",
        names.WALLET_COMMANDS,
        names.PAYMENT_REQUESTS,
        names.PAYMENT_RESULTS,
        names.WALLET_EVENTS,
        names.WALLET_QUERIES,
        names.WALLET_DEAD_LETTERS,
        names.WALLET_UNROUTED,
    }


def test_every_reference_of_the_document_leads_somewhere(document: JsonObject) -> None:
    references = list(_references(document))

    assert len(references) > 2 * len(generate.MESSAGES)
    for reference in references:
        if reference.startswith("./"):
            assert (generate.HERE / reference).is_file()
            continue
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_an_operation_uses_only_messages_of_its_channels(document: JsonObject) -> None:
    for operation in document["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            channel = part["channel"]["$ref"]
            assert all(message["$ref"].startswith(f"{channel}/messages/") for message in part["messages"])


def test_the_examples_of_signatures_are_good(document: JsonObject) -> None:
    headers = validator_of(document["components"]["schemas"]["signedHeaders"])
    result = document["components"]["messages"]["payment.result.v1"]

    for example in result["examples"]:
        headers.validate(example["headers"])
        body = encode(payments.PaymentResult.model_validate(example["payload"]))
        signature.verify(example["headers"][names.SIGNATURE_HEADER], body, asyncapi.EXAMPLE_KEYS)

    about = document["info"]["description"]
    body, header = (block.strip("\n").encode() for block in about.split("```")[1:4:2])
    signature.verify(header.decode(), body, asyncapi.EXAMPLE_KEYS)


def test_the_schema_of_a_signature_takes_a_rotation() -> None:
    keys = {"new": "n", "old": "o"}
    pattern = validator_of(asyncapi.SIGNATURE)

    assert pattern.is_valid(signature.sign(b"{}", keys, 1, key_ids=["new", "old"]))
    assert not pattern.is_valid("t=1,v1=00")


def test_the_document_explains_every_code(document: JsonObject) -> None:
    for code in codes.Code:
        assert f"| `{code}` | {code.meaning} |" in document["info"]["description"]


def validator_of(schema: JsonObject) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema)


def _references(node: object) -> list[str]:
    match node:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [found for value in node.values() for found in _references(value)]
        case list():
            return [found for value in node for found in _references(value)]
        case _:
            return []
