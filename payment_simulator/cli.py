"""The command `payment-simulator`."""

import difflib
import json
import os
import re
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import SplitResult

import typer
from pydantic import TypeAdapter, ValidationError
from typer.main import get_command

from payment_simulator import broker, logs, scenario
from payment_simulator.behaviours import TABLE, Behaviour
from payment_simulator.scenario import Scenario, ScenarioUnusable, Share
from payment_simulator.settlement import LineDefect, Span, settled, write
from payment_simulator.state import StateUnusable, settled_payments
from wallet_schemas import signature, times
from wallet_schemas.keys import DEMO_PREFIX, read_verifying_keys
from wallet_schemas.values import PaymentKind

KEYS_VARIABLE: Final = "WALLET_PAYMENT_KEYS"
VARIABLES: Final = "WALLET_SIMULATOR_"

app: Final = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class ExitStatus(IntEnum):
    """What the process may end with, beside 0."""

    FAILED = 1  # the topology or the state file
    MISUSED = 2  # an option or a variable
    UNAVAILABLE = 3  # the broker
    UNWRITTEN = 5  # the output


def main() -> None:
    """The command has run; the process ends with its exit status."""
    try:
        try:
            app(prog_name="payment-simulator")
        finally:
            sys.stdout.flush()
    except OSError as exc:
        # What waits to be written would fail again at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(exc, BrokenPipeError):
            print(f"payment-simulator: standard output cannot be written: {exc.strerror}", file=sys.stderr)  # noqa: T201 -- for a person
        sys.exit(ExitStatus.UNWRITTEN)


def _moment(text: str) -> datetime:
    """Return the moment that an option names."""
    try:
        return times.parse_typed(text)
    except times.NotATimeError as exc:
        raise typer.BadParameter(str(exc)) from None


def _check_variables() -> None:
    """End the process where a variable of the simulator's is misspelt: it would be passed over."""
    known = {str(option.envvar) for option in get_command(app).params if option.envvar}
    for name in sorted(os.environ):
        if name.startswith(VARIABLES) and name not in known and not _OF_A_SERVICE.fullmatch(name):
            near = difflib.get_close_matches(name, known, n=1)
            _end(
                ExitStatus.MISUSED,
                f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else ""),
            )


