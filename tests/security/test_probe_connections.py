"""The small HTTP server answers probes, however many connections are opened and say nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from wallet_worker.telemetry import connections, endpoints
from wallet_worker.telemetry.health import Health
from wallet_worker.telemetry.metrics import Metrics

HALF = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Give the port of a server as a worker starts it."""
    server = endpoints.server("127.0.0.1", 0, Health(), Metrics())
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn has no signal for it
        await asyncio.sleep(0.01)
    yield server.port
    server.should_exit = True
    await serving


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HALF + b"Connection: close\r\n\r\n")
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_half_requests_are_closed_in_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HALF)

    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):  # the same, said less politely
            assert await reader.read() == b""
    writer.close()


async def test_a_header_that_comes_byte_by_byte_has_no_more_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async with asyncio.timeout(5):
        while not writer.is_closing() and not reader.at_eof():
            writer.write(b"X")
            with suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(0.02)
    writer.close()


async def test_a_probe_is_answered_while_six_hundred_connections_say_nothing(port: int) -> None:
    silent = []
    for _ in range(600):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HALF)
        silent.append(writer)

    answer = await ask(port)

    assert answer.startswith(b"HTTP/1.1 200")
    for writer in silent:
        writer.close()


async def test_a_connection_that_is_kept_can_be_used_again(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        writer.write(HALF + b"\r\n")
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'{"status":"alive"}'))
        assert head.startswith(b"HTTP/1.1 200")
    writer.close()
