"""`wallet console` as a process: where it listens, why it does not, and a database that is not as it should be."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
import structlog

from tests.console.process import a_console
from tests.console.stage import Stage
from wallet_worker.cli import environment
from wallet_worker.console.app import open_databases, parts_of

NOWHERE = {
    "WALLET_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
    "WALLET_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
}


async def console(**settings: str) -> tuple[int | None, str]:
    """Return exit status and log of a console that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wallet_worker", "console"),
        env={**os.environ, **NOWHERE, **settings},
        stderr=asyncio.subprocess.PIPE,
    )
    _, log = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, log.decode()


async def fetched(address: str, path: str, host: str) -> str:
    """Return the answer to a request without any client's help."""
    port = int(address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_it_serves_without_database_and_broker_and_stops_when_it_is_told(users: Path) -> None:
    async with a_console({**os.environ, **NOWHERE}, users) as address:
        alive = await fetched(address, "/healthz", "anything")
        page = await fetched(address, "/sign-in", address.removeprefix("http://"))
        elsewhere = await fetched(address, "/sign-in", "evil.example")

    assert alive.startswith("HTTP/1.1 200")
    assert "Sign in to the console" in page
    assert "server:" not in page.lower().partition("\r\n\r\n")[0]
    assert elsewhere.startswith("HTTP/1.1 421")


async def test_it_does_not_listen_for_everybody_without_being_told_its_name() -> None:
    status, log = await console(WALLET_CONSOLE_HOST="0.0.0.0")  # noqa: S104 -- what is refused

    assert status == 1
    assert "WALLET_CONSOLE_ORIGIN" in log
    assert "Traceback" not in log


async def test_a_port_that_is_taken_is_said_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, log = await console(WALLET_CONSOLE_PORT=str(port))

    assert status == 1
    assert f"the port {port} cannot be opened" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    "origin", ["console.example", "https://console.example/path", "ftp://x", "https://a@b", "https://["]
)
async def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    status, log = await console(WALLET_CONSOLE_ORIGIN=origin)

    assert status == 2
    assert "WALLET_CONSOLE_ORIGIN" in log


async def test_others_who_can_read_the_hashes_are_warned_of(users: Path) -> None:
    users.chmod(0o644)  # noqa: ASYNC240 -- nobody else waits

    _, log = await console(
        WALLET_CONSOLE_USERS=str(users),
        WALLET_CONSOLE_ORIGIN="http://console.example",
        WALLET_CONSOLE_PORT="1",
        WALLET_CONSOLE_HOST="203.0.113.1",
    )

    assert "chmod 600" in log
    assert "passwords travel in the clear" in log


@pytest.mark.parametrize(
    ("origin", "proxies", "is_warned"),
    [("https://console.example", "", True), ("https://console.example", "10.0.0.5", False), ("", "", False)],
)
def test_a_proxy_that_is_not_named_is_warned_of_at_the_start(
    monkeypatch: pytest.MonkeyPatch, origin: str, proxies: str, *, is_warned: bool
) -> None:
    for name, value in (
        *NOWHERE.items(),
        ("WALLET_CONSOLE_ORIGIN", origin),
        ("WALLET_CONSOLE_PROXIES", proxies),
    ):
        monkeypatch.setenv(name, value)

    with structlog.testing.capture_logs() as answer:
        parts_of(environment.worker())

    assert ("console.proxy_unnamed" in {item["event"] for item in answer}) is is_warned


async def test_a_database_without_its_roles_does_not_keep_the_console_from_starting(
    stage: Stage, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wallet_worker.store.errors import StatementRejectedError

    async def refuse() -> None:
        raise StatementRejectedError("role does not exist")

    monkeypatch.setattr(stage.parts.reading, "open", refuse)

    await open_databases(stage.parts)

    assert "wallet migrate" in "".join(capfd.readouterr())
