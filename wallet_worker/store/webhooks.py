"""The tables of webhooks: endpoints, deliveries, and how far the log of events was read for them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

WEBHOOKS_ROLE = "wallet_webhooks"


class Endpoint(NamedTuple):
    """Where a client wants events posted. No secret is in it.

    `users` is the prefix of the users whose events it may have; absent: any. `failing_since` is absent while the last
    attempt succeeded, or none was made.
    """

    endpoint_id: int
    client: str
    name: str
    url: str
    kinds: tuple[str, ...]
    users: str | None
    state: str
    why: str | None
    failing_since: datetime | None
    older_until: datetime | None
    created_at: datetime
    created_by: str
    updated_at: datetime


class EndpointDelivery(NamedTuple):
    """One event on its way to one endpoint, or there. `status` and `answer` are those of the last attempt."""

    delivery_id: int
    event_id: str
    kind: str
    state: str
    attempts: int
    next_at: datetime
    attempted_at: datetime | None
    status: int | None
    answer: str | None
    created_at: datetime


class DeliveryAttempt(NamedTuple):
    """A delivery that is tried now, by whoever has taken it."""

    delivery_id: int
    endpoint_id: int
    event_id: str
    body: str
    attempts: int
    url: str
    secrets: tuple[str, ...]


class NewDelivery(NamedTuple):
    """An event that an endpoint is to have."""

    endpoint_id: int
    event_id: str
    kind: str
    body: str


class Backlog(NamedTuple):
    """How the deliveries of all endpoints stand."""

    waiting: int
    given_up: int
    oldest_seconds: float
    disabled: int


_ENDPOINT = """
SELECT e.endpoint_id, e.client, e.name, e.url, e.kinds, e.users, e.state, e.why, e.failing_since,
       (SELECT max(s.until) FROM webhook_secrets s WHERE s.endpoint_id = e.endpoint_id) AS older_until,
       e.created_at, e.created_by, e.updated_at
FROM webhook_endpoints e
"""
# A client whose last key is closed gets nothing any more.
_HAS_KEY = """
EXISTS (
    SELECT FROM api_keys k
    WHERE k.client = e.client AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
)
"""
_OF_CLIENT = _ENDPOINT + "WHERE ($1::text IS NULL OR e.client = $1) ORDER BY e.client, e.name"
_NAMED = _ENDPOINT + "WHERE e.client = $1 AND e.name = $2"
_LISTENING = _ENDPOINT + f"WHERE e.state = 'enabled' AND {_HAS_KEY}"


async def endpoints(connection: asyncpg.Connection, client: str | None = None) -> list[Endpoint]:
    """Return the endpoints of a client, or of all, by name."""
    return [_endpoint(row) for row in await connection.fetch(_OF_CLIENT, client)]


async def endpoint(connection: asyncpg.Connection, client: str, name: str) -> Endpoint | None:
    """Return one endpoint of a client."""
    row = await connection.fetchrow(_NAMED, client, name)
    return None if row is None else _endpoint(row)


async def listening(connection: asyncpg.Connection) -> list[Endpoint]:
    """Return the endpoints that are to have events now."""
    return [_endpoint(row) for row in await connection.fetch(_LISTENING)]


_INSERT = """
INSERT INTO webhook_endpoints
    (client, name, url, kinds, users, state, created_at, created_by, updated_at)
