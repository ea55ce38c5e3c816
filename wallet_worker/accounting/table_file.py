"""Rows of a file for accountants: CSV that no spreadsheet takes for formulas, or JSON lines.

A spreadsheet reads a cell that begins with `=`, `+`, `-` or `@` as a formula, which may fetch and send what it likes,
and so it does after a tab or a line end, and with the wide forms of these characters. Serial numbers and user ids may
begin with `-`, and a gateway's file may hold anything: such a cell gets an apostrophe in front, which no value of the
wallet's own begins with. Numbers are never below zero in these files. JSON lines have every value as it is.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import IO, Final, TypeAlias

Cell: TypeAlias = str | int | bool | None

_STEERING: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


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
    """Return the cell so that a spreadsheet takes it for what it is."""
    if isinstance(cell, str) and cell and cell[0] in _STEERING:
        return f"'{cell}"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return cell


def time_text(time: datetime | None) -> str | None:
    """Return a time in UTC as the contract writes it."""
    return None if time is None else time.isoformat(timespec="microseconds")[:26] + "Z"
