"""The one uvicorn server of every process: it leaves the signals alone, and says where it listens."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from typing_extensions import override


class CannotServeError(Exception):
    """Something is set up wrongly; the sentence is for a person."""


class Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to the process around it.

    `on_listening` is called with host and port once the server listens.
    """

    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[str, int], None] | None = None
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @property
    def port(self) -> int:
        """The port that it listens on, once it does."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        if self._on_listening is not None and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._on_listening(host, port)


async def serve_probes(web: Server) -> None:
    """Serve until told to exit; raises CannotServeError if the port is taken."""
    try:
        await web.serve()
    except SystemExit as exc:  # uvicorn's way of saying that it could not bind
        msg = f"the port {web.config.port} for /healthz, /readyz and /metrics cannot be opened"
        raise CannotServeError(msg) from exc
