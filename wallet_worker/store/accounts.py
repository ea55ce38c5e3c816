"""The table `accounts`: users' balances, and the lanes of the system accounts."""

from collections.abc import Callable, Iterable, Sequence

import asyncpg

from wallet_schemas.values import AccountStatus
from wallet_worker.core.accounts import Account, AccountKey, SystemKey, SystemName
from wallet_worker.store.errors import InvariantBrokenError

LANES = 16
"""Of each system account in each currency, unless a deployment sets more: so many batches may be under way at once."""
"""Rows of one system account. More than the workers of a large deployment, so that each finds a free one."""

_COLUMNS = """
    a.account_id, a.account_no, a.user_id, a.account_type, a.currency, a.status,
    a.balance, a.reserved, a.debt, a.line_no, a.created_at, a.updated_at
"""

NEWEST_FIRST = "(a.status <> 'closed') DESC, a.created_at DESC, a.account_id DESC"
"""The order in which the newest account of a key is the first, as `Account.recency` has it."""

# The ids are found first and locked afterwards, in their order, whatever order the join finds them in.
_FIND = f"""
WITH wanted AS (
    SELECT unnest($1::bigint[]) AS account_id
    UNION
    SELECT newest.account_id
    FROM unnest($2::text[], $3::text[], $4::text[]) AS k (user_id, account_type, currency)
    CROSS JOIN LATERAL (
        SELECT a.account_id
        FROM accounts a
        WHERE a.kind = 'user'
          AND a.user_id = k.user_id AND a.account_type = k.account_type AND a.currency = k.currency
        ORDER BY {NEWEST_FIRST}
        LIMIT 1
    ) newest
)
SELECT {_COLUMNS}
FROM accounts a
WHERE a.account_id = ANY (ARRAY(SELECT account_id FROM wanted))
ORDER BY a.account_id
"""  # noqa: S608 -- static text
_LOCK = _FIND + "FOR NO KEY UPDATE OF a"


async def find(
    connection: asyncpg.Connection, ids: Iterable[int], keys: Iterable[AccountKey], *, lock: bool
) -> list[Account]:
    """Return the accounts of these ids, and the newest account of each key, closed or not.

    With `lock`, takes row locks in the order of account_id, inside the caller's transaction; orders are locked
    before, system accounts after. What does not exist is not in the list.
    """
    wanted = list(keys)
    rows = await connection.fetch(
        _LOCK if lock else _FIND,
        list(ids),
        [key.user_id for key in wanted],
        [key.account_type for key in wanted],
        [key.currency for key in wanted],
    )
    return [_user(row) for row in rows]


_FIND_LANES = """
SELECT w.system_name, a.account_id, a.currency, a.balance, a.line_no, a.updated_at
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (system_name, currency, position)
CROSS JOIN LATERAL (
    SELECT l.account_id, l.currency, l.balance, l.line_no, l.updated_at
    FROM accounts l
    WHERE l.system_name = w.system_name AND l.currency = w.currency
    ORDER BY {order}
    LIMIT 1
    {lock}
) a
ORDER BY w.position
"""
# A lane that another worker holds is skipped. With all of them taken, wait for one at random: those who wait for the
# same would still wait when all others are free.
_LOCK_LANES = _FIND_LANES.format(order="l.lane", lock="FOR NO KEY UPDATE SKIP LOCKED")
_WAIT_FOR_LANES = _FIND_LANES.format(order="random()", lock="FOR NO KEY UPDATE")
_ANY_LANES = _FIND_LANES.format(order="l.lane", lock="")


def _do_nothing() -> None:
    """Be told, and do nothing."""


async def find_lanes(
    connection: asyncpg.Connection,
    keys: Iterable[SystemKey],
    *,
    lock: bool,
    on_wait: Callable[[], None] = _do_nothing,
) -> list[tuple[SystemKey, Account]]:
    """Return one lane of each system account: with `lock` a locked one, that no other worker holds if there is one.

    `on_wait` is called before it waits, because others hold them all.

    Takes row locks in the order of the keys, after all others of the transaction. Raises
    InvariantBrokenError for a system account that has no rows.
    """
    wanted = sorted(keys)
    if not wanted:
        return []
    lanes = await _lanes(connection, _LOCK_LANES if lock else _ANY_LANES, wanted)
    missing = [key for key in wanted if key not in lanes]
    if missing and lock:
        on_wait()
        lanes |= await _lanes(connection, _WAIT_FOR_LANES, missing)
    for key in wanted:
        if key not in lanes:
            msg = f"the system account {key.name} has no rows for {key.currency}"
            raise InvariantBrokenError(msg)
    return list(lanes.items())


async def _lanes(
    connection: asyncpg.Connection, sql: str, keys: Sequence[SystemKey]
) -> dict[SystemKey, Account]:
    rows = await connection.fetch(sql, [key.name.value for key in keys], [key.currency for key in keys])
    return {
        SystemKey(SystemName(row["system_name"]), row["currency"]): Account(
            account_id=row["account_id"],
            currency=row["currency"],
            balance_minor=row["balance"],
            line_no=row["line_no"],
            updated_at=row["updated_at"],
        )
        for row in rows
    }


_ENSURE_LANES = """
INSERT INTO accounts (kind, system_name, lane, currency, status, balance, reserved, line_no, created_at, updated_at)
SELECT 'system', s.name, lane, c.currency, 'active', 0, 0, 0, now(), now()
FROM unnest($1::text[]) AS s (name), unnest($2::text[]) AS c (currency), generate_series(0, $3::int - 1) AS lane
ON CONFLICT ON CONSTRAINT accounts_system_key DO NOTHING
"""


