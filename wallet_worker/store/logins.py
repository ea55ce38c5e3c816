"""Whose the wallet's tables are, and which roles each login has: the owner, and one login for each kind of process."""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from wallet_worker.store.privileges import ROLES_OF, all_roles
from wallet_worker.store.requirements import UnmetError
from wallet_worker.store.session import quoted

_LOGIN = "SELECT rolsuper FROM pg_roles WHERE rolname = :name"

_RELATIONS = """
SELECT c.relname, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END
FROM pg_class c
JOIN pg_roles o ON o.oid = c.relowner
WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p', 'S') AND o.rolname <> :owner
  -- A sequence of a column goes with its table.
  AND NOT EXISTS (
      SELECT
      FROM pg_depend d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  )
ORDER BY c.relname
"""

_FUNCTIONS = """
SELECT p.oid::regprocedure::text
FROM pg_proc p
JOIN pg_roles o ON o.oid = p.proowner
WHERE p.pronamespace = to_regnamespace(:schema) AND o.rolname <> :owner
ORDER BY 1
"""


def give_to_owner(connection: Connection, schema: str, owner: str) -> None:
    """Give a login the schema with everything in it, and the administration of the wallet's roles.

    What it may do nobody else has to: it can migrate from then on, except where a new role has to be made, for which
    it needs CREATEROLE. Raises UnmetError if there is no such login, or it is a superuser.
    """
    _check(connection, owner)
    if connection.execute(text(_LOGIN), {"name": owner}).scalar():
        msg = f"The login {owner} is a superuser, whom no trigger stops: name another, or ALTER ROLE … NOSUPERUSER."
        raise UnmetError([msg])
    name, parameters = quoted(owner), {"schema": schema, "owner": owner}
    for role in all_roles():
        connection.execute(text(f"GRANT {role} TO {name} WITH ADMIN OPTION"))
    connection.execute(text(f"ALTER SCHEMA {quoted(schema)} OWNER TO {name}"))
    for relation, kind in connection.execute(text(_RELATIONS), parameters).all():
        connection.execute(text(f"ALTER {kind} {quoted(relation)} OWNER TO {name}"))
    for (function,) in connection.execute(text(_FUNCTIONS), parameters).all():
        connection.execute(text(f"ALTER FUNCTION {function} OWNER TO {name}"))
    database = connection.execute(text("SELECT current_database()")).scalar()
    path = f'{quoted(schema)}, "$user", public'
    connection.execute(
        text(f"ALTER ROLE {name} IN DATABASE {quoted(str(database))} SET search_path = {path}")
    )


_MEMBER = """
SELECT EXISTS (
    SELECT
    FROM pg_auth_members
    WHERE roleid = CAST(:role AS regrole) AND member = (SELECT oid FROM pg_roles WHERE rolname = :login)
)
"""


def assign_roles(connection: Connection, logins: Mapping[str, str]) -> None:
    """Make each login a member of the roles of its kind of process, a key of `ROLES_OF`, and of no other of ours.

    Raises UnmetError for a login that is not there, or that keeps a role which somebody else has granted.
    """
    kept = []
    for login, process in logins.items():
        _check(connection, login)
        for role in all_roles():
            if role in ROLES_OF[process]:
                connection.execute(text(f"GRANT {role} TO {quoted(login)}"))
            elif _is_member(connection, login, role):
                connection.execute(text(f"REVOKE {role} FROM {quoted(login)}"))
                if _is_member(connection, login, role):
                    kept.append(
                        f"The login {login} keeps the role {role}, which somebody else has granted and it does not "
                        f"need: as a superuser, REVOKE {role} FROM {quoted(login)}."
                    )
    if kept:
        raise UnmetError(kept)


def _is_member(connection: Connection, login: str, role: str) -> bool:
    return bool(connection.execute(text(_MEMBER), {"role": role, "login": login}).scalar())


def _check(connection: Connection, login: str) -> None:
    if connection.execute(text(_LOGIN), {"name": login}).first() is None:
        msg = f"There is no login {login}: as a superuser, CREATE ROLE {quoted(login)} LOGIN PASSWORD …."
        raise UnmetError([msg])
