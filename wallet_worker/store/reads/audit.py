"""What the audit reads. The database names the accounts and orders that are not known to be right; they are read then.

The posting rule of orders (which entries an order must have) is written from the legs in `core.orders`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from wallet_schemas.money import MINOR_DIGITS
from wallet_schemas.values import OrderStatus, OrderType
from wallet_worker.core import orders
from wallet_worker.core.accounts import SystemName
from wallet_worker.core.orders import CHARGED, OPEN, REFUNDS, Leg, Party
from wallet_worker.core.reversals import MADE
from wallet_worker.store.snapshot import chunks
from wallet_worker.store.sql import literals

SUSPECTS_MAX: Final = 100_000  # some 10 MB; where there are more, everything is read
MOVED: Final = "coalesce(o.received, o.amount)"
"""What an order o moves, in SQL: what came, where that is another amount than was ordered."""

# A cancel changes an order that is there, and makes none.
_MAKES_AN_ORDER: Final = (
    "(c.command_type LIKE 'order.%' AND c.command_type NOT LIKE 'order.cancel.%' "
    "OR c.command_type LIKE 'wallet.order.%')"
)

_OF_ITS_COMMAND: Final = (
    "starts_with(c.command_type, CASE WHEN o.order_type IN (" + literals(sorted(orders.OWN)) + ") "
    "THEN 'wallet.order.v' ELSE 'order.' || o.order_type || '.v' END)"
)
"""The command `c` is one that makes an order of the type of `o`, of any version."""


_COUNTS = """
SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM orders),
       (SELECT count(*) FROM commands), (SELECT count(*) FROM entries)
"""


class Counts(NamedTuple):
    """How many rows there are."""

    accounts: int
    orders: int
    commands: int
    lines: int


async def counts(connection: asyncpg.Connection) -> Counts:
    """Return how many rows there are."""
    row = await connection.fetchrow(_COUNTS)
    return Counts(*row) if row else Counts(0, 0, 0, 0)


_BALANCES = """
SELECT currency, sum(balance) FROM accounts GROUP BY currency
"""


async def balances(connection: asyncpg.Connection) -> dict[str, int]:
    """Return the sum of all balances of each currency, in minor units."""
    return {currency: int(minor) for currency, minor in await connection.fetch(_BALANCES)}


# Accounts that are not known to be right, and those of which there are only lines. Where every line follows from the
# one before it, the last one's balance is the sum of all.
_SUSPECT_ACCOUNTS = """
SELECT account_id
FROM (
    SELECT account_id, max(line_no) AS last_line_no, sum(moved) AS moved, min(balance_after) AS lowest,
           bool_and(follows) AS chained
    FROM (
        SELECT account_id, line_no, moved, balance_after,
               (
                   line_no = row_number() OVER lines
                   AND balance_before = lag(balance_after, 1, 0::bigint) OVER lines
                   AND balance_after = balance_before + moved
                   AND created_at >= lag(created_at, 1, created_at) OVER lines
               ) IS TRUE AS follows
        FROM (
            SELECT account_id, line_no, balance_before, balance_after, created_at,
                   CASE direction WHEN 'credit' THEN amount ELSE -amount END AS moved
            FROM entries
        ) AS entry
        WINDOW lines AS (PARTITION BY account_id ORDER BY line_no)
    ) AS line
    GROUP BY account_id
) AS ledger
FULL JOIN accounts AS a USING (account_id)
WHERE (
    coalesce(ledger.chained, true)
    AND a.line_no = coalesce(ledger.last_line_no, 0)
    AND a.balance = coalesce(ledger.moved, 0)
    AND (a.kind <> 'user' OR least(a.balance, ledger.lowest) >= 0)
    AND a.reserved >= 0
    AND (a.reserved = 0 OR a.reserved <= a.balance)
) IS NOT TRUE
LIMIT $1
"""


async def suspect_accounts(connection: asyncpg.Connection) -> list[int] | None:
    """Return the ids of accounts that are not known to be right; None if all are to be read."""
    return await _suspects(connection, _SUSPECT_ACCOUNTS)


async def suspect_orders(connection: asyncpg.Connection) -> list[UUID | None] | None:
    """Return the ids of orders that are not known to be right; None if all are to be read."""
    return await _suspects(connection, suspect_orders_sql())


async def _suspects(connection: asyncpg.Connection, query: str) -> list[Any] | None:
    """Return what the query suspects, or None where there are too many or the numbers cannot be added."""
    try:
        async with connection.transaction():
            rows = await connection.fetch(query, SUSPECTS_MAX + 1)
    except asyncpg.NumericValueOutOfRangeError:
        return None
    return None if len(rows) > SUSPECTS_MAX else [row[0] for row in rows]


def suspect_orders_sql() -> str:
    """Return the statement that finds orders without exactly the entries that the legs of their type ask for.

    It also finds entries without an order, and commands without one: a suspect without a number. One line at most
    stands on the account of a user on each side, and one on a system account. So the largest of each is the only one,
    where there are as many lines as legs.
    """
    by_legs: dict[tuple[Leg, ...], list[OrderType]] = {}
    for order_type, spec in orders.ORDER_SPECS.items():
        if OrderStatus.SUCCEEDED in spec.statuses:
            by_legs.setdefault(spec.legs, []).append(order_type)
    moving_nothing = by_legs.pop((), [])
    names = sorted({name for spec in orders.ORDER_SPECS.values() for name in spec.system_names})
    amounts = ",\n           ".join(
        f"max(e.amount) FILTER (WHERE e.direction = '{side}' AND a.system_name = '{name}') AS {name}_{side}"
        for name in names
        for side in ("debit", "credit")
    )
    moved = "\n                ".join(
        f"WHEN o.order_type IN ({literals(order_types)}) THEN {_moved(legs)}"
        for legs, order_types in by_legs.items()
    )
    return f"""
