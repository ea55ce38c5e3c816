"""`wallet webhooks`: post events to the addresses that clients have named, and manage them."""

import getpass
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit, end
from wallet_worker.cli.options import Json, read_time
from wallet_worker.text import printable

if TYPE_CHECKING:
    import asyncpg

    from wallet_worker.store.webhooks import Endpoint

app = typer.Typer(
    no_args_is_help=False,
    invoke_without_command=True,
    help="Post events to the addresses that clients have named, and manage them.",
)

T = TypeVar("T")


class DeliveryStateName(StrEnum):
    """What became of an event."""

    waiting = "waiting"
    delivered = "delivered"
    given_up = "given_up"


ClientName = Annotated[str, typer.Argument(metavar="CLIENT", help="A client of the HTTP API, such as shop.")]
EndpointName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the endpoint, such as orders.")]


@app.callback()
def run(context: typer.Context) -> None:
    """Post events, until SIGTERM or Ctrl-C. Several may run: one reads the log of events, and all of them post.

    Ready when /readyz on port WALLET_HTTP_PORT says 200. Needs the log of events: `wallet topology apply`.

    Exit status: 0 if it was told to stop, 1 if it cannot go on (the log says why), 2 for wrong settings.

    Example: WALLET_HTTP_PORT=9303 wallet webhooks
    """
    if context.invoked_subcommand is not None:
        return
    settings = environment.worker()
    from wallet_worker.telemetry import logs
    from wallet_worker.webhooks import app as process
    from wallet_worker.worker.process import run_process

    logs.configure(settings.log_format, settings.log_level)
    environment.announce(settings)
    raise typer.Exit(run_process(lambda stopping: process.run(settings, stopping), "webhooks"))


@app.command()
def add(
    client: ClientName,
    name: EndpointName,
    url: Annotated[str, typer.Argument(metavar="URL", help="Address beginning with https://.")],
    *,
    types: Annotated[
        str, typer.Option(help="Which events, separated by commas: order.*,account.opened. Default: all.")
    ] = "*",
    users: Annotated[
        str | None,
        typer.Option(
            help="Required prefix of the users that the events are about. Default: that of its key."
        ),
    ] = None,
) -> None:
    """Create an endpoint for a client that has an API key, and print its secret, which is shown once.

    Example: wallet webhooks add shop orders https://shop.example/wallet --types order.*
    """
    import secrets

    from wallet_worker.api import keys
    from wallet_worker.core.visibility import KINDS, wrong_pattern
    from wallet_worker.core.webhooks import SECRET_BYTES, secret_of, wrong_url
    from wallet_worker.store import api_keys, webhooks

    for text in (client, name):
        if not keys.CLIENT_NAME.fullmatch(text):
            end(Exit.MISUSED, f"{printable(text)} is no name: small letters, digits and -, at most 32")
    reason = wrong_url(url, environment.desk().webhooks_networks or ())
    if reason is not None:
        end(Exit.MISUSED, f"nothing can be posted to this address: {reason}")
    kinds = [kind.strip() for kind in types.split(",")]
    wrong = wrong_pattern(kinds)
    if wrong is not None:
        end(Exit.MISUSED, f"no event is called {printable(wrong)}; known are {', '.join(KINDS)}")
    secret = secret_of(secrets.token_bytes(SECRET_BYTES))

    async def write(connection: "asyncpg.Connection") -> bool:
        async with connection.transaction():
            opening = [
                key for key in await api_keys.lock_client(connection, client) if key.left != timedelta(0)
            ]
            if not opening:
                end(Exit.FOUND, f"{client} has no key that opens: `wallet api key add {client}`")
            reach = opening[-1].users
            if reach is not None and users is not None and not users.startswith(reach):
                end(Exit.MISUSED, f"--users must begin with {reach}, as the key of {client} has it")
            return await webhooks.insert(
                connection,
                client,
                name,
                url,
                kinds,
                users=users or reach,
                secret=secret,
                created_by=getpass.getuser(),
            )

    is_new = _with_database(
        write,
        ask_again=f"`wallet webhooks list {client}` says whether {name} is there, with a secret that nobody has seen: "
        f"`wallet webhooks rotate {client} {name} --overlap-hours 0` prints another",
    )
    if not is_new:
        end(Exit.FOUND, f"{client} has an endpoint {name} already")
    terminal.print_status(f"events for {client} are posted to {url}; the secret is shown once")
    terminal.print_result(secret)


