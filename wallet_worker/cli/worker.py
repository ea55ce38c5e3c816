"""`wallet worker`."""

from typing import Annotated

import typer

from wallet_worker.cli import environment


def worker(
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="Worker processes, each on the next port. Each uses one core; all end when one ends.",
        ),
    ] = 1,
) -> None:
    """Apply commands and payment results. On SIGTERM or Ctrl-C, finish the messages in hand and exit.

    Ready when /readyz on port WALLET_HTTP_PORT says 200. Several workers may run.

    Exit status: 0 if it was told to stop, 1 if it cannot go on (the log says why), 2 for wrong settings.

    Example: WALLET_HTTP_PORT=9300 wallet worker
    """
    settings = environment.worker_with_senders()
    from wallet_worker.telemetry import logs

    logs.configure(settings.log_format, settings.log_level)
    environment.announce(settings)
    if processes > 1:
        from wallet_worker.worker import supervisor as several

        raise typer.Exit(several.run(processes, settings.http_port))
    from wallet_worker.worker import app

    raise typer.Exit(app.run(settings))
