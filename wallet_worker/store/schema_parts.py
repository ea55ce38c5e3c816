"""What the migrations leave in the schema: tables, columns, constraints, indexes and triggers.

All of it is read from the text of the migrations, so that it stands in one place only. A test compares it with a
database that was migrated. A migration whose text says it in another way fails that test.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from wallet_worker.store.schema_version import VERSIONS_FOLDER

_NAME: Final = r"([a-z_][a-z0-9_]*)"
_COMMENT: Final = re.compile(r"--[^\n]*")
_FUNCTION: Final = re.compile(
    rf"\bCREATE (?:OR REPLACE )?FUNCTION {_NAME}\(\)[^$]*?(\$\w*\$)(.*?)\2", re.DOTALL
)
_DOLLARS: Final = re.compile(r"(\$\w*\$).*?\1", re.DOTALL)
_TABLE: Final = re.compile(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME} ?\((.*)", re.DOTALL)
_ALTER: Final = re.compile(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{_NAME} (.*)", re.DOTALL)
_INDEX: Final = re.compile(
    rf"CREATE (UNIQUE )?INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?{_NAME} ON (?:ONLY )?{_NAME} .*", re.DOTALL
)
_TRIGGER: Final = re.compile(
    rf"CREATE (?:OR REPLACE )?TRIGGER {_NAME} .*? ON {_NAME} .*EXECUTE (?:FUNCTION|PROCEDURE) {_NAME}.*",
    re.DOTALL,
)
_DROP: Final = re.compile(
    rf"DROP (TABLE|INDEX|TRIGGER) (?:CONCURRENTLY )?(?:IF EXISTS )?{_NAME}(?: ON {_NAME})?"
)
_END_OF_TYPE: Final = re.compile(
    r"\b(?:NOT NULL|NULL|DEFAULT|GENERATED|CONSTRAINT|PRIMARY|REFERENCES|CHECK|UNIQUE)\b"
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `kind` is its type as the migration writes it."""

    kind: str
    is_needed: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is no constraint's, and the statement that makes it."""

    table: str
    is_unique: bool
    statement: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger, the function that it executes, and the statement that makes it."""

    table: str
    function: str
    statement: str

    @property
    def fires_at(self) -> int:
        """When it fires, as `pg_trigger.tgtype` has it."""
        events = self.statement.partition(" ON ")[0]
        return sum(bit for word, bit in _TRIGGER_BITS.items() if f" {word} " in f"{events} ") + (
            "FOR EACH ROW" in self.statement
        )


_TRIGGER_BITS: Final = {"BEFORE": 2, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32, "INSTEAD": 64}
"""https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_trigger.h"""


@dataclass(slots=True)
class Schema:
    """Everything by its name. A constraint's text is what follows `ADD`."""

    columns: dict[str, dict[str, Column]] = field(default_factory=dict)
    constraints: dict[tuple[str, str], str] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    triggers: dict[tuple[str, str], Trigger] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    """The bodies of the functions that take no argument, as they were given: those of triggers are among them."""


@cache
def migrated() -> Schema:
    """Return what is there once every migration has run."""
    schema = Schema()
    for path in sorted(VERSIONS_FOLDER.glob("[0-9]*.py")):
        for text in _texts(path.read_text(encoding="utf-8")):
            for found in _FUNCTION.finditer(text):
                schema.functions[found[1]] = found[3]
            for statement in _DOLLARS.sub("", _COMMENT.sub("", text)).split(";"):
                _read(schema, " ".join(statement.split()))
    return schema


def _texts(source: str) -> Iterator[str]:
    """Return the texts of a module, in their order."""
    texts = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return (str(node.value) for node in sorted(texts, key=lambda node: (node.lineno, node.col_offset)))


