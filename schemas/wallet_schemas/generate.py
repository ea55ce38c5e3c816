"""Writes what other languages read: a JSON Schema for each message, and the AsyncAPI document over them.

`python -m wallet_schemas.generate` writes; with `--check` it only compares, and exits with 1 if
anything differs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import override

from wallet_schemas import asyncapi, commands, events, payments, queries
from wallet_schemas.codes import Code
from wallet_schemas.message import Message
from wallet_schemas.parse import COMMANDS

HERE: Final = Path(__file__).parent.parent  # schemas/, beside the Python package

MESSAGES: Final[tuple[type[Message], ...]] = (
    *COMMANDS.values(),
    commands.Outcome,
    payments.PaymentRequest,
    payments.PaymentResult,
    payments.PaymentProcessed,
    *events.EVENTS,
    queries.GetAccount,
    queries.GetOrder,
    queries.GetStatement,
    queries.FindOrders,
    queries.GetHistory,
    queries.AccountList,
    queries.OrderDetail,
    queries.Statement,
    queries.OrderList,
    queries.History,
    queries.QueryRefused,
)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 once the files on disk are what the models say; with --check, 1 if they are not."""
    parser = argparse.ArgumentParser(prog="python -m wallet_schemas.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if a file differs")
    check = parser.parse_args(arguments).check
    differing = differences()
    for name, text in differing.items():
        path = HERE / name
        sys.stdout.write(f"{'differs' if check else 'written' if text is not None else 'removed'}: {path}\n")
        if check:
            continue
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and differing else 0


def differences() -> dict[str, str | None]:
    """Return the files that are not what the models say, with what should be in them: None for no file."""
    wanted = {path: text for path, text in render().items() if _read(HERE / path) != text}
    known = render().keys()
    left_over = {
        name: None for path in (HERE / "json").glob("*") if (name := f"json/{path.name}") not in known
    }
    return wanted | left_over


def render() -> dict[str, str]:
    """Return the text of every generated file by its path in this folder."""
    files = {f"json/{message.TYPE}.json": _json(json_schema(message)) for message in MESSAGES}
    files["asyncapi.yaml"] = _yaml(asyncapi.document(MESSAGES))
    return files


def json_schema(message: type[Message]) -> dict[str, Any]:
    """Return the JSON Schema of a message: draft 2020-12, complete in itself, with its examples."""
    schema = message.model_json_schema(schema_generator=_Generator)
    definitions = schema.pop("$defs", {})
    examples = schema.pop("examples")
    found = {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"{message.TYPE}.json",
        **_tidy(schema),
        "examples": examples,
    }
    if "Code" in definitions:
        meanings = "\n".join(f"- `{code}`: {code.meaning}" for code in Code)
        definitions["Code"]["description"] += f"\n\n{meanings}"
    if definitions:
        found["$defs"] = {name: _tidy(definition) for name, definition in definitions.items()}
    return found


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
    head = {"title": schema["title"], "description": asyncapi.unwrapped(schema["description"])}
    kind = schema.get("properties", {}).get("type", {})
    if "const" in kind:
        kind.pop("default", None)
        schema["required"] = ["type", *schema.get("required", [])]
    return head | {name: value for name, value in schema.items() if name not in head}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):
    """Writes for people: no anchors, and texts of several lines as blocks."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True

    @override
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(document: dict[str, Any]) -> str:
    head = "# Generated by `python -m wallet_schemas.generate` from the models in this folder. Do not edit.\n"
    return head + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    sys.exit(main())
