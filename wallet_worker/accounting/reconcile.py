"""Whether the gateway's books and the orders agree, payment by payment, in memory that does not grow with either.

The file is read once. For some thousand lines at a time the orders are looked up by their serial numbers, all in one
moment of the database and under the role that can only read: nothing is written there, not even a temporary table,
so that it works on a standby too. Which numbers were met is kept in a temporary file of SQLite's, on this machine.

What is missing there can only be said of a span of time: an order whose money moved, by the gateway's own word and
time (`payment_results.occurred_at`), in a span that the file is meant to cover. The wallet's time of the credit would
not do: it is later, and on either side of midnight.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from types import MappingProxyType
from typing import Final, Self, TypeAlias

import asyncpg

from wallet_schemas.money import to_text
from wallet_schemas.settlement import SettlementKind
from wallet_schemas.values import OrderStatus, PaymentStatus
from wallet_worker.accounting.export import TimeRange
from wallet_worker.accounting.settlement_file import InvalidLine, ParsedLine, SettlementReader
from wallet_worker.accounting.table_file import time_text
from wallet_worker.core.orders import ORDER_SPECS
from wallet_worker.store.errors import translate_errors
from wallet_worker.store.reads import accounting as reads
from wallet_worker.store.reads.accounting import BookedReversal, PaidOrder
from wallet_worker.store.snapshot import snapshot

APPLICATION: Final = "wallet reconcile"
BATCH_LINES: Final = 5_000  # more is no faster, and the progress bar moves in these steps
SHOWN_MAX: Final = 10  # findings of each kind: enough to see a pattern


class Comparison(StrEnum):
    """What came out for a line of the file, or for an order that none is about. `meaning` says it to a person."""

    meaning: str

    MATCHED = "matched", "both sides say the same"
    MISSING_HERE = "missing_here", "the wallet has no such order"
    MISSING_THERE = "missing_there", "the order's money moved in that time, and the file has no line about it"
    DIFFERENT_KIND = "different_kind", "the order is of another kind than the payment"
    DIFFERENT_AMOUNT = "different_amount", "the order has another amount or currency"
    DIFFERENT_STATUS = "different_status", "the order stands otherwise than the payment"
    DIFFERENT_REF = "different_ref", "the order was paid by another payment of the gateway's"
    DUPLICATE = "duplicate", "an earlier line is about the same order"
    BAD_LINE = "bad_line", "the line cannot be read"

    def __new__(cls, value: str, meaning: str) -> Self:
        """Return the member: a string like any other, that knows what it means."""
        verdict = str.__new__(cls, value)
        verdict._value_ = value
        verdict.meaning = meaning
        return verdict


AGREEING: Final[Mapping[PaymentStatus, frozenset[OrderStatus]]] = MappingProxyType(
    {
        PaymentStatus.SUCCEEDED: frozenset({OrderStatus.SUCCEEDED}),
        # What the wallet has given up is no money on either side.
        PaymentStatus.FAILED: frozenset({OrderStatus.FAILED, OrderStatus.EXPIRED, OrderStatus.CANCELLED}),
        PaymentStatus.UNKNOWN: frozenset({OrderStatus.PENDING}),
    }
)
"""As what an order may stand when the gateway says that of its payment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationFinding:
    """Something on which the two sides do not agree. What is absent is not known, or not there."""

    verdict: Comparison
    detail: str
    payment_order_no: str | None = None
    line_no: int | None = None
    parsed: ParsedLine | None = None
    order: PaidOrder | None = None

    def row(self) -> dict[str, str | int | None]:
        """Return it as a row of a table."""
        line = None if self.parsed is None else self.parsed.line
        order = self.order
        return {
            "verdict": self.verdict.value,
            "line_no": self.line_no,
            "payment_order_no": self.payment_order_no,
            "kind": None if line is None else line.kind.value,
            "amount": None if line is None else line.amount,
            "currency": None if line is None else line.currency,
            "status": None if line is None else line.status.value,
            "gateway_ref": None if line is None else line.gateway_ref,
            "order_type": None if order is None else order.order_type.value,
            "order_amount": None if order is None else to_text(order.amount_minor, order.currency),
            "order_currency": None if order is None else order.currency,
            "order_status": None if order is None else order.status.value,
            "order_gateway_ref": None if order is None else order.gateway_ref,
            "detail": self.detail,
        }


