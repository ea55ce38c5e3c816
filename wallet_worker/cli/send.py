"""`wallet send`: commands, and the outcome that the wallet gives them.

What must be given is an argument, in the order who, to whom, how much, in which currency, why; what may be given is an
option.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec

import typer
from pydantic import ValidationError

from wallet_schemas import commands
from wallet_schemas.commands import Command, Outcome
from wallet_schemas.names import DEFAULT_ACCOUNT_TYPE
from wallet_schemas.values import HOLD_SECONDS_MAX, OrderStatus, OutcomeStatus
from wallet_worker.cli import environment, exits, terminal
from wallet_worker.cli.exits import Exit
from wallet_worker.cli.options import Currency, Json, Timeout, Type, User, finite
from wallet_worker.cli.show import print_order, rows
from wallet_worker.text import printable

if TYPE_CHECKING:
    from wallet_schemas.queries import OrderDetail

app = typer.Typer(
    no_args_is_help=True,
    help="Send a command and print its outcome. Safe to repeat with the same serial number.",
)

Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="A decimal, such as 100.00.")]
ToUser = Annotated[str, typer.Argument(metavar="TO_USER", help="The id of the user who receives the money.")]
ToType = Annotated[str, typer.Option("--to-type", help="The type of the account that receives the money.")]
HoldSerial = Annotated[str, typer.Argument(metavar="HOLD", help="The serial number of the hold.")]
Reason = Annotated[str, typer.Argument(metavar="REASON", help="Why, for a person.")]

HOLD_SECONDS: Final = 86_400  # a day, because whoever types a hold means to come back to it soon

P = ParamSpec("P")


class CommandFields:
    """A command that was asked for: its class, and its fields but for the serial number and the notes."""

    def __init__(self, kind: type[Command], **fields: object) -> None:
        self.kind = kind
        self.fields = fields


def _common(
    *,
    serial: Annotated[
        str | None,
        typer.Option(
            "--serial",
            help="The serial number, the key of deduplication. Default: a new number, which is printed.",
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata", metavar="NAME=TEXT", help="Metadata to store with the command; may be repeated."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the outcome.")] = True,
    timeout: Timeout = 10.0,
    as_json: Json = None,
) -> None:
    """The options of every command."""


def _settling(
    *,
    until_settled: Annotated[
        bool, typer.Option("--until-settled", help="Also wait for the payment gateway's result.")
    ] = False,
    settle_timeout: Annotated[
        float, typer.Option(min=0, callback=finite, help="Seconds to wait for that result.")
    ] = 300.0,
) -> None:
    """The options of the commands whose orders wait for the payment gateway."""


def _paying(
    *,
    until_instructions: Annotated[
        bool,
        typer.Option(
            "--until-instructions",
            help="Also wait for how to pay, which the payment gateway says, or for the end.",
        ),
    ] = False,
) -> None:
    """The option of the command whose order has a payer."""


def _sends(
    *, settles: bool = False, has_payer: bool = False
) -> Callable[[Callable[P, CommandFields]], Callable[P, CommandFields]]:
    """Take the function's arguments and the common options from the command line, and send the command it returns."""
    shared: list[Callable[..., None]] = [
        _common,
        *([_settling] if settles else []),
        *([_paying] if has_payer else []),
    ]
    options = [parameter for each in shared for parameter in inspect.signature(each).parameters.values()]

    def register(fields_of: Callable[P, CommandFields]) -> Callable[P, CommandFields]:
        def run(**given: Any) -> None:
            common = {option.name: given.pop(option.name) for option in options}
            _send(fields_of(**given), **common)  # type: ignore[call-arg]  # typer gives what the signature says

        own = inspect.signature(fields_of).parameters.values()
        run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]  # typer reads it
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *options)}
        run.__doc__ = fields_of.__doc__
        app.command(fields_of.__name__.removesuffix("_account"))(run)
        return fields_of

    return register


# Accounts


@_sends()
def open_account(
    user_id: User, currency: Currency, *, account_type: Type = DEFAULT_ACCOUNT_TYPE
) -> CommandFields:
    """Open an account for a user.

    Example: wallet send open alice TWD
    """
    return CommandFields(commands.OpenAccount, user_id=user_id, account_type=account_type, currency=currency)


@_sends()
def freeze_account(
    user_id: User, currency: Currency, reason: Reason, *, account_type: Type = DEFAULT_ACCOUNT_TYPE
) -> CommandFields:
    """Freeze an account: debits are refused, credits are still accepted.

    Example: wallet send freeze alice TWD "chargeback reported"
    """
    return CommandFields(
        commands.FreezeAccount, user_id=user_id, account_type=account_type, currency=currency, reason=reason
    )


@_sends()
def unfreeze_account(
    user_id: User, currency: Currency, reason: Reason, *, account_type: Type = DEFAULT_ACCOUNT_TYPE
) -> CommandFields:
    """Unfreeze an account: debits are accepted again.

    Example: wallet send unfreeze alice TWD "chargeback settled"
    """
    return CommandFields(
        commands.UnfreezeAccount, user_id=user_id, account_type=account_type, currency=currency, reason=reason
    )


