"""What a batch reads and what it writes: a constant number of statements, whatever its size.

The lock order of the whole wallet is the order of the calls in `load`: orders, users' accounts, system
accounts; each kind sorted. Nothing else locks more than one of them.
"""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from schemas.commands import OpenAccount, Recharge
from schemas.payments import PaymentResult
from wallet_worker.core.accounts import AccountKey, SystemKey, SystemName
from wallet_worker.core.facts import Facts
from wallet_worker.core.reading import Readable
from wallet_worker.store import accounts, commands, entries, orders, payment_results


async def load(
    connection: asyncpg.Connection, messages: Sequence[Readable], allowed: frozenset[str]
) -> tuple[datetime, Facts]:
    """Return the database's time and all that these messages may touch, locked until the transaction ends.

    `allowed` are the currencies in which an order may be made.
    """
    serial_nos: set[str] = set()
    paid: set[str] = set()
    keys: set[AccountKey] = set()
    for message in messages:
        match message:
            case PaymentResult():
                paid.add(message.payment_order_no)
            case OpenAccount() | Recharge():
                serial_nos.add(message.serial_no)
                keys.add(AccountKey(message.user_id, message.account_type, message.currency))
    facts = Facts()
    now, facts.commands = await commands.known(connection, serial_nos)
    if paid:
        facts.orders = await orders.lock(connection, sorted(paid))
    ids = {order.account_id for order in facts.orders.values()}
    if ids or keys:
        facts.add_accounts(await accounts.lock(connection, ids, keys))
    currencies = {order.currency for order in facts.orders.values()}
    # An order of this very batch may be paid in it too, in the currency of its command. That may be one which
    # the wallet does not hold: then there is no system account either, and there will be no order.
    currencies |= allowed & {
        message.currency
        for message in messages
        if isinstance(message, Recharge) and message.serial_no in paid
    }
    for key, account in await accounts.lock_lanes(
        connection, {SystemKey(SystemName.CLEARING, currency) for currency in currencies}
    ):
        facts.add_lane(key, account)
    return now, facts


async def save(connection: asyncpg.Connection, facts: Facts) -> None:
    """Write everything that was decided, parents before children.

    Whoever inserts what another transaction has inserted waits for it, as for a lock: so these come in order too.
    """
    if facts.commands_new:
        await commands.insert(connection, sorted(facts.commands_new, key=lambda command: command.serial_no))
    if facts.accounts_new:
        opened = sorted((facts.accounts[number] for number in facts.accounts_new), key=lambda one: one.key)
        await accounts.insert(connection, opened)
    if facts.orders_new:
        await orders.insert(connection, [facts.orders[number] for number in sorted(facts.orders_new)])
    if facts.orders_before:
        changes = [(status, facts.orders[number]) for number, status in facts.orders_before.items()]
        await orders.advance(connection, changes)
    if facts.accounts_before:
        await accounts.update(
            connection,
            [(before, facts.accounts[before.account_id]) for before in facts.accounts_before.values()],
        )
    if facts.entries:
        await entries.insert(connection, facts.entries)
    if facts.receipts:
        await payment_results.insert(connection, facts.receipts)
