"""The tables of the dead letters: constraints with names of ours, and a role that may exactly what it needs."""

import asyncio
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.dead_letters.conftest import Desk
from tests.dead_letters.letters import arrived
from tests.journeys.messages import recharge
from tests.servers import Servers
from wallet_worker.dead_letters.model.states import ACTS_ON, LEADS_TO, Action
from wallet_worker.store.database import READONLY_ROLE, WORKER_ROLE, Database
from wallet_worker.store.dead_letters.letters import KEEPER_ROLE, OPERATOR_ROLE
from wallet_worker.store.migrate import migrate
from wallet_worker.store.privileges import FUNCTIONS

_ID = "'00000000-0000-7000-8000-000000000001'"
_OTHER = "'00000000-0000-7000-8000-000000000002'"

# A row of each table that is as it should be, as SQL; letter 1 is there.
_USUAL = {
    "dead_letters": {
        "letter_id": "100",
        "state": "'waiting'",
        "reason": "'INTERNAL'",
        "detail": "''",
        "source": "'q'",
        "routing_key": "'k'",
        "properties": "''",
        "body": "''",
        "body_digest": "sha256('')",
        "attempts": "1",
        "replays": "0",
        "edit_of": "NULL",
        "first_seen": "now()",
        "arrived_at": "now()",
        "updated_at": "now()",
    },
    "dead_letter_attempts": {
        "letter_id": "1",
        "arrival_key": "sha256('a')",
        "reason": "'INTERNAL'",
        "detail": "''",
        "attempts": "1",
        "first_seen": "now()",
        "arrived_at": "now()",
    },
    "dead_letter_plans": {
        "token": "'t'",
        "action": "'replay'",
        "made_by": "'a'",
        "made_via": "'v'",
        "made_at": "now()",
        "expires_at": "now()",
        "reason": "'r'",
        "filter": "'{}'",
        "canary": "0",
        "rate": "1",
        "stop_ratio": "1",
        "letter_ids": "'{}'",
        "verdicts": "'{}'",
        "codes": "'{}'",
        "skipped": "0",
        "needs_two": "true",
        "edited_body": "NULL",
        "differences": "'[]'",
        "approved_by": "NULL",
        "operation_id": "NULL",
    },
    "dead_letter_signatures": {
        "token": "'t'",
        "purpose": "'request'",
        "name": "'ann'",
        "key_id": "'0123456789abcdef'",
        "digest": "sha256('')",
        "signed_at": "now()",
        "proof": "sha512('')",
        "reason": "'r'",
        "via": "'v'",
    },
    "dead_letter_operations": {
        "operation_id": _ID,
        "token": "'t'",
        "action": "'replay'",
        "state": "'running'",
        "actor": "'a'",
        "via": "''",
        "reason": "'r'",
        "filter": "'{}'",
        "canary": "0",
        "rate": "1",
        "stop_ratio": "1",
        "total": "1",
        "standing": "''",
        "publish_at": "now()",
        "started_at": "now()",
        "ended_at": "NULL",
    },
    "dead_letter_replays": {
        "replay_id": _ID,
        "letter_id": "1",
        "operation_id": _ID,
        "position": "0",
        "number": "1",
        "state": "'ordered'",
        "verdict": "'will_apply'",
        "verdict_code": "''",
        "body_digest": "''",
        "ordered_at": "now()",
        "ended_at": "NULL",
    },
    "dead_letter_audit": {
        "at": "now()",
        "actor": "'a'",
        "role": "'r'",
        "via": "''",
        "action": "'note'",
        "reason": "''",
        "letter_id": "NULL",
        "operation_id": "NULL",
        "detail": "'{}'",
    },
    "dead_letter_keepers": {"name": "'k'", "standing": "''", "depths": "'{}'", "seen_at": "now()"},
    "dead_letter_names": {"letter_id": "1", "kind": "'user'", "name": "'n'"},
}


def row(table: str, **changes: str) -> str:
    """Return the statement that inserts a usual row, with some columns otherwise."""
    values = _USUAL[table] | changes
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"  # noqa: S608 -- ours


