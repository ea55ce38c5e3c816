"""Console and HTTP API look at the database when they start, as workers and keepers do, and say what it lacks."""

import asyncio
import json
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.cli.terminal import environment
from tests.faults.proxy import Proxy
from wallet_worker.store.schema_version import NOTE

ENDS_SECONDS = 40.0
NEWER = f"UPDATE alembic_version SET version_num = '9999'; COMMENT ON TABLE alembic_version IS '{NOTE.format(9999)}'"  # noqa: S608 -- static text


async def launched(service: str, database_url: str, folder: Path) -> asyncio.subprocess.Process:
    settings = {
        "WALLET_AMQP_URL": "amqp://nobody@127.0.0.1:1/",
        "WALLET_DATABASE_URL": database_url,
        "WALLET_LOG_FORMAT": "json",
        "WALLET_CONSOLE_PORT": "0",
        "WALLET_CONSOLE_USERS": str(folder / "users.json"),
        "WALLET_API_PORT": "0",
        "WALLET_API_HEALTH_PORT": "0",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_worker", service, env=environment(settings), stderr=asyncio.subprocess.PIPE
    )  # fmt: skip


async def until_said(process: asyncio.subprocess.Process, event: str) -> str:
    """Return the reason of the first line of the log with this event."""
    assert process.stderr is not None
    async with asyncio.timeout(ENDS_SECONDS):
        while line := await process.stderr.readline():
            said = json.loads(line)
            if said["event"] == event:
                return str(said.get("reason", ""))
    pytest.fail(f"{event} was not logged")


@pytest.mark.parametrize(
    ("service", "harm", "says"),
    [
        ("console", NEWER, "this program is older and knows"),
        ("api", "DROP INDEX accounts_open_key", "The index accounts_open_key is missing"),
        ("api", "DROP SCHEMA wallet CASCADE", "wallet migrate"),
    ],
)
async def test_a_service_does_not_start_on_a_database_that_is_not_what_it_needs(
    database_url: str, owner: asyncpg.Connection, tmp_path: Path, service: str, harm: str, says: str
) -> None:
    await owner.execute(harm)

    process = await launched(service, database_url, tmp_path)

    assert says in await until_said(process, f"{service}.cannot_serve")
    assert await asyncio.wait_for(process.wait(), ENDS_SECONDS) == 1


@pytest.mark.parametrize("service", ["console", "api"])
async def test_a_service_whose_database_was_away_looks_at_it_when_it_is_back(
    database_url: str, owner: asyncpg.Connection, tmp_path: Path, service: str
) -> None:
    await owner.execute("ALTER TABLE entries ENABLE ROW LEVEL SECURITY")
    async with Proxy(database_url) as proxy:
        proxy.refuse()
        process = await launched(service, proxy.url, tmp_path)
        await until_said(process, f"{service}.ready")
        proxy.heal()

        assert "Row security is on for entries" in await until_said(process, f"{service}.cannot_serve")
        assert await asyncio.wait_for(process.wait(), ENDS_SECONDS) == 1
