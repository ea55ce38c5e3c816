"""What is generated in the documents: tables from the code, and examples from the files that tests run.

A page has `<!-- generated: NAME -->` or `<!-- example: NAME -->`, and below it `<!-- end -->`. What stands between
them is written by `make docs`, and a test compares.
"""

import inspect
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from payment_simulator.behaviours import TABLE
from tests.documents import named_tests
from tests.documents.pages import CONTRACT, NEEDS, ROOT, pages
from tests.documents.rules import RULES
from tests.faults.matrix import MATRIX
from wallet_schemas import commands, events, queries, values
from wallet_schemas.asyncapi import unwrapped
from wallet_schemas.codes import Code
from wallet_schemas.json_schema import json_schema
from wallet_schemas.message import Message
from wallet_schemas.names import (
    ATTEMPTS_HEADER,
    BODY_BYTES_HEADER,
    BODY_SHA256_HEADER,
    DETAIL_HEADER,
    EXCHANGE_HEADER,
    FIRST_SEEN_HEADER,
    REASON_HEADER,
    ROUTING_KEY_HEADER,
    SEAL_HEADER,
    SENDER_HEADER,
    SOURCE_HEADER,
    WORKER_HEADER,
)
from wallet_schemas.parse import COMMANDS, QUERIES
from wallet_schemas.settlement import SettlementLine
from wallet_schemas.values import PaymentKind
from wallet_worker.accounting.reconcile import Comparison
from wallet_worker.broker.entities import EXCHANGES, QUEUES
from wallet_worker.core import accounts, orders
from wallet_worker.settings.limits import LimitSettings
from wallet_worker.settings.settings import Settings

_BLOCK: Final = re.compile(
    r"(?P<begin><!-- (?P<kind>generated|example): (?P<name>[^>]+?) -->\n)(?:.*?\n)??<!-- end -->", re.DOTALL
)


def differences() -> dict[Path, str]:
    """Return the pages whose generated parts differ from the code, with the text that they should have."""
    wanted = {path: render(text) for path, text in pages().items()}
    return {path: text for path, text in wanted.items() if text != path.read_text()}


def render(text: str) -> str:
    """Return a page with its generated parts as the code has them; KeyError for a name that there is not."""
    return _BLOCK.sub(_rendered, text)


def _rendered(block: re.Match[str]) -> str:
    kind, name = block["kind"], block["name"]
    if kind == "generated":
        body = BLOCKS[name]()
    elif name in EXAMPLES:
        body = EXAMPLES[name]()
    else:
        return block[0]
    return f"{block['begin']}{body}\n<!-- end -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(
        [
            "| " + " | ".join(head) + " |",
            "|" + "---|" * len(head),
            *("| " + " | ".join(row) + " |" for row in cells),
        ]
    )


def _first_sentence(message: type[Message]) -> str:
    return unwrapped(inspect.cleandoc(message.__doc__ or "")).partition("\n")[0]


def layers() -> str:
    """The layers that import-linter checks, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["id"] == "layers")
    return "```\n" + "\n".join(contract["layers"]) + "\n```"


def settings() -> str:
    """Every setting with its default."""
    rows = []
    for name, field in Settings.model_fields.items():
        match field.get_default(call_default_factory=True):
            case _ if field.is_required():
                default = "required"
            case None | {} | LimitSettings():
                default = ""
            case tuple() as several:
                default = f"`{','.join(map(str, several))}`"
            case value:
                default = f"`{value}`"
        rows.append((f"`WALLET_{name.upper()}`", default, field.description or ""))
    return table(("setting", "default", "what it is"), rows)


def channels() -> str:
    """The sandbox's channels, what the gateway does on each, and what a recharge becomes."""
    rows = [
        (f"`{behaviour.channel}`", row.gateway, row.wallet)
        for behaviour, row in TABLE[PaymentKind.CHARGE].items()
    ]
    return table(("channel", "what the gateway does", "what becomes of a recharge"), rows)


