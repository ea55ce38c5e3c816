"""Orders with their entries and their commands, checked against the legs of their types."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import asyncpg

from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.audit.findings import AuditFinding, AuditReport, Invariant, as_text
from wallet_worker.core import orders
from wallet_worker.core.orders import Party
from wallet_worker.store.reads import audit as reads


@dataclass(slots=True)  # not frozen: making a frozen one takes three times as long, and there may be millions
class _Order:
    """An order as its row has it. `was_asked_for`: its command is there, applied, and of its kind."""

    order_id: UUID
    order_type: str
    account_id: int
    counter_account_id: int | None
    amount: int
    currency: str
    status: str
    was_asked_for: bool | None


_Line: TypeAlias = tuple[int | str, str | None, int]
"""Of an entry: whose it is (an account_id, or a system account's name), in what currency, and what it moved."""


async def check_all_orders(connection: asyncpg.Connection, report: AuditReport) -> None:
    """Check every order with its entries and its command, and that no entry and no command is without its order."""
    suspects = await reads.suspect_orders(connection)
    if suspects != []:
        await check_orders(connection, suspects, report)
        await find_stray_lines(connection, None, report)
        await _find_commands_without_order(connection, report)


async def check_orders(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None, report: AuditReport
) -> None:
    """Find what is wrong with these orders, or with all, with all of their entries and their commands."""
    order: _Order | None = None
    entries: list[_Line] = []
    async for rows in reads.entries_by_order(connection, order_ids):
        for row in rows:
            order_id = row[0]
            if order is None or order.order_id != order_id:
                if order is not None:
                    _check_order(order, entries, report)
                order = _Order(order_id, *row[1:8])
                entries = []
            account_id = row[8]
            if account_id is not None:
                amount = row[10]
                entries.append((row[12] or account_id, row[11], amount if row[9] else -amount))
    if order is not None:
        _check_order(order, entries, report)


def _check_order(order: _Order, entries: list[_Line], report: AuditReport) -> None:
    """Find what is wrong with an order, all of whose entries were seen."""

    def report_finding(invariant: Invariant, detail: str) -> None:
        report.add(AuditFinding(invariant=invariant, detail=detail, order_id=order.order_id))

    if not order.was_asked_for:
        report_finding(
            Invariant.ORDER_COMMAND,
            f"no applied command that makes a {order.order_type} has its serial number",
        )
    wanted = _entries_wanted(order)
    if entries == wanted or entries[::-1] == wanted:
        return
    sum_minor = sum(line[2] for line in entries)
    if sum_minor:
        report_finding(Invariant.ORDER_SUM, f"its entries sum to {as_text(sum_minor, order.currency)}")
    if wanted is None or Counter(entries) != Counter(wanted):
        report_finding(
            Invariant.ORDER_ENTRIES,
            f"it {order.status} and should have {_shown(wanted)}; it has {_shown(entries)}",
        )


def _entries_wanted(order: _Order) -> list[_Line] | None:
    """Return the entries that an order must have, as it stands; None for an order that is not known here."""
    if order.status != OrderStatus.SUCCEEDED:
        return []
    try:
        spec = orders.ORDER_SPECS[OrderType(order.order_type)]
    except (KeyError, ValueError):
        return None
    holders: dict[str, int | None] = {
        Party.ACCOUNT: order.account_id,
        Party.COUNTERPARTY: order.counter_account_id,
    }
    wanted: list[_Line] = []
    for holder, times in spec.legs:
        owner = holders[holder] if isinstance(holder, Party) else holder.value
        if owner is None:
            return None
        wanted.append((owner, order.currency, times * order.amount))
    return wanted if OrderStatus.SUCCEEDED in spec.statuses else None


def _shown(entries: Sequence[_Line] | None) -> str:
    if entries is None:
        return "entries that this audit does not know"
    if not entries:
        return "no entries"
    return " and ".join(
        f"{as_text(minor, currency)} {currency} on {f'account {owner}' if isinstance(owner, int) else owner}"
        for owner, currency, minor in entries
    )


async def find_stray_lines(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None, report: AuditReport
) -> None:
    """Find the lines that are of these orders, or of any, and have no such order, or no account."""
    async for rows in reads.stray_lines(connection, order_ids):
        for account_id, line_no, order_id, no_account in rows:
            report.add(
                AuditFinding(
                    invariant=Invariant.STRAY_LINE,
                    detail=f"there is no such {'account' if no_account else 'order'}",
                    account_id=account_id,
                    line_no=line_no,
                    order_id=order_id,
                )
            )


async def _find_commands_without_order(connection: asyncpg.Connection, report: AuditReport) -> None:
    async for rows in reads.commands_without_order(connection):
        for serial_no, command_type in rows:
            detail = f"this {command_type} was applied and has no order"
            report.add(AuditFinding(invariant=Invariant.COMMAND_ORDER, detail=detail, serial_no=serial_no))
