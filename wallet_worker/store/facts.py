"""What a batch reads and what it writes: a constant number of statements, whatever its size.

The lock order of the whole wallet is the order of the calls in `load`: orders, users' accounts, system
accounts; each kind sorted. Nothing else locks more than one of them.
"""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from wallet_worker.core.accounts import SystemKey, SystemName
from wallet_worker.core.circumstances import Rules
from wallet_worker.core.facts import Facts
from wallet_worker.core.naming import named
from wallet_worker.core.reading import Readable
from wallet_worker.store import accounts, commands, entries, orders, payment_results


async def load(
    connection: asyncpg.Connection, messages: Sequence[Readable], rules: Rules, *, lock: bool = True
) -> tuple[datetime, Facts]:
    """Return the database's time and all that these messages may touch, locked until the transaction ends.

    Without `lock` nothing is locked, and nothing that is decided over these facts may be saved: that is for whoever
    only wants to know what would happen, under a role that need not be able to write.
    """
    wanted = named(messages)
    facts = Facts()
    now, facts.commands = await commands.known(connection, wanted.serial_nos)
    if wanted.orders:
        facts.orders = await orders.find(connection, sorted(wanted.orders), lock=lock)
    ids = {order.account_id for order in facts.orders.values()}
    if ids or wanted.keys:
        facts.add_accounts(await accounts.find(connection, ids, wanted.keys, lock=lock))
    # What is summed up of other orders is read after the locks, so that nobody adds to it any more.
    if wanted.refunded:
        facts.refunded = await orders.refunded(connection, wanted.refunded)
    if wanted.closing:
        closing = [found.account_id for key in wanted.closing if (found := facts.account(key))]
        facts.waiting = await orders.waiting(connection, closing)
    if rules.limits.count_days:
        facts.day_start = rules.limits.day_start(now)
        if counting := rules.limits.counting(facts.accounts.values()):
            types = rules.limits.counted_types
            facts.spent = await orders.spent(connection, counting, types, facts.day_start)
    if bounded := rules.limits.bounded(facts.accounts.values()):
        facts.expected = await orders.expected(connection, bounded)
    # An order of this very batch may be paid in it too, in the currency of its command. That may be one which
    # the wallet does not hold: then there is no system account either, and there will be no order.
    currencies = wanted.currencies & rules.currencies
    currencies |= {paid.currency for number in wanted.paid if (paid := facts.orders.get(number))}
    clearing = {SystemKey(SystemName.CLEARING, currency) for currency in currencies}
    for key, account in await accounts.find_lanes(connection, clearing, lock=lock):
        facts.add_lane(key, account)
    return now, facts


async def save(connection: asyncpg.Connection, facts: Facts) -> None:
    """Write everything that was decided, parents before children.

    Whoever inserts what another transaction has inserted waits for it, as for a lock: so these come in order too.
    """
    if facts.commands_new:
        await commands.insert(connection, sorted(facts.commands_new, key=lambda command: command.serial_no))
    # What a batch has closed makes room for what it opens again: at most one account of a key is not closed.
    if facts.accounts_before:
        await accounts.update(
            connection,
            [(before, facts.accounts[before.account_id]) for before in facts.accounts_before.values()],
        )
    if facts.accounts_new:
        opened = sorted((facts.accounts[number] for number in facts.accounts_new), key=lambda one: one.key)
        await accounts.insert(connection, opened)
    if facts.orders_new:
        await orders.insert(connection, [facts.orders[number] for number in sorted(facts.orders_new)])
    if facts.orders_before:
        changes = [(before, facts.orders[number]) for number, before in facts.orders_before.items()]
        await orders.advance(connection, changes)
    if facts.entries:
        await entries.insert(connection, facts.entries)
    if facts.receipts:
        await payment_results.insert(connection, facts.receipts)