SELECT order_id
FROM (
    SELECT e.order_id, count(*) AS lines, min(a.currency) AS currency, max(a.currency) AS other_currency,
           max(a.account_id) FILTER (WHERE e.direction = 'debit'  AND a.system_name IS NULL) AS payer,
           max(a.account_id) FILTER (WHERE e.direction = 'credit' AND a.system_name IS NULL) AS payee,
           max(e.amount)     FILTER (WHERE e.direction = 'debit'  AND a.system_name IS NULL) AS payer_amount,
           max(e.amount)     FILTER (WHERE e.direction = 'credit' AND a.system_name IS NULL) AS payee_amount,
           {amounts}
    FROM entries e
    LEFT JOIN accounts a USING (account_id)
    GROUP BY e.order_id
) AS paid
FULL JOIN orders AS o USING (order_id)
FULL JOIN (
    SELECT c.serial_no, c.command_type
    FROM commands c
    WHERE c.status = 'applied' AND {_MAKES_AN_ORDER}
) AS c USING (serial_no)
WHERE (
    {_OF_ITS_COMMAND}
    AND CASE
        WHEN o.status <> 'succeeded' OR o.order_type IN ({literals(moving_nothing)}) THEN paid.lines IS NULL
        ELSE paid.currency = o.currency AND paid.other_currency = o.currency
            AND CASE
                {moved}
            END
    END
) IS NOT TRUE
LIMIT $1
"""  # noqa: S608 -- names and literals of our own


def _moved(legs: Sequence[Leg]) -> str:
    """Return the condition that an order has an entry for each leg, and no other."""
    conditions = [f"paid.lines = {len(legs)}"]
    for leg in legs:
        amount = MOVED if abs(leg.times) == 1 else f"{abs(leg.times)} * {MOVED}"
        if isinstance(leg.holder, Party):
            side = "payer" if leg.times < 0 else "payee"
            conditions += [f"paid.{side} = o.{leg.holder}", f"paid.{side}_amount = {amount}"]
        else:
            side = "debit" if leg.times < 0 else "credit"
            conditions.append(f"paid.{leg.holder}_{side} = {amount}")
    if len(set(conditions)) < len(conditions) or len({c.split(" = ")[0] for c in conditions}) < len(
        conditions
    ):
        msg = f"two users on one side of an order cannot be told apart here: {legs}"
        raise AssertionError(msg)
    return " AND ".join(conditions)


_BY_ACCOUNT = """
SELECT a.account_id, a.kind = 'user', a.currency, a.balance, a.reserved, a.line_no,
       e.line_no, e.direction = 'credit', e.amount, e.balance_before, e.balance_after, e.created_at
