"""`wallet topology users`: one user of the broker for each role, none of them an administrator."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.text import printable

if TYPE_CHECKING:
    from wallet_worker.broker.users import BrokerUser

PASSWORDS: Final = "WALLET_BROKER_PASSWORDS"


def users(
    *,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TYPE,…", help="An upstream service: shop=account.open,order.*,account.get"
        ),
    ] = None,
    gateway: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A payment gateway.")] = None,
    subscriber: Annotated[
        list[str] | None, typer.Option(metavar="NAME=KEY", help="A subscriber of events: audit=order.*")
    ] = None,
    api: Annotated[bool, typer.Option("--api", help="Include the user of `wallet api`.")] = False,
    webhooks: Annotated[
        bool, typer.Option("--webhooks", help="Include the user of `wallet webhooks`.")
    ] = False,
    reply_queues: Annotated[
        bool,
        typer.Option("--reply-queues", help="Allow upstream services to declare reply queues."),
    ] = False,
    vhost: Annotated[
        str | None,
        typer.Option(help="The vhost. Default: that of WALLET_AMQP_URL, or wallet."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Set the users over the management API, as an administrator.")
    ] = False,
) -> None:
    """Print the broker's users and permissions as RabbitMQ's definitions.json, or set them with --apply.

    Users are setup, worker, keeper, console, monitor, gateway-NAME, up-NAME and sub-NAME. Their passwords are in
    WALLET_BROKER_PASSWORDS, a JSON object {user: password}, or in the file that WALLET_BROKER_PASSWORDS_FILE names;
    only their hashes are printed. --apply needs WALLET_MANAGEMENT_URL with an administrator.

    Example: wallet topology users --upstream shop=account.open,order.recharge --gateway acme > definitions.json
    """
    from wallet_worker.broker import users as broker_users
    from wallet_worker.broker.management import ManagementError, management

    try:
        wanted = _wanted(
            upstream or [],
            gateway or [],
            subscriber or [],
            with_api=api,
            with_webhooks=webhooks,
            reply_queues=reply_queues,
        )
        passwords = _passwords()
        if not apply:
            from yarl import URL

            from wallet_worker.broker.addresses import split

            named = os.environ.get("WALLET_AMQP_URL")
            name = vhost or (URL(split(named)[0]).path.removeprefix("/") if named else "") or "wallet"
            print(json.dumps(broker_users.definitions(wanted, passwords, name), indent=2))  # noqa: T201 -- the product
            return
        api_of_broker = management(environment.amqp_url(), environment.management_url())
        if api_of_broker is None:
            exits.end(Exit.MISUSED, "WALLET_MANAGEMENT_URL is not set, and the broker is spoken to with TLS")
        others = broker_users.apply(api_of_broker, wanted, passwords)
    except ManagementError as exc:
        exits.end(Exit.UNAVAILABLE, f"the management API: {exc}")
    except (ValueError, OSError) as exc:
        exits.end(Exit.MISUSED, printable(str(exc)))
    for name in others:
        terminal.print_status(f"the user {name} has rights in this vhost too: it was left as it is")
    terminal.print_result(
        f"the broker has {len(wanted)} users of the wallet, each with the rights of its role"
    )


def _wanted(
    upstreams: list[str],
    gateways: list[str],
    subscribers: list[str],
    *,
    with_api: bool,
    with_webhooks: bool,
    reply_queues: bool,
) -> "list[BrokerUser]":
    from wallet_worker.broker import users as broker_users

    found = [*broker_users.roles(), *([broker_users.api()] if with_api else [])]
    found += [broker_users.webhooks()] if with_webhooks else []
    for text in upstreams:
        name, types = _pair("--upstream", text)
        names = [type_name.strip() for type_name in types.split(",") if type_name.strip()]
        found.append(broker_users.upstream(name, names, reply_queues=reply_queues))
    found += [broker_users.gateway(name) for name in gateways]
    for text in subscribers:
        found.append(broker_users.subscriber(*_pair("--subscriber", text)))
    names = [type_name.name for type_name in found]
    if len(set(names)) != len(names):
        raise ValueError("a name is given twice")
    return found


def _pair(option: str, text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name or not value:
        raise ValueError(f"{option} {text!r} should look like NAME=VALUE")
    return name, value


def _passwords() -> dict[str, str]:
    text, file = os.environ.get(PASSWORDS), os.environ.get(f"{PASSWORDS}_FILE")
    if text and file:
        raise ValueError(f"both {PASSWORDS} and {PASSWORDS}_FILE are set: which is meant is not known")
    if file:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except OSError as exc:
            raise ValueError(f"{PASSWORDS}_FILE: {file} cannot be read: {exc.strerror}") from None
    if not text:
        raise ValueError(f"{PASSWORDS} is not set: it should be a JSON object of users and their passwords")
    try:
        passwords = json.loads(text)
    except ValueError:
        passwords = None
    if not isinstance(passwords, dict) or not all(
        isinstance(password, str) for password in passwords.values()
    ):
        raise ValueError(f"{PASSWORDS} is no JSON object of users and their passwords")
    return passwords
