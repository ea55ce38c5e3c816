"""`wallet console` as its operators start it, and a real browser at it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

READY_SECONDS = 30.0
STOP_SECONDS = 15.0


@asynccontextmanager
async def a_console(environment: Mapping[str, str], users: Path, **settings: str) -> AsyncIterator[str]:
    """Give the address of a console that is ended with SIGTERM in the end, and then says that it stopped."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "wallet_worker",
        "console",
        env={
            **environment,
            "WALLET_CONSOLE_PORT": "0",
            "WALLET_CONSOLE_USERS": str(users),
            "WALLET_LOG_FORMAT": "json",
            **settings,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    log: list[str] = []
    address = ""
    stderr = process.stderr
    assert stderr is not None
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not address:
                line = (await stderr.readline()).decode()
                assert line, "the console ended:\n" + "".join(log)
                log.append(line)
                address = _address(line)
        rest = asyncio.create_task(stderr.read())
        try:
            yield address.rstrip("/")
        finally:
            process.terminate()
            log.append((await asyncio.wait_for(rest, STOP_SECONDS)).decode())
        assert await process.wait() == 0, "".join(log)
        assert '"console.failed"' not in log[-1], log[-1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _address(line: str) -> str:
    with suppress(ValueError):
        body = json.loads(line)
        if body.get("event") == "console.ready":
            return str(body["address"])
    return ""
