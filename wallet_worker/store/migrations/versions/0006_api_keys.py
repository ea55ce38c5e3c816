"""Keys of the HTTP API, and the role under which the API reads: what it serves, and nothing else."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Granted to whoever migrates, and to each login that may be the worker: a small deployment runs everything under one
# login and only sets the role.
ROLES = (
    """
    DO $$
    BEGIN
        CREATE ROLE wallet_api NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;  -- another database of this cluster, or another migration at this moment, made it
    END
    $$
    """,
    """
    DO $$
    DECLARE
        login text;
        asked text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    BEGIN
        FOR login IN
            SELECT current_user
            UNION
            SELECT r.rolname
            FROM pg_auth_members m
            JOIN pg_roles r ON r.oid = m.member
            WHERE m.roleid = 'wallet_worker'::regrole
        LOOP
            IF NOT pg_has_role(login, 'wallet_api', asked) THEN
                EXECUTE format('GRANT wallet_api TO %I', login);
            END IF;
        END LOOP;
    END
    $$
    """,
)

TABLES = (
    # `hash` is SHA-256 of the whole key. `users` and `serial_prefix` are prefixes; absent: any.
    """
    CREATE TABLE api_keys (
        key_id        text        NOT NULL,
        client        text        NOT NULL,
        hash          bytea       NOT NULL,
        scopes        text[]      NOT NULL,
        users         text,
        serial_prefix text,
        rate          integer,
        in_flight     integer,
        created_at    timestamptz NOT NULL,
        created_by    text        NOT NULL,
        expires_at    timestamptz,
        revoked_at    timestamptz,
        revoked_by    text,
        revoked_why   text,
        last_used_at  timestamptz,
        CONSTRAINT api_keys_pkey PRIMARY KEY (key_id),
        CONSTRAINT api_keys_key_id_form CHECK (key_id ~ '^[a-z2-7]{12}$'),
        CONSTRAINT api_keys_client_form CHECK (client ~ '^[a-z][a-z0-9-]{0,31}$'),
        CONSTRAINT api_keys_hash_is_sha256 CHECK (octet_length(hash) = 32),
        CONSTRAINT api_keys_has_scopes CHECK (cardinality(scopes) > 0),
        CONSTRAINT api_keys_limits_positive CHECK (rate > 0 AND in_flight > 0),
        CONSTRAINT api_keys_revoked_by_somebody CHECK (
            (revoked_at IS NULL) = (revoked_by IS NULL) AND (revoked_at IS NULL) = (revoked_why IS NULL)
        )
    )
    """,
    "CREATE INDEX api_keys_client ON api_keys (client, created_at)",
)

GRANTS = (
    "GRANT SELECT ON alembic_version, accounts, commands, orders, entries, api_keys TO wallet_api",
    "GRANT UPDATE (last_used_at) ON api_keys TO wallet_api",
)


def upgrade() -> None:
    """Leave a table without keys: the API is closed until the first is made."""
    for statement in (*ROLES, *TABLES, *GRANTS):
        op.execute(statement)
