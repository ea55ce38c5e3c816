"""Everything that a batch reads, in a constant number of statements whatever its size.

The lock order of the whole wallet is the order of the calls in `facts`: orders, users' accounts, system
accounts; each kind sorted. Nothing else locks more than one of them.
"""

from collections.abc import Callable
from datetime import datetime

import asyncpg

from wallet_worker.core.accounts import SystemKey, SystemName
from wallet_worker.core.context import Policy
from wallet_worker.core.facts import Facts
from wallet_worker.core.lookups import Lookups
from wallet_worker.core.orders import ORDER_SPECS
from wallet_worker.core.reversals import REVERSAL_ACCOUNTS
from wallet_worker.store import accounts, commands, gateway_refs, orders, payment_instructions, reversals


async def facts(
    connection: asyncpg.Connection,
    lookups: Lookups,
    rules: Policy,
    *,
    lock: bool = True,
    on_wait_for_lane: Callable[[], None] = lambda: None,
) -> tuple[datetime, Facts]:
    """Return the database's time and all that was looked up, locked until the transaction ends.

    `on_wait_for_lane` is called where other transactions hold every lane of a system account.

    Without `lock` no row is locked, and nothing that is decided over these facts may be saved. A prediction loads so,
    under a role that need not be able to write.
    """
    facts = Facts()
    now, facts.commands = await commands.find(connection, lookups.serial_nos)
    if lookups.orders:
        facts.orders = await orders.find(connection, sorted(lookups.orders), lock=lock)
    ids = {order.account_id for order in facts.orders.values()}
    if ids or lookups.keys:
        facts.add_accounts(await accounts.find(connection, ids, lookups.keys, lock=lock))
    # Sums of other orders are read after the locks, so that no other transaction adds to them any more.
    if lookups.refunded:
        facts.refund_totals, facts.reversed_totals = await orders.given_back(connection, lookups.refunded)
    if lookups.reversed or lookups.instructed or lookups.gateway_refs:
        await _of_payments(connection, lookups, facts, rules)
    if lookups.closing:
        closing = [account.account_id for key in lookups.closing if (account := facts.account(key))]
        facts.pending_orders = await orders.waiting(connection, closing)
    if rules.limits.has_daily_limits:
        facts.day_start = rules.limits.day_start(now)
        if limited := rules.limits.with_daily_limit(facts.accounts.values()):
            types = rules.limits.counted_types
            facts.daily_totals = await orders.spent(connection, limited, types, facts.day_start)
    if limited := rules.limits.with_balance_limit(facts.accounts.values()):
        facts.pending_recharges = await orders.expected(connection, limited)
    # A command may name a currency that the wallet does not hold: then there is no system account, and no order.
    system_accounts = {key for key in lookups.system_accounts if key.currency in rules.currencies}
    system_accounts |= {
        SystemKey(name, order.currency)
        for number in lookups.paid
        if (order := facts.orders.get(number))
        for name in ORDER_SPECS[order.order_type].system_names
    }
    system_accounts |= {
        SystemKey(SystemName.RECEIVABLES, account.currency)
        for account in facts.accounts.values()
        if account.debt_minor
    }
    system_accounts |= {
        SystemKey(name, order.currency)
        for number in lookups.reversed
        if (order := facts.orders.get(number))
        for name in REVERSAL_ACCOUNTS
    }
    for key, account in await accounts.find_lanes(
        connection, system_accounts, lock=lock, on_wait=on_wait_for_lane
    ):
        facts.add_lane(key, account)
    return now, facts


def wanted_refs(lookups: Lookups, facts: Facts, rules: Policy) -> list[tuple[str, str]]:
    """Return the channel and the gateway's id of each payment of which no other order may have it."""
    channels = lookups.channels | {order.serial_no: order.channel for order in facts.orders.values()}
    return [
        (channels[number], ref)
        for number, ref in lookups.gateway_refs
        if number in channels and rules.channel(channels[number]).refs_unique
    ]


async def _of_payments(connection: asyncpg.Connection, lookups: Lookups, facts: Facts, rules: Policy) -> None:
    """Load what the gateway has said of payments beside their results."""
    if lookups.reversed:
        turned = [order for number in lookups.reversed if (order := facts.orders.get(number))]
        facts.reversals = await reversals.of_orders(connection, turned)
        facts.written_off = await orders.written_off(connection, {order.account_id for order in turned})
    if lookups.instructed:
        instructed = [order for number in lookups.instructed if (order := facts.orders.get(number))]
        facts.instructions = await payment_instructions.of_orders(connection, instructed)
    if rules.has_unique_refs and (wanted := wanted_refs(lookups, facts, rules)):
        facts.gateway_refs = await gateway_refs.find(connection, wanted)
