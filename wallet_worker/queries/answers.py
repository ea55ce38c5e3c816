"""Answers to queries, each from one snapshot. Nothing here knows how a question came."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.commands import Outcome
from wallet_schemas.encode import encode
from wallet_schemas.events import EntryView, InstructionsView, ReversalView
from wallet_schemas.message import Message
from wallet_schemas.money import to_text
from wallet_schemas.names import BODY_BYTES_MAX, DEFAULT_ACCOUNT_TYPE
from wallet_schemas.queries import (
    AccountList,
    AccountListed,
    FindOrders,
    GetAccount,
    GetHistory,
    GetOrder,
    GetStatement,
    OrderDetail,
    QueryRefused,
    Statement,
)
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core import accounts as core_accounts
from wallet_worker.core import ledger
from wallet_worker.core import orders as core_orders
from wallet_worker.core import reversals as core_reversals
from wallet_worker.core.accounts import Account
from wallet_worker.core.decide import outcome
from wallet_worker.core.orders import Order
from wallet_worker.core.reversals import Reversal
from wallet_worker.core.senders import Rights
from wallet_worker.queries import lists
from wallet_worker.store import accounts, commands, entries, orders, payment_instructions, reversals
from wallet_worker.store.reads.whole_order import whole_order

BY_ONE_STATEMENT: Final = (GetAccount,)
"""Queries that need no transaction: a statement sees one state of the database by itself."""

NOT_KNOWN_YET: Final = (
    "the serial number is not known yet; a command that was sent with it may still wait in its queue"
)


async def answer(connection: asyncpg.Connection, query: Message) -> Message:
    """Return the answer to a query, from the caller's snapshot."""
    match query:
        case GetAccount():
            return await _account(connection, query)
        case GetOrder():
            return await _order(connection, query)
        case GetStatement():
            return await _statement(connection, query)
        case FindOrders():
            return await lists.orders_of(connection, query)
        case GetHistory():
            return await lists.history_of(connection, query)
        case _:
            msg = f"{query.type} is accepted by the contract and unknown here"
            raise AssertionError(msg)


def shown_to(reply: Message, rights: Rights | None) -> Message:
    """Return an answer without the accounts of types that its reader has nothing to do with."""
    if not isinstance(reply, AccountList) or rights is None or rights.account_types is None:
        return reply
    shown = [account for account in reply.accounts if rights.reaches_type(account.account_type)]
    return reply.model_copy(update={"accounts": shown})


async def _account(connection: asyncpg.Connection, query: GetAccount) -> AccountList:
    users_accounts = await accounts.of_user(connection, query.user_id, query.account_type, query.currency)
    return AccountList(
        accounts=[
            AccountListed.model_validate(
                {**core_accounts.body(account), "id": account.account_id}, strict=False
            )
            for account in users_accounts
        ]
    )


async def _order(connection: asyncpg.Connection, query: GetOrder) -> OrderDetail | QueryRefused:
    found = await whole_order(connection, query.serial_no)
    if found is None:
        return QueryRefused(code=Code.ORDER_NOT_FOUND, message=NOT_KNOWN_YET)
    order, parties = found.order, found.accounts
    if order is None:
        return OrderDetail(
            outcome=outcome(found.command, duplicate=False),
            order=None,
            entries=[],
            sent_by=found.command.sent_by,
        )
    account = parties[order.account_id]
    payee = parties[order.counter_account_id] if order.counter_account_id else None
    of_order = list((await reversals.of_orders(connection, [order])).get(order.serial_no, {}).values())
    shown = core_orders.view(order, account, payee)
    if standing_minor := sum(reversal.moved_minor for reversal in of_order):
        shown = shown.model_copy(update={"reversed_amount": to_text(standing_minor, order.currency)})
    return OrderDetail(
        outcome=outcome(found.command, duplicate=False),
        order=shown,
        entries=[
            ledger.view(line.entry, parties[line.entry.account_id], line.order_type, line.serial_no)
            for line in found.lines
        ],
        instructions=await _instructions(connection, order),
        reversals=_reversals(of_order, order, account) or None,
        sent_by=found.command.sent_by,
    )


async def _instructions(connection: asyncpg.Connection, order: Order) -> InstructionsView | None:
    """Return how the payer of a pending recharge pays; absent once it has ended, or while nothing is known."""
    if order.order_type is not OrderType.RECHARGE or order.status is not OrderStatus.PENDING:
        return None
    kept = (await payment_instructions.of_orders(connection, [order])).get(order.serial_no)
    return None if kept is None else InstructionsView.model_validate_json(kept.body, strict=False)


def _reversals(known: Sequence[Reversal], order: Order, account: Account) -> list[ReversalView]:
    """Return the reversals of an order, the first one first: where a message cannot hold all, those changed last."""
    size = 0
    shown: list[Reversal] = []
    for reversal in sorted(known, key=lambda kept: kept.updated_at, reverse=True):
        size += len(encode(core_reversals.view(reversal, order, account))) + 1
        if size > BODY_BYTES_MAX // 2:
            break
        shown.append(reversal)
    return [core_reversals.view(reversal, order, account) for reversal in known if reversal in shown]


