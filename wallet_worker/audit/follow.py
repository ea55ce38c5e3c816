"""The audit that goes on: new lines are checked as they come, against what the lines before them left.

A whole audit comes first. After it only accounts that have changed are looked at, found by the transaction that
wrote them: a number that was drawn first may be committed last, so nothing is taken "after the last one seen".
Every order that has a new line is checked with all of its lines, and with its result and what is refunded of its
recharge: one that is paid a second time is found too.

No index leads from a transaction to the lines that it wrote, and reading the whole table every time would take longer
the longer it is. A line that somebody wrote without changing its account is found all the same: each time
`PROBED_ACCOUNTS` accounts are asked for a line after the one that they believe to be their last, in turns. So it is
found at once where there are no more accounts than that, and within some minutes where there are a million.

Only a whole audit finds what is changed in lines that are there already, a line of no account at all, and what no line
tells of: holds and what is reserved, orders that wait or came to nothing, commands without an order, an account that is
closed and not empty, and numbers that are there twice.

What is kept in memory is the last line and the balance of every account, about 200 bytes each.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import Counter as Counting

from wallet_worker.audit.accounts import LONG_AGO, RunningAccount, check_account, check_line
from wallet_worker.audit.findings import AuditFinding, AuditReport, Invariant
from wallet_worker.audit.orders import check_orders, find_stray_lines
from wallet_worker.audit.report import APPLICATION, SHOWN_MAX, OnProgress, audit, with_names
from wallet_worker.audit.tables import find_too_many_refunds, find_unpaid
from wallet_worker.backoff import Backoff, sleep_unless
from wallet_worker.store.errors import ConflictError, UnavailableError, waited_for
from wallet_worker.store.reads import audit as reads
from wallet_worker.store.snapshot import snapshot
from wallet_worker.telemetry.metrics import UNKNOWN, RoleRegistry

EVERY_SECONDS: Final = 2.0
PROBED_ACCOUNTS: Final = 10_000  # a look into an index for each
BEFORE_ALL: Final = -(2**63)  # no account_id is below it

T = TypeVar("T")


class FollowMetrics:
    """What Prometheus sees of an audit that goes on; `registry` is what is to be served."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lines = Counting(
            "wallet_audit_lines", "Lines that were checked as they came.", registry=self.registry
        )
        self.findings = Gauge(
            "wallet_audit_findings",
            "Broken rules that were found, NaN before the first check is complete. Above zero: call somebody.",
            registry=self.registry,
        )
        self.checked_at = Gauge(
            "wallet_audit_checked_timestamp_seconds",
            "When the last check was complete, NaN before the first is.",
            registry=self.registry,
        )
        self.findings.set(UNKNOWN)
        self.checked_at.set(UNKNOWN)

    @property
    def exposed(self) -> CollectorRegistry:
        """What `/metrics` shows."""
        return RoleRegistry(self.registry, "audit")


@dataclass(slots=True)
class _Checkpoint:
    """Where the follower stands: a moment of the database, and each account's last line and balance then.

    `probed_to` is the account at which the last turn of probing ended.
    """

    moment: str
    probed_to: int = BEFORE_ALL
    accounts: dict[int, tuple[int, int]] = field(default_factory=dict)


async def follow(
    dsn: str,
    stopping: asyncio.Event,
    signals: FollowMetrics,
    *,
    every_seconds: float = EVERY_SECONDS,
    shown_max: int = SHOWN_MAX,
    on_progress: OnProgress = lambda _progress: None,
    on_away: Callable[[str], None] = lambda _reason: None,
) -> AuditReport | None:
    """Return the first report that is not clean, or that of the last complete check once `stopping` is set.

    It is absent if `stopping` was set before the whole audit was complete: nothing is known then. The report's `lines`
    are those that were checked, with the whole audit at the beginning. A database that is away is waited for;
    `on_away` is told why, each time.
    """
    seen = await retry_unless_stopped(lambda: _begin(dsn), stopping, on_away)
    report = await retry_unless_stopped(
        lambda: audit(dsn, shown_max=shown_max, on_progress=on_progress), stopping, on_away
    )
    if report is None or seen is None:
        return None
    check_new = partial(_check_new, dsn, seen, report)
    while True:
        signals.findings.set(report.counts.total())
        signals.checked_at.set(time.time())
        if not report.clean:
            return report
        await sleep_unless(every_seconds, stopping)
        new_lines = await retry_unless_stopped(check_new, stopping, on_away)
        if new_lines is None:
            return report
        signals.lines.inc(new_lines)


