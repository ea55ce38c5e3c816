"""A settlement file is read line by line, and what one line spoils, it spoils alone."""

import csv
import io
import tracemalloc
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from tests.reconcile.files import GOOD, joined, line, reader
from tests.rules.core.mixtures import UNHURRIED
from wallet_schemas.settlement import COLUMNS
from wallet_worker.accounting.settlement_file import (
    LINE_BYTES_MAX,
    InvalidLine,
    ParsedLine,
    SettlementReader,
    WrongFileError,
)

HEADER = ",".join(COLUMNS)


def only(*lines: str) -> ParsedLine | InvalidLine:
    (read,) = reader(*lines)
    return read


def test_a_line_is_read_with_its_number_and_its_amount_in_minor_units() -> None:
    first, second = reader(line(), line(payment_order_no="R-2", amount="5", currency="JPY"))

    assert isinstance(first, ParsedLine)
    assert isinstance(second, ParsedLine)
    assert (first.line_no, first.amount_minor, first.line.payment_order_no) == (2, 10_000, "R-1")
    assert (second.line_no, second.amount_minor) == (3, 5)


@pytest.mark.parametrize(
    "text",
    [
        HEADER.encode() + b"\n" + line().encode(),
        HEADER.encode() + b"\r\n" + line().encode() + b"\r\n",
        b"\xef\xbb\xbf" + HEADER.encode() + b"\r\n" + line().encode() + b"\r\n",
        HEADER.encode() + b"\n\n  \n" + line().encode() + b"\n\n",
        joined(COLUMNS, quoting=csv.QUOTE_ALL).encode()
        + b"\n"
        + joined(GOOD.values(), quoting=csv.QUOTE_ALL).encode(),
        b" Payment_Order_No ,KIND,amount,currency,status,gateway_ref,occurred_at\n" + line().encode(),
        (
            "fee,"
            + ",".join(reversed(COLUMNS))
            + ",note\n1.00,"
            + ",".join(reversed(GOOD.values()))
            + ",\xe9"
        ).encode(),
    ],
    ids=[
        "unix",
        "windows",
        "with a BOM",
        "empty lines",
        "all quoted",
        "named otherwise",
        "other order, more columns",
    ],
)
def test_files_of_many_kinds_say_the_same(text: bytes) -> None:
    (read,) = SettlementReader(BytesIO(text))

    assert isinstance(read, ParsedLine)
    assert read.line.model_dump(mode="json") == GOOD | {"occurred_at": "2026-01-02T03:04:05.000000Z"}


def test_a_quoted_value_may_have_commas_and_quotation_marks() -> None:
    read = only(line(gateway_ref='a "b", c'))

    assert isinstance(read, ParsedLine)
    assert read.line.gateway_ref == 'a "b", c'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line(payment_order_no="R 1"), "payment_order_no: String should match pattern"),
        (line(kind="status"), "kind: A status request is no payment"),
        (line(kind="chargeback"), "kind: Input should be"),
        (line(amount="1e2"), "amount: String should match pattern"),
        (line(amount="-1.00"), "amount: String should match pattern"),
        (line(amount="0.00"), "amount: String should match pattern"),
        (line(amount="1,000.00"), "amount: String should match pattern"),
        (line(amount="1.001"), "amount: TWD has 2 digits after the point"),
        (line(amount="1" * 30), "the amount is above 10000000000000.00 TWD"),
        (line(currency="twd"), "currency: String should match pattern"),
        (line(currency="ZZZ"), "'ZZZ' is no ISO 4217 currency"),
        (line(status="settled"), "status: Input should be"),
        (line(gateway_ref=""), "gateway_ref: String should have at least 1 character"),
        (line(occurred_at="2026-01-02"), "occurred_at: Input should be a time in RFC 3339"),
        (
            line(kind="x", status="y"),
            "kind: Input should be 'charge', 'payout', 'refund' or 'status'; status: ",
        ),
        (line() + ",", "it has 8 values, and the first line names 7"),
        (line().rpartition(",")[0], "it has 6 values, and the first line names 7"),
        ('"' + line(), "unexpected end of data"),
        (line(gateway_ref="x" * LINE_BYTES_MAX), f"it has more than {LINE_BYTES_MAX:,} bytes"),
        ("\0", "it has 1 values"),
    ],
)
def test_a_bad_line_is_named_with_its_reason_and_the_rest_is_read(text: str, reason: str) -> None:
    before, bad, after = reader(line(), text, line())

    assert isinstance(bad, InvalidLine)
    assert (before.line_no, bad.line_no, after.line_no) == (2, 3, 4)
    assert reason in bad.reason
    assert isinstance(before, ParsedLine)
    assert isinstance(after, ParsedLine)


