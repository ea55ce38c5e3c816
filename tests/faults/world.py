"""A wallet under fire: servers behind proxies, workers, a gateway, load, subscribers, and the judge of it all."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
from aiormq.abc import AbstractChannel, DeliveredMessage

from tests.faults import checker
from tests.faults.checker import Heard, Stored, Violation
from tests.faults.fleet import Fleet
from tests.faults.gateway import Gateway
from tests.faults.load import Load
from tests.faults.model import Model, from_notebook
from tests.faults.notebook import Notebook, mark
from tests.faults.proxy import Proxy
from tests.faults.wire import LOST, REPLIES, Ears, Sender, connect, let_go
from tests.journeys.upstream import COMMANDS, DEAD_LETTERS, EVENTS, QUERIES, REQUESTS, RESULTS, UNROUTED
from tests.servers import Servers
from tests.workers import Workers
from wallet_schemas.names import BODY_SHA256_HEADER
from wallet_worker.audit.report import audit
from wallet_worker.broker import topology
from wallet_worker.dead_letters import reasons

QUIET_SECONDS: Final = 60.0
"""Everything must be quiet this long after everything has healed: the liveness test."""
RECHARGE_EXPIRES_SECONDS: Final = 5
"""Longer than a gateway of the harness's takes, and shorter than many a fault."""
LISTENER: Final = "harness.events"
QUEUES: Final = (COMMANDS, RESULTS, REQUESTS, DEAD_LETTERS, UNROUTED, LISTENER, REPLIES)
OF_WORKERS: Final = (COMMANDS, RESULTS, QUERIES)
OF_KEEPERS: Final = (DEAD_LETTERS, UNROUTED)

WORKER: Final = ("-m", "wallet_worker", "worker")

DATABASE_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


def sabotaged(name: str) -> tuple[str, ...]:
    """Return the program of a worker that does one thing wrong on purpose."""
    return ("-m", "tests.faults.sabotaged_worker", name)


class NotQuietError(AssertionError):
    """Something did not come to rest in time, and what."""


