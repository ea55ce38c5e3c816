"""Every row of the matrix of faults has a test that is named after it, here or beside the dead letters."""

import ast
import re
from pathlib import Path

ROWS = 28
FOLDERS = (Path(__file__).parent, Path(__file__).parent.parent / "dead_letters")
"""Rows 19 to 21, of the keeper and of replays, are where their wallet with a keeper is."""

_NAMED = re.compile(r"test_rows?_(\d+)(?:_and_(\d+))?_")


def test_every_row_has_a_test() -> None:
    names = [
        node.name
        for folder in FOLDERS
        for path in folder.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    rows = {
        int(row) for name in names for found in [_NAMED.match(name)] if found for row in found.groups() if row
    }

    assert rows == set(range(1, ROWS + 1))
