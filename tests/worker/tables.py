"""What stands in the database, without what is different each time: ids, account numbers and times."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

import asyncpg

from wallet_schemas.names import FIRST_SEEN_HEADER, WALLET_DEAD_LETTERS
from wallet_worker.broker.amqp.properties import unmarshal
from wallet_worker.core.debts import OWN_ORDER

Tables = dict[str, list[Any]]

MASKED = "…"
_DRAWN = frozenset({"account_no", "event_id", "order_id", "reversal_id", "to_account_no"})

_EMPTY = """
ALTER TABLE entries DISABLE TRIGGER entries_append_only;
DELETE FROM entries; DELETE FROM reversals; DELETE FROM reversal_messages;
DELETE FROM payment_instructions; DELETE FROM gateway_refs; DELETE FROM orders;
DELETE FROM commands; DELETE FROM payment_results;
DELETE FROM parked_results; DELETE FROM outbox; DELETE FROM suspects;
DELETE FROM accounts WHERE kind = 'user';
UPDATE accounts SET balance = 0, reserved = 0, debt = 0, line_no = 0;
ALTER TABLE entries ENABLE TRIGGER entries_append_only;
"""


async def empty(owner: asyncpg.Connection) -> None:
    """Leave a database as it was when the first worker had started on it."""
    async with owner.transaction():
        await owner.execute(_EMPTY)


_AGE = """
UPDATE orders
SET created_at = created_at - $1::interval, updated_at = updated_at - $1::interval,
    expires_at = expires_at - $1::interval, transacted_at = transacted_at - $1::interval, due_at = due_at - $1::interval
"""


async def let_pass(owner: asyncpg.Connection, by: timedelta) -> None:
    """Leave every order, and every result that waits, as old as if that much time had passed."""
    await owner.execute(_AGE, by)
    await owner.execute("UPDATE parked_results SET due_at = due_at - $1::interval", by)


_QUERIES = {
    # Accounts are named by whose they are; of several, by their order.
    "accounts": """
        SELECT coalesce(user_id, system_name) AS owner, coalesce(account_type, lane::text) AS kind, currency,
               status, balance, reserved, debt, line_no, account_no IS NULL AS is_system
        FROM accounts ORDER BY 1, 2, 3, account_id""",
    "commands": """
        SELECT serial_no, command_type, fingerprint, content::text, status, code, result::text
        FROM commands ORDER BY 1""",
    "orders": """
        SELECT o.serial_no, o.order_type, a.user_id, a.account_type, o.amount, o.currency, o.status, o.code,
               o.channel, o.late, o.expires_at - o.created_at AS expires, o.transacted_at IS NULL AS unmoved,
               p.user_id AS payee, p.account_type AS payee_type, o.about_serial_no, o.remaining,
               o.received, o.gateway_ref, o.failure_code, o.failure_reason, o.cancelling,
               o.due_at IS NULL AS over, CASE o.asked WHEN 0 THEN o.due_at - o.created_at END AS due, o.asked
        FROM orders o
        JOIN accounts a USING (account_id)
        LEFT JOIN accounts p ON p.account_id = o.counter_account_id
        ORDER BY 1""",
    "entries": """
        SELECT coalesce(a.user_id, a.system_name) AS owner, coalesce(a.account_type, a.lane::text) AS kind,
               a.currency, e.line_no, o.serial_no, e.direction, e.amount, e.balance_before, e.balance_after
        FROM entries e JOIN accounts a USING (account_id) JOIN orders o USING (order_id)
        ORDER BY 1, 2, 3, 4""",
    "payment_results": """
        SELECT payment_order_no, fingerprint, status, amount, currency, gateway_ref, reason, occurred_at,
               processing, code
        FROM payment_results ORDER BY 1, 2""",
    "parked_results": """
        SELECT payment_order_no, exchange, routing_key, properties, body, attempts,
               due_at <= clock_timestamp() AS is_due
        FROM parked_results ORDER BY 1, 5, 4, 6""",
    "reversals": """
        SELECT o.serial_no, r.reversal_ref, r.kind, r.status, r.sequence, r.amount, r.moved, r.fingerprint,
               r.reason_code, r.reason, r.respond_by
        FROM reversals r JOIN orders o USING (order_id)""",
    "payment_instructions": """
        SELECT o.serial_no, i.revision, i.fingerprint, i.body::text
        FROM payment_instructions i JOIN orders o USING (order_id)""",
    "gateway_refs": """
        SELECT g.channel, g.gateway_ref, o.serial_no FROM gateway_refs g JOIN orders o USING (order_id)""",
    "suspects": "SELECT fingerprint, attempts FROM suspects ORDER BY 1",
}


async def snapshot(owner: asyncpg.Connection) -> Tables:
    """Return all tables, masked, in an order that says nothing of when rows were written."""
    found: Tables = {}
    for table, query in _QUERIES.items():
        found[table] = [tuple(row) for row in await owner.fetch(query)]
    found["commands"] = [
        (number, kind, fingerprint, _masked(json.loads(content)) if kind == OWN_ORDER else content, *rest,
         _masked(json.loads(result)))
        for number, kind, fingerprint, content, *rest, result in found["commands"]
    ]  # fmt: skip
    found["outbox"] = [_promise(row) for row in await owner.fetch("SELECT * FROM outbox")]
    own = {row["serial_no"]: row["fingerprint"] for row in await owner.fetch(_OWN, OWN_ORDER)}
    drawn = {*own, *own.values()}
    return {table: sorted(_hidden(rows, drawn), key=repr) for table, rows in found.items()}


_OWN = "SELECT serial_no, fingerprint FROM commands WHERE command_type = $1"
"""The orders that the wallet makes itself: their numbers are drawn."""


def _hidden(value: Any, drawn: AbstractSet[Any]) -> Any:
    """Return rows without what is drawn, wherever it stands in them."""
    match value:
        case Mapping():
            return {name: _hidden(item, drawn) for name, item in value.items()}
        case list() | tuple():
            return type(value)(_hidden(item, drawn) for item in value)
        case _:
            return MASKED if isinstance(value, str | bytes) and value in drawn else value


_UNBALANCED = """
SELECT a.currency, sum(CASE e.direction WHEN 'credit' THEN e.amount ELSE -e.amount END)
FROM entries e JOIN accounts a USING (account_id)
GROUP BY 1 HAVING sum(CASE e.direction WHEN 'credit' THEN e.amount ELSE -e.amount END) <> 0
"""
_BROKEN_LINES = """
SELECT account_id, line_no
FROM (
    SELECT *, row_number() OVER w AS number, lag(balance_after, 1, 0::bigint) OVER w AS balance_until,
           lag(created_at, 1, '-infinity') OVER w AS made_until
    FROM entries
    WINDOW w AS (PARTITION BY account_id ORDER BY line_no)
) lines
WHERE line_no <> number OR balance_before <> balance_until OR created_at < made_until
"""
_WRONG_BALANCES = """
SELECT a.account_id, a.balance, a.line_no, l.balance_after, l.lines
FROM accounts a
LEFT JOIN LATERAL (
    SELECT count(*) AS lines, (array_agg(e.balance_after ORDER BY e.line_no DESC))[1] AS balance_after
    FROM entries e WHERE e.account_id = a.account_id
) l ON true
WHERE a.balance <> coalesce(l.balance_after, 0) OR a.line_no <> l.lines
"""
_WRONG_ORDERS = """
SELECT o.serial_no, o.status, count(e.order_id)
FROM orders o LEFT JOIN entries e USING (order_id)
GROUP BY o.order_id
HAVING count(e.order_id) <> CASE WHEN o.status = 'succeeded' AND o.order_type <> 'release' THEN 2 ELSE 0 END
"""
_WRONG_RESERVES = """
SELECT a.account_id, a.reserved, sum(o.amount)
FROM accounts a
LEFT JOIN LATERAL (
    SELECT CASE o.order_type WHEN 'hold' THEN o.remaining ELSE o.amount END AS amount
    FROM orders o
    WHERE o.account_id = a.account_id
      AND (o.status = 'active' OR o.order_type IN ('withdraw', 'refund') AND o.status = 'pending')
) o ON true
GROUP BY a.account_id HAVING a.reserved <> coalesce(sum(o.amount), 0)
"""
_WRONG_HOLDS = """
SELECT h.serial_no, h.amount, h.remaining, sum(c.amount)
FROM orders h LEFT JOIN orders c ON c.about_serial_no = h.serial_no AND c.order_type IN ('capture', 'release')
WHERE h.order_type = 'hold'
GROUP BY h.order_id
HAVING h.status <> 'expired' AND h.amount <> h.remaining + coalesce(sum(c.amount), 0)
    OR h.amount < coalesce(sum(c.amount), 0)
