"""What somebody has dropped, disabled or weakened in the schema is said, and the statement that is said mends it."""

import asyncio
import re
from typing import NamedTuple

import asyncpg
import pytest

from tests.cli.terminal import wallet
from tests.workers import until
from wallet_worker.cli.exits import Exit
from wallet_worker.store.requirements import Grade, check, ready_to_start
from wallet_worker.store.schema_parts import migrated
from wallet_worker.store.schema_version import NOTE, newest_revision

COLUMNS = """
SELECT c.relname, a.attname, a.atttypid::regtype::text, a.attnotnull
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'entries'::regclass)
  AND c.relkind = 'r' AND c.relname <> 'alembic_version' AND a.attnum > 0 AND NOT a.attisdropped
"""
CONSTRAINTS = """
SELECT c.relname, o.conname FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'entries'::regclass)
  AND o.contype <> 'n' AND c.relname <> 'alembic_version'
"""
INDEXES = """
SELECT c.relname, t.relname, i.indisunique FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'entries'::regclass)
  AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))
"""
TRIGGERS = """
SELECT c.relname, t.tgname, p.proname, t.tgtype, p.prosrc FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'entries'::regclass)
"""


async def test_what_is_read_from_the_migrations_is_what_they_make(owner: asyncpg.Connection) -> None:
    """A migration that says in another way what it makes is to be written so that `schema_parts` reads it."""
    read = migrated()
    kinds = {column.kind for columns in read.columns.values() for column in columns.values()}
    named = {kind: await owner.fetchval("SELECT to_regtype($1)::text", kind) for kind in kinds}

    assert {
        (table, name, named[column.kind], column.is_needed)
        for table, columns in read.columns.items()
        for name, column in columns.items()
    } == {tuple(row) for row in await owner.fetch(COLUMNS)}
    assert set(read.constraints) == {tuple(row) for row in await owner.fetch(CONSTRAINTS)}
    assert {(name, index.table, index.is_unique) for name, index in read.indexes.items()} == {
        tuple(row) for row in await owner.fetch(INDEXES)
    }
    assert {
        (table, name, trigger.function, trigger.fires_at, read.functions[trigger.function])
        for (table, name), trigger in read.triggers.items()
    } == {tuple(row) for row in await owner.fetch(TRIGGERS)}


class Harm(NamedTuple):
    """What somebody does to the schema, which requirement it breaks, and what the sentence says."""

    statement: str
    requirement: str
    says: str
    is_mended: bool = True
    """Whether the sentence has the statement that mends it."""


HARMS = (
    Harm(
        "DROP TABLE suspects",
        "every table",
        "The table suspects is missing; `wallet migrate` does not",
        is_mended=False,
    ),
    Harm("DROP TABLE api_keys", "every table", "The table api_keys is missing", is_mended=False),
    Harm("ALTER TABLE suspects SET UNLOGGED", "every table", "a crash of the server empties it"),
    Harm(
        "ALTER TABLE outbox RENAME TO old; CREATE VIEW outbox AS SELECT * FROM old",
        "every table",
        "not a table",
        is_mended=False,
    ),
    Harm(
        "ALTER TABLE commands DROP COLUMN sent_by",
        "every column",
        "sent_by of commands is missing",
        is_mended=False,
    ),
    Harm(
        "ALTER TABLE orders RENAME COLUMN late TO delayed",
        "every column",
        "late of orders is missing",
        is_mended=False,
    ),
    Harm(
        "ALTER TABLE orders ALTER COLUMN asked TYPE bigint",
        "every column",
        "is not of type integer",
        is_mended=False,
    ),
    Harm(
        "ALTER TABLE entries ALTER COLUMN amount DROP NOT NULL",
        "every column",
        "amount of entries may be empty",
    ),
    Harm(
        "ALTER TABLE accounts DROP CONSTRAINT accounts_no_overdraft",
        "every constraint",
        "no_overdraft of accounts",
    ),
    Harm(
        "ALTER TABLE accounts DROP CONSTRAINT accounts_status_known, "
        "ADD CONSTRAINT accounts_status_known CHECK (true) NOT VALID",
        "every constraint",
        "has not looked at every row",
    ),
    Harm(
        "ALTER TABLE entries DROP CONSTRAINT entries_pkey",
        "every constraint",
        "entries_pkey of entries is missing",
    ),
    Harm(
        "ALTER TABLE orders DISABLE TRIGGER ALL",
        "every constraint",
        "The references of orders are not checked",
    ),
    Harm(
        "DROP TRIGGER entries_append_only ON entries",
        "every trigger",
        "entries_append_only of entries is missing",
    ),
    Harm(
        "DROP TRIGGER entries_append_only ON entries; CREATE TRIGGER entries_append_only BEFORE DELETE ON entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION entries_are_final()",
        "every trigger",
        "fires at other times",
    ),
    Harm(
        "CREATE OR REPLACE FUNCTION entries_are_final() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN NULL; END $$",
        "every trigger",
        "The function entries_are_final of the trigger entries_append_only was changed",
        is_mended=False,
    ),
    Harm(
        "CREATE RULE quiet AS ON INSERT TO outbox DO INSTEAD NOTHING",
        "every trigger",
        "A rule stands in the place",
    ),
    Harm("DROP INDEX accounts_open_key", "every unique index", "The index accounts_open_key is missing"),
    Harm(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'accounts_open_key'::regclass",
        "every unique index",
        "The index accounts_open_key is not valid",
    ),
    Harm(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'commands_pkey'::regclass",
        "every unique index",
        "The index commands_pkey is not valid",
    ),
    Harm(
        "DROP INDEX accounts_open_key; CREATE INDEX accounts_open_key ON accounts (user_id)",
        "every unique index",
        "The index accounts_open_key is another one",
    ),
    Harm("DROP INDEX orders_due", "every index", "The index orders_due is missing"),
)
NEWER = f"UPDATE alembic_version SET version_num = '9999'; COMMENT ON TABLE alembic_version IS '{NOTE.format(9999)}'"  # noqa: S608 -- static text
STATEMENT = re.compile(r": (SET|ALTER|CREATE|DROP|REINDEX)(.*)\.$")


