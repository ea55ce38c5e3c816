"""API processes, as operators start them, and raw and ordinary HTTP clients of theirs."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx2 as httpx
from typing_extensions import override

from tests.servers.ports import free_ports
from tests.workers import WorkerProcess, Workers

KEY_SECONDS = 60.0


class ApiProcess(WorkerProcess):
    """One running `wallet api`: `port` is that of its health, `public_port` the one that clients use."""

    public_port: int

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.public_port}"

    def client(self, key: str | None = None, *, seconds: float = 60.0) -> httpx.AsyncClient:
        """Return an HTTP client that shows this key."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=seconds)

    async def raw(self, data: bytes, *, seconds: float = 30.0) -> bytes:
        """Send bytes on a connection of their own, and return what comes until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.public_port)
        try:
            writer.write(data)
            async with asyncio.timeout(seconds):
                return await reader.read()
        finally:
            writer.close()

    async def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        _, page = await self.get("/metrics")
        lines = [line for line in page.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


class Answer(NamedTuple):
    """One answer on a raw connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Return the next answer of a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(head[0].split()[1]), headers, body)


class Apis(Workers):
    """Starts API processes, and makes keys for them."""

    @classmethod
    def beside(cls, workers: Workers) -> Self:
        """Return a starter on the same servers as these workers."""
        return cls(workers.amqp_url, workers.database_url, None, ("-m", "wallet_worker", "api"))

    @override
    async def launch(self, **settings: str) -> ApiProcess:
        """Start an API process, with further WALLET_… settings, and do not wait for it."""
        public, health = free_ports(2)
        ports = {"WALLET_API_PORT": str(public), "WALLET_API_HEALTH_PORT": str(health)}
        started = await super().launch(**(ports | settings))
        api = ApiProcess(started.process, int((ports | settings)["WALLET_API_HEALTH_PORT"]), started.log_path)
        api.public_port = int((ports | settings)["WALLET_API_PORT"])
        self._started[-1] = api
        return api

    @override
    async def start(self, **settings: str) -> ApiProcess:
        """Start an API process and return it with the broker and the database there."""
        api = await self.launch(**settings)
        await api.until_ready()
        async with asyncio.timeout(30):
            # Another process tells nobody here when it is connected.
            while '"waiting_for":[]' not in (await api.get("/readyz"))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return api

    async def key(self, *arguments: str) -> str:
        """Return what `wallet api key …` prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "wallet_worker",
            "api",
            "key",
            *arguments,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(KEY_SECONDS):
            printed, answer = await process.communicate()
        if process.returncode != 0:
            msg = f"wallet api key {' '.join(arguments)} ended with {process.returncode}: {answer.decode()}"
            raise AssertionError(msg)
        return printed.decode().strip()


CORPUS = Path(__file__).parent.parent / "rules" / "contract" / "corpus"
