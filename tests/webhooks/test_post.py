"""A POST goes to the address that was named, or nowhere: private networks, rebinding, redirects, silence."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.webhooks.receiver import Receiver, certificate
from wallet_worker.core.webhooks import Network
from wallet_worker.webhooks.post import (
    ANSWER_BYTES_MAX,
    EndpointAnswer,
    Resolver,
    UndeliverableError,
    post,
    resolve,
)

HERE: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@pytest.fixture
async def trusted(tmp_path: Path) -> ssl.SSLContext:
    """Give a context that believes the receiver's certificate."""
    return ssl.create_default_context(cafile=str(await certificate(tmp_path)))


@pytest.fixture
async def receiver(trusted: ssl.SSLContext, tmp_path: Path) -> AsyncIterator[Receiver]:
    """Give a running receiver."""
    del trusted
    async with Receiver(tmp_path / "certificate.pem") as receiver:
        yield receiver


async def posted(
    url: str,
    context: ssl.SSLContext,
    *,
    allowed: Sequence[Network] = HERE,
    resolver: Resolver = resolve,
    seconds: float = 10.0,
) -> EndpointAnswer:
    return await post(
        url,
        {"webhook-id": "e-1"},
        b"{}",
        allowed=allowed,
        context=context,
        seconds=seconds,
        resolver=resolver,
    )


async def test_an_answer_comes_with_its_beginning_only(receiver: Receiver, trusted: ssl.SSLContext) -> None:
    receiver.answers.append(
        b"HTTP/1.1 503 No\r\nRetry-After: 7\r\ncontent-length: 90000\r\n\r\n" + b"x" * 90_000
    )

    found = await posted(receiver.url, trusted)
    taken = await posted(receiver.url, trusted)

    assert found == EndpointAnswer(503, b"x" * ANSWER_BYTES_MAX, "7")
    assert taken == EndpointAnswer(204, b"", None)
    assert receiver.posted[0].target == "/wallet?of=shop"
    assert receiver.posted[0].headers["host"] == f"localhost:{receiver.port}"
    assert receiver.posted[0].headers["webhook-id"] == "e-1"


async def test_nothing_in_a_private_network_is_connected_to(
    receiver: Receiver, trusted: ssl.SSLContext
) -> None:
    for url in (
        receiver.url,
        f"https://127.0.0.1:{receiver.port}/",
        f"https://[::ffff:127.0.0.1]:{receiver.port}/",
    ):
        with pytest.raises(UndeliverableError, match="public"):
            await posted(url, trusted, allowed=())

    assert receiver.connections == 0


async def test_a_name_is_looked_up_once_and_one_private_address_of_it_is_enough(
    receiver: Receiver, trusted: ssl.SSLContext
) -> None:
    answers = [["127.0.0.1"], ["127.0.0.2"]]
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        del port
        asked.append(host)
        return answers[len(asked) - 1]

    async def mixed(host: str, port: int) -> Sequence[str]:
        del host, port
        return ["93.184.215.14", "127.0.0.1"]

    found = await posted(receiver.url, trusted, resolver=rebinding)
    with pytest.raises(UndeliverableError, match="not public"):
        await posted(receiver.url, trusted, allowed=(), resolver=mixed)

    assert found.status == 204
    assert asked == ["localhost"]  # the address that was judged is the one that was connected to
    assert receiver.connections == 1


async def test_a_redirect_is_an_answer_and_is_not_followed(
    receiver: Receiver, trusted: ssl.SSLContext
) -> None:
    receiver.will_answer(302, headers=f"location: https://localhost:{receiver.port}/elsewhere\r\n")

    found = await posted(receiver.url, trusted)

    assert found.status == 302
    assert [item.target for item in receiver.posted] == ["/wallet?of=shop"]


async def test_who_has_no_certificate_that_is_believed_gets_nothing(receiver: Receiver) -> None:
    with pytest.raises(UndeliverableError, match="certificate"):
        await posted(receiver.url, ssl.create_default_context())

    assert receiver.posted == []


async def test_silence_and_nonsense_end_in_a_sentence(receiver: Receiver, trusted: ssl.SSLContext) -> None:
    receiver.answers += [b"SSH-2.0-OpenSSH\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000]
    with pytest.raises(UndeliverableError, match="no HTTP"):
        await posted(receiver.url, trusted)
    for _ in range(2):
        with pytest.raises(UndeliverableError, match="without an answer"):
            await posted(receiver.url, trusted)
    receiver.gate.clear()
    with pytest.raises(UndeliverableError, match=r"within 0\.2 s"):
        await posted(receiver.url, trusted, seconds=0.2)  # the time over is the subject
    async with asyncio.timeout(5):
        with pytest.raises(UndeliverableError, match="cannot be connected to"):
            await posted("https://127.0.0.1:1/", trusted)
        with pytest.raises(UndeliverableError, match="host is not known"):
            await posted("https://nobody.invalid/", trusted)
