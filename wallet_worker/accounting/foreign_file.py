"""What a file seems to be that is not a settlement file, in a sentence for whoever sent it or asked for it."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from wallet_schemas.faults import echo

SEPARATORS: Final[Mapping[str, str]] = MappingProxyType(
    {";": "semicolons", "\t": "tabs", "|": "vertical bars", ":": "colons", "^": "carets"}
)
_SIGNATURES: Final = (
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls): save it as CSV in UTF-8"),
    (b"%PDF", "a PDF: ask for the file as CSV"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\0", "an xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x1f\x9d", "a compressed file (.Z): unpack it first"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"PAR1", "a Parquet file: ask for the file as CSV"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"{\\rtf", "a text document (RTF): save it as CSV in UTF-8"),
    (b"-----BEGIN PGP", "encrypted or signed with PGP: decrypt it first"),
    (b"-----BEGIN ", "a key or a certificate"),
)
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_BOM: Final = b"\xef\xbb\xbf"
_SAVE_AS_UTF_8: Final = "save it as UTF-8"
_UTF_32: Final = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_NUL_SHARE: Final = 0.2  # of the even or the odd bytes: of Latin text in UTF-16 nearly all of one of them
_PREAMBLE_LINES_MAX: Final = 100
_KINDS: Final = frozenset({"charge", "payout", "refund"})


def describe(head: bytes, columns: Sequence[str]) -> str:
    """Return what the file seems to be that begins with these bytes, and what to do; it does not name the columns."""
    return _by_bytes(head) or _by_first_words(head) or _by_encoding(head) or _by_lines(head, columns)


def _by_encoding(head: bytes) -> str | None:
    """Return in what its names are, if not in UTF-8; what stands in later lines, the lines are read for."""
    names = head[: head.find(b"\n")] if b"\n" in head else head
    try:
        names.decode()
    except UnicodeDecodeError as exc:
        return f"it is not UTF-8 at byte {exc.start + 1}; it seems to be {encoding(names)}: {_SAVE_AS_UTF_8}"
    return None


_WIDE: Final[Mapping[str, str]] = MappingProxyType(
    {"Big5": "big5", "GB 18030": "gb18030", "Shift JIS": "shift_jis", "EUC-KR": "euc_kr"}
)
_high_bytes_in_a_row: Final = re.compile(rb"[\x80-\xff]{2}").search


def encoding(raw: bytes) -> str:
    """Return what encoding bytes seem to be in that are not UTF-8: one name, or two where both fit."""
    # An accent stands alone among letters; a character of East Asia is mostly two bytes beyond ASCII.
    wide = (
        [name for name, codec in _WIDE.items() if _decodes(raw, codec)] if _high_bytes_in_a_row(raw) else []
    )
    return " or ".join(wide[:2]) if wide else "Windows-1252 or Latin-1"


def _decodes(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError as exc:
        return exc.end >= len(raw)  # cut within a character
    return True


def other_separator(raw: bytes, width: int) -> str | None:
    """Return the mark by which a line's values seem to be separated, if not by commas: so that there are `width`."""
    text = raw.decode(errors="replace")
    return next((mark for mark in SEPARATORS if text.count(mark) == width - 1 > 0), None)


def _by_bytes(head: bytes) -> str | None:
    if not head.removeprefix(_BOM).strip():
        return "it has only empty lines" if head else "it is empty"
    if head.startswith(_UTF_32):
        return f"it seems to be UTF-32: {_SAVE_AS_UTF_8}"
    if head.startswith(_UTF_16):
        return f"it seems to be UTF-16: {_SAVE_AS_UTF_8}"
    if head.startswith(_ZIP):
        return f"it seems to be {_zipped(head)}"
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return f"it seems to be {what}"
    return _with_nul(head) if b"\0" in head else None


def _zipped(head: bytes) -> str:
    if any(name in head for name in (b"xl/", b"[Content_Types].xml", b"docProps/")):
        return "an Excel workbook (.xlsx): save it as CSV in UTF-8"
    if b"opendocument.spreadsheet" in head:
        return "an OpenDocument spreadsheet (.ods): save it as CSV in UTF-8"
    return "a ZIP archive: unpack it first"


