"""RabbitMQ's management API: where it is, on any node that answers, and calls that give a password to nobody else.

There is no redirect that is followed and no proxy of the environment that is used: both would be told the password.
"""

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from typing_extensions import override
from yarl import URL

from wallet_worker.broker.addresses import split
from wallet_worker.broker.connection import describe

PORT: Final = 15672
SECONDS: Final = 5.0


class ManagementError(Exception):
    """The management API refused, or did not answer as it should; the text is for people.

    `status` is that of HTTP, where there is one.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class UnreachableError(ManagementError):
    """Nothing answered."""


@dataclass(frozen=True, slots=True)
class Management:
    """The management API of one broker, for one vhost. Each of the `nodes` is asked until one answers."""

    nodes: tuple["Node", ...]
    vhost: str

    def get(self, *path: str) -> Any:
        """Return what a GET answers. Raises ManagementError."""
        return self.call("GET", *path)

    def call(self, method: str, *path: str, body: object = None) -> Any:
        """Return the answer's JSON, if there is any. `path` is in parts, quoted here. Raises ManagementError."""
        where = "/".join(quote(part, safe="") for part in path)
        data = None if body is None else json.dumps(body).encode()
        for node in self.nodes[:-1]:
            with suppress(UnreachableError):
                return node.call(method, where, data)
        return self.nodes[-1].call(method, where, data)


@dataclass(frozen=True, slots=True)
class Node:
    """The management API of one node."""

    base: str
    user: str
    password: str = field(repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)

    def call(self, method: str, where: str, data: bytes | None) -> Any:
        """Return the answer's JSON, if there is any; raises ManagementError, or UnreachableError if nobody answers."""
        credentials = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 -- an operator's URL, of http or https: see `management`
            f"{self.base}/api/{where}",
            method=method,
            data=data,
            headers={"Content-Type": "application/json"},
        )
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), urllib.request.ProxyHandler({})]
        if self.context is not None:
            handlers.append(urllib.request.HTTPSHandler(context=self.context))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=SECONDS) as response:
                answer = response.read()
            return json.loads(answer) if answer else None
        except urllib.error.HTTPError as exc:
            exc.close()
            raise ManagementError(f"{method} {where} was answered with {exc.code}", exc.code) from None
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "reason", None)
            raise UnreachableError(describe(reason if isinstance(reason, Exception) else exc)) from exc
        except Exception as exc:  # http.client's, of whatever listens there
            raise ManagementError("what listens there does not speak HTTP as it should") from exc


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    @override
    def redirect_request(self, *_: Any) -> None:
        """Follow none: it comes out as the status that it is."""
        return


def management(broker_url: str, management_url: str | None) -> Management | None:
    """Return where the management API is; nothing where nobody said so and the broker is spoken to with TLS.

    Both may be several addresses of one cluster. Without an address of its own it is on the usual port of each of the
    broker's hosts, with the same user, in plain http: that is for brokers that are spoken to in the clear anyway. With
    https the CA and the client certificate are those of the broker's address. Raises ValueError for an address that is
    none, and OSError for files that cannot be read.
    """
    brokers = [URL(url) for url in split(broker_url)]
    broker = brokers[0]
    if management_url:
        addresses = [URL(url) for url in split(management_url)]
        if any(address.scheme not in {"http", "https"} or not address.host for address in addresses):
            raise ValueError("it should look like https://user:password@host:15671")
    elif broker.scheme == "amqps":
        return None
    else:
        addresses = [URL.build(scheme="http", host=each.host or "localhost", port=PORT) for each in brokers]
    return Management(
        nodes=tuple(_node(address, broker) for address in addresses),
        vhost=broker.path.removeprefix("/").replace("%2F", "/").replace("%2f", "/") or "/",
    )


def _node(address: URL, broker: URL) -> Node:
    context: ssl.SSLContext | None = None
    if address.scheme == "https":
        query = broker.query
        context = ssl.create_default_context(cafile=query.get("cafile"))
        if certificate := query.get("certfile"):
            context.load_cert_chain(certificate, query.get("keyfile"))
    return Node(
        base=str(address.with_user(None).with_query(None).with_fragment(None)).rstrip("/"),
        user=address.user or broker.user or "guest",
        password=address.password or broker.password or "guest",
        context=context,
    )
