"""`wallet console`: the operators' web page, and who may sign in to it."""

import getpass
import sys
from datetime import UTC
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wallet_schemas import times
from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from wallet_worker.console.security.users import Users

app = typer.Typer(
    no_args_is_help=False,
    invoke_without_command=True,
    help="Serve the operators' web page: dead letters, statements, orders, queues.",
)
user_app = typer.Typer(no_args_is_help=True, help="Manage the console's users and their roles.")
app.add_typer(user_app, name="user")


class ConsoleRole(StrEnum):
    """What somebody may do in the console; each may all that stands before it."""

    viewer = "viewer"
    """Looks; personal data is masked."""
    operator = "operator"
    """Plans and executes, and sees payloads whole."""
    approver = "approver"
    """Approves, as the second person, what somebody else has planned."""
    controller = "controller"
    """Approves also an edit that is about somebody or something else than its letter."""


UsersFile = Annotated[
    Path,
    typer.Option("--file", envvar="WALLET_CONSOLE_USERS", help="The users file."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, in lower case.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, for scripts.")
]
DEFAULT_FILE = Path("wallet-console-users.json")


@app.callback()
def console(context: typer.Context) -> None:
    """Serve the operators' web page until SIGTERM or Ctrl-C.

    Listens on WALLET_CONSOLE_HOST and WALLET_CONSOLE_PORT. Behind a proxy that speaks TLS, set WALLET_CONSOLE_ORIGIN to
    the URL that people open.

    Exit status: 0 if it was told to stop, 1 if it cannot serve (the log says why), 2 for wrong settings.

    Example: wallet console user add ann --role operator && wallet console
    """
    if context.invoked_subcommand is not None:
        return
    settings = environment.worker()
    from wallet_worker.console import app as pages
    from wallet_worker.telemetry import logs

    logs.configure(settings.log_format, settings.log_level)
    environment.announce(settings)
    raise typer.Exit(pages.run(settings))


@user_app.command()
def add(
    name: Name,
    *,
    role: Annotated[
        ConsoleRole,
        typer.Option(help="viewer reads; operator acts; approver also approves the plans of others."),
    ],
    file: UsersFile = DEFAULT_FILE,
    password_stdin: FromStdin = False,
) -> None:
    """Add a user. Asks twice for a password of at least 12 characters.

    Example: wallet console user add ann --role operator
    """
    from wallet_worker.settings.operators import Role

    password = _password(from_stdin=password_stdin)
    _change(file, lambda users: users.added(name, Role[role.name.upper()], password))
    terminal.print_result(f"{name.strip().lower()} may sign in as {role.value}")


@user_app.command(name="list")
def list_users(*, file: UsersFile = DEFAULT_FILE, as_json: Json = None) -> None:
    """List the users and their roles.

    Example: wallet console user list
    """
    from wallet_worker.console.security import users

    try:
        listed = sorted(users.Users.read(file).by_name.values(), key=lambda user: user.name)
    except users.UsersError as exc:
        exits.end(exits.Exit.MISUSED, str(exc))
    rows = [
        (user.name, user.role.name.lower(), times.to_text(user.added_at.astimezone(UTC))) for user in listed
    ]
    if terminal.wants_json(as_json):
        terminal.print_json(
            {"users": [{"name": name, "role": role, "added_at": added} for name, role, added in rows]}
        )
        return
    terminal.print_table(f"who may sign in, of {file}", ("name", "role", "added"), rows)


@user_app.command()
def remove(name: Name, *, file: UsersFile = DEFAULT_FILE) -> None:
    """Remove a user. Their sessions end with the next click.

    Example: wallet console user remove ann
    """
    _change(file, lambda users: users.removed(name))
    terminal.print_result(f"{name.strip().lower()} may no longer sign in")


@user_app.command()
def passwd(name: Name, *, file: UsersFile = DEFAULT_FILE, password_stdin: FromStdin = False) -> None:
    """Set a new password. The user's sessions end.

    Example: wallet console user passwd ann
    """
    password = _password(from_stdin=password_stdin)
    _change(file, lambda users: users.with_password(name, password))
    terminal.print_result(f"{name.strip().lower()} has a new password")


@user_app.command()
def role(
    name: Name,
    role: Annotated[
        ConsoleRole,
        typer.Argument(metavar="ROLE", help="viewer, operator, approver or controller, from the next click."),
    ],
    *,
    file: UsersFile = DEFAULT_FILE,
) -> None:
    """Change a user's role. It holds from the next click; the user stays signed in.

    Example: wallet console user role ann approver
    """
    from wallet_worker.settings.operators import Role

    _change(file, lambda users: users.with_role(name, Role[role.name.upper()]))
    terminal.print_result(f"{name.strip().lower()} is {role.value} now")


def _change(file: Path, make: "Callable[[Users], Users]") -> None:
    """Change the users file and log who changed, or end the command with the sentence that says why not."""
    import structlog

    from wallet_worker.console.security import users

    try:
        changes = users.change(file, make)
    except users.UsersError as exc:
        exits.end(exits.Exit.MISUSED, str(exc))
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=False),
        ],
    )
    for change in changes:
        log.info("console.user_changed", file=str(file), by=getpass.getuser(), **change)


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().removesuffix("\n")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password
