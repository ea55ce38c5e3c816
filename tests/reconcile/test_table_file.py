"""No cell that we write is a formula to a spreadsheet, whatever it separates cells by, and none is lost."""

import csv
import json
import re
import sys
import unicodedata
from io import StringIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.rules.core.mixtures import UNHURRIED
from wallet_worker.accounting.table_file import SEPARATORS, Format, TableWriter, escape_formula, restore_cell

FORMULA = {
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.normalize("NFKC", chr(code))[:1] in {"=", "+", "-", "@"}
} | {"\u2212"}
STEERING = FORMULA | {"\t"}
HOSTILE = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "'=1", "''-1", "=cmd|' /C calc'!A0"),
    *("x;=1+2;y", "x,=1+2,y", "x\t=1+2", "x|=1+2", "x;@a", "x;+1", "x;-1", "x;\uff0b1", "x;\t=1", "x;\r=1"),
    *('x;"=1+2"', 'x;""=1', '";=1', 'x;" =1', "x; =1", "x;\u00a0=1", "x;\ufeff=1", "x;\u200b=1", "x\n=1", "x\r\n=1"),
    *("x\r\n\r\n=1", 'a"\n"=1', "x;'=1", "x;''=1;'-2", "x;'\"=1", "x;'a", "'", "';'=", "\u2028=1", "x;\u3164=1"),
    *("x:+1+2", "x:@SUM", "a:-2+3", "x:=1", "x^=1", "x^-2", "1:2:+3"),
]  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.text(
    "=+-@\uff1d\u2212;,:^\t| \r\n\"'ab\u00a0\ufeff", max_size=12
)


def written(*cells: str) -> str:
    """Return a file with one row of these cells, without the names of its columns."""
    out = StringIO(newline="")
    TableWriter(out, [f"column{number}" for number in range(len(cells))], Format.CSV).write([cells])
    return out.getvalue().split("\r\n", 1)[1]


def seen(piece: str) -> str:
    """Return a piece without what a spreadsheet may pass over at its beginning."""
    return re.sub(r"^[\s\"\x00-\x1f\x7f-\xa0\xad\u200b-\u200f\u2060\u3164\ufeff]+", "", piece)


def is_harmless(piece: str) -> bool:
    return piece[:1] not in STEERING and seen(piece)[:1] not in FORMULA


@UNHURRIED
@given(st.lists(texts | st.sampled_from(HOSTILE), min_size=1, max_size=3))
@example(["x;=1+2;y"])
@example(["x:+1+2"])
@example(["x:@SUM", "a:-2+3", "x^=1"])
def test_no_piece_of_a_file_begins_a_formula_however_it_is_split(cells: list[str]) -> None:
    text = written(*cells)

    for separator in sorted(SEPARATORS - set("\r\n")):
        # As a spreadsheet that minds quotation marks splits it, and as one that does not.
        for row in csv.reader(StringIO(text, newline=""), delimiter=separator):
            assert all(map(is_harmless, row)), (separator, row)
        for piece in re.split(f"[{re.escape(separator)}\r\n]", text):
            assert is_harmless(piece) or piece == "", (separator, piece)


@UNHURRIED
@given(texts | st.sampled_from(HOSTILE))
def test_the_original_of_a_cell_can_be_had_again(cell: str) -> None:
    ((read, last),) = csv.reader(StringIO(written(cell, "x"), newline=""))

    assert (restore_cell(read), last) == (cell, "x")


@pytest.mark.parametrize(
    ("cell", "harmless"),
    [
        ("-2-3", "'-2-3"),
        ("x;=1+2;y", "x;'=1+2;y"),
        ("x:+1+2", "x:'+1+2"),
        ("x:@SUM", "x:'@SUM"),
        ("a:-2+3", "a:'-2+3"),
        ("worker:1:a-b", "worker:1:a-b"),
        ("'=1", "''=1"),
        ('x;"=1', "x;\"'=1"),
        ("a\r\n-1", "a\r\n'-1"),
        ("a\n\nb", "a\n\nb"),
        # What is no formula stays as it is.
        ("R-2026-01", "R-2026-01"),
        ("2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05.000006Z"),
        ("it's 5+5 = 10", "it's 5+5 '= 10"),
        ("alice+shop@example.com", "alice+shop@example.com"),
        ("100.00 TWD there, 5.00 TWD here", "100.00 TWD there, 5.00 TWD here"),
        ("", ""),
        (None, None),
        (7, 7),
        (True, "true"),
        (False, "false"),
    ],
)
def test_a_cell_is_changed_only_where_it_steers(cell: str | int | None, harmless: str | int | None) -> None:
    assert escape_formula(cell) == harmless


def test_every_form_of_the_four_characters_is_known() -> None:
    assert all(escape_formula(mark) == f"'{mark}" for mark in FORMULA)


@UNHURRIED
@given(texts)
def test_json_lines_have_every_value_as_it_is(cell: str) -> None:
    out = StringIO()

    TableWriter(out, ["a", "b"], Format.JSONL).write([(cell, None)])

    assert json.loads(out.getvalue()) == {"a": cell, "b": None}
