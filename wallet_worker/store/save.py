"""Everything that a batch writes, part by part."""

import asyncio
from datetime import datetime
from typing import Self

import asyncpg

from wallet_worker.core.changes import Changes
from wallet_worker.store import (
    accounts,
    commands,
    entries,
    gateway_refs,
    orders,
    outbox,
    payment_instructions,
    payment_results,
    reversals,
)


async def changes(connection: asyncpg.Connection, changes: Changes, now: datetime) -> None:
    """Write what was decided, parents before children.

    An insert waits for another transaction that has inserted the same key, as for a lock: so inserts are sorted too.
    Of a batch that is written in parts, only the last part is sorted; no other transaction inserts the rows of the
    parts before (`Facts.take_flushable`), unless two workers see a message differently: one serial number for two
    accounts, or an account opened in between. Then they may wait for each other, and one of them loses the race.
    """
    if changes.commands:
        await commands.insert(connection, sorted(changes.commands, key=lambda command: command.serial_no))
    # What a batch has closed makes room for what it opens again: at most one account of a key is not closed.
    if changes.accounts_moved:
        await accounts.update(connection, list(changes.accounts_moved.values()))
    if changes.accounts_new:
        await accounts.insert(
            connection, sorted(changes.accounts_new.values(), key=lambda account: account.key)
        )
    if changes.orders_new:
        await orders.insert(connection, [changes.orders_new[number] for number in sorted(changes.orders_new)])
    if changes.orders_moved:
        await orders.advance(connection, list(changes.orders_moved.values()))
    await _rest(connection, changes)
    if changes.outgoing:
        await outbox.insert(connection, changes.outgoing, now)


async def _rest(connection: asyncpg.Connection, changes: Changes) -> None:
    """Write what belongs to orders that are there."""
    if changes.entries:
        await entries.insert(connection, changes.entries)
    if changes.receipts:
        await payment_results.insert(connection, changes.receipts)
    if changes.taken_refs:
        await gateway_refs.insert(connection, sorted(changes.taken_refs))
    if changes.instructions:
        await payment_instructions.put(
            connection, sorted(changes.instructions.values(), key=lambda kept: kept.order_id)
        )
    if changes.reversals:
        await reversals.put(
            connection,
            [reversal for _, reversal in sorted(changes.reversals.items(), key=lambda item: item[0])],
        )
    if changes.reversal_receipts:
        await reversals.insert_messages(connection, changes.reversal_receipts)


class PipelinedWriter:
    """Writes one part of a batch while the next is decided, so that neither waits for the other.

    A failure to write is raised by the next call, or when the block is left. Nothing is being written any more once
    the block was left, whatever ended it.
    """

    def __init__(self, connection: asyncpg.Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._writing: asyncio.Task[None] | None = None
        self.has_written = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._join()
        elif self._writing is not None:
            await self._finish_or_cancel(self._writing, at_once=issubclass(kind, asyncio.CancelledError))

    async def _finish_or_cancel(self, writing: asyncio.Task[None], *, at_once: bool) -> None:
        """Return when nothing is being written any more; raises CancelledError if that came meanwhile."""
        cut_off = False
        while not writing.done():
            if at_once or cut_off:
                writing.cancel()
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                cut_off = True
        if not writing.cancelled():
            writing.exception()  # the first failure is the one that counts
        if cut_off:
            raise asyncio.CancelledError

    async def begin(self, part: Changes) -> None:
        """Start writing a part, once the part before is written."""
        self.has_written = self.has_written or not part.is_empty
        await self._join()
        self._writing = asyncio.create_task(changes(self._connection, part, self._now), name="saving")

    async def end(self, part: Changes) -> None:
        """Write the last part."""
        self.has_written = self.has_written or not part.is_empty
        await self._join()
        await changes(self._connection, part, self._now)

    async def yield_control(self) -> None:
        """Yield to the writing, if a part is being written. The connection may not be used for anything else."""
        if self._writing is not None:
            await asyncio.sleep(0)

    async def _join(self) -> None:
        if self._writing is not None:
            await self._writing
            self._writing = None
