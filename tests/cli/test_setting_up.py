"""`wallet migrate`, `wallet topology` and the start of `wallet worker`: what they do, and how they fail."""

from urllib.parse import urlsplit, urlunsplit

import aiormq
import asyncpg
import pytest

from tests.cli.terminal import wallet, wallet_process
from tests.servers import Servers
from tests.servers.ports import free_ports
from wallet_schemas.names import WALLET_COMMANDS, WALLET_EVENTS
from wallet_worker.cli.exits import Exit
from wallet_worker.store.schema_version import newest_revision

SECRET = "hush-hush"


def elsewhere(url: str, **parts: str) -> str:
    """Return a URL with another `netloc` or `path`."""
    return urlunsplit(urlsplit(url)._replace(**parts))


def as_somebody_else(url: str, user: str = "nobody") -> str:
    """Return a URL with a user and a password that are not right."""
    return elsewhere(url, netloc=f"{user}:{SECRET}@{urlsplit(url).netloc.rpartition('@')[2]}")


async def test_migrate_says_from_where_to_where(servers: Servers) -> None:
    async with servers.database() as url:
        first = await wallet_process("migrate", WALLET_DATABASE_URL=url)
        again = await wallet_process("migrate", WALLET_DATABASE_URL=url)

    revision = newest_revision()
    assert (first.status, first.out) == (0, f"the database went from revision none to {revision}\n")
    assert (again.status, again.out) == (0, f"the database was at revision {revision} already\n")
    assert first.err + again.err == ""


async def test_topology_is_applied_and_then_in_order(servers: Servers, bare_url: str) -> None:
    settings = {"WALLET_AMQP_URL": bare_url, "WALLET_MANAGEMENT_URL": servers.management_url}

    before = await wallet("topology", "check", **settings)
    applied = await wallet("topology", "apply", WALLET_AMQP_URL=bare_url)
    after = await wallet("topology", "check", **settings)

    assert (before.status, applied.status, after.status) == (Exit.FOUND, 0, 0)
    assert "wallet: The queue wallet.commands does not exist." in before.err_lines
    assert applied.err + after.err == ""


async def test_topology_is_planned_in_sentences_and_nothing_is_made(servers: Servers, bare_url: str) -> None:
    settings = {"WALLET_AMQP_URL": bare_url, "WALLET_MANAGEMENT_URL": servers.management_url}

    plan = await wallet("topology", "apply", "--plan", **settings)
    check = await wallet("topology", "check", **settings)
    await wallet("topology", "apply", WALLET_AMQP_URL=bare_url)
    nothing = await wallet("topology", "apply", "--plan", **settings)

    assert (plan.status, plan.err, check.status) == (0, "", Exit.FOUND)
    lines = plan.out.splitlines()
    assert "The topic exchange wallet.commands is made, with alternate-exchange wallet.unrouted." in lines
    assert "The queue wallet.commands is bound to the exchange wallet.commands." in lines
    assert any(
        line.startswith("The stream queue wallet.api.events is made, with x-max-age 7D") for line in lines
    )
    assert "wallet: The queue wallet.commands does not exist." in check.err_lines
    assert (nothing.status, nothing.err) == (0, "")
    assert nothing.out == "nothing: the broker has every exchange, queue and binding\n"


async def test_what_is_wrong_with_the_topology_is_said_in_sentences(servers: Servers, amqp_url: str) -> None:
    async with aiormq.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_unbind(WALLET_COMMANDS, WALLET_COMMANDS, "#")
        await channel.exchange_delete(WALLET_EVENTS)

    result = await wallet(
        "topology", "check", WALLET_AMQP_URL=amqp_url, WALLET_MANAGEMENT_URL=servers.management_url
    )

    assert result.status == Exit.FOUND
    assert result.out == ""
    without_log, *lines = result.err_lines
    assert "There is no log of events" in without_log
    assert len(lines) == 2
    assert "wallet: The exchange wallet.events does not exist." in lines
    assert any("wallet.commands is not bound" in line for line in lines)


async def test_a_queue_of_the_wrong_kind_is_in_the_way_of_applying(bare_url: str) -> None:
    async with aiormq.connect(bare_url) as connection:
        channel = await connection.channel()
        await channel.queue_declare(WALLET_COMMANDS, durable=True)

    result = await wallet("topology", "apply", WALLET_AMQP_URL=bare_url)

    assert result.status == Exit.FOUND
    (line,) = result.err_lines
    assert "The queue wallet.commands is not as the wallet needs it" in line


async def test_bindings_that_cannot_be_seen_are_no_fault(amqp_url: str) -> None:
    (port,) = free_ports(1)

    result = await wallet(
        "topology", "check", WALLET_AMQP_URL=amqp_url, WALLET_MANAGEMENT_URL=f"http://127.0.0.1:{port}"
    )

    assert result.status == 0
    without_log, line = result.err_lines
    assert "There is no log of events" in without_log
    assert "The bindings were not checked" in line
    assert "Set WALLET_MANAGEMENT_URL" not in line  # it is set
    assert result.out.strip() == "nothing else was found wrong"


