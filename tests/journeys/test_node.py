"""A client in another language: the README's example, run by Node as it stands."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.workers import Workers

SCRIPT = Path(__file__).parent / "node" / "open_account.js"
AMQPLIB = "amqplib@2.3.1"
INSTALL_SECONDS = 120


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give an environment in which Node finds an AMQP client."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is missing")
    folder = tmp_path_factory.mktemp("node")
    installed = subprocess.run(
        ["npm", "install", "--no-save", "--no-package-lock", "--silent", AMQPLIB],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install {AMQPLIB} here: {installed.stderr.strip()[-200:]}")
    return os.environ | {"NODE_PATH": str(folder / "node_modules")}


async def run(environment: dict[str, str]) -> dict[str, object]:
    """Return the outcome that the script prints."""
    process = await asyncio.create_subprocess_exec(
        "node", str(SCRIPT), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complaints.decode()
    outcome = json.loads(printed)
    assert isinstance(outcome, dict)
    return outcome


async def test_a_client_in_another_language_gets_its_outcome_and_the_same_again(
    node: dict[str, str], workers: Workers
) -> None:
    await workers.start()
    environment = node | {"WALLET_AMQP_URL": workers.amqp_url}

    first = await run(environment)
    second = await run(environment)

    assert (first["status"], first["code"], first["duplicate"]) == ("applied", "OK", False)
    assert second == first | {"duplicate": True}
