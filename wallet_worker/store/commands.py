"""The table `commands`: the command of each serial number, and its one outcome."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg

from wallet_schemas.codes import Code
from wallet_schemas.values import OutcomeStatus
from wallet_worker.core.changes import StoredCommand

# One row at least, so that the time comes along even where nothing is known.
_KNOWN = """
SELECT clock.now, c.serial_no, c.command_type, c.fingerprint, c.content, c.status, c.code, c.result, c.created_at,
       c.sent_by
FROM (SELECT clock_timestamp() AS now) clock
LEFT JOIN commands c ON c.serial_no = ANY ($1::text[])
"""


async def find(
    connection: asyncpg.Connection, serial_nos: Iterable[str]
) -> tuple[datetime, dict[str, StoredCommand]]:
    """Return the database's time, and the stored commands of these serial numbers."""
    rows = await connection.fetch(_KNOWN, list(serial_nos))
    return rows[0]["now"], {row["serial_no"]: _command(row) for row in rows if row["serial_no"] is not None}


_THERE = "SELECT serial_no FROM commands WHERE serial_no = ANY ($1::text[])"


async def there(connection: asyncpg.Connection, serial_nos: Iterable[str]) -> set[str]:
    """Return those of the serial numbers that have an outcome."""
    return {row[0] for row in await connection.fetch(_THERE, list(serial_nos))}


_METADATA = """
SELECT serial_no, content -> 'metadata' AS metadata
FROM commands
WHERE serial_no = ANY ($1::text[]) AND content -> 'metadata' IS NOT NULL
"""


async def metadata(connection: asyncpg.Connection, serial_nos: Iterable[str]) -> dict[str, str]:
    """Return the senders' notes, as JSON, of those of the commands that have any."""
    rows = await connection.fetch(_METADATA, list(serial_nos))
    return {row["serial_no"]: row["metadata"] for row in rows}


_INSERT = """
INSERT INTO commands (serial_no, command_type, fingerprint, content, status, code, result, created_at, sent_by)
SELECT n.serial_no, n.command_type, n.fingerprint, n.content, n.status, n.code, n.result, n.created_at, n.sent_by
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::json[], $5::text[], $6::text[], $7::json[], $8::timestamptz[],
            $9::text[])
     AS n (serial_no, command_type, fingerprint, content, status, code, result, created_at, sent_by)
"""


async def insert(connection: asyncpg.Connection, commands: Sequence[StoredCommand]) -> None:
    """Write new outcomes; raises ConflictError where another worker wrote the same serial number."""
    await connection.execute(
        _INSERT,
        [c.serial_no for c in commands],
        [c.command_type for c in commands],
        [c.fingerprint for c in commands],
        [c.content for c in commands],
        [c.status.value for c in commands],
        [c.code.value for c in commands],
        [c.result for c in commands],
        [c.created_at for c in commands],
        [c.sent_by for c in commands],
    )


def _command(row: asyncpg.Record) -> StoredCommand:
    return StoredCommand(
        serial_no=row["serial_no"],
        command_type=row["command_type"],
        fingerprint=row["fingerprint"],
        content=row["content"],
        status=OutcomeStatus(row["status"]),
        code=Code[row["code"]],
        result=row["result"],
        created_at=row["created_at"],
        sent_by=row["sent_by"],
    )
