"""The tests by number: those with the mark of a need (`need(13)`), and those named after a row (`test_row_7_…`)."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeAlias

TESTS = Path(__file__).parents[1]

_ROWS = re.compile(r"test_rows?_(\d+)(?:_and_(\d+))?_")
_Test: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tests_by_file() -> Mapping[str, tuple[_Test, ...]]:
    """Return the tests of each file, by its path in `tests/`."""
    return {
        path.relative_to(TESTS).as_posix(): tuple(
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        )
        for path in sorted(TESTS.rglob("test_*.py"))
    }


def names() -> set[str]:
    """Return every test as `file::name`."""
    return {f"{file}::{test.name}" for file, tests in tests_by_file().items() for test in tests}


def of_needs() -> Mapping[int, list[tuple[str, str]]]:
    """Return the file and the name of each test of a need, by the need's number."""
    return _by_number(_needs)


def of_rows() -> Mapping[int, list[tuple[str, str]]]:
    """Return the file and the name of each test of a row of the faults, by the row's number."""
    return _by_number(_rows)


def _by_number(numbers: Callable[[_Test], Iterable[int]]) -> Mapping[int, list[tuple[str, str]]]:
    found: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
    for file, tests in tests_by_file().items():
        for test in tests:
            for number in numbers(test):
                found[number].append((file, test.name))
    return found


def _needs(test: _Test) -> Iterator[int]:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.need":
            yield from (ast.literal_eval(argument) for argument in mark.args)


def _rows(test: _Test) -> Iterator[int]:
    match = _ROWS.match(test.name)
    yield from (int(number) for number in match.groups() if number) if match else ()