async def _statement(connection: asyncpg.Connection, query: GetStatement) -> Statement | QueryRefused:
    account_type = query.account_type or DEFAULT_ACCOUNT_TYPE
    users_accounts = await accounts.of_user(connection, query.user_id, account_type, query.currency)
    if not users_accounts:
        return QueryRefused(
            code=Code.ACCOUNT_NOT_FOUND, message="the user has no account of this type and currency"
        )
    (account,) = users_accounts
    after = query.after_line_no or 0
    # One more than asked for, to know whether there is a next page.
    lines = await entries.page(
        connection,
        account.account_id,
        after_line_no=after,
        since=query.from_time,
        before=query.to_time,
        limit=query.limit + 1,
    )
    if not lines:
        left_minor = await entries.balance_before(
            connection, account.account_id, line_no=after, since=query.from_time
        )
        return _page(account, [], left_minor, left_minor, next_after=None)
    return _longest_page(account, lines, limit=query.limit)


def _longest_page(
    account: core_accounts.Account, lines: Sequence[entries.EntryLine], *, limit: int
) -> Statement:
    """Return the page with as many of the lines, `limit` at most, as the body of a message can hold.

    That is one at least: an account and a line together are less than two kilobytes.
    """
    views = [ledger.view(line.entry, account, line.order_type, line.serial_no) for line in lines[:limit]]
    # What the first lines take in the body, together with the commas between them.
    lengths = list(accumulate(len(encode(view)) + 1 for view in views))
    # What stands around the lines says the last of them, so that its length is known only with their number.
    for count in range(bisect_right(lengths, BODY_BYTES_MAX), 0, -1):
        around = _page(
            account,
            [],
            lines[0].entry.balance_before_minor,
            lines[count - 1].entry.balance_after_minor,
            next_after=lines[count - 1].entry.line_no if count < len(lines) else None,
        )
        if len(encode(around)) + lengths[count - 1] - 1 <= BODY_BYTES_MAX:
            return around.model_copy(update={"entries": views[:count]})
    msg = f"line {lines[0].entry.line_no} of account {account.account_no} is longer than a message may be"
    raise AssertionError(msg)


def _page(
    account: core_accounts.Account,
    views: list[EntryView],
    opening_minor: int,
    closing_minor: int,
    *,
    next_after: int | None,
) -> Statement:
    return Statement(
        account=core_accounts.view(account),
        opening_balance=to_text(opening_minor, account.currency),
        closing_balance=to_text(closing_minor, account.currency),
        entries=views,
        next_after_line_no=next_after,
    )


class StoredOutcome(NamedTuple):
    """What is stored under a serial number: the outcome, and the first command's content to compare with."""

    fingerprint: bytes
    content: str
    outcome: Outcome
    sent_by: str | None


async def stored_outcomes(
    connection: asyncpg.Connection, serial_nos: Iterable[str]
) -> dict[str, StoredOutcome]:
    """Return what is stored under these serial numbers, each outcome as a repeat of it is answered."""
    _, stored = await commands.find(connection, serial_nos)
    return {
        number: StoredOutcome(
            command.fingerprint, command.content, outcome(command, duplicate=True), command.sent_by
        )
        for number, command in stored.items()
    }


async def owner(connection: asyncpg.Connection, serial_no: str) -> str | None:
    """Return the user whose order has this serial number; None if the order does not exist."""
    order = await orders.by_serial_no(connection, serial_no)
    if order is None:
        return None
    found = await accounts.by_id(connection, [order.account_id])
    return found[order.account_id].user_id


async def settled(connection: asyncpg.Connection, serial_nos: Iterable[str]) -> set[str]:
    """Return those of the serial numbers whose order waits for no payment any more."""
    return await orders.not_pending(connection, serial_nos)


async def payable(connection: asyncpg.Connection, serial_nos: Iterable[str]) -> set[str]:
    """Return those of the serial numbers whose payer can be told how to pay, or whose order waits no more."""
    return await orders.not_pending(connection, serial_nos, or_payable=True)


async def answered(connection: asyncpg.Connection, serial_nos: Iterable[str]) -> set[str]:
    """Return those of the serial numbers that have an outcome."""
    return await commands.there(connection, serial_nos)


async def named_users(connection: asyncpg.Connection, serial_no: str) -> list[str]:
    """Return the users that a command without an order names, or the owner of the order that it names."""
    _, stored = await commands.find(connection, [serial_no])
    content = json.loads(stored[serial_no].content) if serial_no in stored else {}
    users = [content[name] for name in ("user_id", "to_user_id") if isinstance(content.get(name), str)]
    about = [
        content[name]
        for name in ("original_serial_no", "hold_serial_no", "target_serial_no")
        if isinstance(content.get(name), str)
    ]
    owners = [await owner(connection, number) for number in about]
    return [user_id for user_id in (*users, *owners) if user_id is not None]
