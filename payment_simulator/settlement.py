"""The gateway's settlement file: its books, one line a payment, with differences if a test wants some to be found.

A payment stands in it with the state that it is in, once that is `succeeded` or `failed`. What is in progress,
unknown or lost is not settled.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TextIO

from payment_simulator.decide import Draws
from wallet_schemas import money
from wallet_schemas.parse import RESULTS, parse
from wallet_schemas.payments import PaymentResult
from wallet_schemas.settlement import COLUMNS, SettlementKind, SettlementLine
from wallet_schemas.values import PaymentKind, PaymentStatus


class LineDefect(StrEnum):
    """What is wrong with the line of one payment, on purpose."""

    MISSING = "missing"  # it is left out
    STRANGER = "stranger"  # after it comes a line about a payment that nobody asked for
    AMOUNT = "amount"  # one minor unit too much
    STATUS = "status"  # failed instead of succeeded, or the other way round
    DUPLICATE = "duplicate"  # it stands there twice
    GARBLED = "garbled"  # it begins with a quotation mark that is never closed


@dataclass(frozen=True, slots=True)
class Span:
    """From when, and until before when, payments have come to their state; absent: for ever."""

    since: datetime | None = None
    before: datetime | None = None

    def has(self, time: datetime) -> bool:
        """Whether the time is in it."""
        return (self.since is None or time >= self.since) and (self.before is None or time < self.before)


def settled(books: Iterable[tuple[PaymentKind, bytes]], span: Span) -> Iterator[SettlementLine]:
    """Yield the lines of the payments in the books that are settled, in their order.

    `books`: the kind of each payment, and the result that says its state, as it was or would be published.
    """
    for kind, body in books:
        result = parse(body, RESULTS)
        if not isinstance(result, PaymentResult):
            raise TypeError(f"parse let through a {result.type}")
        if result.status is not PaymentStatus.UNKNOWN and span.has(result.occurred_at):
            yield SettlementLine(
                payment_order_no=result.payment_order_no,
                kind=SettlementKind(kind.value),
                amount=result.amount,
                currency=result.currency,
                status=result.status,
                gateway_ref=result.gateway_ref,
                occurred_at=result.occurred_at,
            )


def write(
    lines: Iterable[SettlementLine], out: TextIO, *, shares: Mapping[LineDefect, float], seed: int
) -> tuple[int, Counter[LineDefect]]:
    """The file is written; returns how many payments it is about, and how many have which difference.

    Which payments have one is drawn from the seed and their numbers, and the same each time.
    """
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    payments = 0
    differences: Counter[LineDefect] = Counter()
    for line in lines:
        payments += 1
        draws = Draws(seed, line.payment_order_no)
        difference = _difference(shares, draws)
        if difference is not None:
            differences[difference] += 1
        if difference is LineDefect.GARBLED:
            out.write(f'"{",".join(_cells(line))}\r\n')
        else:
            writer.writerows(map(_cells, _stated_lines(line, difference, draws)))
    return payments, differences


def _difference(shares: Mapping[LineDefect, float], draws: Draws) -> LineDefect | None:
    point = draws.fraction("settlement")
    for difference in LineDefect:
        point -= shares.get(difference, 0.0)
        if point < 0:
            return difference
    return None


_OPPOSITE: Final = {
    PaymentStatus.SUCCEEDED: PaymentStatus.FAILED,
    PaymentStatus.FAILED: PaymentStatus.SUCCEEDED,
    PaymentStatus.UNKNOWN: PaymentStatus.UNKNOWN,
}


def _stated_lines(line: SettlementLine, difference: LineDefect | None, draws: Draws) -> list[SettlementLine]:
    """Return what the file says of a payment with that difference, or without one."""
    match difference:
        case LineDefect.MISSING:
            return []
        case LineDefect.STRANGER:
            stranger = {
                "payment_order_no": draws.reference("stranger"),
                "gateway_ref": draws.reference("odd"),
            }
            return [line, line.model_copy(update=stranger)]
        case LineDefect.AMOUNT:
            minor = money.to_minor(line.amount, line.currency)
            return [line.model_copy(update={"amount": money.to_text(minor + 1, line.currency)})]
        case LineDefect.STATUS:
            return [line.model_copy(update={"status": _OPPOSITE[line.status]})]
        case LineDefect.DUPLICATE:
            return [line, line]
        case LineDefect.GARBLED | None:
            return [line]


def _cells(line: SettlementLine) -> list[str]:
    return [str(value) for value in line.model_dump(mode="json", include=set(COLUMNS)).values()]