@_sends()
def close_account(
    user_id: User, currency: Currency, reason: Reason, *, account_type: Type = DEFAULT_ACCOUNT_TYPE
) -> CommandFields:
    """Close an account for good. It must have a zero balance, no reserve and no pending order.

    Example: wallet send close alice TWD "asked for by the user"
    """
    return CommandFields(
        commands.CloseAccount, user_id=user_id, account_type=account_type, currency=currency, reason=reason
    )


# Orders that wait for the payment gateway


GivenInstrument = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="A payment method or bank account, by its name in the gateway's books."
    ),
]


def _given(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


@_sends(settles=True, has_payer=True)
def recharge(
    user_id: User,
    amount: Amount,
    currency: Currency,
    *,
    via: Annotated[str, typer.Option(help="The payment channel: card, bank_transfer, …")] = "card",
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    instrument: GivenInstrument = None,
    return_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the payer's browser is sent back: https://…")
    ] = None,
) -> CommandFields:
    """Recharge an account. The order is pending until the payment gateway reports the payment.

    --until-settled polls until the order is no longer pending, and prints it too. The exit status is 1 if the order did
    not succeed. --until-instructions polls until the payer can be told how to pay, and prints that too.

    Example: wallet send recharge alice 100.00 TWD --via card --until-settled
    """
    further = _given(instrument=instrument, return_url=return_url)
    return CommandFields(
        commands.RechargeV2 if further else commands.Recharge,
        user_id=user_id,
        account_type=account_type,
        amount=amount,
        currency=currency,
        recharge_type=via,
        **further,
    )


@_sends(settles=True)
def withdraw(
    user_id: User,
    amount: Amount,
    currency: Currency,
    *,
    via: Annotated[str, typer.Option(help="The payment channel: bank_transfer, …")] = "bank_transfer",
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    instrument: GivenInstrument = None,
) -> CommandFields:
    """Withdraw money. It is reserved at once, and debited when the payment gateway has paid it out.

    --until-settled polls until the order is no longer pending, and prints it too. The exit status is 1 if the order did
    not succeed.

    Example: wallet send withdraw alice 40.00 TWD --via bank_transfer --until-settled
    """
    further = _given(instrument=instrument)
    return CommandFields(
        commands.WithdrawV2 if further else commands.Withdraw,
        user_id=user_id,
        account_type=account_type,
        amount=amount,
        currency=currency,
        payout_type=via,
        **further,
    )


@_sends(settles=True)
def refund(
    original_serial_no: Annotated[
        str, typer.Argument(metavar="RECHARGE", help="The serial number of the recharge.")
    ],
    amount: Amount,
    currency: Currency,
) -> CommandFields:
    """Refund a successful recharge, or a part of it, through the payment gateway.

    --until-settled polls until the order is no longer pending, and prints it too. The exit status is 1 if the order did
    not succeed.

    Example: wallet send refund R-20260102-000001 60.00 TWD --until-settled
    """
    return CommandFields(
        commands.Refund, original_serial_no=original_serial_no, amount=amount, currency=currency
    )


# Orders that are done at once


@_sends()
def transfer(
    user_id: User,
    to_user_id: ToUser,
    amount: Amount,
    currency: Currency,
    *,
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
    to_account_type: ToType = DEFAULT_ACCOUNT_TYPE,
) -> CommandFields:
    """Move money from one user's account to another account.

    Example: wallet send transfer alice bob 25.00 TWD
    """
    return CommandFields(
        commands.Transfer,
        user_id=user_id,
        account_type=account_type,
        to_user_id=to_user_id,
        to_account_type=to_account_type,
        amount=amount,
        currency=currency,
    )


@_sends()
def hold(
    user_id: User,
    amount: Amount,
    currency: Currency,
    *,
    expires_in: Annotated[
        int,
        typer.Option(metavar="SECONDS", help=f"Seconds until the hold expires, at most {HOLD_SECONDS_MAX}."),
    ] = HOLD_SECONDS,
    account_type: Type = DEFAULT_ACCOUNT_TYPE,
) -> CommandFields:
    """Hold money of an account, to be captured or released later.

    Example: wallet send hold alice 50.00 TWD --expires-in 3600
    """
    return CommandFields(
        commands.Hold,
        user_id=user_id,
        account_type=account_type,
        amount=amount,
        currency=currency,
        expires_in_seconds=expires_in,
    )


@_sends()
def capture(
    hold_serial_no: HoldSerial,
    to_user_id: ToUser,
    amount: Amount,
    currency: Currency,
    *,
    to_account_type: ToType = DEFAULT_ACCOUNT_TYPE,
) -> CommandFields:
    """Capture held money, or a part of it, for another account. A hold may be captured several times.

    Example: wallet send capture H-20260102-000001 shop 30.00 TWD
    """
    return CommandFields(
        commands.Capture,
        hold_serial_no=hold_serial_no,
        to_user_id=to_user_id,
        to_account_type=to_account_type,
        amount=amount,
        currency=currency,
    )


