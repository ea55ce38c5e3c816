"""The logins that compose.yaml makes, on a server of their own: made by its script, given their roles by its setup."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import yaml

from tests.cli.terminal import wallet_process
from tests.documents.pages import ROOT
from tests.servers.ports import free_ports
from tests.servers.postgres import Postgres, find_binaries
from tests.servers.private import Folder
from wallet_worker.cli.exits import Exit
from wallet_worker.store.privileges import ROLES_OF
from wallet_worker.store.requirements import Grade, check, unmet

LOGINS = {
    "worker": "worker-without-keeper",
    "keeper": "keeper",
    "console": "console",
    "api": "api",
    "audit": "reader",
    "owner": "owner",
}
SECRET = "of-a-test"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Give a database server of this module alone: compose's logins belong to the whole of it."""
    folder = Folder()
    server = Postgres(folder, port=free_ports(1)[0], durable=False)
    server.start()
    yield server
    server.kill()
    folder.remove()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Give compose.yaml."""
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


def _url(server: Postgres, login: str) -> str:
    return f"postgresql://{login}:{SECRET}@{server.url.rpartition('@')[2]}"


def _run_logins_script(server: Postgres, compose: dict[str, Any]) -> None:
    host, _, rest = server.url.rpartition("@")[2].partition(":")
    environment = {
        name: SECRET
        for name in compose["services"]["postgres"]["environment"]
        if name.endswith("_DATABASE_PASSWORD")
    }
    path = f"{find_binaries()}:{os.environ['PATH']}"
    password = server.url.partition("postgres:")[2].rpartition("@")[0]
    done = subprocess.run(
        ["sh", "-ec", compose["configs"]["logins"]["content"]],
        check=False,
        capture_output=True,
        text=True,
        env={
            **environment,
            "PATH": path,
            "PGHOST": host,
            "PGPORT": rest.partition("/")[0],
            "PGPASSWORD": password,
        },
    )
    assert done.returncode == 0, done.stderr


async def test_what_compose_starts_has_a_login_for_each_process_with_its_roles_and_no_other(
    server: Postgres, compose: dict[str, Any]
) -> None:
    _run_logins_script(server, compose)
    command = str(compose["services"]["setup"]["command"][-1])
    arguments = shlex.split(re.split(r"&&", command)[0])

    for _ in range(2):  # `docker compose up` does it each time
        ended = await wallet_process(*arguments[1:], WALLET_DATABASE_URL=_url(server, "owner"))
        assert ended.status == Exit.DONE, ended.err

    owner = await asyncpg.connect(server.url)
    members = """
        SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
        WHERE m.member = $1::regrole AND r.rolname LIKE 'wallet%' ORDER BY 1
    """
    for login, process in LOGINS.items():
        assert unmet(await check(_url(server, login), process=process), Grade.REQUIRED) == [], login
        told = {
            item.requirement.name
            for item in await check(_url(server, login), process=process)
            if not item.is_met
        }
        assert told <= {"confirmed is on the disk"}, login
        found = [row[0] for row in await owner.fetch(members, login)]
        assert found == sorted(ROLES_OF[process]) or login == "owner", login
    superusers = await owner.fetch("SELECT rolname FROM pg_roles WHERE rolsuper")
    assert [row[0] for row in superusers] == ["postgres"]
    await owner.close()


@pytest.mark.parametrize("login", LOGINS)
async def test_no_login_of_compose_plants_names_or_puts_triggers_to_sleep(
    server: Postgres, login: str
) -> None:
    connection = await asyncpg.connect(_url(server, login))
    attempts = ["CREATE TABLE public.commands ()", "SET session_replication_role = replica"]
    if login != "owner":
        attempts += [
            "CREATE TABLE wallet.mine ()",
            "CREATE TEMPORARY TABLE commands ()",
            "CREATE SCHEMA mine",
            "CREATE ROLE mallory SUPERUSER",
            "SET ROLE owner",
        ]
    for attempt in attempts:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(attempt)
    await connection.close()