COLUMNS: Final = tuple(ReconciliationFinding(verdict=Comparison.BAD_LINE, detail="").row())

OnProgress: TypeAlias = Callable[[int], None]
"""Is told how many bytes of the file have been compared."""
OnFindings: TypeAlias = Callable[[Sequence[ReconciliationFinding]], None]
"""Is told of all findings, some at a time."""


@dataclass(slots=True)
class ReconciliationReport:
    """What was compared and what was found: `verdicts` counts all, `findings` are the first of each kind."""

    shown_max: int
    verdicts: Counter[Comparison] = field(default_factory=Counter)
    findings: list[ReconciliationFinding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether both sides agree on everything."""
        return set(self.verdicts) <= {Comparison.MATCHED}

    @property
    def lines(self) -> int:
        """How many lines the file has, without its first and empty ones."""
        return self.verdicts.total() - self.verdicts[Comparison.MISSING_THERE]

    def add(self, findings: Iterable[ReconciliationFinding]) -> None:
        """Count the findings, and keep those that are among the first of their kind."""
        for finding in findings:
            self.verdicts[finding.verdict] += 1
            if self.verdicts[finding.verdict] <= self.shown_max:
                self.findings.append(finding)


async def reconcile(
    dsn: str,
    reader: SettlementReader,
    *,
    span: TimeRange | None,
    shown_max: int = SHOWN_MAX,
    on_progress: OnProgress = lambda _position: None,
    on_findings: OnFindings = lambda _findings: None,
) -> ReconciliationReport:
    """Return how the file and the orders of one moment agree.

    `span`: when the payments of which the file is meant to have all came about; absent: what is missing in the file is
    not looked for. Raises the errors of `store.errors`, and what `on_findings` raises.
    """
    begun = time.monotonic()
    report = ReconciliationReport(shown_max)
    with translate_errors(), closing(SeenPayments()) as met:
        async with snapshot(dsn, APPLICATION) as connection:
            for batch in _batches(reader):
                findings = await _compare(connection, met, batch)
                matched = len(batch) - len(findings)
                if matched:
                    report.verdicts[Comparison.MATCHED] += matched
                report.add(findings)
                on_findings(findings)
                on_progress(reader.position)
            if span is not None:
                async for rows in reads.moved(connection, span.since, span.before):
                    findings = _missing_there(rows, met)
                    report.add(findings)
                    on_findings(findings)
            if span is not None and reader.has_reversals:
                async for standing in reads.reversed_in(connection, span.since, span.before):
                    findings = _reversals_missing_there(standing, met)
                    report.add(findings)
                    on_findings(findings)
    report.seconds = time.monotonic() - begun
    return report


def _batches(reader: SettlementReader) -> Iterator[list[ParsedLine | InvalidLine]]:
    lines = iter(reader)
    while batch := list(islice(lines, BATCH_LINES)):
        yield batch


async def _compare(
    connection: asyncpg.Connection, met: "SeenPayments", batch: Sequence[ParsedLine | InvalidLine]
) -> list[ReconciliationFinding]:
    """Return what is found on these lines, at most one finding for each; the others match."""
    findings: list[ReconciliationFinding] = []
    firsts: list[ParsedLine] = []
    invalid: list[InvalidLine] = []
    for parsed in batch:
        if isinstance(parsed, InvalidLine):
            invalid.append(parsed)
        elif (earlier := met.record(parsed)) is not None:
            findings.append(_finding(Comparison.DUPLICATE, parsed, None, earlier))
        else:
            firsts.append(parsed)
    orders = await reads.paid_orders(
        connection,
        [
            *(first.line.payment_order_no for first in firsts),
            *(number for bad_line in invalid for number in _named(bad_line)),
        ],
    )
    turned = [first for first in firsts if first.line.kind is SettlementKind.REVERSAL]
    reversals = await reads.reversals_of(connection, [first.line.payment_order_no for first in turned])
    for first in firsts:
        order = orders.get(first.line.payment_order_no)
        finding = (
            _compare_reversal(first, order, reversals)
            if first.line.kind is SettlementKind.REVERSAL
            else _compare_line(first, order)
        )
        if finding is not None:
            findings.append(finding)
    findings += (_unreadable(bad_line, orders, met) for bad_line in invalid)
    findings.sort(key=lambda finding: finding.line_no or 0)
    return findings


def _named(line: InvalidLine) -> tuple[str, ...]:
    return line.candidates if line.payment_order_no is None else (line.payment_order_no,)


def _unreadable(
    line: InvalidLine, orders: Mapping[str, PaidOrder], met: "SeenPayments"
) -> ReconciliationFinding:
    """Return the finding on a line that cannot be read, and note the payment that it names: it is not missing."""
    number = next((number for number in _named(line) if number in orders), line.payment_order_no)
    if number is not None:
        met.name(number)
    return ReconciliationFinding(
        verdict=Comparison.BAD_LINE,
        detail=line.reason,
        line_no=line.line_no,
        payment_order_no=number,
        order=None if number is None else orders.get(number),
    )


def _compare_line(parsed: ParsedLine, order: PaidOrder | None) -> ReconciliationFinding | None:
    """Return on what a line and its order do not agree, the gravest if on several, or nothing."""
    line = parsed.line
    if order is None:
        return _finding(Comparison.MISSING_HERE, parsed, None, "there is no order of this number")
    if ORDER_SPECS[order.order_type].payment != line.kind.value:
        return _finding(
            Comparison.DIFFERENT_KIND, parsed, order, f"{line.kind} there, {order.order_type} here"
        )
    if (parsed.amount_minor, line.currency) != (order.amount_minor, order.currency):
        here = f"{to_text(order.amount_minor, order.currency)} {order.currency}"
        return _finding(
            Comparison.DIFFERENT_AMOUNT, parsed, order, f"{line.amount} {line.currency} there, {here} here"
        )
    if order.status not in AGREEING[line.status]:
        return _finding(
            Comparison.DIFFERENT_STATUS, parsed, order, f"{line.status} there, {order.status} here"
        )
    if order.gateway_ref is not None and order.gateway_ref != line.gateway_ref:
        detail = f"{line.gateway_ref} there, {order.gateway_ref} here"
        return _finding(Comparison.DIFFERENT_REF, parsed, order, detail)
    return None


def _compare_reversal(
    parsed: ParsedLine, order: PaidOrder | None, reversals: Mapping[tuple[str, str], BookedReversal]
) -> ReconciliationFinding | None:
    """Return on what a line and what stands of its dispute, recall or return do not agree, or nothing."""
    line = parsed.line
    if order is None:
        return _finding(Comparison.MISSING_HERE, parsed, None, "there is no order of this number")
    known = reversals.get((line.payment_order_no, line.reversal_ref or ""))
    if known is None:
        why = f"the wallet has no reversal {line.reversal_ref} of the order"
        return _finding(Comparison.MISSING_HERE, parsed, order, why)
    stands_minor = parsed.amount_minor if line.status is PaymentStatus.SUCCEEDED else 0
    if (stands_minor > 0) != (known.moved_minor > 0):
        return _finding(
            Comparison.DIFFERENT_STATUS, parsed, order, f"{line.status} there, {known.status} here"
        )
    if (stands_minor, line.currency) != (known.moved_minor, order.currency):
        here = f"{to_text(known.moved_minor, order.currency)} {order.currency}"
        why = f"{line.amount} {line.currency} there, {here} moved here"
        return _finding(Comparison.DIFFERENT_AMOUNT, parsed, order, why)
    return None


def _reversals_missing_there(
    standing: Sequence[BookedReversal], met: "SeenPayments"
) -> list[ReconciliationFinding]:
    absent = met.unseen([_key(each.serial_no, each.reversal_ref) for each in standing])
    return [
        ReconciliationFinding(
            verdict=Comparison.MISSING_THERE,
            detail=f"{to_text(each.moved_minor, each.currency)} {each.currency} are moved back by the reversal "
            f"{each.reversal_ref}",
            payment_order_no=each.serial_no,
        )
        for each in standing
        if _key(each.serial_no, each.reversal_ref) in absent
    ]


def _key(payment_order_no: str, reversal_ref: str | None) -> str:
    """Return what a file may have one line about."""
    return payment_order_no if reversal_ref is None else f"{payment_order_no}\n{reversal_ref}"


def _finding(
    verdict: Comparison, parsed: ParsedLine, order: PaidOrder | None, detail: str
) -> ReconciliationFinding:
    return ReconciliationFinding(
        verdict=verdict,
        detail=detail,
        payment_order_no=parsed.line.payment_order_no,
        line_no=parsed.line_no,
        parsed=parsed,
        order=order,
    )


def _missing_there(orders: Sequence[PaidOrder], met: "SeenPayments") -> list[ReconciliationFinding]:
    absent = met.unseen([order.serial_no for order in orders])
    return [
        ReconciliationFinding(
            verdict=Comparison.MISSING_THERE,
            detail=f"the gateway said that it succeeded at {time_text(order.occurred_at)}",
            payment_order_no=order.serial_no,
            order=order,
        )
        for order in orders
        if order.serial_no in absent
    ]


class SeenPayments:
    """The payments that the file has been met with, on the disk as soon as they are many."""

    def __init__(self) -> None:
        # Without a name it is a file of its own that nobody else sees, and that is gone when it is closed.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_MET)

    def close(self) -> None:
        """Forget all of them."""
        self._connection.close()

    def record(self, parsed: ParsedLine) -> str | None:
        """Note that a line is about its payment; return what an earlier line said, if one was, for a person."""
        line = parsed.line
        values = (line.kind.value, parsed.amount_minor, line.currency, line.status.value, line.gateway_ref)
        key = _key(line.payment_order_no, line.reversal_ref)
        cursor = self._connection.execute(_MEET, (key, parsed.line_no, *values))
        if cursor.rowcount:
            return None
        line_no, *earlier = self._connection.execute(_RECALL, (key,)).fetchone()
        if tuple(earlier) == values:
            return f"line {line_no} says the same"
        kind, amount_minor, currency, status, gateway_ref = earlier
        return f"line {line_no} says {kind}, {to_text(amount_minor, currency)} {currency}, {status}, {gateway_ref}"

    def name(self, number: str) -> None:
        """Note that a line that cannot be read names this payment."""
        self._connection.execute(_NAME, (number,))

    def unseen(self, numbers: Sequence[str]) -> set[str]:
        """Return those of the numbers that no line was about, nor named."""
        return {
            number
            for number in numbers
            if all(
                self._connection.execute(query, (number,)).fetchone() is None for query in (_RECALL, _NAMED)
            )
        }


_MET: Final = """
PRAGMA cache_size = -32768;  -- 32 MiB: what is more goes to the disk
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE met (
    payment_order_no TEXT NOT NULL PRIMARY KEY,
    line_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    gateway_ref TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE named (payment_order_no TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;
BEGIN;  -- for good: nothing of it is ever kept
"""
_MEET: Final = "INSERT OR IGNORE INTO met VALUES (?, ?, ?, ?, ?, ?, ?)"
_NAME: Final = "INSERT OR IGNORE INTO named VALUES (?)"
_NAMED: Final = "SELECT 1 FROM named WHERE payment_order_no = ?"
_RECALL: Final = """
SELECT line_no, kind, amount_minor, currency, status, gateway_ref FROM met WHERE payment_order_no = ?
"""
