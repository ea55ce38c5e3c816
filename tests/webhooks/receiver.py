"""A small HTTPS server, as a client of the wallet has one: it keeps what is posted, and answers as it is told."""

import asyncio
import json
import ssl
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self


async def certificate(folder: Path) -> Path:
    """Return the file of a new certificate for localhost; its key is beside it, in `key.pem`."""
    made = await asyncio.create_subprocess_exec(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", "key.pem", "-out", "certificate.pem", "-days", "1", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        cwd=folder, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await made.wait() == 0
    return folder / "certificate.pem"


class Posted(NamedTuple):
    """One request."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The event that was posted."""
        return dict(json.loads(self.body))


class Receiver:
    """Answers with `answers`, one for each request, and then with 204."""

    def __init__(self, certificate_file: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate_file, certificate_file.parent / "key.pem")
        self._server: asyncio.Server | None = None
        self.answers: deque[bytes] = deque()
        self.posted: list[Posted] = []
        self.connections = 0
        self._came = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where events are posted."""
        return f"https://localhost:{self.port}/wallet?of=shop"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self.gate.set()
        self._server.close()
        await self._server.wait_closed()

    def will_answer(self, *statuses: int, headers: str = "") -> None:
        """Answer the next requests so, one after the other."""
        self.answers += (
            f"HTTP/1.1 {status} Said\r\n{headers}content-length: 2\r\n\r\nso".encode() for status in statuses
        )

    async def until(self, count: int, seconds: float = 30) -> list[Posted]:
        """Return what was posted, once it is so many requests."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: len(self.posted) >= count)
        return list(self.posted)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            async with self._came:
                self.posted.append(Posted(head[0].split(" ")[1], headers, body))
                self._came.notify_all()
            await self.gate.wait()
            writer.write(self.answers.popleft() if self.answers else b"HTTP/1.1 204 Taken\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
