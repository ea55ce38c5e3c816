"""`wallet api`: the HTTP API, and the keys that open it."""

import getpass
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from wallet_schemas import times
from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit, end
from wallet_worker.cli.options import Json

if TYPE_CHECKING:
    import asyncpg

    from wallet_worker.store.api_keys import ApiKey

app = typer.Typer(
    no_args_is_help=False,
    invoke_without_command=True,
    help="Serve commands, queries and payment results over HTTP, and manage the keys of clients.",
)
key_app = typer.Typer(no_args_is_help=True, help="Manage the keys of the HTTP API.")
app.add_typer(key_app, name="key")

PROGRAM = (sys.executable, "-m", "wallet_worker", "api")
HEALTH_PORT = "WALLET_API_HEALTH_PORT"

T = TypeVar("T")


class ApiRole(StrEnum):
    """A usual caller, by what it may do."""

    upstream = "upstream"
    """Opens accounts, moves money, reads."""
    back_office = "back-office"
    """Freezes, unfreezes and closes accounts, reads."""
    reader = "reader"
    """Reads."""


_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SPAN_MAX = timedelta(days=36_500)  # a hundred years: later times may be beyond the calendar
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _span(text: str | timedelta) -> timedelta:
    if isinstance(text, timedelta):
        return text  # typer parses an option's default too
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter("it should be a number with s, m, h or d, such as 90d")
    span = timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    if span > _SPAN_MAX:
        raise typer.BadParameter(f"it should be at most {_SPAN_MAX.days}d")
    return span


ClientName = Annotated[
    str,
    typer.Argument(metavar="CLIENT", help="The client's name, such as shop: small letters, digits and -."),
]


@app.callback()
def api(
    context: typer.Context,
    processes: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Processes, on the same port. Each uses one core; all end when one ends."
        ),
    ] = 1,
) -> None:
    """Serve the HTTP API. On SIGTERM or Ctrl-C, answer the requests in hand and exit.

    Listens on WALLET_API_HOST and WALLET_API_PORT. Refuses every request without a key: `wallet api key add`.

    Exit status: 0 if it was told to stop, 1 if it cannot serve (the log says why), 2 for wrong settings.

    Example: wallet api key add shop --role upstream && wallet api
    """
    if context.invoked_subcommand is not None:
        return
    settings = environment.worker()
    from wallet_worker.telemetry import logs

    logs.configure(settings.log_format, settings.log_level)
    environment.announce(settings)
    if processes > 1:
        if settings.api_port == 0:
            end(Exit.MISUSED, "WALLET_API_PORT is 0: several processes need a port that they share")
        from wallet_worker.worker import supervisor as several

        raise typer.Exit(several.run(processes, settings.api_health_port, PROGRAM, HEALTH_PORT))
    from wallet_worker.api import app as serving

    raise typer.Exit(serving.run(settings))


@key_app.command()
def add(
    client: ClientName,
    *,
    role: Annotated[ApiRole | None, typer.Option(help="A usual set of scopes.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A scope, such as orders:read; may be repeated, with or without a role."),
    ] = None,
    users: Annotated[
        str | None, typer.Option(help="Required prefix of every user id, such as shop7:.")
    ] = None,
    serial_prefix: Annotated[
        str | None, typer.Option(help="Required prefix of every serial number, such as S7-.")
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Requests per second and process. Default: 200."),
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Requests at once per process. Default: 200."),
    ] = None,
    expires: Annotated[
        timedelta | None,
        typer.Option(parser=_span, metavar="SPAN", help="Lifetime of the key, such as 90d. Default: no end."),
    ] = None,
) -> None:
    """Create a key for a client and print it. The key is not stored and cannot be shown again.

    Example: wallet api key add shop --role upstream --users shop7: --serial-prefix S7- --expires 90d
    """
    from wallet_schemas.http import ROLES, Scope
    from wallet_worker.api import keys
    from wallet_worker.store import api_keys

    _check_name(client)
    wanted = [*(ROLES[role.value] if role else ()), *(scope or ())]
    unknown = sorted(set(wanted) - {known_scope.value for known_scope in Scope})
    if unknown:
        end(
            Exit.MISUSED,
            f"there is no scope {unknown[0]}; known are {', '.join(known_scope.value for known_scope in Scope)}",
        )
    if not wanted:
        end(Exit.MISUSED, "the key would open nothing: name a --role or a --scope")
    _check_prefix("--users", users)
    _check_prefix("--serial-prefix", serial_prefix)
    key = keys.make()

    async def write(connection: "asyncpg.Connection") -> None:
        await api_keys.insert(
            connection,
            key.key_id,
            client,
            key.digest,
            sorted({str(known_scope) for known_scope in wanted}),
            users=users,
            serial_prefix=serial_prefix,
            rate=rate,
            in_flight=in_flight,
            created_by=getpass.getuser(),
            life=expires,
        )

    with_database(write, ask_again=_is_it_there(key.key_id))
    terminal.print_status(f"the key {key.key_id} of {client} is shown once; who has it may do what it may")
    terminal.print_result(key.text)


