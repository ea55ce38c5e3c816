"""The command: the whole story on real servers, and `stop FOLDER`, which ends what was kept."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from tests import worker_keys
from tests.demo import by_http, cluster, interrupts, place, processes, report
from tests.demo.accounting import complaints, statement_faults
from tests.demo.by_http import Api
from tests.demo.drawing import draw
from tests.demo.place import Place
from tests.demo.plan import SANDBOX_CHANNELS, Plan
from tests.demo.processes import CommandFailed, Console, Gateway, Member
from tests.demo.report import Verdict
from tests.demo.screen import Screen
from tests.demo.story import Seen, StoryBroken, play
from tests.servers import ServerFailed, ServersUnavailable, start_servers
from tests.servers.ports import free_ports
from tests.servers.private import FOLDER_PREFIX, Folder

RECHARGES_PER_ACCOUNT: Final = 3
RECONCILED_ALL: Final = 1_000_000  # every finding is looked at
WORKERS_MAX: Final = 8
INTERRUPTED: Final = 130  # 128 and SIGINT, as shells have it

app: Final = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose."""

    accounts: int
    recharges: int
    seed: int
    workers: int
    keep: bool


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    *,
    accounts: Annotated[int, typer.Option(min=1, max=200_000, help="Accounts to open.")] = 2_000,
    recharges: Annotated[
        int | None, typer.Option(min=1, help="Recharges to send. Default: three for each account.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides what is sent and what the gateway does.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=WORKERS_MAX, help="Workers to start.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", envvar="KEEP", help="Leave everything running, and print the addresses.")
    ] = False,
    of_cluster: Annotated[
        bool,
        typer.Option(
            "--cluster",
            help="Another story: three brokers and two databases, of which some are killed while money moves.",
        ),
    ] = False,
) -> None:
    """Start servers, a worker and a payment gateway; move money in every way, thousands of times; check everything.

    Ends with status 0 if every message is accounted for and the audit is clean. Ctrl-C stops and removes all.

    Example: python -m tests.demo --accounts 500 --seed 7
    """
    if context.invoked_subcommand is not None:
        return
    wanted = recharges if recharges is not None else RECHARGES_PER_ACCOUNT * accounts
    options = Options(accounts, max(wanted, len(SANDBOX_CHANNELS)), seed, workers, keep)
    screen = Screen()
    interrupts.arm()
    try:
        status = cluster.tell(seed, screen) if of_cluster else tell(options, screen)
    except KeyboardInterrupt:
        screen.say("Interrupted. Everything that the demo started is stopped and removed.")
        status = INTERRUPTED
    except (ServersUnavailable, ServerFailed, CommandFailed, StoryBroken) as why:
        screen.say(f"The demo could not be finished: {why}", style="bold red")
        screen.say("Everything that the demo started is stopped and removed.")
        status = 1
    raise typer.Exit(status)


@app.command()
def stop(folder: Annotated[Path, typer.Argument(help="The folder that `--keep` printed.")]) -> None:
    """End a demo that was left running, and remove all that it made.

    Example: python -m tests.demo stop /tmp/wallet-servers-x1y2z3
    """
    screen = Screen()
    if not folder.name.startswith(FOLDER_PREFIX) or not (folder / place.NOTES).is_file():
        screen.say(f"{folder} is not the folder of a demo that was left running.")
        raise typer.Exit(2)
    faults = place.stop(folder.resolve())
    for fault in faults:
        screen.say(fault, style="red")
    screen.say(f"Stopped; {folder} is removed.")
    raise typer.Exit(int(bool(faults)))


def tell(options: Options, screen: Screen) -> int:
    """The story was told; returns the exit status. What was started is gone, unless it is to be kept."""
    plan = draw(accounts=options.accounts, recharges=options.recharges, seed=options.seed)
    screen.say(
        f"Wallet demo: {options.accounts:,} accounts, {options.recharges:,} recharges, and some mistakes "
        f"(seed {options.seed})",
        style="bold",
    )
    with (
        start_servers(outlive=options.keep, say=screen.say) as servers,
        place.place(servers, keep=options.keep) as here,
        _folder(keep=options.keep) as folder,
        _told_when_interrupted(screen),
    ):
        screen.say(f"PostgreSQL and RabbitMQ answer ({_ORIGINS[servers.origin]})")
        worker_keys.write_keys(folder.path)
        here = replace(here, keys=folder.path)  # noqa: PLW2901 -- the same place, with its keys
        environment = processes.environment(here.settings)
        with _timed(screen, "database migrated, exchanges and queues made"):
            processes.do(folder, environment, "migrate")
            processes.do(folder, environment, "topology", "apply")
        workers, gateway = _members(options, folder, environment)
        with _timed(screen, f"{_several(options.workers, 'worker')} and the payment simulator are ready"):
            for member in (*workers, gateway):
                member.launch()
            for member in (*workers, gateway):
                member.wait_until_up()
        seen = interrupts.run(play(plan, here, screen, workers, gateway))
        with _timed(screen, "the gateway's books are reconciled, and the ledger is audited"):
            _reconcile(seen, folder, environment, gateway)
            verdict = _judge(plan, seen, folder, environment)
        screen.say("")
        screen.show(*report.details(plan, seen, verdict))
        screen.show(*report.summary(plan, seen, verdict))
        api_port, health_port = free_ports(2)
        api = Api(folder, environment=environment, port=api_port, health_port=health_port)
        api.launch()
        api.wait_until_up()
        key = by_http.make_key(folder, environment)
        by_http.play(screen, api, key)
        if options.keep:
            place.note(folder.path, servers, here)
            members, console = _desk(screen, folder, environment)
            _tell_addresses(
                screen, here, [*workers, gateway, api, *members], console, folder, plan.accounts[0]
            )
            _tell_http(screen, api, key)
        else:
            if verdict.exit_status:
                screen.say("To look into it, run the same again with --keep.")
            for member in (*workers, gateway, api):
                member.stop()
        interrupts.disarm()  # what is left takes two seconds, and must not be cut short
    if not options.keep:
        screen.say(
            "Everything that the demo started is stopped and removed. `make demo KEEP=1` leaves it running."
        )
    return verdict.exit_status


