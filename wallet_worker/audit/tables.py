"""Rows that are wrong by themselves, or beside rows of another table: reserves, holds, refunds, results, numbers."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from wallet_worker.audit.findings import AuditFinding, AuditReport, Invariant, as_text
from wallet_worker.store.reads import audit as reads


async def check_tables(connection: asyncpg.Connection, report: AuditReport) -> None:
    """Find everything that is wrong with rows beside their lines."""
    await _find_twice(connection, report)
    await _find_wrong_accounts(connection, report)
    await _find_wrong_rows(connection, report)
    await find_unpaid(connection, None, report)
    await _find_wrong_reserves(connection, report)
    await _find_wrong_holds(connection, report)
    await find_too_many_refunds(connection, None, report)
    await find_wrong_debts(connection, report)
    await _find_wrong_reversals(connection, report)
    await _find_wrong_refs(connection, report)


async def _find_twice(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.duplicates(connection):
        for account_id, order_id, serial_no, times, what in rows:
            report.add(
                AuditFinding(
                    invariant=Invariant.UNIQUE,
                    detail=f"there are {times} {what}",
                    account_id=account_id,
                    order_id=order_id,
                    serial_no=serial_no,
                )
            )


async def _find_wrong_accounts(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.wrong_accounts(connection):
        for account_id, currency, status, balance, reserved in rows:
            detail = f"it is {status} with {as_text(balance, currency)}, {as_text(reserved, currency)} of it reserved"
            report.add(AuditFinding(invariant=Invariant.ACCOUNT_STATUS, detail=detail, account_id=account_id))


async def _find_wrong_rows(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.wrong_rows(connection):
        for order_id, status, currency, account_currency, late, due_at in rows:
            when = f"due at {due_at}" if due_at else "never due"
            how = f"{status}, late" if late else status
            where = f"an account in {account_currency}" if account_currency else "no account"
            detail = f"it is {how}, {when}, in {currency} on {where}"
            report.add(AuditFinding(invariant=Invariant.ORDER_ROW, detail=detail, order_id=order_id))


async def find_unpaid(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None, report: AuditReport
) -> None:
    """Find which of these orders, or of all, moved money through the gateway without a result that says so."""
    async for rows in reads.unpaid(connection, order_ids):
        for order_id, order_type, amount, currency in rows:
            detail = f"no result of the gateway says that this {order_type} of {as_text(amount, currency)} succeeded"
            report.add(AuditFinding(invariant=Invariant.RESULT, detail=detail, order_id=order_id))


async def _find_wrong_reserves(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.wrong_reserves(connection):
        for account_id, currency, reserved, taken in rows:
            detail = f"{as_text(reserved, currency)} are reserved, and its orders will take {as_text(taken, currency)}"
            report.add(AuditFinding(invariant=Invariant.RESERVED, detail=detail, account_id=account_id))


async def _find_wrong_holds(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.wrong_holds(connection):
        for order_id, currency, status, amount, remaining, captured, released in rows:
            detail = (
                f"it is {status} with {as_text(remaining or 0, currency)} left: of {as_text(amount, currency)}, "
                f"{as_text(captured, currency)} were captured and {as_text(released, currency)} released"
            )
            report.add(AuditFinding(invariant=Invariant.HOLD, detail=detail, order_id=order_id))


async def find_too_many_refunds(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None, report: AuditReport
) -> None:
    """Find the orders of which more is refunded than may be, of those that these refunds are about, or of all."""
    async for rows in reads.too_many_refunds(connection, order_ids):
        for order_id, order_type, status, currency, amount, refunded in rows:
            detail = (
                f"{as_text(refunded, currency)} are refunded of this {order_type}, which is {status} "
                f"with {as_text(amount, currency)}"
            )
            report.add(AuditFinding(invariant=Invariant.REFUNDS, detail=detail, order_id=order_id))


async def find_wrong_debts(connection: asyncpg.Connection, report: AuditReport) -> None:
    """Find the accounts that owe another sum than was lent to them, and currencies whose receivables are another."""
    async for rows in reads.wrong_debts(connection):
        for account_id, currency, debt, lent, available in rows:
            detail = (
                f"it owes {as_text(debt, currency)} with {as_text(available, currency)} available; "
                f"{as_text(lent, currency)} were lent and neither paid nor written off"
            )
            report.add(AuditFinding(invariant=Invariant.DEBT, detail=detail, account_id=account_id))
    for currency, owed, receivable in await reads.wrong_receivables(connection):
        detail = f"users owe {as_text(owed, currency)} {currency}, the receivables say {as_text(receivable, currency)}"
        report.add(AuditFinding(invariant=Invariant.DEBT, detail=detail))


async def _find_wrong_reversals(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.wrong_reversals(connection):
        for order_id, currency, standing, moved in rows:
            detail = (
                f"{as_text(standing, currency)} stand by its reversals, {as_text(moved, currency)} were moved"
            )
            report.add(AuditFinding(invariant=Invariant.REVERSAL, detail=detail, order_id=order_id))


async def _find_wrong_refs(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.wrong_refs(connection):
        for order_id, channel, gateway_ref, of_order, ref_of_order, status in rows:
            detail = (
                f"it has taken the payment {gateway_ref} of the channel {channel}; it is {status}, of the channel "
                f"{of_order}, with the payment {ref_of_order or 'of no name'}"
            )
            report.add(AuditFinding(invariant=Invariant.GATEWAY_REF, detail=detail, order_id=order_id))