FROM accounts a
LEFT JOIN entries e ON e.account_id = a.account_id
WHERE $1::bigint[] IS NULL OR a.account_id = ANY ($1)
ORDER BY a.account_id, e.line_no
"""


def lines_by_account(
    connection: asyncpg.Connection, account_ids: Sequence[int] | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (account_id, is_user, currency, balance, reserved, line_no; line_no, is_credit, amount,
    balance_before, balance_after, created_at of an entry): of these accounts or of all, in order. Without entries the
    last six are None.
    """
    return chunks(connection, _BY_ACCOUNT, account_ids)


# Entries come with the currency of their account and, where that is a system account, its name.
_BY_ORDER = f"""
SELECT o.order_id, o.order_type, o.account_id, o.counter_account_id, {MOVED}, o.currency, o.status,
       c.status = 'applied' AND {_OF_ITS_COMMAND},
       e.account_id, e.direction = 'credit', e.amount, a.currency, a.system_name
FROM orders o
LEFT JOIN commands c ON c.serial_no = o.serial_no
LEFT JOIN entries e ON e.order_id = o.order_id
LEFT JOIN accounts a ON a.account_id = e.account_id
WHERE $1::uuid[] IS NULL OR o.order_id = ANY ($1)
ORDER BY o.order_id, e.account_id, e.line_no
"""  # noqa: S608 -- static text