VALUES ($1, $2, $3, $4, $5, 'enabled', clock_timestamp(), $6, clock_timestamp())
ON CONFLICT ON CONSTRAINT webhook_endpoints_name_once DO NOTHING
RETURNING endpoint_id
"""


_INSERT_SECRET = "INSERT INTO webhook_secrets (endpoint_id, secret) VALUES ($1, $2)"  # noqa: S105 -- it writes one


async def insert(
    connection: asyncpg.Connection,
    client: str,
    name: str,
    url: str,
    kinds: Sequence[str],
    *,
    users: str | None,
    secret: str,
    created_by: str,
) -> bool:
    """Write a new endpoint, within a transaction; return whether there was none of this name."""
    found = await connection.fetchval(_INSERT, client, name, url, list(kinds), users, created_by)
    if found is not None:
        await connection.execute(_INSERT_SECRET, found, secret)
    return found is not None


_CHANGE = """
UPDATE webhook_endpoints
SET url = coalesce($3, url), kinds = coalesce($4::text[], kinds), users = $5, updated_at = clock_timestamp()
WHERE client = $1 AND name = $2
"""


async def change(
    connection: asyncpg.Connection,
    client: str,
    name: str,
    *,
    url: str | None,
    kinds: Sequence[str] | None,
    users: str | None,
) -> bool:
    """Leave an endpoint with another address or other events, and the reach of whoever says so."""
    done = await connection.execute(_CHANGE, client, name, url, None if kinds is None else list(kinds), users)
    return done == "UPDATE 1"


_ROTATE = """
UPDATE webhook_secrets
SET until = least(until, clock_timestamp() + $2::interval)
WHERE endpoint_id = $1
"""


async def rotate(
    connection: asyncpg.Connection, client: str, name: str, secret: str, overlap: timedelta
) -> bool:
    """Leave an endpoint with a new secret, within a transaction; those before it sign too, for so long at most."""
    found = await endpoint(connection, client, name)
    if found is not None:
        await connection.execute(_ROTATE, found.endpoint_id, overlap)
        await connection.execute(_INSERT_SECRET, found.endpoint_id, secret)
    return found is not None


_SET_STATE = """
UPDATE webhook_endpoints
SET state = CASE WHEN $3::text IS NULL THEN 'enabled' ELSE 'disabled' END, why = $3,
    failing_since = CASE WHEN $3::text IS NULL THEN NULL ELSE failing_since END, updated_at = clock_timestamp()
WHERE client = $1 AND name = $2
"""


async def disable(connection: asyncpg.Connection, client: str, name: str, why: str) -> bool:
    """Leave an endpoint to which nothing is posted; what waits goes on waiting."""
    return await connection.execute(_SET_STATE, client, name, why) == "UPDATE 1"


async def enable(connection: asyncpg.Connection, client: str, name: str) -> bool:
    """Leave an endpoint to which events are posted, what waits first."""
    return await connection.execute(_SET_STATE, client, name, None) == "UPDATE 1"


_DELIVERIES = """
SELECT delivery_id, event_id, kind, state, attempts, next_at, attempted_at, status, answer, created_at
FROM webhook_deliveries
WHERE endpoint_id = $1 AND ($2::text IS NULL OR state = $2) AND ($3::bigint IS NULL OR delivery_id < $3)
ORDER BY delivery_id DESC
LIMIT $4
"""


async def deliveries(
    connection: asyncpg.Connection, endpoint_id: int, *, state: str | None, before: int | None, limit: int
) -> list[EndpointDelivery]:
    """Return deliveries to an endpoint, the newest first."""
    rows = await connection.fetch(_DELIVERIES, endpoint_id, state, before, limit)
    return [EndpointDelivery(*row) for row in rows]


_REPLAY = """
UPDATE webhook_deliveries
SET state = 'waiting', attempts = 0, next_at = clock_timestamp()
WHERE endpoint_id = $1
  AND (event_id = $2 OR ($2::text IS NULL AND created_at >= $3::timestamptz AND ($4 OR state <> 'delivered')))
