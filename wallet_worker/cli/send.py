"""`wallet send`: commands, and the outcome that the wallet gives them."""

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from pydantic import ValidationError

from schemas.commands import Command, OpenAccount, Outcome, Recharge
from schemas.names import DEFAULT_ACCOUNT_TYPE
from schemas.values import OrderStatus, OutcomeStatus
from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Currency, Json, Timeout, Type, User
from wallet_worker.cli.show import tell_order

if TYPE_CHECKING:
    from schemas.queries import OrderDetail

app = typer.Typer(
    no_args_is_help=True,
    help="Send a command and print its outcome. Repeating one with the same serial number is safe.",
)

Serial = Annotated[
    str | None,
    typer.Option(
        "--serial",
        help="The serial number: the same one again is the same command. Without it one is made and printed.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the outcome.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="NAME=TEXT", help="A note to store; may be repeated."),
]

C = TypeVar("C", bound=Command)


@app.command("open")
def open_account(
    user_id: User,
    *,
    currency: Annotated[str, typer.Option(help="ISO 4217 code, such as TWD.")],
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    serial: Serial = None,
    metadata: Metadata = None,
    wait: Wait = True,
    timeout: Timeout = 10.0,
    as_json: Json = None,
) -> None:
    """Open an account for a user.

    Example: wallet send open alice --currency TWD
    """
    command = _made(
        OpenAccount,
        serial,
        metadata,
        user_id=user_id,
        account_type=account_type,
        currency=currency,
    )
    _send(command, generated=serial is None, wait=wait, timeout_seconds=timeout, as_json=as_json)


@app.command()
def recharge(
    user_id: User,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="As a decimal, such as 100.00.")],
    currency: Currency,
    *,
    via: Annotated[str, typer.Option(help="The way of payment: card, bank_transfer, …")] = "card",
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    serial: Serial = None,
    metadata: Metadata = None,
    wait: Wait = True,
    until_settled: Annotated[
        bool, typer.Option("--until-settled", help="Wait until the payment gateway has spoken, too.")
    ] = False,
    timeout: Timeout = 10.0,
    settle_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the gateway with --until-settled.")
    ] = 300.0,
    as_json: Json = None,
) -> None:
    """Put money into an account. The outcome says that the order is pending; the money comes with the payment.

    With --until-settled the order is asked for until it is pending no more, and printed as well; the exit status
    is 1 if it did not succeed.

    Example: wallet send recharge alice 100.00 TWD --via card --until-settled
    """
    if until_settled and not wait:
        raise typer.BadParameter("--until-settled waits, and --no-wait does not")
    command = _made(
        Recharge,
        serial,
        metadata,
        user_id=user_id,
        account_type=account_type,
        amount=amount,
        currency=currency,
        recharge_type=via,
    )
    _send(
        command,
        generated=serial is None,
        wait=wait,
        timeout_seconds=timeout,
        settle_seconds=settle_timeout if until_settled else None,
        as_json=as_json,
    )


def _made(kind: type[C], serial: str | None, metadata: list[str] | None, **fields: str) -> C:
    """Return the command, or end with a line for each field that is wrong."""
    from wallet_worker.client import new_serial_no

    notes = dict(_note(text) for text in metadata) if metadata else None
    try:
        return kind.model_validate({**fields, "serial_no": serial or new_serial_no(), "metadata": notes})
    except ValidationError as exc:
        exits.end_misused(exc)


def _note(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(
            f"it should look like NAME=TEXT: {terminal.plain(text)}", param_hint="--metadata"
        )
    return name, value


def _send(
    command: Command,
    *,
    generated: bool,
    wait: bool,
    timeout_seconds: float,
    as_json: bool | None,
    settle_seconds: float | None = None,
) -> None:
    url = environment.amqp_url()
    if generated:
        # Before it is sent, so that whatever happens now, a person can send it again.
        terminal.say(f"serial number {command.serial_no}")
    if not wait:
        exits.run(_submit(url, command, timeout_seconds))
        terminal.say(f"sent; its outcome: wallet show order {command.serial_no}")
        return
    good = exits.run(
        _apply(
            url,
            command,
            timeout_seconds=timeout_seconds,
            settle_seconds=settle_seconds,
            as_json=terminal.wants_json(as_json),
        )
    )
    if not good:
        raise typer.Exit(Exit.FOUND)


async def _submit(url: str, command: Command, timeout_seconds: float) -> None:
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=timeout_seconds, name="wallet send") as wallet:
        await wallet.submit(command)


async def _apply(
    url: str, command: Command, *, timeout_seconds: float, settle_seconds: float | None, as_json: bool
) -> bool:
    """Print the outcome, and the order once it is settled; return whether both are what was wanted."""
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=timeout_seconds, name="wallet send") as wallet:
        outcome = await wallet.apply(command)
        _tell_outcome(outcome, as_json=as_json)
        if outcome.status is OutcomeStatus.REFUSED:
            return False
        if settle_seconds is None:
            return True
        detail = await wallet.settled(command.serial_no, timeout_seconds=settle_seconds)
    tell_order(detail, as_json=as_json)
    return _succeeded(detail)


def _succeeded(detail: "OrderDetail") -> bool:
    return detail.order is not None and detail.order.status is OrderStatus.SUCCEEDED


def _tell_outcome(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        terminal.tell_json(outcome)
        return
    rows = [("status", outcome.status.value), ("code", f"{outcome.code}: {outcome.code.meaning}")]
    if outcome.duplicate:
        rows.append(("duplicate", "yes: this is the stored outcome again"))
    if outcome.different:
        rows.append(("different", ", ".join(outcome.different)))
    rows += [(fault.field or "message", fault.message) for fault in outcome.faults or ()]
    rows += [(name, str(value)) for name, value in outcome.result]
    terminal.tell_pairs(outcome.serial_no, rows)
