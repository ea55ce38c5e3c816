"""What every statement of the product holds to: no `*`, and no change of its meaning when a column is added."""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import wallet_worker
from tests.store.statements import statements

STAR = re.compile(r"\b(SELECT|RETURNING)\s+(ALL\s+|DISTINCT\s+(ON\s*\([^)]*\)\s*)?)?\*|,\s*\*|\b\w+\.\*")
OF_TEXT = frozenset({"STRING", "FSTRING_MIDDLE"})  # the latter from Python 3.12 on
OF_SQL = re.compile(r"\b(SELECT|RETURNING|INSERT|UPDATE|DELETE)\b")


def _strings_of_sql() -> Iterator[tuple[str, str]]:
    """Give each piece of text in the product's sources that has a verb of SQL in it, with its place."""
    root = Path(wallet_worker.__file__).parent
    for path in sorted(root.rglob("*.py")):
        with tokenize.open(path) as source:
            for token in tokenize.generate_tokens(source.readline):
                if tokenize.tok_name[token.type] in OF_TEXT and OF_SQL.search(token.string):
                    yield f"{path.relative_to(root)}:{token.start[0]}", token.string


def test_no_statement_selects_whatever_a_table_has() -> None:
    """A column that somebody adds would change the answer: its plan becomes invalid, and its rows wider."""
    pieces = list(_strings_of_sql())

    assert len(pieces) > 150
    assert [place for place, text in pieces if STAR.search(re.sub(r"--.*", "", text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT *",
        "SELECT  *\nFROM a",
        "SELECT e.*, o.b",
        "SELECT now, *",
        "RETURNING *",
        "SELECT DISTINCT ON (a) *",
    ],
)
def test_the_search_for_it_finds_it(text: str) -> None:
    assert STAR.search(text)


@pytest.fixture
async def columns_of_all(owner: asyncpg.Connection) -> asyncpg.Connection:
    """Give a database in which each table has a column for every name that a column has in any of the others.

    So does it for every name that a statement gives to something. Whatever somebody adds is called like one of those,
    or like nothing that a statement says.
    """
    tables = [
        row[0] for row in await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'wallet'")
    ]
    there = await owner.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'wallet'"
    )
    aliases = {name for text in statements().values() for name in re.findall(r"\bAS (\w+)\b", text)}
    names = {row["column_name"] for row in there} | {name for name in aliases if name.islower()}
    for table in tables:
        missing = sorted(names - {row["column_name"] for row in there if row["table_name"] == table})
        additions = ", ".join(f'ADD COLUMN "{name}" text' for name in missing)
        await owner.execute(f'ALTER TABLE "{table}" {additions}')
    return owner


async def _refused(connection: asyncpg.Connection) -> dict[str, str]:
    """Return the statements that the database does not understand, and why not."""
    refused: dict[str, str] = {}
    for place, text in statements().items():
        try:
            async with connection.transaction():
                await connection.prepare(text)
        except asyncpg.PostgresError as exc:
            refused[place] = str(exc)
    return refused


async def test_the_schema_has_everything_that_a_statement_names(owner: asyncpg.Connection) -> None:
    assert len(statements()) > 140
    assert await _refused(owner) == {}


async def test_a_column_of_whatever_name_makes_no_statement_ambiguous(
    columns_of_all: asyncpg.Connection,
) -> None:
    assert await _refused(columns_of_all) == {}