def again(table: str, **changes: str) -> str:
    """Return the statement that inserts once more what is there, its own number too."""
    columns = [*_USUAL[table], {"dead_letter_attempts": "attempt_id", "dead_letter_audit": "audit_id"}[table]]
    answer = ", ".join(changes.get(column, column) for column in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE SELECT {answer} FROM {table}"  # noqa: S608


LETTER, ATTEMPT, PLAN = row("dead_letters"), row("dead_letter_attempts"), row("dead_letter_plans")
OPERATION, REPLAY = row("dead_letter_operations"), row("dead_letter_replays")

SIGNATURE = row("dead_letter_signatures")
PEOPLE = (
    PLAN,
    "INSERT INTO operators (name, role) VALUES ('ann', 'operator'), ('ben', 'approver')",
    """
    INSERT INTO operator_keys (key_id, name, algorithm, public_key)
    VALUES ('0123456789abcdef', 'ann', 'ed25519', sha256('a')), ('fedcba9876543210', 'ben', 'ed25519', sha256('b'))
    """,
)


def signature(**changes: str) -> tuple[str, ...]:
    """Return statements of which the last signs a plan of people who are known."""
    return (*PEOPLE, row("dead_letter_signatures", **changes))


# Each constraint, with statements of which the last breaks it, and the others do not.
BREACHES: dict[str, tuple[str, ...]] = {
    "dead_letters_pkey": (LETTER, LETTER),
    "dead_letters_seal": (row("dead_letters", seal="'waxed'"),),
    "dead_letters_edit_of_fkey": (row("dead_letters", edit_of="4711"),),
    "dead_letters_state_known": (row("dead_letters", state="'lost'"),),
    "dead_letters_body_digest_form": (row("dead_letters", body_digest="'short'"),),
    "dead_letters_replays_count": (row("dead_letters", replays="-1"),),
    "dead_letter_attempts_pkey": (ATTEMPT, again("dead_letter_attempts", arrival_key="sha256(arrival_key)")),
    "dead_letter_attempts_arrival_key": (ATTEMPT, ATTEMPT),
    "dead_letter_attempts_letter_id_fkey": (row("dead_letter_attempts", letter_id="4711"),),
    "dead_letter_attempts_arrival_key_form": (row("dead_letter_attempts", arrival_key="'short'"),),
    "dead_letter_signatures_pkey": (*signature(), row("dead_letter_signatures", name="'ben'")),
    "dead_letter_signatures_token_fkey": signature(token="'u'"),
    "dead_letter_signatures_name_fkey": signature(name="'cora'"),
    "dead_letter_signatures_key_id_fkey": signature(key_id="'0000000000000000'"),
    "dead_letter_signatures_two_people": (
        *signature(),
        row("dead_letter_signatures", purpose="'approval'", key_id="'fedcba9876543210'"),
    ),
    "dead_letter_signatures_two_keys": (
        *signature(),
        row("dead_letter_signatures", purpose="'approval'", name="'ben'"),
    ),
    "dead_letter_signatures_purpose_known": signature(purpose="'whim'"),
    "dead_letter_signatures_digest_length": signature(digest="'short'"),
    "dead_letter_signatures_proof_length": signature(proof="'short'"),
    "dead_letter_plans_pkey": (PLAN, PLAN),
    "dead_letter_plans_action_known": (row("dead_letter_plans", action="'burn'"),),
    "dead_letter_plans_four_eyes": (row("dead_letter_plans", approved_by="'a'"),),
    "dead_letter_plans_approved": (row("dead_letter_plans", operation_id=_ID),),
    "dead_letter_plans_edit_has_body": (row("dead_letter_plans", action="'edit'"),),
    "dead_letter_plans_edit_needs_two": (
        row("dead_letter_plans", action="'edit'", edited_body="''", needs_two="false"),
    ),
    "dead_letter_operations_pkey": (OPERATION, row("dead_letter_operations", token="'u'")),
    "dead_letter_operations_token_key": (OPERATION, row("dead_letter_operations", operation_id=_OTHER)),
    "dead_letter_operations_state_known": (row("dead_letter_operations", state="'lost'"),),
    "dead_letter_operations_ended": (row("dead_letter_operations", ended_at="now()"),),
    "dead_letter_replays_pkey": (OPERATION, LETTER, REPLAY, row("dead_letter_replays", letter_id="100")),
    "dead_letter_replays_letter_id_fkey": (OPERATION, row("dead_letter_replays", letter_id="4711")),
    "dead_letter_replays_operation_id_fkey": (REPLAY,),
    "dead_letter_replays_state_known": (
        OPERATION,
        row("dead_letter_replays", state="'lost'", ended_at="now()"),
    ),
    "dead_letter_replays_ended": (OPERATION, row("dead_letter_replays", state="'resolved'")),
    "dead_letter_replays_copies_count": (OPERATION, row("dead_letter_replays", copies="-1")),
    "dead_letter_replays_outstanding": (OPERATION, REPLAY, row("dead_letter_replays", replay_id=_OTHER)),
    "dead_letter_audit_pkey": (row("dead_letter_audit"), again("dead_letter_audit")),
    "dead_letter_audit_letter_id_fkey": (row("dead_letter_audit", letter_id="4711"),),
    "dead_letter_audit_operation_id_fkey": (row("dead_letter_audit", operation_id=_ID),),
    "dead_letter_keepers_pkey": (row("dead_letter_keepers"), row("dead_letter_keepers")),
    "dead_letter_names_pkey": (row("dead_letter_names"), row("dead_letter_names")),
    "dead_letter_names_letter_id_fkey": (row("dead_letter_names", letter_id="4711"),),
    "dead_letter_names_kind_known": (row("dead_letter_names", kind="'shoe size'"),),
}


async def test_each_constraint_holds(desk: Desk) -> None:
    await desk.take_in(arrived(recharge("user-1")))

    for constraint, statements in BREACHES.items():
        transaction = desk.owner.transaction()
        await transaction.start()
        for statement in statements[:-1]:
            await desk.owner.execute(statement)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
            await desk.owner.execute(statements[-1])
        assert caught.value.constraint_name == constraint
        await transaction.rollback()


async def test_every_constraint_is_tried_here_and_has_a_name_of_ours(owner: asyncpg.Connection) -> None:
    found = await owner.fetch(
        r"""
        SELECT c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
        WHERE t.relname LIKE 'dead\_letter%' AND c.contype <> 'n'
        UNION
        SELECT i.relname FROM pg_index x
        JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_class t ON t.oid = x.indrelid
        WHERE t.relname LIKE 'dead\_letter%' AND x.indisunique
        """
    )

    assert {item["conname"] for item in found} == set(BREACHES)


_WRITTEN = {
    "dead_letters": {"state", "reason", "detail", "worker", "attempts", "replays", "updated_at"},
    "dead_letter_attempts": {"times"},
    "dead_letter_audit": set[str](),
    "dead_letter_keepers": {"standing", "depths", "seen_at"},
    "dead_letter_names": set[str](),
    "dead_letter_operations": {"state", "standing", "publish_at", "ended_at"},
    "dead_letter_plans": set[str](),
    "dead_letter_replays": {
        *("state", "code", "detail", "tries", "copies"),
        *("attempted_at", "published_at", "checked_at", "ended_at"),
    },
}
_READ = {
    "dead_letter_signatures",
    "operators",
    "operator_keys",
    "operator_log",
    "currencies",
    "accounts",
    "alembic_version",
    "commands",
    "entries",
    "orders",
    "parked_results",
    "payment_results",
}


_TABLES = """
SELECT t.relname, array_agg(p.name ORDER BY p.name) AS may
FROM pg_class t,
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (name)
WHERE t.relnamespace = 'wallet'::regnamespace AND t.relkind = 'r' AND has_table_privilege($1, t.oid, p.name)
GROUP BY t.relname
"""
_COLUMNS = """
SELECT t.relname, array_agg(a.attname::text) AS written
FROM pg_class t JOIN pg_attribute a ON a.attrelid = t.oid
WHERE t.relnamespace = 'wallet'::regnamespace AND t.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  AND (has_column_privilege($1, t.oid, a.attnum, 'UPDATE') OR has_column_privilege($1, t.oid, a.attnum, 'INSERT'))
GROUP BY t.relname
"""


async def test_the_operators_role_reads_and_writes_no_row_itself(owner: asyncpg.Connection) -> None:
    tables = {item["relname"]: item["may"] for item in await owner.fetch(_TABLES, OPERATOR_ROLE)}

    assert {table: tables[table] for table in (*_WRITTEN, *_READ)} == {
        table: ["SELECT"] for table in (*_WRITTEN, *_READ)
    }
    assert {tuple(may) for may in tables.values()} == {("SELECT",)}
    assert await owner.fetch(_COLUMNS, OPERATOR_ROLE) == []


async def test_the_keepers_role_orders_nothing_and_writes_no_plan_and_no_log(
    owner: asyncpg.Connection,
) -> None:
    tables = {item["relname"]: item["may"] for item in await owner.fetch(_TABLES, KEEPER_ROLE)}
    updated = """
        SELECT table_name, array_agg(column_name::text) AS written FROM information_schema.column_privileges
        WHERE table_schema = 'wallet' AND grantee = $1 AND privilege_type = 'UPDATE' GROUP BY table_name
    """
    columns = {row["table_name"]: set(row["written"]) for row in await owner.fetch(updated, KEEPER_ROLE)}

    taken_in = {"dead_letters", "dead_letter_attempts", "dead_letter_names"}
    assert {table: tables[table] for table in (*_WRITTEN, *_READ)} == {
        **{table: ["SELECT"] for table in (*_WRITTEN, *_READ)},
        **{table: ["INSERT", "SELECT"] for table in taken_in},
        "dead_letter_keepers": ["DELETE", "INSERT", "SELECT"],
    }
    assert columns == {table: written for table, written in _WRITTEN.items() if written}


async def test_each_function_of_the_schema_looks_at_the_schema_alone_and_is_not_anybodys(
    owner: asyncpg.Connection,
) -> None:
    query = """
        SELECT proname, prosecdef, proconfig, has_function_privilege('wallet_readonly', oid, 'EXECUTE') AS is_open
        FROM pg_proc WHERE pronamespace = 'wallet'::regnamespace
    """
    functions = await owner.fetch(query)

    acting = {row["proname"]: row for row in functions if row["prosecdef"]}
    assert set(acting) >= {name for names in FUNCTIONS.values() for name in names}
    for name, row in acting.items():
        assert row["proconfig"] == ["search_path=wallet, pg_temp"], name
        assert not row["is_open"], name


async def test_what_the_functions_take_for_states_is_what_the_model_says(desk: Desk) -> None:
    """The states that an action acts on and leads to stand in the database too: one of each is tried."""
    source = await desk.owner.fetchval("SELECT pg_get_functiondef('dead_letter_execute'::regproc)")

    for action, after in LEADS_TO.items():
        assert f"'{action.value}'" in source
        assert f"'{after.value}'" in source
    for action, before in ACTS_ON.items():
        if action is Action.RESTORE:
            assert "ARRAY[" + ", ".join(f"'{state.value}'" for state in before) + "]" in source


async def test_a_login_that_was_the_worker_before_may_be_a_keeper_after_migrating(
    servers: Servers,
) -> None:
    async with servers.database() as url:
        parts = urlsplit(url)
        name = f"worker_{parts.path.rpartition('_')[2]}"
        owner = await asyncpg.connect(url)
        await migrate(url)  # the roles are there now, as on a cluster with a wallet of the version before
        await owner.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD 'secret' IN ROLE {WORKER_ROLE}, {READONLY_ROLE};"
            "DROP SCHEMA wallet CASCADE"
        )
        try:
            await migrate(url)
            login = urlunsplit(parts._replace(netloc=f"{name}:secret@{parts.netloc.rpartition('@')[2]}"))
            database = Database(login, role=KEEPER_ROLE, application="wallet tests")
            await asyncio.wait_for(database.open(), 30)
            await database.close()
        finally:
            await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
            await owner.close()
