"""`wallet settings`: what is in force, and whether it is in order."""

import typer

from wallet_worker.cli import environment, terminal
from wallet_worker.cli.options import Json

app = typer.Typer(
    no_args_is_help=True, help="Check the settings in the environment, or show which are in force."
)


@app.command()
def check() -> None:
    """Check every setting, and name each variable WALLET_… that is not one. Needs no server.

    Exit status: 0 if all are in order, 2 if one is missing, wrong or unknown.

    Example: wallet settings check
    """
    environment.worker()
    terminal.print_result("the settings are in order")


@app.command()
def show(*, as_json: Json = None) -> None:
    """Show every setting that is in force, the defaults too. Secrets are hidden. Needs no server.

    Exit status: 0, or 2 if a setting is missing, wrong or unknown.

    Example: wallet settings show
    """
    from wallet_worker.settings.in_force import in_force

    settings = in_force(environment.worker())
    if terminal.wants_json(as_json):
        terminal.print_json({"settings": [setting._asdict() for setting in settings]})
        return
    terminal.print_table(
        "settings in force",
        ("setting", "value", "from"),
        (
            (setting.variable, setting.value, "environment" if setting.is_set else "default")
            for setting in settings
        ),
    )
