"""RabbitMQ's management API: where it is, and calls that give a password to nobody else.

There is no redirect that is followed and no proxy of the environment that is used: both would be told the password.
"""

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from typing_extensions import override
from yarl import URL

from wallet_worker.broker.connection import describe

PORT: Final = 15672
SECONDS: Final = 5.0


class ManagementError(Exception):
    """The management API refused, or did not answer as it should; the text is for people."""


@dataclass(frozen=True, slots=True)
class Management:
    """The management API of one broker, for one vhost."""

    base: str
    user: str
    password: str = field(repr=False)
    vhost: str
    context: ssl.SSLContext | None = field(default=None, repr=False)

    def get(self, *path: str) -> Any:
        """Return what a GET answers. Raises ManagementError."""
        return self.call("GET", *path)

    def call(self, method: str, *path: str, body: object = None) -> Any:
        """Return the answer's JSON, if there is any. `path` is in parts, quoted here. Raises ManagementError."""
        where = "/".join(quote(part, safe="") for part in path)
        credentials = b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 -- an operator's URL, of http or https: see `management`
            f"{self.base}/api/{where}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
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
            raise ManagementError(f"{method} {where} was answered with {exc.code}") from None
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "reason", None)
            raise ManagementError(describe(reason if isinstance(reason, Exception) else exc)) from exc
        except Exception as exc:  # http.client's, of whatever listens there
            raise ManagementError("what listens there does not speak HTTP as it should") from exc


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    @override
    def redirect_request(self, *_: Any) -> None:
        """Follow none: it comes out as the status that it is."""
        return


def management(broker_url: str, management_url: str | None) -> Management | None:
    """Return where the management API is; nothing where nobody said so and the broker is spoken to with TLS.

    Without an address of its own it is on the usual port of the broker's host, with the same user, in plain http:
    that is for brokers that are spoken to in the clear anyway. With https the CA and the client certificate are those
    of the broker's address. Raises ValueError for an address that is none, and OSError for files that cannot be read.
    """
    broker = URL(broker_url)
    if management_url:
        address = URL(management_url)
        if address.scheme not in {"http", "https"} or not address.host:
            raise ValueError("it should look like https://user:password@host:15671")
    elif broker.scheme == "amqps":
        return None
    else:
        address = URL.build(scheme="http", host=broker.host or "localhost", port=PORT)
    context: ssl.SSLContext | None = None
    if address.scheme == "https":
        query = broker.query
        context = ssl.create_default_context(cafile=query.get("cafile"))
        if certificate := query.get("certfile"):
            context.load_cert_chain(certificate, query.get("keyfile"))
    return Management(
        base=str(address.with_user(None).with_query(None).with_fragment(None)).rstrip("/"),
        user=address.user or broker.user or "guest",
        password=address.password or broker.password or "guest",
        vhost=broker.path.removeprefix("/").replace("%2F", "/").replace("%2f", "/") or "/",
        context=context,
    )
