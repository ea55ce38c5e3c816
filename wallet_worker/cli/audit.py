"""`wallet audit`."""

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Json, finite

if TYPE_CHECKING:
    from wallet_worker.audit.findings import AuditFinding, AuditReport


def audit(
    *,
    show: Annotated[int, typer.Option(min=0, help="Findings to show of each kind.")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", help="Check new entries as they come, until an entry is wrong.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.01, callback=finite, help="With --follow: seconds between two checks.")
    ] = 2.0,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, help="With --follow: port of the metric wallet_audit_findings for Prometheus."
        ),
    ] = None,
    linger: Annotated[
        float | None,
        typer.Option(
            min=0,
            callback=finite,
            help="With --metrics-port: seconds to serve a finding before exiting. Default: until stopped, so that the "
            "alarm stays.",
        ),
    ] = None,
    as_json: Json = None,
) -> None:
    """Verify every ledger entry in one consistent snapshot. The wallet keeps running.

    Needs WALLET_DATABASE_URL only. The database reads every entry: about four seconds of one core per million.
    --follow then checks new entries, their accounts and their orders until a rule is broken or until Ctrl-C or SIGTERM.
    It waits while the database is away. With --metrics-port it stays after a finding until it is stopped.
    Holds and orders without entries are checked without --follow only.

    Exit status: 0 if everything is in order, 1 if something was found, 3 when the database is away, or --follow was
    stopped before it had checked anything.

    Example: wallet audit || echo "call somebody"
    """
    url = environment.database_url()
    report = exits.run(_follow(url, show, every, metrics_port, linger) if follow else _audit(url, show))
    if report is None:
        exits.end(Exit.UNAVAILABLE, "stopped before the first check was complete: nothing was checked")
    if terminal.wants_json(as_json):
        terminal.print_json(_document(report))
    else:
        _print_report(report)
    if not report.clean:
        raise typer.Exit(Exit.FOUND)


async def _follow(
    url: str, shown_max: int, every_seconds: float, metrics_port: int | None, linger_seconds: float | None
) -> "AuditReport | None":
    from prometheus_client import start_http_server

    from wallet_worker.audit.follow import FollowMetrics, follow
    from wallet_worker.backoff import sleep_unless

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    signals = FollowMetrics()
    if metrics_port is not None:
        try:
            start_http_server(metrics_port, registry=signals.exposed)
        except OSError as exc:
            exits.end(
                Exit.MISUSED, f"the port {metrics_port} for the metrics cannot be opened: {exc.strerror}"
            )
    report = await follow(
        url,
        stopping,
        signals,
        every_seconds=every_seconds,
        shown_max=shown_max,
        on_away=lambda reason: terminal.print_status(f"waiting for the database: {reason}"),
    )
    if report is not None and not report.clean and metrics_port is not None:
        terminal.print_status(
            f"{report.counts.total():,} rules are broken; wallet_audit_findings stays on port {metrics_port}"
        )
        if linger_seconds is None:
            await stopping.wait()
        else:
            await sleep_unless(linger_seconds, stopping)
    return report


async def _audit(url: str, shown_max: int) -> "AuditReport":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from wallet_worker.audit.report import Progress
    from wallet_worker.audit.report import audit as audited

    with Bar(
        TextColumn("lines"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("lines", total=None)

        def moved(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        return await audited(url, shown_max=shown_max, on_progress=moved)


def _print_report(report: "AuditReport") -> None:
    looked_at = (
        f"{report.lines:,} lines, {report.accounts:,} accounts, {report.orders:,} orders and "
        f"{report.commands:,} commands in {report.seconds:.1f} s"
    )
    if report.clean:
        terminal.print_result(f"everything is in order: {looked_at}")
        return
    terminal.print_table(
        f"{report.counts.total():,} findings in {looked_at}",
        ("rule", "where", "what is wrong"),
        ((finding.invariant.value, _where(finding), finding.detail) for finding in report.findings),
    )
    terminal.print_table(
        "broken rules",
        ("rule", "times", "it says that"),
        (
            (invariant.value, f"{times:,}", invariant.meaning)
            for invariant, times in report.counts.most_common()
        ),
        right=("times",),
    )


def _where(finding: "AuditFinding") -> str:
    parts = {
        "account": finding.account or finding.account_id,
        "line": finding.line_no,
        "order": finding.serial_no or finding.order_id,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None)


def _document(report: "AuditReport") -> dict[str, Any]:
    return {
        "clean": report.clean,
        "lines": report.lines,
        "accounts": report.accounts,
        "orders": report.orders,
        "commands": report.commands,
        "seconds": round(report.seconds, 3),
        "found": {invariant.value: times for invariant, times in report.counts.items()},
        "findings": [
            {
                "rule": finding.invariant.value,
                "detail": finding.detail,
                "account": finding.account,
                "account_id": finding.account_id,
                "line_no": finding.line_no,
                "serial_no": finding.serial_no,
                "order_id": None if finding.order_id is None else str(finding.order_id),
            }
            for finding in report.findings
        ],
    }
