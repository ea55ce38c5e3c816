"""`python -m tests.faults`: the chaos run."""

import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.faults import faults_of_several
from tests.faults.chaos import Mix, Report, run
from tests.servers import start_servers
from tests.servers.several import start_several
from wallet_worker.store.migrate import migrate


def main(
    *,
    minutes: Annotated[float, typer.Option(help="How long faults are made.")] = 5,
    seed: Annotated[
        int | None, typer.Option(help="A number from which the run can be made again; a new one without it.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Commands a second.")] = 40,
    cluster: Annotated[
        bool, typer.Option(help="Break three brokers and two databases, and not one of each.")
    ] = False,
) -> None:
    """Break everything at random under load; say what was lost, doubled or stuck. Exit status 1 if anything was.

    What was sent, in the notebook, and the workers' logs are kept unless all is well, and it says where.

    Example: python -m tests.faults --minutes 5 --seed 7
    """
    logging.getLogger("aiormq").setLevel(
        logging.CRITICAL
    )  # each lost connection of the harness's own, otherwise
    number = secrets.randbelow(10**6) if seed is None else seed
    of_several = " CLUSTER=1" if cluster else ""
    _print(f"seed {number}: again with `make chaos MINUTES={minutes:g} SEED={number}{of_several}`")
    folder = Path(tempfile.mkdtemp(prefix="wallet-chaos-"))
    is_clean = False
    try:
        report = asyncio.run((_run_several if cluster else _run)(folder, number, minutes, rate))
        for line in report.lines():
            typer.echo(line)
        is_clean = report.is_clean
    finally:
        if is_clean or not any(folder.iterdir()):
            shutil.rmtree(folder)
        else:
            _print(f"the notebook and the workers' logs are in {folder}")
    raise typer.Exit(int(not is_clean))


async def _run(folder: Path, seed: int, minutes: float, rate: float) -> Report:
    async with (
        start_servers(controlled=True, durable=False, say=_print) as servers,
        servers.database() as migrated_url,
    ):
        await migrate(migrated_url)
        return await run(servers, migrated_url, folder, seed=seed, minutes=minutes, rate=rate, say=_print)


async def _run_several(folder: Path, seed: int, minutes: float, rate: float) -> Report:
    mix = Mix(faults_of_several.WEIGHTS, faults_of_several.ALONE)
    with start_several() as servers:
        async with servers.database() as migrated_url:
            await migrate(migrated_url)
            await servers.pair.be_synchronous()
            return await run(
                servers, migrated_url, folder, seed=seed, minutes=minutes, rate=rate, mix=mix, say=_print
            )


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 -- to the person at the terminal


if __name__ == "__main__":
    typer.run(main)
