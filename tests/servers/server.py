"""What every server has in common, wherever it comes from."""

import socket
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

START_SECONDS = 120  # a broker on a busy machine with one core has needed 40
STOP_SECONDS = 60
POLL_SECONDS = 0.02

Say: TypeAlias = Callable[[str], None]  # told, in one line each, what takes long


class ServersUnavailable(Exception):  # noqa: N818 - an everyday state of a machine, told to a person
    """No way to have servers was open; the text says which were tried, and what would help."""


class ServerFailed(Exception):  # noqa: N818 - named as what happened
    """A server did not start or did not stop; the text ends with the last lines of its log."""


class NotControlled(Exception):  # noqa: N818 - named as what is true
    """The server was given by its URL: it is not ours to stop."""


class Server(Protocol):
    """One running server and the ways to hurt it."""

    @property
    def processes(self) -> tuple[int, ...]:
        """Pids on this machine, the main one first; empty when it is stopped or lives elsewhere."""

    def start(self) -> None:
        """The server answers, on the same port and the same data as before. Raises ServerFailed."""

    def stop(self) -> None:
        """The server has ended in order, as when an operator stops it. Raises ServerFailed."""

    def kill(self) -> None:
        """Every process of the server is gone, by SIGKILL; nothing was flushed or said goodbye to."""

    def freeze(self) -> None:
        """The server is stopped in its tracks: connections stay open, and nothing answers."""

    def thaw(self) -> None:
        """The server goes on after `freeze`."""


class GivenServer:
    """A server that somebody else runs, known by its URL only."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = f"{parts.hostname}:{parts.port}"  # never the whole URL: it carries a password

    @property
    def processes(self) -> tuple[int, ...]:
        """Always empty."""
        return ()

    def start(self) -> None:
        """Raise NotControlled."""
        self._refuse()

    def stop(self) -> None:
        """Raise NotControlled."""
        self._refuse()

    def kill(self) -> None:
        """Raise NotControlled."""
        self._refuse()

    def freeze(self) -> None:
        """Raise NotControlled."""
        self._refuse()

    def thaw(self) -> None:
        """Raise NotControlled."""
        self._refuse()

    def _refuse(self) -> None:
        raise NotControlled(
            f"the server at {self._address} was given by its URL: "
            "start_servers(controlled=True) starts one of our own"
        )


def wait_until(true: Callable[[], bool], *, timeout_seconds: float, failed: Callable[[], Exception]) -> None:
    """`true()` was true at least once; what `failed()` makes is raised when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while not true():
        if time.monotonic() > deadline:
            raise failed()
        time.sleep(POLL_SECONDS)


def speaks_amqp(host: str, port: int) -> bool:
    """Whether a broker there answers the AMQP 0-9-1 greeting with a frame."""
    return _answers(host, port, b"AMQP\x00\x00\x09\x01")


def speaks_http(host: str, port: int) -> bool:
    """Whether a web server there answers."""
    return _answers(host, port, b"HEAD / HTTP/1.0\r\n\r\n")


def speaks_postgres(host: str, port: int) -> bool:
    """Whether a PostgreSQL server there asks for a password, instead of saying that it is starting up."""
    # A StartupMessage of protocol 3.0; the wanted answer begins with the R of AuthenticationRequest.
    body = b"\x00\x03\x00\x00" + b"user\x00postgres\x00database\x00postgres\x00\x00"
    return _answers(host, port, (len(body) + 4).to_bytes(4, "big") + body, expected=b"R")


def speaks_epmd(port: int) -> bool:
    """Whether an Erlang port mapper on this machine answers the question for its names."""
    return _answers("127.0.0.1", port, b"\x00\x01n")  # NAMES_REQ, with its length


def _answers(host: str, port: int, greeting: bytes, *, expected: bytes | None = None) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            if connection.getsockname() == connection.getpeername():
                return False  # a port in the ephemeral range can connect to itself
            connection.sendall(greeting)
            first = connection.recv(1)
    except OSError:
        return False
    return first == expected if expected is not None else first != b""
