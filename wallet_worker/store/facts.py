"""What a batch reads, in a constant number of statements whatever its size, and what it writes, part by part.

The lock order of the whole wallet is the order of the calls in `load`: orders, users' accounts, system
accounts; each kind sorted. Nothing else locks more than one of them.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Self

import asyncpg

from wallet_worker.core.accounts import SystemKey, SystemName
from wallet_worker.core.context import Policy
from wallet_worker.core.facts import Changes, Facts
from wallet_worker.core.inbound import Message
from wallet_worker.core.lookups import lookups_for
from wallet_worker.store import accounts, commands, entries, orders, outbox, payment_results


async def load(
    connection: asyncpg.Connection, messages: Sequence[Message], rules: Policy, *, lock: bool = True
) -> tuple[datetime, Facts]:
    """Return the database's time and all that these messages may touch, locked until the transaction ends.

    Without `lock` nothing is locked, and nothing that is decided over these facts may be saved: that is for whoever
    only wants to know what would happen, under a role that need not be able to write.
    """
    wanted = lookups_for(messages)
    facts = Facts()
    now, facts.commands = await commands.known(connection, wanted.serial_nos)
    if wanted.orders:
        facts.orders = await orders.find(connection, sorted(wanted.orders), lock=lock)
    ids = {order.account_id for order in facts.orders.values()}
    if ids or wanted.keys:
        facts.add_accounts(await accounts.find(connection, ids, wanted.keys, lock=lock))
    # What is summed up of other orders is read after the locks, so that nobody adds to it any more.
    if wanted.refunded:
        facts.refund_totals = await orders.refunded(connection, wanted.refunded)
    if wanted.closing:
        closing = [found.account_id for key in wanted.closing if (found := facts.account(key))]
        facts.pending_orders = await orders.waiting(connection, closing)
    if rules.limits.has_daily_limits:
        facts.day_start = rules.limits.day_start(now)
        if counting := rules.limits.with_daily_limit(facts.accounts.values()):
            types = rules.limits.counted_types
            facts.daily_totals = await orders.spent(connection, counting, types, facts.day_start)
    if bounded := rules.limits.with_balance_limit(facts.accounts.values()):
        facts.pending_recharges = await orders.expected(connection, bounded)
    # An order of this very batch may be paid in it too, in the currency of its command. That may be one which
    # the wallet does not hold: then there is no system account either, and there will be no order.
    currencies = wanted.currencies & rules.currencies
    currencies |= {paid.currency for number in wanted.paid if (paid := facts.orders.get(number))}
    clearing = {SystemKey(SystemName.CLEARING, currency) for currency in currencies}
    for key, account in await accounts.find_lanes(connection, clearing, lock=lock):
        facts.add_lane(key, account)
    return now, facts


async def save(connection: asyncpg.Connection, changes: Changes, now: datetime) -> None:
    """Write what was decided, parents before children.

    Whoever inserts what another transaction has inserted waits for it, as for a lock: so these come in order too. Of a
    batch that is written in parts, only those are in order that are written last; nobody else inserts the others
    (`Facts.take_flushable`), unless two workers see a message differently: one serial number for two accounts, or an
    account opened in between. Then they may wait for each other, and one of them loses, as in any race.
    """
    if changes.commands:
        await commands.insert(connection, sorted(changes.commands, key=lambda command: command.serial_no))
    # What a batch has closed makes room for what it opens again: at most one account of a key is not closed.
    if changes.accounts_moved:
        await accounts.update(connection, list(changes.accounts_moved.values()))
    if changes.accounts_new:
        await accounts.insert(connection, sorted(changes.accounts_new.values(), key=lambda one: one.key))
    if changes.orders_new:
        await orders.insert(connection, [changes.orders_new[number] for number in sorted(changes.orders_new)])
    if changes.orders_moved:
        await orders.advance(connection, list(changes.orders_moved.values()))
    if changes.entries:
        await entries.insert(connection, changes.entries)
    if changes.receipts:
        await payment_results.insert(connection, changes.receipts)
    if changes.outgoing:
        await outbox.insert(connection, changes.outgoing, now)


class PipelinedWriter:
    """Has one part of a batch written while the next is decided, so that the database is not waited for.

    A failure to write comes out of the next call, or when the block is left. Nothing is being written any more once
    the block was left, however that was.
    """

    def __init__(self, connection: asyncpg.Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._writing: asyncio.Task[None] | None = None

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

    async def begin(self, changes: Changes) -> None:
        """Begin to write a part, once the part before is written."""
        await self._join()
        self._writing = asyncio.create_task(save(self._connection, changes, self._now), name="saving")

    async def end(self, changes: Changes) -> None:
        """Write the last part."""
        await self._join()
        await save(self._connection, changes, self._now)

    async def yield_control(self) -> None:
        """Let the writing go on, if anything is being written; nothing else may be done with the connection."""
        if self._writing is not None:
            await asyncio.sleep(0)

    async def _join(self) -> None:
        if self._writing is not None:
            await self._writing
            self._writing = None
