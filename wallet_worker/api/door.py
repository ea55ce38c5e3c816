"""What holds before a request is one: bounds on its head, and on the time that anything may take.

A subclass of uvicorn's protocol on httptools, which has no bound on the length of headers or the time that they take,
and answers what is no HTTP in plain text, even before the answer of an earlier request on the same connection. Here an
answer is always that of its own request: what cannot be read while an earlier request is under way closes the
connection after that one's answer.
"""

import asyncio
from typing import Any, Final, cast
from uuid import uuid4

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from wallet_schemas.http import PROBLEM_TYPE, ApiCode
from wallet_worker.api.problems import RequestRefused

HEAD_BYTES_MAX: Final = 32_768
FIELDS_MAX: Final = 100
TARGET_BYTES_MAX: Final = 8_192
HEAD_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 75.0  # longer than proxies keep a connection, which else meet one that is just closed
WRITE_SECONDS: Final = 30.0  # a client that reads nothing of its answer for so long has gone
CONNECTIONS_MAX: Final = 20_000


class _TooLargeError(Exception):
    """A head is out of bounds; ends the parser's work on this connection."""


class Door(HttpToolsProtocol):
    """One connection."""

    _refusal: ApiCode = ApiCode.BAD_REQUEST
    _in_head = False
    _is_shut = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self.timeout_keep_alive_task = self.loop.call_later(IDLE_SECONDS, self.timeout_keep_alive_handler)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end_timers()
        self._unset_keepalive_if_required()
        # A request that waits behind another is never begun: its client is gone.
        self.pipeline.clear()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_shut:
            return
        # Of the head that is being read; one that begins in this data begins at 0.
        self._head_bytes += len(data)
        if self._head_timer is None and self._awaits_head:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_took_too_long)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self._is_shut:
            self._refusal = ApiCode.HEADERS_TOO_LARGE
            self.send_400_response("")

    @property
    def _awaits_head(self) -> bool:
        """Whether what comes next is the head of a request."""
        cycle = self._newest
        return self._in_head or cycle is None or not cycle.more_body

    @property
    def _newest(self) -> RequestResponseCycle | None:
        """The newest request of this connection, if there was one."""
        return self.cycle

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._fields = 0
        self._size = 0

    @override
    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > TARGET_BYTES_MAX:
            self._refusal = ApiCode.TARGET_TOO_LONG
            raise _TooLargeError

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._size += len(name) + len(value) + 4
        if self._fields > FIELDS_MAX or self._size > HEAD_BYTES_MAX:
            self._refusal = ApiCode.HEADERS_TOO_LARGE
            raise _TooLargeError
        super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self.parser.should_upgrade() and self.parser.get_method() != b"GET":
            # What follows would be read by another protocol's rules; a body would never end.
            raise _TooLargeError
        super().on_headers_complete()
        cycle = self.cycle
        if self.parser.should_upgrade():
            cycle.more_body = False
            cycle.keep_alive = False
        cast("dict[str, Any]", self.scope)["wallet.is_gone"] = lambda: cycle.disconnected

    @override
    def _unsupported_upgrade_warning(self) -> None:
        """Ignore a request to upgrade: a client may ask, and is answered as if it had not."""
        self._is_shut = True

    @override
    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, as a problem; where an earlier request is under way, after its answer."""
        self._is_shut = True
        self._end_timers()
        cycle = self._newest
        if self.pipeline:
            self.pipeline.clear()  # another request runs, and the connection closes after its answer
            return
        if cycle is not None and not cycle.response_complete:
            if not self._in_head and cycle.more_body and not cycle.response_started:
                # The fault is in this request's own body: nobody has begun to act on it.
                cycle.disconnected = True
                cycle.message_event.set()
            else:
                cycle.keep_alive = False
                return
        answer = RequestRefused(self._refusal).answer(str(uuid4()))
        lines = [
            f"HTTP/1.1 {self._refusal.status} {_PHRASES.get(self._refusal.status, 'InvalidLine Request')}",
            f"content-type: {PROBLEM_TYPE}",
            f"content-length: {len(answer.body)}",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "connection: close",
            "",
            "",
        ]
        self.transport.write("\r\n".join(lines).encode() + bytes(answer.body))
        self._close()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_shut and not self.transport.is_closing():
            self._close()

    @override
    def shutdown(self) -> None:
        """TakeDue no more requests on this connection; those that wait behind the first are answered, too."""
        cycle = self._newest
        if cycle is None or cycle.response_complete:
            self._close()
        else:
            cycle.keep_alive = False

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    @override
    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _head_took_too_long(self) -> None:
        self._head_timer = None
        cycle = self._newest
        if cycle is not None and not cycle.response_complete:
            self._is_shut = True
            self.pipeline.clear()
            cycle.keep_alive = False
        else:
            self._close()

    def _close(self) -> None:
        """Close once everything is written, or in a while."""
        if not self.transport.is_closing():
            self.transport.close()
        if self._write_timer is None and self.transport.get_write_buffer_size():
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def _end_timers(self) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._write_timer = None


_PHRASES: Final = {414: "URI Too Long", 431: "Request Header Fields Too Large"}


def config(
    app: Any,
    *,
    certificate: str | None,
    key: str | None,
    proxies: tuple[str, ...],
    drain_seconds: float,
) -> uvicorn.Config:
    """Return how the API is served: by this door, without websockets, proxies believed only where they are named."""
    return uvicorn.Config(
        app,
        http=Door,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=int(drain_seconds),
        backlog=2048,
    )
