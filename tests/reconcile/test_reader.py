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
    UnreadableFileError,
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
    assert read.line.model_dump(mode="json") == GOOD | {
        "occurred_at": "2026-01-02T03:04:05.000000Z",
        "reversal_ref": None,
    }


def test_a_quoted_value_may_have_commas_and_quotation_marks() -> None:
    read = only(line(gateway_ref='a "b", c'))

    assert isinstance(read, ParsedLine)
    assert read.line.gateway_ref == 'a "b", c'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line(payment_order_no="R 1"), "payment_order_no: Should be of letters, digits and . _ : - only"),
        *(
            (line(kind=kind), "kind: Input should be 'charge', 'payout', 'refund' or 'reversal'")
            for kind in ("status", "cancel", "chargeback")
        ),
        (line(amount="1e2"), "amount: 1e2 is in scientific notation; it should be written out in digits"),
        (line(amount="-1.00"), "amount: -1.00 seems to be negative; the kind says which way money goes"),
        (line(amount="1.300"), "; if its point is a grouping mark, 1.300 should be written 1300"),
        (line(amount="1.300.000"), "1.300.000 has grouping marks; it should be written 1300000"),
        (
            line(amount="NT$1,300.00"),
            "has a currency in it; it should be written 1300.00, and the currency in its own",
        ),
        (line(amount="(100.00)"), "(100.00) seems to be negative"),
        (line(amount="\uff11\uff10\uff10"), "should be written 100"),
        (line(kind="CHARGE"), "kind: CHARGE should be written charge"),
        (line(status="Succeeded"), "status: Succeeded should be written succeeded"),
        (line(currency="NT$"), "currency: NT$ should be written TWD"),
        (line(currency="NTD"), "; NTD should be written TWD"),
        (
            line(payment_order_no="'R-1"),
            "'R-1 has a mark before or after it, as spreadsheets write; it should be",
        ),
        (line(payment_order_no="R-1\u200b"), "has characters that cannot be seen; it should be written R-1"),
        (line(amount="0.00"), "amount: Should be a decimal above zero"),
        (line(amount="1,000.00"), "amount: 1,000.00 has grouping marks; it should be written 1000.00"),
        (line(amount="1.001"), "amount: TWD has 2 digits after the point"),
        (line(amount="1" * 30), "the amount is above 10000000000000.00 TWD"),
        (line(currency="twd"), "currency: twd should be written TWD"),
        (line(currency="ZZZ"), "'ZZZ' is no ISO 4217 currency"),
        (line(status="settled"), "status: Input should be"),
        (line(gateway_ref=""), "gateway_ref: String should have at least 1 character"),
        (line(occurred_at="2026-01-02"), "occurred_at: Should be a time in RFC 3339"),
        (
            line(kind="x", status="y"),
            "kind: Input should be 'charge', 'payout', 'refund' or 'reversal'; status: ",
        ),
        (line() + ",", "it has 8 values, and the first line names 7"),
        (line().rpartition(",")[0], "it has 6 values, and the first line names 7"),
        ('"' + line(), "a quotation mark is never closed"),
        (line(gateway_ref="x" * LINE_BYTES_MAX), f"it has more than {LINE_BYTES_MAX:,} bytes"),
        ("\0", "it has a NUL byte"),
        (
            line().replace("100.00", "1,300.00"),
            "it has 8 values, and the first line names 7: perhaps a value has a comma in it and is not in",
        ),
        (
            line().replace(",", ";"),
            "it has 1 value, and the first line names 7: its values seem to be separated by semi",
        ),
        (line(amount="1.300,50"), "amount: 1.300,50 has grouping marks; it should be written 1300.50"),
        (line(amount="1 300"), "amount: 1 300 has grouping marks; it should be written 1300"),
        (line(amount="12,50"), "amount: 12,50 has a decimal comma; it should be written 12.50"),
        (line(amount=" 12.50"), "amount:  12.50 has a space before or after it, and should not"),
        (
            line(payment_order_no="R-1 "),
            "payment_order_no: R-1  has a space before or after it, and should not",
        ),
        (line().replace("gw-1", 'g"w'), "a quotation mark is never closed"),
        (line().replace("gw-1", 'g"w"'), "a quotation mark is not at the beginning or the end of its value"),
        (line().replace("gw-1", '"gw" '), "a quotation mark is not at the beginning or the end of its value"),
        ("R-1\r" + line()[3:], "it has a CR that is not at its end"),
        ("nonsense", "it has 1 value, and the first line names 7"),
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
    assert bad.reason == "it is not UTF-8: byte 33 is 0xE9; it seems to be Windows-1252 or Latin-1"


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
    assert [item.line_no for item in read] == numbers
    good = [item.line_no for item in read if isinstance(item, ParsedLine)]
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

    with pytest.raises(UnreadableFileError, match="Input/output error"):
        list(file)