def _read(schema: Schema, statement: str) -> None:
    """Add one statement to the schema, if it makes or changes anything of it."""
    if found := _TABLE.match(statement):
        schema.columns[found[1]] = {}
        for item in _items(found[2], to_the_end=False):
            _add(schema, found[1], item)
    elif found := _ALTER.match(statement):
        for action in _items(found[2]):
            _alter(schema, found[1], action)
    elif found := _INDEX.match(statement):
        schema.indexes[found[2]] = Index(found[3], bool(found[1]), statement)
    elif found := _TRIGGER.match(statement):
        schema.triggers[found[2], found[1]] = Trigger(found[2], found[3], statement)
    elif found := _DROP.match(statement):
        _drop(schema, found[1], found[2], found[3])


def _items(text: str, *, to_the_end: bool = True) -> list[str]:
    """Return what commas outside parentheses and texts separate, up to a parenthesis that was open before the text."""
    items: list[str] = []
    depth, quoted, begin = 0, False, 0
    for at, char in enumerate(text):
        if not quoted and char == ")" and depth == 0 and not to_the_end:
            return [*items, text[begin:at].strip()]
        if char == "'":
            quoted = not quoted
        elif not quoted and char in "()[]":
            depth += 1 if char in "([" else -1
        elif not quoted and char == "," and depth == 0:
            items.append(text[begin:at].strip())
            begin = at + 1
    return [*items, text[begin:].strip()]


def _add(schema: Schema, table: str, item: str) -> None:
    """Add a column or a named constraint to a table."""
    words = item.split()
    if words[0] == "CONSTRAINT":
        schema.constraints[table, words[1]] = item
        if words[2:4] == ["PRIMARY", "KEY"]:
            for name in _items(item.partition("(")[2], to_the_end=False):
                old = schema.columns[table][name]
                schema.columns[table][name] = Column(old.kind, is_needed=True)
        return
    rest = item.partition(" ")[2].strip()
    end = _END_OF_TYPE.search(rest)
    is_needed = "NOT NULL" in rest or "AS IDENTITY" in rest
    schema.columns[table][words[0]] = Column(rest[: end.start() if end else None].strip(), is_needed)


def _alter(schema: Schema, table: str, action: str) -> None:
    """Add one action of ALTER TABLE to the schema."""
    words = action.replace("IF NOT EXISTS ", "").replace("IF EXISTS ", "").split()
    columns = schema.columns.get(table, {})
    match words:
        case ["ADD", "CONSTRAINT", *_]:
            _add(schema, table, " ".join(words[1:]))
        case ["ADD", "COLUMN", *_]:
            _add(schema, table, " ".join(words[2:]))
        case ["DROP", "CONSTRAINT", name, *_]:
            schema.constraints.pop((table, name), None)
        case ["DROP", "COLUMN", name, *_]:
            columns.pop(name, None)
        case ["ALTER", "COLUMN", name, "SET" | "DROP" as verb, "NOT", "NULL"]:
            columns[name] = Column(columns[name].kind, is_needed=verb == "SET")
        case ["ALTER", "COLUMN", name, *between, "TYPE", kind] if between in ([], ["SET", "DATA"]):
            columns[name] = Column(kind, columns[name].is_needed)
        case ["RENAME", "COLUMN", old, "TO", new]:
            columns[new] = columns.pop(old)
        case ["RENAME", "CONSTRAINT", old, "TO", new]:
            schema.constraints[table, new] = schema.constraints.pop((table, old)).replace(old, new, 1)
        case _:
            pass


def _drop(schema: Schema, kind: str, name: str, table: str | None) -> None:
    match kind:
        case "INDEX":
            schema.indexes.pop(name, None)
        case "TRIGGER":
            schema.triggers.pop((str(table), name), None)
        case _:
            schema.columns.pop(name, None)
            for constraint in [key for key in schema.constraints if key[0] == name]:
                del schema.constraints[constraint]
            for index in [key for key, index in schema.indexes.items() if index.table == name]:
                del schema.indexes[index]
            for trigger in [key for key in schema.triggers if key[0] == name]:
                del schema.triggers[trigger]
