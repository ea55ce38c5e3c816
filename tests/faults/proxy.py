"""A TCP proxy in front of a server, with which the network between can be spoilt.

What it can't do: a real black hole swallows the packets of a connection that is being made, too. Here the
connection is made, and nothing is heard on it; a client that only looks at whether it could connect is told
wrong, and one that waits for an answer waits as long as it would.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Flag, auto
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK_BYTES: Final = 65_536
_NAME_BYTES: Final = 2_048  # of what a client says first: an AMQP client gives its name there


class Way(Flag):
    """A direction. Both is the default everywhere."""

    TO_SERVER = auto()
    TO_CLIENT = auto()
    BOTH = TO_SERVER | TO_CLIENT


class Link:
    """One connection through the proxy. Bytes, and its end, wait while a way is closed, as in a network's queues."""

    def __init__(self, client: "_Side", server: "_Side") -> None:
        self.client = client
        self.server = server
        self.said_first = b""
        self._answer_is_lost = False
        self._open = {Way.TO_SERVER: asyncio.Event(), Way.TO_CLIENT: asyncio.Event()}
        for way in self._open.values():
            way.set()

    def close_way(self, ways: Way) -> None:
        """Bytes that go these ways no longer arrive, and nobody is told."""
        for way in ways:
            self._open[way].clear()

    def open_ways(self) -> None:
        """What waited arrives, and everything after it."""
        for way in self._open.values():
            way.set()

    def reset(self) -> None:
        """Both ends get an RST, wherever it can go: what was on its way is lost, and nobody said goodbye."""
        for side in (self.client, self.server):
            side.reset()
        self.open_ways()  # nobody is there any more whom they could keep waiting

    async def carry(self, proxy: "Proxy") -> None:
        """Carry bytes both ways until an end closes."""
        tasks = [
            asyncio.create_task(self._carry(proxy, Way.TO_SERVER, self.client, self.server)),
            asyncio.create_task(self._carry(proxy, Way.TO_CLIENT, self.server, self.client)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in (self.client, self.server):
                side.writer.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, proxy: "Proxy", way: Way, source: "_Side", sink: "_Side") -> None:
        end = way
        with suppress(OSError):
            while chunk := await source.reader.read(_CHUNK_BYTES):
                if way is Way.TO_SERVER and len(self.said_first) < _NAME_BYTES:
                    self.said_first += chunk
                    proxy.swallow(self)
                if proxy.delay_seconds:
                    await asyncio.sleep(proxy.delay_seconds)
                if self._is_cut_at(proxy, way, chunk):
                    self.reset()
                    proxy.cut.set()
                    return
                await self._open[way].wait()
                end = ~way  # should this fail, it is the other side that has ended
                sink.writer.write(chunk)
                await sink.writer.drain()
                end = way
        await self._open[end].wait()  # an end is a packet too

    def _is_cut_at(self, proxy: "Proxy", way: Way, chunk: bytes) -> bool:
        """Return whether the connection is to end with this chunk, which then does not arrive."""
        if way is Way.TO_CLIENT:
            return self._answer_is_lost
        if proxy.cut_at is None or proxy.cut_at not in chunk:
            return False
        if proxy.cut_after:
            proxy.cut_after -= 1
            return False
        proxy.cut_at = None
        if proxy.cut_before_it_arrives:
            return True
        self._answer_is_lost = True
        return False


class _Side:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def reset(self) -> None:
        with suppress(OSError, AttributeError):
            found: socket.socket = self.writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Proxy:
    """Stands in front of one server; `url` is the server's with the proxy's address in it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._parts = parts
        self._host, self._target_port = parts.hostname or "127.0.0.1", parts.port or 0
        self._server: asyncio.Server | None = None
        self._port = 0
        self._links: set[Link] = set()
        self._closed = Way(0)
        self._named = b""
        self._refusing = False
        self._carrying: set[asyncio.Task[None]] = set()
        self.delay_seconds = 0.0
        self.cut_at: bytes | None = None
        """A client that says these bytes loses its connection: the server hears them, the client no answer."""
        self.cut_after = 0
        """… after it was said so many times."""
        self.cut_before_it_arrives = False
        """… the server does not hear them either."""
        self.cut = asyncio.Event()
        """Set when that has happened."""

    @property
    def url(self) -> str:
        """Where clients are to connect."""
        credentials = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{credentials}@127.0.0.1:{self._port}"))

    def through(self, url: str) -> str:
        """Return another URL of the same server, led through the proxy."""
        return urlunsplit(urlsplit(url)._replace(netloc=urlsplit(self.url).netloc))

    @property
    def links(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def reset(self, named: bytes = b"") -> int:
        """Reset the connections whose client said these bytes first; return how many those were."""
        found = [link for link in self._links if named in link.said_first]
        for link in found:
            link.reset()
        return len(found)

    def black_hole(self, ways: Way = Way.BOTH, named: bytes = b"") -> None:
        """Let nothing through these ways, on connections there are and on new ones, until `heal`."""
        self._closed, self._named = ways, named
        for link in self._links:
            self.swallow(link)

    def swallow(self, link: Link) -> None:
        """Close the ways of a connection that fall into the black hole, if there is one and this is one of its own."""
        if self._named in link.said_first:
            link.close_way(self._closed)

    def refuse(self) -> None:
        """Reset all connections and accept no new one, as if the server's machine had ended, until `heal`."""
        self._refusing = True
        self.reset()

    def slow_down(self, seconds: float) -> None:
        """Have every chunk arrive that much later, both ways, until `heal`."""
        self.delay_seconds = seconds

    def heal(self) -> None:
        """Let everything through again; what waited arrives."""
        self._closed, self._named, self._refusing, self.delay_seconds = Way(0), b"", False, 0.0
        self.cut_at = None
        for link in self._links:
            link.open_ways()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._refusing = True  # who is being accepted now comes too late
        for task in self._carrying:
            task.cancel()
        while self._carrying:
            await asyncio.wait(self._carrying)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Side(reader, writer)
        if self._refusing:
            client.reset()
            return

        def end(task: asyncio.Task[None]) -> None:
            self._carrying.discard(task)
            if not writer.is_closing():
                client.reset()  # there is no server, or nobody waits any more for there to be one

        task = asyncio.create_task(self._connect(client), name="proxied connection")
        self._carrying.add(task)
        task.add_done_callback(end)

    async def _connect(self, client: _Side) -> None:
        try:
            server = _Side(*await asyncio.open_connection(self._host, self._target_port))
        except OSError:
            return
        link = Link(client, server)
        self.swallow(link)
        self._links.add(link)
        try:
            await link.carry(self)
        finally:
            self._links.discard(link)
