"""A client that shares no code with the wallet, in another language, with an ordinary AMQP library.

The program is the one that the README shows. It is skipped where Node or its packages cannot be had.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.journeys.conftest import Wallet

EXAMPLE = Path(__file__).parent / "node"
NODE, NPM = shutil.which("node"), shutil.which("npm")
INSTALL_SECONDS = 60
RUN_SECONDS = 60


async def run(*command: str, seconds: float, cwd: Path, **environment: str) -> tuple[int, str, str]:
    """Run a program; return its exit status, and what it wrote to both streams."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=os.environ | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, "", f"no end after {seconds} s"
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Give a copy of the example with its one dependency installed, as the lock file has it."""
    if NODE is None or NPM is None:
        pytest.skip("Node and npm are not on this machine")
    folder = shutil.copytree(EXAMPLE, tmp_path / "node", ignore=shutil.ignore_patterns("node_modules"))
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--fetch-retries=0")
    status, _, result = await run(NPM, "ci", *options, seconds=INSTALL_SECONDS, cwd=folder)
    if status != 0:
        pytest.skip(f"npm cannot install the AMQP library here: {result.strip()[-300:]}")
    return folder


async def test_a_javascript_client_opens_an_account_and_gets_its_outcome(
    folder: Path, wallet: Wallet
) -> None:
    assert NODE is not None
    await wallet.workers.start()

    runs = [
        await run(NODE, "open_account.js", seconds=RUN_SECONDS, cwd=folder, WALLET_AMQP_URL=wallet.amqp_url)
        for _ in range(2)
    ]
    listed = await wallet.upstream.query({"type": "account.get.v1", "user_id": "erin"})

    assert [(status, answer) for status, _, answer in runs] == [(0, ""), (0, "")]
    first, second = (json.loads(out) for _, out, _ in runs)
    (account,) = listed["accounts"]
    assert first == {
        "type": "command.outcome.v1",
        "serial_no": "open-erin",
        "status": "applied",
        "code": "OK",
        "duplicate": False,
        "result": {
            "object": "account_opened",
            "user_id": "erin",
            "account_type": "basic",
            "currency": "TWD",
            "account_no": account["account_no"],
        },
    }
    assert second == first | {"duplicate": True}
    assert wallet.upstream.dead_letters.received == []
