"""`GET /healthz` for compose and demos: 200 while requests are being consumed, 503 while they are not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """How the gateway is: whether it consumes, and what it did since it started."""

    consuming: bool
    requests: Mapping[str, int]
    answers_sent: int


class CannotBind(Exception):  # noqa: N818 - named after what is wrong
    """Nothing can be served there; the text is for people."""


@asynccontextmanager
async def serve(address: tuple[str, int], report: Callable[[], GatewayReport]) -> AsyncIterator[None]:
    """Inside, the report is served; raises AddressUnusable if it cannot be bound."""

    async def healthz(_: Request) -> JSONResponse:
        now = report()
        return JSONResponse(asdict(now), status_code=200 if now.consuming else 503)

    # Bound here: uvicorn would end the process when the port is taken.
    try:
        listener = socket.create_server(address)
    except OSError as exc:
        raise CannotBind(f"{address[0]}:{address[1]} cannot be served: {exc.strerror or exc}") from exc
    config = uvicorn.Config(
        Starlette(routes=[Route("/healthz", healthz)]), log_config=None, access_log=False, lifespan="off"
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """A server that leaves the signals to the program that it is a part of."""

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