@_sends()
def release(hold_serial_no: HoldSerial) -> CommandFields:
    """Release what is left of a hold.

    Example: wallet send release H-20260102-000001
    """
    return CommandFields(commands.Release, hold_serial_no=hold_serial_no)


@_sends()
def cancel(
    target_serial_no: Annotated[
        str, typer.Argument(metavar="ORDER", help="The serial number of the recharge, withdrawal or refund.")
    ],
    *,
    reason: Annotated[str | None, typer.Option(help="Why, for a person.")] = None,
) -> CommandFields:
    """Cancel a pending recharge, or have the payment gateway asked to stop a pending payout.

    Example: wallet send cancel R-20260102-000001
    """
    return CommandFields(commands.CancelOrder, target_serial_no=target_serial_no, reason=reason)


def _send(
    fields: CommandFields,
    *,
    serial: str | None,
    metadata: list[str] | None,
    wait: bool,
    timeout: float,
    as_json: bool | None,
    until_settled: bool = False,
    until_instructions: bool = False,
    settle_timeout: float = 0,
) -> None:
    """Send the command and print what becomes of it, or end with a line that says why not."""
    if until_settled and not wait:
        raise typer.BadParameter("--until-settled waits, and --no-wait does not")
    if until_instructions and not wait:
        raise typer.BadParameter("--until-instructions waits, and --no-wait does not")
    command = _build_command(fields, serial, metadata)
    url = environment.amqp_url()
    if serial is None:
        # Before it is sent, so that whatever happens now, a person can send it again.
        terminal.print_status(f"serial number {command.serial_no}")
    if not wait:
        _submitted(url, command, timeout)
        terminal.print_status(f"sent; its outcome: wallet show order {command.serial_no}")
        return
    try:
        good = exits.run(
            _apply(
                url,
                command,
                timeout_seconds=timeout,
                settle_seconds=settle_timeout if until_settled or until_instructions else None,
                is_payable_enough=until_instructions and not until_settled,
                as_json=terminal.wants_json(as_json),
            )
        )
    except KeyboardInterrupt:
        again = f"send it again with the same serial number {command.serial_no}"
        exits.end(Exit.UNKNOWN, f"interrupted; whether it was applied is not known: {again}")
    if not good:
        raise typer.Exit(Exit.FOUND)


def _build_command(command_fields: CommandFields, serial: str | None, metadata: list[str] | None) -> Command:
    """Return the command, or end with a line for each field that is wrong."""
    from wallet_worker.client import new_serial_no

    notes = dict(_note(text) for text in metadata) if metadata else None
    fields = {**command_fields.fields, "serial_no": serial or new_serial_no(), "metadata": notes}
    try:
        return command_fields.kind.model_validate(fields)
    except ValidationError as exc:
        exits.end_misused(exc)


def _note(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"it should look like NAME=TEXT: {printable(text)}", param_hint="--metadata")
    return name, value


def _submitted(url: str, command: Command, timeout_seconds: float) -> None:
    """Send the command, or end with whether that is known."""
    try:
        exits.run(_submit(url, command, timeout_seconds))
    except KeyboardInterrupt:
        again = f"send it again with the same serial number {command.serial_no}"
        exits.end(Exit.UNKNOWN, f"interrupted; whether it was sent is not known: {again}")


async def _submit(url: str, command: Command, timeout_seconds: float) -> None:
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=timeout_seconds, name="wallet send") as wallet:
        await wallet.submit(command)


async def _apply(
    url: str,
    command: Command,
    *,
    timeout_seconds: float,
    settle_seconds: float | None,
    is_payable_enough: bool,
    as_json: bool,
) -> bool:
    """Print the outcome, and the order once it is settled or payable; return whether both are what was wanted."""
    from wallet_worker.client import WalletClient

    async with WalletClient(url, timeout_seconds=timeout_seconds, name="wallet send") as wallet:
        outcome = await wallet.apply(command)
        _print_outcome(outcome, as_json=as_json)
        if outcome.status is OutcomeStatus.REFUSED:
            return False
        if settle_seconds is None:
            return True
        wait = wallet.wait_until_payable if is_payable_enough else wallet.wait_until_settled
        detail = await wait(command.serial_no, timeout_seconds=settle_seconds)
    print_order(detail, as_json=as_json)
    return _succeeded(detail) or (is_payable_enough and detail.instructions is not None)


def _succeeded(detail: "OrderDetail") -> bool:
    return detail.order is not None and detail.order.status is OrderStatus.SUCCEEDED


def _print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(outcome)
        return
    pairs = [
        ("outcome", outcome.status.value),
        ("why", f"{outcome.code}: {outcome.message or outcome.code.meaning}"),
    ]
    if outcome.duplicate:
        pairs.append(("duplicate", "yes: this is the stored outcome again"))
    if outcome.different:
        pairs.append(("different", ", ".join(outcome.different)))
    pairs += [(fault.field or "message", fault.message) for fault in outcome.faults or ()]
    details = rows(outcome.details) if outcome.details else []
    terminal.print_pairs(outcome.serial_no or "", [*pairs, *details, *rows(outcome.result)])
