"""What the HTTP API costs, as ratios to the AMQP client in one run: `make bench ONLY=api`.

Waits are open-loop: each request has its moment, drawn before the run (a Poisson process), the kinds of request one
after the other, so that a noisy neighbour meets all of them. Processor time is that of the processes; it bends least.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final

from tests.api.process import ApiProcess, Apis, read_answer
from tests.benchmarks.latency import percentile
from tests.servers import start_servers
from tests.workers import WorkerProcess, Workers
from wallet_worker.broker import topology
from wallet_worker.client import WalletClient
from wallet_worker.store.migrate import migrate

RATE: Final = 100  # requests a second, of all kinds together
CONNECTIONS: Final = 256
AT_ONCE: Final = 24
MANY: Final = 200
WAITING: Final = 1_000

_Call = Callable[[int], Awaitable[None]]


class Http:
    """Kept connections, each with one request at a time: a client whose own work is small."""

    def __init__(self, api: ApiProcess, key: str) -> None:
        self._api = api
        self._head = f"Host: localhost\r\nAuthorization: Bearer {key}\r\n"
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self, connections: int) -> None:
        """Have so many connections."""
        for _ in range(connections):
            self._free.put_nowait(await asyncio.open_connection("127.0.0.1", self._api.public_port))

    async def ask(
        self, method: str, path: str, body: bytes = b"", number: str = "", wanted: int = 201
    ) -> None:
        """Return once the request is answered with the wanted status; raises RuntimeError for another."""
        extra = f"Idempotency-Key: {number}\r\nContent-Type: application/json\r\n" if number else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{extra}Content-Length: {len(body)}\r\n\r\n"
        reader, writer = await self._free.get()
        writer.write(head.encode() + body)
        answer = await read_answer(reader)
        self._free.put_nowait((reader, writer))
        if answer.status != wanted:
            msg = f"{method} {path}: {answer.status} {answer.body[:200]!r}"
            raise RuntimeError(msg)


async def waits(kinds: Mapping[str, _Call], seconds: float, seed: int) -> dict[str, list[float]]:
    """Return the waits of each kind of request, from the moment that each had."""
    chance = random.Random(seed)
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    loop = asyncio.get_running_loop()
    at, began, number = 0.0, loop.time() + 0.5, 0
    tasks = []

    async def one(kind: str, moment: float, number: int) -> None:
        await asyncio.sleep(max(0.0, began + moment - loop.time()))
        await kinds[kind](number)
        found[kind].append(loop.time() - began - moment)

    names = list(kinds)
    while at < seconds:
        at += chance.expovariate(RATE)
        tasks.append(asyncio.create_task(one(names[number % len(names)], at, number)))
        number += 1
    await asyncio.gather(*tasks)
    return found


async def closed(call: _Call, count: int, at_once: int, first: int) -> float:
    """Return the seconds that so many calls take, so many of them at once."""
    numbers = iter(range(first, first + count))

    async def go() -> None:
        for number in numbers:
            await call(number)

    began = time.monotonic()
    await asyncio.gather(*(go() for _ in range(at_once)))
    return time.monotonic() - began


async def measure(  # noqa: PLR0915 -- one figure after the other
    api: ApiProcess, key: str, worker: WorkerProcess, amqp_url: str, scale: float
) -> dict[str, float]:
    """Return the figures, and print them as they come."""
    http = Http(api, key)
    await http.open(CONNECTIONS)
    figures: dict[str, float] = {}

    def keep(name: str, value: float) -> None:
        figures[name] = value
        print(f"{name:58} {value:10.3f}", flush=True)

    async with WalletClient(amqp_url, timeout_seconds=60) as wallet:
        await wallet.open_account("bench", "TWD", serial_no="B-OPEN")

        async def direct(number: int) -> None:
            await wallet.recharge("bench", "1.00", "TWD", "card", serial_no=f"D-{number}")

        body = b'{"user_id":"bench","amount":"1.00","currency":"TWD","recharge_type":"card"}'

        async def post(number: int) -> None:
            await http.ask("POST", "/v1/recharges", body, f"P-{number}")

        async def repeat(number: int) -> None:
            del number
            await http.ask("POST", "/v1/recharges", body, "P-0")

        async def look(number: int) -> None:
            del number
            await http.ask("GET", "/v1/orders?serial_no=P-0", wanted=200)

        async def query(number: int) -> None:
            del number
            await wallet.order("P-0")

        await closed(post, 100, 4, 0)
        await closed(direct, 100, 4, 0)
        found = await waits(
            {
                "direct": lambda number: direct(10_000 + number),
                "post": lambda number: post(10_000 + number),
                "repeat": repeat,
                "look": look,
                "query": query,
            },
            40 * scale,
            15,
        )
        for kind, seconds in found.items():
            keep(f"{kind}: p50, milliseconds", 1_000 * percentile(seconds, 50))
            keep(f"{kind}: p99, milliseconds", 1_000 * percentile(seconds, 99))
        keep("p50 of POST : AMQP client", percentile(found["post"], 50) / percentile(found["direct"], 50))
        keep("p99 of POST : AMQP client", percentile(found["post"], 99) / percentile(found["direct"], 99))
        keep("p50 of GET order : AMQP query", percentile(found["look"], 50) / percentile(found["query"], 50))

        count = int(4_000 * scale)
        before = time.process_time()
        await closed(direct, count, AT_ONCE, 100_000)
        client_cpu = (time.process_time() - before) / count
        before = await api.metric("process_cpu_seconds_total")
        await closed(post, count, AT_ONCE, 100_000)
        api_cpu = (await api.metric("process_cpu_seconds_total") - before) / count
        keep("processor time of the AMQP client for a call, microseconds", 1e6 * client_cpu)
        keep("processor time of the API for a POST, microseconds", 1e6 * api_cpu)
        keep("processor time of a POST : of the AMQP client", api_cpu / client_cpu)

        by_client = count / await closed(direct, count, MANY, 200_000)
        by_api = count / await closed(post, count, MANY, 200_000)
        repeats = count / await closed(repeat, count, MANY, 0)
        keep("outcomes a second by the AMQP client, 200 at once", by_client)
        keep("outcomes a second through one API, 200 at once", by_api)
        keep("outcomes through the API : by the AMQP client", by_api / by_client)
        keep("repeats : fresh POSTs, a second", repeats / by_api)
        keep("look-ups : queries", await api.metric("wallet_api_lookups_total")
             / max(1.0, await api.metric("wallet_api_lookup_queries_total")))  # fmt: skip

    idle = await api.metric("process_resident_memory_bytes")
    worker.freeze()
    await http.open(WAITING - CONNECTIONS)
    posts = [
        asyncio.create_task(http.ask("POST", "/v1/recharges", body, f"W-{number}", 201))
        for number in range(WAITING)
    ]
    async with asyncio.timeout(60):
        while await api.metric("wallet_api_waiting") < WAITING:  # noqa: ASYNC110 -- the metric of another process
            await asyncio.sleep(0.2)
    keep("memory of 1,000 waiting POSTs above idle, MB",
         (await api.metric("process_resident_memory_bytes") - idle) / 1e6)  # fmt: skip
    worker.thaw()
    await asyncio.gather(*posts)
    return figures


async def main(scale: float) -> None:
    """Measure on servers of our own."""
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(start_servers(durable=True))
        amqp_url = await stack.enter_async_context(servers.vhost())
        database_url = await stack.enter_async_context(servers.database())
        await migrate(database_url)
        await topology.apply(amqp_url)
        workers = await stack.enter_async_context(Workers(amqp_url, database_url, servers.management_url))
        apis = await stack.enter_async_context(Apis.beside(workers))
        worker = await workers.start()
        # No limit is to be met, and no wait to be shortened.
        api = await apis.start(
            WALLET_API_IN_FLIGHT="4000", WALLET_API_WAIT_SECONDS="30", WALLET_LOG_LEVEL="warning"
        )
        key = await apis.key(
            "add", "bench", "--role", "upstream", "--rate", "1000000", "--in-flight", "10000"
        )
        await measure(api, key, worker, amqp_url, scale)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, to see that it works")
    sys.exit(asyncio.run(main(0.1 if parser.parse_args().quick else 1.0)))
