"""`wallet export`: statements and orders as files, read from the database."""

from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from wallet_schemas.codes import Code
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE
from wallet_schemas.queries import GetStatement
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.accounting.table_file import Format
from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Currency, Json, Since, Type, Until, User, read_span
from wallet_worker.cli.output import Form, OnProgress, Output, output_file, progress

if TYPE_CHECKING:
    from wallet_worker.accounting.export import ExportedStatement, OrderFilter

app = typer.Typer(
    no_args_is_help=True,
    help="Write statements and orders to files. Needs WALLET_DATABASE_URL only, and no worker.",
)


@app.command()
def statement(
    user_id: User,
    currency: Currency,
    *,
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    account_no: Annotated[
        str | None,
        typer.Option(
            "--account", metavar="NUMBER", help="The account with this number, also if it is closed."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    form: Form = Format.CSV,
    output: Output = None,
    as_json: Json = None,
) -> None:
    """Write an account's entries, oldest first, with the balance before and after each.

    Reads one consistent snapshot in little memory. With -o, the file appears when it is complete, and opening and
    closing balance are printed.

    In CSV, an apostrophe stands before a value that a spreadsheet would take for a formula. JSON lines have none.

    Example: wallet export statement alice TWD --from 2026-01-01 --to 2026-02-01 -o alice.csv
    """
    url = environment.database_url()
    begin, end = read_span(since, until)
    try:
        query = GetStatement(
            user_id=user_id,
            account_type=account_type,
            currency=currency,
            from_time=begin,
            to_time=end,
        )
    except ValidationError as exc:
        exits.end_misused(exc)
    with output_file(output) as out, progress("lines", shown=output is not None) as moved:
        found = exits.run(_statement(url, out, form, query, account_no, moved))
        if found is None:
            exits.end(Exit.FOUND, f"{Code.ACCOUNT_NOT_FOUND}: the user has no such account")
    if output is None:
        return
    if terminal.wants_json(as_json):
        terminal.print_json({"file": str(output), **asdict(found)})
    else:
        terminal.print_result(
            f"{output}: {found.lines:,} lines of account {found.account_no}, "
            f"{found.opening_balance} {currency} before them, {found.closing_balance} {currency} after"
        )


@app.command()
def orders(
    *,
    since: Since = None,
    until: Until = None,
    order_type: Annotated[
        list[OrderType] | None, typer.Option("--type", help="Only orders of this type; may be repeated.")
    ] = None,
    status: Annotated[
        list[OrderStatus] | None,
        typer.Option(help="Only orders with this status now; may be repeated."),
    ] = None,
    user_id: Annotated[
        str | None,
        typer.Option("--user", metavar="USER", help="Only orders that this user pays or receives."),
    ] = None,
    form: Form = Format.CSV,
    output: Output = None,
    as_json: Json = None,
) -> None:
    """Write orders with their present status, sorted by the time they were created.

    --from and --to select by that time. Reads one consistent snapshot in little memory. With -o, the file appears when
    it is complete.

    Example: wallet export orders --from 2026-01-01 --to 2026-02-01 --type withdraw --status pending -o waiting.csv
    """
    url = environment.database_url()
    from wallet_worker.accounting.export import OrderFilter, TimeRange

    begin, end = read_span(since, until)
    choice = OrderFilter(
        span=TimeRange(since=begin, before=end),
        types=order_type or (),
        statuses=status or (),
        user_id=user_id,
    )
    with output_file(output) as out, progress("orders", shown=output is not None) as moved:
        count = exits.run(_orders(url, out, form, choice, moved))
    if output is None:
        return
    if terminal.wants_json(as_json):
        terminal.print_json({"file": str(output), "orders": count})
    else:
        terminal.print_result(f"{output}: {count:,} orders")


async def _orders(url: str, out: IO[str], form: Format, choice: "OrderFilter", moved: OnProgress) -> int:
    from wallet_worker.accounting.export import orders

    return await orders(url, out, form, choice, on_progress=moved)


async def _statement(
    url: str, out: IO[str], form: Format, query: GetStatement, account_no: str | None, moved: OnProgress
) -> "ExportedStatement | None":
    from wallet_worker.accounting.export import TimeRange, statement

    return await statement(
        url,
        out,
        form,
        user_id=query.user_id,
        account_type=query.account_type,
        currency=query.currency,
        account_no=account_no,
        span=TimeRange(since=query.from_time, before=query.to_time),
        on_progress=moved,
    )
