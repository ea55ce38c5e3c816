"""Every row of the matrix of faults has a test that is named after it, where the README says that it is."""

import ast
import re
from pathlib import Path

ROWS = 28
HERE = Path(__file__).parent
FOLDERS = (HERE, HERE.parent / "dead_letters")
"""Rows 19 to 21, of the keeper and of replays, are where their wallet with a keeper is."""

_NAMED = re.compile(r"test_rows?_(\d+)(?:_and_(\d+))?_")
_LISTED = re.compile(r"^\| ([\d, to]+) \| `([^`]+\.py)` \|", re.MULTILINE)


def rows_of_tests() -> set[tuple[int, Path]]:
    """Return each row with the file of a test that is named after it."""
    return {
        (int(row), path)
        for folder in FOLDERS
        for path in folder.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for found in [_NAMED.match(node.name)]
        if found
        for row in found.groups()
        if row
    }


def rows_of_the_readme() -> set[tuple[int, Path]]:
    """Return each row with the file in which the README has it: `1 to 5, 25`."""
    return {
        (row, (HERE / file).resolve())
        for rows, file in _LISTED.findall((HERE / "README.md").read_text())
        for part in rows.split(", ")
        for first, _, last in [part.partition(" to ")]
        for row in range(int(first), int(last or first) + 1)
    }


def test_every_row_has_a_test() -> None:
    assert {row for row, _ in rows_of_tests()} == set(range(1, ROWS + 1))


def test_the_readme_says_where_each_row_is() -> None:
    assert rows_of_the_readme() == rows_of_tests()
