"""What the commands of `wallet dlq` have in common: who asks, which letters, and how it ends."""

import inspect
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from difflib import get_close_matches
from functools import update_wrapper
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import typer

from wallet_schemas.values import INTEGER_MAX
from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import read_time
from wallet_worker.dead_letters.model.actors import COMMAND_LINE, NAME, Actor
from wallet_worker.dead_letters.model.errors import BusyError, InvalidEditError, OperationError
from wallet_worker.dead_letters.model.filters import Filter
from wallet_worker.dead_letters.model.states import LetterState
from wallet_worker.dead_letters.reasons import REASONS
from wallet_worker.settings.operators import Role
from wallet_worker.text import printable

if TYPE_CHECKING:
    from wallet_worker.dead_letters.operations import DeadLetterDesk
    from wallet_worker.settings.settings import Settings

T = TypeVar("T")

As = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="NAME", help="Your name for the audit log. Default: your login on this machine."
    ),
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Reason for the audit log.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=INTEGER_MAX, help="The letter's number.")]
State = Annotated[
    list[LetterState] | None, typer.Option("--state", help="Only letters in this state; may be repeated.")
]
Reason = Annotated[str | None, typer.Option(metavar="CODE", help="Only letters with this reason.")]
Source = Annotated[str | None, typer.Option(metavar="QUEUE", help="Only letters from this queue.")]
Type = Annotated[str | None, typer.Option("--type", help="Only messages of this type.")]
Serial = Annotated[
    str | None, typer.Option(metavar="SERIAL", help="Only letters with this serial_no or payment_order_no.")
]
OfUser = Annotated[
    str | None,
    typer.Option(
        "--user", metavar="USER", help="Only letters that name this user, or are about an order of this user."
    ),
]
GatewayRef = Annotated[
    str | None,
    typer.Option(
        "--gateway-ref", metavar="REF", help="Only letters about the payment with this gateway_ref."
    ),
]
OrderId = Annotated[
    UUID | None,
    typer.Option("--order-id", metavar="ORDER_ID", help="Only letters about the order with this id."),
]
Ids = Annotated[str | None, typer.Option(metavar="1,2,…", help="Only these letters.")]
Arrived = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="Only letters that arrived from this time on.")
]
ArrivedBefore = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="Only letters that arrived before this time.")
]

SeenUpTo = Annotated[
    int | None,
    typer.Option(
        "--seen-up-to",
        metavar="NUMBER",
        min=1,
        max=INTEGER_MAX,
        help="Only letters up to this number: the newest that `list` or `groups` has shown you.",
    ),
]


def _filter_options(
    *,
    state: State = None,
    reason: Reason = None,
    source: Source = None,
    type_: Type = None,
    serial: Serial = None,
    user: OfUser = None,
    gateway_ref: GatewayRef = None,
    order_id: OrderId = None,
    ids: Ids = None,
    since: Arrived = None,
    until: ArrivedBefore = None,
    seen_up_to: SeenUpTo = None,
) -> Filter:
    """Return the filter that options ask for, or end the command."""
    if reason and reason.upper() not in REASONS:
        close = get_close_matches(reason.upper(), REASONS, n=1, cutoff=0.6)
        meant = f": did you mean {close[0]}?" if close else ": `wallet dlq runbook` lists the reasons"
        raise typer.BadParameter(f"{reason} is not a reason{meant}", param_hint="--reason")
    try:
        chosen = Filter.from_query({"ids": ids or ""}).ids
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--ids") from None
    return Filter(
        states=tuple(state or ()),
        reason=reason.upper() if reason else None,
        source=source,
        message_type=type_,
        serial_no=serial,
        user_id=user,
        since=read_time("--from", since),
        until=read_time("--to", until),
        ids=chosen,
        seen_up_to=seen_up_to,
        gateway_ref=gateway_ref,
        order_id=order_id,
    )