def test_a_line_in_another_encoding_is_bad() -> None:
    (bad,) = SettlementReader(BytesIO(f"{HEADER}\n".encode() + line(gateway_ref="\xe9").encode("latin-1")))

    assert isinstance(bad, InvalidLine)
    assert "can't decode" in bad.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "it is empty"),
        (line().encode(), "does not do so for payment_order_no, kind, amount"),
        (b"payment_order_no,kind,amount,currency,status,gateway_ref\n", "does not do so for occurred_at"),
        (HEADER.encode() + b",amount\n", "does not do so for amount"),
        (HEADER.replace(",", ";").encode(), "separated by commas"),
        (HEADER.encode("utf-16"), "does not do so for payment_order_no"),
        (b'"' + HEADER.encode(), "does not do so for payment_order_no"),
        (b"x" * 100_000, "does not do so for payment_order_no"),
        (b"\x1f\x8b\x08\x00" * 1_000, "does not do so for payment_order_no"),
    ],
    ids=[
        "empty",
        "no header",
        "one missing",
        "one twice",
        "semicolons",
        "UTF-16",
        "open quote",
        "long",
        "gzip",
    ],
)
def test_a_file_without_the_right_first_line_is_none(text: bytes, said: str) -> None:
    with pytest.raises(WrongFileError, match=said):
        SettlementReader(BytesIO(text))


@UNHURRIED
@given(
    st.lists(
        st.one_of(
            st.just(line().encode()),
            st.binary(max_size=200).map(lambda raw: raw.replace(b"\n", b"")),
            st.text('",\r\x0b\x1c\u2028 abc', max_size=50).map(str.encode),
        ),
        max_size=20,
    )
)
def test_whatever_stands_in_it_each_line_is_read_or_bad(lines: list[bytes]) -> None:
    text = b"\n".join([HEADER.encode(), *lines])
    file = SettlementReader(BytesIO(text))

    read = list(file)

    numbers = [number for number, raw in enumerate(lines, start=2) if raw.strip()]
    assert [one.line_no for one in read] == numbers
    good = [one.line_no for one in read if isinstance(one, ParsedLine)]
    assert good == [number for number, raw in enumerate(lines, start=2) if raw == line().encode()]
    assert file.position == len(text)


class Endless(io.RawIOBase):
    """So many bytes without the end of a line, after a good first line."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._first = f"{HEADER}\n".encode()

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        some = self._first or b"x" * min(self._left, len(buffer))
        if self._first:
            self._first = b""
        else:
            self._left -= len(some)
        buffer[: len(some)] = some
        return len(some)


def test_a_line_without_an_end_takes_no_memory() -> None:
    file = SettlementReader(io.BufferedReader(Endless(20_000_000)))
    tracemalloc.start()

    (bad,) = file

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(bad, InvalidLine)
    assert peak < 1_000_000


def test_a_disk_that_fails_is_said_so() -> None:
    class Failing(Endless):
        @override
        def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
            if self._first:
                return super().readinto(buffer)
            raise OSError(5, "Input/output error")

    file = SettlementReader(io.BufferedReader(Failing(1)))

    with pytest.raises(WrongFileError, match="it cannot be read: Input/output error"):
        list(file)
