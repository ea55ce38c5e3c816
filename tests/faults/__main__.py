"""`python -m tests.faults`: the chaos run."""

import asyncio
import logging
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.faults.chaos import Report, run
from tests.servers import start_servers
from wallet_worker.store.migrate import migrate


def main(
    *,
    minutes: Annotated[float, typer.Option(help="How long faults are made.")] = 5,
    seed: Annotated[
        str, typer.Option(help="A number from which the run can be made again; a new one if empty.")
    ] = "",
    rate: Annotated[float, typer.Option(help="Commands a second.")] = 40,
) -> None:
    """Break everything at random under load; say what was lost, doubled or stuck. Exit status 1 if anything was.

    Example: python -m tests.faults --minutes 5 --seed 7
    """
    logging.getLogger("aiormq").setLevel(
        logging.CRITICAL
    )  # each lost connection of the harness's own, otherwise
    number = int(seed) if seed else secrets.randbelow(10**6)
    _say(f"seed {number}: again with `make chaos MINUTES={minutes:g} SEED={number}`")
    report = asyncio.run(_run(number, minutes, rate))
    for line in report.lines():
        typer.echo(line)
    raise typer.Exit(int(not report.is_clean))


async def _run(seed: int, minutes: float, rate: float) -> Report:
    with tempfile.TemporaryDirectory(prefix="wallet-chaos-") as folder:
        async with (
            start_servers(controlled=True, durable=False, say=_say) as servers,
            servers.database() as migrated_url,
        ):
            await migrate(migrated_url)
            return await run(
                servers, migrated_url, Path(folder), seed=seed, minutes=minutes, rate=rate, say=_say
            )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 -- to the person at the terminal


if __name__ == "__main__":
    typer.run(main)
