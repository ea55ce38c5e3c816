"""Asks a running API everything that its document allows, and more: `make api-fuzz`, and a bounded run in a test.

`python -m tests.api.fuzz --examples 200` starts servers, a worker and an API of its own.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from tests.api.process import ApiProcess, Apis
from tests.servers import start_servers
from tests.workers import Workers
from wallet_worker.broker import topology
from wallet_worker.store.migrate import migrate

CONFIG = Path(__file__).parent / "schemathesis.toml"
SECONDS_MAX = 1_800


async def fuzz(api: ApiProcess, key: str, *, examples: int, seed: int | None = None) -> tuple[int, str]:
    """Return the exit status of schemathesis, 0 if nothing was found, and what it has printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "--config-file",
        str(CONFIG),
        "run",
        f"{api.url}/v1/openapi.json",
        "--header",
        f"Authorization: Bearer {key}",
        "--max-examples",
        str(examples),
        "--phases",
        "examples,coverage,fuzzing",
        "--exclude-checks",
        # The header above stays on, whatever schemathesis takes away; and who often shows no key is held up with 429.
        "ignored_auth,missing_required_header",
        "--request-timeout",
        "40",
        "--no-color",
        *(("--seed", str(seed)) if seed is not None else ()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS_MAX):
        printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def _main(examples: int) -> int:
    with start_servers(durable=False) as servers:
        async with servers.vhost() as amqp_url, servers.database() as database_url:
            await migrate(database_url)
            await topology.apply(amqp_url, events=True)
            async with (
                Workers(amqp_url, database_url, servers.management_url) as workers,
                Apis.beside(workers) as apis,
            ):
                await workers.start()
                api = await apis.start()
                status, printed = await fuzz(api, await open_key(apis), examples=examples)
                print(printed)  # noqa: T201 -- for the person who asked
                return status


async def open_key(apis: Apis) -> str:
    """Return a key that may do everything, as often as it likes."""
    return await apis.key(
        "add", "fuzz", "--role", "upstream", "--scope", "accounts:freeze", "--scope", "accounts:close",
        "--scope", "webhooks:manage",
        "--rate", "100000", "--in-flight", "10000",
    )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    sys.exit(asyncio.run(_main(parser.parse_args().examples)))
