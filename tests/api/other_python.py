"""Another Python environment, with packages that know our documents and nothing of our code."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.documents.pages import ROOT

CACHE = ROOT / ".venv" / "api-clients"  # made once, and again when the versions below change
PYTHON_PACKAGES = ("openapi-python-client==0.29.1", "ruff", "standardwebhooks==1.1.0")
SECONDS_MAX = 240


async def run(command: Sequence[str], folder: Path, given: bytes | None = None, /, **environment: str) -> str:
    """Return what a program printed, `given` on its standard input; fails with it if the program did."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | environment,
        stdin=None if given is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS_MAX):
        printed, _ = await process.communicate(given)
    assert process.returncode == 0, (
        f"{command[0]} ended with {process.returncode}:\n{printed.decode()[-4_000:]}"
    )
    return printed.decode()


async def other_python() -> Path:
    """Return the folder of the programs of an environment with the packages; it is made where it is not there."""
    folder = CACHE / "python"
    if not (folder / "made").exists() or (folder / "made").read_text() != " ".join(PYTHON_PACKAGES):
        await run([sys.executable, "-m", "venv", "--clear", str(folder)], ROOT)
        python = str(folder / "bin" / "python")
        await run([python, "-m", "pip", "install", "--quiet", "--quiet", *PYTHON_PACKAGES], ROOT)
        (folder / "made").write_text(" ".join(PYTHON_PACKAGES))
    return folder / "bin"
