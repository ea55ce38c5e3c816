"""Accounts and their lines, checked line by line."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from wallet_worker.audit.findings import AuditFinding, AuditReport, Invariant, as_text
from wallet_worker.store.reads import audit as reads

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class RunningAccount:
    """An account, and what its lines have come to so far. Amounts are minor units."""

    account_id: int
    is_user: bool
    currency: str
    balance: int
    reserved: int
    line_no: int
    last_line_no: int = 0
    left: int = 0
    moved: int = 0
    last_at: datetime = LONG_AGO


async def check_all_accounts(connection: asyncpg.Connection, report: AuditReport) -> None:
    """Check every account and its lines, and the sum of each currency."""
    # The entries of an account that nobody suspects sum to its balance.
    moved = Counter(await reads.balances(connection))
    suspects = await reads.suspect_accounts(connection)
    if suspects != []:
        async for account in _accounts_with_lines_checked(connection, suspects, report):
            check_account(account, report)
            moved[account.currency] += account.moved - account.balance
    for currency, sum_minor in sorted(moved.items()):
        if sum_minor:
            detail = f"the entries in {currency} sum to {as_text(sum_minor, currency)}"
            report.add(AuditFinding(invariant=Invariant.CURRENCY_SUM, detail=detail))


async def _accounts_with_lines_checked(
    connection: asyncpg.Connection, account_ids: Sequence[int] | None, report: AuditReport
) -> AsyncIterator[RunningAccount]:
    """Yield these accounts, or all, each after its lines were checked."""
    account: RunningAccount | None = None
    async for rows in reads.lines_by_account(connection, account_ids):
        for (
            account_id, is_user, currency, balance, reserved, last_line_no,
            line_no, is_credit, amount, before, after, created_at,
        ) in rows:  # fmt: skip
            if account is None or account.account_id != account_id:
                if account is not None:
                    yield account
                account = RunningAccount(account_id, is_user, currency, balance, reserved, last_line_no)
            if line_no is not None:
                signed = amount if is_credit else -amount
                check_line(account, line_no, signed, before, after, created_at, report)
    if account is not None:
        yield account


def check_line(
    account: RunningAccount,
    line_no: int,
    signed: int,
    before: int,
    after: int,
    created_at: datetime,
    report: AuditReport,
) -> None:
    """Find what is wrong with one line, coming after what `account` has come to, and have it come to this line."""

    def text(minor: int) -> str:
        return as_text(minor, account.currency)

    def report_finding(invariant: Invariant, detail: str) -> None:
        report.add(
            AuditFinding(invariant=invariant, detail=detail, account_id=account.account_id, line_no=line_no)
        )

    if line_no != account.last_line_no + 1:
        where = f"line {account.last_line_no}" if account.last_line_no else "the beginning"
        report_finding(Invariant.LINE_NUMBERS, f"line {line_no} comes after {where}")
    if before != account.left:
        report_finding(
            Invariant.LINE_CHAIN, f"it begins with {text(before)}, and {text(account.left)} was left"
        )
    if after != before + signed:
        report_finding(Invariant.LINE_ARITHMETIC, f"{text(before)} and {text(signed)} are not {text(after)}")
    if account.is_user and after < 0:
        report_finding(Invariant.OVERDRAFT, f"it leaves {text(after)}")
    if created_at < account.last_at:
        report_finding(
            Invariant.LINE_TIMES, f"it is of {created_at}, and the line before it of {account.last_at}"
        )
    account.last_line_no, account.left, account.last_at = line_no, after, created_at
    account.moved += signed


def check_account(account: RunningAccount, report: AuditReport) -> None:
    """Find what is wrong with an account, all of whose lines were seen."""

    def text(minor: int) -> str:
        return as_text(minor, account.currency)

    def report_finding(invariant: Invariant, detail: str) -> None:
        report.add(AuditFinding(invariant=invariant, detail=detail, account_id=account.account_id))

    if account.line_no != account.last_line_no:
        report_finding(
            Invariant.LAST_LINE, f"its line_no is {account.line_no}, its last line {account.last_line_no}"
        )
    if not account.balance == account.left == account.moved:
        report_finding(
            Invariant.BALANCE,
            f"its balance is {text(account.balance)}, its last line left {text(account.left)}, "
            f"its entries sum to {text(account.moved)}",
        )
    if account.is_user and account.balance < 0:
        report_finding(Invariant.OVERDRAFT, f"its balance is {text(account.balance)}")
    if account.reserved < 0 or (account.reserved > 0 and account.reserved > account.balance):
        report_finding(Invariant.RESERVE, f"{text(account.reserved)} of {text(account.balance)} are reserved")
