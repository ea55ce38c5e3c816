"""`wallet topology`: the exchanges, queues and bindings of the broker."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.broker_users import users

if TYPE_CHECKING:
    from wallet_worker.broker.topology import TopologyReport

app = typer.Typer(no_args_is_help=True, help="Create or check the broker's exchanges, queues and bindings.")


@app.command()
def apply(
    *,
    events: Annotated[
        bool,
        typer.Option(
            help="Create the log of events too, a stream that `wallet api` and `wallet webhooks` read. "
            "It keeps seven days of events, at most 10 GB."
        ),
    ] = True,
    plan: Annotated[
        bool, typer.Option("--plan", help="Change nothing; list what would be made, a line each.")
    ] = False,
) -> None:
    """Create missing exchanges, queues and bindings. Never alters what exists.

    Example: WALLET_AMQP_URL=amqp://guest:guest@localhost/ wallet topology apply
    """
    url = environment.amqp_url()
    from wallet_worker.broker import topology

    if plan:
        _plan(url, events=events)
        return
    try:
        exits.run(topology.apply(url, events=events))
    except topology.TopologyError as exc:
        _end(exc.faults)
    terminal.print_result("the broker has every exchange, queue and binding")


def _plan(url: str, *, events: bool) -> None:
    """Print what `apply` would do; end with FOUND if something is in its way."""
    from wallet_worker.broker import topology

    found = exits.run(topology.plan(url, environment.management_url(), events=events))
    for sentence in found.unverified:
        terminal.print_status(sentence)
    for sentence in found.changes:
        terminal.print_result(sentence)
    if found.faults:
        _end(found.faults)
    if not found.changes:
        terminal.print_result("nothing: the broker has every exchange, queue and binding")


app.command(name="users")(users)


@app.command()
def check() -> None:
    """Print what is missing or wrong, a line each. Changes nothing. Needs a broker user that may configure.

    Example: wallet topology check && wallet worker
    """
    url, management_url = environment.amqp_url(), environment.management_url()
    report = exits.run(_check(url, management_url))
    for sentence in report.unverified:
        terminal.print_status(sentence)
    if report.faults:
        _end(report.faults)
    terminal.print_result(
        "nothing else was found wrong" if report.unverified else "the broker is set up as the wallet needs it"
    )


async def _check(url: str, management_url: str | None) -> "TopologyReport":
    from wallet_worker.broker import topology
    from wallet_worker.broker.connection import open_connection

    async with open_connection(url, "wallet topology check") as connection:
        return await topology.check(connection, url, management_url)


def _end(faults: Sequence[str]) -> NoReturn:
    for fault in faults:
        terminal.print_status(fault)
    raise typer.Exit(exits.Exit.FOUND)