def test_a_value_may_have_line_ends_and_lines_are_counted_on() -> None:
    header = f"{HEADER},note\n"
    text = header + line() + ',"one\r\n\r\ntwo, ""three"""\r\n' + line() + ",\n"

    first, second = SettlementReader(BytesIO(text.encode()))

    assert isinstance(first, ParsedLine)
    assert isinstance(second, ParsedLine)
    assert (first.line_no, second.line_no) == (2, 5)


@pytest.mark.parametrize(
    ("lines", "bad"),
    [
        (['"' + line(), line(), line()], [2]),
        (['"' + line(), line(), '"' + line()], [2, 4]),
        (['"' + line()] * 40, list(range(2, 42))),
        ([line() + '"', line(), line(gateway_ref='x "y"')], [2]),
        (['"', line(), '"', line()], [2, 4]),
        # What spans lines and is whole, but has not as many values as there are columns, spoils its first line alone.
        (['a,"b', 'c"', line()], [2, 3]),
        # A record longer than any good line is not waited for.
        (['"' + "x" * 2_000, "y" * 2_000, "z" * 2_000, line()], [2, 3, 4]),
    ],
)
def test_a_quotation_mark_that_is_never_closed_spoils_its_own_line(lines: list[str], bad: list[int]) -> None:
    read = list(reader(*lines))

    assert [item.line_no for item in read] == list(range(2, len(lines) + 2))
    assert [item.line_no for item in read if isinstance(item, InvalidLine)] == bad


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        (line(amount="1,300.00"), ("R-1",)),
        (line().replace("100.00", "1,300.00"), ("R-1", "charge")),
        ('"' + line(), ("R-1",)),
        (line(gateway_ref="x" * LINE_BYTES_MAX), ("R-1",)),
        (line().rpartition(",")[0], ("R-1",)),
        (line(payment_order_no=" R-1"), ("R-1",)),
        (line(payment_order_no="'R-1"), ("R-1",)),
        (line(payment_order_no="R\u200b-1"), ("R-1",)),
        (line(payment_order_no="\u201cR-1\u201d"), ("R-1",)),
        (line().replace("R-1", '"=""R-1"""'), ("R-1",)),
        (line().replace("R-1", "'R-1").replace("100.00", "1,300.00"), ("R-1", "charge")),
        (line(payment_order_no="R/1"), ()),
        (line().replace(",", ";"), ("R-1",)),
        (line().replace(",", "\t"), ("R-1",)),
        (line().replace(",", ";").replace("100.00", "100,00"), ("R-1",)),
        ('"' + line().replace(",", "|"), ("R-1",)),
        (line().replace(",", "/"), ()),
    ],
)
def test_a_bad_line_names_its_payment_where_that_can_be_read(text: str, candidates: tuple[str, ...]) -> None:
    bad = only(text)

    assert isinstance(bad, InvalidLine)
    assert (bad.candidates or (bad.payment_order_no,)) == (candidates or (None,))


def test_the_number_of_a_payment_is_found_from_the_right_where_a_comma_stands_before_it() -> None:
    columns = ["note", *COLUMNS]
    text = ",".join(columns) + "\nfee, of 2 %," + line() + ",\n" + "a,b," + line() + "\n"

    first, second = SettlementReader(BytesIO(text.encode()))

    assert isinstance(first, InvalidLine)
    assert isinstance(second, InvalidLine)
    assert second.candidates == ("b", "R-1")
