"""An order with its command, its accounts and its lines, by one statement: one round trip instead of four."""

from typing import NamedTuple, cast

import asyncpg

from wallet_worker.core.accounts import Account
from wallet_worker.core.changes import StoredCommand
from wallet_worker.core.orders import Order
from wallet_worker.store.accounts import _COLUMNS as ACCOUNT_COLUMNS
from wallet_worker.store.accounts import _user
from wallet_worker.store.commands import _command
from wallet_worker.store.entries import _COLUMNS as ENTRY_COLUMNS
from wallet_worker.store.entries import EntryLine, _line
from wallet_worker.store.orders import _ALL as ORDER_COLUMNS
from wallet_worker.store.orders import _order

COMMAND_COLUMNS = "serial_no, command_type, fingerprint, content, status, code, result, created_at, sent_by"


class WholeOrder(NamedTuple):
    """A command, the order that it made, if it made one, the users' accounts of both sides, and the lines on them.

    The lines of the account that the order is about come first.
    """

    command: StoredCommand
    order: Order | None
    accounts: dict[int, Account]
    lines: list[EntryLine]


class _Part:
    """Those columns of a row that begin with a prefix, by their own names; read by the functions that read a row."""

    __slots__ = ("_prefix", "_row")

    def __init__(self, row: asyncpg.Record, prefix: str) -> None:
        self._row = row
        self._prefix = prefix

    def __getitem__(self, name: str) -> object:
        return self._row[self._prefix + name]


def _part(row: asyncpg.Record, prefix: str) -> asyncpg.Record:
    return cast("asyncpg.Record", _Part(row, prefix))


def _columns(listed: str, prefix: str, table: str | None = None) -> str:
    """Return columns with a prefix before their names, those of another table if one is named."""
    found = []
    for column in listed.split(","):
        alias, _, name = column.strip().rpartition(".")
        found.append(f"{table or alias}.{name} AS {prefix}{name}")
    return ", ".join(found)


_FIND = f"""
SELECT {_columns(COMMAND_COLUMNS, "c_", "c")},
       {_columns(ORDER_COLUMNS, "o_", "o")},
       {_columns(ACCOUNT_COLUMNS, "a_", "a")},
       {_columns(ACCOUNT_COLUMNS, "p_", "p")},
       {_columns(ENTRY_COLUMNS, "e_")}
FROM commands c
LEFT JOIN orders o ON o.serial_no = c.serial_no
LEFT JOIN accounts a ON a.account_id = o.account_id AND a.kind = 'user'
LEFT JOIN accounts p ON p.account_id = o.counter_account_id AND p.kind = 'user'
LEFT JOIN (
    entries e
    JOIN accounts u ON u.account_id = e.account_id AND u.kind = 'user'
) ON e.order_id = o.order_id
WHERE c.serial_no = $1
ORDER BY e.account_id <> o.account_id, e.line_no
"""  # noqa: S608 -- static text


async def whole_order(connection: asyncpg.Connection, serial_no: str) -> WholeOrder | None:
    """Return what is stored under a serial number; absent where nothing is."""
    rows = await connection.fetch(_FIND, serial_no)
    if not rows:
        return None
    first = rows[0]
    command = _command(_part(first, "c_"))
    if first["o_order_id"] is None:
        return WholeOrder(command, None, {}, [])
    parties = [
        _user(_part(first, prefix)) for prefix in ("a_", "p_") if first[f"{prefix}account_id"] is not None
    ]
    return WholeOrder(
        command,
        _order(_part(first, "o_")),
        {account.account_id: account for account in parties},
        [_line(_part(row, "e_")) for row in rows if row["e_account_id"] is not None],
    )
