"""Several workers under one command, for a machine with several cores: Python uses one core a process."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import structlog

from wallet_worker.worker.process import INVARIANT_BROKEN

PROGRAM = (sys.executable, "-m", "wallet_worker", "worker")
HTTP_PORT = "WALLET_HTTP_PORT"

log = structlog.get_logger(__name__)


def run(count: int, http_port: int, program: Sequence[str] = PROGRAM, port_variable: str = HTTP_PORT) -> int:
    """Run so many processes until SIGTERM or SIGINT; return 0 if all of them drained, else 1.

    `INVARIANT_BROKEN` if one of them ended so.

    Each is a `program` of its own, a `wallet worker` if none is given. They listen on `http_port` and those that follow
    it, which they are told by `port_variable`, or each on a free one if it is 0. When one ends by itself, whoever
    watches over this command is to know: the others drain, and it ends.
    """
    return asyncio.run(_run(count, http_port, program, port_variable))


async def _run(count: int, http_port: int, program: Sequence[str], port_variable: str) -> int:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    workers = [
        await asyncio.create_subprocess_exec(
            *program, env=os.environ | {port_variable: str(http_port + offset if http_port else 0)}
        )
        for offset in range(count)
    ]
    ends = [asyncio.create_task(worker.wait()) for worker in workers]

    def reload() -> None:
        for worker in workers:
            if worker.returncode is None:
                worker.send_signal(signal.SIGHUP)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    stop_wait = asyncio.create_task(stopping.wait())
    ended, _ = await asyncio.wait({stop_wait, *ends}, return_when=asyncio.FIRST_COMPLETED)
    for worker, end in zip(workers, ends, strict=True):
        if end in ended and not stopping.is_set():
            log.error("worker.ended", pid=worker.pid, status=worker.returncode, detail="the others stop too")
        if worker.returncode is None:
            worker.terminate()
    statuses = await asyncio.gather(*ends)
    # One that is told before it has begun dies of the signal, with nothing in its hands.
    drained = stopping.is_set() and set(statuses) <= {0, -signal.SIGTERM}
    stop_wait.cancel()
    if INVARIANT_BROKEN in statuses:
        return INVARIANT_BROKEN
    return 0 if drained else 1
