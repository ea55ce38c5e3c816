"""A bound on the connections of the small HTTP servers, and on the time that half a request may take.

They answer probes: whoever opens connections and says nothing must not keep an orchestrator from asking.
"""

import asyncio
from typing import Final

from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

CONNECTIONS_MAX: Final = 64
REQUEST_SECONDS: Final = 5.0
"""From the first moment of a connection, or from the end of a request, to the end of the next one's headers."""


class BoundedConnection(H11Protocol):
    """A connection that is closed when its next request does not come in time.

    With as many connections as there may be, a new one takes the place of the oldest that has asked nothing yet.
    """

    _timer: asyncio.TimerHandle | None = None
    _since: float = 0.0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > CONNECTIONS_MAX:
            silent = [
                connection
                for connection in self.connections
                if isinstance(connection, BoundedConnection) and not connection.is_answering
            ]
            min(silent, key=lambda silent_connection: silent_connection._since).transport.abort()  # noqa: SLF001 -- of this very class
        self._wait()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = (
            self.cycle
        )  # none before the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    def _wait(self) -> None:
        if self.is_answering:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)