@pytest.mark.parametrize("harm", HARMS, ids=[harm.statement[:60] for harm in HARMS])
async def test_what_was_changed_is_said_and_the_advice_mends_it(
    database_url: str, owner: asyncpg.Connection, harm: Harm
) -> None:
    await owner.execute(harm.statement)

    found = {
        item.requirement: item.sentences
        for item in await check(database_url)
        if item.sentences and item.requirement.name.startswith("every ")
    }

    # With a table or a column goes what belongs to it.
    (requirement, (sentence, *_)), *more = found.items()
    assert requirement.name == harm.requirement
    assert harm.is_mended is False or more == []
    assert harm.says in sentence
    why_not = await ready_to_start(database_url, "worker")
    assert (sentence in why_not) is (requirement.grade is Grade.REQUIRED)
    advised = STATEMENT.search(sentence)
    assert (advised is not None) is harm.is_mended
    if advised is not None:
        await owner.execute(advised[1] + advised[2])
        assert [
            item for item in await check(database_url) if item.requirement == requirement and item.sentences
        ] == []


async def test_of_many_differences_some_are_named_and_the_others_counted(
    database_url: str, owner: asyncpg.Connection
) -> None:
    for name, index in migrated().indexes.items():
        if not index.is_unique:
            await owner.execute(f"DROP INDEX {name}")

    (sentences,) = [
        item.sentences for item in await check(database_url) if item.requirement.name == "every index"
    ]

    assert len(sentences) == 6
    assert re.fullmatch(r"There are [0-9]+ more like these\.", sentences[-1])


# Revisions


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (NEWER, "is older and knows"),
        ("UPDATE alembic_version SET version_num = 'd3adbeef'", "which no release of the wallet has made"),
        ("INSERT INTO alembic_version VALUES ('0001')", "which no release of the wallet has made"),
        ("DELETE FROM alembic_version", "alembic_version says no revision"),
        ("DROP TABLE alembic_version", "alembic_version says no revision"),
    ],
)
async def test_a_revision_that_this_program_cannot_migrate_is_a_sentence_and_nothing_is_done(
    database_url: str, owner: asyncpg.Connection, change: str, says: str
) -> None:
    await owner.execute(change)

    migrated_ = await wallet("migrate", WALLET_DATABASE_URL=database_url)
    looked = await wallet("doctor", "--json", WALLET_DATABASE_URL=database_url)

    assert (migrated_.status, looked.status) == (Exit.FOUND, Exit.FOUND)
    assert says in migrated_.err
    assert "Nothing was done" in migrated_.err
    if "9999" in change:
        assert "upgrade the program" in migrated_.err
        assert "upgrade the program" in looked.out
        assert "wallet migrate" not in looked.out


# Locks


async def test_a_lock_on_the_revision_is_busy_for_the_doctor_and_waited_for_by_migrate(
    database_url: str, owner: asyncpg.Connection
) -> None:
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")

    looked = await wallet("doctor", WALLET_DATABASE_URL=database_url)
    assert looked.status == Exit.UNAVAILABLE
    assert "the database is busy: a lock was not given in time" in looked.err
    migrating = asyncio.create_task(wallet("migrate", WALLET_DATABASE_URL=database_url))
    await until(
        owner, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'alembic_version'::regclass", 1
    )
    await transaction.rollback()

    said = await migrating
    assert (said.status, said.out) == (
        Exit.DONE,
        f"the database was at revision {newest_revision()} already\n",
    )
