"""Rows of a file for accountants: CSV that no spreadsheet takes for formulas, or JSON lines.

A spreadsheet reads a cell that begins with `=`, `+`, `-` or `@` as a formula, which may fetch and send what it likes,
and so it does with the wide forms of these characters, and after blanks that it passes over. It decides what a cell is:
the same file is split at commas here, at semicolons there, at tabs or bars elsewhere, and a quotation mark holds
nothing together then that does not begin a cell. So an apostrophe stands before each such character at the beginning
of a cell or after a separator of any kind. Serial numbers and user ids may begin with `-`, and a gateway's file may
hold anything. Numbers are never below zero in these files.

`restore_cell` gives the original back: at the same places it takes one apostrophe away. JSON lines have every value as
it is.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import IO, Final, TypeAlias

from wallet_schemas import times

Cell: TypeAlias = str | int | bool | dict[str, str] | None

# What begins a formula: four characters, the true minus sign, and every form of them that Unicode has.
_FORMULA: Final = frozenset(
    "=+-@"
    "\u2212\u207a\u207b\u207c\u208a\u208b\u208c\u2a75\u2a76\ufb29\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
)
_LINE_ENDS: Final = frozenset("\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
SEPARATORS: Final = frozenset(",;\t|:^ ") | _LINE_ENDS
_APOSTROPHE: Final = "'"
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800")  # letters and signs that show nothing
# Most cells: numbers, times, names. A colon separates cells too, so after it stands what begins no formula.
_is_plain: Final = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z._+@-]|:(?![+@-]))*").fullmatch


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSONL = "jsonl"


class UnwritableError(Exception):
    """The file cannot be written, or nobody reads it any more: its cause says which. What is there is not whole."""


@contextmanager
def translate_write_errors() -> Iterator[None]:
    """Raise UnwritableError where a file or standard output cannot be written.

    It is no OSError, which around a database means that the database is away.
    """
    try:
        yield
    except OSError as exc:
        raise UnwritableError(exc.strerror or str(exc)) from exc


class TableWriter:
    """A file whose rows all have the same columns; CSV begins with their names. Absent values are empty, or null."""

    def __init__(self, out: IO[str], columns: Sequence[str], form: Format) -> None:
        self._out = out
        self._columns = tuple(columns)
        self._form = form
        self._csv = csv.writer(
            out, lineterminator="\r\n"
        )  # RFC 4180; with another, "\r" in a cell is not quoted
        if form is Format.CSV:
            with translate_write_errors():
                self._csv.writerow(columns)

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Add the rows, whose cells are in the order of the columns; raises UnwritableError."""
        with translate_write_errors():
            match self._form:
                case Format.CSV:
                    self._csv.writerows([escape_formula(cell) for cell in row] for row in rows)
                case Format.JSONL:
                    self._out.writelines(self._object(row) for row in rows)

    def _object(self, row: Sequence[Cell]) -> str:
        return json.dumps(dict(zip(self._columns, row, strict=True)), separators=(",", ":")) + "\n"


def escape_formula(cell: Cell) -> Cell:
    """Return the cell so that a spreadsheet takes it for what it is, whatever it separates cells by."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, dict):  # a text of JSON, which begins with a brace
        cell = json.dumps(cell, ensure_ascii=False, separators=(",", ":"))
    if not isinstance(cell, str) or _is_plain(cell):
        return cell
    return "".join(_pieces(cell, lambda apostrophes: _APOSTROPHE + apostrophes))


def restore_cell(text: str) -> str:
    """Return what `escape_formula` made this text of."""
    return "".join(_pieces(text, lambda apostrophes: apostrophes[1:]))


def _pieces(text: str, changed: Callable[[str], str]) -> Iterator[str]:
    """Yield the text in pieces, with the apostrophes before what steers a spreadsheet changed; there may be none."""
    boundary: str | None = (
        ""  # the separator after which a cell may begin here; empty at the beginning, else absent
    )
    apostrophes = ""
    for mark in text:
        if boundary is None:
            yield mark
        elif mark == _APOSTROPHE:
            apostrophes += mark
            continue
        elif _steers(mark, boundary):
            yield changed(apostrophes) + mark
        elif not apostrophes and _is_unseen(mark):
            yield mark
            boundary = mark if mark in SEPARATORS else boundary
            continue
        else:
            yield apostrophes + mark
        apostrophes = ""
        boundary = mark if mark in SEPARATORS else None
    yield apostrophes


def _steers(mark: str, boundary: str) -> bool:
    """Return whether a cell must not begin with this: a formula, or a blank that is passed over before one."""
    return mark in _FORMULA or mark == "\t" or (mark in _LINE_ENDS and boundary not in _LINE_ENDS)


def _is_unseen(mark: str) -> bool:
    """Return whether a mark may be passed over at the beginning of a cell: a quotation mark, or what shows nothing."""
    return mark == '"' or mark.isspace() or not mark.isprintable() or mark in _FILLERS


def time_text(time: datetime | None) -> str | None:
    """Return a time in UTC as the contract writes it."""
    return None if time is None else times.to_text(time)
