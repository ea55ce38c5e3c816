"""The process itself: where it listens, with which rights, several on one port, and what it does not start without."""

import asyncio
import base64
import secrets
import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx2 as httpx
import pytest

from tests.api.money import opened, paid
from tests.api.process import ApiProcess, Apis
from tests.servers import Servers
from tests.servers.ports import free_ports
from tests.workers import WorkerProcess

pytestmark = pytest.mark.timeout(120)


async def ended(api: ApiProcess) -> int:
    async with asyncio.timeout(30):
        return await api.process.wait()


@pytest.mark.parametrize(
    "settings",
    [
        {"WALLET_API_HOST": "0.0.0.0"},  # noqa: S104 -- the mistake itself
        {"WALLET_API_HOST": "0.0.0.0", "WALLET_API_URL": "http://wallet.example"},  # noqa: S104 -- see above
        {"WALLET_API_TLS_CERTIFICATE": "certificate.pem"},
    ],
)
async def test_it_does_not_start_where_keys_would_travel_in_the_clear(
    settings: dict[str, str], apis: Apis
) -> None:
    api = await apis.launch(**settings)

    assert await ended(api) == 1
    (event,) = api.events("api.cannot_serve")
    assert "WALLET_API_TLS_CERTIFICATE" in str(event["reason"])


async def test_it_speaks_tls_itself(apis: Apis, tmp_path: Path) -> None:
    made = await asyncio.create_subprocess_exec(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", "key.pem", "-out", "certificate.pem", "-days", "1", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await made.wait() == 0
    api = await apis.start(
        WALLET_API_HOST="0.0.0.0",  # noqa: S104 -- with TLS
        WALLET_API_TLS_CERTIFICATE=str(tmp_path / "certificate.pem"),
        WALLET_API_TLS_KEY=str(tmp_path / "key.pem"),
    )
    key = await apis.key("add", "tls", "--role", "reader")
    trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))

    async with httpx.AsyncClient(verify=trusted, headers={"authorization": f"Bearer {key}"}) as http:
        answer = await http.get(f"https://127.0.0.1:{api.public_port}/v1/client")
    plain = await api.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert not plain.startswith(b"HTTP/1.1 200")


async def test_several_processes_share_a_port_and_end_together(apis: Apis) -> None:
    public, health = free_ports(2)
    apis.program = ("-m", "wallet_worker", "api", "--processes", "2")
    try:
        api = await apis.launch(WALLET_API_PORT=str(public), WALLET_API_HEALTH_PORT=str(health))
    finally:
        apis.program = ("-m", "wallet_worker", "api")
    await api.until_ready()
    key = await apis.key("add", "several", "--role", "reader")

    statuses = set()
    for _ in range(20):
        async with api.client(key) as http:
            statuses.add((await http.get("/v1/client")).status_code)
    status = await api.stop()

    assert statuses == {200}
    assert status == 0


async def test_broker_user_needs_to_write_to_two_exchanges_and_nothing_else(
    worker: WorkerProcess, apis: Apis, key: str, servers: Servers, amqp_url: str
) -> None:
    """Direct reply-to and looking at the queue's depth need no permission."""
    del worker
    name, password = f"api-{secrets.token_hex(4)}", secrets.token_hex(8)
    parts = urlsplit(amqp_url)
    management = urlsplit(servers.management_url)
    base = f"http://{management.hostname}:{management.port}/api"
    credentials = base64.b64encode(f"{management.username}:{management.password}".encode()).decode()
    headers = {"authorization": f"Basic {credentials}"}
    async with httpx.AsyncClient(headers=headers) as admin:
        user = await admin.put(f"{base}/users/{name}", json={"password": password, "tags": ""})
        rights = {"configure": "^$", "write": r"^(wallet\.commands|payment\.results)$", "read": "^$"}
        vhost = quote(parts.path.removeprefix("/"), safe="")
        allowed = await admin.put(f"{base}/permissions/{vhost}/{name}", json=rights)
        assert (user.status_code, allowed.status_code) == (201, 201), (user.text, allowed.text)
        netloc = f"{name}:{password}@{parts.hostname}:{parts.port}"
        try:
            api = await apis.start(WALLET_AMQP_URL=urlunsplit(parts._replace(netloc=netloc)))
            async with api.client(key) as http:
                await opened(http, "alice")
                await paid(http, "alice", "R-1")
        finally:
            await admin.delete(f"{base}/users/{name}")

    assert "queue" not in [line.get("event") for line in api.events("broker.waiting")]
    assert api.events("broker.waiting") == []


async def test_keys_are_listed_without_a_secret_and_revoked_with_a_reason(apis: Apis) -> None:
    text = await apis.key("add", "listed", "--role", "upstream", "--users", "s7:", "--expires", "90d")
    listed = await apis.key("list")

    assert text not in listed
    assert text.split("_")[2] not in listed
    assert '"client": "listed"' in listed
    for wrong in (
        ("add", "Shop", "--role", "reader"),
        ("add", "shop"),
        ("add", "shop", "--scope", "everything"),
        ("add", "shop", "--role", "reader", "--users", "a b"),
        ("add", "shop", "--role", "reader", "--expires", "soon"),
        ("rotate", "nobody"),
        ("revoke", "aaaaaaaaaaaa", "--why", "x"),
        ("revoke", "aaaaaaaaaaaa", "--why", " "),
    ):
        with pytest.raises(AssertionError):
            await apis.key(*wrong)
