"""TLS to the broker, its management API and the database: who is believed, and that a worker says why it is not."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit

import asyncpg
import pytest

from tests.security.tls import Authority, in_front_of, server_context
from tests.servers.start import Servers
from tests.workers import Workers
from wallet_worker.broker.addresses import WrongUrlError, parse
from wallet_worker.broker.connection import BrokerUnavailableError, close, connect
from wallet_worker.broker.management import UnreachableError, management
from wallet_worker.store import servers as database_servers

# With TLS 1.3 a client learns after its handshake that its certificate is refused: the connection ends.
REFUSED = (BrokerUnavailableError, UnreachableError, OSError, asyncpg.ConnectionDoesNotExistError)
CASES = {
    "right": True,
    "another authority": False,
    "another name": False,
    "expired": False,
    "client's certificate": True,
    "no client's certificate": False,
    "a client's certificate of another authority": False,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Two authorities. What clients are told to believe is the first."""

    ours: Authority
    foreign: Authority


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """Give the two."""
    found = Place(Authority(tmp_path / "ours"), Authority(tmp_path / "foreign"))
    await asyncio.gather(found.ours.create(), found.foreign.create())
    return found


def at(url: str, port: int, scheme: str, query: Mapping[str, str]) -> str:
    """Return an address of the same server behind a port of TLS."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return urlunsplit((scheme, f"{login}@127.0.0.1:{port}", parts.path, urlencode(query), ""))


async def broker(servers: Servers, port: int, files: Mapping[str, str]) -> None:
    """Connect to the broker."""
    await close(await connect(at(servers.amqp_url, port, "amqps", files), "test"))


async def management_api(servers: Servers, port: int, files: Mapping[str, str]) -> None:
    """Ask the management API."""
    address = at(servers.amqp_url, port, "amqps", files)
    api = management(address, at(servers.management_url, port, "https", {}))
    assert api is not None
    await asyncio.to_thread(api.get, "whoami")


async def database(servers: Servers, port: int, files: Mapping[str, str]) -> None:
    """Connect to the database."""
    names = {"cafile": "sslrootcert", "certfile": "sslcert", "keyfile": "sslkey"}
    options = {"sslmode": "verify-full"} | {names[name]: value for name, value in files.items()}
    connection = await database_servers.connect(at(servers.database_url, port, "postgresql", options))
    await connection.close()


@pytest.mark.parametrize("act", [broker, management_api, database])
async def test_nobody_is_believed_but_who_has_the_certificate_and_the_name(
    servers: Servers, place: Place, act: object
) -> None:
    server, client = await asyncio.gather(place.ours.issue("server"), place.ours.issue("client"))
    theirs, stranger, other, expired = await asyncio.gather(
        place.foreign.issue("server"),
        place.foreign.issue("client"),
        place.ours.issue("other", address="DNS:other.example"),
        place.ours.issue("expired", days=-1),
    )
    contexts = {
        "right": server_context(*server),
        "another authority": server_context(*theirs),
        "another name": server_context(*other),
        "expired": server_context(*expired),
    }
    certificates = {"client's certificate": client, "a client's certificate of another authority": stranger}
    url = {
        broker: servers.amqp_url,
        management_api: servers.management_url,
        database: servers.database_url,
    }[act]  # type: ignore[index]
    happened: dict[str, bool] = {}
    for case in CASES:
        context = contexts.get(case) or server_context(*server, place.ours.certificate)
        files = {"cafile": str(place.ours.certificate)}
        if case in certificates:
            files |= zip(("certfile", "keyfile"), map(str, certificates[case]), strict=True)
        async with in_front_of(url, context) as port:
            try:
                await act(servers, port, files)  # type: ignore[operator]
            except REFUSED:
                happened[case] = False
            else:
                happened[case] = True

    assert happened == CASES


def test_the_check_of_the_brokers_certificate_cannot_be_switched_off() -> None:
    with pytest.raises(WrongUrlError, match="would believe any certificate"):
        parse("amqps://wallet:secret@broker/?no_verify_ssl=1")


async def test_a_worker_that_does_not_believe_the_broker_or_the_database_says_why(
    servers: Servers, workers: Workers, place: Place
) -> None:
    theirs = server_context(*await place.foreign.issue("server"))
    believed = str(place.ours.certificate)
    async with (
        in_front_of(servers.amqp_url, theirs) as broker_port,
        in_front_of(servers.database_url, theirs) as database_port,
    ):
        options = {"sslmode": "verify-full", "sslrootcert": believed}
        of_broker = await workers.launch(
            WALLET_AMQP_URL=at(servers.amqp_url, broker_port, "amqps", {"cafile": believed})
        )
        of_database = await workers.launch(
            WALLET_DATABASE_URL=at(servers.database_url, database_port, "postgresql", options)
        )

        broker_line = (await of_broker.until_event("consumer.waiting"))[0]
        database_line = (await of_database.until_event("database.waiting"))[0]

    assert "its certificate is not believed" in str(broker_line["reason"])
    assert "certificate" in str(database_line["reason"])
    logs = of_broker.log() + of_database.log()
    for url in (servers.amqp_url, servers.database_url):
        password = urlsplit(url).password
        assert not password or password not in logs
