"""The invariants that hold whatever happens, looked for with SQL and nothing of the wallet's."""

import asyncpg

INVARIANTS = {
    "entries sum to zero in each currency": """
        SELECT currency, sum(CASE direction WHEN 'credit' THEN amount ELSE -amount END) AS off
        FROM entries JOIN accounts USING (account_id) GROUP BY currency
        HAVING sum(CASE direction WHEN 'credit' THEN amount ELSE -amount END) <> 0
    """,
    "a balance is what its entries sum to, and its last line": """
        SELECT a.account_id, a.balance, a.line_no, e.*
        FROM accounts a
        LEFT JOIN (
            SELECT account_id, count(*) AS lines, max(line_no) AS last,
                   sum(CASE direction WHEN 'credit' THEN amount ELSE -amount END) AS total
            FROM entries GROUP BY account_id
        ) e USING (account_id)
        WHERE (a.balance, a.line_no, a.line_no) IS DISTINCT FROM
              (coalesce(e.total, 0), coalesce(e.last, 0), coalesce(e.lines, 0))
    """,
    "a line begins where the one before it ended": """
        SELECT * FROM (
            SELECT account_id, line_no, balance_before, coalesce(lag(balance_after) OVER lines, 0) AS before,
                   created_at, lag(created_at) OVER lines AS earlier
            FROM entries WINDOW lines AS (PARTITION BY account_id ORDER BY line_no)
        ) e WHERE balance_before <> before OR created_at < earlier
    """,
    "an order that succeeded has one entry and its contra entry, and no other order has any": """
        SELECT o.serial_no, o.status, count(e.*)
        FROM orders o LEFT JOIN entries e USING (order_id)
        GROUP BY o.order_id
        HAVING count(e.*) <> CASE o.status WHEN 'succeeded' THEN 2 ELSE 0 END
            OR count(e.*) FILTER (WHERE e.account_id = o.account_id AND e.direction = 'credit' AND e.amount = o.amount)
                <> CASE o.status WHEN 'succeeded' THEN 1 ELSE 0 END
    """,
    "a serial number that was applied has its order or its account": """
        SELECT c.serial_no FROM commands c LEFT JOIN orders o USING (serial_no)
        WHERE (c.command_type = 'order.recharge.v1' AND c.status = 'applied') <> (o.serial_no IS NOT NULL)
    """,
    "nothing waits": """
        SELECT 'outbox', count(*) FROM outbox HAVING count(*) > 0
        UNION ALL SELECT 'parked', count(*) FROM parked_results HAVING count(*) > 0
        UNION ALL SELECT 'suspects', count(*) FROM suspects HAVING count(*) > 0
    """,
}


async def assert_sound(owner: asyncpg.Connection) -> None:
    """Every invariant holds; call it when everything has come to rest."""
    broken = {name: await owner.fetch(f"{query} LIMIT 5") for name, query in INVARIANTS.items()}
    assert {name: rows for name, rows in broken.items() if rows} == {}