def _members(
    options: Options, folder: Folder, environment: Mapping[str, str]
) -> tuple[list[Member], Gateway]:
    gateway_port, *worker_ports = free_ports(options.workers + 1)
    workers = [
        processes.worker(folder, name=f"worker-{number}", environment=environment, port=port)
        for number, port in enumerate(worker_ports, 1)
    ]
    gateway = Gateway(
        folder,
        environment=environment,
        port=gateway_port,
        seed=options.seed,
    )
    return workers, gateway


def _desk(screen: Screen, folder: Folder, environment: Mapping[str, str]) -> tuple[list[Member], Console]:
    """The dead letters are taken in, and operators can look at them: only now, the story has counted them."""
    keeper_port, audit_port, console_port = free_ports(3)
    keeper = processes.keeper(folder, environment=environment, port=keeper_port)
    audit = processes.audit(folder, environment=environment, port=audit_port)
    console = Console(folder, environment=environment, port=console_port)
    with _timed(screen, "a keeper, the audit and the operators' console are ready"):
        for member in (keeper, audit, console):
            member.launch()
        for member in (keeper, audit, console):
            member.wait_until_up()
    return [keeper, audit], console


def _reconcile(seen: Seen, folder: Folder, environment: Mapping[str, str], gateway: Gateway) -> None:
    """What is different in the gateway's settlement file is known."""
    file = gateway.settle()
    status, body = processes.wallet(
        folder,
        environment,
        *("reconcile", str(file), "--from", "2020-01-01", "--show", str(RECONCILED_ALL), "--json"),
    )
    try:
        report = json.loads(body)
        seen.found.reconciled = report["verdicts"]
        seen.found.differences = frozenset(
            (str(item["payment_order_no"]), str(item["verdict"])) for item in report["findings"]
        )
    except (ValueError, KeyError) as exc:
        raise CommandFailed(f"`wallet reconcile` ended with status {status}:\n{body}") from exc


def _judge(plan: Plan, seen: Seen, folder: Folder, environment: Mapping[str, str]) -> Verdict:
    audit_status, audit_said = processes.wallet(folder, environment, "audit", "--table")
    quiet = [] if seen.quiet else ["some results did not come in time"]
    return Verdict(
        complaints=[*quiet, *complaints(plan, seen.found)],
        statement_faults=statement_faults(seen.entries),
        audit_status=audit_status,
        audit_said=audit_said,
    )


_ORIGINS: Final = {
    "environment": "yours: in a vhost and a database of the demo's own",
    "docker": "in Docker",
    "private": "in a temporary folder",
}


def _tell_addresses(
    screen: Screen,
    here: Place,
    members: Sequence[Member],
    console: Console,
    folder: Folder,
    account: tuple[str, str],
) -> None:
    user_id, currency = account
    page, user, password = here.console
    screen.say("")
    screen.say("Left running", style="bold")
    screen.say(f"  broker      {here.amqp_url}")
    screen.say(f"  its page    {page}  (user {user}, password {password})")
    screen.say(f"  database    {here.database_url}")
    for member in members:
        screen.say(f"  {member.name:<11} {'  '.join(member.pages)}")
    screen.say(f"  console     {console.address}")
    for role, secret in console.people.items():
        screen.say(f"              sign in as {role.name.lower()}, password {secret}")
    screen.say(f"  logs        {folder.path}/*/server.log")
    screen.say("")
    screen.say("For `wallet` and programs of yours, in a shell:", style="bold")
    screen.say(f"  . {folder.path}/{place.ENVIRONMENT}        # which is:")
    for line in here.exports.splitlines():
        screen.say(f"  {line}")
    screen.say("")
    screen.say("Then, for example:", style="bold")
    screen.say(f"  {Path(sys.executable).parent}/wallet show statement {user_id} {currency}")
    screen.say("")
    screen.say("To stop it all and remove it:", style="bold")
    screen.say(f"  {place.stop_command(folder.path)}")


def _tell_http(screen: Screen, api: Api, key: str) -> None:
    screen.say("")
    screen.say("The HTTP API, its pages, and a key of it:", style="bold")
    screen.say(f"  {api.address}  {api.address}/docs")
    screen.say(f"  KEY={key}")
    screen.say(f'  curl "{api.address}/v1/client" -H "Authorization: Bearer $KEY"')


@contextmanager
def _folder(*, keep: bool) -> Iterator[Folder]:
    """Give a folder whose processes end with this one, or go on if they are kept and the block ends well."""
    folder = Folder()
    try:
        yield folder
    except BaseException:
        folder.remove()
        raise
    if keep:
        folder.leave()
    else:
        folder.remove()


@contextmanager
def _told_when_interrupted(screen: Screen) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        screen.say("Stopping everything.")
        raise


@contextmanager
def _timed(screen: Screen, what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    screen.say(f"{what} ({time.monotonic() - begun:.1f} s)")


def _several(number: int, noun: str) -> str:
    return f"a {noun}" if number == 1 else f"{number} {noun}s"
