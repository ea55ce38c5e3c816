"""The commands that run until they are told to stop: what they end with, whatever their output is."""

import asyncio
import signal
import sys
from pathlib import Path

from tests.cli.terminal import environment
from tests.servers.ports import free_ports

ENDS_SECONDS = 60.0
PORTS = {
    "worker": "WALLET_HTTP_PORT",
    "keeper": "WALLET_HTTP_PORT",
    "webhooks": "WALLET_HTTP_PORT",
    "console": "WALLET_CONSOLE_PORT",
    "api": "WALLET_API_PORT",
}
"""By service, the setting of a port on which it listens once it runs."""


async def _ended(service: str, port: int, settings: dict[str, str]) -> int | None:
    """Return what a service without standard output and error ends with, that is interrupted when it listens."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-m", "wallet_worker", service),
        env=environment(settings | {PORTS[service]: str(port)}),
    )
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        process.send_signal(signal.SIGINT)
        break
    return await process.wait()


async def test_a_service_without_any_output_ends_with_0_when_it_is_interrupted(
    amqp_url: str, database_url: str, tmp_path: Path
) -> None:
    settings = {
        "WALLET_AMQP_URL": amqp_url,
        "WALLET_DATABASE_URL": database_url,
        "WALLET_SENDERS": "anyone",
        "WALLET_REQUEST_KEY_FILE": "none",
        "WALLET_SEAL_KEY_FILE": "none",
        "WALLET_CONSOLE_USERS": str(tmp_path / "users.json"),
        "WALLET_API_HEALTH_PORT": "0",
    }
    ports = free_ports(len(PORTS))

    async with asyncio.timeout(ENDS_SECONDS):
        ended = await asyncio.gather(
            *(_ended(service, port, settings) for service, port in zip(PORTS, ports, strict=True))
        )

    assert dict(zip(PORTS, ended, strict=True)) == dict.fromkeys(PORTS, 0)