def verdicts() -> str:
    """What a reconciliation can find of a payment."""
    return table(("verdict", "meaning"), [(f"`{verdict}`", verdict.meaning) for verdict in Comparison])


def settlement_columns() -> str:
    """The columns of a settlement file."""
    schema = SettlementLine.model_json_schema()
    rows = [(f"`{name}`", _type_of(field, schema)) for name, field in schema["properties"].items()]
    return table(("column", "value"), rows)


def codes() -> str:
    """Every code with its meaning, in the order of precedence."""
    return table(("code", "meaning"), [(f"`{code}`", code.meaning) for code in Code])


def message_table(messages: Iterable[type[Message]]) -> str:
    """Messages with their fields, beside those that all of them have."""
    rows = []
    for message in messages:
        schema = json_schema(message)
        required = set(schema.get("required", ()))
        fields = [
            name if name in required else f"{name}?"
            for name in schema["properties"]
            if name not in {"type", "serial_no", "metadata", "valid_until"}
            or (name == "serial_no" and message in QUERIES.values())
        ]
        rows.append((f"`{message.TYPE}`", ", ".join(fields), _first_sentence(message)))
    return table(("type", "fields, `?` where they may be left out", "what it asks"), rows)


def events_table() -> str:
    """Every event."""
    rows = [(f"`{event.TYPE}`", _first_sentence(event)) for event in events.EVENTS]
    return table(("type", "when"), rows)


def values_table() -> str:
    """The forms of values, as every JSON Schema has them."""
    schema = json_schema(commands.Transfer)
    recharge, statement = json_schema(commands.Recharge), json_schema(queries.GetStatement)
    wanted = {
        "serial_no": schema["properties"]["serial_no"],
        "user_id": schema["properties"]["user_id"],
        "account_type": schema["properties"]["account_type"],
        "amount": schema["properties"]["amount"],
        "currency": schema["properties"]["currency"],
        "recharge_type, payout_type": recharge["properties"]["recharge_type"],
    }
    rows = [
        (f"`{name}`", f"`{field['pattern']}`", f"{field.get('minLength', 0)} to {field['maxLength']}")
        for name, field in wanted.items()
    ]
    rows.append(("`limit` of a statement", "integer", f"1 to {values.STATEMENT_LINES_MAX}"))
    assert statement["properties"]["limit"]["maximum"] == values.STATEMENT_LINES_MAX
    return table(("value", "form", "characters"), rows)


def exchanges() -> str:
    """Exchanges, and the queue that each feeds."""
    queues = {queue.name: queue for queue in QUEUES}
    rows = [
        (
            f"`{exchange.name}`",
            exchange.type,
            f"`{exchange.name}`, {queues[exchange.name].type}"
            if exchange.name in queues
            else "subscribers' own",
            f"`{exchange.alternate}`" if exchange.alternate else "",
        )
        for exchange in EXCHANGES
    ]
    return table(("exchange", "type", "queue", "what has no binding goes to"), rows)


def dead_letter_headers() -> str:
    """The headers of a dead letter."""
    meanings = {
        REASON_HEADER: "a code of section 9",
        DETAIL_HEADER: "the reason as text for a person, at most 1 KiB",
        SOURCE_HEADER: "the queue that it was taken from",
        EXCHANGE_HEADER: "the exchange that it was published to first",
        ROUTING_KEY_HEADER: "its routing key there",
        ATTEMPTS_HEADER: "how often it was tried",
        FIRST_SEEN_HEADER: "when a worker first had it",
        WORKER_HEADER: "version and instance of the worker",
        SENDER_HEADER: "who sent it, as far as the broker has verified that",
        SEAL_HEADER: "the worker's proof that it has set the message aside",
        BODY_BYTES_HEADER: "how many bytes the body had, where only its beginning is kept",
        BODY_SHA256_HEADER: "the SHA-256 of the whole body then, as hexadecimal digits",
    }
    return table(("header", "value"), [(f"`{name}`", meaning) for name, meaning in meanings.items()])


