"""`wallet reconcile`."""

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Json, read_span
from wallet_worker.cli.output import output_file, progress

if TYPE_CHECKING:
    from wallet_worker.accounting.export import TimeRange
    from wallet_worker.accounting.reconcile import ReconciliationFinding, ReconciliationReport

STANDARD_INPUT = "-"


def reconcile(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The gateway's settlement file; - for standard input.")
    ],
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Begin of the time span that the file covers: 2026-01-31.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="End of that span, exclusive. Without an offset: UTC."),
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Findings to show of each kind.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write all findings to this file, as CSV for a spreadsheet.",
        ),
    ] = None,
    as_json: Json = None,
) -> None:
    """Compare a gateway's settlement file with the orders, payment by payment.

    The file is CSV (RFC 4180) in UTF-8. Its first line names the columns payment_order_no, kind (charge, payout or
    refund), amount, currency, status (succeeded, failed or unknown), gateway_ref and occurred_at (as
    2026-01-31T12:00:00Z), in any order and among others.
    A line that cannot be read is a finding; the rest is compared.

    Payments missing from the file are searched only within --from and --to, the span that the file covers.
    Needs WALLET_DATABASE_URL only. The wallet keeps running. A million lines take about a minute.

    Exit status: 0 if both sides agree, 1 if not, 2 if the file is not a settlement file, 3 if the database is away.

    Example: wallet reconcile settlement.csv --from 2026-01-01 --to 2026-01-02 -o differences.csv
    """
    url = environment.database_url()
    span = _span(since, until)
    with _opened(file) as lines:
        report = _compared(url, lines, file, span, show, output)
    if terminal.wants_json(as_json):
        terminal.print_json(_document(report, span))
    else:
        _print_report(report, span)
    if not report.clean:
        raise typer.Exit(Exit.FOUND)


def _span(since: str | None, until: str | None) -> "TimeRange | None":
    from wallet_worker.accounting.export import TimeRange

    if since is None and until is None:
        return None
    begin, end = read_span(since, until)
    return TimeRange(since=begin, before=end)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115 -- what goes wrong later is not about opening it
    except OSError as exc:
        exits.end(Exit.MISUSED, f"{file} cannot be read: {exc.strerror}")
    with opened:
        yield opened


def _compared(
    url: str, lines: BinaryIO, name: str, span: "TimeRange | None", shown_max: int, output: Path | None
) -> "ReconciliationReport":
    from wallet_worker.accounting.reconcile import reconcile
    from wallet_worker.accounting.settlement_file import (
        SettlementReader,
        UnreadableFileError,
        WrongFileError,
    )

    size = _size(lines)
    try:
        reader = SettlementReader(lines)
        with _all_findings(output) as noted, progress("read", shown=True, in_bytes=True) as moved:
            return exits.run(
                reconcile(
                    url,
                    reader,
                    span=span,
                    shown_max=shown_max,
                    on_progress=lambda position: moved(position, size),
                    on_findings=noted,
                )
            )
    except WrongFileError as exc:
        exits.end(Exit.MISUSED, f"{name} is not a settlement file: {exc}")
    except UnreadableFileError as exc:
        exits.end(Exit.UNAVAILABLE, f"{name} cannot be read to its end: {exc}; nothing was compared")
    except sqlite3.Error:
        exits.end(Exit.UNAVAILABLE, "the temporary files have no room or no place; nothing was compared")


def _size(lines: BinaryIO) -> int | None:
    """Return how many bytes the file has, if that is known."""
    try:
        found = os.fstat(lines.fileno())
    except OSError:  # standard input that is no file at all
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _all_findings(output: Path | None) -> "Iterator[Any]":
    """Give what writes findings to the file, if there is to be one."""
    if output is None:
        yield lambda _findings: None
        return
    from wallet_worker.accounting.reconcile import COLUMNS
    from wallet_worker.accounting.table_file import Format, TableWriter

    with output_file(output) as out:
        sheet = TableWriter(out, COLUMNS, Format.CSV)

        def note(findings: "Sequence[ReconciliationFinding]") -> None:
            sheet.write(tuple(finding.row().values()) for finding in findings)

        yield note


def _print_report(report: "ReconciliationReport", span: "TimeRange | None") -> None:
    from wallet_worker.accounting.reconcile import Comparison

    looked_at = f"{report.lines:,} lines in {report.seconds:.1f} s"
    if span is None:
        looked_at += "; what is missing in the file was not looked for (--from, --to)"
    if report.clean:
        terminal.print_result(f"both sides agree: {looked_at}")
        return
    terminal.print_table(
        f"differences in {looked_at}",
        ("what", "line", "order", "what is different"),
        (
            (
                finding.verdict.value,
                "" if finding.line_no is None else str(finding.line_no),
                finding.payment_order_no or "",
                finding.detail,
            )
            for finding in report.findings
        ),
        right=("line",),
    )
    terminal.print_table(
        "all of them",
        ("what", "times", "which means that"),
        (
            (verdict.value, f"{report.verdicts[verdict]:,}", verdict.meaning)
            for verdict in Comparison
            if report.verdicts[verdict]
        ),
        right=("times",),
    )


def _document(report: "ReconciliationReport", span: "TimeRange | None") -> dict[str, Any]:
    from wallet_worker.accounting.reconcile import Comparison
    from wallet_worker.accounting.table_file import time_text

    return {
        "clean": report.clean,
        "lines": report.lines,
        "from": None if span is None else time_text(span.since),
        "to": None if span is None else time_text(span.before),
        "seconds": round(report.seconds, 3),
        "verdicts": {
            verdict.value: report.verdicts[verdict]
            for verdict in Comparison
            # What was not looked for is not nought.
            if verdict is not Comparison.MISSING_THERE or span is not None
        },
        "findings": [finding.row() for finding in report.findings],
    }
