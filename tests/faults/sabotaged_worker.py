"""A worker that does something on purpose that no worker may do, or does it sooner: `… sabotaged_worker NAME[,NAME]`.

The sabotage is done here, to the modules of this process; nothing in the worker knows of it.
"""

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final, Self
from uuid import UUID

import asyncpg
import pytest
from asyncpg.transaction import Transaction
from typing_extensions import override

from wallet_worker.broker import connection, consumer, inbox, publisher
from wallet_worker.core import batch as core_batch
from wallet_worker.core import decide, inbound, payment_results
from wallet_worker.core.changes import Changes
from wallet_worker.core.facts import Facts
from wallet_worker.core.inbound import InboundMessage, InvalidMessage
from wallet_worker.store import database, load, outbox, replication, save, servers, session
from wallet_worker.store.errors import StatementRejectedError
from wallet_worker.worker import app, batch
from wallet_worker.worker import outbox as relay
from wallet_worker.worker.bounds import BOUNDS
from wallet_worker.worker.intake import Arrived, DueRows
from wallet_worker.worker.reporting import MessageResult

CRASHING: Final = b"CRASHES-"
FAILING: Final = b"FAILS-"
REFUSED: Final = b"REFUSED-"

put = pytest.MonkeyPatch().setattr  # fails where there is no such name any more
SABOTAGES: dict[str, Callable[[], None]] = {}


def sabotage(make: Callable[[], None]) -> Callable[[], None]:
    """Have it chosen by its name, with hyphens."""
    SABOTAGES[make.__name__.replace("_", "-")] = make
    return make


# Sooner: the same code with shorter limits, so that a test of a few seconds passes them.


@sabotage
def impatient() -> None:
    """Find dead peers in seconds; the worker's own limits are longer, and `make faults` waits for them."""
    put(connection, "HEARTBEAT_SECONDS", 2)
    put(connection, "CONNECT_SECONDS", 3.0)
    put(connection, "RPC_SECONDS", 3.0)
    put(consumer, "RPC_SECONDS", 3.0)
    put(consumer, "WATCH_SECONDS", 2.0)
    put(consumer, "TOPOLOGY_GRACE_SECONDS", 3.0)
    put(inbox, "ACKNOWLEDGE_SECONDS", 8.0)
    put(app, "STATEMENT_SECONDS_SHORT", 3)
    (database.Database.__init__.__kwdefaults__ or {})["statement_seconds"] = 3
    put(database, "SILENCE_SECONDS", 1.0)
    put(replication, "COMMIT_SECONDS", 3.5)
    put(servers, "CONNECT_SECONDS", 2.0)
    put(database, "ACQUIRE_SECONDS", 3.0)
    database._LIMITS |= {
        "lock_timeout": "1s",
        "idle_in_transaction_session_timeout": "4s",
    }
    put(publisher, "PUBLISH_SECONDS", 2.0)
    put(outbox, "RELAY_AFTER", timedelta(seconds=3))
    put(outbox, "RELAY_BACKOFF_MAX", timedelta(seconds=4))


@sabotage
def hasty_parking() -> None:
    """Look for the orders of early results three times within a second, instead of five minutes."""
    put(payment_results, "PARK_DELAYS", tuple(timedelta(seconds=seconds) for seconds in (0.2, 0.3, 0.4)))


@sabotage
def clock_ahead() -> None:
    """Have this process's clock an hour ahead from its second second on: it jumps while messages are in hand."""
    real, begun = time.time, time.time()

    class Ahead(datetime):
        @override
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(jumped(), tz or UTC)

    def jumped() -> float:
        return real() + (3_600 if real() > begun + 2 else 0)

    put(time, "time", jumped)
    put(inbox, "datetime", Ahead)


@sabotage
def jumping_clock() -> None:
    """Have sessions find the functions of the schema `jumping` before those of PostgreSQL, which they never do else."""
    path = session.search_path
    put(session, "search_path", lambda schema: f"jumping, pg_catalog, {path(schema)}")


# Messages that the worker dies of, or fails on.


@sabotage
def crashes() -> None:
    """Die, as C code does, of messages with certain bytes in them."""
    real = inbound.read

    def read(incoming: InboundMessage, keys: Any) -> Any:
        if CRASHING in incoming.body:
            ctypes.string_at(0)
        return real(incoming, keys)

    put(batch, "read", read)


