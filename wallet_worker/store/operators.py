"""The tables `operators`, `operator_keys` and `operator_log`: written by the database's owner, read by everybody."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import asyncpg

from wallet_worker.core.proofs import OperatorKey, ProofAlgorithm


class OperatorRow(NamedTuple):
    """One person. `role` is viewer, operator, approver or controller."""

    name: str
    role: str
    added_at: datetime
    revoked_at: datetime | None


class KeyRow(NamedTuple):
    """One key, and its person's role now. A key is revoked with its person too."""

    key: OperatorKey
    role: str
    is_revoked: bool
    added_at: datetime


class LogRow(NamedTuple):
    """One change. `login` is the database's own word for who wrote it; `vouched_by` has signed, if anybody has."""

    log_id: int
    at: datetime
    login: str
    via: str
    action: str
    name: str
    detail: str
    reason: str
    vouched_by: str | None
    key_id: str | None
    signed_at: datetime | None
    proof: bytes | None


_EVERY = "SELECT name, role, added_at, revoked_at FROM operators ORDER BY name"
_BY_NAME = "SELECT name, role, added_at, revoked_at FROM operators WHERE name = $1"


async def every(connection: asyncpg.Connection) -> list[OperatorRow]:
    """Return everybody, by name."""
    return [OperatorRow(**row) for row in await connection.fetch(_EVERY)]


async def by_name(connection: asyncpg.Connection, name: str) -> OperatorRow | None:
    """Return one person; None if nobody is called so."""
    row = await connection.fetchrow(_BY_NAME, name)
    return None if row is None else OperatorRow(**row)


_ROLE = """
SELECT EXISTS (SELECT FROM operators) AS are_there,
       (SELECT role FROM operators WHERE name = $1 AND revoked_at IS NULL) AS role
"""


class KnownRole(NamedTuple):
    """What the database knows of a name: the role, if it has one, and whether it knows anybody at all."""

    are_there: bool
    role: str | None


async def role_of(connection: asyncpg.Connection, name: str) -> KnownRole:
    """Return the role of a name."""
    row = await connection.fetchrow(_ROLE, name)
    if row is None:
        msg = "a query without a table has a row"
        raise AssertionError(msg)
    return KnownRole(**row)


_KEYS = """
SELECT k.key_id, k.name, k.algorithm, k.public_key, k.credential_id, k.rp_id, k.origin, o.role, k.added_at,
       k.revoked_at IS NOT NULL OR o.revoked_at IS NOT NULL AS is_revoked
FROM operator_keys k
JOIN operators o USING (name)
"""
_ALL_KEYS = f"{_KEYS} ORDER BY k.name, k.added_at"
_KEYS_OF = f"{_KEYS} WHERE k.name = $1 ORDER BY k.added_at"
_KEYS_BY_ID = f"{_KEYS} WHERE k.key_id = ANY ($1::text[])"


async def all_keys(connection: asyncpg.Connection) -> list[KeyRow]:
    """Return every key, by person."""
    return [_key(row) for row in await connection.fetch(_ALL_KEYS)]


async def keys_of(connection: asyncpg.Connection, name: str) -> list[KeyRow]:
    """Return the keys of one person, oldest first, revoked ones too."""
    return [_key(row) for row in await connection.fetch(_KEYS_OF, name)]


async def keys(connection: asyncpg.Connection, key_ids: Iterable[str]) -> dict[str, KeyRow]:
    """Return the keys of these ids that exist, by id."""
    rows = [_key(row) for row in await connection.fetch(_KEYS_BY_ID, list(key_ids))]
    return {row.key.key_id: row for row in rows}


def _key(row: asyncpg.Record) -> KeyRow:
    key = OperatorKey(
        key_id=row["key_id"],
        name=row["name"],
        algorithm=ProofAlgorithm(row["algorithm"]),
        public_key=row["public_key"],
        credential_id=row["credential_id"],
        rp_id=row["rp_id"],
        origin=row["origin"],
    )
    return KeyRow(key, row["role"], row["is_revoked"], row["added_at"])


# Changes take turns: whether somebody has to vouch depends on who is there.
_TURN = "LOCK TABLE operators IN SHARE ROW EXCLUSIVE MODE"
_ADD = "INSERT INTO operators (name, role) VALUES ($1, $2)"
_SET_ROLE = "UPDATE operators SET role = $2, revoked_at = NULL WHERE name = $1"
_REVOKE = "UPDATE operators SET revoked_at = clock_timestamp() WHERE name = $1 AND revoked_at IS NULL"
_ADD_KEY = """
INSERT INTO operator_keys (key_id, name, algorithm, public_key, credential_id, rp_id, origin)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_REVOKE_KEY = """
UPDATE operator_keys SET revoked_at = clock_timestamp() WHERE key_id = $1 AND revoked_at IS NULL RETURNING name
"""


async def take_turn(connection: asyncpg.Connection) -> None:
    """Lock the table of operators against other changes until the transaction ends."""
    await connection.execute(_TURN)


async def add(connection: asyncpg.Connection, name: str, role: str) -> None:
    """Add a person."""
    await connection.execute(_ADD, name, role)


async def set_role(connection: asyncpg.Connection, name: str, role: str) -> bool:
    """Give a person a role, one who was revoked too; return whether there is such a person."""
    return await connection.execute(_SET_ROLE, name, role) == "UPDATE 1"


async def revoke(connection: asyncpg.Connection, name: str) -> bool:
    """Take everything from a person; return whether there was something to take."""
    return await connection.execute(_REVOKE, name) == "UPDATE 1"


async def add_key(connection: asyncpg.Connection, key: OperatorKey) -> None:
    """Add a key of a person."""
    await connection.execute(
        _ADD_KEY,
        key.key_id,
        key.name,
        key.algorithm.value,
        key.public_key,
        key.credential_id,
        key.rp_id,
        key.origin,
    )


async def revoke_key(connection: asyncpg.Connection, key_id: str) -> str | None:
    """Believe nothing of a key any more; return whose it is, or None if there is no such key to revoke."""
    name: str | None = await connection.fetchval(_REVOKE_KEY, key_id)
    return name


class Voucher(NamedTuple):
    """A signature for a change of who may approve."""

    name: str
    key_id: str
    signed_at: datetime
    proof: bytes


_NOTE = """
INSERT INTO operator_log (via, action, name, detail, reason, vouched_by, key_id, signed_at, proof)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_LOG = """
SELECT log_id, at, login, via, action, name, detail, reason, vouched_by, key_id, signed_at, proof
FROM operator_log
ORDER BY log_id DESC
LIMIT $1
"""


async def note(
    connection: asyncpg.Connection,
    *,
    via: str,
    action: str,
    name: str,
    detail: str,
    reason: str,
    voucher: Voucher | None,
) -> None:
    """Write a line of the log, in the transaction that does what it says."""
    await connection.execute(_NOTE, via, action, name, detail, reason, *(voucher or (None, None, None, None)))


async def log(connection: asyncpg.Connection, limit: int) -> list[LogRow]:
    """Return at most `limit` changes, newest first."""
    return [LogRow(**row) for row in await connection.fetch(_LOG, limit)]