"""
_REFUNDED_TOO_MUCH = """
SELECT r.serial_no, r.amount, sum(f.amount)
FROM orders r JOIN orders f ON f.about_serial_no = r.serial_no AND f.order_type = 'refund' AND f.status <> 'failed'
GROUP BY r.order_id HAVING sum(f.amount) > r.amount
"""


async def assert_sound(owner: asyncpg.Connection) -> None:
    """Assert that the ledger keeps its promises.

    Sums, lines without gaps, balances, what is reserved, one movement an order, holds used up to their amount
    and recharges given back up to theirs.
    """
    for query in (
        _UNBALANCED,
        _BROKEN_LINES,
        _WRONG_BALANCES,
        _WRONG_ORDERS,
        _WRONG_RESERVES,
        _WRONG_HOLDS,
        _REFUNDED_TOO_MUCH,
    ):
        assert [tuple(row) for row in await owner.fetch(query)] == []


async def dead_letters(owner: asyncpg.Connection) -> list[tuple[bytes, str, str]]:
    """Return what is on its way to the dead letters, as body, reason and detail, sorted."""
    rows = await owner.fetch("SELECT body, properties FROM outbox WHERE exchange = $1", WALLET_DEAD_LETTERS)
    found = []
    for row in rows:
        headers = unmarshal(row["properties"]).headers or {}
        found.append((row["body"], str(headers["x-wallet-reason"]), str(headers["x-wallet-detail"])))
    return sorted(found)


async def replies(owner: asyncpg.Connection) -> list[dict[str, Any]]:
    """Return the answers on their way, whoever asked."""
    rows = await owner.fetch("SELECT body FROM outbox WHERE exchange = ''")
    return [json.loads(row["body"]) for row in rows]


def _promise(row: asyncpg.Record) -> tuple[Any, ...]:
    properties = None
    body: Any = row["body"]
    if row["properties"] is None:
        body = _masked(json.loads(body))
    else:
        found = unmarshal(row["properties"])
        properties = {**dict(found), "headers": {**(found.headers or {}), FIRST_SEEN_HEADER: MASKED}}
    return (row["exchange"], row["routing_key"], row["correlation_id"], row["attempts"], properties, body)


def _masked(answer: Any) -> Any:
    """Return JSON with its ids and times hidden; what is null is still null."""
    match answer:
        case Mapping():
            return {
                name: MASKED
                if value is not None and (name in _DRAWN or name.endswith("_at"))
                else _masked(value)
                for name, value in answer.items()
            }
        case list():
            return [_masked(item) for item in answer]
        case _:
            return answer
