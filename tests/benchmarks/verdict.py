"""Whether a contestant did all that it was asked to, and nothing else. A rate without this is worth nothing."""

import asyncio
import json
from collections import Counter

import asyncpg

from tests.benchmarks.place import EVENTS_QUEUE, Site
from tests.benchmarks.state import AMOUNT_MINOR, user_id
from tests.benchmarks.wire import RawChannel
from tests.benchmarks.workloads import ASKING, MOVING, RESULTS, Kind, Load
from wallet_schemas.names import PAYMENT_REQUESTS, PAYMENT_RESULTS, WALLET_COMMANDS, WALLET_DEAD_LETTERS


class WrongResultError(Exception):
    """What stands in the database or in the queues is not what the messages asked for."""


async def assert_done(site: Site, load: Load) -> None:
    """Return if every message of the load has had its whole effect, once; raises WrongResultError.

    Empties the queue of events.
    """
    connection = await asyncpg.connect(site.database_url, command_timeout=600)
    try:
        await _assert_rows(connection, load)
        await _assert_ledger(connection)
    finally:
        await connection.close()
    await asyncio.to_thread(_assert_queues, site, load)


async def assert_echoed(site: Site, load: Load) -> None:
    """Return if every message of the load was published again, once; raises WrongResultError."""

    def look() -> None:
        with RawChannel(site.amqp_url) as channel:
            _same("messages left", channel.depth(WALLET_COMMANDS) + channel.depth(PAYMENT_RESULTS), 0)
            numbers = Counter(_number(body) for body in _bodies(site, channel.depth(EVENTS_QUEUE)))
            _same("echoes", numbers, Counter(step.serial_no for step in load.steps))

    await asyncio.to_thread(look)


_EFFECTS = """
SELECT (SELECT count(*) FROM commands WHERE serial_no = ANY ($1::text[]) AND status = 'applied' AND code = 'OK')
           AS applied,
       (SELECT count(*) FROM orders WHERE serial_no = ANY ($2::text[]) AND status = 'pending') AS pending,
       (SELECT count(*) FROM orders WHERE serial_no = ANY ($3::text[]) AND status = 'succeeded') AS succeeded,
       (SELECT count(*) FROM orders WHERE serial_no = ANY ($3::text[]) AND status = 'failed') AS failed,
       (SELECT count(*) FROM payment_results WHERE payment_order_no = ANY ($3::text[]) AND processing = 'processed')
           AS results,
       (SELECT count(*) FROM entries JOIN orders USING (order_id) WHERE serial_no = ANY ($3::text[])) AS entries,
       (SELECT count(*) FROM entries JOIN orders USING (order_id) WHERE serial_no = ANY ($1::text[])) AS moved,
       (SELECT count(*) FROM outbox) AS outbox
"""

_CREDITED = """
SELECT a.user_id, count(*) AS lines
FROM entries e
JOIN accounts a USING (account_id)
JOIN orders o USING (order_id)
WHERE a.kind = 'user' AND e.direction = 'credit' AND e.amount = $2 AND o.serial_no = ANY ($1::text[])
GROUP BY a.user_id
"""


async def _assert_rows(connection: asyncpg.Connection, load: Load) -> None:
    kinds = load.kinds
    commands = [step.serial_no for step in load.steps if step.kind not in RESULTS]
    query_sent = [step.serial_no for step in load.steps if step.kind in ASKING]
    paid = [step.serial_no for step in load.steps if step.kind in RESULTS]
    found = await connection.fetchrow(_EFFECTS, commands, query_sent, paid)
    _same(
        "rows",
        dict(found or {}),
        {
            "applied": len(commands),
            "pending": len(query_sent),
            "succeeded": kinds[Kind.SUCCEEDED],
            "failed": kinds[Kind.FAILED],
            "results": kinds[Kind.SUCCEEDED] + kinds[Kind.FAILED],
            "entries": 2 * kinds[Kind.SUCCEEDED],
            "moved": 2 * sum(kinds[kind] for kind in MOVING),
            "outbox": 0,
        },
    )
    credited = {row["user_id"]: row["lines"] for row in await connection.fetch(_CREDITED, paid, AMOUNT_MINOR)}
    _same("credits by user", credited, {user_id(user): lines for user, lines in load.credited.items()})


# Each account's newest line is its balance and counts its lines; each line follows from the one before.
_BROKEN_ACCOUNTS = """
SELECT count(*)
FROM accounts a
LEFT JOIN (
    SELECT account_id, count(*) AS lines, max(line_no) AS last,
           sum(CASE direction WHEN 'credit' THEN amount ELSE -amount END) AS moved,
           bool_and(follows) AS unbroken
    FROM (
        SELECT *, balance_before = lag(balance_after, 1, 0::bigint) OVER statement AS follows
        FROM entries
        WINDOW statement AS (PARTITION BY account_id ORDER BY line_no)
    ) AS line
    GROUP BY account_id
) AS e USING (account_id)
WHERE a.balance <> coalesce(e.moved, 0) OR a.line_no <> coalesce(e.last, 0)
   OR coalesce(e.lines, 0) <> coalesce(e.last, 0) OR NOT coalesce(e.unbroken, true)
"""

_SUM = "SELECT coalesce(sum(CASE direction WHEN 'credit' THEN amount ELSE -amount END), 0) FROM entries"


async def _assert_ledger(connection: asyncpg.Connection) -> None:
    _same("accounts that are not their entries", await connection.fetchval(_BROKEN_ACCOUNTS), 0)
    _same("sum of all entries", int(await connection.fetchval(_SUM)), 0)


def _assert_queues(site: Site, load: Load) -> None:
    with RawChannel(site.amqp_url) as channel:
        _same("messages left", channel.depth(WALLET_COMMANDS) + channel.depth(PAYMENT_RESULTS), 0)
        _same("dead letters", channel.depth(WALLET_DEAD_LETTERS), 0)
        _same("payment requests", channel.depth(PAYMENT_REQUESTS), sum(load.kinds[kind] for kind in ASKING))
        events = Counter(_event(body) for body in _bodies(site, channel.depth(EVENTS_QUEUE)))
    _same("events", events, Counter(load.events))


def _bodies(site: Site, count: int) -> list[bytes]:
    """Return so many messages of the queue of events, which then are gone."""
    if not count:
        return []
    found: list[bytes] = []
    with RawChannel(site.amqp_url) as channel:
        for message in channel.consume(EVENTS_QUEUE, no_ack=True):
            found.append(message.body)
            if len(found) == count:
                break
    return found


def _event(body: bytes) -> tuple[str, str]:
    event = json.loads(body)
    return event["type"], event["serial_no"]


def _number(body: bytes) -> str:
    message = json.loads(body)
    return str(message.get("serial_no") or message["payment_order_no"])


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        detail = _difference(found, wanted)
        msg = f"{what}: {detail}"
        raise WrongResultError(msg)


def _difference(found: object, wanted: object) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict) and len(wanted) > 20:
        keys = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
        return f"{len(keys)} differ, such as " + ", ".join(
            f"{key}: {found.get(key)} instead of {wanted.get(key)}" for key in keys[:3]
        )
    return f"{found} instead of {wanted}"