@dataclass(slots=True)
class World:
    """Everything of one run. With `keepers`, each worker keeps dead letters, and the harness reads their records.

    Without, they stay in their queue, and the harness listens to it.
    """

    servers: Servers
    amqp_url: str
    database_url: str
    broker: Proxy
    database: Proxy
    workers: Workers
    fleet: Fleet
    notebook: Notebook
    sender: Sender
    gateway: Gateway
    load: Load
    requests_heard: Ears
    ears: list[Ears]
    keepers: bool
    heard: Heard
    expiring: bool
    recoveries: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    redelivered: int = 0

    # What happens in it

    async def open_accounts(self) -> None:
        """Every account of the load is open."""
        await self.sender.send_until_confirmed(self.load.openings())
        await self.until("SELECT count(*) FROM accounts WHERE kind = 'user'", len(self.load.accounts))

    async def healed(self) -> float:
        """Wait until all workers are ready and a command that is sent now is applied and told; return the seconds.

        Raises NotQuietError after QUIET_SECONDS.
        """
        begun = time.monotonic()
        probe = self.load.probe()
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self.sender.send_until_confirmed([probe])
                await self._until(
                    "SELECT count(*) FROM commands WHERE serial_no = $1", 1, probe.note.serial_no
                )
                await self.fleet.until_ready(QUIET_SECONDS)
                await self._until_consumed()
                await self._until_told("account.opened.v1", probe.note.serial_no)
        except TimeoutError:
            raise NotQuietError(f"not back within {QUIET_SECONDS:.0f} s: {await self._state()}") from None
        self.recoveries.append(time.monotonic() - begun)
        return self.recoveries[-1]

    async def _until_consumed(self) -> None:
        """Wait until the keepers are at work too, whose health is not their worker's."""
        while self.keepers:
            with suppress(*LOST):
                if min((await self.consumers()).values()) >= len(self.fleet.slots):
                    return
            await asyncio.sleep(0.1)

    async def _until_told(self, event_type: str, serial_no: str) -> None:
        while (serial_no, event_type) not in self.heard.events:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def until(self, query: str, wanted: object, *arguments: object) -> None:
        """Wait until a query's one value is the wanted one; the database may be away meanwhile."""
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self._until(query, wanted, *arguments)
        except TimeoutError:
            raise NotQuietError(f"{query} did not become {wanted!r}: {await self._state()}") from None

    async def _until(self, query: str, wanted: object, *arguments: object) -> None:
        while await self.value(query, *arguments) != wanted:  # noqa: ASYNC110 -- commits send no signal here
            await asyncio.sleep(0.1)

    async def value(self, query: str, *arguments: object) -> object:
        """Return a query's one value, or nothing while the database is away."""
        with suppress(*DATABASE_LOST):
            connection = await asyncpg.connect(self.servers.primary(self.database_url), timeout=5)
            try:
                return await connection.fetchval(query, *arguments, timeout=20)
            finally:
                connection.terminate()
        return None

    async def under_load(self, action: Callable[[], Awaitable[None]]) -> None:
        """Do it while the load runs; the load has ended, and all of it is with the broker, when this returns.

        Raises NotQuietError if the broker has not taken it after QUIET_SECONDS.
        """
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.load.run(stopping), name="load")
            try:
                await action()
            finally:
                stopping.set()
        try:
            await self.load.settle(QUIET_SECONDS)
        except TimeoutError:
            raise NotQuietError(f"the broker does not take the load: {await self._state()}") from None

    # What is made of it

    async def judge(self, *, pending: int = 0, patience_seconds: float = QUIET_SECONDS) -> list[Violation]:
        """Wait until everything is quiet, stop the workers, and return what is wrong. Nothing else runs after it."""
        violations = await self._quieten(pending, patience_seconds)
        await self.fleet.stop()
        depths = await self.depths()  # a message that a worker still had would be back now
        found = await self.stored()
        if self.keepers:
            await self._read_letters()
        violations += checker.check(self.model(), found, self.heard, depths)
        violations += await audited(self.database_url)
        violations += [Violation(8, surprise) for surprise in self.fleet.surprises]
        failures = [*self.load.failures, *(failure for ears in self.ears for failure in ears.failures)]
        if failures:
            raise ExceptionGroup(
                "the harness itself failed", [item for item in failures if isinstance(item, Exception)]
            )
        return violations

    def model(self) -> Model:
        """Return the model of what was noted so far."""
        self.notebook.write_out()
        return from_notebook(self.notebook.path, expiring=self.expiring)

    async def stored(self) -> Stored:
        """Return what the database has."""
        connection = await asyncpg.connect(self.servers.primary(self.database_url))
        try:
            return await checker.stored(connection)
        finally:
            await connection.close()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Give a channel to the broker itself, past the proxy; raises one of LOST while it is away."""
        connection = await connect(self.amqp_url)
        try:
            yield await connection.channel()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            msg = "the connection was lost, and the library says so in its own way"
            raise ConnectionError(msg) from None
        finally:
            await let_go(connection)

    async def depths(self) -> dict[str, int]:
        """Return the messages that are ready in each queue."""
        found = {}
        async with self.channel() as channel:
            for queue in QUEUES:
                answer = await channel.queue_declare(queue, passive=True, timeout=10)
                found[queue] = answer.message_count or 0
        return found

    async def consumers(self) -> dict[str, int]:
        """Return how many consumers each queue of the workers' has."""
        found = {}
        async with self.channel() as channel:
            for queue in (*OF_WORKERS, *(OF_KEEPERS if self.keepers else ())):
                answer = await channel.queue_declare(queue, passive=True, timeout=10)
                found[queue] = answer.consumer_count or 0
        return found

    def recovery(self) -> str:
        """Return the times of recovery for a person."""
        if not self.recoveries:
            return "nothing to recover from"
        return (
            f"median {statistics.median(self.recoveries):.1f} s, worst {max(self.recoveries):.1f} s "
            f"of {len(self.recoveries)}"
        )

    async def _quieten(self, pending: int, patience_seconds: float) -> list[Violation]:
        """Wait until nothing is on its way any more; return what still is when the patience is over."""
        left = "nothing was looked at"
        quiet = 0
        try:
            async with asyncio.timeout(patience_seconds):
                while quiet < 2:  # twice in a row: between two queues a message is in neither
                    left = await self._left(pending)
                    quiet = 0 if left else quiet + 1
                    await asyncio.sleep(0.3)
        except TimeoutError:
            return [Violation(8, f"not quiet {patience_seconds:.0f} s after everything healed: {left}")]
        return []

    async def _left(self, pending: int) -> str:
        """Return what is still on its way, empty if nothing is."""
        try:
            depths = await self.depths()
            consumers = await self.consumers()
        except LOST as exc:
            return f"the broker is away: {exc!r}"
        found = [f"{messages} in {queue}" for queue, messages in depths.items() if messages]
        found += [
            f"{queue} has {count} consumers"
            for queue, count in consumers.items()
            if count != len(self.fleet.slots)
        ]
        for query, wanted, what in (
            ("SELECT count(*) FROM outbox", 0, "rows in the outbox"),
            ("SELECT count(*) FROM parked_results", 0, "parked results"),
            ("SELECT count(*) FROM orders WHERE status = 'pending'", pending, "pending orders"),
            (_SHORT_HOLDS, 0, "holds that are to expire"),
            ("SELECT count(*) FROM dead_letter_operations WHERE ended_at IS NULL", 0, "replays under way"),
        ):
            value = await self.value(query)
            if value != wanted:
                found.append(f"{value} {what}")
        if not await self.fleet.is_ready():
            found.append("a worker is not ready")
        return ", ".join(found)

    async def _state(self) -> str:
        logs = "\n".join(worker.log()[-1500:] for worker in self.fleet.running)
        return f"workers ready: {await self.fleet.ready()}; {await self._left(0)}\n{logs}"

    # What is heard

    async def on_event(self, message: DeliveredMessage) -> None:
        """Note an event."""
        self.load.hear(*self.heard.hear(message.body))

    async def on_reply(self, message: DeliveredMessage) -> None:
        """Note the answer to a command."""
        self.heard.replies[str(message.header.properties.correlation_id)].add(message.body)

    async def on_dead_letter(self, message: DeliveredMessage) -> None:
        """Note a dead letter."""
        headers = message.header.properties.headers or {}
        # Of a body that was too large the letter has the beginning, and the digest of the whole, which is its mark.
        found = str(headers.get(BODY_SHA256_HEADER) or mark(message.body))
        self.heard.bodies[found] = message.body
        self.heard.dead_letters[found].add(
            str(headers.get("x-wallet-reason", "none: the broker put it there"))
        )

    async def on_unrouted(self, message: DeliveredMessage) -> None:
        """Note a message that found no way."""
        self.heard.unrouted.append(message.body)

    async def _read_letters(self) -> None:
        """Note what the keepers have on record, as if it were heard.

        Two records of one dead letter look like one: a sender that had no confirm has sent it twice, perhaps.
        """
        connection = await asyncpg.connect(self.database_url)
        try:
            for body, digest, reason in await connection.fetch(_LETTERS):
                if reason == reasons.UNROUTED:
                    self.heard.unrouted.append(body)
                else:
                    self.heard.bodies[digest.hex()] = body
                    self.heard.dead_letters[digest.hex()].add(reason)
        finally:
            await connection.close()


