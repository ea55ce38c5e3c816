"""Lists: a user's orders, and what moved on an account, each page from one snapshot and within one message."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.encode import encode
from wallet_schemas.message import JsonObject
from wallet_schemas.money import to_text
from wallet_schemas.names import BODY_BYTES_MAX
from wallet_schemas.queries import (
    FindOrders,
    GetHistory,
    History,
    HistoryLine,
    HistoryOrder,
    OrderList,
    OrderListed,
    QueryRefused,
)
from wallet_schemas.values import INTEGER_MAX, OrderType
from wallet_worker.core import accounts as core_accounts
from wallet_worker.core import ledger
from wallet_worker.core import orders as core_orders
from wallet_worker.core.accounts import Account
from wallet_worker.core.orders import ORDER_SPECS, Order, Party
from wallet_worker.store import accounts, commands, entries, orders

LOOKED_AT_MAX: Final = 10_000  # orders that one query looks at, however few of them are sought
CHUNK: Final = 500
PENDING_MAX: Final = 50
_AROUND_BYTES: Final = 1_024  # what stands around the orders of a page, and the account

_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)
_GREATEST: Final = UUID(int=2**128 - 1)
_LEAST: Final = UUID(int=0)
_PAYS_SOMEBODY: Final = frozenset(
    order_type
    for order_type, spec in ORDER_SPECS.items()
    if any(leg.holder is Party.COUNTERPARTY for leg in spec.legs)
)
"""The types of orders whose legs name a second user."""


async def orders_of(connection: asyncpg.Connection, query: FindOrders) -> OrderList | QueryRefused:
    """Return a page of the orders that are sought; it ends where it is full, or enough was looked at."""
    cursor = (query.to_time or _LAST, _LEAST if query.to_time else _GREATEST)
    if query.after is not None:
        after = _read_cursor(query.after)
        if after is None:
            return QueryRefused(code=Code.MALFORMED, message="after is no next_after of a page")
        cursor = min(cursor, after)
    own = {
        account.account_id: account
        for account in await accounts.every_of_user(
            connection, query.user_id, query.account_type, query.currency
        )
    }
    page: list[OrderListed] = []
    size, looked_at = _AROUND_BYTES, 0
    while own and looked_at < LOOKED_AT_MAX:
        newest = await orders.newest(
            connection, own, since=query.from_time or _FIRST, before=cursor, limit=CHUNK
        )
        notes = await _metadata(connection, newest)
        payees = await _counterparts(connection, newest)
        for order in newest:
            if _is_sought(order, notes.get(order.serial_no), query):
                listed = _listed(order, own[order.account_id], payees, notes.get(order.serial_no))
                size += len(encode(listed)) + 1
                if len(page) == query.limit or size > BODY_BYTES_MAX:
                    return OrderList(orders=page, next_after=_cursor(*cursor))
                page.append(listed)
            cursor = (order.created_at, order.order_id)
        looked_at += len(newest)
        if len(newest) < CHUNK:
            return OrderList(orders=page, next_after=None)
    return OrderList(orders=page, next_after=_cursor(*cursor) if own else None)


def _is_sought(order: Order, notes: Mapping[str, str] | None, query: FindOrders) -> bool:
    return (
        (query.order_types is None or order.order_type in query.order_types)
        and (query.statuses is None or order.status in query.statuses)
        and (query.metadata is None or query.metadata.items() <= (notes or {}).items())
    )


def _listed(
    order: Order, account: Account, others: Mapping[int, Account], notes: Mapping[str, str] | None
) -> OrderListed:
    payee = others[order.counter_account_id] if order.counter_account_id else None
    body = core_orders.body(order, account, payee=payee)
    return OrderListed.model_validate({**body, "metadata": dict(notes) if notes else None}, strict=False)


async def history_of(connection: asyncpg.Connection, query: GetHistory) -> History | QueryRefused:
    """Return a page of what moved on an account, newest first; on the first page what waits for a payment, too."""
    user_accounts = await accounts.every_of_user(
        connection, query.user_id, query.account_type, query.currency
    )
    if query.account_no is not None:
        user_accounts = [account for account in user_accounts if account.account_no == query.account_no]
    if not user_accounts:
        return QueryRefused(
            code=Code.ACCOUNT_NOT_FOUND, message="the user has no account of this type and currency"
        )
    account = user_accounts[0]
    lines = await entries.page_before(
        connection,
        account.account_id,
        before_line_no=INTEGER_MAX if query.before_line_no is None else query.before_line_no,
        limit=query.limit + 1,
    )
    waiting = (
        await orders.pending(connection, account.account_id, PENDING_MAX)
        if query.before_line_no is None
        else []
    )
    moved = await orders.by_id(connection, {line.entry.order_id for line in lines})
    of_these = [*waiting, *moved.values()]
    notes = await _metadata(connection, of_these)
    parties = await _counterparts(connection, of_these)

    def shown(order: Order) -> HistoryOrder:
        is_own = order.account_id == account.account_id
        other = order.counter_account_id if is_own else order.account_id
        return HistoryOrder(
            serial_no=order.serial_no,
            order_type=order.order_type,
            status=order.status,
            amount=to_text(order.amount_minor, order.currency),
            currency=order.currency,
            created_at=order.created_at,
            original_serial_no=order.parent_serial_no if order.order_type is OrderType.REFUND else None,
            counterparty_user_id=parties[other].user_id
            if order.order_type in _PAYS_SOMEBODY and other
            else None,
            metadata=notes.get(order.serial_no) if is_own else None,
        )

    # Half of a message at most, so that a page with many notes still has lines.
    pending = list(_within([shown(order) for order in waiting], BODY_BYTES_MAX // 2))
    left = BODY_BYTES_MAX - _AROUND_BYTES - sum(map(_size, pending))
    kept: list[HistoryLine] = []
    for line in lines[: query.limit]:
        history_line = HistoryLine(
            entry=ledger.view(line.entry, account, line.order_type), order=shown(moved[line.entry.order_id])
        )
        left -= _size(history_line)
        if left < 0:
            break
        kept.append(history_line)
    return History(
        account=core_accounts.view(account),
        pending=pending,
        lines=kept,
        next_before_line_no=kept[-1].entry.line_no if kept and len(kept) < len(lines) else None,
    )


def _within(parts: Iterable[HistoryOrder], size_max: int) -> Iterator[HistoryOrder]:
    """Yield the first of the parts, as many as fit."""
    for part in parts:
        size_max -= _size(part)
        if size_max < 0:
            return
        yield part


def _size(part: JsonObject) -> int:
    return len(encode(part)) + 1


async def _metadata(connection: asyncpg.Connection, orders: Iterable[Order]) -> dict[str, dict[str, str]]:
    texts = await commands.metadata(connection, {order.serial_no for order in orders})
    notes = {number: json.loads(text) for number, text in texts.items()}
    return {number: pairs for number, pairs in notes.items() if isinstance(pairs, dict) and pairs}


async def _counterparts(connection: asyncpg.Connection, orders: Iterable[Order]) -> dict[int, Account]:
    """Return the accounts on both sides of these orders."""
    wanted = {order.account_id for order in orders} | {
        order.counter_account_id for order in orders if order.counter_account_id is not None
    }
    return await accounts.by_id(connection, wanted)


def _cursor(at: datetime, order_id: UUID) -> str:
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{order_id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[datetime, UUID] | None:
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        at, _, order_id = plain.partition("|")
        moment = datetime.fromisoformat(at)
        return (moment, UUID(order_id)) if moment.tzinfo is not None else None
    except ValueError:
        return None