async def retry_unless_stopped(
    work: Callable[[], Coroutine[Any, Any, T]], stopping: asyncio.Event, on_away: Callable[[str], None]
) -> T | None:
    """Return what the work returns, begun again while the database is away or busy; nothing if stopping came first."""
    pause = Backoff()
    while not stopping.is_set():
        try:
            return await _run_unless(stopping, work())
        except (
            ConflictError,
            UnavailableError,
        ) as exc:  # a lost race: with a lock, or on a standby with its recovery
            on_away(str(exc))
            await pause.wait(stopping)
    return None


async def _run_unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what the work returns, or nothing if stopping came first: the work is then cancelled, and over."""
    working = asyncio.create_task(work, name="audit.working")
    stop_wait = asyncio.create_task(stopping.wait(), name="audit.told")
    try:
        await asyncio.wait({working, stop_wait}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stop_wait.cancel()
        await asyncio.gather(working, stop_wait, return_exceptions=True)


async def _begin(dsn: str) -> _Checkpoint:
    """Return where every account stands, before the whole audit: what comes meanwhile is checked by both."""
    with waited_for():
        async with snapshot(dsn, APPLICATION) as connection:
            return _Checkpoint(await reads.moment(connection), accounts=await reads.baseline(connection))


async def _check_new(dsn: str, seen: _Checkpoint, report: AuditReport) -> int:
    """Put what is wrong with the lines since the moment seen into a report that was clean, and move that moment on.

    Return how many lines there were.
    """
    checked = AuditReport(report.shown_max)
    with waited_for():
        async with snapshot(dsn, APPLICATION) as connection:
            moment = await reads.moment(connection)
            probed = await reads.probe(connection, seen.probed_to, PROBED_ACCOUNTS)
            changed = [
                _so_far(row, seen.accounts.get(row[0], (0, 0)))
                for row in await reads.changed_accounts(connection, seen.moment, probed.outgrown or [])
            ]
            lines = await reads.new_lines(
                connection,
                [account.account_id for account in changed],
                [account.last_line_no for account in changed],
            )
            _check_lines(changed, lines, checked)
            order_ids = list({line["order_id"] for line in lines})
            await check_orders(connection, order_ids, checked)
            await find_stray_lines(connection, order_ids, checked)
            await find_unpaid(connection, order_ids, checked)
            await find_too_many_refunds(connection, order_ids, checked)
            checked.findings = await with_names(connection, checked.findings)
    # Only now: a check that was cut off is made again from where it began.
    seen.accounts |= {account.account_id: (account.line_no, account.balance) for account in changed}
    seen.moment = moment
    if probed.last_account_id is not None and probed.accounts == PROBED_ACCOUNTS:
        seen.probed_to = probed.last_account_id
    else:  # all were probed: begin again
        seen.probed_to = BEFORE_ALL
    report.lines += len(lines)
    report.counts, report.findings = checked.counts, checked.findings
    return len(lines)


def _so_far(row: asyncpg.Record, before: tuple[int, int]) -> RunningAccount:
    account_id, is_user, currency, balance, reserved, line_no = row
    last_line_no, left = before
    return RunningAccount(account_id, is_user, currency, balance, reserved, line_no, last_line_no, left, left)


def _check_lines(
    changed: Sequence[RunningAccount], lines: Sequence[asyncpg.Record], report: AuditReport
) -> None:
    """Find what is wrong with new lines, in the order of their accounts, and with the accounts that have them."""
    accounts = {account.account_id: account for account in changed}
    by_currency: Counter[str] = Counter()
    for account_id, line_no, is_credit, amount, before, after, _order_id, created_at, before_at in lines:
        account = accounts[account_id]
        account.last_at = before_at or LONG_AGO
        signed = amount if is_credit else -amount
        check_line(account, line_no, signed, before, after, created_at, report)
        by_currency[account.currency] += signed
    for account in changed:
        check_account(account, report)
    for currency, moved in by_currency.items():
        if moved:
            detail = f"new entries in {currency} sum to {moved} minor units"
            report.add(AuditFinding(invariant=Invariant.CURRENCY_SUM, detail=detail))