_SHORT_HOLDS: Final = """
SELECT count(*)
FROM orders
WHERE status = 'active' AND expires_at < created_at + interval '1 minute'
"""

_LETTERS: Final = """
SELECT l.body, l.body_digest, a.reason
FROM dead_letters l
JOIN dead_letter_attempts a USING (letter_id)
"""


async def audited(database_url: str) -> list[Violation]:
    """Return what the wallet's own audit finds in the ledger, which it reads in other ways than the checker."""
    return [
        Violation(
            4, f"{finding.invariant.meaning}: {finding.detail} ({finding.account}, {finding.serial_no})"
        )
        for finding in (await audit(database_url)).findings
    ]


@asynccontextmanager
async def world(
    servers: Servers,
    migrated_url: str,
    folder: Path,
    *,
    seed: int = 1,
    workers: int = 2,
    accounts: int = 40,
    rate: float = 40.0,
    program: Sequence[str] = WORKER,
    settings: Sequence[Mapping[str, str]] = (),
    keepers: bool = False,
    expiring: bool = False,
) -> AsyncIterator[World]:
    """Give a world in which all workers are ready and all accounts are open. `settings` are of the first workers.

    The notebook and the workers' logs are left in the folder.
    With `expiring`, recharges wait RECHARGE_EXPIRES_SECONDS for their money, and the load has what expires.
    """
    async with AsyncExitStack() as stack:
        amqp_url = await stack.enter_async_context(servers.vhost())
        database_url = await stack.enter_async_context(servers.database(template=migrated_url))
        await topology.apply(amqp_url)
        # Of several servers the workers know all: what happens to them needs no proxy.
        broker = await stack.enter_async_context(Proxy(amqp_url.split()[0]))
        database = await stack.enter_async_context(Proxy(servers.primary(database_url)))
        processes = await stack.enter_async_context(
            Workers(
                broker.url if len(amqp_url.split()) == 1 else amqp_url,
                database.url if servers.primary(database_url) == database_url else database_url,
                servers.management_url,
                program,
                folder,
            )
        )
        notebook = stack.enter_context(Notebook(folder / "notebook.jsonl"))
        sender = Sender(amqp_url, notebook)
        answering = Sender(amqp_url, notebook)
        stack.push_async_callback(sender.close)
        stack.push_async_callback(answering.close)
        of_all = {"WALLET_KEEPER": "true"} if keepers else {}
        if expiring:
            of_all["WALLET_RECHARGE_EXPIRES_SECONDS"] = str(RECHARGE_EXPIRES_SECONDS)
        fleet = Fleet(processes, workers, of_all)
        heard = Heard()
        gateway = Gateway(answering, seed, heard)
        load = Load(sender, seed, accounts=accounts, rate=rate, expiring=expiring)
        stack.push_async_callback(load.give_up)
        requests = Ears(amqp_url, REQUESTS, gateway.on_request)
        made = World(
            servers, amqp_url, database_url, broker, database, processes, fleet, notebook, sender, gateway, load,
            requests, [], keepers, heard, expiring,
        )  # fmt: skip
        listener = Ears(amqp_url, LISTENER, made.on_event, exchange=EVENTS)
        asker = Ears(amqp_url, REPLIES, made.on_reply)
        made.ears = [requests, listener, asker]
        if not keepers:
            made.ears += [
                Ears(amqp_url, DEAD_LETTERS, made.on_dead_letter),
                Ears(amqp_url, UNROUTED, made.on_unrouted),
            ]
        for ears in (listener, asker):
            await ears.declare()
        background = asyncio.gather(fleet.run(), *(ears.run() for ears in made.ears))
        stack.push_async_callback(_end, background)
        for slot, setting in zip(fleet.slots, settings, strict=False):
            slot.next_settings = dict(setting)
        await made.open_accounts()
        async with asyncio.timeout(QUIET_SECONDS):
            await fleet.until_ready(QUIET_SECONDS)
            await made._until_consumed()
        yield made


async def _end(background: asyncio.Future[list[None]]) -> None:
    background.cancel()
    with suppress(asyncio.CancelledError):
        await background
