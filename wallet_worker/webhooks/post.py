"""One POST to an address that a stranger has named: to that very host, and nowhere else.

The host is looked up once, every address that it has must be one that may be reached, and one of those very addresses
is connected to: a name that means something else a moment later changes nothing. No redirect is followed, no proxy of
the environment is asked, and no more of an answer is read than is kept. Written on a socket: HTTP clients look hosts
up by themselves.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import httptools

from wallet_worker.core.webhooks import Network, may_reach, wrong_url

ANSWER_BYTES_MAX: Final = 1_024  # of the body; what is kept of an answer
HEAD_BYTES_MAX: Final = 16_384
TRIES_MAX: Final = 2  # addresses of one host that are connected to
_PORT: Final = 443
_FINAL: Final = 200  # what is below is no answer yet

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]


class UndeliverableError(Exception):
    """The address cannot be posted to, or gives no answer; the sentence is for a person."""


class EndpointAnswer(NamedTuple):
    """What came back: the beginning of its body, and when to come again, where the answer says so."""

    status: int
    beginning: bytes
    retry_after: str | None


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


async def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    allowed: Sequence[Network],
    context: ssl.SSLContext,
    seconds: float,
    resolver: Resolver = resolve,
) -> EndpointAnswer:
    """Return the answer to a POST; raises UndeliverableError."""
    reason = wrong_url(url, allowed)
    if reason is not None:
        raise UndeliverableError(f"the address cannot be posted to: {reason}")
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORT
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"host: {parts.netloc}",
        f"content-length: {len(body)}",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    try:
        async with asyncio.timeout(seconds):
            addresses = await _addresses(host, port, allowed, resolver)
            reader, writer = await _connect(addresses, host, port, context)
            try:
                writer.write("\r\n".join(lines).encode("ascii") + body)
                await writer.drain()
                return await _answer(reader)
            finally:
                writer.transport.abort()
                with suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()
    except TimeoutError:
        raise UndeliverableError(f"there was no answer within {seconds:g} s") from None
    except ssl.SSLError as exc:
        raise UndeliverableError(f"its certificate or its TLS is not accepted: {exc.reason}") from exc
    except OSError as exc:
        raise UndeliverableError(f"it cannot be connected to: {exc.strerror or type(exc).__name__}") from exc


async def _addresses(host: str, port: int, allowed: Sequence[Network], resolver: Resolver) -> Sequence[str]:
    try:
        found = await resolver(host, port)
    except OSError as exc:
        raise UndeliverableError("its host is not known") from exc
    if not found or not all(
        may_reach(ipaddress.ip_address(item.partition("%")[0]), allowed) for item in found
    ):
        raise UndeliverableError("its host has an address that is not public")
    return found


async def _connect(
    addresses: Sequence[str], host: str, port: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for address in addresses[: TRIES_MAX - 1]:
        with suppress(ConnectionError):
            return await asyncio.open_connection(
                address, port, ssl=context, server_hostname=host, limit=HEAD_BYTES_MAX
            )
    return await asyncio.open_connection(
        addresses[:TRIES_MAX][-1], port, ssl=context, server_hostname=host, limit=HEAD_BYTES_MAX
    )


class _Reading:
    """What the parser has found of an answer."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_whole = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body = (self.body + body)[:ANSWER_BYTES_MAX]

    def on_message_complete(self) -> None:
        self.is_whole = self.status >= _FINAL

    @property
    def is_enough(self) -> bool:
        return self.is_whole or (self.status >= _FINAL and len(self.body) >= ANSWER_BYTES_MAX)


async def _answer(reader: asyncio.StreamReader) -> EndpointAnswer:
    reading = _Reading()
    size = 0
    while not reading.is_enough and (data := await reader.read(4_096)):
        size += len(data)
        if size > HEAD_BYTES_MAX + ANSWER_BYTES_MAX:
            break
        try:
            reading.parser.feed_data(data)
        except httptools.HttpParserError as exc:
            raise UndeliverableError("what it answers is no HTTP") from exc
    if reading.status < _FINAL:
        raise UndeliverableError("it closed the connection without an answer")
    return EndpointAnswer(reading.status, reading.body, reading.headers.get("retry-after"))
