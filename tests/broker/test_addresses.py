"""Several addresses of one cluster: a node that is dead or silent is passed over, by every part of the wallet."""

import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from yarl import URL

from payment_simulator import broker as gateway_broker
from tests.servers.ports import free_ports
from tests.workers import Workers
from wallet_worker.broker import addresses, connection
from wallet_worker.broker.addresses import WrongUrlError
from wallet_worker.broker.connection import BrokerUnavailableError, open_connection
from wallet_worker.client import WalletClient

SILENCE_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _no_node_has_worked_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin at the first address, and not at one at random."""
    monkeypatch.setattr(random, "randrange", lambda _: 0)
    monkeypatch.setattr(connection, "CONNECT_SECONDS_EACH", SILENCE_SECONDS)
    kept = dict(addresses._worked_last)
    addresses._worked_last.clear()
    yield
    addresses._worked_last.clear()
    addresses._worked_last.update(kept)


def elsewhere(url: str, port: int) -> str:
    """Return an address with the same login and vhost on another port."""
    return str(URL(url).with_port(port))


@pytest.fixture
def dead_url(bare_url: str) -> str:
    """Give the address of a node that is down."""
    return elsewhere(bare_url, *free_ports(1))


@contextmanager
def silent_node(url: str) -> Iterator[str]:
    """Give the address of a node that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield elsewhere(url, listener.getsockname()[1])


async def connected_port(urls: str) -> int:
    """Return the port of the node that a connection leads to."""
    async with open_connection(urls, "tests") as opened:
        assert opened.transport is not None
        return opened.transport.connection.url.port or 0


@pytest.mark.parametrize("between", [",", " ", ", ", "\n"])
def test_addresses_are_separated_by_commas_or_blanks(between: str) -> None:
    first, second = "amqp://u:a,b c@one:1/v", "amqp://u:a,b c@two/v?heartbeat=5"

    assert addresses.split(between.join([first, second])) == (first, second)


@pytest.mark.parametrize(
    "urls",
    [
        "amqp://u:SECRET@one/v, amqp://u:SECRET@two/w",
        "amqp://u:SECRET@one/v, amqp://other:SECRET@two/v",
        "amqps://u:SECRET@one/v, amqp://u:SECRET@two/v",
        "amqp://u:SECRET@one/v, http://u:SECRET@two/v",
    ],
)
def test_addresses_of_different_brokers_are_refused_without_showing_a_secret(urls: str) -> None:
    with pytest.raises(WrongUrlError) as raised:
        addresses.parse(urls)

    assert "SECRET" not in str(raised.value)


async def test_a_dead_node_is_passed_over_and_the_one_that_worked_is_tried_first(
    bare_url: str, dead_url: str
) -> None:
    urls = f"{dead_url}, {bare_url}"

    port = await connected_port(urls)

    assert port == URL(bare_url).port
    assert next(addresses.in_turn(urls))[0] == bare_url


async def test_a_silent_node_is_given_up_soon(bare_url: str) -> None:
    with silent_node(bare_url) as silent_url:
        port = await connected_port(f"{silent_url} {bare_url}")

    assert port == URL(bare_url).port


async def test_when_no_node_answers_each_is_said_without_its_password(dead_url: str) -> None:
    with silent_node(dead_url) as silent_url, pytest.raises(BrokerUnavailableError) as raised:
        await connected_port(f"{dead_url},{silent_url}")

    said = str(raised.value)
    assert said.startswith("no node of the broker can be worked with: ")
    assert "nobody listens there" in said
    assert "it does not answer in time" in said
    assert str(URL(dead_url).password) not in said


def test_a_process_moves_on_once_however_many_of_its_parts_have_failed() -> None:
    urls = "amqp://one amqp://two amqp://three"
    addresses.worked(urls, "amqp://one")
    place = addresses.place_of(urls)

    addresses.move_on(urls, place)
    addresses.move_on(urls, place)

    assert [text for text, _ in addresses.in_turn(urls)] == ["amqp://two", "amqp://three", "amqp://one"]


async def test_processes_begin_at_different_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "randrange", lambda count: count - 1)

    assert next(addresses.in_turn("amqp://one amqp://two amqp://three"))[0] == "amqp://three"


async def test_a_worker_and_a_client_work_while_a_node_is_dead(
    workers: Workers, amqp_url: str, dead_url: str
) -> None:
    urls = f"{dead_url}, {amqp_url}"
    workers.amqp_url = urls

    await workers.start()
    async with WalletClient(urls) as client:
        await client.open_account("u1", "TWD")
        found = await client.account("u1")

    assert len(found.accounts) == 1


async def test_the_simulated_gateway_passes_over_a_dead_node(amqp_url: str, dead_url: str) -> None:
    urls = gateway_broker.parse_urls(f"{dead_url}, {amqp_url}")

    async with gateway_broker.connect(urls) as link:
        assert link is not None


def test_the_simulated_gateway_refuses_addresses_of_different_brokers() -> None:
    with pytest.raises(gateway_broker.UrlUnusable, match="same scheme, user and vhost"):
        gateway_broker.parse_urls("amqp://u@one/v, amqp://u@two/w")


def test_the_simulated_gateway_shows_no_password() -> None:
    shown = gateway_broker.shown(gateway_broker.parse_urls("amqp://u:SECRET@one/v, amqp://u:SECRET@two/v"))

    assert not re.search("SECRET", shown)
