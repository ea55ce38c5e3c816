"""Where the schema is not what the migrations left: what somebody has dropped, disabled or weakened since.

Each difference is a sentence for a person: what was found, and the statement that mends it where one can.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg

from wallet_worker.store.schema_parts import migrated
from wallet_worker.store.session import quoted

NAMED_MAX: Final = 5  # of several differences of a kind

_RESTORE: Final = "`wallet migrate` does not make it again: restore the database from a backup"

_TABLES: Final = """
SELECT relname, relkind::text, relpersistence::text
FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relname = ANY ($2)
"""


async def tables_changed(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Return a sentence for each table that is gone, is not a table, or is emptied by a crash of the server."""
    rows = await connection.fetch(_TABLES, quoted(schema), list(migrated().columns))
    found = {name: (kind, persistence) for name, kind, persistence in rows}
    sentences = []
    for name in migrated().columns:
        kind, persistence = found.get(name, ("", "p"))
        if kind not in {"r", "p"}:
            what = "is not a table" if kind else "is missing"
            sentences.append(f"The table {name} {what}; {_RESTORE}.")
        elif persistence != "p":
            sentences.append(
                f"The table {name} is unlogged, and a crash of the server empties it: "
                f"ALTER TABLE {_in(schema, name)} SET LOGGED."
            )
    return _some(sentences)


_COLUMNS: Final = """
SELECT g.target, g.name, g.kind, a.attnum IS NOT NULL, a.atttypid = to_regtype(g.kind), a.attnotnull
FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[])
     WITH ORDINALITY AS g (target, name, kind, is_needed, number)
JOIN pg_class c ON c.relname = g.target AND c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p')
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = g.name AND NOT a.attisdropped AND a.attnum > 0
WHERE a.attnum IS NULL OR a.atttypid <> to_regtype(g.kind) OR (g.is_needed AND NOT a.attnotnull)
ORDER BY g.number
"""


