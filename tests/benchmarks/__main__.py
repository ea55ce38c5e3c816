"""`python -m tests.benchmarks`: measure, print one page, and keep it with its picture."""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from tests.benchmarks import place, plot, record, report
from tests.benchmarks.contest import ContestantFailed
from tests.benchmarks.place import UnsafeServerError
from tests.benchmarks.plan import FULL, QUICK
from tests.benchmarks.record import Record
from tests.benchmarks.runs import Runs
from tests.benchmarks.verdict import WrongResultError
from tests.servers import ServerFailed, ServersUnavailable, start_servers

RESULTS = Path(__file__).parent / "results"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    quick: Annotated[
        bool, typer.Option(help="A little of everything, in under two minutes; kept nowhere.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=0, help="How often each contestant has its turn; 0: as planned.")
    ] = 0,
    results: Annotated[Path, typer.Option(help="Where the page, the picture and the figures go.")] = RESULTS,
) -> None:
    """Compare the wallet with others on private servers that write through to the disk.

    Example: python -m tests.benchmarks --quick
    """
    # Servers somebody else uses would be measured with what else they do.
    os.environ.setdefault("WALLET_SERVERS_FROM", "private")
    begun = time.monotonic()
    try:
        measured = asyncio.run(_measure(quick=quick, rounds=rounds))
    except (ContestantFailed, WrongResultError, UnsafeServerError, ServersUnavailable, ServerFailed) as exc:
        _say(f"the benchmark cannot go on: {exc}")
        raise typer.Exit(1) from None
    text = report.page(measured)
    Console(width=None if sys.stdout.isatty() else 160).print(Markdown(text))
    _say(f"measured in {(time.monotonic() - begun) / 60:.1f} minutes")
    if not quick:
        name = datetime.now(UTC).strftime("%Y-%m-%d")
        results.mkdir(exist_ok=True)
        (results / f"{name}.svg").write_text(plot.svg(measured))
        (results / f"{name}.md").write_text(report.page(measured, plot=f"{name}.svg"))
        (results / f"{name}.json").write_text(measured.to_json())
        _say(f"written to {results / name}.md, .svg and .json")


async def _measure(*, quick: bool, rounds: int) -> Record:
    plan = QUICK if quick else FULL
    if rounds:
        plan = plan.with_rounds(rounds)
    async with start_servers(durable=True, say=_say) as servers:
        await place.assert_durable(servers.database_url)
        measured = Record("Benchmark, quick" if quick else "Benchmark", await record.machine(servers))
        await Runs(plan, servers, measured, _say).all()
    return measured


def _say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    app(prog_name="python -m tests.benchmarks")
