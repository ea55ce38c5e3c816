"""Console, HTTP API and webhooks look at the database when they start, as workers do, and say what it lacks."""

import asyncio
import json
import socket
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.cli.terminal import environment
from tests.faults.proxy import Proxy
from wallet_worker.store.schema_version import NOTE

ENDS_SECONDS = 40.0
NEWER = f"UPDATE alembic_version SET version_num = '9999'; COMMENT ON TABLE alembic_version IS '{NOTE.format(9999)}'"  # noqa: S608 -- static text


async def launched(
    service: str, database_url: str, folder: Path, **settings: str
) -> asyncio.subprocess.Process:
    variables = {
        "WALLET_AMQP_URL": "amqp://nobody@127.0.0.1:1/",
        "WALLET_DATABASE_URL": database_url,
        "WALLET_LOG_FORMAT": "json",
        "WALLET_CONSOLE_PORT": "0",
        "WALLET_CONSOLE_USERS": str(folder / "users.json"),
        "WALLET_API_PORT": "0",
        "WALLET_API_HEALTH_PORT": "0",
        "WALLET_SENDERS": "anyone",
        "WALLET_REQUEST_KEY_FILE": "none",
        "WALLET_SEAL_KEY_FILE": "none",
        "WALLET_HTTP_HOST": "127.0.0.1",
        "WALLET_HTTP_PORT": "0",
        **settings,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wallet_worker", service, env=environment(variables), stderr=asyncio.subprocess.PIPE
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


ENDS = {
    "console": "console.cannot_serve",
    "api": "api.cannot_serve",
    "webhooks": "webhooks.cannot_run",
    "keeper": "keeper.cannot_run",
    "worker": "worker.cannot_run",
}
WAITS = {"console": "console.ready", "api": "api.ready", "webhooks": "database.waiting"}
"""What a service logs whose database is away: pages and answers say it, where there are some."""


@pytest.mark.parametrize(
    ("service", "harm", "says"),
    [
        ("console", NEWER, "this program is older and knows"),
        ("api", "DROP INDEX accounts_open_key", "The index accounts_open_key is missing"),
        ("api", "DROP SCHEMA wallet CASCADE", "wallet migrate"),
        ("webhooks", "DROP SCHEMA wallet CASCADE", "wallet migrate"),
        ("keeper", "DROP SCHEMA wallet CASCADE", "wallet migrate"),
        ("worker", NEWER, "is older and knows"),
        ("webhooks", "REVOKE ALL ON webhook_cursor FROM wallet_webhooks", "UPDATE on webhook_cursor"),
    ],
)
async def test_a_service_does_not_start_on_a_database_that_is_not_what_it_needs(
    database_url: str, owner: asyncpg.Connection, tmp_path: Path, service: str, harm: str, says: str
) -> None:
    await owner.execute(harm)

    process = await launched(service, database_url, tmp_path)

    assert says in await until_said(process, ENDS[service])
    assert await asyncio.wait_for(process.wait(), ENDS_SECONDS) == 1


@pytest.mark.parametrize("service", WAITS)
async def test_a_service_whose_database_was_away_looks_at_it_when_it_is_back(
    database_url: str, owner: asyncpg.Connection, tmp_path: Path, service: str
) -> None:
    await owner.execute("ALTER TABLE entries ENABLE ROW LEVEL SECURITY")
    async with Proxy(database_url) as proxy:
        proxy.refuse()
        process = await launched(service, proxy.url, tmp_path)
        await until_said(process, WAITS[service])
        proxy.heal()

        assert "Row security is on for entries" in await until_said(process, ENDS[service])
        assert await asyncio.wait_for(process.wait(), ENDS_SECONDS) == 1


async def test_webhooks_do_not_start_on_a_port_that_is_taken_or_without_their_certificates(
    database_url: str, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = []
        for name, value in (
            ("WALLET_HTTP_PORT", str(taken.getsockname()[1])),
            ("WALLET_WEBHOOKS_CA", str(tmp_path / "nowhere.pem")),
            ("WALLET_WEBHOOKS_CA", str(empty)),
        ):
            process = await launched("webhooks", database_url, tmp_path, **{name: value})
            said.append(await until_said(process, "webhooks.cannot_run"))
            assert await asyncio.wait_for(process.wait(), ENDS_SECONDS) == 1

    by_port, by_absence, by_content = said
    assert "cannot be opened" in by_port
    assert by_absence.endswith("nowhere.pem, which cannot be used: No such file or directory")
    assert by_content.endswith("empty.pem, which cannot be used: it has no certificate in PEM")
