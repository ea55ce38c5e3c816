"""A line of the ledger stays as it was written: by privilege for the worker, by trigger for its owner too."""

import asyncpg
import pytest

from wallet_worker.store.api_keys import API_ROLE
from wallet_worker.store.database import READONLY_ROLE, WORKER_ROLE

pytestmark = pytest.mark.asyncio(loop_scope="session")

ATTEMPTS = (
    "UPDATE entries SET amount = amount",
    "UPDATE entries SET amount = 1 WHERE false",
    "DELETE FROM entries",
    "DELETE FROM entries WHERE false",
    "TRUNCATE entries",
    "TRUNCATE orders CASCADE",
    "TRUNCATE accounts, orders, entries, commands, payment_instructions, gateway_refs, reversals",
)


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_the_owner_cannot_change_the_ledger(rolled_back: asyncpg.Connection, attempt: str) -> None:
    with pytest.raises(asyncpg.RestrictViolationError, match="the ledger is append-only"):
        await rolled_back.execute(attempt)


@pytest.mark.parametrize("role", [WORKER_ROLE, READONLY_ROLE, API_ROLE])
@pytest.mark.parametrize(
    "attempt", [*ATTEMPTS, "ALTER TABLE entries DISABLE TRIGGER ALL", "DROP TABLE entries"]
)
async def test_the_roles_have_no_privilege_to_change_the_ledger(
    rolled_back: asyncpg.Connection, role: str, attempt: str
) -> None:
    await rolled_back.execute(f"SET LOCAL ROLE {role}")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rolled_back.execute(attempt)


@pytest.mark.parametrize(
    "attempt",
    [
        "UPDATE commands SET code = 'OK'",
        "DELETE FROM commands",
        "DELETE FROM orders",
        "UPDATE orders SET amount = 1",
        "UPDATE orders SET account_id = 1",
        "DELETE FROM accounts",
        "UPDATE accounts SET user_id = 'u-2'",
        "UPDATE accounts SET account_no = '1'",
        "UPDATE payment_results SET status = 'failed'",
        "UPDATE reversals SET kind = 'recall'",
        "UPDATE reversal_messages SET status = 'dropped'",
        "DELETE FROM reversals",
        "DELETE FROM reversal_messages",
        "DELETE FROM payment_results",
        "UPDATE outbox SET body = ''",
        "UPDATE parked_results SET body = ''",
        "INSERT INTO alembic_version VALUES ('9')",
        "CREATE TABLE mine ()",
    ],
)
async def test_the_worker_cannot_change_what_is_for_ever(
    rolled_back: asyncpg.Connection, attempt: str
) -> None:
    await rolled_back.execute(f"SET LOCAL ROLE {WORKER_ROLE}")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rolled_back.execute(attempt)


# Everything that the roles may do, and nothing besides.

