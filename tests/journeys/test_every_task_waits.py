"""Each task of a worker, and each step of its start, with each kind of error that the database can have.

The tasks are those that were seen at the database while a worker worked, the steps are the statements of a start, and
the kinds are the classes of `store.errors`: whoever adds one of them finds it here, or this fails.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import structlog
from structlog.typing import EventDict

from tests.journeys.messages import fresh, open_account, result
from tests.journeys.upstream import Upstream
from tests.workers import KEYS
from wallet_schemas.queries import FAULT
from wallet_worker.dead_letters import keeper as keeper_module
from wallet_worker.dead_letters.keeper import Arrivals
from wallet_worker.queries import service
from wallet_worker.settings.settings import Settings
from wallet_worker.store import errors, waiting
from wallet_worker.store.errors import CommitUnknownError, InvariantBrokenError, StoreError
from wallet_worker.worker import outbox
from wallet_worker.worker.app import Worker

PATIENCE_SECONDS = 60.0

KINDS: dict[type[StoreError], Callable[[], BaseException]] = {
    errors.UnavailableError: lambda: asyncpg.DiskFullError("could not extend file"),
    errors.AccessDeniedError: lambda: asyncpg.InvalidPasswordError("password authentication failed"),
    errors.UnfitError: lambda: asyncpg.UndefinedColumnError("column does not exist"),
    errors.ConflictError: lambda: asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
    errors.StatementRejectedError: lambda: asyncpg.CharacterNotInRepertoireError("invalid byte sequence"),
}
"""What the driver raises for each, InvariantBrokenError aside: with that a worker stops."""

COMPONENTS = {
    "batches": "database",
    "sweep": "sweep database",
    "outbox forget": "outbox forget database",
    "outbox relay": "outbox relay database",
    "query": "queries database",
    "keeper take in": "keeper database",
    "keeper replay": "keeper replay",
    "keeper follow": "keeper follow",
    "keeper beat": "keeper beat",
}
"""The component of the health by which each task says that it waits."""

VALUES = {("batches", errors.StatementRejectedError), ("query", errors.StatementRejectedError)}
"""Where a message is at fault: it is set aside, as the tests of poison show, or whoever asked is told."""


def _all(kind: type[StoreError]) -> set[type[StoreError]]:
    return {kind, *(item for child in kind.__subclasses__() for item in _all(child))}


def test_every_kind_of_error_is_tried() -> None:
    # CommitUnknownError is made of any of them, at a commit.
    assert set(KINDS) == _all(StoreError) - {StoreError, InvariantBrokenError, CommitUnknownError}


@dataclass
class Driver:
    """Stands before the driver: notes which task asks the database, and fails what it is told to."""

    seen: set[str] = field(default_factory=set)
    task: str | None = None
    fails: Callable[[], BaseException] | None = None
    statement: int | None = None
    """Which of the statements fails, counted from this one; absent: all of them."""
    failed: int = 0

    def ask(self) -> None:
        """Raise what the task is to meet."""
        current = asyncio.current_task()
        name = current.get_name() if current else ""
        self.seen.add(name)
        if self.fails is None or name != self.task:
            return
        if self.statement is not None:
            self.statement -= 1
            if self.statement != 0:
                return
        self.failed += 1
        raise self.fails()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Give what stands before the driver."""
    found = Driver()
    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        original = getattr(asyncpg.Connection, name)

        def asked(original: Any = original) -> Any:
            async def ask(connection: asyncpg.Connection, *arguments: Any, **options: Any) -> Any:
                found.ask()
                return await original(connection, *arguments, **options)

            return ask

        monkeypatch.setattr(asyncpg.Connection, name, asked())
    return found


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[EventDict]:
    """Collect what those that wait log."""
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture])
    for module in (waiting, keeper_module):
        monkeypatch.setattr(module, "log", log)
    return capture.entries


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, amqp_url: str, database_url: str) -> Settings:
    """Give the settings of a worker whose tasks come round often."""
    for module, name, seconds in (
        (outbox, "RELAY_SECONDS", 0.05),
        (outbox, "FORGET_SECONDS", 0.02),
        (keeper_module, "BEAT_SECONDS", 0.1),
        (keeper_module, "REPLAY_SECONDS", 0.05),
        (keeper_module, "FOLLOW_SECONDS", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)
    return Settings(
        amqp_url=amqp_url,  # type: ignore[arg-type]
        database_url=database_url,  # type: ignore[arg-type]
        payment_keys=KEYS,  # type: ignore[arg-type]
        http_host="127.0.0.1",
        http_port=0,
        keeper=True,
    )


@dataclass
class Running:
    """A worker in this process, and somebody who keeps every task of it at work."""

    worker: Worker
    upstream: Upstream
    task: asyncio.Task[None]

    def waits_in(self) -> dict[str, str]:
        """Return what the worker and its keeper wait for."""
        keeper = self.worker._keeper
        assert keeper is not None
        return self.worker.health.reasons | keeper._health.reasons

    async def until_it_waits(self, component: str, *, waits: bool = True) -> None:
        """Return when a component waits, or no longer does; fail if the worker ends."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (component in self.waits_in()) is not waits:
                assert not self.task.done(), self.task
                await asyncio.sleep(0.01)

    async def keep_at_work(self) -> None:
        """Send what every task has to do with, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self.upstream.command(open_account(fresh("user")))
                    await self.upstream.command(f"{fresh('nobody')} can read it".encode())
                    await self.upstream.result(result(fresh("R")))
                    await self.upstream.query({"type": "account.get.v1", "user_id": "nobody"})
            await asyncio.sleep(0.1)


@pytest.fixture
async def running(settings: Settings, amqp_url: str, driver: Driver) -> AsyncIterator[Running]:
    """Give a worker that works; it stops in order afterwards."""
    stopping = asyncio.Event()
    worker = Worker(settings)
    task = asyncio.create_task(worker.run(stopping), name="worker")
    async with Upstream(amqp_url, keeper=False) as upstream:
        found = Running(worker, upstream, task)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while found.waits_in():
                assert not task.done(), task
                await asyncio.sleep(0.01)
        at_work = asyncio.create_task(found.keep_at_work(), name="upstream")
        yield found
        driver.fails = None
        at_work.cancel()
        await asyncio.gather(at_work, return_exceptions=True)
        stopping.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task


async def test_every_task_that_asks_the_database_waits_for_whatever_it_says(
    running: Running, driver: Driver, logged: list[EventDict], owner: asyncpg.Connection
) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not set(COMPONENTS) <= driver.seen:  # noqa: ASYNC110 -- until each has asked once
            await asyncio.sleep(0.05)

    for task, component in COMPONENTS.items():
        for kind, fails in KINDS.items():
            if (task, kind) in VALUES:
                continue
            logged.clear()
            driver.task, driver.fails, driver.failed = task, fails, 0
            await running.until_it_waits(component)
            driver.fails = None
            await running.until_it_waits(component, waits=False)

            assert driver.failed, (task, kind)
            lines = [
                line for line in logged if line.get("component") == component and line["log_level"] == "error"
            ]
            assert len(lines) == 1, (task, kind, logged)
            assert lines[0]["reason"]

    own = {"Task-1", "worker", "upstream"}
    seen = {name for name in driver.seen if not name.startswith(("test", "Task-"))} - own
    assert seen <= set(COMPONENTS) | {"keeper"}, "a task that asks the database is not in the table"
    letters = await owner.fetch("SELECT DISTINCT reason FROM dead_letters")
    assert {row["reason"] for row in letters} <= {"MALFORMED"}


async def test_a_fault_in_answering_a_query_is_not_told_as_a_database_that_is_away(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(service, "answer", broken)

    said = await running.upstream.query({"type": "account.get.v1", "user_id": "nobody"})

    assert (said["code"], said["message"]) == ("INTERNAL", FAULT)
    assert "queries database" not in running.waits_in()


async def test_a_keeper_that_meets_a_broken_invariant_stops(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a bug of the wallet: whoever goes on would do more of it."""
    keeper = Worker(settings)._keeper
    assert keeper is not None

    async def broken(*_: object) -> bool:
        msg = "something was to change that is written once"
        raise InvariantBrokenError(msg)

    monkeypatch.setattr(keeper_module, "apply_or_bisect", broken)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(InvariantBrokenError):
            await keeper._run_periodically("keeper beat", broken, 1, asyncio.Event())
        with pytest.raises(InvariantBrokenError):
            await keeper._retry_until(Arrivals([]), asyncio.Event())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_start_waits_at_each_step_for_whatever_the_database_says(
    settings: Settings, driver: Driver, logged: list[EventDict], kind: type[StoreError]
) -> None:
    """Whichever of its statements fails, the start is begun again and succeeds.

    Each kind is tried at a third of the steps, and each step with a kind.
    """
    counting = Worker(settings)
    driver.task, driver.fails, driver.statement = "start", KINDS[kind], -1
    await asyncio.create_task(counting._open(asyncio.Event()), name="start")
    steps = -1 - driver.statement
    await counting._close()
    assert steps > 10

    for step in range(1 + list(KINDS).index(kind) % 3, steps + 1, 3):
        logged.clear()
        worker = Worker(settings)
        driver.statement, driver.failed = step, 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await asyncio.create_task(worker._open(asyncio.Event()), name="start")
        await worker._close()

        assert driver.failed == 1, step
        assert [line["event"] for line in logged] == ["database.waiting", "database.recovered"], step
        assert "database" not in worker.health.reasons
