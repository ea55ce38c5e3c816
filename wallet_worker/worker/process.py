"""One process of the wallet on RabbitMQ and PostgreSQL: its signals, its exit status, and what it logs at its end."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uvloop

from wallet_worker.broker.addresses import WrongUrlError
from wallet_worker.broker.amqp.codec import patch_pamqp
from wallet_worker.broker.topology import TopologyError
from wallet_worker.store.errors import InvariantBrokenError
from wallet_worker.store.schema_version import DatabaseNotReadyError
from wallet_worker.telemetry.server import CannotServeError

log = structlog.get_logger(__name__)


INVARIANT_BROKEN: Final = 6  # as every command ends that meets a fault of the program


class CannotStartError(Exception):
    """Something is set up wrongly; the sentence is for a person."""


def run_process(work: Callable[[asyncio.Event], Awaitable[None]], name: str) -> int:
    """Do the work until SIGTERM or SIGINT sets its event; return the exit status.

    0: it was told to stop. 1: something is set up wrongly. `INVARIANT_BROKEN`: a fault of the program.
    `name` begins the log events.
    """
    patch_pamqp()
    return uvloop.run(_main(work, name))


async def _main(work: Callable[[asyncio.Event], Awaitable[None]], name: str) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    failed: tuple[BaseException, ...] = ()
    status = 1
    try:
        await work(stopping)
    except* (
        CannotServeError,
        CannotStartError,
        DatabaseNotReadyError,
        TopologyError,
        WrongUrlError,
    ) as group:
        failed = group.exceptions
        event = f"{name}.cannot_run"
        for exc in _flatten(group):
            log.error(event, reason=str(exc))
    except* InvariantBrokenError as group:
        failed = group.exceptions
        event = f"{name}.invariant_broken"
        for exc in _flatten(group):
            log.critical(event, reason=str(exc))
        status = INVARIANT_BROKEN
    if failed:
        return status
    event = f"{name}.stopped"
    log.info(event)
    return 0


def _flatten(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the exceptions of a group, and of the groups in it."""
    flat: list[BaseException] = []
    for exc in group.exceptions:
        flat += _flatten(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return flat
