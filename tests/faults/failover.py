"""`python -m tests.faults.failover`: real failovers under load, and the seconds without service of each.

Nobody promotes anything by hand here: PostgreSQL runs under Patroni with etcd, as docs/availability.md says. Workers
have the addresses of all servers.
"""

import asyncio
import logging
import random
import secrets
import shutil
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, TypeAlias

import asyncpg
import typer

from tests.faults.checker import Violation
from tests.faults.standstill import standstill
from tests.faults.world import World, world
from tests.servers.patroni import LOGINS, Patroni, PatroniServers, start_with_patroni
from tests.servers.server import ServerFailed, ServersUnavailable
from wallet_worker.store.migrate import migrate

LOADED_SECONDS: Final = 3.0


class Kind(StrEnum):
    """What happens to the server that is written to."""

    MACHINE_KILLED = "machine-killed"
    POSTGRES_KILLED = "postgres-killed"
    MACHINE_FROZEN = "machine-frozen"
    SWITCHED_OVER = "switched-over"


Failover: TypeAlias = Callable[[World, Patroni], Awaitable[None]]


async def machine_killed(world: World, patroni: Patroni) -> None:
    """PostgreSQL and its Patroni are killed; another leads, and the old machine comes back."""
    old = patroni.leader
    await asyncio.to_thread(old.kill)
    await patroni.until_led(other_than=old)
    await world.healed()
    await asyncio.to_thread(old.start)


async def postgres_killed(world: World, patroni: Patroni) -> None:
    """PostgreSQL is killed, and its Patroni gives the lead away."""
    old = patroni.leader
    await asyncio.to_thread(old.kill_postgres)
    await patroni.until_led(other_than=old)
    await world.healed()


async def machine_frozen(world: World, patroni: Patroni) -> None:
    """The machine falls silent, another leads, and the old one speaks again and must follow."""
    old = patroni.leader
    await asyncio.to_thread(old.freeze)
    await patroni.until_led(other_than=old)
    await world.healed()
    await asyncio.to_thread(old.thaw)


async def switched_over(world: World, patroni: Patroni) -> None:
    """Somebody asks Patroni to give the lead to the synchronous standby, as for maintenance."""
    old = patroni.leader
    await asyncio.to_thread(old.switch_over)
    await patroni.until_led(other_than=old)
    await world.healed()


FAILOVERS: Final[Mapping[Kind, Failover]] = MappingProxyType(
    {
        Kind.MACHINE_KILLED: machine_killed,
        Kind.POSTGRES_KILLED: postgres_killed,
        Kind.MACHINE_FROZEN: machine_frozen,
        Kind.SWITCHED_OVER: switched_over,
    }
)


@dataclass(slots=True)
class FailoverReport:
    """The seconds without service of each failover, and what was wrong in the end."""

    seconds: dict[Kind, list[float]] = field(default_factory=dict)
    commands: int = 0
    violations: Sequence[Violation] = ()

    def lines(self) -> list[str]:
        """Return the report for a person."""
        of_kinds = [
            f"{kind:<16} {len(found):>2} times: median {statistics.median(found):.1f} s, worst {max(found):.1f} s"
            for kind, found in self.seconds.items()
        ]
        verdict = [f"VIOLATION of {violation}" for violation in self.violations]
        return [
            *of_kinds,
            f"{self.commands} commands with an outcome",
            *(verdict or ["no violation: nothing lost, nothing twice"]),
        ]


async def fail_over(made: World, servers: PatroniServers, kind: Kind) -> float:
    """Return the longest time without an event while one failover came; the servers are whole again afterwards."""
    seconds = await standstill(made, lambda: FAILOVERS[kind](made, servers.patroni))
    await servers.patroni.until_whole()
    await made.healed()
    await asyncio.sleep(LOADED_SECONDS)
    return seconds


async def run(folder: Path, kinds: Sequence[Kind], *, seed: int, rate: float) -> FailoverReport:
    """Return the report of one failover after the other, under load. Raises ServersUnavailable or ServerFailed."""
    report = FailoverReport()
    with start_with_patroni() as servers:
        await servers.patroni.until_whole()
        for login in LOGINS:  # which compose.ha.yaml has made when the first server began
            await (await asyncpg.connect(servers.patroni.url("wallet", login=login))).close()
        async with servers.database() as template:
            await migrate(template)
            async with world(servers, template, folder, seed=seed, rate=rate) as made:

                async def each() -> None:
                    await asyncio.sleep(LOADED_SECONDS)
                    for kind in kinds:
                        seconds = await fail_over(made, servers, kind)
                        report.seconds.setdefault(kind, []).append(seconds)
                        _print(
                            f"{kind:<16} {seconds:5.1f} s without service; {servers.patroni.leader.name} leads"
                        )

                await made.under_load(each)
                report.violations = await made.judge()
                report.commands = len((await made.stored()).commands)
    return report


def main(
    *,
    times: Annotated[int, typer.Option(help="How often each kind of failover is made.")] = 1,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="Only this kind; may be given several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="A number from which the order is drawn.")] = None,
    rate: Annotated[float, typer.Option(help="Commands a second.")] = 50,
) -> None:
    """Fail over under load; say how long nothing was applied, and what was lost or doubled. Exit status 1 if any was.

    Example: python -m tests.faults.failover --times 2 --kind postgres-killed
    """
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    number = secrets.randbelow(10**6) if seed is None else seed
    kinds = list(kind or Kind) * times
    random.Random(number).shuffle(kinds)
    _print(f"seed {number}: {', '.join(kinds)}")
    folder = Path(tempfile.mkdtemp(prefix="wallet-failover-"))
    try:
        report = asyncio.run(run(folder, kinds, seed=number, rate=rate))
    except (ServersUnavailable, ServerFailed) as why:
        _print(str(why))
        raise typer.Exit(1) from None
    for line in report.lines():
        typer.echo(line)
    if report.violations:
        _print(f"the notebook and the workers' logs are in {folder}")
    else:
        shutil.rmtree(folder)
    raise typer.Exit(int(bool(report.violations)))


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 -- to the person at the terminal


if __name__ == "__main__":
    typer.run(main)
