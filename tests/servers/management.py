"""The broker's HTTP API, as far as tests need it."""

import asyncio
import base64
import json
import urllib.request
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from tests.servers.server import ServersUnavailable

TIMEOUT_SECONDS = 30  # a vhost is made in well under one, but not while the broker is under load


class Management:
    """A client for the HTTP API of RabbitMQ's management plugin."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        self._user = unquote(user)
        self._authorization = (
            "Basic " + base64.b64encode(f"{self._user}:{unquote(password)}".encode()).decode()
        )
        self._url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")

    async def create_vhost(self, name: str) -> None:
        """The vhost is there, and this user may do everything in it."""
        await self.put(f"/api/vhosts/{quote(name, safe='')}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        await self.put(f"/api/permissions/{quote(name, safe='')}/{quote(self._user, safe='')}", everything)

    async def delete_vhost(self, name: str) -> None:
        """The vhost is gone, with its queues and connections."""
        await self._call("DELETE", f"/api/vhosts/{quote(name, safe='')}")

    async def get(self, path: str) -> Any:
        """Give the parsed answer to GET `path`, such as `/api/overview`. Raises ServersUnavailable."""
        return json.loads(await self._call("GET", path))

    async def put(self, path: str, body: dict[str, Any]) -> None:
        """The resource is as `body` says. Raises ServersUnavailable."""
        await self._call("PUT", path, json.dumps(body).encode())

    async def delete(self, path: str) -> None:
        """The resource is gone, which may be a connection: this closes it. Raises ServersUnavailable."""
        await self._call("DELETE", path)

    async def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - http or https, from a URL of ours or the caller's setting
            self._url + path,
            data=body,
            method=method,
            headers={"Authorization": self._authorization, "Content-Type": "application/json"},
        )
        return await asyncio.to_thread(_read, request)


def _read(request: urllib.request.Request) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - see above
            content: bytes = answer.read()
            return content
    except (URLError, OSError) as why:
        raise ServersUnavailable(
            f"the broker's HTTP API did not do {request.method} {request.full_url}: {why}; "
            "if it is elsewhere, set WALLET_MANAGEMENT_URL"
        ) from why