def entries_by_order(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (order_id, order_type, account_id, counter_account_id, amount, currency, status, has_command;
    account_id, is_credit, amount, currency, system_name of an entry): of these orders or of all, in order.
    """
    return chunks(connection, _BY_ORDER, order_ids)


_STRAY_LINES = """
SELECT e.account_id, e.line_no, e.order_id, a.account_id IS NULL
FROM entries e
LEFT JOIN accounts a ON a.account_id = e.account_id
LEFT JOIN orders o ON o.order_id = e.order_id
WHERE (a.account_id IS NULL OR o.order_id IS NULL) AND ($1::uuid[] IS NULL OR e.order_id = ANY ($1))
ORDER BY e.account_id, e.line_no
"""


def stray_lines(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (account_id, line_no, order_id, lacks_account) of lines without an account or an order."""
    return chunks(connection, _STRAY_LINES, order_ids)


_COMMANDS_WITHOUT_ORDER = f"""
SELECT c.serial_no, c.command_type
FROM commands c
LEFT JOIN orders o ON o.serial_no = c.serial_no
WHERE c.status = 'applied' AND {_MAKES_AN_ORDER} AND o.serial_no IS NULL
ORDER BY c.serial_no
"""  # noqa: S608 -- static text


def commands_without_order(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (serial_no, command_type) of applied commands whose order is missing."""
    return chunks(connection, _COMMANDS_WITHOUT_ORDER)


_TWICE = """
SELECT account_id, NULL::uuid, NULL, count(*), 'accounts with this account_id'
FROM accounts
GROUP BY account_id
HAVING count(*) > 1
UNION ALL
SELECT max(account_id), NULL, NULL, count(*), 'open accounts of this owner, type and currency'
FROM accounts
WHERE kind = 'user' AND status <> 'closed'
GROUP BY user_id, account_type, currency
HAVING count(*) > 1
UNION ALL
SELECT NULL, order_id, NULL, count(*), 'orders with this order_id'
FROM orders
GROUP BY order_id
HAVING count(*) > 1
UNION ALL
SELECT NULL, NULL, serial_no, count(*), 'orders with this serial_no'
FROM orders
GROUP BY serial_no
HAVING count(*) > 1
UNION ALL
SELECT NULL, NULL, serial_no, count(*), 'commands with this serial_no'
FROM commands
GROUP BY serial_no
HAVING count(*) > 1
"""


def duplicates(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (account_id, order_id, serial_no, times, what) of numbers that are there more than once."""
    return chunks(connection, _TWICE)


_WRONG_ACCOUNTS = """
SELECT account_id, currency, status, balance, reserved
FROM accounts
WHERE status NOT IN ('active', 'frozen', 'closed') OR (status = 'closed' AND (balance <> 0 OR reserved <> 0))
ORDER BY account_id
"""


def wrong_accounts(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (account_id, currency, status, balance, reserved) of accounts with a status that cannot be."""
    return chunks(connection, _WRONG_ACCOUNTS)


_WRONG_ROWS = f"""
SELECT o.order_id, o.status, o.currency, a.currency, o.late, o.due_at
FROM orders o
LEFT JOIN accounts a USING (account_id)
WHERE o.currency IS DISTINCT FROM a.currency
   OR (o.late AND o.status <> 'succeeded')
   OR (o.status IN ({literals(OPEN)})) <> (o.due_at IS NOT NULL)
ORDER BY o.order_id
"""  # noqa: S608 -- literals of our own


def wrong_rows(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (order_id, status, currency, account_currency, late, due_at) of orders that cannot be so."""
    return chunks(connection, _WRONG_ROWS)


# A result that fits its order, however its amount is spelled: "100", "100.0" and "100.00" are one. What has more digits
# than any amount of the wallet's is not read as a number.
_UNPAID = f"""
SELECT o.order_id, o.order_type, {MOVED}, o.currency
FROM orders o
WHERE o.status = 'succeeded' AND o.order_type = ANY ($4::text[])
  AND ($3::uuid[] IS NULL OR o.order_id = ANY ($3))
  AND NOT EXISTS (
      SELECT
      FROM payment_results r
      JOIN unnest($1::text[], $2::bigint[]) AS known (currency, units) USING (currency)
      WHERE r.payment_order_no = o.serial_no AND r.status = 'succeeded' AND r.currency = o.currency
        AND CASE
            WHEN r.amount ~ '^0*[0-9]{{1,16}}([.][0-9]{{1,8}})?$' THEN r.amount::numeric * known.units = {MOVED}
        END
  )
ORDER BY o.order_id
"""  # noqa: S608 -- static text


def unpaid(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (order_id, order_type, amount, currency) of orders that the gateway never said succeeded."""
    units = [10**digits for digits in MINOR_DIGITS.values()]
    paid_types = [order_type.value for order_type, spec in orders.ORDER_SPECS.items() if spec.payment]
    return chunks(connection, _UNPAID, list(MINOR_DIGITS), units, order_ids, paid_types)


def wrong_reserves_sql() -> str:
    """Return the statement that finds accounts whose reserve is not what their orders will take."""
    specs = orders.ORDER_SPECS
    drawn_down = [order_type for order_type, spec in specs.items() if spec.is_drawn_down]
    reserving = " OR ".join(
        f"(order_type = '{order_type}' AND status = '{spec.initial_status}')"
        for order_type, spec in specs.items()
        if spec.reserves
    )
    return f"""
WITH taken AS (
    SELECT account_id, sum(CASE WHEN order_type IN ({literals(drawn_down)}) THEN remaining ELSE amount END) AS minor
    FROM orders
    WHERE {reserving}
    GROUP BY account_id
)
SELECT a.account_id, a.currency, a.reserved, coalesce(t.minor, 0)::bigint
FROM accounts a
LEFT JOIN taken t USING (account_id)
WHERE a.reserved <> coalesce(t.minor, 0)
ORDER BY a.account_id
"""  # noqa: S608 -- names and literals of our own


def wrong_reserves(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (account_id, currency, reserved, taken) of accounts whose reserve is not what orders take."""
    return chunks(connection, wrong_reserves_sql())


def wrong_holds_sql() -> str:
    """Return the statement that finds holds whose remainder or status does not fit what was captured and released."""
    specs = orders.ORDER_SPECS
    held = [order_type for order_type, spec in specs.items() if spec.is_drawn_down]
    captures = [order_type for order_type, spec in specs.items() if spec.parent_is_hold and spec.legs]
    releases = [order_type for order_type, spec in specs.items() if spec.parent_is_hold and not spec.legs]
    return f"""
SELECT h.order_id, h.currency, h.status, h.amount, h.remaining, u.captured, u.released
FROM orders h
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount) FILTER (WHERE order_type IN ({literals(captures)})), 0)::bigint AS captured,
           coalesce(sum(amount) FILTER (WHERE order_type IN ({literals(releases)})), 0)::bigint AS released
    FROM orders
    WHERE about_serial_no = h.serial_no
) u
WHERE h.order_type IN ({literals(held)})
  AND CASE h.status
          WHEN 'active'   THEN h.remaining <> h.amount - u.captured OR h.remaining = 0 OR u.released > 0
          WHEN 'captured' THEN h.remaining <> 0 OR u.captured <> h.amount
          WHEN 'released' THEN h.remaining <> 0 OR u.captured + u.released <> h.amount
          ELSE h.remaining <> 0 OR u.captured >= h.amount OR u.released > 0
      END
ORDER BY h.order_id
"""  # noqa: S608 -- literals of our own


def wrong_holds(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (order_id, currency, status, amount, remaining, captured, released) of wrong holds."""
    return chunks(connection, wrong_holds_sql())


_TOO_MANY_REFUNDS = f"""
WITH refunded AS (
    SELECT DISTINCT about_serial_no
    FROM orders
    WHERE order_type IN ({literals(REFUNDS)}) AND ($1::uuid[] IS NULL OR order_id = ANY ($1))
)
SELECT o.order_id, o.order_type, o.status, o.currency, {MOVED}, sum(r.amount - r.returned)::bigint
FROM refunded
JOIN orders o ON o.serial_no = refunded.about_serial_no
JOIN LATERAL (
    -- What came back once may have been refunded again before that was undone: the gateway's word stands.
    SELECT r.amount, coalesce((
        SELECT max(x.amount) FROM orders x WHERE x.about_serial_no = r.serial_no AND x.order_type = 'payout_return'
    ), 0) AS returned
    FROM orders r
    WHERE r.about_serial_no = o.serial_no AND r.order_type IN ({literals(REFUNDS)}) AND r.status <> 'failed'
) AS r ON true
GROUP BY o.order_id, o.order_type, o.status, o.currency, o.received, o.amount
HAVING sum(r.amount - r.returned) > {MOVED} OR o.order_type NOT IN ({literals(CHARGED)}) OR o.status <> 'succeeded'
ORDER BY o.order_id
"""  # noqa: S608 -- static text


def too_many_refunds(
    connection: asyncpg.Connection, order_ids: Sequence[UUID | None] | None
) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (order_id, order_type, status, currency, amount, refunded) of orders refunded wrongly."""
    return chunks(connection, _TOO_MANY_REFUNDS, order_ids)


def _of_receivables(sign: int) -> frozenset[OrderType]:
    """Return the types of orders that credit the receivables, or with a `sign` below zero debit them."""
    return frozenset(
        order_type
        for order_type, spec in orders.ORDER_SPECS.items()
        for leg in spec.legs
        if leg.holder is SystemName.RECEIVABLES and leg.times * sign > 0
    )


_LENT: Final = _of_receivables(-1)
_SETTLED: Final = _of_receivables(1)
_MOVED_BY_REVERSALS: Final = frozenset(more for more, _ in MADE.values())
_MOVED_BACK: Final = frozenset(less for _, less in MADE.values())

_WRONG_DEBTS = f"""
WITH lent AS (
    SELECT account_id, sum(CASE WHEN order_type IN ({literals(_LENT)}) THEN amount ELSE -amount END) AS minor
    FROM orders
    WHERE order_type IN ({literals(_LENT | _SETTLED)})
    GROUP BY account_id
)
SELECT a.account_id, a.currency, a.debt, coalesce(lent.minor, 0)::bigint, a.balance - a.reserved
FROM accounts a
LEFT JOIN lent USING (account_id)
WHERE a.debt <> coalesce(lent.minor, 0) OR a.debt < 0 OR (a.debt > 0 AND a.balance <> a.reserved)
ORDER BY a.account_id
"""  # noqa: S608 -- static text


def wrong_debts(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (account_id, currency, debt, lent, available) of accounts whose debt cannot be so."""
    return chunks(connection, _WRONG_DEBTS)


_RECEIVABLES = """
SELECT currency, sum(debt)::bigint, coalesce(-sum(balance) FILTER (WHERE system_name = 'receivables'), 0)::bigint
FROM accounts
WHERE debt <> 0 OR system_name = 'receivables'
GROUP BY currency
HAVING sum(debt) <> coalesce(-sum(balance) FILTER (WHERE system_name = 'receivables'), 0)
ORDER BY currency
"""


async def wrong_receivables(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    """Return (currency, owed, receivable) of each currency whose debts are not what the receivables say."""
    return await connection.fetch(_RECEIVABLES)


_WRONG_REVERSALS = f"""
WITH made AS (
    SELECT about_serial_no AS serial_no,
           sum(CASE WHEN order_type IN ({literals(_MOVED_BY_REVERSALS)}) THEN amount ELSE -amount END) AS minor
    FROM orders
    WHERE order_type IN ({literals(_MOVED_BY_REVERSALS | _MOVED_BACK)})
    GROUP BY about_serial_no
), standing AS (
    SELECT o.serial_no, o.order_id, sum(v.moved) AS minor
    FROM reversals v
    JOIN orders o USING (order_id)
    GROUP BY o.serial_no, o.order_id
)
SELECT o.order_id, o.currency, coalesce(standing.minor, 0)::bigint, coalesce(made.minor, 0)::bigint
FROM standing
FULL JOIN made USING (serial_no)
JOIN orders o USING (serial_no)
WHERE coalesce(standing.minor, 0) <> coalesce(made.minor, 0)
ORDER BY o.order_id
"""  # noqa: S608 -- static text


def wrong_reversals(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (order_id, currency, standing, moved) of orders whose reversals are not what was moved."""
    return chunks(connection, _WRONG_REVERSALS)


_WRONG_REFS = f"""
SELECT o.order_id, g.channel, g.gateway_ref, o.channel, o.gateway_ref, o.status
FROM gateway_refs g
JOIN orders o USING (order_id)
WHERE o.order_type NOT IN ({literals(CHARGED)}) OR o.status <> 'succeeded' OR g.channel <> o.channel
   OR g.gateway_ref IS DISTINCT FROM o.gateway_ref
ORDER BY o.order_id
"""  # noqa: S608 -- static text


def wrong_refs(connection: asyncpg.Connection) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield chunks of (order_id, channel, gateway_ref as taken; channel, gateway_ref, status of the order) of orders
    that have taken a payment of another order, or none.
    """
    return chunks(connection, _WRONG_REFS)


_ACCOUNT_NAMES = """
SELECT account_id, coalesce(account_no, concat_ws(' ', system_name, currency, 'lane', lane))
FROM accounts
WHERE account_id = ANY ($1::bigint[])
"""

_SERIAL_NOS = """
SELECT order_id, serial_no FROM orders WHERE order_id = ANY ($1::uuid[])
"""


async def account_names(connection: asyncpg.Connection, account_ids: Iterable[int]) -> dict[int, str]:
    """Return the number of each account, or the name, currency and lane of a system account."""
    return {row[0]: row[1] for row in await connection.fetch(_ACCOUNT_NAMES, list(account_ids))}


async def serial_nos(connection: asyncpg.Connection, order_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the serial number of each order."""
    return {row[0]: row[1] for row in await connection.fetch(_SERIAL_NOS, list(order_ids))}


# An audit that goes on

_MOMENT = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"


async def moment(connection: asyncpg.Connection) -> str:
    """Return the moment of this snapshot: no transaction that was over then has a higher number."""
    return str(await connection.fetchval(_MOMENT))


_BASELINE = "SELECT account_id, line_no, balance FROM accounts"


async def baseline(connection: asyncpg.Connection) -> dict[int, tuple[int, int]]:
    """Return the last line and the balance of every account."""
    return {row[0]: (row[1], row[2]) async for row in connection.cursor(_BASELINE, prefetch=10_000)}


# max() of one account is one look into the index, whatever the statistics say.
_OUTGROWN = """
SELECT count(*), max(account_id), array_agg(account_id) FILTER (WHERE found_line_no > line_no)
FROM (
    SELECT a.account_id, a.line_no,
           (SELECT max(e.line_no) FROM entries e WHERE e.account_id = a.account_id) AS found_line_no
    FROM accounts a
    WHERE a.account_id > $1
    ORDER BY a.account_id
    LIMIT $2
) AS probed
"""


class Probed(NamedTuple):
    """How many accounts were probed, the last of them, and those that have a line after their last."""

    accounts: int
    last_account_id: int | None
    outgrown: Sequence[int] | None


async def probe(connection: asyncpg.Connection, after_account_id: int, limit: int) -> Probed:
    """Probe up to `limit` accounts after an account for lines that were written past them."""
    row = await connection.fetchrow(_OUTGROWN, after_account_id, limit)
    return Probed(*row) if row else Probed(0, None, None)


# Every transaction that was not over at the moment before has a number that is not before that moment's.
_CHANGED = """
SELECT account_id, kind = 'user', currency, balance, reserved, line_no
FROM accounts
WHERE age(xmin) <= age($1::text::xid8::xid) OR account_id = ANY ($2::bigint[])
"""


async def changed_accounts(
    connection: asyncpg.Connection, since: str, outgrown: Sequence[int]
) -> list[asyncpg.Record]:
    """Return (account_id, is_user, currency, balance, reserved, line_no) of accounts that changed since a moment."""
    return await connection.fetch(_CHANGED, since, outgrown)


_NEW_LINES = """
SELECT e.account_id, e.line_no, e.direction = 'credit', e.amount, e.balance_before, e.balance_after, e.order_id,
       e.created_at, before.created_at
FROM unnest($1::bigint[], $2::bigint[]) AS seen (account_id, line_no)
JOIN entries e ON e.account_id = seen.account_id AND e.line_no > seen.line_no
LEFT JOIN entries before ON before.account_id = e.account_id AND before.line_no = e.line_no - 1
ORDER BY e.account_id, e.line_no
"""


async def new_lines(
    connection: asyncpg.Connection, account_ids: Sequence[int], last_line_nos: Sequence[int]
) -> list[asyncpg.Record]:
    """Return (account_id, line_no, is_credit, amount, balance_before, balance_after, order_id, created_at,
    created_at of the line before) of the lines after the last of each account.
    """
    return await connection.fetch(_NEW_LINES, account_ids, last_line_nos)
