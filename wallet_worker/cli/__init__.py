"""The command `wallet`, one module a noun. What a command needs is imported when it runs, so that help is quick."""

import logging
import os
from importlib.metadata import version
from typing import Annotated

import typer

from wallet_worker.cli import (
    api,
    audit,
    console,
    doctor,
    export,
    keeper,
    keys,
    migrate,
    operators,
    reconcile,
    send,
    settings,
    show,
    topology,
    webhooks,
    worker,
)
from wallet_worker.cli.dlq import commands
from wallet_worker.cli.exits import EXIT_STATUSES
from wallet_worker.cli.process import WalletGroup

app = typer.Typer(
    name="wallet",
    cls=WalletGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=EXIT_STATUSES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(name="migrate")(migrate.migrate)
app.command(name="doctor")(doctor.doctor)
app.add_typer(topology.app, name="topology")
app.add_typer(keys.app, name="keys")
app.add_typer(settings.app, name="settings")
app.command(name="worker")(worker.worker)
app.command(name="keeper")(keeper.keeper)
app.add_typer(send.app, name="send")
app.add_typer(show.app, name="show")
app.command(name="audit")(audit.audit)
app.add_typer(commands.app, name="dlq")
app.add_typer(operators.app, name="operators")
app.add_typer(export.app, name="export")
app.command(name="reconcile")(reconcile.reconcile)
app.add_typer(console.app, name="console")
app.add_typer(api.app, name="api")
app.add_typer(webhooks.app, name="webhooks")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 -- typer calls it with the option's value
    if wanted:
        print(f"wallet {version('wallet-worker')}")  # noqa: T201 -- the command's product
        raise typer.Exit


@app.callback()
def wallet(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Set up and run the wallet, send commands, read accounts, handle dead letters, check the ledger.

    Name the servers in WALLET_AMQP_URL and WALLET_DATABASE_URL.

    Example: wallet send recharge alice 100.00 TWD --until-settled
    """
    # Without a handler Python prints the client libraries' warnings, beside the one line that we say ourselves.
    logging.getLogger().addHandler(logging.NullHandler())


def main() -> None:
    """Run the command and end the process with its exit status."""
    _open_standard_descriptors()
    app(prog_name="wallet")


def _open_standard_descriptors() -> None:
    """Leave no standard descriptor closed: what is opened next would take its number, a connection for one.

    Whoever writes to standard error by its number, as libraries in C do when they fail, would write to the broker then.
    What Python knows as closed stays closed: `sys.stdout` is absent, and what is printed is reported as not written.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            os.set_inheritable(number, True)  # noqa: FBT003 -- for what this process starts
