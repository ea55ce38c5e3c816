"""Statements and orders for accountants: read from one moment of the database, row by row, however many there are."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final, TypeAlias

import asyncpg

from wallet_schemas.money import to_text
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.accounting.table_file import Cell, Format, TableWriter, time_text
from wallet_worker.core.orders import ORDER_SPECS
from wallet_worker.store import entries
from wallet_worker.store.errors import translate_errors
from wallet_worker.store.reads import accounting as reads
from wallet_worker.store.snapshot import snapshot

APPLICATION: Final = "wallet export"

OnProgress: TypeAlias = Callable[[int, int], None]
"""Is told how many rows are written, of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """From when, and until before when; absent: without that end."""

    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedStatement:
    """What was exported of an account: how many lines, and the balances before the first and after the last."""

    account_no: str
    lines: int
    opening_balance: str
    closing_balance: str


STATEMENT_COLUMNS: Final = (
    "line_no", "created_at", "serial_no", "order_type", "direction", "amount", "currency",
    "balance_before", "balance_after", "account_no",
)  # fmt: skip


async def statement(
    dsn: str,
    out: IO[str],
    form: Format,
    *,
    user_id: str,
    account_type: str,
    currency: str,
    account_no: str | None = None,
    span: TimeRange,
    on_progress: OnProgress,
) -> ExportedStatement | None:
    """Write an account's lines, oldest first; return what was written, or None if the account does not exist.

    Without `account_no` it is the user's newest account of the type and currency. Raises the errors of `store.errors`,
    and UnwritableError; what stands in `out` then is not whole.
    """
    with translate_errors():
        async with snapshot(dsn, APPLICATION) as connection:
            account = await reads.account(connection, user_id, account_type, currency, account_no)
            if account is None:
                return None
            account_id, number = account
            total = await reads.count_lines(connection, account_id, span.since, span.before)
            left = await entries.balance_before(connection, account_id, line_no=0, since=span.since)
            opening_minor, closing_minor, lines = left, left, 0
            sheet = TableWriter(out, STATEMENT_COLUMNS, form)
            async for rows in reads.lines(connection, account_id, span.since, span.before):
                sheet.write(_statement_rows(rows, number, currency))
                lines += len(rows)
                closing_minor = rows[-1]["balance_after"]
                on_progress(lines, total)
    return ExportedStatement(
        account_no=number,
        lines=lines,
        opening_balance=to_text(opening_minor, currency),
        closing_balance=to_text(closing_minor, currency),
    )


def _statement_rows(
    rows: Sequence[asyncpg.Record], account_no: str, currency: str
) -> Iterator[Sequence[Cell]]:
    for line_no, created_at, serial_no, order_type, direction, amount, before, after in rows:
        yield (
            line_no,
            time_text(created_at),
            serial_no,
            order_type,
            direction,
            to_text(amount, currency),
            currency,
            to_text(before, currency),
            to_text(after, currency),
            account_no,
        )


ORDER_COLUMNS: Final = (
    "order_id", "serial_no", "created_at", "user_id", "account_no", "account_type", "order_type", "amount",
    "currency", "status", "code", "channel", "late", "transacted_at", "updated_at", "expires_at",
    "original_serial_no", "hold_serial_no", "remaining", "to_user_id", "to_account_no",
    "gateway_ref", "failure_code", "failure_reason", "cancelling", "reversal_ref", "reversed_amount", "metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilter:
    """Which orders: made in the span, of these types, standing so now, and paid or received by the user.

    What is empty or absent excludes nothing.
    """

    span: TimeRange
    types: Sequence[OrderType] = ()
    statuses: Sequence[OrderStatus] = ()
    user_id: str | None = None


async def orders(
    dsn: str, out: IO[str], form: Format, choice: OrderFilter, *, on_progress: OnProgress
) -> int:
    """Write the orders, by the time when they were made; return how many there are.

    Raises the errors of `store.errors`, and UnwritableError; what stands in `out` then is not whole.
    """
    selection = reads.OrderSelection(
        since=choice.span.since,
        before=choice.span.before,
        types=[order_type.value for order_type in choice.types] or None,
        statuses=[status.value for status in choice.statuses] or None,
        user_id=choice.user_id,
    )
    with translate_errors():
        async with snapshot(dsn, APPLICATION) as connection:
            total = await reads.count_orders(connection, selection)
            done = 0
            sheet = TableWriter(out, ORDER_COLUMNS, form)
            async for rows in reads.orders(connection, selection):
                sheet.write(_order_rows(rows))
                done += len(rows)
                on_progress(done, total)
    return done


def _order_rows(rows: Sequence[asyncpg.Record]) -> Iterator[Sequence[Cell]]:
    for (
        order_id, serial_no, created_at, user_id, account_no, account_type, order_type, amount,
        currency, status, code, channel, late, transacted_at, updated_at, expires_at,
        about_serial_no, remaining, to_user_id, to_account_no, gateway_ref, failure_code, failure_reason,
        cancelling, reversal_ref, reversed_minor, metadata,
    ) in rows:  # fmt: skip
        about_hold = ORDER_SPECS[OrderType(order_type)].parent_is_hold
        yield (
            str(order_id),
            serial_no,
            time_text(created_at),
            user_id,
            account_no,
            account_type,
            order_type,
            to_text(amount, currency),
            currency,
            status,
            code,
            channel or None,
            late or None,
            time_text(transacted_at),
            time_text(updated_at),
            time_text(expires_at),
            None if about_hold else about_serial_no,
            about_serial_no if about_hold else None,
            None if remaining is None else to_text(remaining, currency),
            to_user_id,
            to_account_no,
            gateway_ref,
            failure_code,
            failure_reason,
            cancelling or None,
            reversal_ref,
            None if reversed_minor is None else to_text(reversed_minor, currency),
            None if metadata is None else json.loads(metadata),
        )