"""


async def replay(
    connection: asyncpg.Connection,
    endpoint_id: int,
    *,
    event_id: str | None,
    since: datetime | None,
    delivered_too: bool,
) -> int:
    """Mark an event to be posted again, or those since a time that did not arrive; return how many."""
    done = await connection.execute(_REPLAY, endpoint_id, event_id, since, delivered_too)
    return int(done.removeprefix("UPDATE "))


_DELIVER = """
INSERT INTO webhook_deliveries (endpoint_id, event_id, kind, body, state, attempts, next_at, created_at)
SELECT u.endpoint_id, u.event_id, u.kind, u.body, 'waiting', 0, clock_timestamp(), clock_timestamp()
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS u (endpoint_id, event_id, kind, body)
ON CONFLICT ON CONSTRAINT webhook_deliveries_event_once DO NOTHING
"""


async def deliver(connection: asyncpg.Connection, new: Sequence[NewDelivery]) -> int:
    """Write what is to be posted; an event that an endpoint has already is left. Return how many are new."""
    if not new:
        return 0
    columns = [list(column) for column in zip(*new, strict=True)]
    return int((await connection.execute(_DELIVER, *columns)).rpartition(" ")[2])


# At most so many at once of each endpoint, so that a slow one holds up only itself. `busy` are those under way here.
_TAKE = """
WITH due AS (
    SELECT d.delivery_id
    FROM webhook_endpoints e
    LEFT JOIN unnest($1::bigint[], $2::integer[]) AS busy (endpoint_id, count) ON busy.endpoint_id = e.endpoint_id
    CROSS JOIN LATERAL (
        SELECT w.delivery_id
        FROM webhook_deliveries w
        WHERE w.endpoint_id = e.endpoint_id AND w.state = 'waiting' AND w.next_at <= clock_timestamp()
        ORDER BY w.next_at
        LIMIT greatest(0, $3 - coalesce(busy.count, 0))
        FOR UPDATE SKIP LOCKED
    ) d
    WHERE e.state = 'enabled' AND EXISTS (
        SELECT FROM api_keys k
        WHERE k.client = e.client AND k.revoked_at IS NULL
          AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
    )
    LIMIT $4
)
UPDATE webhook_deliveries w
SET attempts = w.attempts + 1, attempted_at = clock_timestamp(), next_at = clock_timestamp() + $5::interval
FROM due, webhook_endpoints e
WHERE w.delivery_id = due.delivery_id AND e.endpoint_id = w.endpoint_id
RETURNING w.delivery_id, w.endpoint_id, w.event_id, w.body, w.attempts, e.url,
          ARRAY(
              SELECT s.secret FROM webhook_secrets s
              WHERE s.endpoint_id = w.endpoint_id AND (s.until IS NULL OR s.until > clock_timestamp())
              ORDER BY s.secret_id DESC
          ) AS secrets
"""


async def take(
    connection: asyncpg.Connection,
    busy: Mapping[int, int],
    *,
    of_endpoint_max: int,
    limit: int,
    lost_after: timedelta,
) -> list[DeliveryAttempt]:
    """Return deliveries that are due, for whoever tries them now; after `lost_after` somebody else tries them."""
    rows = await connection.fetch(_TAKE, list(busy), list(busy.values()), of_endpoint_max, limit, lost_after)
    return [
        DeliveryAttempt(
            delivery_id=row["delivery_id"],
            endpoint_id=row["endpoint_id"],
            event_id=row["event_id"],
            body=row["body"],
            attempts=row["attempts"],
            url=row["url"],
            secrets=tuple(row["secrets"]),
        )
        for row in rows
    ]


_DONE = """
UPDATE webhook_deliveries
SET state = $3, status = $4, answer = $5, next_at = clock_timestamp() + coalesce($6::interval, interval '0')
WHERE delivery_id = $1 AND attempts = $2 AND state = 'waiting'
"""
_SUCCEEDED = (
    "UPDATE webhook_endpoints SET failing_since = NULL WHERE endpoint_id = $1 AND failing_since IS NOT NULL"
)
_FAILED = """
UPDATE webhook_endpoints
SET failing_since = coalesce(failing_since, clock_timestamp()),
    state = CASE WHEN gone.is_over THEN 'disabled' ELSE state END,
    why = CASE WHEN gone.is_over THEN $2 ELSE why END,
    updated_at = clock_timestamp()