@key_app.command(name="list")
def list_keys(*, as_json: Json = None) -> None:
    """List the keys with client, scopes and state. The keys themselves are not shown.

    Example: wallet api key list
    """
    from wallet_worker.store import api_keys

    keys = with_database(api_keys.every)
    if terminal.wants_json(as_json):
        terminal.print_json({"keys": [_shown(key) for key in keys]})
        return
    terminal.print_table(
        "keys of the HTTP API",
        ("key", "client", "opens", "scopes", "users", "numbers", "a second", "last used"),
        [
            (
                key.key_id,
                key.client,
                _state(key),
                " ".join(key.scopes),
                key.users or "all",
                key.serial_prefix or "all",
                str(key.rate or 200),
                _moment(key.last_used_at) or "never",
            )
            for key in keys
        ],
    )


@key_app.command()
def rotate(
    client: ClientName,
    *,
    overlap: Annotated[
        timedelta,
        typer.Option(parser=_span, metavar="SPAN", help="How long the older keys remain valid, such as 7d."),
    ] = timedelta(days=7),
) -> None:
    """Create and print a key with the rights of the client's newest key. Older keys stay valid for the overlap.

    Example: wallet api key rotate shop --overlap 7d
    """
    from wallet_worker.api import keys
    from wallet_worker.store import api_keys

    _check_name(client)
    key = keys.make()

    async def write(connection: "asyncpg.Connection") -> bool:
        open_now = [
            api_key
            for api_key in await api_keys.lock_client(connection, client)
            if api_key.left != timedelta(0)
        ]
        if not open_now:
            return False
        newest = open_now[-1]
        await api_keys.insert(
            connection,
            key.key_id,
            client,
            key.digest,
            newest.scopes,
            users=newest.users,
            serial_prefix=newest.serial_prefix,
            rate=newest.rate,
            in_flight=newest.in_flight,
            created_by=getpass.getuser(),
            life=newest.expires_at - newest.created_at if newest.expires_at else None,
        )
        for api_key in open_now:
            await api_keys.end_after(connection, api_key.key_id, overlap)
        return True

    if not with_database(write, ask_again=_is_it_there(key.key_id)):
        end(Exit.FOUND, f"{client} has no key that opens: `wallet api key add {client}`")
    terminal.print_status(
        f"the key {key.key_id} of {client} is shown once; those before it open for {overlap}"
    )
    terminal.print_result(key.text)


@key_app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `list` shows it.")],
    *,
    why: Annotated[str, typer.Option(help="Reason, kept with the key.")],
) -> None:
    """Revoke a key. Every process refuses it within five seconds.

    Example: wallet api key revoke k3v7q2n5d4aw --why "it stood in a log"
    """
    from wallet_worker.store import api_keys

    if not why.strip():
        end(Exit.MISUSED, "--why is empty")

    async def write(connection: "asyncpg.Connection") -> bool:
        return await api_keys.revoke(connection, key_id, getpass.getuser(), why.strip()[:500])

    if not with_database(write, ask_again="`wallet api key list` says so"):
        end(Exit.FOUND, f"there is no key {key_id} that is not revoked")
    terminal.print_result(f"{key_id} is revoked: it opens nothing in five seconds at most")


def _check_name(client: str) -> None:
    from wallet_worker.api import keys

    if not keys.CLIENT_NAME.fullmatch(client):
        end(
            Exit.MISUSED,
            "a client's name is of small letters, digits and -, at most 32, beginning with a letter",
        )


def _check_prefix(option: str, prefix: str | None) -> None:
    if prefix is not None and not re.fullmatch(r"[A-Za-z0-9._:@+-]{1,64}", prefix):
        end(Exit.MISUSED, f"{option} is of letters, digits and . _ : @ + - only, at most 64")


def _is_it_there(key_id: str) -> str:
    return f"`wallet api key list` says whether there is a key {key_id}, which nobody has: revoke it, and begin again"


def with_database(
    work: "Callable[[asyncpg.Connection], Awaitable[T]]", *, ask_again: str = exits.LOOK_FIRST
) -> T:
    """Return what the work returns, in a transaction of whoever migrates, or end the command."""
    url = environment.database_url()

    async def run() -> T:
        from wallet_worker.store.database import committed
        from wallet_worker.store.errors import translate_errors
        from wallet_worker.store.servers import CONNECT_SECONDS, connect
        from wallet_worker.store.session import look_at_tables

        with translate_errors():
            connection = await connect(url, command_timeout=CONNECT_SECONDS)
            try:
                await look_at_tables(connection)
                async with committed(connection):
                    return await work(connection)
            finally:
                connection.terminate()  # a server that no longer answers changes nothing of what was done

    return exits.run(run(), ask_again=ask_again)


def _state(key: "ApiKey") -> str:
    if key.revoked_at is not None:
        return "no, revoked"
    if key.left == timedelta(0):
        return "no, expired"
    return f"until {_moment(key.expires_at)}" if key.expires_at else "yes"


def _moment(at: datetime | None) -> str:
    return times.to_text(at.astimezone(UTC)) if at else ""


def _shown(key: "ApiKey") -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "client": key.client,
        "opens": key.left != timedelta(0),
        "scopes": list(key.scopes),
        "users": key.users,
        "serial_prefix": key.serial_prefix,
        "rate": key.rate,
        "in_flight": key.in_flight,
        "created_at": _moment(key.created_at),
        "created_by": key.created_by,
        "expires_at": _moment(key.expires_at) or None,
        "revoked_at": _moment(key.revoked_at) or None,
        "revoked_by": key.revoked_by,
        "revoked_why": key.revoked_why,
        "last_used_at": _moment(key.last_used_at) or None,
    }
