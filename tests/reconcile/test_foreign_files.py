"""A file that is not a settlement file is refused with a sentence that says what it seems to be."""

import bz2
import gzip
import io
import lzma
import zipfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reconcile.files import line
from tests.rules.core.mixtures import UNHURRIED
from wallet_schemas.settlement import COLUMNS
from wallet_worker.accounting.settlement_file import ParsedLine, SettlementReader, WrongFileError

HEADER = ",".join(COLUMNS)
GOOD = f"{HEADER}\r\n{line()}\r\n"
NEVER_CLOSED = "its first line has a quotation mark that is never closed, or in the wrong place"
NAMES = f"its first line has to name each of the columns {', '.join(COLUMNS)} once, separated by commas"


def archive(*names: str) -> bytes:
    """Return a ZIP archive with files of these names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name in names:
            zipped.writestr(name, GOOD)
    return out.getvalue()


FOREIGN = {
    "empty": (b"", "it is empty"),
    "a BOM and nothing": (b"\xef\xbb\xbf", "it has only empty lines"),
    "empty lines": (b"\r\n \n\t\n", "it has only empty lines"),
    "UTF-16 with a BOM": (GOOD.encode("utf-16"), "it seems to be UTF-16: save it as UTF-8"),
    "UTF-16 big-endian": (b"\xfe\xff" + GOOD.encode("utf-16-be"), "it seems to be UTF-16: save it as UTF-8"),
    "UTF-16 without a BOM": (
        GOOD.encode("utf-16-le"),
        "it seems to be UTF-16 without a byte order mark: save it as UTF-8",
    ),
    "UTF-16 big-endian without a BOM": (
        GOOD.encode("utf-16-be"),
        "it seems to be UTF-16 without a byte order mark: save it as UTF-8",
    ),
    "UTF-32": (GOOD.encode("utf-32"), "it seems to be UTF-32: save it as UTF-8"),
    "UTF-32 without a BOM": (
        GOOD.encode("utf-32-be"),
        "it seems to be UTF-32 without a byte order mark: save it as UTF-8",
    ),
    "semicolons": (
        GOOD.replace(",", ";").encode(),
        "its values are separated by semicolons, and should be by commas",
    ),
    "tabs": (GOOD.replace(",", "\t").encode(), "its values are separated by tabs, and should be by commas"),
    "bars": (
        GOOD.replace(",", "|").encode(),
        "its values are separated by vertical bars, and should be by commas",
    ),
    "semicolons, quoted": (
        ";".join(f'"{name}"' for name in COLUMNS).encode(),
        "its values are separated by semicolons, and should be by commas",
    ),
    "one line before": (
        f"Settlement of 2026-01-02\n{GOOD}".encode(),
        "1 line stands before the one that names the columns, which is line 2: remove it",
    ),
    "a preamble": (
        f"Acme Payments\r\nMerchant: 4711\r\n\r\n{GOOD}".encode(),
        "3 lines stand before the one that names the columns, which is line 4: remove them",
    ),
    "a preamble with a quotation mark": (
        f'Acme "Payments\n{GOOD}'.encode(),
        "1 line stands before the one that names the columns, which is line 2: remove it",
    ),
    "what spreadsheets put first": (
        f"sep=;\r\n{GOOD.replace(',', ';')}".encode(),
        (
            "its values are separated by semicolons, and should be by commas, and "
            "1 line stands before the one that names the columns, which is line 2: remove it"
        ),
    ),
    "an empty line before": (
        f"\n{GOOD}".encode(),
        "1 line stands before the one that names the columns, which is line 2: remove it",
    ),
    "gzip": (gzip.compress(GOOD.encode()), "it seems to be a gzip archive: unpack it first"),
    "bzip2": (bz2.compress(GOOD.encode()), "it seems to be a bzip2 archive: unpack it first"),
    "xz": (lzma.compress(GOOD.encode()), "it seems to be an xz archive: unpack it first"),
    "ZIP": (archive("settlement.csv"), "it seems to be a ZIP archive: unpack it first"),
    "xlsx": (
        archive("[Content_Types].xml", "xl/workbook.xml"),
        "it seems to be an Excel workbook (.xlsx): save it as CSV in UTF-8",
    ),
    "xls": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
        "it seems to be an Excel workbook (.xls): save it as CSV in UTF-8",
    ),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "it seems to be a PDF: ask for the file as CSV"),
    "HTML": (
        b"\n<!DOCTYPE html>\n<html><body>Please sign in</body></html>",
        "it seems to be a web page (HTML), perhaps one that asks to sign in: download the file itself",
    ),
    "XML": (b'<?xml version="1.0"?><payments/>', "it seems to be XML: ask for the file as CSV"),
    "JSON": (b'[{"payment_order_no": "R-1"}]', "it seems to be JSON: ask for the file as CSV"),
    "JSON lines": (b'{"payment_order_no": "R-1"}\n', "it seems to be JSON: ask for the file as CSV"),
    "PGP": (
        b"-----BEGIN PGP MESSAGE-----\n",
        "it seems to be encrypted or signed with PGP: decrypt it first",
    ),
    "an old Mac's": (
        GOOD.replace("\r\n", "\r").encode(),
        "its lines end with CR alone, as on an old Mac: save it with CRLF or LF",
    ),
    "NUL bytes": (
        GOOD.replace("kind", "ki\0nd").encode(),
        "it has NUL bytes, so it is not text: it seems to be a binary file or a damaged one",
    ),
    "Latin-1": (
        GOOD.replace("kind", "kind,caf\xe9 du monde").encode("latin-1"),
        "it is not UTF-8 at byte 26; it seems to be Windows-1252 or Latin-1: save it as UTF-8",
    ),
    "Big5": (
        GOOD.replace("kind", "kind,交易備註").encode("big5"),
        "it is not UTF-8 at byte 23; it seems to be Big5 or GB 18030: save it as UTF-8",
    ),
    "Shift JIS": (
        GOOD.replace("kind", "kind,取引のメモ").encode("shift_jis"),
        "it is not UTF-8 at byte 23; it seems to be ",
    ),
    "no names": (line().encode(), f"its first line seems to be a payment: {NAMES}"),
    "one missing": (
        HEADER.replace(",occurred_at", "").encode(),
        f"{NAMES}; it does not name occurred_at",
    ),
    "one twice": (f"{HEADER},amount\n".encode(), "its first line names amount more than once"),
    "a name in other words": (
        HEADER.replace("gateway_ref", "Gateway Reference").replace("payment_order_no", "Payment-Order-No").encode(),
        f"{NAMES}; it does not name payment_order_no (payment-order-no?), gateway_ref (gateway reference?)",
    ),
    "other names": (b"a,b,c\n1,2,3\n", NAMES),
    "an open quotation mark": (f'"{HEADER}\n{line()}\n'.encode(), NEVER_CLOSED),
    "a long line": (b"x" * 100_000, NAMES),
    "a picture": (b"\x89PNG\r\n\x1a\n", "it seems to be a picture"),
    "binary": (bytes(range(200, 0, -1)) * 4, "it is not UTF-8 at byte 1; it seems to be Windows-1252 or Latin-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_is_something_else_is_said_to_be(name: str) -> None:
    text, sentence = FOREIGN[name]

    with pytest.raises(WrongFileError) as refused:
        SettlementReader(BytesIO(text))

    assert str(refused.value) == sentence or (
        sentence.endswith(("to be ", "Latin-1")) and str(refused.value).startswith(sentence)
    )


@UNHURRIED
@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_there_is_one_printable_sentence(raw: bytes) -> None:
    with pytest.raises(WrongFileError) as refused:
        SettlementReader(BytesIO(raw))

    sentence = str(refused.value)
    assert sentence.isprintable()
    assert 0 < len(sentence) < 1_000


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\r\n", "\n"),
        "\ufeff" + GOOD,
        GOOD.upper().replace("CHARGE", "charge").replace("SUCCEEDED", "succeeded").replace("GW-1", "gw-1"),
        f'"{HEADER.replace(",", chr(34) + "," + chr(34))}"\r\n{line()}\r\n',
        f'{HEADER},"a name\r\nin two lines, and a ""mark"""\r\n{line()},\r\n',
        f'{HEADER},note\r\n{line()},"two\r\nlines, and\n\na ""third"""\r\n',
        f"{HEADER},note\r\n{line()},小明\r\n",
    ],
    ids=["CRLF", "LF", "BOM", "capitals", "quoted", "a name with a line end", "a value with line ends", "Chinese"],
)  # fmt: skip
def test_what_rfc_4180_allows_is_taken(text: str) -> None:
    (read,) = SettlementReader(BytesIO(text.encode()))

    assert isinstance(read, ParsedLine)
    assert (read.line.payment_order_no, read.amount_minor) == ("R-1", 10_000)