@pytest.mark.parametrize(
    ("command", "settings", "status", "sentence"),
    [
        (("migrate",), {}, Exit.MISUSED, "WALLET_DATABASE_URL is not set"),
        (("audit",), {}, Exit.MISUSED, "WALLET_DATABASE_URL is not set"),
        (("topology", "apply"), {}, Exit.MISUSED, "WALLET_AMQP_URL is not set"),
        (("topology", "check"), {}, Exit.MISUSED, "WALLET_AMQP_URL is not set"),
        (("send", "open", "a", "TWD"), {}, Exit.MISUSED, "WALLET_AMQP_URL is not set"),
        (("show", "account", "a"), {}, Exit.MISUSED, "WALLET_AMQP_URL is not set"),
        (("worker",), {}, Exit.MISUSED, "WALLET_AMQP_URL is not set; WALLET_DATABASE_URL is not set"),
        (
            ("migrate",),
            {"WALLET_DATABASE_URL": "mysql://u:hush-hush@h/d"},
            Exit.MISUSED,
            "is no address of a database",
        ),
        (("migrate",), {"WALLET_DATABASE_URL": "hush-hush"}, Exit.MISUSED, "is no address of a database"),
        (
            ("audit",),
            {"WALLET_DATABASE_URL": "postgresql://[hush-hush"},
            Exit.MISUSED,
            "is no address of a database",
        ),
        *(
            ((command,), {"WALLET_DATABASE_URL": f"postgresql://u:hush-hush@127.0.0.1:{rest}"}, 2, sentence)
            for command in ("audit", "migrate")
            for rest, sentence in (
                ("99999/d", "the port should be a number from 1 to 65535"),
                ("many/d", "the port should be a number from 1 to 65535"),
                (
                    "1/d?sslmode=nonsense",
                    "sslmode should be one of disable, allow, prefer, require, verify-ca",
                ),
                ("1/d?target_session_attrs=x", "target_session_attrs should be one of any, primary,"),
                ("1/d?sslrootcert=/nowhere&sslmode=verify-ca", "sslrootcert names a file that is not there"),
                (
                    "1/d?sslmode=verify-full",
                    "sslmode=verify-full needs the certificate that signs the server",
                ),
            )
        ),
        (
            ("topology", "apply"),
            {"WALLET_AMQP_URL": "http://u:hush-hush@127.0.0.1/"},
            Exit.MISUSED,
            "WALLET_AMQP_URL: 'http://127.0.0.1/' is no address of a broker",
        ),
        (
            ("show", "order", "R-1"),
            {"WALLET_AMQP_URL": "hush-hush"},
            Exit.MISUSED,
            "is no address of a broker",
        ),
        (
            ("worker",),
            {"WALLET_AMQP_URL": "a", "WALLET_DATABASE_URL": "b", "WALLET_PAYMENT_KEYS": '{"k": hush-hush'},
            Exit.MISUSED,
            "WALLET_PAYMENT_KEYS",
        ),
        (
            ("worker",),
            {"WALLET_AMQP_URL": "a", "WALLET_DATABASE_URL": "b", "WALLET_HTTP_PORT": "many"},
            Exit.MISUSED,
            "WALLET_HTTP_PORT: Input should be a valid integer",
        ),
        (
            ("worker",),
            {"WALLET_AMQP_URL": "a", "WALLET_DATABASE_URL": "b", "WALLET_CURRENCIES": "TWD,ZZZ"},
            Exit.MISUSED,
            "WALLET_CURRENCIES: ",
        ),
    ],
)
async def test_a_wrong_setting_is_one_line_without_its_value(
    command: tuple[str, ...], settings: dict[str, str], status: Exit, sentence: str
) -> None:
    ended = await wallet(*command, **settings)

    assert ended.status == status
    (line,) = ended.err_lines
    assert line.startswith("wallet: ")
    assert sentence in line
    if settings.get("WALLET_AMQP_URL") != SECRET:
        assert SECRET not in line


