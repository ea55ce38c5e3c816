"""Waiting for the database: a task outlives whatever the database does, and says that it waits."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from wallet_worker.backoff import Backoff
from wallet_worker.store.database import Database
from wallet_worker.store.errors import ConflictError, InvariantBrokenError, StoreError
from wallet_worker.telemetry.health import Health

log = structlog.get_logger(__name__)


class Waiting:
    """Does the work of one task on the database, again and again while the database fails it.

    Each task has a part of `health` of its own, which is not ready while the task waits, so that one that works does
    not report another as working.
    """

    def __init__(self, part: str, database: Database, health: Health) -> None:
        self._part = part
        self._database = database
        self._health = health

    async def done(self, work: Callable[[], Awaitable[None]], stopping: asyncio.Event | None = None) -> bool:
        """Do the work; return False if it still failed when `stopping` was set.

        Whatever `store.errors` has is waited for, but InvariantBrokenError, which is raised. That includes what would
        be a message's fault: who sets messages aside has done so before, and nothing but a message can be set aside.
        """
        stopping = stopping or asyncio.Event()
        pause = Backoff()
        attempt = 0
        while True:
            attempt += 1
            try:
                await work()
            except InvariantBrokenError:
                raise
            except StoreError as exc:
                self._lost(exc, attempt)
                if not isinstance(exc, ConflictError):
                    # After a failover they lead to the old primary, and a new session has the settings of now.
                    await self._database.forget_connections()
                if stopping.is_set():
                    return False
                await pause.wait(stopping)
            else:
                if self._health.ready(self._part):
                    log.info("database.recovered", part=self._part)
                return True

    def _lost(self, exc: StoreError, attempt: int) -> None:
        """Report the reason: once, and not again until the work was done."""
        if self._health.unready(self._part, str(exc)):
            log.error("database.lost", part=self._part, reason=str(exc))
        elif attempt == 1:  # it has never worked since this process started
            log.warning("database.waiting", part=self._part, reason=str(exc))
