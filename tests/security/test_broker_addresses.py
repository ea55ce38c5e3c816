"""Addresses show no secret, and the broker's password goes to nobody but the broker."""

import asyncio
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit, urlunsplit

import pytest
from typing_extensions import override

from tests.servers import Servers
from wallet_worker.broker import users
from wallet_worker.broker.addresses import redact_url
from wallet_worker.broker.management import Management, ManagementError, Node, management
from wallet_worker.client import NotAcceptedError, WalletClient


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:TOP@SECRET@h:5672/v", "amqp://h:5672/v"),
        ("amqp://u:TOP/SECRET@h", "amqp://h"),
        ("amqp://u:TOP?SECRET#@h/v", "amqp://h/v"),
        ("amqps://TOPSECRET@h/v?certfile=/TOP/SECRET", "amqps://h/v"),
        ("postgresql://u@h/db?password=TOPSECRET", "postgresql://h/db"),
        ("amqp://u:TOP,SECRET@h/v, amqp://u:TOP,SECRET@g/v", "amqp://h/v, amqp://g/v"),
        ("amqp://u:TOPSECRET@h/v,ampq://u:TOPSECRET@g/v", "amqp://g/v"),
        ("TOPSECRET", "(not shown: it does not look like one)"),
        ("TOP SECRET://h", "(not shown: it does not look like one)"),
    ],
)
def test_an_address_shows_its_host_only(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("broker", "given", "base"),
    [
        ("amqp://u:p@h/v", None, "http://h:15672"),
        ("amqps://u:p@h/v", "https://m:15671", "https://m:15671"),
        ("amqp://u:p@h/v", "http://a:b@m:1/", "http://m:1"),
        ("amqp://u:p@h/v, amqp://u:p@g/v", None, "http://h:15672 http://g:15672"),
        ("amqp://u:p@h/v amqp://u:p@g/v", "http://a:b@m:1/,http://a:b@n:1", "http://m:1 http://n:1"),
    ],
)
def test_the_management_api_is_where_it_is_said_to_be(broker: str, given: str | None, base: str) -> None:
    found = management(broker, given)

    assert found is not None
    assert (" ".join(node.base for node in found.nodes), found.vhost) == (base, "v")
    assert all((node.context is None) == base.startswith("http:") for node in found.nodes)
    assert "p" not in repr(found).replace("http", "").replace("vhost", "").split("password")[0][-8:]


def test_with_tls_there_is_no_management_api_that_nobody_named() -> None:
    assert management("amqps://u:p@h/v", None) is None


@pytest.mark.parametrize("url", ["ftp://h", "h", "//h"])
def test_an_address_of_the_management_api_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="it should look like"):
        management("amqp://h/", url)


@contextmanager
def answering(status: int, location: str) -> Iterator[tuple[int, list[str | None]]]:
    """Give the port of a server that answers everything so, and the Authorization that it was told each time."""
    heard: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Location", location)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        @override
        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port, heard
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_with_or_without_the_password(status: int) -> None:
    with (
        answering(200, "") as (thief, stolen),
        answering(status, f"http://127.0.0.1:{thief}/") as (port, notified),
    ):
        api = Management((Node(f"http://127.0.0.1:{port}", "wallet", "brokerpw"),), "/")

        with pytest.raises(ManagementError, match=str(status)):
            api.get("queues", "/")

    assert len(notified) == 1
    assert stolen == []


def test_no_proxy_of_the_environment_is_told_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, "") as (thief, stolen), answering(200, "") as (port, notified):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{thief}")

        Management((Node(f"http://127.0.0.1:{port}", "wallet", "brokerpw"),), "/").get("queues", "/")

    assert (len(notified), stolen) == (1, [])


async def test_a_client_that_may_not_send_something_is_told_that_it_was_not_sent(
    servers: Servers, amqp_url: str
) -> None:
    api = management(amqp_url, servers.management_url)
    assert api is not None
    name, password = f"till-{secrets.token_hex(3)}", secrets.token_urlsafe(16)
    user = users.upstream(name, ["account.open"])
    await asyncio.to_thread(users.apply, api, [user], {user.name: password})
    parts = urlsplit(amqp_url)
    url = urlunsplit(parts._replace(netloc=f"{user.name}:{password}@{parts.netloc.rpartition('@')[2]}"))

    try:
        async with WalletClient(url, timeout_seconds=10) as wallet:
            with pytest.raises(NotAcceptedError, match=r"may not send it: .*order\.transfer"):
                await wallet.transfer("alice", "bob", "1.00", "TWD")
    finally:
        await asyncio.to_thread(api.call, "DELETE", "users", user.name)
