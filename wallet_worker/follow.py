"""The audit that goes on: new lines are checked as they come, against what the lines before them left.

A whole audit comes first. After it only accounts that have changed are looked at, found by the transaction that
wrote them: a number that was drawn first may be committed last, so nothing is taken "after the last one seen".
What is kept in memory is the last line and the balance of every account, about 200 bytes each.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import Counter as Counting

from wallet_worker.audit import (
    APPLICATION,
    SHOWN_MAX,
    AccountSoFar,
    Finding,
    Invariant,
    OnProgress,
    Report,
    audit,
    check_account,
    check_line,
    named,
)
from wallet_worker.pause import Pause, rest
from wallet_worker.store.errors import UnavailableError, mapped
from wallet_worker.store.snapshot import snapshot

EVERY_SECONDS: Final = 2.0

T = TypeVar("T")

_MOMENT = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"

_BASELINE = "SELECT account_id, line_no, balance FROM accounts"

# Every transaction that was not over at the moment before has a number that is not before that moment's.
_CHANGED = """
SELECT account_id, kind = 'user', currency, balance, reserved, line_no
FROM accounts
WHERE age(xmin) <= age($1::text::xid8::xid)
"""

_NEW_LINES = """
SELECT e.account_id, e.line_no, e.direction = 'credit', e.amount, e.balance_before, e.balance_after, e.order_id
FROM unnest($1::bigint[], $2::bigint[]) AS seen (account_id, line_no)
JOIN entries e ON e.account_id = seen.account_id AND e.line_no > seen.line_no
ORDER BY e.account_id, e.line_no
"""


class Signals:
    """What Prometheus sees of an audit that goes on; `registry` is what is to be served."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lines = Counting(
            "wallet_audit_lines", "Lines that were checked as they came.", registry=self.registry
        )
        self.findings = Gauge(
            "wallet_audit_findings",
            "Broken rules that were found. Above zero: call somebody.",
            registry=self.registry,
        )
        self.checked_at = Gauge(
            "wallet_audit_checked_timestamp_seconds",
            "When the last check was complete.",
            registry=self.registry,
        )


@dataclass(slots=True)
class _Seen:
    """Where the follower stands: a moment of the database, and each account's last line and balance then."""

    moment: str
    accounts: dict[int, tuple[int, int]] = field(default_factory=dict)


async def follow(
    dsn: str,
    stopping: asyncio.Event,
    signals: Signals,
    *,
    every_seconds: float = EVERY_SECONDS,
    shown_max: int = SHOWN_MAX,
    on_progress: OnProgress = lambda _progress: None,
    on_away: Callable[[str], None] = lambda _reason: None,
) -> Report:
    """Return the first report that is not clean, or that of the last check when `stopping` is set.

    The report's `lines` are those that were checked, with the whole audit at the beginning. A database that is away
    is waited for; `on_away` is told why, each time.
    """
    seen = await _waited_for(lambda: _begin(dsn), stopping, on_away)
    report = await _waited_for(
        lambda: audit(dsn, shown_max=shown_max, on_progress=on_progress), stopping, on_away
    )
    if report is None or seen is None:
        return Report(shown_max)
    check_new = partial(_check_new, dsn, seen, report)
    while True:
        signals.findings.set(report.found.total())
        signals.checked_at.set(time.time())
        if not report.clean or stopping.is_set():
            return report
        await rest(every_seconds, stopping)
        signals.lines.inc(await _waited_for(check_new, stopping, on_away) or 0)


async def _waited_for(
    work: Callable[[], Awaitable[T]], stopping: asyncio.Event, on_away: Callable[[str], None]
) -> T | None:
    """Return what the work returns, begun again while the database is away; nothing if stopping came first."""
    pause = Pause()
    while True:
        try:
            return await work()
        except UnavailableError as exc:
            on_away(str(exc))
            await pause.wait(stopping)
            if stopping.is_set():
                return None


async def _begin(dsn: str) -> _Seen:
    """Return where every account stands, before the whole audit: what comes meanwhile is checked by both."""
    with mapped():
        async with snapshot(dsn, APPLICATION) as connection:
            seen = _Seen(await connection.fetchval(_MOMENT))
            async for account_id, line_no, balance in connection.cursor(_BASELINE, prefetch=10_000):
                seen.accounts[account_id] = (line_no, balance)
            return seen


async def _check_new(dsn: str, seen: _Seen, report: Report) -> int:
    """Add what is wrong with the lines since the moment seen, and move that on; return how many lines there were."""
    with mapped():
        async with snapshot(dsn, APPLICATION) as connection:
            moment = await connection.fetchval(_MOMENT)
            changed = [
                _so_far(row, seen.accounts.get(row[0], (0, 0)))
                for row in await connection.fetch(_CHANGED, seen.moment)
            ]
            lines = await connection.fetch(
                _NEW_LINES,
                [account.account_id for account in changed],
                [account.last_line_no for account in changed],
            )
            _check_lines(changed, lines, report)
            report.findings = await named(connection, report.findings)
    # Only now: a check that was cut off is made again from where it began.
    seen.accounts |= {account.account_id: (account.line_no, account.balance) for account in changed}
    seen.moment = moment
    report.lines += len(lines)
    return len(lines)


def _so_far(row: asyncpg.Record, before: tuple[int, int]) -> AccountSoFar:
    account_id, is_user, currency, balance, reserved, line_no = row
    last_line_no, left = before
    return AccountSoFar(account_id, is_user, currency, balance, reserved, line_no, last_line_no, left, left)


def _check_lines(changed: Sequence[AccountSoFar], lines: Sequence[asyncpg.Record], report: Report) -> None:
    """Find what is wrong with new lines, in the order of their accounts, and with the accounts that have them."""
    accounts = {account.account_id: account for account in changed}
    by_currency: Counter[str] = Counter()
    by_order: Counter[UUID] = Counter()
    for account_id, line_no, is_credit, amount, before, after, order_id in lines:
        account = accounts[account_id]
        signed = amount if is_credit else -amount
        check_line(account, line_no, signed, before, after, report)
        account.last_line_no, account.left = line_no, after
        account.moved += signed
        by_currency[account.currency] += signed
        by_order[order_id] += signed
    for account in changed:
        check_account(account, report)
    for currency, moved in by_currency.items():
        if moved:
            detail = f"new entries in {currency} sum to {moved} minor units"
            report.add(Finding(invariant=Invariant.CURRENCY_SUM, detail=detail))
    for order_id, moved in by_order.items():
        if moved:
            detail = f"its new entries sum to {moved} minor units"
            report.add(Finding(invariant=Invariant.ORDER_SUM, detail=detail, order_id=order_id))