_READ = {
    "accounts": {"SELECT"},
    "alembic_version": {"SELECT"},
    "commands": {"SELECT"},
    "currencies": {"SELECT"},
    "entries": {"SELECT"},
    "gateway_refs": {"SELECT"},
    "orders": {"SELECT"},
    "outbox": {"SELECT"},
    "parked_results": {"SELECT"},
    "payment_instructions": {"SELECT"},
    "payment_results": {"SELECT"},
    "reversal_messages": {"SELECT"},
    "reversals": {"SELECT"},
    "suspects": {"SELECT"},
}
_WORK = {
    "accounts": {"INSERT"},
    "alembic_version": set[str](),
    "commands": {"INSERT"},
    "currencies": {"INSERT"},
    "entries": {"INSERT"},
    "gateway_refs": {"INSERT"},
    "orders": {"INSERT"},
    "outbox": {"INSERT", "DELETE"},
    "parked_results": {"INSERT", "DELETE"},
    "payment_instructions": {"INSERT"},
    "payment_results": {"INSERT"},
    "reversal_messages": {"INSERT"},
    "reversals": {"INSERT"},
    "suspects": {"INSERT", "DELETE"},
}
PRIVILEGES = {
    API_ROLE: {
        table: {"SELECT"}
        for table in (
            *("accounts", "alembic_version", "api_keys", "commands", "entries", "orders"),
            "payment_instructions",
            *("reversal_messages", "reversals"),
        )
    }
    | {
        "webhook_deliveries": {"SELECT", "INSERT"},
        "webhook_endpoints": {"SELECT", "INSERT"},
        "webhook_secrets": {"INSERT"},
    },
    # Whoever verifies an approval reads whose keys count; keys are public, and only the database's owner writes them.
    READONLY_ROLE: _READ
    | {
        table: {"SELECT"}
        for table in ("dead_letter_signatures", "operator_keys", "operator_log", "operators")
    },
    WORKER_ROLE: {table: may | _WORK[table] for table, may in _READ.items()},
}
CHANGEABLE = {
    API_ROLE: {
        "api_keys.last_used_at",
        *(f"webhook_deliveries.{column}" for column in ("state", "attempts", "next_at")),
        *(
            f"webhook_endpoints.{column}"
            for column in ("url", "kinds", "users", "state", "why", "updated_at")
        ),
        "webhook_endpoints.failing_since",
        "webhook_secrets.until",
    },
    READONLY_ROLE: set[str](),
    WORKER_ROLE: {
        *(
            f"accounts.{column}"
            for column in ("status", "balance", "reserved", "debt", "line_no", "updated_at")
        ),
        *(f"orders.{column}" for column in ("status", "code", "late", "transacted_at", "updated_at")),
        *(f"orders.{column}" for column in ("remaining", "due_at", "asked", "expires_at")),
        *(f"orders.{column}" for column in ("gateway_ref", "failure_code", "failure_reason")),
        *(f"orders.{column}" for column in ("received", "cancelling")),
        *(f"payment_instructions.{column}" for column in ("revision", "fingerprint", "body", "received_at")),
        *(f"reversals.{column}" for column in ("status", "sequence", "amount", "moved", "fingerprint")),
        *(f"reversals.{column}" for column in ("reason_code", "reason", "respond_by", "updated_at")),
        *(f"outbox.{column}" for column in ("attempts", "publish_after")),
        *(f"parked_results.{column}" for column in ("attempts", "due_at")),
        *(f"suspects.{column}" for column in ("attempts", "updated_at")),
    },
}


@pytest.mark.parametrize("role", [WORKER_ROLE, READONLY_ROLE, API_ROLE])
async def test_the_roles_have_exactly_these_privileges(rolled_back: asyncpg.Connection, role: str) -> None:
    on_tables = await rolled_back.fetch(
        """
        SELECT t.relname, p.name
        FROM pg_class t,
             unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (name)
        WHERE t.relnamespace = 'wallet'::regnamespace AND t.relkind = 'r'
          AND has_table_privilege($1, t.oid, p.name)
        """,
        role,
    )
    on_columns = await rolled_back.fetch(
        """
        SELECT t.relname, a.attname
        FROM pg_class t
        JOIN pg_attribute a ON a.attrelid = t.oid
        WHERE t.relnamespace = 'wallet'::regnamespace AND t.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
          AND has_column_privilege($1, t.oid, a.attnum, 'UPDATE')
        """,
        role,
    )

    found: dict[str, set[str]] = {}
    for row in on_tables:
        found.setdefault(row["relname"], set()).add(row["name"])
    assert found == PRIVILEGES[role]
    assert {f"{row['relname']}.{row['attname']}" for row in on_columns} == CHANGEABLE[role]


@pytest.mark.parametrize("role", [WORKER_ROLE, READONLY_ROLE, API_ROLE])
async def test_the_roles_are_no_logins_and_have_no_attributes(
    rolled_back: asyncpg.Connection, role: str
) -> None:
    found = await rolled_back.fetchrow(
        """
        SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
               EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid) AS is_member_of_others
        FROM pg_roles r
        WHERE rolname = $1
        """,
        role,
    )

    assert found is not None
    assert set(found.values()) == {False}