def _with_nul(head: bytes) -> str:
    quarters = [head[start::4].count(0) / max(1, len(head[start::4])) for start in range(4)]
    if sum(share > 1 - _NUL_SHARE for share in quarters) == 3:  # noqa: PLR2004 -- three of a character's four bytes
        return f"it seems to be UTF-32 without a byte order mark: {_SAVE_AS_UTF_8}"
    even, odd = (head[start::2].count(0) / max(1, len(head[start::2])) for start in range(2))
    if abs(even - odd) > _NUL_SHARE:
        return f"it seems to be UTF-16 without a byte order mark: {_SAVE_AS_UTF_8}"
    return "it has NUL bytes, so it is not text: it seems to be a binary file or a damaged one"


_MARKUP: Final = re.compile(rb"<(?:!doctype\s+html|html|head|body|script|title|meta)\b", re.IGNORECASE)


def _by_first_words(head: bytes) -> str | None:
    begin = head.removeprefix(_BOM).lstrip()
    if begin.startswith(b"<"):
        if _MARKUP.search(begin[:1_024]):
            return (
                "it seems to be a web page (HTML), perhaps one that asks to sign in: download the file itself"
            )
        return "it seems to be XML: ask for the file as CSV"
    if begin.startswith((b"{", b"[")):
        return "it seems to be JSON: ask for the file as CSV"
    return None


def _by_lines(head: bytes, columns: Sequence[str]) -> str:
    text = head.decode(errors="replace").removeprefix("\ufeff")
    first_line, end = _first_line(text)
    if end == "\r":
        return "its lines end with CR alone, as on an old Mac: save it with CRLF or LF"
    for number, line in enumerate(_lines(text), start=1):
        if number > _PREAMBLE_LINES_MAX:
            break
        for mark, name in ((",", "commas"), *SEPARATORS.items()):
            if set(columns) <= set(_names(line, mark)):
                return _misplaced(line, mark, name, number, columns)
    return _by_names(first_line, columns)


def _misplaced(line: str, mark: str, name: str, number: int, columns: Sequence[str]) -> str:
    """Return what is wrong with a file that names the columns, with other separators or not on its first line."""
    twice = [column for column in columns if _names(line, mark).count(column) > 1]
    if number == 1 and mark == ",":
        if twice:
            return f"its first line names {_joined(twice)} more than once"
        return "its first line has a quotation mark that is never closed, or in the wrong place"
    wrong: list[str] = []
    if mark != ",":
        wrong.append(f"its values are separated by {name}, and should be by commas")
    if number > 1:
        before = f"{number - 1} line{'s' if number > 2 else ''}"  # noqa: PLR2004 -- one line before the second
        wrong.append(
            f"{before} {'stand' if number > 2 else 'stands'} before the one that names the columns, "  # noqa: PLR2004
            f"which is line {number}: remove {'them' if number > 2 else 'it'}"  # noqa: PLR2004
        )
    return ", and ".join(wrong)


def _by_names(line: str, columns: Sequence[str]) -> str:
    mark = max((",", *SEPARATORS), key=line.count)
    names = _names(line, mark)
    rule = f"its first line has to name each of the columns {', '.join(columns)} once, separated by commas"
    if _KINDS & set(names):
        return f"its first line seems to be a payment: {rule}"
    missing = [column for column in columns if column not in names]
    likely = [
        f"{column} ({echo(near)}?)" if (near := _similar(column, names)) else column for column in missing
    ]
    if len(missing) == len(columns) and not any("?" in likely_name for likely_name in likely):
        return rule
    wrong = f"; it does not name {_joined(likely)}"
    if mark != ",":
        wrong += f", and its values are separated by {SEPARATORS[mark]}"
    return rule + wrong


def _similar(column: str, names: Sequence[str]) -> str | None:
    """Return the name that may be meant for a column: spelt with spaces or hyphens, or nearly so."""
    by_letters = {re.sub(r"[^a-z0-9]", "", name): name for name in names if name}
    near = difflib.get_close_matches(column.replace("_", ""), by_letters, n=1, cutoff=0.75)
    return by_letters[near[0]] if near else None


def _names(line: str, mark: str) -> list[str]:
    return [name.strip().strip("\"'").strip().lower() for name in line.split(mark)]


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names)


def _first_line(text: str) -> tuple[str, str]:
    """Return the first line and the character that ends it; CR only if the text has no LF."""
    if "\n" not in text and "\r" in text:
        return text.partition("\r")[0], "\r"
    return text.partition("\n")[0], "\n"


def _lines(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield line.removesuffix("\r")
