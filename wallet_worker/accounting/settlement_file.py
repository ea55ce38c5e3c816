"""A gateway's settlement file, read record by record: what each says, or why it cannot be read.

The file is CSV as RFC 4180 has it: values may stand in quotation marks, with commas, line ends and doubled quotation
marks in them, and lines end with CRLF or LF. A byte order mark is passed over. A record that spans lines is taken if
it is whole and has as many values as there are columns; else its first line alone is invalid, so that a quotation
mark that is never closed spoils one line and not the rest of the file.

A file that is something else is refused with a sentence that says what it seems to be (`foreign_file`). A line takes
as much memory as it is long, so what is longer than any good line is not read at all.
"""

import csv
import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydantic import ValidationError

from wallet_schemas.faults import echo, faults_of
from wallet_schemas.money import AmountOutOfRange, UnknownCurrency
from wallet_schemas.settlement import COLUMNS, REVERSAL_COLUMN, SettlementKind, SettlementLine
from wallet_schemas.values import PaymentStatus, is_serial_no
from wallet_worker.accounting import foreign_file

LINE_BYTES_MAX: Final = 4_096  # ten times a long line, so that a gateway may add columns of its own
HEAD_BYTES_MAX: Final = 16_384  # of a file that is not a settlement file: enough to see what it is
_BOM: Final = b"\xef\xbb\xbf"
_PLACE_OF_NUMBER: Final = COLUMNS.index("payment_order_no")

_VALUE: Final = r'(?:"(?:[^"]|"")*"|[^",\r\n]*)'
_is_record: Final = re.compile(f"{_VALUE}(?:,{_VALUE})*").fullmatch

# Thousands in groups of three, whatever stands between them; the last mark may be the decimal one.
_grouped: Final = re.compile(
    r"([0-9]{1,3}(?:([,.' _\u00a0\u2009\u202f])[0-9]{3})(?:\2[0-9]{3})*)(?:[.,]([0-9]{1,4}))?"
).fullmatch
_grouped_as_in_india: Final = re.compile(r"([0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?:\.([0-9]{1,4}))?").fullmatch
_scientific: Final = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE][+-]?[0-9]+").fullmatch
_decimal_comma: Final = re.compile(r"([0-9]+),([0-9]{1,4})").fullmatch


class WrongFileError(Exception):
    """The file is not a settlement file; the text says what it seems to be, for people."""


