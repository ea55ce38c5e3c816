"""Connecting to the broker, with limits on every wait and one clear sentence for every failure."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractConnection
from aiormq.channel import Channel
from yarl import URL

from wallet_worker.broker.addresses import in_turn, redact_url, worked

CONNECT_SECONDS = 10.0
CONNECT_SECONDS_EACH = 3.0  # where there are others to try: a node that is silent is given up soon
CLOSE_SECONDS = 5.0
RPC_SECONDS = 10.0
HEARTBEAT_SECONDS = 10  # a dead peer is found after three of them; the default of 60 would take three minutes

CONNECTION_ERRORS = (
    aiormq.exceptions.AMQPError,
    aiormq.exceptions.ChannelInvalidStateError,  # no AMQPError: the channel was closed before the call
    OSError,
    TimeoutError,
    asyncio.InvalidStateError,
)
"""What a lost, refused or broken connection is raised as."""


class BrokerUnavailableError(Exception):
    """The broker cannot be reached, or the connection was lost: try again later."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise BrokerUnavailableError where a call ends because its connection did, and the library says so badly.

    aiormq ends calls whose peer fell silent, or whose connection is closed meanwhile, with CancelledError, as if
    somebody had cancelled the task that waits: a task group takes that for its quiet end. Or with a bare Exception.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        msg = "the connection was lost during a call"
        raise BrokerUnavailableError(msg) from None
    except Exception as exc:
        if type(exc) is not Exception:
            raise
        msg = "the connection was closed during a call"
        raise BrokerUnavailableError(msg) from exc


async def connect(
    url: str, name: str, deliveries: aiormq.TransportFactory | None = None
) -> AbstractConnection:
    """Return a connection that ends when it is lost; whoever owns it connects anew.

    `url` may be several addresses of one cluster: a node that does not answer is passed over. `name` is what operators
    see in the broker's list; `deliveries` is there if some are to be taken out of the stream. Raises WrongUrlError or
    BrokerUnavailableError.
    """
    found = tuple(in_turn(url))
    failures: list[BrokerUnavailableError] = []
    for text, address in found:
        try:
            connection = await _connect(
                text, address, name, deliveries, CONNECT_SECONDS if len(found) == 1 else CONNECT_SECONDS_EACH
            )
        except BrokerUnavailableError as exc:
            failures.append(exc)
        else:
            worked(url, text)
            return connection
    if len(failures) == 1:
        raise failures[0]
    msg = "no node of the broker can be worked with: " + "; ".join(sorted(map(str, failures)))
    raise BrokerUnavailableError(msg) from failures[-1]


async def _connect(
    url: str, address: URL, name: str, deliveries: aiormq.TransportFactory | None, seconds: float
) -> AbstractConnection:
    """Return a connection to one node, within so many seconds; raises BrokerUnavailableError."""
    try:
        with translate_errors():
            connection = aio_pika.Connection(
                address.update_query({"heartbeat": str(HEARTBEAT_SECONDS), "name": name})
            )
            if deliveries is not None:
                connection.kwargs["transport_factory"] = deliveries
            async with asyncio.timeout(seconds):
                await connection.connect()
            return connection
    except ssl.SSLError as exc:
        msg = f"the broker at {redact_url(url)} does not speak TLS as it should: {_tls_fault(exc)}"
        raise BrokerUnavailableError(msg) from exc
    except aiormq.exceptions.InvalidFrameError as exc:
        msg = f"the broker at {redact_url(url)} does not open the virtual host: is there one of this name?"
        raise BrokerUnavailableError(msg) from exc
    except (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError) as exc:
        msg = f"the broker at {redact_url(url)} does not take the user or the password"
        raise BrokerUnavailableError(msg) from exc
    except CONNECTION_ERRORS as exc:
        msg = f"the broker at {redact_url(url)} cannot be reached: {describe(exc)}"
        raise BrokerUnavailableError(msg) from exc


def _tls_fault(exc: ssl.SSLError) -> str:
    """Return what is wrong in words, without the place in OpenSSL's sources."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {exc.verify_message}"
    return (exc.reason or "no connection came about").replace("_", " ").lower()


async def close(connection: AbstractConnection) -> None:
    """Close, and do not wait for a peer that no longer answers."""
    with suppress(BrokerUnavailableError, *CONNECTION_ERRORS), translate_errors():
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()


@asynccontextmanager
async def open_connection(
    url: str, name: str, deliveries: aiormq.TransportFactory | None = None
) -> AsyncIterator[AbstractConnection]:
    """Give a connection that is closed in the end."""
    connection = await connect(url, name, deliveries)
    try:
        yield connection
    finally:
        await close(connection)


async def open_channel(connection: AbstractConnection, *, confirms: bool = False) -> Channel:
    """Return a bare channel: aiormq's, which costs a fifth of aio-pika's own for each message.

    With `confirms`, a publish returns once the broker has taken the message, and raises if a mandatory
    message went nowhere. Raises BrokerUnavailableError.
    """
    try:
        with translate_errors():
            channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
            async with asyncio.timeout(RPC_SECONDS):
                await channel.initialize()
                return cast("Channel", await channel.get_underlay_channel())
    except (
        RuntimeError,
        *CONNECTION_ERRORS,
    ) as exc:  # a bare RuntimeError for a connection that has just been lost
        msg = f"no channel could be opened: {describe(exc)}"
        raise BrokerUnavailableError(msg) from exc


def server_version(connection: AbstractConnection) -> str:
    """Return what the broker says that its version is."""
    transport = connection.transport
    if transport is None:
        return ""
    properties = cast("dict[str, object]", transport.connection.server_properties)
    version = properties.get("version", "")
    return version.decode() if isinstance(version, bytes) else str(version)


_IN_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiormq.exceptions.AuthenticationError, "it does not take the user or the password"),
    (aiormq.exceptions.ProbableAuthenticationError, "it does not take the user or the password"),
    (ConnectionRefusedError, "nobody listens there"),
    (socket.gaierror, "its host is not known"),
    (TimeoutError, "it does not answer in time"),
    (asyncio.InvalidStateError, "the connection was closed"),
    (aiormq.exceptions.ChannelInvalidStateError, "the connection was closed"),
)
_of_the_system: Final = re.compile(r"^\[Errno \d+\] |^\(\d+, .*|Connect call failed.*")


def describe(exc: BaseException) -> str:
    """Return an exception as one clause for a person: what it means, and not what the library calls it."""
    seen: BaseException | None = exc
    while seen is not None:  # the library wraps what the system said
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its certificate is not believed: {seen.verify_message}"
        if isinstance(seen, ssl.SSLError):
            return f"it does not speak TLS as it should: {seen.reason or seen}"
        for kind, words in _IN_WORDS:
            if isinstance(seen, kind):
                return words
        seen = seen.__cause__
    text = (exc.strerror if isinstance(exc, OSError) else None) or str(exc).strip()
    if "ConnectionResetError" in text or isinstance(exc, ConnectionError) or "IncompleteRead" in text:
        return "the connection was closed at the other end"
    if "Connect call failed" in text or "Connection refused" in text:
        return "nobody listens there"
    return _of_the_system.sub("", text).strip() or "the connection was lost"
