"""JSON Schemas from the models: draft 2020-12, as other languages read them, alone or as parts of one document."""

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema
from typing_extensions import override

from wallet_schemas.asyncapi import unwrapped
from wallet_schemas.codes import Code
from wallet_schemas.message import JsonObject, Message
from wallet_schemas.values import GROWING, NAME_OF_GROWING


def json_schema(message: type[Message]) -> dict[str, Any]:
    """Return the JSON Schema of a message: draft 2020-12, complete in itself, with its examples."""
    schema = message.model_json_schema(schema_generator=_Generator)
    definitions = schema.pop("$defs", {})
    _define_enumerations((schema, definitions), definitions, "#/$defs/")
    examples = schema.pop("examples")
    found = {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"{message.TYPE}.json",
        **_tidy(schema),
        "examples": examples,
    }
    _explain_codes(definitions)
    if definitions:
        found["$defs"] = {name: _tidy(definitions[name]) for name in sorted(definitions)}
    return found


def component_schemas(classes: Iterable[type[JsonObject]]) -> dict[str, Any]:
    """Return the schemas of these classes and of all that they are made of, by name, as one document has them."""
    _, found = models_json_schema(
        [(kind, "validation") for kind in dict.fromkeys(classes)],
        schema_generator=_Generator,
        ref_template="#/components/schemas/{model}",
    )
    definitions = found["$defs"]
    _define_enumerations((definitions,), definitions, "#/components/schemas/")
    _explain_codes(definitions)
    return {name: _tidy(definitions[name]) for name in sorted(definitions)}


def _define_enumerations(parts: Iterable[Any], definitions: dict[str, Any], place: str) -> None:
    """Define each enumeration that the parts name, once, and refer to it; a schema names the values that are known."""
    waiting = list(parts)
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            name = node.pop(NAME_OF_GROWING, None)
            if name is not None:
                node["$ref"] = place + name
                if name not in definitions:
                    definitions[name] = TypeAdapter(GROWING[name]).json_schema(schema_generator=_Generator)
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _explain_codes(definitions: dict[str, Any]) -> None:
    if "Code" in definitions:
        meanings = "\n".join(f"- `{code}`: {code.meaning}" for code in Code)
        definitions["Code"]["description"] += f"\n\n{meanings}"


class _Generator(GenerateJsonSchema):
    """Keeps the order of the models, and says nothing that only Python understands."""

    @override
    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        return value

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # "User Id" says no more than user_id

    @override
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]  # absent is absent: what has null as a value says so by its type
        return found


def _tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with what it is about first, and its type required: the default is Python's own."""
    head = {"title": schema["title"], "description": unwrapped(schema["description"])}
    kind = schema.get("properties", {}).get("type", {})
    if "const" in kind:
        kind.pop("default", None)
        schema["required"] = ["type", *schema.get("required", [])]
    return head | {name: value for name, value in schema.items() if name not in head}