@app.command(name="list")
def list_endpoints(
    client: Annotated[
        str | None, typer.Argument(metavar="[CLIENT]", help="Only the endpoints of this client.")
    ] = None,
    *,
    as_json: Json = None,
) -> None:
    """List endpoints with address, events and state. Secrets are not shown.

    Example: wallet webhooks list shop
    """
    from wallet_worker.store import webhooks

    async def read(connection: "asyncpg.Connection") -> "list[Endpoint]":
        return await webhooks.endpoints(connection, client)

    found = _with_database(read)
    if terminal.wants_json(as_json):
        terminal.print_json({"endpoints": [_shown(item) for item in found]})
        return
    terminal.print_table(
        "endpoints of webhooks",
        ("client", "name", "address", "events", "users", "state", "failing since"),
        [
            (
                item.client,
                item.name,
                item.url,
                " ".join(item.kinds),
                item.users or "all",
                item.state if item.why is None else f"{item.state}: {item.why}",
                _moment(item.failing_since) or "",
            )
            for item in found
        ],
    )


@app.command()
def rotate(
    client: ClientName,
    name: EndpointName,
    *,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=720, help="Hours for which the secret before it signs too.")
    ] = 24,
) -> None:
    """Create and print a new secret. The older secret signs too, for the overlap.

    Example: wallet webhooks rotate shop orders --overlap-hours 48
    """
    import secrets

    from wallet_worker.core.webhooks import SECRET_BYTES, secret_of
    from wallet_worker.store import webhooks

    secret = secret_of(secrets.token_bytes(SECRET_BYTES))

    async def write(connection: "asyncpg.Connection") -> bool:
        async with connection.transaction():
            return await webhooks.rotate(connection, client, name, secret, timedelta(hours=overlap_hours))

    _changed(client, name, write, ask_again="rotate again, which leaves one secret more that nobody has seen")
    terminal.print_status(f"the secret is shown once; the one before it signs too for {overlap_hours} h")
    terminal.print_result(secret)


@app.command()
def enable(client: ClientName, name: EndpointName) -> None:
    """Post events to an endpoint again, what waits first.

    Example: wallet webhooks enable shop orders
    """
    from wallet_worker.store import webhooks

    _changed(client, name, lambda connection: webhooks.enable(connection, client, name), ask_again=_LISTED)
    terminal.print_result(f"events are posted to {name} of {client}")


@app.command()
def disable(
    client: ClientName,
    name: EndpointName,
    *,
    why: Annotated[str, typer.Option(help="Reason, shown to the client.")],
) -> None:
    """Post nothing more to an endpoint. What waits goes on waiting; events that happen meanwhile are not posted.

    Example: wallet webhooks disable shop orders --why "its certificate has expired"
    """
    from wallet_worker.store import webhooks

    if not why.strip():
        end(Exit.MISUSED, "--why is empty")
    _changed(
        client,
        name,
        lambda connection: webhooks.disable(connection, client, name, why.strip()[:500]),
        ask_again=_LISTED,
    )
    terminal.print_result(f"nothing more is posted to {name} of {client}")


