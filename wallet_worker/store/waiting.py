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

    Each task has a component of `health` of its own, which is not ready while the task waits, so that one that works
    does not report another as working.
    """

    def __init__(
        self, component: str, database: Database, health: Health, *, outlives_faults: bool = False
    ) -> None:
        """With `outlives_faults`, every error of the task's own code is waited for too, but a broken invariant."""
        self._component = component
        self._outlives_faults = outlives_faults
        self._database = database
        self._health = health

    async def done(self, work: Callable[[], Awaitable[None]], stopping: asyncio.Event | None = None) -> bool:
        """Do the work; return False if it still failed when `stopping` was set.

        Whatever `store.errors` has is waited for, but InvariantBrokenError, which is raised like any other error. That
        includes what would be a message's fault: who sets messages aside has done so before, and nothing but a message
        can be set aside.
        """
        stopping = stopping or asyncio.Event()
        pause = Backoff()
        attempt = 0
        while True:
            attempt += 1
            try:
                await work()
            except InvariantBrokenError:
                raise  # our bug: whoever goes on would do more of it
            except Exception as exc:
                if not (isinstance(exc, StoreError) or self._outlives_faults):
                    raise
                self._lost(exc, attempt)
                if not isinstance(exc, ConflictError):
                    # After a failover they lead to the old primary, and a new session has the settings of now.
                    await self._database.forget_connections()
                if stopping.is_set():
                    return False
                await pause.wait(stopping)
            else:
                if self._health.ready(self._component):
                    log.info("database.recovered", component=self._component)
                return True

    def _lost(self, exc: Exception, attempt: int) -> None:
        """Report the reason: once, and not again until the work was done."""
        if not isinstance(exc, StoreError):
            if self._health.unready(self._component, str(exc)) or attempt == 1:
                log.error(
                    "task.failed",
                    component=self._component,
                    reason=f"{type(exc).__name__}: {exc}",
                    exc_info=exc,
                )
        elif self._health.unready(self._component, str(exc)):
            log.error("database.lost", component=self._component, reason=str(exc))
        elif attempt == 1:  # it has never worked since this process started
            log.warning("database.waiting", component=self._component, reason=str(exc))
