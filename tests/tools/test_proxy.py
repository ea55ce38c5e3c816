"""The proxy spoils a network as it says: else the faults that it makes would prove nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Proxy, Way

PATIENCE_SECONDS = 5.0
NOT_HEARD_SECONDS = 0.2


class Echo:
    """A server that says back what it hears, and keeps it."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.more = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        try:
            while chunk := await reader.read(100):
                self.heard += chunk
                self.more.set()
                writer.write(chunk)
        except OSError:
            pass
        finally:
            self.left.set()
            writer.close()

    def says(self, words: bytes) -> None:
        self.writer.write(words)

    async def is_left(self) -> bool:
        try:
            await asyncio.wait_for(self.left.wait(), NOT_HEARD_SECONDS)
        except TimeoutError:
            return False
        return True


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def says(self, words: bytes) -> bytes:
        self.writer.write(words)
        return await asyncio.wait_for(self.reader.readexactly(len(words)), PATIENCE_SECONDS)

    async def hears_nothing(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(100), NOT_HEARD_SECONDS)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Proxy(f"echo://user:word@127.0.0.1:{port}/path") as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    client = await connect(proxy)
    yield client
    client.writer.close()


async def connect(proxy: Proxy) -> Client:
    port = int(proxy.url.rpartition(":")[2].partition("/")[0])
    return Client(*await asyncio.open_connection("127.0.0.1", port))


def test_the_address_is_the_proxys_and_the_rest_is_the_servers(proxy: Proxy) -> None:
    assert proxy.url.startswith("echo://user:word@127.0.0.1:")
    assert proxy.url.endswith("/path")
    assert proxy.through("echo://user:word@127.0.0.1:1/other") == proxy.url.replace("/path", "/other")


async def test_a_reset_is_an_error_at_the_client_and_no_end(proxy: Proxy, client: Client) -> None:
    await client.says(b"hello")

    assert proxy.reset() == 1

    with pytest.raises(ConnectionResetError):
        await client.reader.read(1)


async def test_a_reset_by_name_leaves_the_others(proxy: Proxy, client: Client) -> None:
    other = await connect(proxy)
    await client.says(b"publisher")
    await other.says(b"consumer")

    assert proxy.reset(b"publisher") == 1

    assert await other.says(b"still there") == b"still there"
    other.writer.close()


@pytest.mark.parametrize("ways", [Way.TO_SERVER, Way.TO_CLIENT, Way.BOTH])
async def test_a_black_hole_keeps_the_connection_and_what_waited_arrives_when_it_heals(
    proxy: Proxy, client: Client, echo: Echo, ways: Way
) -> None:
    await client.says(b"hello")
    echo.more.clear()
    proxy.black_hole(ways)

    client.writer.write(b"lost?")
    assert await client.hears_nothing()
    assert (bytes(echo.heard) == b"hellolost?") == (Way.TO_SERVER not in ways)

    proxy.heal()
    assert await asyncio.wait_for(client.reader.readexactly(5), PATIENCE_SECONDS) == b"lost?"


@pytest.mark.parametrize("ways", [Way.TO_SERVER, Way.BOTH])
async def test_a_client_that_ends_in_a_black_hole_is_not_missed_until_it_heals(
    proxy: Proxy, client: Client, echo: Echo, ways: Way
) -> None:
    """Nor is it where the server still speaks to it, and nobody is there to hear that."""
    await client.says(b"hello")
    proxy.black_hole(ways)

    client.writer.transport.abort()

    for _ in range(3):
        echo.says(b"anybody there?")
        assert not await echo.is_left()
    proxy.heal()
    await asyncio.wait_for(echo.left.wait(), PATIENCE_SECONDS)


async def test_a_black_hole_by_name_takes_new_connections_that_say_it_and_no_others(
    proxy: Proxy, client: Client
) -> None:
    proxy.black_hole(named=b"publisher")
    publisher = await connect(proxy)

    publisher.writer.write(b"publisher")

    assert await publisher.hears_nothing()
    assert await client.says(b"consumer") == b"consumer"
    publisher.writer.close()


async def test_a_new_connection_falls_into_the_black_hole_too(proxy: Proxy) -> None:
    proxy.black_hole()

    client = await connect(proxy)
    client.writer.write(b"hello")

    assert await client.hears_nothing()
    client.writer.close()


async def test_refused_is_refused_until_it_heals(proxy: Proxy, client: Client) -> None:
    await client.says(b"hello")
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await client.reader.read(1)

    again = await connect(proxy)
    with pytest.raises(ConnectionResetError):
        await again.reader.read(1)

    proxy.heal()
    healed = await connect(proxy)
    assert await healed.says(b"hello") == b"hello"
    healed.writer.close()


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_cut_at_some_words_loses_the_answer_and_perhaps_the_words(
    proxy: Proxy, client: Client, echo: Echo, *, arrives: bool
) -> None:
    await client.says(b"BEGIN")
    proxy.cut_at, proxy.cut_before_it_arrives = b"COMMIT", not arrives

    client.writer.write(b"COMMIT;")

    with pytest.raises(ConnectionResetError):
        await client.reader.read(1)
    assert proxy.cut.is_set()
    assert bytes(echo.heard) == b"BEGIN" + (b"COMMIT;" if arrives else b"")


async def test_slow_is_slow_both_ways(proxy: Proxy, client: Client) -> None:
    clock = asyncio.get_running_loop().time
    proxy.slow_down(0.1)
    begun = clock()

    await client.says(b"hello")

    assert clock() - begun >= 0.2
