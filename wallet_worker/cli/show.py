"""`wallet show`: accounts, orders and statements, asked of a running worker through the queries."""

from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from wallet_schemas.message import JsonObject
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE
from wallet_schemas.queries import AccountList, History, OrderDetail, OrderList, Statement
from wallet_schemas.values import (
    LIST_DEFAULT,
    LIST_MAX,
    STATEMENT_LINES_DEFAULT,
    STATEMENT_LINES_MAX,
    Direction,
    OrderStatus,
    OrderType,
    OutcomeStatus,
)
from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Currency, Json, Since, Timeout, Type, Until, User, read_span

if TYPE_CHECKING:
    from wallet_schemas.events import EntryView, ReversalView

app = typer.Typer(no_args_is_help=True, help="Show accounts, orders and statements. Needs a running worker.")

T = TypeVar("T")


@app.command()
def account(
    user_id: User,
    *,
    account_type: Annotated[str | None, typer.Option("--type", help="Only accounts of this type.")] = None,
    currency: Annotated[str | None, typer.Option(help="Only accounts in this currency.")] = None,
    timeout: Timeout = 10.0,
    as_json: Json = None,
) -> None:
    """List a user's accounts with their balances.

    Example: wallet show account alice --currency TWD
    """
    url = environment.amqp_url()
    found = _run_query(_account(url, user_id, account_type, currency, timeout))
    if terminal.wants_json(as_json):
        terminal.print_json(found)
    if not found.accounts:
        exits.end(
            Exit.FOUND,
            f"no such account of {user_id} is known yet; a command that opens it may still wait in its queue",
        )
    if terminal.wants_json(as_json):
        return
    # Nearly nobody owes: the column is there where somebody does.
    owes = any(listed.debt for listed in found.accounts)
    terminal.print_table(
        f"accounts of {user_id}",
        (
            *("account", "type", "currency", "balance", "available"),
            *(("debt",) if owes else ()),
            *("status", "opened", "changed"),
        ),
        (
            (
                listed.account_no,
                listed.account_type,
                listed.currency,
                listed.balance,
                listed.available,
                *((listed.debt or "",) if owes else ()),
                listed.status.value,
                _time(listed.created_at),
                _time(listed.updated_at),
            )
            for listed in found.accounts
        ),
        right=("balance", "available", "debt") if owes else ("balance", "available"),
    )


@app.command()
def order(
    serial_no: Annotated[str, typer.Argument(metavar="SERIAL", help="The serial number of the command.")],
    *,
    timeout: Timeout = 10.0,
    as_json: Json = None,
) -> None:
    """Show a command's outcome and its order's present status.

    Example: wallet show order R-20260102-000001
    """
    url = environment.amqp_url()
    print_order(_run_query(_order(url, serial_no, timeout)), as_json=terminal.wants_json(as_json))