async def columns_changed(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Return a sentence for each column that is gone, of another type, or no longer NOT NULL."""
    wanted = [
        (table, name, column)
        for table, columns in migrated().columns.items()
        for name, column in columns.items()
    ]
    rows = await connection.fetch(
        _COLUMNS,
        quoted(schema),
        [table for table, _, _ in wanted],
        [name for _, name, _ in wanted],
        [column.kind for _, _, column in wanted],
        [column.is_needed for _, _, column in wanted],
    )
    sentences = []
    for table, name, kind, is_there, is_of_kind, _ in rows:
        if not is_there:
            sentences.append(f"The column {name} of {table} is missing; {_RESTORE}.")
        elif not is_of_kind:
            sentences.append(
                f"The column {name} of {table} is not of type {kind}: find out who has changed it."
            )
        else:
            sentences.append(
                f"The column {name} of {table} may be empty: "
                f"ALTER TABLE {_in(schema, table)} ALTER COLUMN {name} SET NOT NULL."
            )
    return _some(sentences)


_CONSTRAINTS: Final = """
SELECT g.target, g.name, o.oid IS NOT NULL
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS g (target, name, number)
JOIN pg_class c ON c.relname = g.target AND c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p')
LEFT JOIN pg_constraint o ON o.conrelid = c.oid AND o.conname = g.name
WHERE o.oid IS NULL OR NOT o.convalidated
ORDER BY g.number
"""
_UNCHECKED: Final = """
SELECT DISTINCT c.relname
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace($1) AND c.relname = ANY ($2) AND t.tgisinternal AND t.tgenabled = 'D'
ORDER BY c.relname
"""


async def constraints_changed(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Return a sentence for each constraint that is gone, or does not hold for every row."""
    constraints = migrated().constraints
    rows = await connection.fetch(
        _CONSTRAINTS, quoted(schema), [table for table, _ in constraints], [name for _, name in constraints]
    )
    sentences = [
        f"The constraint {name} of {table} has not looked at every row: "
        f"ALTER TABLE {_in(schema, table)} VALIDATE CONSTRAINT {name}."
        if is_there
        else f"The constraint {name} of {table} is missing: "
        f"ALTER TABLE {_in(schema, table)} ADD {constraints[table, name]}."
        for table, name, is_there in rows
    ]
    sentences += [
        f"The references of {table} are not checked: ALTER TABLE {_in(schema, table)} ENABLE TRIGGER ALL."
        for (table,) in await connection.fetch(_UNCHECKED, quoted(schema), list(migrated().columns))
    ]
    return _some(sentences)


_TRIGGERS: Final = """
SELECT g.target, g.name, t.oid IS NOT NULL, t.tgtype = g.fires_at AND t.tgqual IS NULL, p.prosrc = g.body
FROM unnest($2::text[], $3::text[], $4::int[], $5::text[]) AS g (target, name, fires_at, body)
JOIN pg_class c ON c.relname = g.target AND c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p')
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = g.name
LEFT JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.oid IS NULL OR t.tgtype <> g.fires_at OR t.tgqual IS NOT NULL OR p.prosrc <> g.body
ORDER BY g.target, g.name
"""
_RULES: Final = """
SELECT c.relname, r.rulename
FROM pg_rewrite r
JOIN pg_class c ON c.oid = r.ev_class
WHERE c.relnamespace = to_regnamespace($1) AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p')
ORDER BY c.relname, r.rulename
"""


async def triggers_changed(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Return a sentence for each trigger that is gone or does something else, and each rule in a statement's place."""
    triggers, functions = migrated().triggers, migrated().functions
    rows = await connection.fetch(
        _TRIGGERS,
        quoted(schema),
        [table for table, _ in triggers],
        [name for _, name in triggers],
        [trigger.fires_at for trigger in triggers.values()],
        [functions[trigger.function] for trigger in triggers.values()],
    )
    sentences = []
    for table, name, is_there, fires, _ in rows:
        again = triggers[table, name].statement
        where = f"SET search_path = {quoted(schema)}"
        if not is_there:
            sentences.append(f"The trigger {name} of {table} is missing: {where}; {again}.")
        elif not fires:
            drop = f"DROP TRIGGER {name} ON {table}"
            sentences.append(f"The trigger {name} of {table} fires at other times: {where}; {drop}; {again}.")
        else:
            sentences.append(
                f"The function {triggers[table, name].function} of the trigger {name} was changed: find out who has "
                "changed it, and give it the text of its migration again."
            )
    sentences += [
        f"A rule stands in the place of statements about {table}: DROP RULE {quoted(rule)} ON {_in(schema, table)}."
        for table, rule in await connection.fetch(_RULES, quoted(schema), list(migrated().columns))
    ]
    return _some(sentences)


_INDEXES: Final = """
SELECT g.name, c.oid IS NOT NULL, coalesce(i.indisvalid AND i.indisready, false)
FROM unnest($2::text[], $3::boolean[]) WITH ORDINALITY AS g (name, is_unique, number)
LEFT JOIN pg_class c ON c.relname = g.name AND c.relnamespace = to_regnamespace($1)
LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE i.indexrelid IS NULL OR NOT (i.indisvalid AND i.indisready) OR i.indisunique <> g.is_unique
ORDER BY g.number
"""
_INVALID: Final = """
SELECT c.relname
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_constraint o ON o.conindid = i.indexrelid AND o.conname = ANY ($2)
WHERE c.relnamespace = to_regnamespace($1) AND NOT (i.indisvalid AND i.indisready)
ORDER BY c.relname
"""


async def unique_indexes_changed(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Return a sentence for each index that keeps rows apart and is gone, invalid or not unique."""
    names = [name for _, name in migrated().constraints]
    invalid = await connection.fetch(_INVALID, quoted(schema), names)
    return _some(
        [
            *await _indexes_changed(connection, schema, unique=True),
            *(f"The index {name} is not valid: REINDEX INDEX {_in(schema, name)}." for (name,) in invalid),
        ]
    )


async def other_indexes_changed(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Return a sentence for each index that only helps to find rows, and is gone or invalid."""
    return _some(await _indexes_changed(connection, schema, unique=False))


async def _indexes_changed(connection: asyncpg.Connection, schema: str, *, unique: bool) -> Sequence[str]:
    indexes = {name: index for name, index in migrated().indexes.items() if index.is_unique is unique}
    rows = await connection.fetch(_INDEXES, quoted(schema), list(indexes), [unique] * len(indexes))
    sentences = []
    for name, is_there, is_valid in rows:
        again = f"SET search_path = {quoted(schema)}; {indexes[name].statement}"
        if not is_there:
            sentences.append(f"The index {name} is missing: {again}.")
        elif not is_valid:
            sentences.append(f"The index {name} is not valid: REINDEX INDEX {_in(schema, name)}.")
        else:
            sentences.append(f"The index {name} is another one: DROP INDEX {_in(schema, name)}; {again}.")
    return sentences


def _in(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}"


def _some(sentences: Iterable[str]) -> list[str]:
    """Return the first of many, and how many more there are."""
    every = list(sentences)
    more = [f"There are {len(every) - NAMED_MAX} more like these."] if len(every) > NAMED_MAX else []
    return every[:NAMED_MAX] + more
