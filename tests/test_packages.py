"""What `pip install wallet-worker` brings: the client alone, which runs beside whatever else its user has."""

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.client import gateway
from tests.workers import Workers

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("schemas/wallet_schemas", "wallet_worker", "payment_simulator")

CLIENT = {
    "aio-pika",
    "aiormq",
    "annotated-types",
    "idna",
    "iso4217",
    "multidict",
    "pamqp",
    "propcache",
    "pydantic",
    "pydantic-core",
    "typing-extensions",
    "typing-inspection",
    "wallet-worker",
    "yarl",
}
"""Every distribution of an environment that has the client, and of no other."""

PART_OF_PYDANTIC = {"pydantic-core"}
THROUGH_UVICORN = {"httptools"}
"""`wallet api` subclasses uvicorn's protocol on it, and does not import the parser itself."""

FOR_DEVELOPERS = "generate.py"
"""It writes the JSON Schemas and `asyncapi.yaml` with PyYAML, in the repository alone."""

NOT_ON_WINDOWS = ("fcntl", "grp", "pwd", "resource", "termios", "uvloop")
_CLIENT_ON_WINDOWS = f"""
import sys
sys.modules.update(dict.fromkeys({NOT_ON_WINDOWS}))
import wallet_worker.client
"""

_DISTRIBUTIONS = "import importlib.metadata as m; print(*(each.name for each in m.distributions()))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from nothing but what the Dockerfile copies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in ("schemas", "wallet_worker", "payment_simulator"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Give the wheel's METADATA."""
    with zipfile.ZipFile(wheel) as content:
        (name,) = (name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(content.read(name).decode())


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """Make an empty environment, and install the client from the lock file, by its hashes, and the wheel."""
    folder = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = [sys.executable, "-m", "pip", "--quiet", "--python", str(folder / "bin" / "python"), "install"]
    locked = ["--require-hashes", "--requirement", str(ROOT / "requirements-client.lock")]
    for arguments in (locked, ["--no-deps", "--no-index", str(wheel)]):
        done = subprocess.run([*install, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def run(environment: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in a folder, without the Python path of the tests."""
    program, *rest = arguments
    return subprocess.run(
        [str(environment / "bin" / program), *rest],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Make a folder whose own modules would break an import of theirs."""
    for name in ("schemas", "client", "settings", "store"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py is of the user')\n")
    return tmp_path


# The wheel


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    source = wheel.parent / "source"
    with zipfile.ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in content.namelist() if name.endswith("entry_points.txt"))
        commands = content.read(entry_points).decode()

    there = {
        re.sub("^schemas/(wallet_schemas/)?", "wallet_schemas/", str(path.relative_to(source)))
        for package in ("schemas", "wallet_worker", "payment_simulator")
        for path in (source / package).rglob("*")
        if path.is_file() and "docs" not in path.parts  # pictures, for readers of the repository
    }
    assert names == there
    assert {
        "wallet_worker/console/templates/layout.html",
        "wallet_worker/console/assets/console.css",
    } <= names
    assert {"wallet_schemas/asyncapi.yaml", "wallet_schemas/json/order.recharge.v1.json"} <= names
    assert {f"{Path(package).name}/py.typed" for package in PACKAGES} <= names
    assert any("/migrations/versions/" in name for name in names)
    assert "wallet = wallet_worker.__main__:main" in commands
    assert "payment-simulator = payment_simulator.__main__:main" in commands


def test_the_wheel_says_who_made_it_what_it_is_and_where_to_read_on(metadata: Message) -> None:
    assert metadata["Author"] == "The wallet-worker maintainers"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"ledger", "rabbitmq"} <= set(metadata["Keywords"].split(","))
    assert {url.partition(",")[0] for url in metadata.get_all("Project-URL", [])} == {
        "Changelog",
        "Documentation",
        "Homepage",
        "Source",
    }
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata.get_all("Provides-Extra") == ["server"]


# What comes with it


def test_the_client_brings_these_distributions_and_no_other(environment: Path, hostile: Path) -> None:
    listed = run(environment, "python", "-c", _DISTRIBUTIONS, folder=hostile)

    assert {canonicalize_name(name) for name in listed.stdout.split()} == CLIENT


async def test_the_readmes_first_program_runs_beside_a_hostile_module(
    environment: Path, hostile: Path, amqp_url: str, workers: Workers
) -> None:
    shown = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    (hostile / "program.py").write_text(shown[1])
    await workers.start()

    async with gateway.everything_is_paid(amqp_url):
        process = await asyncio.create_subprocess_exec(
            str(environment / "bin" / "python"),
            "program.py",
            cwd=hostile,
            env={"PATH": os.environ["PATH"], "WALLET_AMQP_URL": amqp_url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()

    assert (process.returncode, err.decode()) == (0, "")
    assert out.decode().splitlines()[0] == "applied OK"


def test_the_client_imports_where_there_is_no_posix(environment: Path, hostile: Path) -> None:
    done = run(environment, "python", "-c", _CLIENT_ON_WINDOWS, folder=hostile)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["wallet", "payment-simulator"])
def test_a_command_of_the_server_says_what_to_install(environment: Path, hostile: Path, command: str) -> None:
    done = run(environment, command, "--help", folder=hostile)

    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        rf"{command}: the package \w+ is missing\. Install it: pip install 'wallet-worker\[server\]'\n",
        done.stderr,
    )


# The dependencies


def imported() -> set[str]:
    """Return the distributions that the three packages import."""
    names = {
        name.partition(".")[0]
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != FOR_DEVELOPERS
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    owners = packages_distributions()
    return {
        canonicalize_name(distribution)
        for name in names - sys.stdlib_module_names - {Path(package).name for package in PACKAGES}
        for distribution in owners[name]
    }


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    declared = {
        canonicalize_name(Requirement(each).name)
        for each in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]
    }

    assert imported() - PART_OF_PYDANTIC | THROUGH_UVICORN == declared
