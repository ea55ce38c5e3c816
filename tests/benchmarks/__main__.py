"""`python -m tests.benchmarks`: measure, print one page, and keep it with its picture."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from tests.benchmarks import place, plot, report
from tests.benchmarks.contest import ContestantFailed
from tests.benchmarks.kept import Kept, together
from tests.benchmarks.place import UnsafeServerError
from tests.benchmarks.plan import FULL, QUICK, Plan
from tests.benchmarks.record import Record, machine
from tests.benchmarks.runs import Part, Runs
from tests.benchmarks.verdict import WrongResultError
from tests.servers import ServerFailed, ServersUnavailable, start_servers

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    *,
    quick: Annotated[
        bool, typer.Option(help="A little of everything, in under two minutes; kept nowhere.")
    ] = False,
    only: Annotated[
        list[Part] | None, typer.Option(help="Measure this part, and keep what the others have; repeatable.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=0, help="How often each contestant has its turn; 0: as planned.")
    ] = 0,
    name: Annotated[
        str, typer.Option(help="What the figures are kept under; today's date if not given.")
    ] = "",
    results: Annotated[Path, typer.Option(help="Where the page, the picture and the figures go.")] = RESULTS,
    figures: Annotated[
        Path, typer.Option(help="The page that shows what is to be reached, and what was.")
    ] = FIGURES,
) -> None:
    """Compare the wallet with others on private servers that write through to the disk.

    Each part is kept as soon as it is measured: a run that was cut off goes on with --only.

    Example: python -m tests.benchmarks --only latency --only growth
    """
    # Servers somebody else uses would be measured with what else they do.
    os.environ.setdefault("WALLET_SERVERS_FROM", "private")
    plan = QUICK if quick else FULL
    if rounds:
        plan = plan.with_rounds(rounds)
    keep = None if quick else Pages(results, name or datetime.now(UTC).strftime("%Y-%m-%d"), figures)
    begun = time.monotonic()
    try:
        measured = asyncio.run(_measure(plan, only or list(Part), keep))
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    except (ContestantFailed, WrongResultError, UnsafeServerError, ServersUnavailable, ServerFailed) as exc:
        _print(f"the benchmark cannot go on: {exc}")
        raise typer.Exit(1) from None
    Console(width=None if sys.stdout.isatty() else 160).print(Markdown(report.page(measured)))
    _print(f"measured in {(time.monotonic() - begun) / 60:.1f} minutes")
    if keep is not None:
        _print(f"written to {keep.page}, beside it the picture and the figures, and to {figures}")


def end_on_sigterm() -> None:
    """Have SIGTERM cancel the task that calls this, as Ctrl-C does: the contestant ends with whoever measures it.

    Not by way of SIGINT, which is ignored where a script has started the benchmark beside itself.
    """
    current = asyncio.current_task()
    if current is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)


class Pages:
    """Where figures are kept: as they are, as a page with a picture, and as a table in docs/benchmarks.md."""

    def __init__(self, folder: Path, name: str, figures: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.page = folder / f"{name}.md"
        self._picture = folder / f"{name}.svg"
        self._figures = figures
        self._kept = Kept(folder / f"{name}.json")

    @property
    def whole(self) -> Record:
        """All that is kept."""
        return self._kept.whole

    def put(self, part: Part, record: Record) -> None:
        """Keep a part and write everything anew."""
        self._kept.put(part, record)
        whole = self.whole
        self._picture.write_text(plot.svg(whole))
        self.page.write_text(report.page(whole, plot=self._picture.name))
        where = os.path.relpath(self.page, self._figures.parent)
        self._figures.write_text(report.on_page(self._figures.read_text(), whole, where))


async def _measure(plan: Plan, parts: Sequence[Part], keep: Pages | None) -> Record:
    end_on_sigterm()
    async with start_servers(durable=True, say=_print) as servers:
        await place.assert_durable(servers.database_url)
        measured: dict[Part, Record] = {}
        for part in Part:
            if part in parts:
                record = Record(part.value, await machine(servers))
                begun = time.monotonic()
                await Runs(plan, servers, record, _print).run(part)
                _print(f"{part}: {(time.monotonic() - begun) / 60:.1f} minutes")
                for note in record.notes:
                    _print(note)
                if record.values:
                    measured[part] = record
                    if keep:
                        keep.put(part, record)
        return keep.whole if keep else together("Benchmark, quick", measured)


def _print(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    app(prog_name="python -m tests.benchmarks")