@app.command()
def deliveries(
    client: ClientName,
    name: EndpointName,
    *,
    state: Annotated[
        DeliveryStateName | None, typer.Option(help="Only those that wait, arrived, or were given up.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: Json = None,
) -> None:
    """List the events for an endpoint, newest first, with what came of the last attempt.

    Example: wallet webhooks deliveries shop orders --state given_up
    """
    from wallet_worker.store import webhooks

    async def read(connection: "asyncpg.Connection") -> "list[webhooks.EndpointDelivery] | None":
        endpoint = await webhooks.endpoint(connection, client, name)
        if endpoint is None:
            return None
        chosen = None if state is None else state.value
        return await webhooks.deliveries(
            connection, endpoint.endpoint_id, state=chosen, before=None, limit=limit
        )

    found = _with_database(read)
    if found is None:
        _no_endpoint(client, name)
    if terminal.wants_json(as_json):
        terminal.print_json(
            {
                "deliveries": [
                    {
                        "event_id": item.event_id,
                        "event_type": item.kind,
                        "state": item.state,
                        "attempts": item.attempts,
                        "next_at": _moment(item.next_at) if item.state == "waiting" else None,
                        "attempted_at": _moment(item.attempted_at),
                        "status": item.status,
                        "answer": item.answer,
                    }
                    for item in found
                ]
            }
        )
        return
    terminal.print_table(
        f"events for {name} of {client}",
        ("event", "type", "state", "attempts", "next attempt", "status", "answer"),
        [
            (
                item.event_id,
                item.kind,
                item.state,
                str(item.attempts),
                (_moment(item.next_at) or "") if item.state == "waiting" else "",
                str(item.status or ""),
                (item.answer or "")[:60],
            )
            for item in found
        ],
    )


@app.command()
def replay(
    client: ClientName,
    name: EndpointName,
    *,
    event: Annotated[str | None, typer.Option(metavar="EVENT_ID", help="This event.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Events since this time that have not arrived. Without an offset: UTC.",
        ),
    ] = None,
    delivered_too: Annotated[
        bool, typer.Option("--delivered-too", help="With --since: those that have arrived, too.")
    ] = False,
) -> None:
    """Post an event again, or those since a time, with the same ids.

    Example: wallet webhooks replay shop orders --since 2026-01-02
    """
    from wallet_worker.store import webhooks

    begin = read_time("--since", since)
    if (event is None) == (since is None):
        end(Exit.MISUSED, "name --event or --since")

    async def write(connection: "asyncpg.Connection") -> int | None:
        endpoint = await webhooks.endpoint(connection, client, name)
        if endpoint is None:
            return None
        return await webhooks.replay(
            connection,
            endpoint.endpoint_id,
            event_id=event,
            since=begin,
            delivered_too=delivered_too,
        )

    count = _with_database(
        write,
        ask_again=f"`wallet webhooks deliveries {client} {name}` says what waits; posting again does no harm",
    )
    if count is None:
        _no_endpoint(client, name)
    if not count:
        end(Exit.FOUND, f"there is nothing to post again to {name} of {client}")
    terminal.print_result(f"{count} {'event is' if count == 1 else 'events are'} posted again")


_LISTED = "`wallet webhooks list` says how it stands; do it again, which does no harm"


def _changed(
    client: str, name: str, work: "Callable[[asyncpg.Connection], Awaitable[bool]]", *, ask_again: str
) -> None:
    if not _with_database(work, ask_again=ask_again):
        _no_endpoint(client, name)


def _no_endpoint(client: str, name: str) -> NoReturn:
    end(Exit.FOUND, f"{printable(client)} has no endpoint {printable(name)}: `wallet webhooks list`")


def _with_database(
    work: "Callable[[asyncpg.Connection], Awaitable[T]]", *, ask_again: str = exits.LOOK_FIRST
) -> T:
    """Return what the work on a connection of whoever migrates returns, or end the command."""
    from wallet_worker.cli.api import with_database

    return with_database(work, ask_again=ask_again)


def _moment(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _shown(item: "Endpoint") -> dict[str, object]:
    return {
        "client": item.client,
        "name": item.name,
        "url": item.url,
        "types": list(item.kinds),
        "users": item.users,
        "state": item.state,
        "why": item.why,
        "failing_since": _moment(item.failing_since),
        "created_at": _moment(item.created_at),
        "created_by": item.created_by,
    }