@app.command()
def orders(
    user_id: User,
    *,
    account_type: Annotated[str | None, typer.Option("--type", help="Only of accounts of this type.")] = None,
    currency: Annotated[str | None, typer.Option(help="Only of accounts in this currency.")] = None,
    order_type: Annotated[
        list[OrderType] | None,
        typer.Option("--order-type", help="Only orders of this type; may be repeated."),
    ] = None,
    status: Annotated[
        list[OrderStatus] | None, typer.Option(help="Only orders with this status now; may be repeated.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Only orders with this metadata; may be repeated, at most three times."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    after: Annotated[
        str | None, typer.Option(help="Continue after this cursor, which the page before ended with.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX, help="Orders per page.")] = LIST_DEFAULT,
    timeout: Timeout = 10.0,
    as_json: Json = None,
) -> None:
    """List the orders of a user's accounts, closed accounts too, newest first.

    Example: wallet show orders alice --order-type recharge --status pending
    """
    url = environment.amqp_url()
    begin, end = read_span(since, until)
    found = _run_query(
        _orders(
            url,
            timeout,
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            order_types=order_type,
            statuses=status,
            metadata=_notes(metadata),
            from_time=begin,
            to_time=end,
            after=after,
            limit=limit,
        )
    )
    if terminal.wants_json(as_json):
        terminal.print_json(found)
        return
    terminal.print_table(
        f"orders of {user_id}",
        ("made", "serial number", "order", "amount", "currency", "status", "account", "to"),
        (
            (
                _time(listed.created_at),
                listed.serial_no,
                listed.order_type.value,
                listed.amount,
                listed.currency,
                listed.status.value,
                listed.account_no,
                listed.to_user_id or "",
            )
            for listed in found.orders
        ),
        right=("amount",),
    )
    if found.next_after is not None:
        terminal.print_status(f"there is more: --after {found.next_after}")


@app.command()
def history(
    user_id: User,
    currency: Currency,
    *,
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    account_no: Annotated[
        str | None,
        typer.Option("--account", help="The number of an older account of the same user, type and currency."),
    ] = None,
    before: Annotated[
        int | None, typer.Option(min=1, help="Continue before this line (shows older lines).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=LIST_MAX, help="Lines per page.")] = LIST_DEFAULT,
    timeout: Timeout = 10.0,
    as_json: Json = None,
) -> None:
    """Show an account's movements and pending orders, newest first.

    Example: wallet show history alice TWD
    """
    url = environment.amqp_url()
    found = _run_query(
        _history(
            url,
            timeout,
            user_id=user_id,
            currency=currency,
            account_type=account_type,
            account_no=account_no,
            before_line_no=before,
            limit=limit,
        )
    )
    if terminal.wants_json(as_json):
        terminal.print_json(found)
        return
    columns = ("line", "time", "order", "serial number", "amount", "after", "with", "status")
    waiting = (
        (
            "waits",
            _time(pending.created_at),
            pending.order_type.value,
            pending.serial_no,
            pending.amount,
            "",
            pending.counterparty_user_id or "",
            pending.status.value,
        )
        for pending in found.pending
    )
    moved = (
        (
            str(line.entry.line_no),
            _time(line.entry.created_at),
            line.order.order_type.value,
            line.order.serial_no,
            f"{'+' if line.entry.direction is Direction.CREDIT else '-'}{line.entry.amount}",
            line.entry.balance_after,
            line.order.counterparty_user_id or "",
            line.order.status.value,
        )
        for line in found.lines
    )
    account = found.account
    terminal.print_table(
        f"{account.user_id}, {account.account_type}, {account.currency}, account {account.account_no}: "
        f"{account.balance}, of which {account.available} available",
        columns,
        (*waiting, *moved),
        right=("line", "amount", "after"),
    )
    if found.next_before_line_no is not None:
        terminal.print_status(f"there is more: --before {found.next_before_line_no}")


@app.command()
def statement(
    user_id: User,
    currency: Currency,
    *,
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    since: Since = None,
    until: Until = None,
    after: Annotated[int, typer.Option(min=0, help="Only entries after this line number.")] = 0,
    limit: Annotated[
        int, typer.Option(min=1, max=STATEMENT_LINES_MAX, help="Entries per page.")
    ] = STATEMENT_LINES_DEFAULT,
    every: Annotated[bool, typer.Option("--all", help="Show all pages.")] = False,
    timeout: Timeout = 10.0,
    as_json: Json = None,
) -> None:
    """Show an account's entries, oldest first, with the balance before and after each.

    --all --json prints one line per page.

    Example: wallet show statement alice TWD --from 2026-01-01 --to 2026-02-01 --all
    """
    url = environment.amqp_url()
    begin, end = read_span(since, until)
    _run_query(
        _statement(
            url,
            timeout,
            all_pages=every,
            as_json=terminal.wants_json(as_json),
            user_id=user_id,
            currency=currency,
            account_type=account_type,
            from_time=begin,
            to_time=end,
            after_line_no=after,
            limit=limit,
        )
    )


def print_order(detail: OrderDetail, *, as_json: bool) -> None:
    """Print an order, the outcome it began with, and the entries it made."""
    if as_json:
        terminal.print_json(detail)
        return
    outcome, order = detail.outcome, detail.order
    pairs = [
        ("outcome", f"{outcome.status}, {outcome.code}: {outcome.message or outcome.code.meaning}"),
        *(rows(outcome.details) if outcome.details else ()),
    ]
    if order is None and outcome.status is OutcomeStatus.APPLIED:
        pairs += rows(outcome.result)
    if order is not None:
        pairs += rows(order)
    terminal.print_pairs(outcome.serial_no or "", pairs)
    if detail.instructions is not None:
        terminal.print_pairs("how to pay", rows(detail.instructions))
    for reversal in detail.reversals or ():
        terminal.print_pairs(f"{reversal.kind} {reversal.reversal_ref}", _of_reversal(reversal))
    if detail.entries:
        _print_entries("entries", detail.entries, of_one_account=False)


def _of_reversal(reversal: "ReversalView") -> list[tuple[str, str]]:
    """Return what a person who sees the order has not seen yet of its reversal."""
    known = {"order_type", "user_id", "account_no", "currency", "kind", "reversal_ref"}
    return [(name, value) for name, value in rows(reversal) if name not in known]


def rows(part: JsonObject) -> list[tuple[str, str]]:
    """Return the names and values of the fields that apply, as a person reads them."""
    return [
        (name, _text(value))
        for name, value in part
        # The serial number is the title, and a person sees what a result is.
        if value is not None and name not in {"serial_no", "object"}
    ]


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


async def _account(
    url: str, user_id: str, account_type: str | None, currency: str | None, seconds: float
) -> AccountList:
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=seconds, name="wallet show") as wallet:
        return await wallet.account(user_id, account_type, currency)


async def _order(url: str, serial_no: str, seconds: float) -> OrderDetail:
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=seconds, name="wallet show") as wallet:
        return await wallet.order(serial_no)


async def _orders(url: str, seconds: float, **fields: Any) -> OrderList:
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=seconds, name="wallet show") as wallet:
        return await wallet.orders(**fields)


async def _history(url: str, seconds: float, **fields: Any) -> History:
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=seconds, name="wallet show") as wallet:
        return await wallet.history(**fields)


def _notes(pairs: list[str] | None) -> dict[str, str] | None:
    if not pairs:
        return None
    if any("=" not in pair for pair in pairs):
        raise typer.BadParameter("it should be NAME=VALUE", param_hint="--metadata")
    return dict(pair.split("=", 1) for pair in pairs)


async def _statement(url: str, seconds: float, *, all_pages: bool, as_json: bool, **fields: Any) -> None:
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=seconds, name="wallet show") as wallet:
        async for page in wallet.statement_pages(**fields):
            _print_page(page, as_json=as_json)
            if not all_pages:
                break
    if page.next_after_line_no is not None:
        terminal.print_status(f"there is more: --after {page.next_after_line_no}, or --all")


def _print_page(page: Statement, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(page)
        return
    account = page.account
    title = f"{account.user_id}, {account.account_type}, {account.currency}, account {account.account_no}: "
    _print_entries(f"{title}{page.opening_balance} before, {page.closing_balance} after", page.entries)


def _print_entries(title: str, entries: "list[EntryView]", *, of_one_account: bool = True) -> None:
    terminal.print_table(
        title,
        (
            *(() if of_one_account else ("account",)),
            "line",
            "time",
            "order",
            "serial number",
            "before",
            "amount",
            "after",
        ),
        (
            (
                *(() if of_one_account else (entry.account_no,)),
                str(entry.line_no),
                _time(entry.created_at),
                entry.order_type.value,
                entry.serial_no,
                entry.balance_before,
                f"{'+' if entry.direction is Direction.CREDIT else '-'}{entry.amount}",
                entry.balance_after,
            )
            for entry in entries
        ),
        right=("line", "before", "amount", "after"),
    )


def _run_query(work: Coroutine[Any, Any, T]) -> T:
    """Return the answer; a query that cannot even be made ends the command with what is wrong with it."""
    try:
        return exits.run(work)
    except ValidationError as exc:
        exits.end_misused(exc)


def _time(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}Z"