class UnreadableFileError(Exception):
    """The file cannot be read any further, because the disk or the pipe has failed; the text is for people."""


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """A record that can be read, with the number of its first line, and the amount in minor units."""

    line_no: int
    line: SettlementLine
    amount_minor: int


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A record that cannot be read, and why.

    `payment_order_no` is what stands in its column; where the columns cannot be told from each other it is absent, and
    `candidates` are what it may be, the likeliest first.
    """

    line_no: int
    reason: str
    payment_order_no: str | None = None
    candidates: tuple[str, ...] = ()


class SettlementReader:
    """The records of an open file, which may be a pipe. `position` is how many bytes are read.

    Raises WrongFileError or UnreadableFileError, at any time, if it cannot be read any further.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read the names of the columns; raises WrongFileError if the file does not begin with them."""
        self._file = file
        self._line_no = 0  # of the line at which the last record began or ended
        self._ahead: deque[bytes] = deque()  # lines that were read and belong to no record yet
        self.position = 0
        self._place_of_ref: int | None = None
        self._width, self._places = self._read_names()

    @property
    def has_reversals(self) -> bool:
        """Whether the file tells of disputes, recalls and returns."""
        return self._place_of_ref is not None

    def __iter__(self) -> Iterator[ParsedLine | InvalidLine]:
        """Yield what is in each record after the first; empty lines are passed over."""
        while raw := self._next_line():
            self._line_no += 1
            if raw.strip():
                yield self._read(self._line_no, raw)

    def _read_names(self) -> tuple[int, Sequence[int]]:
        """Return how many columns there are, and where each of `COLUMNS` is among them."""
        first = self._next_line()
        self._line_no += 1
        try:
            names = [name.strip().lower() for name in self._values(first.removeprefix(_BOM), None)]
        except _BadRecordError:
            names = []
        if any(names.count(name) != 1 for name in COLUMNS):
            raise WrongFileError(foreign_file.describe(self._head(first), COLUMNS))
        if names.count(REVERSAL_COLUMN) == 1:
            self._place_of_ref = names.index(REVERSAL_COLUMN)
        return len(names), [names.index(name) for name in COLUMNS]

    def _head(self, first: bytes) -> bytes:
        """Return the beginning of the file, of which the first line has been read."""
        lines, size = [first], len(first)
        while size < HEAD_BYTES_MAX and (raw := self._next_line()):
            lines.append(raw)
            size += len(raw)
        return b"".join(lines)

    def _next_line(self) -> bytes:
        """Return the next line with its end, without most of it if it is too long; empty at the end of the file."""
        if self._ahead:
            return self._ahead.popleft()
        raw = rest = self._some()
        while len(rest) > LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = self._some()
        return raw

    def _some(self) -> bytes:
        try:
            some = self._file.readline(LINE_BYTES_MAX + 1)
        except OSError as exc:
            raise UnreadableFileError(exc.strerror or "the disk or the pipe failed") from exc
        self.position += len(some)
        return some

    def _read(self, line_no: int, raw: bytes) -> ParsedLine | InvalidLine:
        try:
            values = self._values(raw, self._width)
        except _BadRecordError as exc:
            return InvalidLine(line_no, str(exc), candidates=self._candidates(raw))
        if len(values) != self._width:
            return InvalidLine(line_no, self._wrong_width(raw, len(values)), candidates=self._candidates(raw))
        fields = {name: values[place] for name, place in zip(COLUMNS, self._places, strict=True)}
        if self._place_of_ref is not None and values[self._place_of_ref]:
            fields[REVERSAL_COLUMN] = values[self._place_of_ref]
        number = _bare(fields["payment_order_no"])
        try:
            line = SettlementLine.model_validate(fields)
            return ParsedLine(line_no, line, line.amount_minor)
        except ValidationError as exc:
            reason = "; ".join(
                f"{fault.field}: {_hint(fault.field, fields.get(fault.field, '')) or fault.message}"
                for fault in faults_of(exc)
            )
        except (AmountOutOfRange, UnknownCurrency) as exc:
            reason = str(exc)
            if hint := _hint("currency", fields["currency"]):
                reason += f"; {hint}"
        amount = fields["amount"]
        if "digits after the point" in reason and amount.count(".") == 1 and (match := _grouped(amount)):
            whole = match[1].replace(".", "")
            reason += f"; if its point is a grouping mark, {echo(amount)} should be written {whole}"
        return InvalidLine(line_no, reason, number if is_serial_no(number) else None)

    def _values(self, raw: bytes, width: int | None) -> list[str]:
        """Return the values of the record that begins with this line; later lines are taken if they are part of it.

        They are if the record is whole with them and, with `width`, has so many values. Raises _BadRecordError.
        """
        try:
            return _values(raw)
        except _OpenQuoteError:
            later: list[bytes] = []
            whole = raw
            while len(whole) <= LINE_BYTES_MAX and (line := self._next_line()):
                later.append(line)
                whole += line
                try:
                    values = _values(whole)
                except _OpenQuoteError:
                    continue
                except _BadRecordError:
                    break
                if width is None or len(values) == width:
                    self._line_no += len(later)
                    return values
                break
            self._ahead.extendleft(reversed(later))
            raise

    def _wrong_width(self, raw: bytes, width: int) -> str:
        what = f"it has {width} value{'' if width == 1 else 's'}, and the first line names {self._width}"
        if width > self._width:
            return f"{what}: perhaps a value has a comma in it and is not in quotation marks"
        other = foreign_file.other_separator(raw, self._width)
        if other is None:
            return what
        return f"{what}: its values seem to be separated by {foreign_file.SEPARATORS[other]}, not by commas"

    def _candidates(self, raw: bytes) -> tuple[str, ...]:
        """Return what may be the payment's number on a line whose values cannot be told from each other.

        A separator too many shifts the columns after it, one too few likewise: the number is where it should be,
        counted from the left or from the right. Where another mark separates as many values as there are columns,
        and commas do not, that mark is the separator.
        """
        text = raw.decode(errors="replace").strip("\r\n")
        other = foreign_file.other_separator(raw, self._width) if text.count(",") < self._width - 1 else None
        values = [_bare(value) for value in text.split(other or ",")]
        place = self._places[_PLACE_OF_NUMBER]
        from_left = values[place : place + 1]
        from_right = values[place - self._width :][:1] if self._width - place <= len(values) else []
        return tuple(dict.fromkeys(filter(is_serial_no, from_left + from_right)))


class _BadRecordError(Exception):
    """The bytes are not a record of RFC 4180; the text says why, for people."""


class _OpenQuoteError(_BadRecordError):
    """A quotation mark is never closed, or not on this line."""


def _values(raw: bytes) -> list[str]:
    """Return the values of a whole record; raises _BadRecordError."""
    if len(raw) > LINE_BYTES_MAX:
        raise _BadRecordError(f"it has more than {LINE_BYTES_MAX:,} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        where = f"byte {exc.start + 1} is 0x{raw[exc.start]:02X}"
        raise _BadRecordError(
            f"it is not UTF-8: {where}; it seems to be {foreign_file.encoding(raw)}"
        ) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if "\0" in text:
        raise _BadRecordError("it has a NUL byte")
    if '"' not in text:
        if "\r" in text:
            raise _BadRecordError("it has a CR that is not at its end")
        return text.split(",")
    if text.count('"') % 2:
        raise _OpenQuoteError("a quotation mark is never closed")
    if not _is_record(text):
        raise _BadRecordError(
            "a quotation mark is not at the beginning or the end of its value; "
            "a quotation mark within a value is written twice, and the value in quotation marks"
        )
    return next(csv.reader([text], strict=True))


_MARKS_AROUND: Final = "'\"`\u00b4\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_INVISIBLE: Final = frozenset({"Cf", "Cc"})
"""Categories of Unicode: joiners, direction marks, byte order marks, control characters."""


def _bare(value: str) -> str:
    """Return a value without what spreadsheets and web pages put around it: spaces, quotation marks, unseen characters.

    A spreadsheet keeps a number as a text by an apostrophe before it, or as `="123"`.
    """
    seen = "".join(letter for letter in value if unicodedata.category(letter) not in _INVISIBLE).strip()
    return seen.removeprefix("=").strip(_MARKS_AROUND).strip()


_ALLOWED: Final = {
    "kind": frozenset(kind.value for kind in SettlementKind),
    "status": frozenset(status.value for status in PaymentStatus),
}
_SYMBOLS: Final = {
    "NT$": "TWD", "NTD": "TWD", "US$": "USD", "HK$": "HKD", "S$": "SGD", "A$": "AUD", "\u20ac": "EUR", "\u00a3": "GBP",
    "RMB": "CNY", "\u20a9": "KRW", "\u0e3f": "THB",
}  # fmt: skip


def _hint(field: str, value: str) -> str | None:
    """Return what is wrong with a value as spreadsheets and people write it, and how it should be written."""
    stripped, bare, shown = value.strip(), _bare(value), echo(value)
    if bare and bare != value and field != "amount":
        if bare == stripped:
            return f"{shown} has a space before or after it, and should not"
        if any(unicodedata.category(letter) in _INVISIBLE for letter in stripped):
            return f"{shown} has characters that cannot be seen; it should be written {echo(bare)}"
        return (
            f"{shown} has a mark before or after it, as spreadsheets write; it should be written {echo(bare)}"
        )
    if (allowed := _ALLOWED.get(field)) is not None:
        return f"{shown} should be written {value.lower()}" if value.lower() in allowed else None
    if field == "currency":
        code = _SYMBOLS.get(value.upper(), value.upper())
        known = code != value and re.fullmatch("[A-Z]{3}", code)
        return f"{shown} should be written {code}" if known else None
    return _amount_hint(value, shown) if field == "amount" else None


_currency_around: Final = re.compile(
    r"(?:[A-Za-z$\u00a3\u00a5\u20ac\u20a9\u0e3f.]*\s*)([0-9].*?)(?:\s*[A-Za-z$\u20ac\u00a5\u20a9\u5143]*)"
).fullmatch


def _amount_hint(value: str, shown: str) -> str | None:
    bare = re.sub(
        "[.,]-$", "", unicodedata.normalize("NFKC", _bare(value)).strip()
    )  # 100.- is a whole amount
    if _scientific(bare):
        return f"{shown} is in scientific notation; it should be written out in digits"
    if re.fullmatch(r"\([^()]*[0-9][^()]*\)|[-\u2212].*[0-9].*|.*[0-9].*[-\u2212]", bare):
        return f"{shown} seems to be negative; the kind says which way money goes, and the amount is positive"
    if bare.startswith("+") and bare[1:2].isdecimal():
        return f"{shown} has a sign; it should be written {echo(bare[1:])}"
    if (match := _currency_around(bare)) and match[1] != bare:
        plain = _plain(match[1]) or match[1]
        return f"{shown} has a currency in it; it should be written {echo(plain)}, and the currency in its own column"
    if (plain := _plain(bare)) is not None and plain != value:
        if _decimal_comma(bare) and not _grouped(bare):
            return f"{shown} has a decimal comma; it should be written {plain}"
        if bare == value.strip() == plain:
            return f"{shown} has a space before or after it, and should not"
        if bare != value:
            return f"{shown} should be written {plain}"
        return f"{shown} has grouping marks; it should be written {plain}"
    if value.strip() != value:
        return f"{shown} has a space before or after it, and should not"
    return None


def _plain(value: str) -> str | None:
    """Return an amount as the contract has it, if it is one as people write it."""
    if (match := _grouped(value)) and (match[3] is not None or match[2] != "." or match[1].count(".") > 1):
        return ".".join(filter(None, (re.sub("[^0-9]", "", match[1]), match[3])))
    if match := _grouped_as_in_india(value):
        return ".".join(filter(None, (match[1].replace(",", ""), match[2])))
    if match := _decimal_comma(value):
        return f"{match[1]}.{match[2]}"
    return value if re.fullmatch(r"[0-9]+(?:\.[0-9]{1,4})?", value) else None