def faults() -> str:
    """The matrix of the faults with their tests."""
    tests = named_tests.of_rows()
    rows = [
        (
            str(number),
            row.fault,
            row.correct,
            "<br>".join(f"`{file}`" for file in dict.fromkeys(file for file, _ in tests[number])),
        )
        for number, row in MATRIX.items()
    ]
    return table(("#", "fault", "correct outcome", "test, in `tests/`"), rows)


def rules() -> dict[str, str]:
    """Return the rules of the contract by their numbers, each as its first sentence."""
    found = re.findall(
        r"^- \*\*(\d+\.\d+)\*\* (.*?)(?=\n- |\n\n|\Z)", CONTRACT.read_text(), re.MULTILINE | re.DOTALL
    )
    return {number: re.split(r"(?<=\.)\s", " ".join(text.split()))[0] for number, text in found}


def needs() -> dict[int, str]:
    """Return the needs of operators by their numbers."""
    found = re.findall(r"^(\d+)\. \*\*(.+?)\*\*", NEEDS.read_text(), re.MULTILINE)
    return {int(number): title.rstrip(".") for number, title in found}


def rule_tests() -> str:
    """Each rule of the contract with its tests."""
    rows = [
        (number, text, "<br>".join(f"`{test}`" for test in RULES.get(number, ())))
        for number, text in rules().items()
    ]
    return table(("rule", "what it says", "tests"), rows)


def need_tests() -> str:
    """Each need of operators with the files of its tests, and how many are in each."""
    tests = named_tests.of_needs()
    rows = []
    for number, title in needs().items():
        by_file = Counter(file for file, _ in tests[number])
        files = "<br>".join(f"`{file}`: {count}" for file, count in by_file.items())
        rows.append((str(number), title.rstrip("."), files))
    return table(("need", "what it says", "tests in each file"), rows)


def fault_tests() -> str:
    """Each row of the faults with its tests."""
    tests = named_tests.of_rows()
    rows = [
        (str(number), row.fault, "<br>".join(f"`{file}::{name}`" for file, name in tests[number]))
        for number, row in MATRIX.items()
    ]
    return table(("row", "fault", "tests"), rows)


def _type_of(field: dict[str, Any], schema: dict[str, Any]) -> str:
    for reference in (field.get("$ref"), *(each.get("$ref") for each in field.get("allOf", ()))):
        if reference:
            field = schema["$defs"][reference.rpartition("/")[2]] | {
                "description": field.get("description", "")
            }
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"] if value != PaymentKind.STATUS)
    return str(field.get("description", "")).partition(". ")[0].rstrip(".")


def _picture(name: str) -> Callable[[], str]:
    return lambda: f"```mermaid\n{orders.diagrams()[name]}\n```"


def _file(path: str, language: str, *, after_first_line: bool = False) -> Callable[[], str]:
    def example() -> str:
        text = (ROOT / path).read_text()
        return f"```{language}\n{(text.partition(chr(10))[2] if after_first_line else text).strip()}\n```"

    return example


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings,
    "layers": layers,
    "channels": channels,
    "verdicts": verdicts,
    "settlement columns": settlement_columns,
    "codes": codes,
    "commands": lambda: message_table(COMMANDS.values()),
    "queries": lambda: message_table(QUERIES.values()),
    "events": events_table,
    "values": values_table,
    "exchanges": exchanges,
    "dead letter headers": dead_letter_headers,
    "faults": faults,
    "tests of rules": rule_tests,
    "tests of needs": need_tests,
    "tests of faults": fault_tests,
    "the life of an account": lambda: f"```mermaid\n{accounts.diagram()}\n```",
    **{f"the {name} table": _picture(name) for name in orders.diagrams()},
}

EXAMPLES: Final[dict[str, Callable[[], str]]] = {
    "client": _file("tests/client/example.py", "python", after_first_line=True),
    "spending": _file("tests/client/spending.py", "python", after_first_line=True),
    "subscriber": _file("tests/client/subscriber.py", "python", after_first_line=True),
    "node": _file("tests/journeys/node/open_account.js", "js"),
}
"""Examples that stand in a file of their own, which a test runs; other examples stand in the page alone."""
