"""A gateway's settlement file, read line by line: what each says, or why it cannot be read.

Each line is read by itself: a quotation mark that is never closed spoils one line, and not the rest of the file.
A line in the file takes as much memory as it is long, so what is longer than any good line is not read at all.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydantic import ValidationError

from wallet_schemas.money import AmountOutOfRange, UnknownCurrency
from wallet_schemas.settlement import COLUMNS, SettlementLine

LINE_BYTES_MAX: Final = 4_096  # ten times a long line, so that a gateway may add columns of its own
_BOM: Final = b"\xef\xbb\xbf"


class WrongFileError(Exception):
    """The file is no settlement file at all; the text is for people."""


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """A line that can be read, with the amount in minor units."""

    line_no: int
    line: SettlementLine
    amount_minor: int


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """A line that cannot be read, and why."""

    line_no: int
    reason: str


class SettlementReader:
    """The lines of an open file, which may be a pipe. `position` is how many bytes are read.

    Raises WrongFileError, at any time, if it cannot be read any further.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read the first line; raises WrongFileError if it does not name the columns."""
        self._file = file
        self._line_no = 0
        self.position = 0
        header = self._next()
        if header is None:
            raise WrongFileError("it is empty")
        self._width, self._places = _columns(header.removeprefix(_BOM))

    def __iter__(self) -> Iterator[ParsedLine | InvalidLine]:
        """Yield what is on each line after the first; empty lines are passed over."""
        while (raw := self._next()) is not None:
            if raw.strip():
                yield self._read(raw)

    def _next(self) -> bytes | None:
        """Return the next line, without most of it if it is too long, or nothing at the end."""
        raw = rest = self._some()
        while len(rest) > LINE_BYTES_MAX and not rest.endswith(b"\n"):
            rest = self._some()
        self._line_no += 1
        return raw or None

    def _some(self) -> bytes:
        try:
            some = self._file.readline(LINE_BYTES_MAX + 1)
        except OSError as exc:
            raise WrongFileError(f"it cannot be read: {exc.strerror}") from exc
        self.position += len(some)
        return some

    def _read(self, raw: bytes) -> ParsedLine | InvalidLine:
        try:
            values = _values(raw)
            if len(values) != self._width:
                return self._bad(f"it has {len(values)} values, and the first line names {self._width}")
            line = SettlementLine.model_validate(
                {name: values[place] for name, place in zip(COLUMNS, self._places, strict=True)}
            )
            return ParsedLine(self._line_no, line, line.amount_minor)
        except ValidationError as exc:
            return self._bad(
                "; ".join(
                    f"{'.'.join(map(str, fault['loc'])) or 'amount'}: {fault['msg']}"
                    for fault in exc.errors(include_url=False, include_context=False, include_input=False)
                )
            )
        except (UnicodeDecodeError, csv.Error, AmountOutOfRange, UnknownCurrency, _TooLongError) as exc:
            return self._bad(str(exc))

    def _bad(self, reason: str) -> InvalidLine:
        return InvalidLine(self._line_no, reason)


class _TooLongError(Exception):
    """The line has more bytes than a line may have."""


def _values(raw: bytes) -> list[str]:
    if len(raw) > LINE_BYTES_MAX:
        raise _TooLongError(f"it has more than {LINE_BYTES_MAX:,} bytes")
    text = raw.removesuffix(b"\n").removesuffix(b"\r").decode()
    return next(csv.reader([text], strict=True), [])


def _columns(raw: bytes) -> tuple[int, Sequence[int]]:
    """Return how many columns there are, and where each of `COLUMNS` is among them."""
    try:
        names = [name.strip().lower() for name in _values(raw)]
    except (UnicodeDecodeError, csv.Error, _TooLongError):
        names = []
    wrong = [name for name in COLUMNS if names.count(name) != 1]
    if wrong:
        raise WrongFileError(
            f"its first line has to name each of the columns {', '.join(COLUMNS)} once, separated by commas, "
            f"and does not do so for {', '.join(wrong)}"
        )
    return len(names), [names.index(name) for name in COLUMNS]