def with_filter(
    *, ids: bool = True, seen_up_to: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return what puts the options of a filter in the place of a command's parameter `which`."""
    offered = {"ids": ids, "seen_up_to": seen_up_to}
    options = [
        option
        for option in inspect.signature(_filter_options).parameters.values()
        if offered.get(option.name, True)
    ]

    def register(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [
            parameter
            for own in inspect.signature(command).parameters.values()
            for parameter in (options if own.name == "which" else [own])
        ]

        def run(**given: Any) -> None:
            which = _filter_options(**{option.name: given.pop(option.name) for option in options})
            command(which=which, **given)

        update_wrapper(run, command, updated=())
        del run.__wrapped__  # type: ignore[attr-defined]  # typer would read its signature
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return register


def ask(
    name: str | None,
    work: "Callable[[DeadLetterDesk, Actor], Awaitable[T]]",
    *,
    predicts: bool = False,
    ask_again: str = "`wallet dlq audit` says so once the database is back",
) -> T:
    """Return what the operations answer, or end the command with the sentence that says why not.

    `predicts`: the answer says what a worker would do. `ask_again` says how to find out what was done where the
    database was lost during the commit.
    """
    settings = environment.desk()
    name, via = _who(name)
    if predicts and not settings.payment_keys:
        terminal.print_status(
            "WALLET_PAYMENT_KEYS is empty here: payment results are predicted as if all were BAD_SIGNATURE"
        )

    async def run() -> T:
        async with _desk(settings) as operations:
            return await work(operations, await _actor(operations, name, via))

    try:
        return exits.run(run(), ask_again=ask_again)
    except InvalidEditError as exc:
        for fault in exc.faults:
            terminal.print_status(f"{fault.field or 'message'}: {fault.message}")
        exits.end(Exit.FOUND, str(exc))
    except BusyError as exc:  # it could not look: another session holds the rows
        exits.end(Exit.UNAVAILABLE, f"the database is busy: {exc}")
    except OperationError as exc:
        exits.end(Exit.FOUND, str(exc))


@asynccontextmanager
async def _desk(settings: "Settings") -> "AsyncIterator[DeadLetterDesk]":
    from wallet_worker.dead_letters.operations import DeadLetterDesk
    from wallet_worker.store.database import Database
    from wallet_worker.store.dead_letters.letters import OPERATOR_ROLE

    database = Database(
        settings.database_url.get_secret_value(),
        role=OPERATOR_ROLE,
        application="wallet dlq",
        size_max=2,
    )
    await database.open()
    try:
        yield DeadLetterDesk(
            database, settings.rules, settings.keys, settings.dead_letter_limits, settings.environment
        )
    finally:
        await database.close()


def _who(name: str | None) -> tuple[str, str]:
    """Return who asks, and by which login. The name is believed and proves nothing: what needs two people is signed."""
    login = login_name()
    name = (name or login).strip()
    if not NAME.fullmatch(name):
        exits.end(
            Exit.MISUSED,
            f"{printable(name)[:64]} is no name: --as takes small letters a to z, digits and ._@-, 64 at most, "
            "a letter or digit first",
        )
    # Without the machine: each `docker compose run` is a new one, and whoever sits there the same.
    return name, f"{COMMAND_LINE}{login}"


async def _actor(operations: "DeadLetterDesk", name: str, via: str) -> Actor:
    """Return who asks, with the role that the database knows; while it knows nobody, everybody is an operator."""
    known = await operations.role_of(name)
    if known.are_there and known.role is None:
        exits.end(
            Exit.FOUND,
            f"{name} is not in the database's list of operators: its owner adds people with `wallet operators add`",
        )
    role = Role[known.role.upper()] if known.role else Role.OPERATOR
    return Actor(name, role, via, role_given=known.are_there)


def login_name() -> str:
    """Return whose process this is, as the system has it: what the environment says, anybody can write."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not have a name
        return f"uid{os.getuid()}"