@sabotage
def fails() -> None:
    """Have our own code fail on messages with certain bytes in them, and the database refuse others."""
    real, real_save = decide.decide, save.changes

    def failing(message: Any, *arguments: Any) -> Any:
        if FAILING.decode() in getattr(message, "serial_no", ""):
            raise ZeroDivisionError("a bug")
        return real(message, *arguments)

    async def refusing(connection: asyncpg.Connection, changes: Changes, now: datetime) -> None:
        if any(REFUSED.decode() in command.serial_no for command in changes.commands):
            raise StatementRejectedError("the database will not have this")
        await real_save(connection, changes, now)

    put(core_batch, "decide", failing)
    put(save, "changes", refusing)


@sabotage
def freezes() -> None:
    """Stop once, instead of dying at a failpoint, with in hand what lies between two steps of a batch.

    Whoever continues the process has it go on from there, and pass there ever after.
    """
    real, stopped = os.kill, False

    def stop(pid: int, _: int) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            real(pid, signal.SIGSTOP)

    put(os, "kill", stop)


@sabotage
def mute() -> None:
    """Be connected and ready, and publish nothing."""

    async def publish(*_: Any) -> set[UUID]:
        return set()

    put(publisher.Publisher, "publish", publish)


# The negative controls: each breaks a promise, and the checker must see it.


@sabotage
def forgets() -> None:
    """Never know that a serial number was used. (The test takes the constraints away that would still stop it.)"""
    real = load.facts

    async def forgetting(*arguments: Any, **options: Any) -> tuple[datetime, Facts]:
        now, found = await real(*arguments, **options)
        found.commands = {}
        return now, found

    put(load, "facts", forgetting)


@sabotage
def acknowledges_first() -> None:
    """Acknowledge a batch before it is applied, and die in between, the third time."""
    taken = 0

    async def run(self: batch.BatchProcessor, box: inbox.Inbox[inbox.Envelope], _: asyncio.Event) -> None:
        nonlocal taken
        while letters := await box.take(BOUNDS.batch_max):
            await inbox.acknowledge(letters)
            taken += 1
            if taken == 3:
                await asyncio.sleep(0.3)  # what was acknowledged is on its way
                os.kill(os.getpid(), signal.SIGKILL)
            await self.process([letter.content for letter in letters])

    put(batch.BatchProcessor, "run", run)


@sabotage
def ignores_returns() -> None:
    """Take a message for published that the broker could not route."""
    put(publisher, "_MANDATORY", frozenset())


@sabotage
def poisons_the_batch() -> None:
    """Set all of a batch aside for the one message that cannot be read."""

    async def apply(self: batch.BatchProcessor, arrived: Arrived | DueRows) -> list[MessageResult]:
        letters = arrived.envelopes if isinstance(arrived, Arrived) else ()
        if any(isinstance(inbound.read(letter.incoming, self._keys), InvalidMessage) for letter in letters):
            return [
                each
                for letter in letters
                for each in await self._dead_lettering.set_aside(letter, "one of the batch was bad")
            ]
        return await real_apply(self, arrived)

    real_apply = batch.BatchProcessor.apply
    put(batch.BatchProcessor, "apply", apply)


@sabotage
def cancels_commits() -> None:
    """Cancel a commit that takes long, as the driver does, and begin again without a record in the log.

    It was the worker's way before: what it then reads and acknowledges, the standby does not have.
    """

    async def commit(_: asyncpg.Connection, transaction: Transaction) -> None:
        await transaction.commit()

    async def write_record(_: asyncpg.Connection) -> None:
        """Write none."""

    put(
        database, "_is_silence", lambda _: False
    )  # to close the connection would keep the cancel from being sent
    put(replication, "commit", commit)
    put(replication, "write_record", write_record)


@sabotage
def claims_nothing() -> None:
    """Relay rows that the standby may not have, before anything of the relay's is committed."""

    async def relay_some(self: relay.Outbox) -> int:
        async with self._database.transaction() as connection:
            rows = await outbox.claim_due(connection, relay.RELAY_BATCH_MAX)
            confirmed, _ = await self._publish_isolating_replies(rows)
            await outbox.delete(connection, confirmed)
        return len(rows)

    put(relay.Outbox, "_relay_some", relay_some)


def main(names: str) -> None:
    """Do each sabotage, then be a worker."""
    for name in names.split(","):
        SABOTAGES[name]()
    from wallet_worker.cli import main as wallet

    sys.argv = ["wallet", "worker"]
    wallet()


if __name__ == "__main__":
    main(sys.argv[1])
