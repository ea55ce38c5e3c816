"""Certificates of an authority made on the spot, and servers that speak TLS before real ones that do not."""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")
"""What a client of PostgreSQL says first, if it wants TLS."""
EC_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.pem"

    async def create(self) -> None:
        """Make the authority's own key and certificate."""
        self.folder.mkdir()
        arguments = (
            "-keyout",
            "ca.key",
            "-out",
            self.certificate.name,
            "-days",
            "2",
            "-subj",
            "/CN=authority",
        )
        await self._openssl("req", "-x509", *EC_KEY, *arguments)

    async def issue(self, name: str, *, address: str = "IP:127.0.0.1", days: int = 1) -> tuple[Path, Path]:
        """Return the files of a new certificate and of its key. With `days` below zero it has expired."""
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        await self._openssl("req", *EC_KEY, *request, "-addext", f"subjectAltName={address}")
        await self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-set_serial", str(secrets.randbits(64))),  # several are issued at once
            *("-copy_extensions", "copy", "-days", str(days), "-out", f"{name}.pem"),
        )
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    async def _openssl(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "openssl", *arguments, cwd=self.folder, stderr=asyncio.subprocess.PIPE
        )
        _, error = await process.communicate()
        assert process.returncode == 0, error.decode()


def server_context(certificate: Path, key: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return the context of a server, which wants a certificate of the authority `clients` of each client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def in_front_of(url: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Give a port that speaks TLS, in PostgreSQL's own way before PostgreSQL, and hands on to the server of a URL."""
    address = urlsplit(url)
    is_database = address.scheme == "postgresql"
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if is_database:
                    if await reader.readexactly(len(SSL_REQUEST)) != SSL_REQUEST:
                        return  # as a server whose pg_hba.conf has nothing but hostssl
                    writer.write(b"S")
                    await writer.start_tls(context)
                inner_reader, inner_writer = await asyncio.open_connection(address.hostname, address.port)
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            writer.close()

    def refused(loop: asyncio.AbstractEventLoop, found: dict[str, object]) -> None:
        if not isinstance(
            found.get("exception"), OSError
        ):  # a client's handshake that failed is what is tested
            loop.default_exception_handler(found)

    asyncio.get_running_loop().set_exception_handler(refused)
    async with await asyncio.start_server(
        serve, "127.0.0.1", 0, ssl=None if is_database else context
    ) as server:
        yield server.sockets[0].getsockname()[1]
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