@pytest.mark.parametrize("command", [("migrate",), ("audit",)], ids=" ".join)
async def test_a_database_that_is_away_is_one_line(command: tuple[str, ...]) -> None:
    (port,) = free_ports(1)

    result = await wallet_process(*command, WALLET_DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:{port}/d")

    assert result.status == Exit.UNAVAILABLE
    (line,) = result.err_lines
    assert "the database cannot be used" in line
    assert SECRET not in line


async def test_why_a_database_cannot_be_used_is_said(servers: Servers, database_url: str) -> None:
    (port,) = free_ports(1)
    at_broker = urlsplit(servers.amqp_url).netloc.rpartition("@")[2]

    said = [
        await wallet("audit", WALLET_DATABASE_URL=url)
        for url in (
            f"postgresql://u:{SECRET}@127.0.0.1:{port}/d",
            f"postgresql://u:{SECRET}@{at_broker}/d",
            f"{database_url}?sslmode=require",
            f"{database_url}?no_such_setting=1",
        )
    ]

    nobody, broker, plain, strange = said
    assert [answer.status for answer in said] == [3, 3, 3, Exit.MISUSED]
    assert "nobody listens there" in nobody.err
    assert "is no PostgreSQL" in broker.err
    assert "speaks no TLS" in plain.err
    assert "does not know: unrecognized configuration parameter" in strange.err
    assert "wallet migrate" not in strange.err


@pytest.mark.parametrize("command", [("migrate",), ("audit",)], ids=" ".join)
async def test_a_database_that_lets_nobody_in_is_one_line(
    command: tuple[str, ...], database_url: str
) -> None:
    refused = await wallet(*command, WALLET_DATABASE_URL=as_somebody_else(database_url))
    absent = await wallet(*command, WALLET_DATABASE_URL=elsewhere(database_url, path="/not_there"))

    for answer in (refused, absent):
        assert answer.status == Exit.UNAVAILABLE
        (line,) = answer.err_lines
        assert SECRET not in line
    assert "password authentication failed" in refused.err
    assert '"not_there" does not exist' in absent.err


async def test_a_migration_without_the_right_is_one_line(servers: Servers) -> None:
    async with servers.database() as url:
        owner = await asyncpg.connect(url)
        await owner.execute(f"CREATE ROLE powerless LOGIN PASSWORD '{SECRET}'")
        try:
            result = await wallet("migrate", WALLET_DATABASE_URL=as_somebody_else(url, "powerless"))
        finally:
            await owner.execute("DROP ROLE powerless")
            await owner.close()

    assert result.status == Exit.FOUND
    (line,) = result.err_lines
    assert line.startswith("wallet: The login powerless may not make a schema in the database ")


async def test_an_audit_of_a_database_that_was_never_migrated_is_one_line(servers: Servers) -> None:
    async with servers.database() as url:
        result = await wallet("audit", WALLET_DATABASE_URL=url)

    assert result.status == Exit.UNAVAILABLE  # the ledger was not looked at
    (line,) = result.err_lines
    assert "wallet migrate" in line


@pytest.mark.parametrize("command", [("migrate", "--check"), ("migrate", "--plan"), ("api", "key", "list")])
async def test_a_database_that_may_not_be_looked_at_is_not_said_to_be_empty(
    command: tuple[str, ...], database_url: str
) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE ROLE stranger LOGIN PASSWORD '{SECRET}'")
    try:
        answer = await wallet(*command, WALLET_DATABASE_URL=as_somebody_else(database_url, "stranger"))
    finally:
        await owner.execute("DROP ROLE stranger")
        await owner.close()

    assert (answer.status, answer.out) == (Exit.UNAVAILABLE, "")
    assert "may not use the schema wallet" in answer.err
    assert "wallet doctor" in answer.err


BROKER_COMMANDS = [
    ("topology", "apply"),
    ("topology", "check"),
    ("send", "open", "alice", "TWD", "--serial", "O-1"),
    ("show", "account", "alice"),
]


@pytest.mark.parametrize("command", BROKER_COMMANDS, ids=" ".join)
async def test_a_broker_that_is_away_is_one_line(command: tuple[str, ...]) -> None:
    (port,) = free_ports(1)

    result = await wallet_process(*command, WALLET_AMQP_URL=f"amqp://u:{SECRET}@127.0.0.1:{port}/")

    assert result.status == Exit.UNAVAILABLE
    (line,) = result.err_lines
    assert f"the broker at amqp://127.0.0.1:{port}/ cannot be reached" in line
    assert result.out == ""


@pytest.mark.parametrize("command", BROKER_COMMANDS, ids=" ".join)
async def test_a_broker_that_lets_nobody_in_is_one_line(command: tuple[str, ...], amqp_url: str) -> None:
    refused = await wallet(*command, WALLET_AMQP_URL=as_somebody_else(amqp_url))
    absent = await wallet(*command, WALLET_AMQP_URL=elsewhere(amqp_url, path="/not-there"))

    for answer in (refused, absent):
        assert answer.status == Exit.UNAVAILABLE
        (line,) = answer.err_lines
        assert line.startswith("wallet: the broker at ")
        assert SECRET not in line


async def test_a_broker_without_a_wallet_is_one_line(bare_url: str) -> None:
    result = await wallet("show", "account", "alice", WALLET_AMQP_URL=bare_url)

    assert result.status == Exit.UNAVAILABLE
    (line,) = result.err_lines
    assert "wallet topology apply" in line
