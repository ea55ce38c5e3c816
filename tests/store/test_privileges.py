"""What the roles may do is what the migrations' text grants, neither more nor less."""

import asyncpg

from wallet_worker.store.privileges import Grant, all_roles, granted, statements

_OF_TABLES = """
SELECT r.rolname, a.privilege_type, c.relname, NULL, c.relkind = 'S'
FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relnamespace = 'wallet'::regnamespace AND r.rolname = ANY ($1)
UNION ALL
SELECT r.rolname, a.privilege_type, c.relname, t.attname, false
FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relnamespace = 'wallet'::regnamespace AND r.rolname = ANY ($1)
"""


async def test_what_is_read_from_the_migrations_is_what_the_database_has(owner: asyncpg.Connection) -> None:
    there = {Grant(*row) for row in await owner.fetch(_OF_TABLES, list(all_roles()))}

    assert granted() == there


async def test_granting_again_changes_nothing(owner: asyncpg.Connection) -> None:
    before = sorted(map(str, await owner.fetch(_OF_TABLES, list(all_roles()))))

    for statement in statements():
        await owner.execute(statement)

    assert sorted(map(str, await owner.fetch(_OF_TABLES, list(all_roles())))) == before
