"""`wallet worker`."""

import typer

from wallet_worker.cli import environment


def worker() -> None:
    """Apply commands and payment results until SIGTERM or Ctrl-C, then finish what is in hand and end.

    It is ready when /readyz on port WALLET_HTTP_PORT says 200. Run as many as you like.

    Exit status: 0 when it was told to stop, 1 when it cannot go on (the log says why), 2 for wrong settings.

    Example: WALLET_HTTP_PORT=9300 wallet worker
    """
    settings = environment.worker()
    from wallet_worker import app, logs

    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(app.run(settings))