FROM (
    SELECT $3 OR coalesce(failing_since < clock_timestamp() - $4::interval, false) AS is_over
    FROM webhook_endpoints WHERE endpoint_id = $1
) AS gone
WHERE endpoint_id = $1 AND state = 'enabled'
RETURNING state
"""


async def delivered(
    connection: asyncpg.Connection, attempt: DeliveryAttempt, status: int, answer: str
) -> None:
    """Write that an event has arrived."""
    await connection.execute(_DONE, attempt.delivery_id, attempt.attempts, "delivered", status, answer, None)
    await connection.execute(_SUCCEEDED, attempt.endpoint_id)


async def failed(
    connection: asyncpg.Connection,
    attempt: DeliveryAttempt,
    status: int | None,
    answer: str,
    wait: timedelta | None,
    *,
    is_gone: bool,
    disabled_after: timedelta,
) -> bool:
    """Write that an event has not arrived, and when it is tried again, if at all; return whether that was the end.

    The end of the endpoint: it says that it is gone, or nothing has arrived there for so long.
    """
    state = "waiting" if wait is not None else "given_up"
    await connection.execute(_DONE, attempt.delivery_id, attempt.attempts, state, status, answer, wait)
    why = "it answered 410, gone" if is_gone else f"nothing has arrived there for {disabled_after.days} days"
    found = await connection.fetchval(_FAILED, attempt.endpoint_id, why, is_gone, disabled_after)
    return bool(found == "disabled")


_CLEAN_SECRETS = "DELETE FROM webhook_secrets WHERE until < clock_timestamp()"
_CLEAN = """
DELETE FROM webhook_deliveries
WHERE delivery_id IN (
    SELECT delivery_id FROM webhook_deliveries
    WHERE state = 'delivered' AND attempted_at < clock_timestamp() - $1::interval
    LIMIT $2
)
"""


async def clean(connection: asyncpg.Connection, kept: timedelta, limit: int) -> int:
    """Delete what arrived longer ago than that, at most so many, and secrets that have ended; return how many."""
    await connection.execute(_CLEAN_SECRETS)
    return int((await connection.execute(_CLEAN, kept, limit)).removeprefix("DELETE "))


_BACKLOG = """
SELECT (SELECT count(*) FROM webhook_deliveries WHERE state = 'waiting') AS waiting,
       (SELECT count(*) FROM webhook_deliveries WHERE state = 'given_up') AS given_up,
       coalesce((
           SELECT extract(epoch FROM clock_timestamp() - min(d.created_at))
           FROM webhook_deliveries d JOIN webhook_endpoints e USING (endpoint_id)
           WHERE d.state = 'waiting' AND e.state = 'enabled'
       ), 0)::float8 AS oldest,
       (SELECT count(*) FROM webhook_endpoints WHERE state = 'disabled' AND failing_since IS NOT NULL) AS disabled
"""


async def backlog(connection: asyncpg.Connection) -> Backlog:
    """Return what waits, what was given up, how old the oldest is, and how many endpoints failed for good."""
    row = await connection.fetchrow(_BACKLOG)
    return Backlog(*row)  # type: ignore[misc]  # one row, always


class Cursor(NamedTuple):
    """How many events of the log were passed, and the mark of the last; absent before the first."""

    passed: int
    mark: str | None


_LEASE = """
INSERT INTO webhook_cursor AS c (passed, reader, lease_until)
VALUES (0, $1, clock_timestamp() + $2::interval)
ON CONFLICT ON CONSTRAINT webhook_cursor_pkey DO UPDATE
SET reader = $1, lease_until = clock_timestamp() + $2::interval
WHERE c.reader = $1 OR c.lease_until < clock_timestamp()
RETURNING passed, mark
"""
_ADVANCE = """
UPDATE webhook_cursor
SET passed = $3, mark = $4, lease_until = clock_timestamp() + $5::interval
WHERE reader = $1 AND passed = $2
"""
_LET_GO = "UPDATE webhook_cursor SET lease_until = clock_timestamp() WHERE reader = $1"


async def lease(connection: asyncpg.Connection, reader: str, span: timedelta) -> Cursor | None:
    """Return where to read on, for the one process that reads; absent while another one does."""
    row = await connection.fetchrow(_LEASE, reader, span)
    return None if row is None else Cursor(*row)


async def advance(
    connection: asyncpg.Connection, reader: str, before: int, after: Cursor, span: timedelta
) -> bool:
    """Move the cursor, if it is still where this process has left it; return whether it was."""
    done = await connection.execute(_ADVANCE, reader, before, after.passed, after.mark, span)
    return done == "UPDATE 1"


async def let_go(connection: asyncpg.Connection, reader: str) -> None:
    """Give up the reading, so that another process reads on at once."""
    await connection.execute(_LET_GO, reader)


def _endpoint(row: asyncpg.Record) -> Endpoint:
    found = Endpoint(*row)
    return found._replace(kinds=tuple(found.kinds))
