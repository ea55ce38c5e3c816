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
    "an order that moved money has one entry and its contra entry, and no other order has any": """
        SELECT o.serial_no, o.order_type, o.status, count(e.*)
        FROM orders o LEFT JOIN entries e USING (order_id)
        GROUP BY o.order_id
        HAVING count(e.*) <> CASE WHEN o.status = 'succeeded' AND o.order_type <> 'release' THEN 2 ELSE 0 END
            OR count(e.*) FILTER (
                WHERE e.account_id = o.account_id AND e.amount = o.amount
                    AND e.direction = CASE o.order_type WHEN 'recharge' THEN 'credit' ELSE 'debit' END
            ) <> CASE WHEN o.status = 'succeeded' AND o.order_type <> 'release' THEN 1 ELSE 0 END
    """,
    "what a transfer or a capture takes from one user, another one has": """
        SELECT o.serial_no FROM orders o LEFT JOIN entries e
            ON e.order_id = o.order_id AND e.account_id = o.counter_account_id
                AND e.direction = 'credit' AND e.amount = o.amount
        WHERE o.order_type IN ('transfer', 'capture') AND e.order_id IS NULL
    """,
    "what is reserved is what waits to be paid out or is held, and no more than there is": """
        SELECT a.account_id, a.balance, a.reserved, o.reserved AS asked
        FROM accounts a LEFT JOIN (
            SELECT account_id, sum(CASE order_type WHEN 'hold' THEN remaining ELSE amount END) AS reserved
            FROM orders
            WHERE (order_type IN ('withdraw', 'refund') AND status = 'pending') OR status = 'active'
            GROUP BY account_id
        ) o USING (account_id)
        WHERE kind = 'user' AND (a.reserved <> coalesce(o.reserved, 0) OR a.reserved > a.balance OR a.balance < 0)
    """,
    "a hold has lost what was captured of it, and a recharge is not refunded beyond its amount": """
        SELECT o.serial_no, o.amount, o.remaining, sum(about.amount) AS used
        FROM orders o JOIN orders about ON about.about_serial_no = o.serial_no
        WHERE about.order_type IN ('capture', 'refund') AND about.status <> 'failed'
        GROUP BY o.order_id
        HAVING sum(about.amount) + CASE o.status WHEN 'active' THEN o.remaining ELSE 0 END > o.amount
            OR (o.status IN ('active', 'captured') AND sum(about.amount) + o.remaining <> o.amount)
    """,
    "an order's serial number was applied, and what was applied has its order": """
        SELECT c.serial_no FROM commands c LEFT JOIN orders o USING (serial_no)
        WHERE (c.command_type LIKE 'order.%' AND c.status = 'applied') <> (o.serial_no IS NOT NULL)
    """,
    "a closed account is empty, and nothing of it waits": """
        SELECT a.account_id FROM accounts a LEFT JOIN orders o
            ON o.account_id = a.account_id AND o.status IN ('pending', 'active')
        WHERE a.status = 'closed' AND (a.balance <> 0 OR a.reserved <> 0 OR o.order_id IS NOT NULL)
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
