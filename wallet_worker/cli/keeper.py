"""`wallet keeper`."""

import typer

from wallet_worker.cli import environment


def keeper() -> None:
    """Store dead letters and publish the replays that operators execute, until SIGTERM or Ctrl-C.

    Each worker runs a keeper too, unless WALLET_KEEPER is false. Several keepers may run. Ready when /readyz on port
    WALLET_HTTP_PORT says 200.

    Exit status: 0 if it was told to stop, 1 if it cannot go on (the log says why), 2 for wrong settings.

    Example: WALLET_HTTP_PORT=9302 wallet keeper
    """
    settings = environment.worker_with_senders()
    from wallet_worker.telemetry import logs
    from wallet_worker.worker import keeper_process

    logs.configure(settings.log_format, settings.log_level)
    environment.announce(settings)
    raise typer.Exit(keeper_process.run(settings))