_OF_A_SERVICE: Final = re.compile(r".*_(?:SERVICE_HOST|SERVICE_PORT.*|PORT(?:_[0-9]+_(?:TCP|UDP).*)?)")
"""Variables that Kubernetes and Docker make for a service of that name."""


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    *,
    amqp_url: Annotated[
        str | None,
        typer.Option(
            envvar="WALLET_AMQP_URL",
            help="RabbitMQ, as amqp://user:password@host:5672/vhost. "
            "Of a cluster, a URL for each node, with commas between.",
        ),
    ] = None,
    state: Annotated[
        Path,
        typer.Option(envvar="WALLET_SIMULATOR_STATE", help="SQLite file with all payments; made if missing."),
    ] = Path("payment-simulator.sqlite3"),
    scenario_name: Annotated[
        str,
        typer.Option(
            "--scenario",
            envvar="WALLET_SIMULATOR_SCENARIO",
            help=f"{', '.join(scenario.NAMED)}, or a TOML file: see `payment-simulator behaviours`.",
        ),
    ] = scenario.DEFAULT,
    seed: Annotated[
        int | None,
        typer.Option(envvar="WALLET_SIMULATOR_SEED", help="Decides every payment's fate. Default: 0."),
    ] = None,
    delay_min_seconds: Annotated[
        float | None,
        typer.Option(envvar="WALLET_SIMULATOR_DELAY_MIN_SECONDS", help="Least delay, over the scenario's."),
    ] = None,
    delay_max_seconds: Annotated[
        float | None,
        typer.Option(
            envvar="WALLET_SIMULATOR_DELAY_MAX_SECONDS", help="Greatest delay, over the scenario's."
        ),
    ] = None,
    late_after_seconds: Annotated[
        float | None,
        typer.Option(
            envvar="WALLET_SIMULATOR_LATE_AFTER_SECONDS",
            help="When the behaviour `late` answers, from the request on. Default: after its expires_at.",
        ),
    ] = None,
    reordering_rate: Annotated[
        float | None,
        typer.Option(
            envvar="WALLET_SIMULATOR_REORDERING_RATE",
            help="Share of payments, 0 to 1, whose results are overtaken by later ones, over the scenario's.",
        ),
    ] = None,
    wallet_keys_file: Annotated[
        Path | None,
        typer.Option(
            envvar="WALLET_SIMULATOR_WALLET_KEYS_FILE",
            help="The wallet's keys, as `wallet keys make request` prints them: then what is unsigned is refused.",
        ),
    ] = None,
    environment: Annotated[
        str, typer.Option(envvar="WALLET_ENVIRONMENT", help="The deployment's name in signatures.")
    ] = signature.DEFAULT_ENVIRONMENT,
    http_port: Annotated[
        int | None,
        typer.Option(
            envvar="WALLET_SIMULATOR_HTTP_PORT",
            min=1,
            max=65_535,
            help="Serves /healthz there. Default: nowhere.",
        ),
    ] = None,
    http_host: Annotated[
        str, typer.Option(envvar="WALLET_SIMULATOR_HTTP_HOST", help="The address that /healthz is bound to.")
    ] = "127.0.0.1",
    results_to: Annotated[
        str | None,
        typer.Option(
            envvar="WALLET_SIMULATOR_RESULTS_TO",
            metavar="URL",
            help="Post results to this address, such as https://wallet.example/v1/payment-results, "
            "and not to RabbitMQ.",
        ),
    ] = None,
    log_level: Annotated[
        logs.Level,
        typer.Option(
            envvar="WALLET_LOG_LEVEL", case_sensitive=False, help="How much is logged to standard error."
        ),
    ] = logs.Level.INFO,
    log_format: Annotated[
        logs.LogFormat,
        typer.Option(
            envvar="WALLET_LOG_FORMAT",
            case_sensitive=False,
            help="auto: for people on a terminal, else JSON.",
        ),
    ] = logs.LogFormat.AUTO,
) -> None:
    """Simulate a payment gateway, its faults too, for tests and demos.

    Reads the queue payment.requests and publishes signed results to the exchange payment.results, until SIGTERM or
    Ctrl-C. Signs with the first key in WALLET_PAYMENT_KEYS, a JSON object of ids and secrets.
    The channel of a request (its recharge_type or payout_type) decides what happens, as a test card does.

    Example: payment-simulator --scenario rough --seed 7
    """
    if context.invoked_subcommand is not None:
        return
    from payment_simulator.app import GatewaySettings
    from payment_simulator.app import run as run_gateway
    from payment_simulator.health import CannotBind

    _check_variables()
    logs.configure(log_level, log_format)
    settings = GatewaySettings(
        urls=_urls(amqp_url),
        keys=_keys(os.environ.get(KEYS_VARIABLE)),
        wallet_keys=_wallet_keys(wallet_keys_file, environment),
        state_path=state,
        scenario=_scenario(
            scenario_name,
            seed=seed,
            delay_min_seconds=delay_min_seconds,
            delay_max_seconds=delay_max_seconds,
            late_after_seconds=late_after_seconds,
            reordering_rate=reordering_rate,
        ),
        http_address=None if http_port is None else (http_host, http_port),
        results_to=None if results_to is None else _results_to(results_to),
    )
    try:
        run_gateway(settings)
    except broker.TopologyMissing as exc:
        _end(ExitStatus.FAILED, str(exc))
    except broker.Unavailable as exc:
        shown = broker.shown(settings.urls)
        _end(ExitStatus.UNAVAILABLE, f"the broker at {shown} cannot be used: {exc}")
    except (StateUnusable, CannotBind) as exc:
        _end(ExitStatus.FAILED, str(exc))