async def ensure_lanes(connection: asyncpg.Connection, currencies: Iterable[str], lanes: int = LANES) -> None:
    """Leave every system account with at least so many lanes in each currency; those that there are stay."""
    await connection.execute(_ENSURE_LANES, [name.value for name in SystemName], sorted(currencies), lanes)


_RESERVE_IDS = "SELECT nextval('accounts_account_id_seq') FROM generate_series(1, $1::int)"


async def reserve_ids(connection: asyncpg.Connection, count: int) -> list[int]:
    """Return ids that no account has and none will be given; those that stay unused leave gaps."""
    return [row[0] for row in await connection.fetch(_RESERVE_IDS, count)]


_INSERT = """
INSERT INTO accounts (account_id, kind, account_no, user_id, account_type, currency, status,
                      balance, reserved, debt, line_no, created_at, updated_at)
SELECT account_id, 'user', account_no, user_id, account_type, currency, status,
       balance, reserved, debt, line_no, created_at, updated_at
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::bigint[], $8::bigint[], $9::bigint[], $10::timestamptz[], $11::timestamptz[], $12::bigint[])
     AS n (account_id, account_no, user_id, account_type, currency, status,
           balance, reserved, line_no, created_at, updated_at, debt)
"""


async def insert(connection: asyncpg.Connection, accounts: Sequence[Account]) -> None:
    """Write new users' accounts; a race for the same key or number raises ConflictError."""
    await connection.execute(
        _INSERT,
        [a.account_id for a in accounts],
        [a.account_no for a in accounts],
        [a.user_id for a in accounts],
        [a.account_type for a in accounts],
        [a.currency for a in accounts],
        [a.status.value for a in accounts],
        [a.balance_minor for a in accounts],
        [a.reserved_minor for a in accounts],
        [a.line_no for a in accounts],
        [a.created_at for a in accounts],
        [a.updated_at for a in accounts],
        [a.debt_minor for a in accounts],
    )


# What was read is compared although the row is locked: should a lock ever be missing, nothing is lost.
_UPDATE = """
UPDATE accounts a
SET status = n.status, balance = n.balance, reserved = n.reserved, debt = n.debt, line_no = n.line_no,
    updated_at = n.updated_at
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[],
            $8::bigint[], $9::text[], $10::bigint[])
     AS n (account_id, line_no_before, status, balance, reserved, line_no, updated_at, reserved_before, status_before,
           debt)
WHERE a.account_id = n.account_id
  AND a.line_no = n.line_no_before AND a.reserved = n.reserved_before AND a.status = n.status_before
"""


async def update(connection: asyncpg.Connection, changes: Sequence[tuple[Account, Account]]) -> None:
    """Write accounts that were locked, as pairs of before and after; raises InvariantBrokenError if one moved."""
    status = await connection.execute(
        _UPDATE,
        [after.account_id for _, after in changes],
        [before.line_no for before, _ in changes],
        [after.status.value for _, after in changes],
        [after.balance_minor for _, after in changes],
        [after.reserved_minor for _, after in changes],
        [after.line_no for _, after in changes],
        [after.updated_at for _, after in changes],
        [before.reserved_minor for before, _ in changes],
        [before.status.value for before, _ in changes],
        [after.debt_minor for _, after in changes],
    )
    if status != f"UPDATE {len(changes)}":
        msg = f"{len(changes)} locked accounts were to change, the database says {status}"
        raise InvariantBrokenError(msg)


OF_USER_MAX = 150
"""Accounts of one user in one answer: more would not fit into a message. A type or a currency finds others."""

_OF_USER = f"""
SELECT DISTINCT ON (a.account_type, a.currency) {_COLUMNS}
FROM accounts a
WHERE a.kind = 'user' AND a.user_id = $1
  AND ($2::text IS NULL OR a.account_type = $2) AND ($3::text IS NULL OR a.currency = $3)
ORDER BY a.account_type, a.currency, {NEWEST_FIRST}
LIMIT {OF_USER_MAX}
"""  # noqa: S608 -- static text


async def of_user(
    connection: asyncpg.Connection, user_id: str, account_type: str | None, currency: str | None
) -> list[Account]:
    """Return the newest account of each type and currency of a user, perhaps of one type or currency only."""
    return [_user(row) for row in await connection.fetch(_OF_USER, user_id, account_type, currency)]


_EVERY_OF_USER = f"""
SELECT {_COLUMNS}
FROM accounts a
WHERE a.kind = 'user' AND a.user_id = $1
  AND ($2::text IS NULL OR a.account_type = $2) AND ($3::text IS NULL OR a.currency = $3)
ORDER BY a.account_id DESC
"""  # noqa: S608 -- static text


async def every_of_user(
    connection: asyncpg.Connection, user_id: str, account_type: str | None, currency: str | None
) -> list[Account]:
    """Return all accounts of a user, closed ones too, perhaps of one type or currency only, the newest first."""
    return [_user(row) for row in await connection.fetch(_EVERY_OF_USER, user_id, account_type, currency)]


_BY_ID = f"SELECT {_COLUMNS} FROM accounts a WHERE a.kind = 'user' AND a.account_id = ANY ($1::bigint[])"  # noqa: S608


async def by_id(connection: asyncpg.Connection, account_ids: Iterable[int]) -> dict[int, Account]:
    """Return the users' accounts of these ids that there are."""
    rows = await connection.fetch(_BY_ID, list(account_ids))
    return {row["account_id"]: _user(row) for row in rows}


def _user(row: asyncpg.Record) -> Account:
    return Account(
        account_id=row["account_id"],
        account_no=row["account_no"],
        user_id=row["user_id"],
        account_type=row["account_type"],
        currency=row["currency"],
        status=AccountStatus(row["status"]),
        balance_minor=row["balance"],
        reserved_minor=row["reserved"],
        line_no=row["line_no"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        debt_minor=row["debt"],
    )
