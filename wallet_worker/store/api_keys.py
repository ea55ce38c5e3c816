"""The table `api_keys`: who may use the HTTP API. Of a key only its SHA-256 is here."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

API_ROLE = "wallet_api"


class ApiKey(NamedTuple):
    """A key as it stands. `digest` is SHA-256 of its text.

    `left` is how long it still opens, zero if it no longer does, and absent where it has no end. `users` and
    `serial_prefix` are prefixes of what it may name; absent: any. `rate` and
    `in_flight` are absent where the usual holds.
    """

    key_id: str
    client: str
    digest: bytes
    scopes: tuple[str, ...]
    users: str | None
    serial_prefix: str | None
    rate: int | None
    in_flight: int | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_why: str | None
    last_used_at: datetime | None
    left: timedelta | None


# The database's clock decides what has expired: that of an API process may be wrong.
_SELECT = """
SELECT key_id, client, hash, scopes, users, serial_prefix, rate, in_flight, created_at, created_by, expires_at,
       revoked_at, revoked_by, revoked_why, last_used_at,
       CASE WHEN revoked_at IS NOT NULL THEN interval '0'
            WHEN expires_at IS NOT NULL THEN greatest(expires_at - clock_timestamp(), interval '0')
       END AS left_
FROM api_keys
"""
_FIND = _SELECT + "WHERE key_id = ANY ($1::text[])"
_ALL = _SELECT + "ORDER BY client, created_at"
_LOCK_CLIENT = _SELECT + "WHERE client = $1 ORDER BY created_at FOR UPDATE"


async def find(connection: asyncpg.Connection, key_ids: Iterable[str]) -> dict[str, ApiKey]:
    """Return the keys with these ids, those that no longer open too."""
    rows = await connection.fetch(_FIND, list(key_ids))
    return {row["key_id"]: _key(row) for row in rows}


async def every(connection: asyncpg.Connection) -> list[ApiKey]:
    """Return all keys, by client."""
    return [_key(row) for row in await connection.fetch(_ALL)]


async def lock_client(connection: asyncpg.Connection, client: str) -> list[ApiKey]:
    """Return the keys of a client, the oldest first, locked until the end of the transaction."""
    return [_key(row) for row in await connection.fetch(_LOCK_CLIENT, client)]


_INSERT = """
INSERT INTO api_keys
    (key_id, client, hash, scopes, users, serial_prefix, rate, in_flight, created_at, created_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp(), $9, clock_timestamp() + $10::interval)
"""


async def insert(
    connection: asyncpg.Connection,
    key_id: str,
    client: str,
    digest: bytes,
    scopes: Sequence[str],
    *,
    users: str | None,
    serial_prefix: str | None,
    rate: int | None,
    in_flight: int | None,
    created_by: str,
    life: timedelta | None,
) -> None:
    """Write a new key; without a `life` it has no end."""
    await connection.execute(
        _INSERT, key_id, client, digest, list(scopes), users, serial_prefix, rate, in_flight, created_by, life
    )


_END = """
UPDATE api_keys
SET expires_at = clock_timestamp() + $2::interval
WHERE key_id = $1 AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > clock_timestamp() + $2::interval)
"""


async def end_after(connection: asyncpg.Connection, key_id: str, after: timedelta) -> None:
    """Leave a key that opens no longer than so long from now."""
    await connection.execute(_END, key_id, after)


_REVOKE = """
UPDATE api_keys
SET revoked_at = clock_timestamp(), revoked_by = $2, revoked_why = $3
WHERE key_id = $1 AND revoked_at IS NULL
"""


async def revoke(connection: asyncpg.Connection, key_id: str, by: str, why: str) -> bool:
    """Leave a key that opens nothing; return whether this did it."""
    return await connection.execute(_REVOKE, key_id, by, why) == "UPDATE 1"


_USED = """
UPDATE api_keys
SET last_used_at = clock_timestamp()
WHERE key_id = ANY ($1::text[])
"""


async def used(connection: asyncpg.Connection, key_ids: Iterable[str]) -> None:
    """Note that these keys were used now."""
    await connection.execute(_USED, list(key_ids))


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        client=row["client"],
        digest=bytes(row["hash"]),
        scopes=tuple(row["scopes"]),
        users=row["users"],
        serial_prefix=row["serial_prefix"],
        rate=row["rate"],
        in_flight=row["in_flight"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
        revoked_why=row["revoked_why"],
        last_used_at=row["last_used_at"],
        left=row["left_"],
    )
