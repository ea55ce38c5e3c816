"""What stands in the database, without what is different each time: ids, account numbers and times."""

import json
from collections.abc import Mapping
from typing import Any

import asyncpg

from schemas.names import FIRST_SEEN_HEADER, WALLET_DEAD_LETTERS
from wallet_worker.broker.properties import unmarshal

Tables = dict[str, list[Any]]

MASKED = "…"
_DRAWN = frozenset({"account_no", "event_id", "order_id"})

_EMPTY = """
ALTER TABLE entries DISABLE TRIGGER entries_append_only;
DELETE FROM entries; DELETE FROM orders; DELETE FROM commands; DELETE FROM payment_results;
DELETE FROM parked_results; DELETE FROM outbox; DELETE FROM suspects;
DELETE FROM accounts WHERE kind = 'user';
UPDATE accounts SET balance = 0, line_no = 0;
ALTER TABLE entries ENABLE TRIGGER entries_append_only;
"""


async def empty(owner: asyncpg.Connection) -> None:
    """Leave a database as it was when the first worker had started on it."""
    async with owner.transaction():
        await owner.execute(_EMPTY)


_QUERIES = {
    # Accounts are named by whose they are; of several, by their order.
    "accounts": """
        SELECT coalesce(user_id, system_name) AS owner, coalesce(account_type, lane::text) AS kind, currency,
               status, balance, reserved, line_no, account_no IS NULL AS is_system
        FROM accounts ORDER BY 1, 2, 3, account_id""",
    "commands": """
        SELECT serial_no, command_type, fingerprint, content::text, status, code, result::text
        FROM commands ORDER BY 1""",
    "orders": """
        SELECT o.serial_no, o.order_type, a.user_id, a.account_type, o.amount, o.currency, o.status, o.code,
               o.channel, o.late, o.expires_at IS NULL AS expires, o.transacted_at IS NULL AS unmoved
        FROM orders o JOIN accounts a USING (account_id) ORDER BY 1""",
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
    "suspects": "SELECT fingerprint, attempts FROM suspects ORDER BY 1",
}


async def snapshot(owner: asyncpg.Connection) -> Tables:
    """Return all tables, masked, in an order that says nothing of when rows were written."""
    found: Tables = {}
    for table, query in _QUERIES.items():
        found[table] = [tuple(row) for row in await owner.fetch(query)]
    found["commands"] = [(*row[:-1], _masked(json.loads(row[-1]))) for row in found["commands"]]
    found["outbox"] = sorted((_promise(row) for row in await owner.fetch("SELECT * FROM outbox")), key=repr)
    return found


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
GROUP BY o.order_id HAVING count(e.order_id) <> CASE o.status WHEN 'succeeded' THEN 2 ELSE 0 END
"""


async def assert_sound(owner: asyncpg.Connection) -> None:
    """Assert that the ledger keeps its promises: sums, lines without gaps, balances, one credit an order."""
    for query in (_UNBALANCED, _BROKEN_LINES, _WRONG_BALANCES, _WRONG_ORDERS):
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


def _masked(said: Any) -> Any:
    """Return JSON with its ids and times hidden; what is null is still null."""
    match said:
        case Mapping():
            return {
                name: MASKED
                if value is not None and (name in _DRAWN or name.endswith("_at"))
                else _masked(value)
                for name, value in said.items()
            }
        case list():
            return [_masked(one) for one in said]
        case _:
            return said
