"""Whether the ledger is what it must be, read from the live database line by line.

One snapshot, under the role that can only read, so that it is true of one moment and disturbs nobody. The database
itself reads every row and says which accounts and orders it suspects: those that are not known to be right. They are
then streamed here, account by account and order by order, and what is wrong with them is found and explained; a good
ledger costs no more than the reading. Every rule is checked again, also those that constraints of the database already
guarantee: a restored backup or a mended table may have lost them. Memory does not grow with the ledger: too many
suspects are not kept, everything is explained then; and the database sorts within some memory, then on its disk.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import asyncpg

from wallet_worker.audit.accounts import check_all_accounts
from wallet_worker.audit.findings import AuditFinding, AuditReport
from wallet_worker.audit.orders import check_all_orders
from wallet_worker.audit.tables import check_tables
from wallet_worker.store.errors import waited_for
from wallet_worker.store.reads import audit as reads
from wallet_worker.store.snapshot import snapshot

APPLICATION: Final = "wallet audit"
SHOWN_MAX: Final = 10  # findings of each kind: enough to see a pattern
# A pass over a table has two helpers, as reporting queries do, and sorts and groups a million rows in memory.
WHOLE_TABLES: Final = {"max_parallel_workers_per_gather": "2", "work_mem": "128MB"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How many lines were looked at, of how many; each is looked at twice, in its account and in its order."""

    done: int
    total: int


OnProgress: TypeAlias = Callable[[Progress], None]


async def audit(
    dsn: str, *, shown_max: int = SHOWN_MAX, on_progress: OnProgress = lambda _progress: None
) -> AuditReport:
    """Return what is wrong with the ledger of a live database, as one moment saw it.

    Raises the errors of `store.errors`, if the database cannot be read.
    """
    begun = time.monotonic()
    report = AuditReport(shown_max)
    with waited_for():
        async with snapshot(dsn, APPLICATION, WHOLE_TABLES) as connection:
            report.accounts, report.orders, report.commands, report.lines = await reads.counts(connection)
            on_progress(Progress(0, 2 * report.lines))
            await check_all_accounts(connection, report)
            on_progress(Progress(report.lines, 2 * report.lines))
            await check_all_orders(connection, report)
            on_progress(Progress(2 * report.lines, 2 * report.lines))
            await check_tables(connection, report)
            report.findings = await with_names(connection, report.findings)
    report.seconds = time.monotonic() - begun
    return report


async def with_names(connection: asyncpg.Connection, findings: Iterable[AuditFinding]) -> list[AuditFinding]:
    """Return the findings with the names by which people know accounts and orders: for a few, not for every row."""
    findings = list(findings)
    account_ids = [finding.account_id for finding in findings if finding.account_id is not None]
    order_ids = [finding.order_id for finding in findings if finding.order_id is not None]
    accounts = await reads.account_names(connection, account_ids)
    serial_nos = await reads.serial_nos(connection, order_ids)
    return [
        replace(
            finding,
            account=None if finding.account_id is None else accounts.get(finding.account_id),
            serial_no=finding.serial_no if finding.order_id is None else serial_nos.get(finding.order_id),
        )
        for finding in findings
    ]
