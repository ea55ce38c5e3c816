"""`wallet doctor`: what the database lacks, for a person and for a program."""

import json
from urllib.parse import urlsplit

import asyncpg

from tests.cli.terminal import wallet_process
from tests.servers import Servers
from tests.servers.ports import free_ports
from wallet_worker.cli.exits import Exit
from wallet_worker.store.requirements import REQUIREMENTS


async def test_a_database_in_order_has_every_requirement_met(database_url: str) -> None:
    ended = await wallet_process("doctor", "--table", WALLET_DATABASE_URL=database_url)

    assert ended.status == Exit.DONE, ended.err
    for requirement in REQUIREMENTS:
        assert requirement.name in ended.out
    assert "MISSING" not in ended.out
    assert "fsync is off" in ended.out  # the tests' own server, and a warning only


async def test_what_is_not_there_to_be_looked_at_is_neither_met_nor_missing(servers: Servers) -> None:
    async with servers.database() as empty:
        ended = await wallet_process("doctor", "--json", WALLET_DATABASE_URL=empty)
        table = await wallet_process("doctor", "--table", WALLET_DATABASE_URL=empty)

    met = {row["name"]: row["met"] for row in json.loads(ended.out)["requirements"]}
    assert (ended.status, met["revision"], met["encoding UTF8"]) == (Exit.FOUND, False, True)
    assert {met[name] for name in ("every table", "every column", "privileges of the roles")} == {None}
    assert "not looked at" in table.out


async def test_a_program_reads_what_is_missing(database_url: str, owner: asyncpg.Connection) -> None:
    await owner.execute("REVOKE SELECT ON orders FROM wallet_readonly")

    ended = await wallet_process("doctor", "--json", WALLET_DATABASE_URL=database_url)

    assert ended.status == Exit.FOUND
    (missing,) = (
        row for row in json.loads(ended.out)["requirements"] if not row["met"] and row["grade"] == "required"
    )
    assert missing["name"] == "privileges of the roles"
    assert "SELECT on orders to wallet_readonly" in missing["sentences"][0]


async def test_the_login_is_looked_at_for_what_it_is_for(
    database_url: str, owner: asyncpg.Connection
) -> None:
    await owner.execute("CREATE ROLE keeping LOGIN PASSWORD 'hush' IN ROLE wallet_keeper")
    parts = urlsplit(database_url)
    url = parts._replace(netloc=f"keeping:hush@{parts.netloc.rpartition('@')[2]}").geturl()
    try:
        as_keeper = await wallet_process("doctor", "--for", "keeper", WALLET_DATABASE_URL=url)
        as_worker = await wallet_process("doctor", "--for", "worker", WALLET_DATABASE_URL=url)
    finally:
        await owner.execute("DROP ROLE keeping")

    assert as_keeper.status == Exit.DONE, as_keeper.out
    assert as_worker.status == Exit.FOUND
    assert "The login keeping may not be wallet_worker" in as_worker.out


async def test_a_database_that_cannot_be_looked_at_is_not_said_to_lack_something() -> None:
    (port,) = free_ports(1)

    ended = await wallet_process("doctor", WALLET_DATABASE_URL=f"postgresql://u:p@127.0.0.1:{port}/wallet")

    assert ended.status == Exit.UNAVAILABLE
    assert ended.out == ""
    assert len(ended.err_lines) == 1