@app.command()
def behaviours(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Print what the simulator can do, how to ask for it, and the named scenarios.

    Example: payment-simulator behaviours --json
    """
    if as_json:
        print(json.dumps(_catalogue(), indent=2))  # noqa: T201 -- the command's product
    else:
        _print_tables()


@app.command()
def settlement(
    *,
    state: Annotated[
        Path, typer.Option(envvar="WALLET_SIMULATOR_STATE", help="SQLite file with all payments.")
    ] = Path("payment-simulator.sqlite3"),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write. Without it: standard output.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=_moment,
            metavar="TIME",
            help="Only payments settled then or later. Without an offset: UTC.",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            parser=_moment,
            metavar="TIME",
            help="Only payments settled before. Without an offset: UTC.",
        ),
    ] = None,
    differ: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOW=SHARE",
            help=f"Spoil that share of the lines, 0 to 1, for a reconciliation to find: {', '.join(LineDefect)}. "
            "May be repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which lines --differ spoils.")] = 0,
) -> None:
    """Write the settlement file: all payments that succeeded or failed, by the gateway's books, as CSV.

    The simulator may be running. `wallet reconcile` compares the file with the orders.
    With -o, a line of JSON counts the payments, and the differences of each kind.

    Example: payment-simulator settlement -o settlement.csv --differ missing=0.01 --differ amount=0.01
    """
    shares = _shares(differ or [])
    if since is not None and until is not None and until < since:
        _end(ExitStatus.MISUSED, "--to is before --from: nothing could be in between")
    span = Span(since, until)
    try:
        with (
            settled_payments(state, datetime.now(UTC)) as found,
            nullcontext(sys.stdout)
            if output is None
            else output.open("w", encoding="utf-8", newline="") as file,
        ):
            payments, differences = write(settled(found, span), file, shares=shares, seed=seed)
    except StateUnusable as exc:
        _end(ExitStatus.FAILED, str(exc))
    except OSError as exc:
        if output is None:
            raise
        _end(ExitStatus.UNWRITTEN, f"the file {output} cannot be written: {exc.strerror}")
    if output is None:
        return
    counts = {difference.value: differences[difference] for difference in LineDefect}
    print(json.dumps({"payments": payments, "differences": counts}))  # noqa: T201 -- the command's product


def _shares(words: list[str]) -> dict[LineDefect, float]:
    """Return the share of each difference that was asked for, or end the process."""
    shares: dict[LineDefect, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        try:
            shares[LineDefect(name)] = TypeAdapter(Share).validate_strings(share)
        except (ValueError, ValidationError):
            _end(
                ExitStatus.MISUSED,
                f"--differ {word!r} is none of {', '.join(LineDefect)} with a share of 0 to 1, as missing=0.01",
            )
    if sum(shares.values()) > 1 + 1e-9:  # see Scenario
        _end(ExitStatus.MISUSED, "the shares of --differ add up to more than 1")
    return shares


def _urls(text: str | None) -> Any:
    if text is None:
        _end(ExitStatus.MISUSED, "no broker is named: set WALLET_AMQP_URL or give --amqp-url")
    try:
        return broker.parse_urls(text)
    except broker.UrlUnusable as exc:
        _end(ExitStatus.MISUSED, f"the AMQP URL cannot be used: {exc}")


def _results_to(text: str) -> SplitResult:
    """Return the address that results are posted to, or end the program."""
    from payment_simulator.webhook import AddressUnusable, parse_address

    try:
        return parse_address(text)
    except AddressUnusable as exc:
        _end(ExitStatus.MISUSED, f"--results-to: {exc}")


def _keys(text: str | None) -> Mapping[str, str]:
    """Return the keys in the order of the text, of which the first one can sign; or end the process."""
    if not text:
        _end(
            ExitStatus.MISUSED,
            f'{KEYS_VARIABLE} is not set: results cannot be signed. Example: {{"test-demo": "a secret"}}',
        )
    try:
        keys = TypeAdapter(dict[str, str]).validate_json(text)
        signature.sign(b"", keys, 0)
    except ValidationError:
        # Without pydantic's text, which would print the secrets.
        _end(
            ExitStatus.MISUSED,
            f'{KEYS_VARIABLE} must be a JSON object of key ids and secrets, as {{"test-demo": "a secret"}}',
        )
    except ValueError as exc:
        _end(ExitStatus.MISUSED, f"{KEYS_VARIABLE}: {exc}")
    if not all(key_id.startswith(DEMO_PREFIX) for key_id in keys):
        _end(
            ExitStatus.MISUSED,
            f"{KEYS_VARIABLE}: the ids of a simulated gateway's keys begin with {DEMO_PREFIX}, as in "
            '{"test-demo": "a secret"}. A worker believes them with WALLET_DEMO=1, which none with real money has',
        )
    return keys


def _wallet_keys(path: Path | None, environment: str) -> Mapping[str, signature.VerifyingKey] | None:
    """Return the wallet's keys, if a file names them; or end the process."""
    if path is None:
        return None
    try:
        return read_verifying_keys(path.read_text(encoding="utf-8"), environment)
    except OSError as exc:
        _end(ExitStatus.MISUSED, f"the wallet's keys in {path} cannot be read: {exc.strerror}")
    except ValueError as exc:
        _end(ExitStatus.MISUSED, f"the wallet's keys in {path}: {exc}")


def _scenario(name: str, **overrides: object) -> Scenario:
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return Scenario.model_validate(scenario.load(name).model_dump() | given)
    except ScenarioUnusable as exc:
        _end(ExitStatus.MISUSED, f"the scenario cannot be used: {exc}")
    except ValidationError as exc:
        _end(ExitStatus.MISUSED, f"the scenario cannot be used: {scenario.faults(exc)}")


def _end(status: ExitStatus, reason: str) -> NoReturn:
    """The process ends with one line on standard error."""
    print(f"payment-simulator: {reason}", file=sys.stderr)  # noqa: T201 -- for a person, before or after the logs
    raise typer.Exit(status)


def _catalogue() -> dict[str, Any]:
    """Return the behaviours and scenarios as JSON has them."""
    return {
        "behaviours": [
            {
                "behaviour": behaviour.value,
                "channel": behaviour.channel,
                "refund_channel": behaviour.refund_channel,
                "gateway": row.gateway,
                "wallet": {kind.value: TABLE[kind][behaviour].wallet for kind in TABLE},
                "states": [
                    {
                        "status": step.status.value,
                        "told": len(step.notify_after),
                        "flaw": step.flaw.value,
                        "forged": step.forged,
                    }
                    for step in row.steps
                ],
            }
            for behaviour, row in TABLE[PaymentKind.CHARGE].items()
        ],
        "scenarios": {name: named.model_dump(mode="json") for name, named in scenario.NAMED.items()},
    }


def _print_tables() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    # In two columns, so that on a narrow terminal no channel and no code is cut.
    table = Table(box=box.SIMPLE, title="Behaviours", show_header=False)
    table.add_column("channel", no_wrap=True)
    table.add_column("what happens", overflow="fold")
    for behaviour, row in TABLE[PaymentKind.CHARGE].items():
        outgoing = TABLE[PaymentKind.PAYOUT][behaviour].wallet
        table.add_row(
            behaviour.channel,
            f"The gateway {row.gateway}.\nA recharge: {row.wallet}.\nA withdrawal or refund: {outgoing}.",
            end_section=True,
        )
    console.print(table)
    console.print(
        f"A refund has the channel of its recharge. On {Behaviour.DECLINED.refund_channel} and so on "
        "(without _then_succeeded), the recharge succeeds and its refunds have the behaviour."
    )
    table = Table("ordinary channels meet", box=box.SIMPLE, title="Scenarios")
    for name in scenario.NAMED:
        table.add_column(name, justify="right")
    for behaviour in Behaviour:
        if behaviour is not Behaviour.SUCCEEDED:
            table.add_row(
                behaviour.value,
                *(f"{named.rates.get(behaviour, 0):.1%}" for named in scenario.NAMED.values()),
            )
    table.add_row("reordering", *(f"{named.reordering_rate:.1%}" for named in scenario.NAMED.values()))
    table.add_row(
        "delays",
        *(
            f"{named.delay_min_seconds:g} to {named.delay_max_seconds:g} s"
            for named in scenario.NAMED.values()
        ),
    )
    console.print(table)
