"""`python -m tests.servers`: install what the servers need, run them, stop those that were left running."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from tests.servers import reaper
from tests.servers.install import InstallFailed, ensure_available, ensure_failover_available
from tests.servers.private import FOLDER_PREFIX
from tests.servers.server import ServerFailed, ServersUnavailable
from tests.servers.start import start_servers

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)


@app.command()
def install(
    *,
    failover: Annotated[bool, typer.Option(help="Install etcd, Patroni and PostgreSQL too.")] = False,
) -> None:
    """Install rabbitmq-server with the system's package manager, if neither it nor Docker is there.

    Example: python -m tests.servers install
    """
    try:
        ensure_available(say=_print)
        if failover:
            ensure_failover_available(say=_print)
    except InstallFailed as why:
        _fail(why)


@app.command()
def run(
    *,
    durable: Annotated[bool, typer.Option(help="PostgreSQL writes through to the disk (fsync).")] = True,
) -> None:
    """Start both servers, print their addresses for a shell, and wait for Ctrl-C.

    Example: python -m tests.servers run
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with start_servers(durable=durable, say=_print) as servers:
            print(f"export WALLET_AMQP_URL='{servers.amqp_url}'")
            print(f"export WALLET_DATABASE_URL='{servers.database_url}'")
            print(f"export WALLET_MANAGEMENT_URL='{servers.management_url}'", flush=True)
            _print(f"running ({servers.origin}); Ctrl-C ends them and removes their data")
            ended.wait()
            _print("ending")
    except (ServersUnavailable, ServerFailed) as why:
        _fail(why)


@app.command()
def stop(
    folder: Annotated[Path, typer.Argument(help="The temporary folder of servers that were left running.")],
) -> None:
    """End private servers that were left running, and remove their folder.

    Example: python -m tests.servers stop /tmp/wallet-servers-x1y2z3
    """
    if not folder.name.startswith(FOLDER_PREFIX) or not folder.is_dir():
        _fail(f"{folder} is no folder of private servers: its name would begin with {FOLDER_PREFIX}")
    reaper.reap(folder)
    _print(f"ended; {folder} is removed")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(why: object) -> None:
    _print(str(why))
    raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m tests.servers")
